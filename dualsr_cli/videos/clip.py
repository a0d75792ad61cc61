"""What the rest of the house knows about a clip: its header and its frames."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture of a clip.

    `pixels` is (height, width, 3) RGB, upright, C-contiguous: uint8, or uint16 over its full range
    (0..65535) where the clip has more than 8 bits. The values keep the clip's transfer function and
    primaries. `time` is in seconds on the clip's own clock.
    """

    pixels: Pixels
    time: Fraction


@dataclass(frozen=True)
class Colour:
    """How the numbers of a clip stand for colours.

    `primaries` and `transfer` are code points of ITU-T H.273; 2: the file does not say.
    """

    matrix: str  # "bt601", "bt709", "bt2020", or "rgb" where the file holds RGB
    full_range: bool  # black is 0 and white the largest value; else 16..235 and 16..240 of 8 bits
    primaries: int = 2
    transfer: int = 2


@dataclass(frozen=True)
class Track:
    """Where the frames lie in a file.

    `stamps` are the frames' time stamps in units of the stream's time base, in presentation order;
    None where they do not tell one frame from another, so that frames are counted instead. `keys`
    are (index, decoding time stamp) of the frames from which on all later ones can be decoded.
    """

    stream: int  # its index in the container
    stamps: tuple[int, ...] | None
    keys: tuple[tuple[int, int], ...]
    turn: tuple[int, int, int, int]  # the display matrix's a, b, c, d: -1, 0 or 1 each


@dataclass(frozen=True, eq=False)
class Clip:
    """What is known of a clip without decoding more than its first frame."""

    path: Path
    width: int  # upright
    height: int
    rotation: int  # degrees clockwise (0, 90, 180, 270) by which stored pictures are turned upright
    times: tuple[Fraction, ...]  # seconds; when each frame is shown: exact, strictly increasing
    end: Fraction  # seconds; when the last frame vanishes, as far as the file tells
    time_base: Fraction  # seconds; the unit in which the file counts time
    colour: Colour
    bit_depth: int  # of the file: 8, 10, 12 or 16
    audio: bool
    metadata: Mapping[str, str]  # the container's, as the file names it
    created: datetime | None  # when it was taken, in UTC unless the file says otherwise
    location: str | None  # ISO 6709, as "+48.8577+002.2950/"
    pixel_aspect: Fraction  # width / height of an upright pixel: 1 unless the pixels are not square
    warning: str | None = None  # a sentence worth telling the user
    track: Track | None = field(default=None, repr=False)  # of a video
    pictures: tuple[Path, ...] = field(default=(), repr=False)  # of a sequence of pictures

    @property
    def rate(self) -> Fraction:
        """Frames a second, on average."""
        return len(self.times) / (self.end - self.times[0])
