"""The TIFF structure (directories of tagged fields) that TIFF files, DNG and EXIF share.

Source: TIFF 6.0, section 2; BigTIFF as in libtiff. Everything read is checked against the data's
bounds, and what lies outside is left out. Loops end because no directory is entered twice; many
entries that share one large value end at a limit on what is taken out.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass

Data = bytes | bytearray | mmap.mmap

BYTE, ASCII, SHORT, LONG, RATIONAL, UNDEFINED, LONG8 = 1, 2, 3, 4, 5, 7, 16
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_SIZES |= {16: 8, 17: 8, 18: 8}

_MOST_ENTRIES = 1024  # of a directory; cameras write some hundred
_MOST_DIRECTORIES = 4  # of a chain that are looked at
_MOST_BYTES = 64 << 20  # of a directory's values together

_WHOLE = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}

EXIF_POINTER, GPS_POINTER, INTEROP_POINTER = 0x8769, 0x8825, 0xA005


class BrokenTiff(ValueError):
    """The data is not a TIFF structure, or a directory lies outside it."""


@dataclass(frozen=True)
class Entry:
    """A field as it lies in the data: its record at `at`, its value at `start`..`end`."""

    tag: int
    type: int
    count: int
    at: int
    start: int
    end: int


@dataclass(frozen=True)
class Directory:
    """Entries by tag; `start`..`end` is the directory itself, `next` the offset of the next one."""

    entries: dict[int, Entry]
    start: int
    end: int
    next: int


class Tiff:
    """A bounds-checked view of TIFF-structured data. Raises BrokenTiff."""

    def __init__(self, data: Data) -> None:
        self.data = data
        if data[:2] not in (b"II", b"MM"):
            raise BrokenTiff("no byte order mark")
        self.order = "<" if data[:2] == b"II" else ">"
        magic = self.unpack("H", 2)[0]
        if magic not in (42, 43):
            raise BrokenTiff("no magic number")
        self.big = magic == 43
        self.first: int = self.unpack("Q", 8)[0] if self.big else self.unpack("I", 4)[0]

    def unpack(self, codes: str, at: int) -> tuple[int, ...]:
        end = at + struct.calcsize(self.order + codes)
        if at < 0 or end > len(self.data):
            raise BrokenTiff("ends too early")
        return struct.unpack(self.order + codes, self.data[at:end])

    def directory(self, start: int) -> Directory:
        """The directory at `start`; entries whose type or place is impossible are left out."""
        count_code, record, inline = ("Q", 20, 8) if self.big else ("H", 12, 4)
        (count,) = self.unpack(count_code, start)
        first = start + struct.calcsize(count_code)
        end = first + count * record + inline
        if count > _MOST_ENTRIES or end > len(self.data):
            raise BrokenTiff("a directory lies outside the data")
        entries: dict[int, Entry] = {}
        for at in range(first, first + count * record, record):
            tag, kind, number = self.unpack("HHQ" if self.big else "HHI", at)
            size = _SIZES.get(kind, 0) * number
            place = at + record - inline
            if size > inline:
                (place,) = self.unpack("Q" if self.big else "I", place)
            if size > 0 and place + size <= len(self.data):
                entries.setdefault(tag, Entry(tag, kind, number, at, place, place + size))
        (following,) = self.unpack("Q" if self.big else "I", end - inline)
        return Directory(entries, start, end, following)

    def chain(self, start: int) -> Iterator[Directory]:
        """The first directories linked from `start` on, up to a broken or repeated one."""
        seen: set[int] = set()
        while start and start not in seen and len(seen) < _MOST_DIRECTORIES:
            seen.add(start)
            try:
                directory = self.directory(start)
            except BrokenTiff:
                return
            yield directory
            start = directory.next

    def child(self, parent: Directory, pointer: int) -> Directory | None:
        """The directory that the entry `pointer` of `parent` points to; None if there is none."""
        place = self.number(parent, pointer)
        try:
            return self.directory(place) if place else None
        except BrokenTiff:
            return None

    def value(self, directory: Directory, tag: int) -> bytes | None:
        """The bytes of a field's value, in the data's byte order."""
        entry = directory.entries.get(tag)
        return None if entry is None else bytes(self.data[entry.start : entry.end])

    def number(self, directory: Directory, tag: int) -> int | None:
        """The first value of a field of whole numbers."""
        entry = directory.entries.get(tag)
        if entry is None or entry.type not in _WHOLE:
            return None
        return self.unpack(_WHOLE[entry.type], entry.start)[0]

    def fields(self, directory: Directory) -> dict[int, Field]:
        """The fields of a directory as loose values."""
        fields: dict[int, Field] = {}
        left = _MOST_BYTES
        for entry in directory.entries.values():
            left -= entry.end - entry.start
            if left < 0:
                break
            value = bytes(self.data[entry.start : entry.end])
            fields[entry.tag] = Field(entry.type, entry.count, value)
        return fields


@dataclass(frozen=True)
class Field:
    """A field to be written: its value's bytes in the target's byte order, or a sub-directory."""

    type: int
    count: int
    value: bytes | dict[int, Field]
    place: int | None = None  # where the value already lies in the target


def numbers(order: str, kind: int, *values: int) -> Field:
    """A field of SHORT, LONG or LONG8 values."""
    code = {SHORT: "H", LONG: "I", LONG8: "Q"}[kind]
    return Field(kind, len(values), struct.pack(f"{order}{len(values)}{code}", *values))


def text(value: str) -> Field:
    """An ASCII field (UTF-8 where that is not enough, as most readers expect)."""
    encoded = value.encode() + b"\0"
    return Field(ASCII, len(encoded), encoded)


def blob(value: bytes, kind: int = UNDEFINED) -> Field:
    """A field of plain bytes."""
    return Field(kind, len(value), value)


def header(order: str, first: int, *, big: bool = False) -> bytes:
    """The first 8 (BigTIFF: 16) bytes, pointing to the first directory."""
    mark = b"II" if order == "<" else b"MM"
    if big:
        return mark + struct.pack(order + "HHHQ", 43, 8, 0, first)
    return mark + struct.pack(order + "HI", 42, first)


def append_directory(
    data: bytearray, fields: dict[int, Field], order: str, *, base: int = 0, big: bool = False
) -> int:
    """Append a directory, its values before it, and return its offset.

    Offsets count from `base` bytes before the start of `data`.
    """
    pointer_code, inline = ("Q", 8) if big else ("I", 4)
    records = []
    for tag, field in sorted(fields.items()):
        value = field.value
        if not isinstance(value, bytes):
            place = append_directory(data, value, order, base=base, big=big)
            value = struct.pack(order + pointer_code, place)
            field = Field(LONG8 if big else LONG, 1, value)
        if field.place is not None and len(value) > inline:
            value = struct.pack(order + pointer_code, field.place)
        elif len(value) > inline:
            data += bytes(len(data) % 2)  # values begin on even offsets
            place = base + len(data)
            data += value
            value = struct.pack(order + pointer_code, place)
        records.append(
            struct.pack(f"{order}HH{pointer_code}", tag, field.type, field.count)
            + value.ljust(inline, b"\0")
        )
    data += bytes(len(data) % 2)
    place = base + len(data)
    data += struct.pack(order + ("Q" if big else "H"), len(records))
    data += b"".join(records) + bytes(inline)
    return place
