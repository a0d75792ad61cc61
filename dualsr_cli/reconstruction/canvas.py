"""The result as it grows, part by part: its pixels, where they come from, what they lack."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch

from dualsr_cli.alignment import Box, Floats
from dualsr_cli.photos import Photo
from dualsr_cli.reconstruction import _resampling as resampling

CONSISTENT = 0.9 / 255
"""What a network's result, seen without its detail, may differ from the wide photo by on average;
less than the 1/255 that is promised, for pixels are rounded once more where they are corrected.
"""

_DETAIL = 4.0  # wide pixels: what a Gaussian of this size keeps is light and colour
PROVENANCE_STEP = 4  # wide pixels per provenance pixel
_CORRECTED = 512  # wide pixels: the side of the squares that are corrected at once


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """The result's pixels, in the wide photo's depth and colour space, and where they came from.

    `provenance` is (h, w, 3) uint8 at PROVENANCE_STEP wide pixels: the shares, of 255, of the
    detail taken from the tele photo directly, from matched patches of it, and from the wide photo
    alone. `shares` are its means, 0..1. `box` is the part of the wide photo that was
    reconstructed: top, left, bottom, right.
    """

    pixels: npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
    scale: float
    box: Box
    provenance: npt.NDArray[np.uint8]
    shares: tuple[float, float, float]


class Canvas:
    """A result in the making, of `box` of a wide photo, at `scale`.

    It is made in parts, boxes of wide pixels too; several threads may bring them, save for
    `correct`, which comes after all of them.
    """

    def __init__(self, wide: Photo, box: Box, scale: float) -> None:
        self._wide, self._box, self._scale = wide, box, scale
        rows, columns = (
            outputs_in(low, high, scale) for low, high in zip(box[:2], box[2:], strict=True)
        )
        self._first = rows[0], columns[0]
        self._pixels = np.empty((rows[1] - rows[0], columns[1] - columns[0], 3), wide.pixels.dtype)
        height, width = box[2] - box[0], box[3] - box[1]
        # What the result lacks of the wide photo, 0..1; half precision knows a 2000th of it. What
        # is never written to takes no memory.
        self._missing = np.zeros((height, width, 3), np.float16)
        step = PROVENANCE_STEP
        self._provenance = np.zeros((-(-height // step), -(-width // step), 3), np.uint8)

    def put(self, part: Box, result: torch.Tensor) -> None:
        """The outputs (3, h, w), not clamped, of a part of the wide photo."""
        self._place(part)[:] = _quantised(result, self._wide.max_value, self._pixels.dtype)

    def compare(self, part: Box, made: Box, result: torch.Tensor) -> None:
        """Keep what the outputs of a part lack of the wide photo, for `correct`.

        result: the outputs (3, h, w) of `made`, the part and enough around it that every output
        that lies on its border is there.
        """
        device = str(result.device)
        down, across = (
            resampling.means(start, stop - start, self._scale, device)
            for start, stop in zip(made[:2], made[2:], strict=True)
        )
        means = across.across(down.down(result.clamp(0, 1)))
        top, left, bottom, right = part
        means = means[:, top - made[0] : bottom - made[0], left - made[1] : right - made[1]]
        window = self._wide.window(top, left, bottom - top, right - left)
        missing = window - means.permute(1, 2, 0).cpu().numpy()
        missing[(window <= 0) | (window >= 1)] = 0  # clipped: how bright it was, nobody knows
        y, x = top - self._box[0], left - self._box[1]
        self._missing[y : y + bottom - top, x : x + right - left] = missing

    def tell(self, part: Box, direct: Floats, matched: Floats) -> None:
        """Where the detail of a part comes from, shares (h, w)."""
        step = PROVENANCE_STEP
        y, x = (part[0] - self._box[0]) // step, (part[1] - self._box[1]) // step
        first, second = _coarser(direct, step), _coarser(matched, step)
        area = self._provenance[y : y + first.shape[0], x : x + first.shape[1]]
        area[..., 0] = first
        area[..., 1] = np.minimum(second, 255 - first)

    def correct(self) -> None:
        """Give back the wide photo's light and colour, as far as they are missed too much.

        What is finer is not given back: where the wide lens blurs, a network undoes the blur, and
        its result, reduced to the wide photo's size, is sharper than the wide photo.
        """
        light = _blurred(self._missing)
        self._missing = light.astype(np.float16)
        share = _enough(light)
        if share == 0:
            return
        top, left, bottom, right = self._box
        for y in range(top, bottom, _CORRECTED):
            for x in range(left, right, _CORRECTED):
                part = (y, x, min(y + _CORRECTED, bottom), min(x + _CORRECTED, right))
                place = self._place(part)
                added = share * self._missing_at(part).permute(1, 2, 0).numpy()
                values = place / np.float32(self._wide.max_value) + added
                place[:] = _quantised(
                    torch.from_numpy(values).permute(2, 0, 1), self._wide.max_value, place.dtype
                )

    def _missing_at(self, part: Box) -> torch.Tensor:
        """What is missing of a part, at the result's resolution (3, h, w)."""
        margin = resampling.MARGIN
        top, left = part[0] - self._box[0] - margin, part[1] - self._box[1] - margin
        height, width = (
            high - low + 2 * margin for low, high in zip(part[:2], part[2:], strict=True)
        )
        rows, columns = (
            np.clip(np.arange(start, start + count), 0, side - 1)
            for start, count, side in zip(
                (top, left), (height, width), self._missing.shape, strict=False
            )
        )
        window = torch.from_numpy(self._missing[rows[:, None], columns].astype(np.float32))
        axes = [
            resampling.axis(low - margin, high - low + 2 * margin, self._scale, torch.device("cpu"))
            for low, high in zip(part[:2], part[2:], strict=True)
        ]
        result = resampling.enlarge(window.permute(2, 0, 1), *axes)
        down, across = (
            slice(*(n - axis.first for n in outputs_in(low, high, self._scale)))
            for axis, low, high in zip(axes, part[:2], part[2:], strict=True)
        )
        return result[:, down, across]

    def _place(self, part: Box) -> npt.NDArray[Any]:
        """The pixels of the result that lie in a part of the wide photo."""
        rows, columns = (
            slice(*(n - first for n in outputs_in(low, high, self._scale)))
            for low, high, first in zip(part[:2], part[2:], self._first, strict=True)
        )
        return self._pixels[rows, columns]

    def finished(self) -> Reconstruction:
        """The result; the canvas is not to be used any more."""
        self._provenance[..., 2] = 255 - self._provenance[..., 0] - self._provenance[..., 1]
        means = self._provenance.reshape(-1, 3).mean(axis=0, dtype=np.float64) / 255
        shares = (float(means[0]), float(means[1]), float(means[2]))
        return Reconstruction(self._pixels, self._scale, self._box, self._provenance, shares)


def outputs_in(start: int, stop: int, scale: float) -> tuple[int, int]:
    """The output pixels whose centres lie in wide pixels start..stop."""
    return resampling.first_output(start, scale), resampling.first_output(stop, scale)


def _enough(light: Floats) -> float:
    """The least share of the light (h, w, 3) that has to be given back, 0..1."""
    # What is blurred twice can be looked at here and there.
    step = (slice(None, None, 4), slice(None, None, 4))
    once, twice = light[step], _blurred(light)[step]

    def left(share: float) -> float:
        return float(np.abs(once - share * twice).mean(dtype=np.float64))

    if left(0) <= CONSISTENT:
        return 0.0
    low, high = 0.0, 1.0
    for _ in range(8):
        middle = (low + high) / 2
        low, high = (low, middle) if left(middle) <= CONSISTENT else (middle, high)
    return high


def _blurred(light: npt.NDArray[Any]) -> Floats:
    result: Floats = cv2.GaussianBlur(light.astype(np.float32), (0, 0), _DETAIL)
    return result


def _quantised(part: torch.Tensor, white: int, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    values = (part * white + 0.5).clamp(0, white).permute(1, 2, 0).cpu().numpy()
    return values.astype(dtype)


def _coarser(share: Floats, step: int) -> npt.NDArray[np.uint8]:
    """Means over step x step pixels, of 255; the last row and column over what there is."""
    height, width = (-(-n // step) * step for n in share.shape)
    padded = np.pad(share, ((0, height - share.shape[0]), (0, width - share.shape[1])), mode="edge")
    means = padded.reshape(height // step, step, width // step, step).mean(axis=(1, 3))
    rounded: npt.NDArray[np.uint8] = np.rint(means * 255).astype(np.uint8)
    return rounded
