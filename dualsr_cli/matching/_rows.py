"""The exact search on a processor for maps whose patches take part, all or most of them.

The product of two patches is the sum of products of their places, and each of these has a part in
many pairs of patches: here it is made once, and the rest is additions. For patches of 3 x 3 that is
a ninth of the arithmetic that unfolded patches need.
"""

from __future__ import annotations

import torch

from dualsr_cli.matching._parallel import workers
from dualsr_cli.matching._patches import padded

_PRODUCTS = 200_000  # that are made at once: with all sums of them they stay in the caches
_LEAST = 32  # columns of queries whose products are made at once
_ROWS = 64  # of queries that one worker goes through


def search_rows(
    query: torch.Tensor,
    key: torch.Tensor,
    patch: int,
    padding: str,
    band: tuple[int, int],
    key_mask: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The best key of every place of some rows of a map, and its cosine similarity.

    query (C, Hq, Wq), key (C, Hk, Wk), float32 and finite; band: the first of n rows, and the one
    after the last; key_mask: (Hk, Wk), True for at least one key. Returns (n, Wq) int64,
    row * Wk + column, and (n, Wq) float32.
    """
    height, width = band[1] - band[0], query.shape[2]
    key_height, key_width = key.shape[1:]
    queries, keys = padded(query, patch, padding, band), padded(key, patch, padding)
    shortened = _one_by_length(keys, patch).unbind()
    columns_of_keys = [row.t() for row in keys]  # views are made once: making them takes its time
    barred = None if key_mask is None else torch.where(key_mask, 0.0, -torch.inf)
    best = torch.full((height, width), -torch.inf)
    index = torch.zeros((height, width), dtype=torch.int64)
    reach = patch - 1

    def look(part: tuple[slice, slice]) -> None:
        rows, columns = part
        places = queries[rows.start : rows.stop + reach, columns.start : columns.stop + reach]
        found, where = best[part].unbind(), index[part].unbind()
        count, across = len(found), len(found[0])
        products = torch.empty(across + reach, key_width + reach)
        moved = [products[n : n + across, n : n + key_width] for n in range(patch)]
        # Of places side by side, for as many rows as a patch has; then of patches.
        sums = list(torch.empty(patch, across, key_width))
        patches = torch.empty(across, key_width)
        # Each row of queries with the row of keys that lies so much further down: those that
        # follow one another share sums. From above, so that of equal keys the first is taken.
        for down in range(1 - count, key_height):
            first = max(0, -down)
            for row in range(first, min(count, key_height - down) + reach):
                torch.mm(places[row], columns_of_keys[row + down], out=products)
                _add_up(moved, out=sums[row % patch])
                if row < first + reach:
                    continue
                row -= reach
                _add_up([sums[(row + n) % patch] for n in range(patch)], out=patches)
                patches.mul_(shortened[row + down])
                if barred is not None:
                    patches.add_(barred[row + down])
                better = (patches.amax(dim=1) > found[row]).nonzero().squeeze(1)
                if len(better):
                    values, at = patches[better].max(dim=1)
                    found[row][better] = values
                    where[row][better] = (row + down) * key_width + at

    most = max(_LEAST, _PRODUCTS // key_width)
    step = -(-width // -(-width // most))  # as wide as one another
    parts = [
        (slice(top, min(height, top + _ROWS)), slice(left, min(width, left + step)))
        for top in range(0, height, _ROWS)
        for left in range(0, width, step)
    ]
    with workers(query.device) as each:
        for _ in each(look, parts):
            pass
    return index, best.mul_(_one_by_length(queries, patch)).clamp_(-1, 1)


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
