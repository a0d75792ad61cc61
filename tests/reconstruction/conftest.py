"""The made-up pairs of alignment's tests, and measures of a result."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from ..alignment.conftest import item, items, look, photo, scene

__all__ = ["area_mean", "blurred", "item", "items", "look", "photo", "psnr", "scene"]

Array = npt.NDArray[np.float64]


def area_mean(pixels: npt.NDArray[np.generic], height: int, width: int, scale: float) -> Array:
    """The mean over each wide pixel's share of a result: of whole and of cut pixels, by hand."""
    down, across = _shares(height, pixels.shape[0], scale), _shares(width, pixels.shape[1], scale)
    return np.einsum("ij,jkc,lk->ilc", down, pixels.astype(float), across, optimize=True)


def _shares(count: int, outputs: int, scale: float) -> Array:
    start, pixel = np.arange(count)[:, None] * scale, np.arange(outputs)
    low, high = np.maximum(start, pixel), np.minimum(start + scale, pixel + 1)
    overlap = np.maximum(high - low, 0)
    return overlap / overlap.sum(axis=1, keepdims=True)


def psnr(one: npt.NDArray[np.generic], two: npt.NDArray[np.generic]) -> float:
    """In dB, of 8-bit pixels; over the smaller of both sizes."""
    height, width = min(one.shape[0], two.shape[0]), min(one.shape[1], two.shape[1])
    difference = one[:height, :width].astype(float) - two[:height, :width]
    return float(10 * np.log10(255**2 / np.mean(difference**2)))


def blurred(pixels: npt.NDArray[np.uint8], sigma: float) -> npt.NDArray[np.uint8]:
    return cv2.GaussianBlur(pixels, (0, 0), sigma)
