"""DNG, where the extra `raw` is installed."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from dualsr_cli.errors import InputError
from dualsr_cli.photos import read_header, read_photo

pytest.importorskip("rawpy")

HEIGHT, WIDTH = 64, 96


def dng(orientation: int) -> bytes:
    """An uncompressed 16-bit RGGB mosaic that is brighter to the right, directory first."""
    x = np.broadcast_to(np.arange(WIDTH), (HEIGHT, WIDTH))
    mosaic = (1000 + x * 600).astype("<u2").tobytes()
    exif = [(0x829A, 5, 1, (1, 100)), (0x9003, 2, 20, b"2024:05:06 07:08:09\0")]
    fields = [
        (254, 4, 1, 0),
        (256, 4, 1, WIDTH),
        (257, 4, 1, HEIGHT),
        (258, 3, 1, 16),
        (259, 3, 1, 1),
        (262, 3, 1, 32803),  # a mosaic
        (271, 2, 6, b"Maker\0"),
        (272, 2, 6, b"Phone\0"),
        (273, 4, 1, 1024),
        (274, 3, 1, orientation),
        (277, 3, 1, 1),
        (278, 4, 1, HEIGHT),
        (279, 4, 1, len(mosaic)),
        (0x828D, 3, 2, b"\2\0\2\0"),
        (0x828E, 1, 4, b"\0\1\1\2"),
        (0x8769, 4, 1, 700),
        (0xC612, 1, 4, b"\1\4\0\0"),
        (0xC614, 2, 6, b"Phone\0"),
        (0xC61D, 4, 1, 65535),
        (0xC621, 10, 9, (1, 1, 0, 1, 0, 1, 0, 1, 1, 1, 0, 1, 0, 1, 0, 1, 1, 1)),
        (0xC628, 5, 3, (1, 1, 1, 1, 1, 1)),
        (0xC65A, 3, 1, 21),
    ]
    data = bytearray(1024)
    data[:8] = struct.pack("<2sHI", b"II", 42, 8)
    free = 400
    for start, entries in ((8, fields), (700, exif)):
        data[start : start + 2] = struct.pack("<H", len(entries))
        for index, (tag, kind, count, value) in enumerate(entries):
            if isinstance(value, tuple):
                value = struct.pack(f"<{len(value)}i", *value)
            if isinstance(value, int):
                value = struct.pack("<I", value)
            if len(value) > 4:
                data[free : free + len(value)] = value
                value, free = struct.pack("<I", free), free + len(value)
            at = start + 2 + index * 12
            data[at : at + 12] = struct.pack("<HHI4s", tag, kind, count, value)
    return bytes(data) + mosaic


@pytest.mark.parametrize(("orientation", "upright"), [(1, True), (3, True), (6, False), (8, False)])
def test_a_dng_is_developed_upright(tmp_path: Path, orientation: int, upright: bool) -> None:
    path = tmp_path / "a.dng"
    path.write_bytes(dng(orientation))
    photo = read_photo(path)
    size = (WIDTH, HEIGHT) if upright else (HEIGHT, WIDTH)
    assert (photo.width, photo.height) == size
    assert read_header(path) == photo.header
    assert photo.header.format == "dng"
    assert photo.pixels.dtype == np.uint16
    assert photo.header.capture.model == "Phone"
    assert photo.header.capture.time is not None
    bright = {1: np.s_[:, -20:], 3: np.s_[:, :20], 6: np.s_[-20:], 8: np.s_[:20]}[orientation]
    assert photo.pixels[bright].mean() > 1.3 * photo.pixels.mean()


@pytest.mark.parametrize("share", [0.05, 0.3, 0.6])
def test_a_truncated_dng_is_refused(tmp_path: Path, share: float) -> None:
    data = dng(1)
    path = tmp_path / "a.dng"
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(InputError, match="is truncated or damaged"):
        read_photo(path)
