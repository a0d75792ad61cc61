"""The photos of a folder, as far as they decide what is a pair."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path, PurePosixPath

from dualsr_cli.errors import InputError
from dualsr_cli.photos import _names
from dualsr_cli.photos.capture import Capture
from dualsr_cli.photos.reading import READ_SUFFIXES, read_header

_FORMATS = ("heic", "jpeg", "tiff", "avif", "webp", "png", "dng")  # of two copies, which to take


Stamp = tuple[int, int]
"""What changes when a file does: its size in bytes and its modification time in nanoseconds."""


@dataclass(frozen=True)
class Shot:
    """A photo as far as it decides a pair."""

    path: Path
    name: PurePosixPath  # relative to the folder
    format: str
    capture: Capture
    local: datetime | None  # when it was taken, by EXIF or else by its name
    utc_offset: timedelta | None
    whole: bool = False  # its pixels are known to be readable, too

    @property
    def framed(self) -> bool:
        return bool(self.capture.focal_length or self.capture.focal_length_35mm)

    @cached_property
    def framing(self) -> Capture:
        """The part of the capture that is equal for all shots of one lens at one zoom."""
        return replace(self.capture, time=None, utc_offset=None, gps=None, orientation=1)

    @cached_property
    def camera(self) -> tuple[str, str, bool]:
        """Make, model, and whether it is the one that looks at its owner."""
        capture = self.capture
        front = "front" in (capture.lens or "").casefold()
        return (capture.make or "").casefold(), (capture.model or "").casefold(), front

    @property
    def preference(self) -> tuple[object, ...]:
        """Of the copies of one shot the smallest is taken: unedited, near, a usual format."""
        edited = self.name.stem.casefold() != _names.original_stem(self.name)
        usual = _FORMATS.index(self.format) if self.format in _FORMATS else len(_FORMATS)
        return edited, len(self.name.parts), usual, len(str(self.name)), self.name


def list_photos(folder: Path, leave_out: Path | None = None) -> tuple[list[Path], dict[Path, str]]:
    """The photos by suffix, sorted; and the folders that cannot be opened, with a sentence each.

    Hidden files and folders are passed over, and the folder `leave_out` with all that lies in it,
    however its path is written. Raises InputError where `folder` itself is closed.
    """
    closed: dict[Path, str] = {}
    unwanted = None if leave_out is None else os.path.realpath(leave_out)

    def note(error: OSError) -> None:
        path = Path(error.filename or folder)
        problem = f"cannot be opened: {(error.strerror or str(error)).lower()}"
        if path == folder:
            raise InputError(path, problem) from error
        closed[path] = f"{path.relative_to(folder).as_posix()} {problem}"

    paths = []
    for parent, folders, files in os.walk(folder, onerror=note):
        folders[:] = [
            name
            for name in folders
            if not name.startswith(".")
            and (unwanted is None or os.path.realpath(os.path.join(parent, name)) != unwanted)
        ]
        paths += [
            Path(parent, name)
            for name in files
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in READ_SUFFIXES
        ]
    return sorted(paths), closed


def stamp_of(path: Path) -> Stamp | None:
    """The stamp of a file; None where it is not there or may not be looked at."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):  # ValueError: a NUL in the path
        return None
    return status.st_size, status.st_mtime_ns


def read_shot(path: Path, folder: Path) -> Shot | str:
    """The shot, or the sentence that says why there is none. The header's blobs are not kept."""
    name = PurePosixPath(path.relative_to(folder).as_posix())
    try:
        header = read_header(path)
    except InputError as error:
        return renamed(error, name)
    return make_shot(path, name, header.format, header.capture)


def renamed(error: InputError, name: PurePosixPath) -> str:
    """The error's sentence, with the name that the other sentences use."""
    return str(name) + str(error).removeprefix(str(error.path))


def make_shot(path: Path, name: PurePosixPath, format: str, capture: Capture) -> Shot:
    """Join what EXIF and the name say about the time."""
    local, offset = capture.time, capture.utc_offset
    if stamp := _names.stamp(name):
        named, is_utc = stamp
        if local is None:
            return Shot(path, name, format, capture, named, timedelta(0) if is_utc else None)
        ahead = local.replace(microsecond=0) - named.replace(microsecond=0)
        if is_utc and offset is None and abs(ahead) <= timedelta(hours=14):
            offset = round(ahead / timedelta(minutes=15)) * timedelta(minutes=15)
        if not local.microsecond and ahead == (offset if is_utc else timedelta(0)):
            local = local.replace(microsecond=named.microsecond)
    return Shot(path, name, format, capture, local, offset)
