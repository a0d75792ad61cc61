"""Frames -> a video file or a sequence of pictures."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType

from dualsr_cli.errors import OutputError
from dualsr_cli.files import check_writable
from dualsr_cli.photos import Metadata, check_target, write_photo
from dualsr_cli.videos._colour import from_rgb
from dualsr_cli.videos._encoders import choose, losses
from dualsr_cli.videos._joining import join
from dualsr_cli.videos._pictures import is_pattern, picture_path
from dualsr_cli.videos._segments import SegmentWriter, failures
from dualsr_cli.videos.clip import Clip, Frame


class ClipWriter:
    """Writes a clip `like` another at another size, in one go.

    Times, colours, the shape of pixels and bit depth follow `like`; its sound, its subtitles and,
    unless `metadata` is False, what its file says about it and its chapters are copied. MP4 and MOV
    keep times exactly; Matroska and WebM count milliseconds. A clip that begins before 0 is moved
    so that it begins there. `codec` names an encoder of FFmpeg, `crf` its constant quality (less is
    better); what they are by default, `choose` in _encoders.py says. Where `path` is a pattern
    (`folder/%05d.png`), each frame becomes a picture, numbered from 0 on: its depth follows the
    pixels, and `codec` and `crf` mean nothing.

    As a context manager: the path holds the whole clip once the block has ended without an error,
    and what it held before if not (pictures: each is whole or absent). `notes` are sentences worth
    telling the user, complete at the end.

    Raises UsageError and OutputError at once for what cannot be written at all.
    """

    def __init__(
        self,
        path: Path | str,
        like: Clip,
        size: tuple[int, int],
        codec: str | None = None,
        crf: int | None = None,
        *,
        metadata: bool = True,
    ) -> None:
        self.path = Path(path)
        self.notes: tuple[str, ...] = ()
        self._like = like
        self._metadata = metadata
        self._times: list[Fraction] = []
        self._segment: SegmentWriter | None = None
        if is_pattern(self.path):
            check_target(picture_path(self.path, 0))
            return
        check_writable(self.path)
        self._encoding = choose(self.path, like, size, codec, crf)
        self.notes = losses(self._encoding, like)
        self._part = self.path.with_name(f".{self.path.name[:50]}.{secrets.token_hex(4)}.part")
        with failures(self.path):
            self._segment = SegmentWriter(os.path.abspath(self._part), self._encoding)

    def __enter__(self) -> ClipWriter:
        return self

    def write(self, frame: Frame) -> None:
        """Add a frame: later than the one before, of the writer's size. Raises OutputError."""
        if self._times and frame.time <= self._times[-1]:
            raise ValueError(f"a frame at {frame.time} s after one at {self._times[-1]} s")
        if self._segment is None:
            write_photo(picture_path(self.path, len(self._times)), frame.pixels, Metadata())
        else:
            with failures(self.path):
                encoding = self._encoding
                self._segment.write(from_rgb(frame.pixels, encoding.colour, encoding.format))
        self._times.append(frame.time)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._segment is None:
            return
        try:
            with failures(self.path):
                self._segment.close()
            if kind is None:
                if not self._times:
                    raise OutputError(self.path, "cannot be written: it would have no frame")
                self.notes += join(
                    self.path,
                    [self._part],
                    self._times,
                    self._like,
                    self._encoding,
                    metadata=self._metadata,
                )
        finally:
            with suppress(OSError):
                self._part.unlink(missing_ok=True)
