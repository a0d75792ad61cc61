"""A folder of tiny real pairs in every format, for runs that are repeated hundreds of times."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks._pairs import SAMPLES
from dualsr_cli.photos import Metadata, read_photo, write_photo

_DETAIL, _TAKEN, _SUB_SECONDS = 0x8769, 0x9003, 0x9291  # EXIF: a folder of tags, and two in it


@dataclass(frozen=True)
class _Scene:
    """A pair of the samples that shows one scene at `size` (width, height) still."""

    folder: str
    size: tuple[int, int]


_SCENES = (
    _Scene("facade", (204, 153)),
    _Scene("phone-jpeg", (240, 135)),
    _Scene("phone-heic", (150, 200)),
)
_FORMATS = ("jpg", "png", "tif", "webp", "jpg", "heic", "png", "tif", "webp", "jpg")


def make_pairs(folder: Path, count: int) -> None:
    """Write `count` pairs with their cameras' EXIF to `folder` and a folder in it.

    Half of them are told by their names, half by time and zoom. Of three tele photos one helps and
    two show nothing, which takes less time. The same files on every call.
    """
    photos = {
        (scene.folder, role): read_photo(next((SAMPLES / scene.folder).glob(f"{role}.*")))
        for scene in _SCENES
        for role in ("wide", "tele")
    }
    for number in range(count):
        scene = _SCENES[number // 3 % len(_SCENES)]
        place = folder / "später" if number % 4 == 1 else folder
        place.mkdir(parents=True, exist_ok=True)
        names = (f"scene {number:02}_wide", f"scene {number:02}_tele")
        if number % 2:
            names = (f"IMG_{1000 + 2 * number}", f"IMG_{1001 + 2 * number}")
        for role, name in zip(("wide", "tele"), names, strict=True):
            photo = photos[scene.folder, role]
            image = Image.fromarray(photo.pixels).resize(scene.size, Image.Resampling.LANCZOS)
            pixels = np.asarray(image)
            if role == "tele" and number % 3:
                pixels = np.zeros_like(pixels)
            taken = f"2024:05:26 12:{number:02}:0{role == 'tele':d}"
            exif = _dated(photo.header.metadata.exif or b"", taken)
            path = place / f"{name}.{_FORMATS[number % len(_FORMATS)]}"
            write_photo(path, pixels, Metadata(exif=exif))


def _dated(exif: bytes, taken: str) -> bytes:
    """EXIF with another capture time: two photos of one time would count as one."""
    changed = Image.Exif()
    changed.load(exif)
    detail = changed.get_ifd(_DETAIL)
    detail[_TAKEN] = taken
    detail.pop(_SUB_SECONDS, None)
    return changed.tobytes().removeprefix(b"Exif\0\0")
