"""A sequence of pictures as a clip."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from dualsr_cli.errors import InputError
from dualsr_cli.photos import READ_SUFFIXES, read_header, read_photo
from dualsr_cli.videos.clip import Clip, Colour, Frame, Pixels

_NUMBER = re.compile(r"%(?:0(\d+))?d")  # as in printf
_FASTEST = 1e6  # pictures a second
_SMALLEST_PART = 1001  # as in 30000/1001
_SRGB_PRIMARIES, _SRGB_TRANSFER = 1, 13  # code points of H.273


def is_pattern(path: Path) -> bool:
    """Whether a path names pictures by number, as in `folder/%05d.png`."""
    named = len(_NUMBER.findall(path.name)) == 1 and path.suffix.lower() in READ_SUFFIXES
    return named and not path.exists()


def picture_path(pattern: Path, number: int) -> Path:
    """The picture with a number."""
    found = _NUMBER.search(pattern.name)
    assert found is not None
    digits = str(number).zfill(int(found[1] or 1))
    return pattern.with_name(pattern.name[: found.start()] + digits + pattern.name[found.end() :])


def open_pictures(pattern: Path, rate: Fraction | float) -> Clip:
    """The clip of all pictures that a pattern names; `rate` in numbers a second.

    Raises InputError.
    """
    if not 0 < rate < _FASTEST:
        raise InputError(pattern, f"cannot be shown at {rate} frames a second: give more than 0")
    rate = Fraction(rate).limit_denominator(_SMALLEST_PART)
    found = _NUMBER.search(pattern.name)
    assert found is not None
    head, tail = pattern.name[: found.start()], pattern.name[found.end() :]
    numbered: dict[int, Path] = {}
    try:
        for path in pattern.parent.iterdir():
            digits = path.name[len(head) : len(path.name) - len(tail)]
            if digits.isascii() and digits.isdigit():
                number = int(digits)
                if picture_path(pattern, number).name == path.name:
                    numbered[number] = path
    except OSError as error:
        raise InputError(pattern.parent, f"cannot be read: {error.strerror or error}") from error
    if not numbered:
        raise InputError(pattern, "names no picture: check the folder and the number of digits")
    numbers = sorted(numbered)
    header = read_header(numbered[numbers[0]])
    times = tuple((number - numbers[0]) / rate for number in numbers)
    return Clip(
        path=pattern,
        width=header.width,
        height=header.height,
        rotation=0,
        times=times,
        end=times[-1] + 1 / rate,
        time_base=1 / rate,
        colour=Colour("rgb", True, _SRGB_PRIMARIES, _SRGB_TRANSFER),
        bit_depth=8 if header.bit_depth == 8 else 16,
        audio=False,
        metadata={},
        created=None,
        location=None,
        pixel_aspect=Fraction(1),
        pictures=tuple(numbered[number] for number in numbers),
    )


def read_pictures(clip: Clip, start: int, stop: int) -> Iterator[Frame]:
    """The frames of a sequence. Raises InputError, also where a picture has another size."""
    for path, time in zip(clip.pictures[start:stop], clip.times[start:stop], strict=True):
        photo = read_photo(path)
        if (photo.width, photo.height) != (clip.width, clip.height):
            raise InputError(
                path,
                f"is {photo.width} x {photo.height} pixels, the first picture "
                f"{clip.width} x {clip.height}: make them alike",
            )
        if photo.bit_depth != (8 if clip.bit_depth == 8 else 16):
            raise InputError(path, "has another bit depth than the first picture: make them alike")
        yield Frame(photo.pixels, time)


def small(pixels: Pixels, size: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Pixels as a grey picture, 0..1, of another size (width, height)."""
    shrunk = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    white = np.float32(np.iinfo(pixels.dtype).max)
    grey: npt.NDArray[np.float32] = shrunk.astype(np.float32).mean(-1) / white
    return grey
