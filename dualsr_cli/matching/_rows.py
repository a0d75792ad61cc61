"""The exact search on a processor for maps whose patches take part, all or most of them.

The product of two patches is the sum of products of their places, and each of these has a part in
many pairs of patches: here it is made once, and the rest is additions. For patches of 3 x 3 that is
a ninth of the arithmetic that unfolded patches need.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from dualsr_cli.matching._parallel import workers
from dualsr_cli.matching._patches import padded

_PRODUCTS = 200_000  # that are made at once: with all sums of them they stay in the caches
_LEAST = 32  # columns of queries whose products are made at once
_ROWS = 64  # of queries that a worker goes through at most
_QUERY_BYTES, _KEY_BYTES = 2 << 20, 4 << 20  # of features that a worker, and that all of them hold

Part = tuple[slice, slice]  # rows and columns


def search_rows(
    query: torch.Tensor,
    key: torch.Tensor,
    patch: int,
    padding: str,
    band: tuple[int, int],
    key_mask: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The best key of every place of some rows of a map, and its cosine similarity.

    query (C, Hq, Wq), key (C, Hk, Wk), what is not finite counts as 0; band: the first of n rows,
    and the one after the last; key_mask: (Hk, Wk), True for at least one key. Returns (n, Wq)
    int64, row * Wk + column, and (n, Wq) float32.
    """
    channels, key_height, key_width = key.shape
    height, width = band[1] - band[0], query.shape[2]
    best = torch.full((height, width), -torch.inf)
    index = torch.zeros((height, width), dtype=torch.int64)
    most = max(_LEAST, _PRODUCTS // key_width)
    across = -(-width // -(-width // most))  # parts as wide as one another
    down = min(_ROWS, max(patch, _QUERY_BYTES // (4 * channels * across)))
    parts = [
        (slice(top, min(height, top + down)), slice(left, min(width, left + across)))
        for top in range(0, height, down)
        for left in range(0, width, across)
    ]

    def around(features: torch.Tensor, *part: tuple[int, int]) -> torch.Tensor:
        return padded(features, patch, padding, *part).nan_to_num_(0.0, 0.0, 0.0)

    def places_of(part: Part) -> torch.Tensor:
        rows, columns = part
        lines = band[0] + rows.start, band[0] + rows.stop
        return around(query, lines, (columns.start, columns.stop))

    def look(part: Part, keys: _Keys) -> None:
        found, where = best[part].unbind(), index[part].unbind()
        for row, other, patches in _compared(places_of(part), keys.places, patch):
            patches.mul_(keys.shortened[other])
            if keys.barred is not None:
                patches.add_(keys.barred[other])
            better = (patches.amax(dim=1) > found[row]).nonzero().squeeze(1)
            if len(better):
                values, at = patches[better].max(dim=1)
                found[row][better] = values
                where[row][better] = (keys.first + other) * key_width + at

    def shorten(part: Part) -> None:
        best[part].mul_(_one_by_length(places_of(part), patch))

    rows = max(patch, _KEY_BYTES // (4 * channels * key_width))
    with workers(query.device) as each:
        for first in range(0, key_height, rows):
            last = min(key_height, first + rows)
            mask = None if key_mask is None else key_mask[first:last]
            keys = _Keys.of(around(key, (first, last)), patch, first, mask)
            for _ in each(partial(look, keys=keys), parts):
                pass
        for _ in each(shorten, parts):
            pass
    return index, best.clamp_(-1, 1)


@dataclass(frozen=True, eq=False)
class _Keys:
    """Some rows of a key map, from `first` on. places: with those around, p - 1 more, each
    (C, w + p - 1); shortened: of each patch one by its length, each (w,); barred: minus infinity
    where a patch takes no part and 0 elsewhere.
    """

    first: int
    places: tuple[torch.Tensor, ...]
    shortened: tuple[torch.Tensor, ...]
    barred: tuple[torch.Tensor, ...] | None

    @classmethod
    def of(cls, places: torch.Tensor, patch: int, first: int, mask: torch.Tensor | None) -> _Keys:
        barred = None if mask is None else torch.where(mask, 0.0, -torch.inf).unbind()
        shortened = _one_by_length(places, patch).unbind()
        return cls(first, places.transpose(1, 2).unbind(), shortened, barred)


def _compared(
    queries: torch.Tensor, keys: Sequence[torch.Tensor], patch: int
) -> Iterator[tuple[int, int, torch.Tensor]]:
    """The products of all patches of each row of queries (n + p - 1, w + p - 1, C) and each row of
    keys, p + m - 1 of (C, w' + p - 1): both rows' numbers and (w, w'), which may be overwritten.

    For a row of queries rows of keys come from above, so that of equal keys the first is taken.
    """
    reach = patch - 1
    count, across, key_width = (
        len(queries) - reach, queries.shape[1] - reach, keys[0].shape[1] - reach
    )  # fmt: skip
    products = torch.empty(across + reach, key_width + reach)
    moved = [products[n : n + across, n : n + key_width] for n in range(patch)]
    # Of places side by side, for as many rows as a patch has; then of patches.
    sums = list(torch.empty(patch, across, key_width))
    patches = torch.empty(across, key_width)
    # Each row of queries with the row of keys that lies so much further down: those that follow
    # one another share sums.
    for down in range(1 - count, len(keys) - reach):
        first = max(0, -down)
        for row in range(first, min(count, len(keys) - reach - down) + reach):
            torch.mm(queries[row], keys[row + down], out=products)
            _add_up(moved, out=sums[row % patch])
            if row >= first + reach:
                top = row - reach
                _add_up([sums[(top + n) % patch] for n in range(patch)], out=patches)
                yield top, top + down, patches


def _add_up(terms: list[torch.Tensor], out: torch.Tensor) -> None:
    """The sum, always from the first on: equal patches have equal sums."""
    if len(terms) == 1:
        out.copy_(terms[0])
        return
    torch.add(terms[0], terms[1], out=out)
    for term in terms[2:]:
        out.add_(term)


def _one_by_length(places: torch.Tensor, patch: int) -> torch.Tensor:
    """Of each patch of a padded map (H + p - 1, W + p - 1, C), (H, W); 0 for a length of 0."""
    squares = torch.linalg.vecdot(places, places)
    squares = squares.unfold(0, patch, 1).sum(dim=-1).unfold(1, patch, 1).sum(dim=-1)
    return torch.where(squares > 0, squares.rsqrt(), 0)
