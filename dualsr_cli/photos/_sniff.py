"""What a file is by its content, and whether it is worth opening."""

from __future__ import annotations

import mmap
import os
import struct
from pathlib import Path

from dualsr_cli.errors import InputError
from dualsr_cli.files import input_file
from dualsr_cli.photos._tiff import Tiff

MAX_PIXELS = 220_000_000  # 200-MP phones (16320 x 12240) with some room
MAX_SIDE = 40_000  # pixels

NAMES = {
    "jpeg": "JPEG",
    "png": "PNG",
    "tiff": "TIFF",
    "heic": "HEIC",
    "webp": "WebP",
    "avif": "AVIF",
    "dng": "DNG",
}
FORMATS_BY_SUFFIX = {
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
    ".jpe": "jpeg",
    ".mpo": "jpeg",
    ".png": "png",
    ".tif": "tiff",
    ".tiff": "tiff",
    ".heic": "heic",
    ".heif": "heic",
    ".hif": "heic",
    ".webp": "webp",
    ".avif": "avif",
    ".dng": "dng",
}

BT2020 = 9  # code points of ITU-T H.273
HDR_TRANSFERS = (16, 18)  # PQ, HLG

_PREFIXES = {
    b"\xff\xd8\xff": "jpeg",
    b"\x89PNG\r\n\x1a\n": "png",
    b"II*\0": "tiff",
    b"MM\0*": "tiff",
    b"II+\0": "tiff",
    b"MM\0+": "tiff",
}
_REFUSED_PREFIXES = {
    b"GIF8": "a GIF, which has 256 colours at most",
    b"BM": "a BMP file",
    b"%PDF": "a PDF document",
    b"\xff\x0a": "a JPEG XL file",
    b"\0\0\0\x0cJXL ": "a JPEG XL file",
    b"\0\0\0\x0cjP  ": "a JPEG 2000 file",
    b"8BPS": "a Photoshop document",
}
_SEQUENCES = {b"avis": "AVIF", b"msf1": "HEIC", b"hevc": "HEIC", b"hevx": "HEIC"}
_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"mif1", b"mif2"}
_EXTENT_BOX = b"\0\0\0\x14ispe\0\0\0\0"  # its length, name and version; the size follows
_BOXES = 1 << 16  # bytes from the start in which HEIF properties are looked for
_USE = "use a JPEG, PNG, TIFF, HEIC, WebP, AVIF or DNG photo"


def open_file(path: Path) -> mmap.mmap:
    """Map a file into memory, read-only. Raises InputError for what is not a readable file."""
    with input_file(path) as file:
        if os.fstat(file.fileno()).st_size == 0:
            raise InputError(path, "is empty (0 bytes): copy it again from the phone")
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def sniff(path: Path, data: mmap.mmap) -> str:
    """The format by content. Raises InputError for everything that is not a photo format."""
    head = data[:64]
    for prefix, name in _PREFIXES.items():
        if head.startswith(prefix):
            return name
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    if head[4:8] == b"ftyp":
        return _sniff_boxes(path, head)
    text = head.decode("utf-8", "ignore")  # the cut at 64 bytes may have halved a character
    if (
        text
        and len(text.encode()) > len(head) - 4
        and all(c.isprintable() or c.isspace() for c in text)
    ):
        raise InputError(path, f"is a text file, not a photo: {_USE}")
    for prefix, what in _REFUSED_PREFIXES.items():
        if head.startswith(prefix):
            raise InputError(path, f"is {what}: {_USE}")
    raise InputError(path, f"is not a photo in a known format: {_USE}")


def _sniff_boxes(path: Path, head: bytes) -> str:
    major = head[8:12]
    size = min(struct.unpack(">I", head[:4])[0], len(head))
    brands = {major, *(head[at : at + 4] for at in range(16, size - 3, 4))}
    if major in _SEQUENCES:
        raise InputError(
            path, f"is animated (an {_SEQUENCES[major]} sequence): export one picture of it"
        )
    if b"avif" in brands:
        return "avif"
    if brands & _HEIF_BRANDS:
        return "heic"
    raise InputError(path, f"is a video, not a photo: {_USE}")


def check_size(path: Path, width: int, height: int) -> None:
    """Refuse a size before anything is decoded. Raises InputError."""
    if width <= 0 or height <= 0:
        raise InputError(path, f"has no pixels ({width} x {height}): export it again")
    if max(width, height) > MAX_SIDE:
        raise InputError(
            path,
            f"is {width} x {height} pixels: sides over {MAX_SIDE} are refused; scale it down",
        )
    if width * height > MAX_PIXELS:
        raise InputError(
            path,
            f"has {width * height / 1e6:.0f} megapixels ({width} x {height}): "
            f"over {MAX_PIXELS / 1e6:.0f} are refused; scale it down",
        )


def check_declared_size(path: Path, name: str, data: mmap.mmap) -> None:
    """Check the size that a header declares, also where no decoder would open it."""
    if name in ("heic", "avif"):
        at = data.find(_EXTENT_BOX, 0, _BOXES)
        while at >= 0 and at + 20 <= len(data):
            check_size(path, *struct.unpack(">II", data[at + 12 : at + 20]))
            at = data.find(_EXTENT_BOX, at + 20, _BOXES)
    if name == "png" and data[12:16] == b"IHDR" and len(data) >= 24:
        check_size(path, *struct.unpack(">II", data[16:24]))
    if name == "jpeg":
        for marker, start, end in jpeg_segments(data):
            if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC) and end - start >= 6:
                height, width = struct.unpack(">HH", data[start + 1 : start + 5])
                check_size(path, width, height)
                return


def jpeg_segments(data: mmap.mmap | bytes) -> list[tuple[int, int, int]]:
    """(marker, start, end) of the payloads of a JPEG's segments up to its first scan."""
    segments = []
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        if marker == 0xDA or marker == 0xD9:
            break
        (length,) = struct.unpack(">H", data[at + 2 : at + 4])
        if length < 2 or at + 2 + length > len(data):
            break
        segments.append((marker, at + 4, at + 2 + length))
        at += 2 + length
    return segments


def png_is_animated(data: mmap.mmap | bytes) -> bool:
    """Whether a PNG announces frames (acTL) before its pixels."""
    at = 8
    while at + 8 <= len(data) and data[at + 4 : at + 8] != b"IDAT":
        if data[at + 4 : at + 8] == b"acTL":
            return True
        at += 12 + int(struct.unpack(">I", data[at : at + 4])[0])
    return False


def colour_code_points(data: mmap.mmap | bytes) -> tuple[int, int]:
    """(primaries, transfer) that a HEIF or AVIF states as numbers; (2, 2), unspecified, if none."""
    at = data.find(b"colrnclx", 0, _BOXES)
    if at < 0 or at + 12 > len(data):
        return 2, 2
    primaries, transfer = struct.unpack(">HH", data[at + 8 : at + 12])
    return primaries, transfer


def is_dng(tiff: Tiff) -> bool:
    """Whether a TIFF structure is a DNG (it has a DNGVersion)."""
    return 0xC612 in tiff.directory(tiff.first).entries
