"""Patches of a feature map, gathered where they are needed: the unfolded map is never held."""

from __future__ import annotations

import torch

_BAND_BYTES = 2 << 20  # of a map that are laid out at once, where few of its patches are gathered


class Patches:
    """The patches of one feature map (C, H, W), or of a band of its rows.

    `block(places)` gives those around some places, row * W + column, as (n, patch * patch * C).
    Outside the map it goes on mirrored ("reflect": without the border itself, "replicate": the
    border itself, where the map is too small for that) or with zeros.
    """

    def __init__(
        self, features: torch.Tensor, patch: int, padding: str, band: tuple[int, int] | None = None
    ) -> None:
        channels, _, self._width = features.shape
        self._first = band[0] if band else 0
        pixels = padded(features, patch, padding, band)
        # Channels come last, so that a row of a patch is one piece of memory: the pieces overlap.
        rows, self._stride = pixels.shape[:2]
        pieces = rows * self._stride - (patch - 1)
        self._pieces = pixels.as_strided((pieces, patch * channels), (channels, 1))
        self._down = torch.arange(patch, device=features.device) * self._stride

    def block(self, places: torch.Tensor) -> torch.Tensor:
        rows = torch.div(places, self._width, rounding_mode="floor")
        # The padded map's place of a patch's upper left corner.
        corners = places + rows * (self._stride - self._width) - self._first * self._stride
        index = corners[:, None] + self._down
        return self._pieces.index_select(0, index.flatten()).view(len(places), -1)


def padded(
    features: torch.Tensor,
    patch: int,
    padding: str,
    rows: tuple[int, int] | None = None,
    columns: tuple[int, int] | None = None,
) -> torch.Tensor:
    """A map (C, H, W), or some rows and columns of it, with what lies around: channels last.

    Outside the map it goes on as `Patches` says. float32, (H + patch - 1, W + patch - 1, C).
    """
    _, height, width = features.shape
    down, across = (
        torch.arange(first - patch // 2, last + patch // 2, device=features.device)
        for first, last in (rows or (0, height), columns or (0, width))
    )
    mirrored = padding == "reflect"
    taken = _inside(across, width, mirrored and width > patch // 2)
    left, right = (int(edge) for edge in taken.aminmax())
    lines = features[:, :, left : right + 1]  # so that no more is copied
    lines = lines[:, _inside(down, height, mirrored and height > patch // 2)][:, :, taken - left]
    pixels = lines.to(torch.float32).permute(1, 2, 0).contiguous()
    if padding == "zeros":
        pixels[(down < 0) | (down >= height)] = 0
        pixels[:, (across < 0) | (across >= width)] = 0
    return pixels


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
    rows = max(1, _BAND_BYTES // (4 * features.shape[0] * width))
    first, last = int(places[0]) // width, int(places[-1]) // width
    parts = [places]
    if last - first >= rows:  # places far apart: the map between them is not laid out at once
        bands = torch.div(places, rows * width, rounding_mode="floor")
        sizes = torch.bincount(bands - int(bands[0])).tolist()
        parts = [part for part in torch.split(places, sizes) if len(part)]
    gathered = [_gathered(features, patch, padding, part) for part in parts]
    patches = gathered[0] if len(gathered) == 1 else torch.cat(gathered)
    norms = torch.linalg.vector_norm(patches, dim=1, keepdim=True)
    return patches.div_(norms.masked_fill_(norms == 0, 1))


def _gathered(
    features: torch.Tensor, patch: int, padding: str, places: torch.Tensor
) -> torch.Tensor:
    width = features.shape[2]
    band = int(places[0]) // width, int(places[-1]) // width + 1
    return Patches(features, patch, padding, band).block(places)
