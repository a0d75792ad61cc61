"""Detail for what the tele photo does not show, from patches of what it does show.

From the footprint a few thousand patches of the wide photo are kept, each with the detail that
the tele photo added there, likelier where there is much of it. Elsewhere each patch of the wide
photo takes the detail of the most similar one (cosine of the mean-free patches), as far as it is
similar; neighbours overlap and are averaged, so that what they do not agree on cancels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from dualsr_cli.reconstruction._resampling import Axis, Banded, blur, interpolation

SIDE = 5  # wide pixels of a patch
STRIDE = 2  # wide pixels between the patches that look for a match
KEYS = 2048
STRENGTH = 0.6  # of a match's detail: even the most similar patch is another one
_BAND = 2.0  # wide pixels: a patch is compared without what a Gaussian of this size keeps
_SIMILAR = 0.6  # cosine from which on a match counts, rising as its square to 1
_NOISE = 1 / 255  # amplitude per pixel that similarity does not listen to
_CHUNK = 1024  # queries compared at once
_LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True, eq=False)
class Patches:
    """Keys (k, SIDE^2), mean-free luma of wide patches, and their detail at `factor` per pixel.

    `values` is (k, 3 (SIDE factor)^2), colours outermost.
    """

    keys: torch.Tensor
    values: torch.Tensor
    factor: int


def factor_of(scale: float) -> int:
    """Detail is kept on a grid of whole pixels per wide pixel, at least as fine as the output."""
    return max(1, math.ceil(scale - 0.02))


def sample(
    wide: torch.Tensor, detail: torch.Tensor, usable: torch.Tensor, count: int, seed: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """At most `count` keys and values from one window of the footprint.

    wide (3, h, w), detail (3, factor h, factor w) and usable (h, w), true where detail was taken.
    """
    keys = _patches(_band(wide), stride=1)
    factor = detail.shape[-1] // wide.shape[-1]
    energy = functional.avg_pool2d((detail * detail).sum(0)[None], factor * SIDE, factor)[0]
    whole = functional.avg_pool2d(usable.to(wide.dtype)[None], SIDE, 1)[0] > 0.999
    weight = (energy.sqrt() * whole).flatten().cpu().double().numpy()
    count = min(count, int((weight > 0).sum()))
    if count == 0:
        return keys[:0], wide.new_empty((0, 3 * (SIDE * factor) ** 2))
    chosen = np.random.default_rng(seed).choice(
        len(weight), count, replace=False, p=weight / weight.sum()
    )
    columns = wide.shape[-1] - SIDE + 1
    side = SIDE * factor
    values = [
        detail[:, y * factor : y * factor + side, x * factor : x * factor + side].flatten()
        for y, x in (divmod(int(place), columns) for place in chosen)
    ]
    return keys[torch.from_numpy(chosen).to(keys.device)], torch.stack(values)


def transfer(
    wide: torch.Tensor,
    patches: Patches,
    rows: Axis,
    columns: Axis,
    wanted: torch.Tensor,
    start: tuple[int, int],
) -> tuple[torch.Tensor, torch.Tensor]:
    """Detail (3, outputs down, outputs across) for a window, and how much was taken, (h, w).

    `wanted` (h, w) is true where detail is asked for; only patches that reach there look for it.
    `start` is the window's row and column in the photo: patches lie on the photo's own grid,
    whatever the window.
    """
    top, left = (-place % STRIDE for place in start)
    wide, wanted = wide[:, top:, left:], wanted[top:, left:]
    height, width = wide.shape[-2:]
    queries = _patches(_band(wide), STRIDE)
    contrast = queries.norm(dim=1)
    reach = functional.max_pool2d(wanted.to(wide.dtype)[None], SIDE, STRIDE)[0].flatten() > 0
    asking = torch.nonzero(reach & (contrast > SIDE * _NOISE)).flatten()
    index, share = _nearest(queries[asking], patches.keys)
    values = wide.new_zeros((len(queries), patches.values.shape[1]))
    values[asking] = patches.values[index] * share[:, None]
    shares = wide.new_zeros(len(queries))
    shares[asking] = share
    factor = patches.factor
    size = (factor * height, factor * width)
    detail = _overlapped(values, size, SIDE * factor, STRIDE * factor)
    detail = functional.pad(detail, (left * factor, 0, top * factor, 0))
    detail = _resampled(detail, rows, columns, factor)
    taken = _overlapped(shares[:, None].expand(-1, SIDE * SIDE), (height, width), SIDE, STRIDE)
    return detail, functional.pad(taken[0], (left, 0, top, 0))


def _nearest(queries: torch.Tensor, keys: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """For each query its most similar key, and the share of that key's detail to take."""
    normal = _normalised(keys)
    found = []
    for start in range(0, len(queries), _CHUNK):
        part = queries[start : start + _CHUNK]
        similarity, index = (_normalised(part) @ normal.T).max(dim=1)
        key = keys[index]
        # The match's contrast against the query's, by regression.
        fit = (part * key).sum(1) / ((key * key).sum(1) + (SIDE * _NOISE) ** 2)
        sure = ((similarity - _SIMILAR) / (1 - _SIMILAR)).clamp(0, 1).square()
        found.append((index, STRENGTH * sure * fit.clamp(0, 1.5)))
    if not found:
        return torch.empty(0, dtype=torch.long, device=keys.device), queries.new_empty(0)
    return torch.cat([index for index, _ in found]), torch.cat([share for _, share in found])


def _normalised(patches: torch.Tensor) -> torch.Tensor:
    length: torch.Tensor = (patches.square().sum(1, keepdim=True) + (SIDE * _NOISE) ** 2).sqrt()
    normal: torch.Tensor = patches / length
    return normal


def _band(wide: torch.Tensor) -> torch.Tensor:
    """(3, h, w) -> mean-free luma (h, w)."""
    luma: torch.Tensor = torch.tensordot(wide.new_tensor(_LUMA), wide, dims=1)
    return luma - blur(luma, _BAND)


def _patches(luma: torch.Tensor, stride: int) -> torch.Tensor:
    """(h, w) -> (patches, SIDE^2), row by row."""
    return functional.unfold(luma[None, None], SIDE, stride=stride)[0].T.contiguous()


def _overlapped(
    patches: torch.Tensor, size: tuple[int, int], side: int, stride: int
) -> torch.Tensor:
    """(patches, c side^2) -> (c, h, w): each pixel the mean of the patches that cover it."""
    total = functional.fold(patches.T[None], size, side, stride=stride)[0]
    ones = patches.new_ones((1, side * side, len(patches)))
    count = functional.fold(ones, size, side, stride=stride)[0]
    mean: torch.Tensor = total / count.clamp(min=1)
    return mean


def _resampled(detail: torch.Tensor, rows: Axis, columns: Axis, factor: int) -> torch.Tensor:
    """From `factor` pixels per wide pixel to the output grid."""

    def along(axis: Axis) -> Banded:
        return interpolation(axis, factor, str(detail.device))

    return along(columns).across(along(rows).down(detail))
