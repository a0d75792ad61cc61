"""Locks on bytes of one small file: one for the manifest's end, one for each item.

The system drops them with the process that holds them, so none is ever left behind, and network
file systems that lock at all lock these. A process opens the file once: closing any descriptor of
it would drop them all.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_APPENDING, _RUNNING, _FIRST_ITEM = 0, 1, 2
_HELD = {errno.EACCES, errno.EAGAIN}


class Locks:
    """`work`: without system locks each attempt succeeds, and two runs do the same work twice."""

    def __init__(self, path: Path) -> None:
        self._file = open(path, "a+b", buffering=0)  # noqa: SIM115
        self.work = fcntl is not None and self._probe()

    def close(self) -> None:
        """Give back everything."""
        self._file.close()

    def try_item(self, name: str) -> bool:
        """Take an item; False where another process has it."""
        return self._try(_of(name))

    def leave_item(self, name: str) -> None:
        if self.work:
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, _of(name), os.SEEK_SET)

    def share_folder(self) -> bool:
        """Be one of those who work here; False while somebody wants it alone."""
        return self._try(_RUNNING, shared=True)

    def have_folder(self) -> bool:
        """Have the folder alone; False while somebody works here."""
        return self._try(_RUNNING)

    @contextmanager
    def appending(self) -> Iterator[None]:
        """Alone at the manifest's end; waits for whoever is there."""
        if not self.work:
            yield
            return
        fcntl.lockf(self._file, fcntl.LOCK_EX, 1, _APPENDING, os.SEEK_SET)
        try:
            yield
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, _APPENDING, os.SEEK_SET)

    def _try(self, byte: int, shared: bool = False) -> bool:
        if not self.work:
            return True
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        try:
            fcntl.lockf(self._file, kind | fcntl.LOCK_NB, 1, byte, os.SEEK_SET)
        except OSError as error:
            if error.errno in _HELD:
                return False
            raise
        return True

    def _probe(self) -> bool:
        """Whether this file system has locks at all: some network mounts have none."""
        self.work = True
        try:
            with self.appending():
                return True
        except OSError:
            return False


def _of(name: str) -> int:
    """An item's byte. Two items of one byte only ever wait for each other."""
    return _FIRST_ITEM + int.from_bytes(hashlib.sha256(os.fsencode(name)).digest()[:6], "big")
