"""Makes the sample pairs from the photographs that sample_pairs/README.md names.

    python sample_pairs/make.py FOLDER

FOLDER holds the photographs and their table LICENCES.csv (file, source, licence, ...). Each wide
photo is a whole photograph reduced in size; each tele photo is a part of a photograph at (or near)
its full resolution. The cameras' EXIF goes along; what no longer holds after reducing or cropping
(sizes, zoom, 35-mm equivalent, thumbnail) is brought up to date, and every other byte of it stays
where it was.
"""

from __future__ import annotations

import csv
import struct
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pillow_heif
from PIL import Image

OUT = Path(__file__).parent

# EXIF: the folders (IFDs) of tags that are edited, the tags, and the types of their values.
MAIN, DETAIL = 0, 0x8769
PICTURE_WIDTH, PICTURE_HEIGHT = 0x0100, 0x0101
IMAGE_DESCRIPTION, MAKE, MODEL = 0x010E, 0x010F, 0x0110
DATE_TIME_ORIGINAL, SUB_SECONDS, USER_COMMENT = 0x9003, 0x9291, 0x9286
WIDTH, HEIGHT, DIGITAL_ZOOM, FOCAL_LENGTH_35MM = 0xA002, 0xA003, 0xA404, 0xA405
TEXT, SHORT, LONG, RATIONAL = 2, 3, 4, 5

Changes = dict[int, tuple[int, Any] | None]
"""Tag -> (type, value), or None to leave the tag out."""


@dataclass(frozen=True)
class Sample:
    """One file to make: a box of `source` (in its stored, unrotated pixels), reduced to `size`."""

    file: str
    source: str
    size: tuple[int, int]
    box: tuple[int, int, int, int] | None = None
    zoom: float = 1.0  # what the crop is as a digital zoom
    turn: Image.Transpose | None = None
    quality: int = 92
    main: Changes = field(default_factory=dict)
    detail: Changes = field(default_factory=dict)


# The app that took the photos of Berlin wrote maker, model and time as text into a description,
# along with its user's e-mail address: the former get their own tags, the latter goes.
BERLIN: Changes = {
    IMAGE_DESCRIPTION: None,
    MAKE: (TEXT, "Apple"),
    MODEL: (TEXT, "iPhone 4S"),
}


def taken(time: str, milliseconds: str) -> Changes:
    return {
        USER_COMMENT: None,
        DATE_TIME_ORIGINAL: (TEXT, time),
        SUB_SECONDS: (TEXT, milliseconds),
    }


SHIP = "phones/Samsung_SM-N900A_Galaxy_Note_3_.jpg"
BEACH = "phones/Apple_iPhone_4S.jpg"
FIRST = taken("2014:05:26 12:56:02", "384")
SECOND = taken("2014:05:26 12:56:11", "489")

SAMPLES = [
    Sample("facade/wide.jpg", "berlin/01.jpg", (1632, 1224), main=BERLIN, detail=FIRST),
    Sample(
        "facade/tele.jpg",
        "berlin/02.jpg",
        (1632, 1224),
        box=(900, 240, 2532, 1464),
        zoom=2.0,
        main=BERLIN,
        detail=SECOND,
    ),
    Sample("city/wide.png", "city100/iphone/029L.png", (420, 300)),
    Sample("city/tele.png", "city100/iphone/029H.png", (420, 300), box=(210, 150, 630, 450)),
    Sample("phone-jpeg/wide.jpg", SHIP, (1600, 900)),
    Sample("phone-jpeg/tele.jpg", SHIP, (1600, 900), box=(1100, 640, 2700, 1540), zoom=2.58),
    Sample("phone-heic/wide.heic", BEACH, (1200, 900), quality=70),
    Sample(
        "phone-heic/tele.heic",
        BEACH,
        (1200, 900),
        box=(980, 880, 2180, 1780),
        zoom=2.72,
        quality=70,
    ),
    Sample("statue/wide.jpg", "buddha/00010._c.png", (770, 1368), turn=Image.Transpose.ROTATE_270),
    Sample("statue/tele.jpg", "buddha/00006._c.png", (1168, 770), box=(400, 0, 2736, 1540)),
    Sample("other-scene/wide.jpg", "phones/Sony_DSC-G1.jpg", (1408, 1056)),
    Sample(
        "other-scene/tele.jpg",
        "berlin/02.jpg",
        (1200, 900),
        box=(1100, 400, 2300, 1300),
        zoom=2.72,
        main=BERLIN,
        detail=SECOND,
    ),
]


def make(sample: Sample, folder: Path) -> None:
    with Image.open(folder / sample.source) as photo:
        exif = photo.info.get("exif", b"").removeprefix(b"Exif\0\0")
        icc = photo.info.get("icc_profile")
        picture = photo.convert("RGB").crop(sample.box or (0, 0, *photo.size))
    if sample.turn is not None:
        picture = picture.transpose(sample.turn)
    if picture.size != sample.size:
        picture = picture.resize(sample.size, Image.Resampling.BICUBIC)
    options: dict[str, Any] = {"icc_profile": icc} if icc else {}
    if exif:
        options["exif"] = b"Exif\0\0" + updated_exif(exif, sample)
    if not sample.file.endswith(".png"):
        options |= {"quality": sample.quality, "subsampling": "4:2:0"}
    target = OUT / sample.file
    target.parent.mkdir(exist_ok=True)
    picture.save(target, optimize=True, **options)


def updated_exif(exif: bytes, sample: Sample) -> bytes:
    detail: Changes = {
        WIDTH: (LONG, sample.size[0]),
        HEIGHT: (LONG, sample.size[1]),
        **sample.detail,
    }
    if sample.zoom > 1:
        detail[DIGITAL_ZOOM] = (RATIONAL, (round(sample.zoom * 100), 100))
        focal_length = read_short(exif, DETAIL, FOCAL_LENGTH_35MM)
        if focal_length:
            detail[FOCAL_LENGTH_35MM] = (SHORT, round(focal_length * sample.zoom))
    exif, at = with_tags(exif, offset_of(exif, DETAIL), detail)
    main: Changes = {DETAIL: (LONG, at), **sample.main}
    for tag, length in ((PICTURE_WIDTH, sample.size[0]), (PICTURE_HEIGHT, sample.size[1])):
        if tag in entries(exif, offset_of(exif, MAIN)):
            main[tag] = (LONG, length)
    exif, at = with_tags(exif, offset_of(exif, MAIN), main)
    order = byte_order(exif)
    return exif[:4] + struct.pack(order + "L", at) + exif[8:]


def with_tags(exif: bytes, at: int, changes: Changes) -> tuple[bytes, int]:
    """Append a changed copy of the tag folder at offset `at`; return the new EXIF and its offset.

    Nothing that was there moves, so that offsets inside maker notes stay true. The link to a next
    folder (the thumbnail's) is cut.
    """
    order = byte_order(exif)
    tags = entries(exif, at)
    data = exif + b"\0" * (len(exif) % 2)
    for tag, change in changes.items():
        old = tags.pop(tag, None)
        if change is None:
            data = data if old is None else blanked(data, old)
            continue
        kind, value = change
        raw = encoded(order, kind, value)
        count = len(raw) if kind == TEXT else 1
        if len(raw) > 4:
            place = struct.pack(order + "L", len(data))
            data += raw + b"\0" * (len(raw) % 2)
        else:
            place = raw.ljust(4, b"\0")
        tags[tag] = struct.pack(order + "HHL", tag, kind, count) + place
    folder = b"".join(tags[tag] for tag in sorted(tags))
    return data + struct.pack(order + "H", len(tags)) + folder + bytes(4), len(data)


def blanked(exif: bytes, entry: bytes) -> bytes:
    """`exif` without the text or bytes that the tag `entry` points to."""
    count, at = struct.unpack(byte_order(exif) + "LL", entry[4:])
    return exif[:at] + bytes(count) + exif[at + count :] if count > 4 else exif


def encoded(order: str, kind: int, value: Any) -> bytes:
    if kind == TEXT:
        return str(value).encode("ascii") + b"\0"
    if kind == RATIONAL:
        return struct.pack(order + "LL", *value)
    return struct.pack(order + {SHORT: "H", LONG: "L"}[kind], value)


def entries(exif: bytes, at: int) -> dict[int, bytes]:
    """The 12-byte entries of the tag folder at offset `at`, by tag."""
    order = byte_order(exif)
    (count,) = struct.unpack_from(order + "H", exif, at)
    raw = [exif[at + 2 + 12 * i : at + 14 + 12 * i] for i in range(count)]
    return {struct.unpack(order + "H", entry[:2])[0]: entry for entry in raw}


def offset_of(exif: bytes, folder: int) -> int:
    order = byte_order(exif)
    (main,) = struct.unpack_from(order + "L", exif, 4)
    if folder == MAIN:
        return int(main)
    return int(struct.unpack(order + "L", entries(exif, main)[folder][8:])[0])


def read_short(exif: bytes, folder: int, tag: int) -> int | None:
    entry = entries(exif, offset_of(exif, folder)).get(tag)
    return None if entry is None else int(struct.unpack_from(byte_order(exif) + "H", entry, 8)[0])


def byte_order(exif: bytes) -> str:
    return "<" if exif[:2] == b"II" else ">"


def write_licences(folder: Path) -> None:
    """LICENCES.csv: the row of each sample's source, with the sample's own sizes."""
    with open(folder / "LICENCES.csv", newline="") as file:
        rows = {row["file"]: row for row in csv.DictReader(file)}
    names = [n for n in next(iter(rows.values())) if n != "file"]
    with open(OUT / "LICENCES.csv", "w", newline="") as file:
        table = csv.DictWriter(file, ["file", "made_from", *names], lineterminator="\n")
        table.writeheader()
        for sample in SAMPLES:
            size = {"width": sample.size[0], "height": sample.size[1]}
            row = {**rows[sample.source], **size, "made_from": sample.source, "file": sample.file}
            table.writerow(row)


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    folder = Path(sys.argv[1])
    pillow_heif.register_heif_opener()
    for sample in SAMPLES:
        make(sample, folder)
        print(f"{sample.file}: {(OUT / sample.file).stat().st_size / 1000:.0f} kB")
    write_licences(folder)


if __name__ == "__main__":
    main()
