"""Groups of frames, finished one after another -> a clip that a killed run can go on with."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import av

from dualsr_cli.errors import OutputError
from dualsr_cli.files import atomic_writer, check_writable, fsync_folder, output_error
from dualsr_cli.photos import Metadata, check_target, write_photo
from dualsr_cli.videos._colour import from_rgb
from dualsr_cli.videos._encoders import choose, losses, lossless
from dualsr_cli.videos._joining import join
from dualsr_cli.videos._pictures import is_pattern, picture_path
from dualsr_cli.videos._segments import failures, read_segment, write_segment
from dualsr_cli.videos.clip import Clip, Frame

_SEGMENT_FRAMES = 48  # at least, so that not every group costs a key frame
_NAME = re.compile(r"(segment|group)-(\d{8})-(\d{8})-(\d{8})")


class _Part(NamedTuple):
    """A file with the frames `first` to `stop` (not included) of the clip: `groups` groups."""

    first: int
    stop: int
    groups: int
    kind: str  # "segment": coded as the clip will be; "group": without loss, or in its place

    @property
    def file_name(self) -> str:
        return f"{self.kind}-{self.first:08d}-{self.stop:08d}-{self.groups:08d}"


class ResumableClip:
    """Writes a clip as ClipWriter does, group by group; what is finished outlives a kill.

    The frames are those of `like`, one after another, beginning anywhere. Each finished group lies
    on the disk before `add_group` returns, in a folder beside the result; made again after a kill
    with the same arguments, the object goes on there. `key` stands for all that decides the pixels
    (inputs, model, options): where it, or anything else that decides the result, is another than
    before, the work begins anew. The result's frames do not depend on where a run was cut off.

    Groups lie there without loss until they are enough (48 frames) for a segment, which is coded as
    the result will be; `finish` joins the segments. A sequence of pictures is written in its place,
    numbered as the frames are in `like`.

    Two must not write one result at once: see `sole_writer`.

    Raises UsageError and OutputError at once for what cannot be written at all.
    """

    def __init__(
        self,
        path: Path | str,
        like: Clip,
        size: tuple[int, int],
        key: str = "",
        codec: str | None = None,
        crf: int | None = None,
        *,
        metadata: bool = True,
    ) -> None:
        self.path = Path(path)
        self.notes: tuple[str, ...] = ()
        self._like = like
        self._size = size
        self._metadata = metadata
        self._pictures = is_pattern(self.path)
        if self._pictures:
            check_target(picture_path(self.path, 0))
        else:
            check_writable(self.path)
            self._encoding = choose(self.path, like, size, codec, crf)
            self.notes = losses(self._encoding, like)
        self._folder = self.path.parent / ".dualsr" / f"{self.path.name}.work"
        self._settings = self._settings_as_text(key)
        self._parts = self._begun()

    @property
    def finished(self) -> int:
        """The number of finished frames: since the first group began, without a gap."""
        return self._parts[-1].stop - self._parts[0].first if self._parts else 0

    @property
    def finished_groups(self) -> int:
        """The number of finished groups."""
        return sum(part.groups for part in self._parts)

    def add_group(self, frames: Iterable[Frame]) -> None:
        """Finish one group: the next frames of `like`, in the writer's size.

        Memory holds one frame at a time. Raises OutputError; ValueError for frames that are not
        the next ones.
        """
        numbered = self._numbered(frames)
        indices: list[int] = []

        def pictures() -> Iterator[av.VideoFrame]:
            for index, frame in numbered:
                indices.append(index)
                yield from_rgb(frame.pixels, self._encoding.colour, self._encoding.format)

        waiting = self._folder / "waiting"  # its name tells how many frames it has, once they came
        if self._pictures:
            for index, frame in numbered:
                write_photo(picture_path(self.path, index), frame.pixels, Metadata())
                indices.append(index)
            with atomic_writer(waiting):
                pass
        else:
            write_segment(waiting, pictures(), lossless(self._encoding))
        if not indices:
            return
        part = _Part(indices[0], indices[-1] + 1, 1, "group")
        try:
            os.replace(waiting, self._file(part))
            fsync_folder(self._folder)
        except OSError as error:
            raise output_error(self.path, error) from error
        self._parts.append(part)
        if not self._pictures:
            self._merge(_SEGMENT_FRAMES)

    def finish(self) -> None:
        """Make the result of what is finished, and remove the folder with it.

        Raises OutputError, also where nothing is finished; InputError where the source's sound
        cannot be read any more.
        """
        if not self._parts:
            raise OutputError(self.path, "cannot be written: it would have no frame")
        if not self._pictures:
            self._merge(1)
            times = self._like.times[self._parts[0].first : self._parts[-1].stop]
            self.notes += join(
                self.path,
                [self._file(part) for part in self._parts],
                times,
                self._like,
                self._encoding,
                metadata=self._metadata,
            )
        self.discard()

    def begin_anew(self) -> None:
        """Forget what is finished."""
        self.discard()
        self._parts = self._begun()

    def discard(self) -> None:
        """Remove the folder with what is finished."""
        shutil.rmtree(self._folder, ignore_errors=True)
        with suppress(OSError):  # others may be at work in it
            self._folder.parent.rmdir()
        self._parts = []

    def _settings_as_text(self, key: str) -> str:
        """All that decides the result, as text."""
        times = hashlib.sha256(repr((self._like.times, self._like.end)).encode()).hexdigest()
        encoding = "pictures" if self._pictures else repr(self._encoding)
        settings = {
            "key": key,
            "size": self._size,
            "times": times,
            "encoding": encoding,
            "PyAV": av.__version__,
        }
        return json.dumps(settings, indent=1)

    def _begun(self) -> list[_Part]:
        """What an earlier run with the same settings has finished."""
        note = self._folder / "settings.json"
        try:
            same = note.read_text(encoding="utf-8") == self._settings
        except (OSError, UnicodeDecodeError):
            same = False
        if not same:
            shutil.rmtree(self._folder, ignore_errors=True)
            with atomic_writer(note) as file:
                file.write(self._settings.encode())
            return []
        there: dict[int, _Part] = {}
        # Where a run was cut off while it merged, a segment lies beside the groups that are in it.
        for path in sorted(self._folder.iterdir()):  # groups before segments
            if found := _NAME.fullmatch(path.name):
                part = _Part(int(found[2]), int(found[3]), int(found[4]), found[1])
                if part.kind == "segment" or self._whole(part):
                    there[part.first] = part
        parts: list[_Part] = []
        at: int | None = min(there, default=None)
        while at in there:
            parts.append(there[at])
            at = there[at].stop
        return parts

    def _whole(self, part: _Part) -> bool:
        """Whether the pictures of a group are still in their place."""
        numbers = range(part.first, part.stop) if self._pictures else ()
        return all(picture_path(self.path, number).is_file() for number in numbers)

    def _numbered(self, frames: Iterable[Frame]) -> Iterator[tuple[int, Frame]]:
        """Frames with their places in `like`, checked."""
        times = self._like.times
        index = self._parts[-1].stop if self._parts else None
        for frame in frames:
            if index is None:
                index = bisect_left(times, frame.time)
            if index >= len(times) or frame.time != times[index]:
                raise ValueError(f"the frame at {frame.time} s is not the next one")
            if frame.pixels.shape[1::-1] != tuple(self._size):
                raise ValueError(f"a frame of {frame.pixels.shape[1::-1]}, not {self._size}")
            yield index, frame
            index += 1

    def _merge(self, least: int) -> None:
        """Make a segment of the waiting groups if they have `least` frames together."""
        waiting = [part for part in self._parts if part.kind == "group"]
        if not waiting or waiting[-1].stop - waiting[0].first < least:
            return
        segment = _Part(
            waiting[0].first, waiting[-1].stop, sum(part.groups for part in waiting), "segment"
        )
        with failures(self.path):
            write_segment(
                self._file(segment),
                (frame for part in waiting for frame in read_segment(self._file(part))),
                self._encoding,
            )
        self._parts = [*self._parts[: -len(waiting)], segment]
        for part in waiting:
            with suppress(OSError):
                self._file(part).unlink()

    def _file(self, part: _Part) -> Path:
        return self._folder / part.file_name
