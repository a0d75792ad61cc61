"""Whatever bytes a file holds, reading gives a photo or an InputError and nothing else."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dualsr_cli.errors import InputError
from dualsr_cli.photos import read_photo

from .conftest import DATA, heic, picture, saved

CHANGES = st.lists(
    st.tuples(st.floats(0, 1), st.sampled_from([0, 1, 127, 128, 255]) | st.integers(0, 255)),
    max_size=8,
)
EARLY = st.lists(st.tuples(st.floats(0, 0.05), st.integers(0, 255)), max_size=8)  # in the header


@cache
def sound(kind: str) -> bytes:
    image = Image.fromarray(picture())
    if kind == "heic":
        return heic(picture())
    if kind == "phone":
        return (DATA / "apple_iphone_6.jpg").read_bytes()
    return saved(image, {"jpg": "JPEG", "tif": "TIFF"}.get(kind, kind))


@pytest.mark.parametrize("kind", ["jpg", "png", "tif", "webp", "heic", "avif", "phone"])
@settings(max_examples=100, deadline=None)
@given(changes=CHANGES, early=EARLY, share=st.just(1.0) | st.floats(0, 1))
def test_damaged_bytes(
    kind: str, changes: list[tuple[float, int]], early: list[tuple[float, int]], share: float
) -> None:
    data = bytearray(sound(kind))
    for place, value in changes + early:
        data[int(place * (len(data) - 1))] = value
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"a.{kind}"
        path.write_bytes(data[: int(len(data) * share)])
        try:
            photo = read_photo(path)
        except InputError as error:
            assert "\n" not in str(error)
        else:
            assert photo.pixels.shape == (photo.header.height, photo.header.width, 3)
