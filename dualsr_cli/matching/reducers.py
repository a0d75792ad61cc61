"""What the papers do to search less: prune keys, mask what is smooth, look in windows only.

Masks go to `search` as query_mask and key_mask: that is SDDuSR's sparse matching (3.2, inference).
Windows are boxes to cut keys with (DCSR). Block search as MASA-SR has it was tried and left out:
beside the tele's footprint it found one exact match in six, where `search_clustered` finds most.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from dualsr_cli.matching._patches import normalised
from dualsr_cli.matching.search import check

_HELD = 1 << 22  # elements of a block of similarities or patches: 16 MiB


def prune_keys(
    key: torch.Tensor,
    *,
    patch: int = 3,
    padding: str = "reflect",
    interval: int = 16,
    threshold: float = 0.7,
) -> torch.Tensor:
    """DM3Net's Key Pruning (3.3): the keys (B, Hk, Wk) bool that remain, to be given as key_mask.

    key: (B, C, Hk, Wk). One key in `interval` along both axes is a sample, from the middle of the
    first interval on; a key whose cosine similarity to any sample exceeds `threshold` goes.

    Taken by the letter, a sample would go as well, being like itself, and with it all that it
    stands for: a wall would keep no key. So all samples stay, those too that are like one another:
    they are one in interval^2, at least one, and spread over the map. A key that holds a NaN or
    infinity is no sample and is not pruned; `search` passes it by. Raises ValueError.
    """
    check(key, key, patch, padding, None, None)
    if interval < 1:
        raise ValueError(f"an interval of {interval} keys cannot be sampled: take 1 or more")
    batch, _, height, width = key.shape
    remain = torch.ones(batch, height * width, dtype=torch.bool, device=key.device)
    rows, columns = (
        torch.arange(min(interval, side) // 2, side, interval, device=key.device)
        for side in (height, width)
    )
    places = torch.arange(height * width, device=key.device)
    samples = (rows[:, None] * width + columns).flatten()
    with torch.no_grad():
        for n in range(batch):
            sampled = normalised(key[n], patch, padding, samples)
            for block in torch.split(places, max(1, _HELD // max(sampled.shape))):
                alike = normalised(key[n], patch, padding, block) @ sampled.t()
                remain[n, block] = ~(alike > threshold).any(dim=1)
            remain[n, samples] = True
    return remain.view(batch, height, width)


def detail_mask(image: torch.Tensor, size: tuple[int, int], *, factor: int = 2) -> torch.Tensor:
    """Where an image is rich in detail, (B, *size) bool: the label of SDDuSR's mask loss (3.4).

    image: (B, C, H, W), 0..1; size: (h, w) of the features that are matched. The detail of a pixel
    is sum_C |I - I down up|, down by `factor` and up again, both bicubic, as the paper leaves
    open. It is brought to `size` by area, and the half above the image's own median counts. A
    mask for `search` where no mask generator has been trained. Raises ValueError.
    """
    if image.ndim != 4 or 0 in image.shape or min(size) < 1 or factor < 1:
        raise ValueError(f"no detail to be found in {tuple(image.shape)} for {size}, 1/{factor}")
    height, width = image.shape[2:]
    with torch.no_grad():
        image = image.float()
        small = -(-height // factor), -(-width // factor)
        down = F.interpolate(image, small, mode="bicubic", antialias=True)
        again = F.interpolate(down, (height, width), mode="bicubic", antialias=True)
        detail = (image - again).abs().sum(dim=1, keepdim=True)
        detail = F.interpolate(detail, size, mode="area")[:, 0]
        return detail > detail.flatten(1).median(dim=1).values[:, None, None]


def coarse_boxes(
    query: torch.Tensor,
    key: torch.Tensor,
    tile: tuple[int, int],
    *,
    query_factor: int = 8,
    key_factor: int = 16,
) -> torch.Tensor:
    """DCSR's coarse patch selection: the box of `key` that each tile of `query` is most like.

    query: (B, C, Hq, Wq), key: (B, C, Hk, Wk): images, as a rule. Both are reduced, the query to
    1/query_factor and the key to 1/key_factor (DCSR: LR to 1/8, Ref to 1/16; bicubic as there, but
    antialiased), and each reduced tile is laid on every place of the reduced key: the smallest
    mean |difference| wins, the first of equals. tile: (h, w) in query pixels; the last tiles of a
    row or column are moved inwards, and a tile is no larger than the query.

    Returns (B, rows, columns, 4) int64: top, left, bottom, right in key pixels, inside the key.
    A box has the size of its tile, times key_factor / query_factor; where the key is smaller, the
    box is all of it, found with the tile's middle. Raises ValueError.
    """
    check(query, key, 1, "zeros", None, None)
    if min(tile) < 1 or min(query_factor, key_factor) < 1:
        raise ValueError(f"tiles of {tile} at 1/{query_factor} and 1/{key_factor} hold nothing")
    with torch.no_grad():
        small_query, small_key = _reduced(query, query_factor), _reduced(key, key_factor)
        rows, columns = (
            _Axis(
                query.shape[axis],
                key.shape[axis],
                small_query.shape[axis],
                small_key.shape[axis],
                tile[axis - 2],
                key_factor / query_factor,
            )
            for axis in (2, 3)
        )
        shape = len(query), len(rows.starts), len(columns.starts), 4
        boxes = torch.empty(shape, dtype=torch.int64, device=query.device)
        for n in range(len(query)):
            tiles = torch.stack(
                [
                    small_query[n, :, top : top + rows.side, left : left + columns.side]
                    for top in rows.starts
                    for left in columns.starts
                ]
            )
            places = _nearest_window(tiles, small_key[n]).view(shape[1:3])
            wide = small_key.shape[3] - columns.side + 1
            tops = torch.div(places, wide, rounding_mode="floor")
            boxes[n, ..., 0], boxes[n, ..., 2] = rows.box(tops)
            boxes[n, ..., 1], boxes[n, ..., 3] = columns.box(places - tops * wide)
    return boxes


class _Axis:
    """Where tiles lie along one axis of the reduced query, and their boxes along the key's."""

    def __init__(
        self, query: int, key: int, small_query: int, small_key: int, tile: int, ratio: float
    ) -> None:
        tile = min(tile, query)
        whole = max(1, tile * small_query // query)  # a tile, in reduced pixels
        self.side = min(whole, small_key)  # of it that is compared
        middle = (whole - self.side) // 2
        self.starts = [
            min(first, query - tile) * small_query // query + middle
            for first in range(0, query, tile)
        ]
        self._key, self._size = key, min(key, max(1, round(tile * ratio)))
        self._step = key / small_key

    def box(self, start: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """First and last + 1 key pixel of the boxes that start at some reduced pixels."""
        first = (start * self._step).round().long().clamp(max=self._key - self._size)
        return first, first + self._size


def _reduced(image: torch.Tensor, factor: int) -> torch.Tensor:
    size = [max(1, side // factor) for side in image.shape[2:]]
    return F.interpolate(image.float(), size, mode="bicubic", antialias=True)


def _nearest_window(tiles: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    """The place of the window of key (C, H, W) that is nearest to each of tiles (n, C, h, w)."""
    count, _, height, width = tiles.shape
    flat = tiles.flatten(1)
    windows = key.unfold(1, height, 1).unfold(2, width, 1).permute(1, 2, 0, 3, 4)
    columns = windows.shape[1]
    places = torch.arange(windows.shape[0] * columns, device=key.device)
    least = flat.new_full((count,), torch.inf)
    nearest = torch.zeros(count, dtype=torch.int64, device=key.device)
    for block in torch.split(places, max(1, _HELD // max(count, flat.shape[1]))):
        rows = torch.div(block, columns, rounding_mode="floor")
        read = windows[rows, block - rows * columns].flatten(1)
        values, where = torch.cdist(flat, read, p=1).min(dim=1)
        better = values < least
        least = torch.where(better, values, least)
        nearest = torch.where(better, block[where], nearest)
    return nearest
