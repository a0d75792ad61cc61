"""What the rest of the house knows about a photo: pixels, header, metadata."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dualsr_cli.photos.capture import Capture

Pixels = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]


@dataclass(frozen=True)
class Metadata:
    """What a photo carries beside its pixels, as the bytes that lay in the file; None: absent."""

    exif: bytes | None = None  # TIFF-structured, from "II*\0" or "MM\0*" on
    icc: bytes | None = None  # an ICC profile for RGB
    xmp: bytes | None = None  # the XMP packet (XML)
    iptc: bytes | None = None  # Photoshop image resources ("8BIM...") with the IPTC record in them


@dataclass(frozen=True)
class Header:
    """What is known of a photo without decoding its pixels."""

    path: Path
    format: str  # "jpeg", "png", "tiff", "heic", "webp", "avif" or "dng", by content
    width: int  # upright, that is after the orientation was applied
    height: int
    bit_depth: int  # of the file: 8, 10, 12 or 16
    metadata: Metadata
    capture: Capture

    @property
    def decoded_size(self) -> int:
        """The bytes of the pixels once they are decoded."""
        return self.width * self.height * (3 if self.bit_depth == 8 else 6)


@dataclass(frozen=True, eq=False)
class Photo:
    """A decoded photo.

    `pixels` is (height, width, 3) RGB, C-contiguous, uint8 or uint16 over the full range of its
    type, upright (the orientation was applied once), in the file's own colour space.
    `notes` are sentences worth telling the user.
    """

    pixels: Pixels
    header: Header
    notes: tuple[str, ...] = ()

    @property
    def path(self) -> Path:
        return self.header.path

    @property
    def width(self) -> int:
        return int(self.pixels.shape[1])

    @property
    def height(self) -> int:
        return int(self.pixels.shape[0])

    @property
    def bit_depth(self) -> int:
        """Of `pixels`: 8 or 16."""
        return self.pixels.dtype.itemsize * 8

    @property
    def max_value(self) -> int:
        """The value of white in `pixels`: 255 or 65535."""
        return int(np.iinfo(self.pixels.dtype).max)

    def window(self, top: int, left: int, height: int, width: int) -> npt.NDArray[np.float32]:
        """The pixels from (top, left) on as float32 (height, width, 3) in 0..1.

        Outside the photo the picture goes on mirrored at its edge pixels (reflect101), as often as
        the window asks for.
        """
        rows = _mirrored(top, height, self.height)
        columns = _mirrored(left, width, self.width)
        part = self.pixels[rows][:, columns]
        scaled: npt.NDArray[np.float32] = np.multiply(
            part, np.float32(1 / self.max_value), dtype=np.float32
        )
        return scaled


def _mirrored(start: int, count: int, size: int) -> slice | npt.NDArray[np.intp]:
    """Indices start..start+count into an axis of `size`, folded back at both ends."""
    if start >= 0 and start + count <= size:
        return slice(start, start + count)
    period = max(2 * (size - 1), 1)
    index = np.arange(start, start + count) % period
    return np.minimum(index, period - index) if size > 1 else np.zeros_like(index)
