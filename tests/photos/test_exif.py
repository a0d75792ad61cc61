"""The EXIF block of a result: changed in place, and never past its bounds."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import exifread
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dualsr_cli.photos import Metadata, parse_capture, read_header, result_metadata, write_photo

from .conftest import DATA, picture

PHONES = sorted(DATA.glob("*.jpg"))


def exif_of(name: str) -> bytes:
    exif = read_header(DATA / name).metadata.exif
    assert exif is not None
    return exif


def result_of(exif: bytes, software: str = "dualsr 9.9") -> bytes:
    exif_out = result_metadata(Metadata(exif=exif), 8000, 6000, software).exif
    assert exif_out is not None
    return exif_out


@pytest.mark.parametrize("phone", PHONES, ids=lambda path: path.stem)
def test_values_stay_where_they_were(phone: Path) -> None:
    """Maker notes count their offsets from the block's start: no kept byte may move."""
    before = exif_of(phone.name)
    after = result_of(before)
    tags = exifread.process_file(io.BytesIO(before), extract_thumbnail=False)
    changed = {0x112, 0x131, 0x100, 0x101, 0xA002, 0xA003, 0x1001, 0x1002}
    kept = [
        tag
        for name, tag in tags.items()
        if name.startswith(("Image", "EXIF", "GPS", "Interop")) and tag.tag not in changed
    ]
    assert len(kept) > 25
    note = [tag for name, tag in tags.items() if name == "EXIF MakerNote"]
    assert note
    for tag in kept:
        size = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 7: 1, 9: 4, 10: 8}[int(tag.field_type)]
        span = slice(tag.field_offset, tag.field_offset + tag.field_length)
        assert size and after[span] == before[span], tag


@pytest.mark.parametrize("phone", PHONES, ids=lambda path: path.stem)
def test_the_thumbnail_is_gone_and_the_block_smaller(phone: Path) -> None:
    before = exif_of(phone.name)
    after = result_of(before)
    thumbnail = before[before.index(b"\xff\xd8\xff") :][:1000]
    assert thumbnail not in after
    assert len(after) < len(before)


@pytest.mark.parametrize("phone", PHONES, ids=lambda path: path.stem)
def test_once_more_changes_nothing_but_adds_no_harm(phone: Path) -> None:
    once = result_of(exif_of(phone.name))
    twice = result_of(once)
    assert parse_capture(twice) == parse_capture(once)
    assert parse_capture(once).orientation == 1


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("software", ["d", "dualsr 9.9", "x" * 400])
def test_software_is_added_where_there_was_none(order: str, software: str) -> None:
    mark = {"<": b"II", ">": b"MM"}[order]
    records = struct.pack(order + "HHIHH", 0x112, 3, 1, 6, 0)
    records += struct.pack(order + "HHI4s", 0x9999, 2, 4, b"abc")
    exif = mark + struct.pack(order + "HIH", 42, 8, 2) + records + bytes(4)
    tags = exifread.process_file(io.BytesIO(result_of(exif, software)), details=False)
    assert tags["Image Software"].values == software
    assert tags["Image Orientation"].values == [1]
    assert tags["Image Tag 0x9999"].values == "abc"


@pytest.mark.parametrize(
    "exif",
    [
        b"",
        b"II*\0",
        b"II*\0\xff\xff\xff\xff",
        b"MM\0*\0\0\0\x08\xff\xff",
        b"II+\0\x08\0\0\0\x10\0\0\0\0\0\0\0" + bytes(40),
        b"no TIFF at all" * 10,
    ],
)
def test_a_block_beyond_reading_is_replaced(exif: bytes) -> None:
    tags = exifread.process_file(io.BytesIO(result_of(exif)), details=False)
    assert {name: tag.values for name, tag in tags.items()} == {"Image Software": "dualsr 9.9"}


def test_a_block_with_a_thumbnail_only_is_sound() -> None:
    """GIMP writes such: an empty first directory, then that of the thumbnail."""
    stale = struct.pack("<HHII", 0x201, 4, 1, 44) + struct.pack("<HHII", 0x202, 4, 1, 100)
    exif = struct.pack("<2sHIHI", b"II", 42, 8, 0, 14) + struct.pack("<H", 2) + stale + bytes(104)
    tags = exifread.process_file(io.BytesIO(result_of(exif)), details=False)
    assert {name: tag.values for name, tag in tags.items()} == {"Image Software": "dualsr 9.9"}


def test_many_entries_that_share_one_large_value_do_not_fill_the_memory(tmp_path: Path) -> None:
    """60 KB that would unfold to 60 MB in a copy of every value, or to GBs in a TIFF file."""
    records = b"".join(struct.pack("<HHII", 0x9000 + i, 7, 50_000, 8) for i in range(1000))
    exif = struct.pack("<2sHIH", b"II", 42, 8, 1000) + records + bytes(50_000)
    result = result_of(exif)
    assert len(result) < 2 * len(exif)
    for repeats, suffix in ((1, "jpg"), (200, "tif")):
        path = tmp_path / f"a.{suffix}"
        write_photo(path, picture(), Metadata(exif=exif + bytes(50_000 * repeats)))
        assert len(read_header(path).metadata.exif or b"") < 80 << 20


def looping(order: str = "<") -> bytes:
    """A first directory whose Exif pointer, GPS pointer and next directory are itself."""
    records = struct.pack(order + "HHII", 0x8769, 4, 1, 8)
    records += struct.pack(order + "HHII", 0x8825, 4, 1, 8)
    records += struct.pack(order + "HHIHH", 0x112, 3, 1, 6, 0)
    return b"II" + struct.pack(order + "HIH", 42, 8, 3) + records + struct.pack(order + "I", 8)


def test_a_block_that_points_at_itself_ends() -> None:
    tags = parse_capture(result_of(looping()))
    assert tags.orientation == 1


def test_a_thumbnail_that_claims_the_whole_block_clears_nothing_that_is_needed() -> None:
    records = struct.pack("<HHI4s", 0x10F, 2, 4, b"Abc")
    first = struct.pack("<H", 1) + records + struct.pack("<I", 26)
    stale = struct.pack("<HHII", 0x201, 4, 1, 8) + struct.pack("<HHII", 0x202, 4, 1, 999_999)
    exif = struct.pack("<2sHI", b"II", 42, 8) + first + struct.pack("<H", 2) + stale + bytes(4)
    assert parse_capture(result_of(exif)).make == "Abc"


@settings(max_examples=300, deadline=None)
@given(
    phone=st.sampled_from([path.name for path in PHONES]),
    changes=st.lists(st.tuples(st.integers(0, 2500), st.integers(0, 255)), max_size=12),
    length=st.integers(0, 30_000),
)
def test_no_damage_makes_it_fail(phone: str, changes: list[tuple[int, int]], length: int) -> None:
    exif = bytearray(exif_of(phone)[:length])
    for at, value in changes:
        if at < len(exif):
            exif[at] = value
    result = result_of(bytes(exif))
    assert len(result) <= len(exif) + 70_000
    assert parse_capture(result).orientation == 1


def test_random_bytes_behind_a_tiff_header_do_not_make_it_fail() -> None:
    random = np.random.default_rng(11)
    for _ in range(300):
        exif = b"II*\0\x08\0\0\0" + random.bytes(int(random.integers(0, 300)))
        assert result_of(exif)[:2] in (b"II", b"MM")
