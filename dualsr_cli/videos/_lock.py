"""One run at a time for one result."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dualsr_cli.errors import OutputError
from dualsr_cli.files import output_error

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_HELD = {errno.EACCES, errno.EAGAIN}


@contextmanager
def sole_writer(result: Path) -> Iterator[None]:
    """Be the only one that writes a result, until the block has ended.

    The system drops the lock with the process that holds it, so that nobody waits for a killed
    one. Where there are no such locks (Windows, some network mounts), nobody is kept out.

    Raises OutputError where another run, of this process or another, writes the result.
    """
    if fcntl is None:
        yield
        return
    lock = result.parent / ".dualsr" / f"{result.name}.lock"
    descriptor = _taken(result, lock)
    try:
        yield
    finally:
        with suppress(OSError):  # while it is held: it is nobody else's
            lock.unlink()
            lock.parent.rmdir()
        os.close(descriptor)


def _taken(result: Path, lock: Path) -> int:
    """The descriptor of the lock's file, locked."""
    while True:
        try:
            lock.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:  # whoever has just ended removed the folder
            continue
        except OSError as error:
            raise output_error(result, error) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in _HELD:
                return descriptor
            os.close(descriptor)
            raise OutputError(
                result,
                "is being written by another run: wait until that has ended, or name another file",
            ) from None
        if _is_there(lock, descriptor):
            return descriptor
        os.close(descriptor)


def _is_there(lock: Path, descriptor: int) -> bool:
    """Whether the open file is the one of that name: whoever had it before may have removed it."""
    try:
        return os.path.samestat(os.stat(lock), os.fstat(descriptor))
    except OSError:
        return False
