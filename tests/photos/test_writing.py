"""What is written reads back: pixels, depth, metadata; nothing half-written is ever left."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dualsr_cli.photos import Metadata, read_photo, write_photo

RNG = np.random.default_rng(7)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_lossless_formats_give_the_same_pixels_back(tmp_path: Path, name: str, dtype: type) -> None:
    pixels = RNG.integers(0, np.iinfo(dtype).max, (37, 53, 3), dtype, endpoint=True)
    size = write_photo(tmp_path / name, pixels, Metadata())
    photo = read_photo(tmp_path / name)
    assert photo.pixels.dtype == dtype
    assert np.array_equal(photo.pixels, pixels)
    assert size == (tmp_path / name).stat().st_size
