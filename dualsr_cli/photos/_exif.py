"""EXIF blocks: what a result's block says, and blocks taken out of TIFF files.

Source: Exif 2.32 (CIPA DC-008), section 4.5.
"""

from __future__ import annotations

import re
import struct
from dataclasses import replace

from dualsr_cli.photos import _tiff
from dualsr_cli.photos._tiff import (
    EXIF_POINTER,
    GPS_POINTER,
    INTEROP_POINTER,
    BrokenTiff,
    Directory,
    Field,
    Tiff,
)
from dualsr_cli.photos.photo import Metadata

IMAGE_WIDTH, IMAGE_LENGTH, ORIENTATION, SOFTWARE = 0x100, 0x101, 0x112, 0x131
MAKER_NOTE = 0x927C
XMP, IPTC, PHOTOSHOP, ICC = 700, 33723, 34377, 34675

# Tags that say how a TIFF file stores its pixels, or that have a place of their own in Metadata;
# from 0xC612 on they belong to DNG.
# fmt: off
STORAGE = frozenset((
    254, 255, 256, 257, 258, 259, 262, 263, 264, 265, 266, 273, 277, 278, 279, 280, 281, 284, 288,
    289, 290, 291, 292, 293, 301, 317, 320, 321, 322, 323, 324, 325, 330, 332, 338, 339, 340, 341,
    342, 347, 512, 513, 514, 515, 519, 520, 521, 529, 530, 532, XMP, IPTC, PHOTOSHOP, ICC,
    0x828D, 0x828E, *range(0xC612, 0xC7F0), *range(0xCD2D, 0xCD50),
))
# fmt: on

_THUMBNAIL_PLACES = ((0x201, 0x202), (0x111, 0x117))  # (offset, length): JPEG, plain strip
_FARTHEST_MAKER_NOTE = 32_768  # bytes; padding up to there costs half of what a JPEG can hold


def is_sound(exif: bytes) -> bool:
    """Whether the block has a first directory that can be read."""
    try:
        tiff = Tiff(exif)
        tiff.directory(tiff.first)
    except BrokenTiff:
        return False
    return not tiff.big


def orientation(exif: bytes | None) -> int:
    """The orientation that a block asks for, 1..8; 1 where it says nothing."""
    if not exif or not is_sound(exif):
        return 1
    tiff = Tiff(exif)
    value = tiff.number(tiff.directory(tiff.first), ORIENTATION)
    return value if value is not None and 1 <= value <= 8 else 1


def result_metadata(metadata: Metadata, width: int, height: int, software: str) -> Metadata:
    """The metadata of a `width` x `height` result made from a photo that had `metadata`.

    The orientation is reset to 1, the sizes are updated, `software` ("dualsr 1.2") is noted and the
    thumbnail, which shows the old picture, is dropped. Every other byte of the EXIF block stays
    where it was, so that maker notes, whose offsets count from the block's start, stay readable.
    An EXIF block that is absent or beyond reading becomes one that names the software.
    """
    if metadata.exif and is_sound(metadata.exif):
        exif = _result_exif(metadata.exif, width, height, software)
    else:
        exif = _block({SOFTWARE: _tiff.text(software)}, "<")
    return replace(metadata, exif=exif, xmp=_result_xmp(metadata.xmp, width, height))


def _result_exif(exif: bytes, width: int, height: int, software: str) -> bytes:
    tiff = Tiff(exif)
    main = tiff.directory(tiff.first)
    detail = tiff.child(main, EXIF_POINTER)
    interop = tiff.child(detail, INTEROP_POINTER) if detail else None
    result = bytearray(exif)

    def put(directory: Directory | None, tag: int, code: str, value: int) -> None:
        if directory and (entry := directory.entries.get(tag)):
            kind = _tiff.SHORT if code == "H" else _tiff.LONG
            record = struct.pack(f"{tiff.order}HHI{code}", tag, kind, 1, value)
            result[entry.at : entry.at + 12] = record.ljust(12, b"\0")

    put(main, ORIENTATION, "H", 1)
    for directory, width_tag, height_tag in (
        (main, IMAGE_WIDTH, IMAGE_LENGTH),
        (detail, 0xA002, 0xA003),
        (interop, 0x1001, 0x1002),
    ):
        put(directory, width_tag, "I", width)
        put(directory, height_tag, "I", height)

    result[main.end - 4 : main.end] = bytes(4)  # no further directory: that was the thumbnail's
    _clear_thumbnail(result, tiff, main)
    _note_software(result, tiff, main, software)
    return bytes(result)


def _clear_thumbnail(result: bytearray, tiff: Tiff, main: Directory) -> None:
    """Zero what only the thumbnail's directories use; cut it off where it is the block's end."""
    detail = tiff.child(main, EXIF_POINTER)
    kept_directories = [main, detail, tiff.child(main, GPS_POINTER)]
    if detail:
        kept_directories.append(tiff.child(detail, INTEROP_POINTER))
    kept = [span for directory in kept_directories if directory for span in _spans(directory)]
    stale = []
    for directory in tiff.chain(main.next):
        stale += _spans(directory)
        for offset_tag, length_tag in _THUMBNAIL_PLACES:
            start, length = tiff.number(directory, offset_tag), tiff.number(directory, length_tag)
            if start and length:
                stale.append((start, min(start + length, len(result))))
    stale = [
        (start, end)
        for start, end in stale
        if start >= 8 and all(end <= first or start >= last for first, last in kept)
    ]
    for start, end in stale:
        result[start:end] = bytes(max(end - start, 0))
    for start, end in sorted(stale, key=lambda span: span[1], reverse=True):
        if start < len(result) and not any(result[end:]):
            del result[start:]


def _spans(directory: Directory) -> list[tuple[int, int]]:
    """Where a directory and its values lie."""
    return [
        (directory.start, directory.end),
        *((entry.start, entry.end) for entry in directory.entries.values()),
    ]


def _note_software(result: bytearray, tiff: Tiff, main: Directory, software: str) -> None:
    """Set the Software entry; a directory that has none is written anew at the block's end."""
    value = software.encode() + b"\0"
    result += bytes(len(result) % 2)
    record = struct.pack(f"{tiff.order}HHI", SOFTWARE, _tiff.ASCII, len(value))
    if len(value) <= 4:
        record += value.ljust(4, b"\0")
    else:
        record += struct.pack(tiff.order + "I", len(result))
        result += value + bytes(len(value) % 2)
    entry = main.entries.get(SOFTWARE)
    if entry:
        result[entry.at : entry.at + 12] = record
        return
    old = bytes(result[main.start + 2 : main.end - 4])
    records = [old[at : at + 12] for at in range(0, len(old), 12)] + [record]
    records.sort(key=lambda one: struct.unpack(tiff.order + "H", one[:2]))
    struct.pack_into(tiff.order + "I", result, 4, len(result))
    result += struct.pack(tiff.order + "H", len(records)) + b"".join(records) + bytes(4)


def _result_xmp(xmp: bytes | None, width: int, height: int) -> bytes | None:
    """Set orientation and sizes where the packet states them, as attributes or as elements."""
    for names, value in (
        (rb"tiff:Orientation", 1),
        (rb"tiff:ImageWidth|exif:PixelXDimension", width),
        (rb"tiff:ImageLength|exif:PixelYDimension", height),
    ):
        pattern = rb"((?:" + names + rb")(?:\s*=\s*[\"']|\s*>\s*))\d+"
        xmp = xmp and re.sub(pattern, rb"\g<1>%d" % value, xmp)
    return xmp


def tree(tiff: Tiff, main: Directory) -> dict[int, Field]:
    """The fields of EXIF (first directory without STORAGE, Exif, GPS, interoperability)."""
    fields = _loose(tiff, main)
    for pointer in (EXIF_POINTER, GPS_POINTER):
        child = tiff.child(main, pointer)
        if child is None:
            continue
        below = _loose(tiff, child)
        interop = tiff.child(child, INTEROP_POINTER)
        if interop:
            below[INTEROP_POINTER] = Field(_tiff.LONG, 1, _loose(tiff, interop))
        fields[pointer] = Field(_tiff.LONG, 1, below)
    return fields


def _loose(tiff: Tiff, directory: Directory) -> dict[int, Field]:
    pointers = (EXIF_POINTER, GPS_POINTER, INTEROP_POINTER)
    return {
        tag: field
        for tag, field in tiff.fields(directory).items()
        if tag not in STORAGE and tag not in pointers and field.type < _tiff.LONG8
    }


def of_tiff_file(tiff: Tiff, main: Directory) -> Metadata:
    """The metadata of a TIFF or DNG file; its EXIF becomes a block of its own."""
    iptc = tiff.value(main, PHOTOSHOP)
    record = tiff.value(main, IPTC)
    if iptc is None and record is not None:
        size = struct.pack(">I", len(record))
        iptc = b"8BIM\x04\x04\0\0" + size + record + bytes(len(record) % 2)
    fields = tree(tiff, main)
    return Metadata(
        exif=_block(fields, tiff.order, _maker_note_place(tiff)) if fields else None,
        icc=tiff.value(main, ICC),
        xmp=tiff.value(main, XMP),
        iptc=iptc,
    )


def fitting(exif: bytes, limit: int) -> bytes:
    """The block in at most `limit` bytes: where it is larger, its largest values are left out.

    That is first the maker note or a preview in it, while camera, time and place stay.
    """
    if len(exif) <= limit:
        return exif
    tiff = Tiff(exif)
    fields = tree(tiff, tiff.directory(tiff.first))
    place = _maker_note_place(tiff)
    while (excess := len(block := _block(fields, tiff.order, place)) - limit) > 0:
        _drop_largest(fields, excess)
    return block


def _drop_largest(fields: dict[int, Field], excess: int) -> None:
    """Take out the largest values until they come to `excess` bytes, and one at least."""
    directories = [fields]
    for directory in directories:  # grows while it is walked
        directories += [f.value for f in directory.values() if isinstance(f.value, dict)]
    leaves = [
        (len(field.value), index, tag)
        for index, directory in enumerate(directories)
        for tag, field in directory.items()
        if isinstance(field.value, bytes)
    ]
    for size, index, tag in sorted(leaves, reverse=True):
        if excess > 0:
            del directories[index][tag]
            excess -= size + 12


def _maker_note_place(tiff: Tiff) -> int | None:
    """Where the maker note lies in the data, if a block could keep it there."""
    detail = tiff.child(tiff.directory(tiff.first), EXIF_POINTER)
    note = detail and detail.entries.get(MAKER_NOTE)
    return note.start if note and 8 <= note.start <= _FARTHEST_MAKER_NOTE else None


def _block(fields: dict[int, Field], order: str, note_place: int | None = None) -> bytes:
    """An EXIF block with these fields, the maker note at `note_place` of it."""
    block = bytearray(8)
    detail = fields.get(EXIF_POINTER)
    below = detail.value if detail else {}
    if note_place is not None and isinstance(below, dict) and MAKER_NOTE in below:
        note = below[MAKER_NOTE]
        assert isinstance(note.value, bytes)
        block += bytes(note_place - 8) + note.value
        placed = {**below, MAKER_NOTE: replace(note, place=note_place)}
        fields = {**fields, EXIF_POINTER: Field(_tiff.LONG, 1, placed)}
    first = _tiff.append_directory(block, fields, order)
    block[:8] = _tiff.header(order, first)
    return bytes(block)
