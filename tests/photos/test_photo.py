"""Windows of a photo: what NumPy's own padding gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dualsr_cli.photos import Capture, Header, Metadata, Photo


def photo_of(pixels: np.ndarray) -> Photo:
    height, width = pixels.shape[:2]
    header = Header(Path("a.png"), "png", width, height, 8, Metadata(), Capture())
    return Photo(pixels, header)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_window_inside_is_the_pixels_from_0_to_1(dtype: type) -> None:
    top = np.iinfo(dtype).max
    pixels = np.random.default_rng(1).integers(0, top, (20, 30, 3), dtype, endpoint=True)
    photo = photo_of(pixels)
    window = photo.window(3, 5, 10, 20)
    assert window.dtype == np.float32
    assert np.allclose(window, pixels[3:13, 5:25] / top, atol=1e-7)
    assert (photo.width, photo.height, photo.max_value) == (30, 20, top)


@pytest.mark.parametrize("shape", [(5, 7), (1, 7), (2, 2), (1, 1)])
def test_a_window_beyond_the_edges_is_mirrored_however_small_the_photo(
    shape: tuple[int, int],
) -> None:
    pixels = np.random.default_rng(2).integers(0, 255, (*shape, 3), np.uint8)
    padded = np.pad(pixels, ((13, 17), (11, 19), (0, 0)), "reflect")
    window = photo_of(pixels).window(-13, -11, shape[0] + 30, shape[1] + 30)
    assert np.allclose(window, padded / 255, atol=1e-7)
