"""Small photos of every kind, made by other encoders than the ones under test where possible."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pillow_heif
import pytest
import pyvips
from PIL import Image

Bytes = dict[str, bytes]

DATA = Path(__file__).parent / "data"


def picture(height: int = 48, width: int = 64) -> npt.NDArray[np.uint8]:
    """A smooth picture without symmetry, (height, width, 3) uint8: every codec keeps it well."""
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    channels = (60 + 150 * x, 40 + 180 * y, 128 + 90 * np.sin(4 * x + 2 * y))
    return np.stack(channels, -1).round().astype(np.uint8)


def saved(image: Image.Image, format: str, **options: object) -> bytes:
    """What Pillow writes."""
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def heic(pixels: npt.NDArray[np.uint8] | npt.NDArray[np.uint16], **options: object) -> bytes:
    """What libheif writes; uint16 becomes 10 bits."""
    bands = {1: "L", 3: "RGB", 4: "RGBA"}[pixels.shape[2]]
    mode = bands if pixels.dtype == np.uint8 else f"{bands};16"
    file = io.BytesIO()
    size = (pixels.shape[1], pixels.shape[0])
    heif = pillow_heif.from_bytes(mode, size, np.ascontiguousarray(pixels).tobytes())
    heif.save(file, quality=95, **options)
    return file.getvalue()


def avif(pixels: npt.NDArray[np.uint16], bits: int) -> bytes:
    """What libvips writes as AVIF with 10 or 12 bits."""
    height, width = pixels.shape[:2]
    image = pyvips.Image.new_from_memory(pixels.tobytes(), width, height, 3, "ushort")
    image = image.copy(interpretation="rgb16")
    encoded: bytes = image.heifsave_buffer(compression="av1", bitdepth=bits, Q=95, keep="none")
    return encoded


def opencv(pixels: npt.NDArray[np.uint16], suffix: str) -> bytes:
    """What OpenCV writes: 16-bit PNG and TIFF."""
    return cv2.imencode(suffix, pixels[..., ::-1])[1].tobytes()


@pytest.fixture(scope="session")
def photos() -> Bytes:
    """One sound 48 x 64 photo per kind, by a name whose end is the usual suffix."""
    pixels = picture()
    deep = pixels.astype(np.uint16) * 257
    image = Image.fromarray(pixels)
    return {
        "8.jpg": saved(image, "JPEG", quality=95),
        "progressive.jpg": saved(image, "JPEG", quality=95, progressive=True),
        "8.png": saved(image, "PNG"),
        "8.tif": saved(image, "TIFF"),
        "8.webp": saved(image, "WEBP", lossless=True),
        "8.heic": heic(pixels),
        "8.avif": saved(image, "AVIF", quality=95),
        "16.png": opencv(deep, ".png"),
        "16.tif": opencv(deep, ".tif"),
        "10.heic": heic(deep),
        "10.avif": avif(deep, 10),
        "12.avif": avif(deep, 12),
    }
