"""Crash-safe files: a path holds either nothing, the old file or the whole new one."""

from __future__ import annotations

import errno
import os
import secrets
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import BinaryIO

from dualsr_cli.errors import InputError, OutputError

_REMEDIES = {
    errno.ENOSPC: "cannot be written: the disk is full; free some space or choose another folder",
    errno.EDQUOT: "cannot be written: the disk quota is used up; choose another folder",
    errno.EROFS: "cannot be written: the disk is read-only; choose another folder",
    errno.EACCES: "cannot be written: permission denied; choose a folder that you may write to",
    errno.EPERM: "cannot be written: permission denied; choose a folder that you may write to",
    errno.ENOTDIR: "cannot be written: a part of its path is a file, not a folder",
    errno.EEXIST: "cannot be written: a part of its path is a file, not a folder",
    errno.EISDIR: "cannot be written: it is a folder; name a file",
    errno.ENAMETOOLONG: "cannot be written: the name is too long; choose a shorter one",
    errno.EFBIG: "cannot be written: the disk does not take files of this size",
}


def output_error(path: Path, error: OSError) -> OutputError:
    """The sentence for an OSError met while writing `path`."""
    sentence = _REMEDIES.get(error.errno or 0, f"cannot be written: {error.strerror or error}")
    return OutputError(path, sentence)


@contextmanager
def input_file(path: Path) -> Iterator[FileIO]:
    """Open a file for reading, unbuffered. Raises InputError for what is not a readable file."""
    try:
        kind = os.stat(path).st_mode
        if stat.S_ISDIR(kind):
            raise InputError(path, "is a folder: name a photo in it")
        if not stat.S_ISREG(kind):  # opening a pipe would wait for its writer for ever
            raise InputError(path, "is not a file but a pipe, socket or device: save it to a file")
        file = open(path, "rb", buffering=0)  # noqa: SIM115
    except ValueError as error:  # a NUL in the path
        raise InputError(repr(str(path)), "is not a possible path: it contains a NUL") from error
    except OSError as error:
        raise _input_error(path, error) from error
    with file:
        try:
            yield file
        except OSError as error:
            raise _input_error(path, error) from error


def _input_error(path: Path, error: OSError) -> InputError:
    if isinstance(error, FileNotFoundError):
        return InputError(path, "does not exist: check the path")
    if isinstance(error, PermissionError):
        return InputError(path, "cannot be read: permission denied; change its rights")
    return InputError(path, f"cannot be read: {os.strerror(error.errno or errno.EIO)}")


@contextmanager
def atomic_writer(path: Path) -> Iterator[BinaryIO]:
    """Yield a new binary file that becomes `path` only once it is complete and on the disk.

    The temporary lies in the same folder (a rename is atomic only within one file system), is
    flushed and fsynced before the rename, and the folder is fsynced after it. Folders that are
    missing are made. On any failure the temporary is removed and `path` is as it was.

    Raises OutputError for what the operating system refuses.
    """
    path = Path(path)
    _refuse_folder(path)
    temporary = path.with_name(f".{path.name[:50]}.{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        fsync_folder(path.parent)
    except OSError as error:
        raise output_error(path, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def check_writable(path: Path) -> None:
    """Raise OutputError now if `path` could not be written: before hours of work, not after.

    Makes the folder where it is missing, and an empty temporary in it that is removed again.
    """
    path = Path(path)
    _refuse_folder(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise output_error(path, error) from error


def _refuse_folder(path: Path) -> None:
    try:
        if path.is_dir():
            raise OutputError(path, _REMEDIES[errno.EISDIR])
    except OSError as error:
        raise output_error(path, error) from error


def fsync_folder(folder: Path) -> None:
    """Make the names in a folder as durable as the files. Raises OSError."""
    if os.name == "nt":  # Windows cannot open a folder as a file; its rename is journalled
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
