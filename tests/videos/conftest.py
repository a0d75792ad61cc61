"""Tiny clips of every kind, made with PyAV."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest

WIDTH, HEIGHT = 64, 48
MakeClip = Callable[..., Path]


def picture(index: int, width: int = WIDTH, height: int = HEIGHT) -> npt.NDArray[np.uint8]:
    """A picture that tells its index: a bright disc on a ramp, further right each time."""
    rows, columns = np.mgrid[0:height, 0:width]
    disc = np.hypot(columns - (8 + 4 * index) % width, rows - height / 2) < 7
    ramp = np.stack([40 + columns, 60 + rows, np.full_like(rows, 90)], axis=-1)
    return np.where(disc[..., None], (220, 200, 180), ramp).astype(np.uint8)


def yuv(
    values: Sequence[int], format: str = "yuv444p", size: tuple[int, int] = (WIDTH, HEIGHT)
) -> av.VideoFrame:
    """A frame of one colour, given as its Y, Cb and Cr."""
    frame = av.VideoFrame(*size, format)
    dtype = np.dtype("u1" if frame.format.components[0].bits == 8 else "<u2")
    for plane, value in zip(frame.planes, values, strict=True):
        plane.update(np.full(plane.buffer_size // dtype.itemsize, value, dtype).tobytes())
    return frame


@pytest.fixture
def make_clip(tmp_path: Path) -> MakeClip:
    """make_clip(name, frames, stamps, ...): write a clip and return its path."""

    def make(
        name: str = "clip.mp4",
        frames: Sequence[Any] | None = None,
        stamps: Sequence[int] | None = None,
        *,
        count: int = 10,
        size: tuple[int, int] = (WIDTH, HEIGHT),
        base: Fraction = Fraction(1, 30),
        codec: str = "libx264",
        format: str = "yuv420p",
        options: dict[str, str] | None = None,
        colours: tuple[int, int, int, int] | None = None,
        aspect: Fraction | None = None,
        metadata: dict[str, str] | None = None,
        container_options: dict[str, str] | None = None,
        sound: str | None = None,
        rate: int = 48000,
    ) -> Path:
        """`frames` are RGB pictures or frames in `format`; `colours` are matrix, range, primaries
        and transfer as H.273 numbers (range: 1 limited, 2 full)."""
        path = tmp_path / name
        frames = [picture(at, *size) for at in range(count)] if frames is None else frames
        stamps = range(len(frames)) if stamps is None else stamps
        with av.open(str(path), "w", container_options=container_options or {}) as output:
            output.metadata.update(metadata or {})
            stream: Any = output.add_stream(codec, rate=30, options=dict(options or {}))
            stream.width, stream.height = size
            stream.pix_fmt = format
            stream.codec_context.time_base = base
            stream.time_base = base
            if aspect:
                stream.codec_context.sample_aspect_ratio = aspect
            if colours:
                stream.codec_context.colorspace, stream.codec_context.color_range = colours[:2]
                stream.codec_context.color_primaries = colours[2]
                stream.codec_context.color_trc = colours[3]
            noise = output.add_stream(sound, rate=rate) if sound else None
            for pixels, stamp in zip(frames, stamps, strict=True):
                frame = pixels if isinstance(pixels, av.VideoFrame) else rgb_frame(pixels)
                frame.pts, frame.time_base = stamp, base
                output.mux(stream.encode(frame))
            output.mux(stream.encode(None))
            if noise is not None:
                tone = np.sin(np.arange(16384) * 0.05).astype(np.float32)[None].repeat(2, 0)
                samples = av.AudioFrame.from_ndarray(tone, "fltp", "stereo")
                samples.sample_rate, samples.pts = rate, 0
                output.mux(noise.encode(samples))
                output.mux(noise.encode(None))
        return path

    return make


def rgb_frame(pixels: npt.NDArray[Any]) -> av.VideoFrame:
    """RGB pixels of 8 or 16 bits as a frame."""
    return av.VideoFrame.from_ndarray(pixels, "rgb24" if pixels.dtype == np.uint8 else "rgb48le")
