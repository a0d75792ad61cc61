"""Enlarging that reducing undoes: one linear operator per axis, built for a window.

Reducing (D) is what a sensor of the wide photo's pixel size would have seen: the mean of a box of
one wide pixel and the antialiased bicubic kernel, in equal parts (real lenses and raw converters
lie between the two; below scale 2 the box has more). Enlarging is P = L (D L)^-1 with L the
Lanczos-4 kernel: the picture of Lanczos's shape whose reduction is exactly the input, D P = I.
Both are separable, so a window (c, h, w) is enlarged by products with banded matrices, on any
device, at any scale.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch

Matrix = npt.NDArray[np.float64]

MARGIN = 24
"""Wide pixels beyond which a pixel has no visible say in an operator's result."""


_BLOCK = 64  # outputs that are computed by one dense product
_NEGLIGIBLE = 1e-5  # share of a weight in the largest


class Banded:
    """A matrix (outputs, inputs) whose weights lie near its diagonal, kept as dense blocks.

    Multiplying by the blocks takes a fifth of the dense product's arithmetic, at its rate.
    """

    def __init__(self, matrix: Matrix, device: str) -> None:
        self.outputs, self.inputs = matrix.shape
        self._blocks: list[tuple[slice, slice, torch.Tensor]] = []
        kept = np.abs(matrix) > _NEGLIGIBLE * np.abs(matrix).max()
        for start in range(0, self.outputs, _BLOCK):
            rows = slice(start, min(start + _BLOCK, self.outputs))
            used = np.flatnonzero(kept[rows].any(axis=0))
            columns = slice(int(used[0]), int(used[-1]) + 1)
            block = torch.from_numpy(matrix[rows, columns].astype(np.float32))
            self._blocks.append((rows, columns, block.to(device)))

    def down(self, window: torch.Tensor) -> torch.Tensor:
        """(..., inputs, w) -> (..., outputs, w)."""
        result = window.new_empty((*window.shape[:-2], self.outputs, window.shape[-1]))
        for rows, columns, block in self._blocks:
            result[..., rows, :] = block @ window[..., columns, :]
        return result

    def across(self, window: torch.Tensor) -> torch.Tensor:
        """(..., h, inputs) -> (..., h, outputs)."""
        result = window.new_empty((*window.shape[:-1], self.outputs))
        for rows, columns, block in self._blocks:
            result[..., rows] = window[..., columns] @ block.T
        return result


@dataclass(frozen=True, eq=False)
class Axis:
    """The operators of one axis of a window: input pixels start..start+count of the photo.

    `first` is the photo's output pixel that row 0 of `enlarge` makes.
    """

    enlarge: Banded  # count -> outputs
    reduce: Banded  # outputs -> count
    first: int
    phase: float  # where output `first` lies, in the window's input pixels
    scale: float


def axis(start: int, count: int, scale: float, device: torch.device) -> Axis:
    """The operators for input pixels start..start+count at `scale` output pixels per input pixel.

    The outputs are those whose centres lie in the window. Windows that sit alike on the output
    grid share their operators.
    """
    first, last = first_output(start, scale), first_output(start + count, scale)
    phase = round((first + 0.5) / scale - 0.5 - start, 9)  # in input pixels, of the first output
    enlarge, reduce = _operators(phase, count, last - first, scale, str(device))
    return Axis(enlarge, reduce, first, phase, scale)


def first_output(start: int, scale: float) -> int:
    """The first output pixel whose centre lies in input pixel `start` or after it."""
    return math.ceil(start * scale - 0.5 - 1e-9)


@lru_cache(maxsize=256)
def _operators(
    phase: float, count: int, outputs: int, scale: float, device: str
) -> tuple[Banded, Banded]:
    positions = phase + np.arange(outputs) / scale  # of the outputs, in the window's input pixels
    lanczos = _lanczos(positions, count)
    # Half box, half bicubic from scale 2 on; a pixel that is hardly divided is a box.
    share = 0.5 * min(scale - 1, 1.0)
    reduce = (1 - share) * _box(positions, count, scale) + share * _bicubic(positions, count)
    enlarge = lanczos @ np.linalg.inv(reduce @ lanczos)
    return Banded(enlarge, device), Banded(reduce, device)


def interpolation(axis: Axis, factor: int, device: str) -> Banded:
    """From a grid of `factor` pixels per input pixel of the axis's window to its outputs."""
    return _interpolation(
        axis.phase, axis.enlarge.inputs, axis.enlarge.outputs, axis.scale, factor, device
    )


@lru_cache(maxsize=256)
def _interpolation(
    phase: float, count: int, outputs: int, scale: float, factor: int, device: str
) -> Banded:
    positions = (phase + np.arange(outputs) / scale + 0.5) * factor - 0.5
    return Banded(_lanczos(positions, count * factor), device)


def between(start: int, count: int, factor: int, scale: float, device: str) -> Banded:
    """From a grid of `factor` pixels per input pixel start..start+count to the outputs in them.

    At `scale` outputs per input pixel, those of `axis`; where they are fewer, nothing aliases.
    """
    first, last = first_output(start, scale), first_output(start + count, scale)
    phase = round((first + 0.5) / scale - start, 9)  # in input pixels, from their outer edge
    return _between(phase, count, last - first, scale, factor, device)


@lru_cache(maxsize=256)
def _between(
    phase: float, count: int, outputs: int, scale: float, factor: int, device: str
) -> Banded:
    positions = (phase + np.arange(outputs) / scale) * factor - 0.5
    return Banded(_lanczos(positions, count * factor, max(1.0, factor / scale)), device)


def means(start: int, count: int, scale: float, device: str) -> Banded:
    """From the outputs of `axis` to the mean over each of the input pixels start..start+count."""
    first, last = first_output(start, scale), first_output(start + count, scale)
    phase = round((first + 0.5) / scale - 0.5 - start, 9)
    return _means(phase, count, last - first, scale, device)


@lru_cache(maxsize=256)
def _means(phase: float, count: int, outputs: int, scale: float, device: str) -> Banded:
    return Banded(_box(phase + np.arange(outputs) / scale, count, scale), device)


def linear(axis: Axis, device: str) -> Banded:
    """From the axis's window to its outputs, bilinear: never outside the neighbours' range."""
    return _linear(axis.phase, axis.enlarge.inputs, axis.enlarge.outputs, axis.scale, device)


@lru_cache(maxsize=256)
def _linear(phase: float, count: int, outputs: int, scale: float, device: str) -> Banded:
    positions = np.clip(phase + np.arange(outputs) / scale, 0, count - 1)
    distance = np.abs(positions[:, None] - np.arange(count))
    return Banded(np.maximum(1 - distance, 0), device)


def _lanczos(positions: Matrix, count: int, width: float = 1.0) -> Matrix:
    """(outputs, count): Lanczos, four lobes of `width` pixels, mirrored at the window's ends."""
    reach = math.ceil(4 * width)
    offsets = np.arange(1 - reach, 1 + reach)
    base = np.floor(positions).astype(int)
    taps = base[:, None] + offsets
    distance = (positions[:, None] - taps) / width
    weights = np.sinc(distance) * np.sinc(distance / 4) * (np.abs(distance) < 4)
    weights /= weights.sum(axis=1, keepdims=True)
    matrix = np.zeros((len(positions), count))
    np.add.at(matrix, (np.arange(len(positions))[:, None], _mirrored(taps, count)), weights)
    return matrix


def _box(positions: Matrix, count: int, scale: float) -> Matrix:
    """(count, outputs): the share of each output pixel in an input pixel's area."""
    half = 0.5 / scale
    pixel = np.arange(count)[:, None]
    low = np.maximum(positions - half, pixel - 0.5)
    high = np.minimum(positions + half, pixel + 0.5)
    return _rows_to_one(np.maximum(high - low, 0))


def _bicubic(positions: Matrix, count: int) -> Matrix:
    """(count, outputs): Keys' cubic (a = -1/2) as wide as an input pixel asks."""
    x = np.abs(positions - np.arange(count)[:, None])
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return _rows_to_one(np.where(x < 1, near, np.where(x < 2, far, 0)))


def _rows_to_one(matrix: Matrix) -> Matrix:
    total: Matrix = matrix / matrix.sum(axis=1, keepdims=True)
    return total


@lru_cache(maxsize=256)
def _gaussian(count: int, sigma: float, device: str) -> Banded:
    """(count, count): blurs one axis of a window, mirrored at its ends."""
    radius = math.ceil(4 * sigma)
    offsets = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 * (offsets / sigma) ** 2)
    matrix = np.zeros((count, count))
    rows = np.arange(count)[:, None]
    np.add.at(matrix, (rows, _mirrored(rows + offsets, count)), weights / weights.sum())
    return Banded(matrix, device)


def blur(window: torch.Tensor, sigma: float) -> torch.Tensor:
    """A window (..., h, w), blurred by a Gaussian of `sigma` pixels."""
    device = str(window.device)
    down = _gaussian(window.shape[-2], sigma, device)
    across = _gaussian(window.shape[-1], sigma, device)
    return across.across(down.down(window))


def _mirrored(index: npt.NDArray[np.intp], count: int) -> npt.NDArray[np.intp]:
    period = max(2 * (count - 1), 1)
    folded = np.abs(index) % period
    return np.minimum(folded, period - folded) if count > 1 else np.zeros_like(index)


def enlarge(window: torch.Tensor, rows: Axis, columns: Axis) -> torch.Tensor:
    """(c, h, w) -> (c, outputs down, outputs across)."""
    return columns.enlarge.across(rows.enlarge.down(window))


def reduce(window: torch.Tensor, rows: Axis, columns: Axis) -> torch.Tensor:
    """(c, outputs down, outputs across) -> (c, h, w)."""
    return rows.reduce.down(columns.reduce.across(window))
