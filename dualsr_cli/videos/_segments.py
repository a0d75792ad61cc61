"""Some frames <-> one coded file of them that knows their order and no times."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
from av.video.frame import PictureType

from dualsr_cli.errors import OutputError
from dualsr_cli.files import atomic_writer, output_error
from dualsr_cli.videos._encoders import Encoding

_FORMAT = "matroska"  # holds every codec
_DELAY = 16  # pictures that are shown later than decoded: no codec has more


class SegmentWriter:
    """Encodes frames into a file; the first becomes a key frame.

    The encoder is told of frames that follow each other evenly: some know no other. The real times
    are given to the packets where segments are joined. When a picture is decoded is not taken from
    the encoder: x265 says of a clip shorter than its delay what happens to be in memory.
    """

    def __init__(self, path: str, encoding: Encoding) -> None:
        self.count = 0
        self._coded = 0
        self._base = 1 / encoding.rate
        self._container = av.open(path, mode="w", format=_FORMAT)
        self._stream: Any = self._container.add_stream(encoding.encoder, rate=encoding.rate)
        encoding.open(self._stream.codec_context)
        self._stream.time_base = self._base

    def write(self, frame: av.VideoFrame) -> None:
        """Encode one frame more. Raises av.error.FFmpegError."""
        frame.pts = self.count
        frame.time_base = self._base
        frame.pict_type = PictureType.NONE  # it may come from a decoder, which has set it
        self._encode(frame)
        self.count += 1

    def close(self) -> None:
        """Write what the encoder still holds. Raises av.error.FFmpegError."""
        if self.count:
            self._encode(None)
        self._container.close()

    def _encode(self, frame: av.VideoFrame | None) -> None:
        for packet in self._stream.encode(frame):
            packet.dts = self._coded - _DELAY
            self._container.mux(packet)
            self._coded += 1


@contextmanager
def failures(path: Path) -> Iterator[None]:
    """Turn what PyAV raises while `path` is written into OutputError."""
    try:
        yield
    except OSError as error:
        raise output_error(path, error) from error
    except av.error.FFmpegError as error:
        raise OutputError(
            path, f"cannot be written: the encoder failed ({error}); give another --codec"
        ) from error


def write_segment(path: Path, frames: Iterable[av.VideoFrame], encoding: Encoding) -> None:
    """Encode frames into a file that is there whole or not at all. Raises OutputError."""
    with failures(path), atomic_writer(path) as file:
        segment = SegmentWriter(os.path.abspath(file.name), encoding)
        for frame in frames:
            segment.write(frame)
        segment.close()


def read_segment(path: Path) -> Iterator[av.VideoFrame]:
    """Decode a file that `write_segment` wrote. Raises av.error.FFmpegError."""
    with open_segment(path) as container:
        yield from container.decode(container.streams.video[0])


def packets(container: Any) -> Iterator[Any]:
    """The coded pictures in an open segment, in decoding order."""
    for packet in container.demux(container.streams.video[0]):
        if packet.size:
            yield packet


def open_segment(path: Path) -> Any:
    """Open a segment for reading. Raises av.error.FFmpegError."""
    return av.open(os.path.abspath(path), mode="r", format=_FORMAT)
