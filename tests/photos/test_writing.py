"""What is written reads back elsewhere: pixels, depth; nothing half-written is ever left."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
import pytest
from PIL import Image

from dualsr_cli.errors import OutputError, UsageError
from dualsr_cli.photos import (
    WRITE_SUFFIXES,
    Metadata,
    read_header,
    read_photo,
    write_photo,
    writing,
)

from .conftest import DATA, picture

FORMATS = ["png", "jpg", "tif", "webp", "heic"]
NONE = Metadata()


def noise(dtype: type, height: int = 37, width: int = 53) -> np.ndarray:
    top = np.iinfo(dtype).max
    return np.random.default_rng(7).integers(0, top, (height, width, 3), dtype, endpoint=True)


def in_opencv(path: Path) -> np.ndarray:
    pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert pixels is not None
    return pixels[..., ::-1]


# --- pixels ---


@pytest.mark.parametrize("suffix", ["png", "tif", "tiff"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("exif", [None, "apple_iphone_6.jpg", "samsung_galaxy_s7_edge.jpg"])
def test_lossless_formats_hold_every_value(
    tmp_path: Path, suffix: str, dtype: type, exif: str | None
) -> None:
    """With big-endian (Apple) and little-endian (Samsung) EXIF, which decides a TIFF's order."""
    path = tmp_path / f"a.{suffix}"
    metadata = Metadata(exif=read_header(DATA / exif).metadata.exif) if exif else NONE
    pixels = noise(dtype, 700, 900)
    size = write_photo(path, pixels, metadata)
    assert size == path.stat().st_size
    assert np.array_equal(in_opencv(path), pixels)
    photo = read_photo(path)
    assert photo.pixels.dtype == dtype
    assert np.array_equal(photo.pixels, pixels)


@pytest.mark.parametrize("suffix", ["jpg", "webp", "heic"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_lossy_formats_are_close(tmp_path: Path, suffix: str, dtype: type) -> None:
    path = tmp_path / f"a.{suffix}"
    pixels = picture(300, 400)
    write_photo(path, pixels if dtype == np.uint8 else pixels.astype(np.uint16) * 257, NONE)
    photo = read_photo(path)
    assert photo.header.bit_depth == (10 if suffix == "heic" and dtype == np.uint16 else 8)
    assert np.abs(photo.pixels / photo.max_value - pixels / 255).mean() < 0.004


def test_webp_of_quality_100_is_lossless(tmp_path: Path) -> None:
    write_photo(tmp_path / "a.webp", noise(np.uint8), NONE, quality=100)
    assert np.array_equal(read_photo(tmp_path / "a.webp").pixels, noise(np.uint8))


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_the_depth_can_be_changed_both_ways(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    write_photo(path, noise(np.uint16), NONE, bit_depth=8)
    assert np.array_equal(in_opencv(path), np.round(noise(np.uint16) / 257).astype(np.uint8))
    write_photo(path, noise(np.uint8), NONE, bit_depth=16)
    assert np.array_equal(in_opencv(path), noise(np.uint8).astype(np.uint16) * 257)


def test_quality_decides_size_and_subsampling_of_a_jpeg(tmp_path: Path) -> None:
    sizes = []
    for quality, sampling in ((None, (1, 1)), (90, (1, 1)), (80, (2, 2))):
        path = tmp_path / f"{quality}.jpg"
        sizes.append(write_photo(path, noise(np.uint8, 200, 200), NONE, quality=quality))
        with Image.open(path) as image:
            assert image.layer[0][1:3] == sampling  # type: ignore[attr-defined]
    assert sizes == sorted(sizes, reverse=True)


def test_a_heic_of_many_tiles_is_whole(tmp_path: Path) -> None:
    pixels = picture(1300, 2100)
    write_photo(tmp_path / "a.heic", pixels, NONE)
    photo = read_photo(tmp_path / "a.heic")
    assert photo.pixels.shape == pixels.shape
    assert np.abs(photo.pixels.astype(int) - pixels).max() < 12


def test_a_view_of_a_larger_array_is_written_as_seen(tmp_path: Path) -> None:
    view = noise(np.uint8, 80, 90)[::-2, 5:70, ::-1]
    for suffix in ("png", "tif"):
        write_photo(tmp_path / f"a.{suffix}", view, NONE)
        assert np.array_equal(read_photo(tmp_path / f"a.{suffix}").pixels, view)


def test_beyond_4_gb_a_tiff_is_a_big_tiff(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "_CLASSIC_TIFF", 1000)  # the same path at a size that can be run
    path = tmp_path / "a.tif"
    metadata = read_header(DATA / "apple_iphone_6.jpg").metadata
    write_photo(path, noise(np.uint16, 600, 500), metadata)
    assert path.read_bytes()[:4] == b"MM\0+"
    photo = read_photo(path)
    assert np.array_equal(photo.pixels, noise(np.uint16, 600, 500))
    assert np.array_equal(in_opencv(path), noise(np.uint16, 600, 500))
    assert photo.header.capture == read_header(DATA / "apple_iphone_6.jpg").capture


# --- what cannot be written ---


def test_the_suffix_or_the_format_decides(tmp_path: Path) -> None:
    for name, format in (("a.JPG", None), ("a.jpeg", "jpg"), ("a", "png"), ("a.heif", None)):
        write_photo(tmp_path / name, picture(), NONE, format=format)
        expected = {"a": "png", "a.heif": "heic"}.get(name, "jpeg")
        assert read_header(tmp_path / name).format == expected
    assert {".png", ".jpg", ".tif", ".webp", ".heic"} < WRITE_SUFFIXES


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("a.gif", {}, "write PNG, JPEG, TIFF, WebP or HEIC"),
        ("a.avif", {}, "write PNG, JPEG, TIFF, WebP or HEIC"),
        ("a", {}, "write PNG, JPEG, TIFF, WebP or HEIC"),
        ("a.png", {"format": "bmp"}, "'bmp' is not written"),
        ("a.png", {"format": "jpeg"}, "make them agree"),
        ("a.jpg", {"bit_depth": 16}, "JPEG has no 16 bits: ask for 8"),
        ("a.webp", {"bit_depth": 16}, "WebP has no 16 bits: ask for 8"),
        ("a.heic", {"bit_depth": 16}, "HEIC has no 16 bits: ask for 8 or 10"),
        ("a.png", {"bit_depth": 10}, "PNG has no 10 bits: ask for 8 or 16"),
        ("a.jpg", {"quality": 0}, "give 1 to 100"),
        ("a.jpg", {"quality": 101}, "give 1 to 100"),
    ],
)
def test_what_does_not_exist_is_wrong_usage(
    tmp_path: Path, name: str, options: dict[str, object], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        write_photo(tmp_path / name, picture(), NONE, **options)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "width"), [("a.jpg", 65_501), ("a.webp", 16_384)])
def test_sides_beyond_a_format_say_which_to_take(tmp_path: Path, name: str, width: int) -> None:
    with pytest.raises(OutputError, match="write a PNG or TIFF"):
        write_photo(tmp_path / name, np.zeros((2, width, 3), np.uint8), NONE)
    assert list(tmp_path.iterdir()) == []


# --- whole or absent ---


FULL_DISK = """
import resource, sys
import numpy as np
from dualsr_cli.errors import OutputError
from dualsr_cli.photos import Metadata, write_photo

pixels = np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)
# No file may grow beyond 4000 bytes, which is what a full disk looks like to a program.
resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))
try:
    write_photo(sys.argv[1], pixels, Metadata())
except OutputError as error:
    print(error.path, error)
"""


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_disk_that_takes_no_more_leaves_what_was_there(tmp_path: Path, suffix: str) -> None:
    """In a process of its own: the limit would hold for the file that the tests' log goes to."""
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(b"old")
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, path], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith(f"{path} {path} cannot be written")
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == b"old"


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 KB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    try:
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("only root may mount a disk")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_full_disk_gets_its_sentence(full_disk: Path, suffix: str) -> None:
    with pytest.raises(OutputError, match="the disk is full; free some space"):
        write_photo(full_disk / f"a.{suffix}", noise(np.uint8, 500, 500), NONE)
    assert list(full_disk.iterdir()) == []


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="it is a folder"):
        write_photo(tmp_path, picture(), NONE, format="png")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match="cannot be written"):
        write_photo(tmp_path / "file" / "a.png", picture(), NONE)


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="needs Unix users")
def test_a_folder_of_somebody_else_gets_its_sentence() -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o555)
        user = os.geteuid()
        if user == 0:
            os.seteuid(65534)  # root may write everywhere
        try:
            with pytest.raises(OutputError, match="permission denied"):
                write_photo(folder / "a.png", picture(), NONE)
        finally:
            os.seteuid(user)
        assert list(folder.iterdir()) == []


_KILLED = """
import sys
from pathlib import Path
import numpy as np
from benchmarks._kill_points import killed_at
from dualsr_cli.photos import Metadata, write_photo
import pyvips, pillow_heif

old = b"the old file"
pixels = np.random.default_rng(0).integers(0, 255, (250, 200, 3), np.uint8)
for path in map(Path, sys.argv[1:]):
    killed, step = True, 0
    while killed:
        path.write_bytes(old)
        killed = killed_at(step, lambda: write_photo(path, pixels, Metadata()) and 0)
        content = path.read_bytes()
        print(path.suffix, step if killed else "whole", "old" if content == old else len(content))
        step += 1
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs Unix processes")
def test_a_kill_at_any_moment_leaves_the_old_file_or_the_new_one(
    tmp_path: Path, repository: Path
) -> None:
    paths = [tmp_path / f"a.{suffix}" for suffix in FORMATS]
    command = [sys.executable, "-c", _KILLED, *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=repository)
    lines = [line.split() for line in done.stdout.splitlines()]
    for path in paths:
        *killed, whole = (line[1:] for line in lines if line[0] == path.suffix)
        assert whole[0] == "whole"
        assert len(killed) >= 6
        assert {content for _, content in killed} <= {"old", whole[1]}
        assert read_photo(path).pixels.shape == (250, 200, 3)


def test_the_same_pixels_give_the_same_bytes(tmp_path: Path) -> None:
    metadata = read_header(DATA / "apple_iphone_6.jpg").metadata
    for suffix in FORMATS:
        one, two = tmp_path / f"1.{suffix}", tmp_path / f"2.{suffix}"
        for path in (one, two):
            write_photo(path, noise(np.uint8, 900, 700), metadata)
        assert one.read_bytes() == two.read_bytes(), suffix


def test_pillow_reads_what_is_written(tmp_path: Path) -> None:
    for suffix in ("png", "jpg", "tif", "webp"):
        path = tmp_path / f"a.{suffix}"
        write_photo(path, picture(), read_header(DATA / "sony_dsc_g1.jpg").metadata)
        with Image.open(io.BytesIO(path.read_bytes())) as image:
            assert np.abs(np.asarray(image).astype(int) - picture()).mean() < 2
            assert image.getexif()[0x110] == "DSC-G1"
