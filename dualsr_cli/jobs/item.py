"""What one piece of work is, what is done with it, and what came of it.

Everything here is plain data that can be sent to another process or machine.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import time
import traceback as tracebacks
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from dualsr_cli.errors import AlignmentError, DualsrError, explain
from dualsr_cli.files import input_file

_HASH_BLOCK = 1 << 20
_YOUNG = 2_000_000_000  # ns
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
_PASSING = {
    getattr(errno, name)
    for name in (
        "EIO", "ESTALE", "ETIMEDOUT", "EAGAIN", "EINTR", "EMFILE", "ENFILE", "ENOMEM", "EBUSY",
        "ENETDOWN", "ENETUNREACH", "ENETRESET", "ECONNRESET", "EHOSTDOWN", "EHOSTUNREACH",
    )
    if hasattr(errno, name)
}  # fmt: skip


@dataclass(frozen=True)
class Item:
    """One piece of work.

    name: what it is called in the manifest, and where its result goes: a path relative to the
    output folder, its parts joined by "/". inputs: the files whose contents decide the result.
    input_names: what the manifest calls them, one for each. settings: all else that decides the
    result, in JSON's types: the command, its options, the model and its weights' hash, the version.
    """

    name: str
    inputs: tuple[Path, ...]
    input_names: tuple[str, ...]
    settings: Mapping[str, Any]


class Task(Protocol):
    """What is done with each item, in three steps that run side by side for different items.

    It is sent to the workers by pickling, once; `prepare` then loads what all items share. The
    steps are called from several threads at once and keep nothing on the task. They raise
    DualsrError for what is the matter with an item; a UsageError is the matter with all of them.
    """

    def prepare(self) -> None:
        """Load what all items need: the model, the device."""

    def memory(self, item: Item) -> int:
        """About how many bytes the item takes at its peak, from reading to writing."""

    def read(self, item: Item) -> Any:
        """Inputs -> what `compute` takes."""

    def compute(self, item: Item, data: Any) -> Any:
        """The work itself."""

    def write(self, item: Item, result: Any, target: Path) -> dict[str, Any]:
        """Write the result to `target`, a file or a folder that is not there yet.

        Returns what is worth telling about it, in JSON's types, without the target's path.
        """


@dataclass(frozen=True)
class Stamp:
    """A file as it was when its content was hashed.

    sha256: "" where it could not be read. stat: what `stat_of` says, None where the file was too
    young for its times to be trusted.
    """

    sha256: str
    size: int
    stat: tuple[int, ...] | None


@dataclass(frozen=True)
class Made:
    """A file that an item made: its path within the item's target ("" for the target itself)."""

    path: str
    sha256: str
    size: int
    mtime_ns: int


@dataclass(frozen=True)
class Problem:
    """Why an item failed.

    sentence: for people. code: a stable word. passing: another try may succeed. final: no other
    try can, with these inputs. fatal: no other item can succeed either. exit_code: of a run in
    which nothing else happened. traceback: for whoever debugs.
    """

    sentence: str
    code: str
    passing: bool = False
    final: bool = False
    fatal: bool = False
    exit_code: int = 1
    traceback: str = ""


@dataclass(frozen=True)
class Order:
    """An item for a worker: where to put the result, and the key that needs no work.

    staging: a folder that is not there yet, for this order alone; the result goes to
    staging / last part of the item's name. known_key: where the item turns out to have it, nothing
    is computed.
    """

    item: Item
    staging: Path
    known_key: str | None = None


@dataclass(frozen=True)
class Outcome:
    """What a worker made of an order: `problem`, or key, stamps and, unless unchanged, files.

    seconds: of reading (with hashing), computing and writing; "idle": how long the computing
    threads waited for this item although the worker had work.
    """

    name: str
    problem: Problem | None = None
    unchanged: bool = False
    key: str | None = None
    inputs: tuple[Stamp, ...] = ()
    outputs: tuple[Made, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)


def key_of(settings: Mapping[str, Any], hashes: list[str]) -> str:
    """The key of an item: SHA-256 of its settings and of its inputs' contents, in their order."""
    text = json.dumps([settings, hashes], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's content. Raises InputError."""
    digest = hashlib.sha256()
    with input_file(path) as file:
        while block := file.read(_HASH_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def stat_of(path: Path) -> tuple[int, ...]:
    """What changes when a file does: size, modification and change time (ns), inode.

    Raises OSError.
    """
    status = os.stat(path)
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def stamp(sha256: str, stat: tuple[int, ...]) -> Stamp:
    """A file's stamp from its hash and what `stat_of` said before it was hashed.

    A file that has changed within the last two seconds may change again and keep its times.
    """
    young = abs(time.time_ns() - max(stat[1:3])) < _YOUNG
    return Stamp(sha256, stat[0], None if young else stat)


def problem_of(error: Exception) -> Problem:
    """An exception as a problem of the item that it was met at."""
    system = next((e for e in (error, error.__cause__) if isinstance(e, OSError) and e.errno), None)
    number = system.errno if system else None
    exit_code = error.exit_code if isinstance(error, DualsrError) else 1
    return Problem(
        sentence=explain(error),
        code=_code(error),
        passing=number in _PASSING or isinstance(error, MemoryError),
        final=isinstance(error, AlignmentError),
        fatal=number in _FULL or exit_code == 2,
        exit_code=exit_code,
        traceback="".join(tracebacks.format_exception(error)),
    )


def _code(error: Exception) -> str:
    """A stable word for the kind of error: "input", "output", "alignment", ..."""
    reason = getattr(error, "reason", None)
    if isinstance(reason, str):
        return reason
    name = type(error).__name__.removesuffix("Error").lower()
    return name if isinstance(error, DualsrError | MemoryError) else "unexpected"
