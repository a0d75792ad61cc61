"""Bilinear resizing with corners on corners (align_corners), of a window of the result alone.

What lies between two pixels then depends on the size of all of the map.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from dualsr_cli.networks.contract import Window


def stretched(
    part: torch.Tensor,
    source: Sequence[int],
    target: Sequence[int],
    window: Window,
    corner: tuple[int, int] = (0, 0),
) -> torch.Tensor:
    """A window of a map that is stretched from `source` (H, W) to `target`: (B, C, h, w).

    part: (B, C, ...), what is there of the map, from `corner` on. Where the window needs more than
    `needed` tells and the part has, the part's border is repeated.
    """
    if tuple(part.shape[2:]) == tuple(source) and window == (0, 0, *target):
        return F.interpolate(part, tuple(target), mode="bilinear", align_corners=True)
    for axis in (0, 1):
        above, share = _places(source[axis], target[axis], window[axis], window[axis + 2])
        size = part.shape[axis + 2]
        above = (above - corner[axis]).clamp(0, size - 1).to(part.device)
        share = share.to(part.device, part.dtype)
        low = part.index_select(axis + 2, above)
        high = part.index_select(axis + 2, (above + 1).clamp(max=size - 1))
        part = torch.lerp(low, high, share[:, None] if axis == 0 else share)
    return part


def needed(source: Sequence[int], target: Sequence[int], window: Window) -> Window:
    """The part of a map of `source` that a window of it, stretched to `target`, is made of."""
    starts, ends = [], []
    for axis in (0, 1):
        above, _ = _places(source[axis], target[axis], window[axis], window[axis + 2])
        starts.append(int(above[0]))
        ends.append(min(source[axis], int(above[-1]) + 2))
    return starts[0], starts[1], ends[0], ends[1]


def _places(source: int, target: int, first: int, last: int) -> tuple[torch.Tensor, torch.Tensor]:
    """For some places of the target the one before them in the source, and how far beyond it."""
    # In single precision, as in `interpolate`, so that both round alike.
    place = torch.arange(first, last, dtype=torch.float32) * ((source - 1) / max(1, target - 1))
    above = place.long().clamp(max=source - 1)
    return above, place - above
