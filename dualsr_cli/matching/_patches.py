"""Patches of a feature map, gathered where they are needed: the unfolded map is never held."""

from __future__ import annotations

import torch


class Patches:
    """The patches of one feature map (C, H, W), or of a band of its rows.

    `block(places)` gives those around some places, row * W + column, as (n, patch * patch * C).
    Outside the map it goes on mirrored ("reflect": without the border itself, "replicate": the
    border itself, where the map is too small for that) or with zeros.
    """

    def __init__(
        self, features: torch.Tensor, patch: int, padding: str, band: tuple[int, int] | None = None
    ) -> None:
        channels, self._height, self._width = features.shape
        self._radius = radius = patch // 2
        first, last = band or (0, self._height)
        self._top = max(0, first - radius)
        bottom = min(self._height, last + radius)
        lines = features[:, self._top : bottom].to(torch.float32)
        pixels = lines.permute(1, 2, 0).reshape(-1, channels)
        self._zero = len(pixels) if padding == "zeros" else None
        if self._zero is not None:
            pixels = torch.cat([pixels, pixels.new_zeros(1, channels)])
        self._pixels = pixels.contiguous()
        self._padding = padding
        self._around = torch.arange(patch, device=features.device) - radius

    def block(self, places: torch.Tensor) -> torch.Tensor:
        rows = torch.div(places, self._width, rounding_mode="floor")[:, None] + self._around
        columns = (places % self._width)[:, None] + self._around
        outside_rows = (rows < 0) | (rows >= self._height)
        outside_columns = (columns < 0) | (columns >= self._width)
        mirrored = self._padding == "reflect"
        rows = _inside(rows, self._height, mirrored and self._height > self._radius) - self._top
        columns = _inside(columns, self._width, mirrored and self._width > self._radius)
        index = rows[:, :, None] * self._width + columns[:, None, :]
        if self._zero is not None:
            outside = outside_rows[:, :, None] | outside_columns[:, None, :]
            index = index.masked_fill(outside, self._zero)
        return self._pixels.index_select(0, index.flatten()).view(len(places), -1)


def _inside(index: torch.Tensor, size: int, mirrored: bool) -> torch.Tensor:
    """Positions of an axis, those outside led back into it."""
    if mirrored:
        index = index.abs()
        index = torch.where(index >= size, 2 * (size - 1) - index, index)
    return index.clamp(0, size - 1)


def finite(features: torch.Tensor, patch: int, padding: str) -> torch.Tensor | None:
    """Which patches (H, W) of a map (C, H, W) hold numbers only; None: all."""
    bad = torch.zeros(features.shape[1:], dtype=torch.bool, device=features.device)
    for channel in features:  # one by one: a mask of all would be a quarter of the features
        bad |= ~torch.isfinite(channel)
    if not bool(bad.any()):
        return None
    places = torch.arange(bad.numel(), device=bad.device)
    around = Patches(bad[None].to(torch.float32), patch, padding).block(places)
    return (around.amax(dim=1) == 0).view(bad.shape)


def normalised(
    features: torch.Tensor, patch: int, padding: str, places: torch.Tensor
) -> torch.Tensor:
    """The patches around sorted places, of length 1; those of length 0 stay."""
    width = features.shape[2]
    band = int(places[0]) // width, int(places[-1]) // width + 1
    patches = Patches(features, patch, padding, band).block(places)
    norms = torch.linalg.vector_norm(patches, dim=1, keepdim=True)
    return patches.div_(norms.masked_fill_(norms == 0, 1))
