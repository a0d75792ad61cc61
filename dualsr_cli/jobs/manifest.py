"""The manifest: what was done with each item, one line of JSON after the other.

Lines, and not a database, for four reasons. A line that a kill or a full disk has torn costs that
line alone, found by its checksum, and its item is done again. Appending under a lock needs nothing
of a network file system that it might not keep. Two runs can write to it at once. And it can be
read with any tool. Every line says all about an item as of then; the last one holds.
"""

from __future__ import annotations

import json
import os
import re
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from dualsr_cli.errors import InputError, OutputError
from dualsr_cli.files import atomic_writer, output_error
from dualsr_cli.jobs._locks import Locks
from dualsr_cli.jobs.item import Stamp

FOLDER = ".dualsr"
VERSION = 1
STATES = ("done", "failed", "quarantined", "orphaned", "pending")

_SYNC_SECONDS = 1.0  # what a power cut may cost; a kill costs nothing
_LONGEST_LINE = 1 << 20
_END = re.compile(rb',"crc":"([0-9a-f]{8})"}\Z')


@dataclass(frozen=True)
class Output:
    """A file of a result: its path relative to the output folder, and what it should be.

    before: the hash of the file of ours that lay there, which a kill may have left in its place.
    """

    path: str
    sha256: str
    size: int
    mtime_ns: int
    before: str | None = None


@dataclass(frozen=True)
class Record:
    """What is known of one item.

    state: done; failed (the next run tries it again, unless that is final); quarantined (took its
    worker down, is not tried again until asked for); orphaned (its source has no such item any
    more; the result is kept); pending (is to be done again). source: the folder that the inputs'
    names are relative to. attempts: how often it was tried, over all runs. started: seconds since
    1970 by the machine's clock; seconds: of reading, computing and writing.
    """

    item: str
    state: str
    command: str = ""
    key: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""
    inputs: tuple[tuple[str, Stamp], ...] = ()
    outputs: tuple[Output, ...] = ()
    error: str | None = None
    code: str | None = None
    attempts: int = 0
    started: float | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    final: bool = False

    @property
    def took(self) -> float | None:
        """Seconds of reading, computing and writing; None where nothing was tried."""
        spent = [
            self.seconds[step] for step in ("read", "compute", "write") if step in self.seconds
        ]
        return round(sum(spent), 3) if spent else None


class Manifest:
    """The manifest of an output folder, open for a run.

    Memory holds an item's name and the place of its last line. `shard` is (i, n): a run that does
    part i of n writes to a manifest of its own and reads the common one too. Raises OutputError
    where the folder cannot be written, InputError for what is no manifest.
    """

    def __init__(self, folder: Path, shard: tuple[int, int] | None = None) -> None:
        self.folder = folder
        self.damaged = 0
        self._synced = time.monotonic()
        self._dirty = False
        home = folder / FOLDER
        try:
            home.mkdir(parents=True, exist_ok=True)
            self.locks = Locks(home / "lock")
        except OSError as error:
            raise output_error(home, error) from error
        if not self.locks.share_folder():
            self.locks.close()
            raise OutputError(folder, "is having its manifests merged: try again when that is done")
        try:
            self._common = _Lines(home / "manifest", writable=shard is None)
            own = home / f"manifest-{shard[0]}-of-{shard[1]}" if shard else None
            self._own = _Lines(own, writable=True) if own else self._common
        except BaseException:
            self.locks.close()
            raise
        self.path = self._own.path
        self.refresh()

    def close(self) -> None:
        self.sync(now=True)
        for lines in {self._common, self._own}:
            lines.close()
        self.locks.close()

    def names(self) -> list[str]:
        """All items that it knows."""
        return sorted(self._common.places.keys() | self._own.places.keys())

    def get(self, name: str) -> Record | None:
        """The last word on an item."""
        return self._own.get(name) or self._common.get(name)

    def shards(self) -> list[Path]:
        """The manifests of shards that lie beside the common one."""
        return [path for path in _manifests(self.folder) if path != self._common.path]

    def refresh(self) -> None:
        """Take in what other runs have written."""
        self._own.refresh()
        if self._common is not self._own:
            self._common.refresh()
        self.damaged = self._own.damaged + (
            self._common.damaged if self._common is not self._own else 0
        )

    def append(self, record: Record) -> None:
        """Write down what became of an item. Raises OutputError."""
        with self.locks.appending():
            self._own.append(_encode(record))
        self._dirty = True
        self.refresh()

    def sync(self, now: bool = False) -> None:
        """Bring what was appended onto the disk, at most once a second."""
        if self._dirty and (now or time.monotonic() - self._synced >= _SYNC_SECONDS):
            self._own.sync()
            self._dirty = False
            self._synced = time.monotonic()


class _Lines:
    """One file of lines, and where in it the last line of each item is."""

    def __init__(self, path: Path, *, writable: bool) -> None:
        self.path = path
        self.damaged = 0
        self.places: dict[str, tuple[int, int]] = {}
        self._read_to = 0
        self._file: int | None = None
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT if writable else os.O_RDONLY
        try:
            self._file = os.open(path, flags | getattr(os, "O_BINARY", 0), 0o666)
        except FileNotFoundError:
            pass  # nothing common yet
        except OSError as error:
            raise output_error(path, error) from error

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def get(self, name: str) -> Record | None:
        place = self.places.get(name)
        if place is None or self._file is None:
            return None
        try:
            return _decode(_at(self._file, *place))
        except (OSError, ValueError):  # the file was changed under our hands
            return None

    def refresh(self) -> None:
        """Read the lines that are new, as far as they are complete."""
        if self._file is None:
            return
        size = os.fstat(self._file).st_size
        if size < self._read_to:  # cut by somebody: begin anew
            self.places.clear()
            self._read_to = self.damaged = 0
        while self._read_to < size:
            block = _at(self._file, self._read_to, min(size - self._read_to, 8 * _LONGEST_LINE))
            complete = block.rfind(b"\n") + 1
            if not complete:
                if len(block) < 8 * _LONGEST_LINE:
                    return  # a line in the making, or torn
                complete = len(block)  # no line of ours is so long
            for line in block[:complete].splitlines(keepends=True):
                self._index(line)

    def _index(self, line: bytes) -> None:
        place = self._read_to, len(line.rstrip(b"\n"))
        self._read_to += len(line)
        if not line.strip():
            return
        try:
            record = _decode(line.rstrip(b"\n"))
        except ValueError:
            self.damaged += 1
        else:
            self.places[record.item] = place

    def append(self, line: bytes) -> None:
        """Add a line, whole or not at all. To be called with the lock held."""
        assert self._file is not None
        end = os.fstat(self._file).st_size
        if end and _at(self._file, end - 1, 1) != b"\n":
            line = b"\n" + line  # end the line that somebody's death has torn
        try:
            written = os.write(self._file, line)
            while written < len(line):  # a disk that is nearly full takes a part
                written += os.write(self._file, line[written:])
        except OSError as error:
            os.ftruncate(self._file, end)
            raise output_error(self.path, error) from error

    def sync(self) -> None:
        assert self._file is not None
        try:
            os.fsync(self._file)
        except OSError as error:
            raise output_error(self.path, error) from error


def has_manifest(folder: Path) -> bool:
    """Whether a run has ever written to this folder."""
    return (folder / FOLDER).is_dir()


def read_records(folder: Path) -> tuple[list[Record], int]:
    """All records of an output folder, shards' included, by name; and how many lines are damaged.

    Of an item that several manifests know the later word holds. Raises InputError.
    """
    paths = _manifests(folder)
    found: dict[str, Record] = {}
    damaged = 0
    for path in paths:
        lines = _open_to_read(path)
        try:
            lines.refresh()
            damaged += lines.damaged
            for name in lines.places:
                record = lines.get(name)
                if record and _later(record, found.get(name)):
                    found[name] = record
        finally:
            lines.close()
    return [found[name] for name in sorted(found)], damaged


def _later(record: Record, other: Record | None) -> bool:
    return other is None or (record.started or 0) >= (other.started or 0)


def merge_shards(folder: Path) -> int:
    """Put the shards' manifests into the common one; returns how many there were.

    Raises InputError where there is no manifest, OutputError while a run works in the folder.
    """
    with _alone(folder) as common:
        shards = [path for path in _manifests(folder) if path != common]
        if shards:
            records, _ = read_records(folder)
            with atomic_writer(common) as file:
                file.writelines(_encode(record) for record in records)
            for path in shards:
                path.unlink()
        return len(shards)


def set_pending(folder: Path, records: Iterable[Record]) -> None:
    """Have the next run do these items again. Raises as `merge_shards` does."""
    with _alone(folder) as common:
        lines = _Lines(common, writable=True)
        try:
            for record in records:
                again = replace(record, state="pending", error=None, code=None, final=False)
                lines.append(_encode(again))
            lines.sync()
        finally:
            lines.close()


@contextmanager
def _alone(folder: Path) -> Iterator[Path]:
    """Yield the common manifest's path while nobody else works in the folder."""
    _manifests(folder)
    home = folder / FOLDER
    try:
        locks = Locks(home / "lock")
    except OSError as error:
        raise output_error(home, error) from error
    try:
        if not locks.have_folder():
            raise OutputError(folder, "is being worked in by a run: stop it or wait for its end")
        yield home / "manifest"
    finally:
        locks.close()


def _manifests(folder: Path) -> list[Path]:
    """The manifests of a folder, the common one first. Raises InputError where there is none."""
    home = folder / FOLDER
    shards = sorted(home.glob("manifest-*-of-*"))
    paths = [path for path in (home / "manifest", *shards) if path.is_file()]
    if not paths:
        raise InputError(folder, "has no manifest: name a folder that dualsr has written to")
    return paths


def _open_to_read(path: Path) -> _Lines:
    try:
        return _Lines(path, writable=False)
    except OutputError as error:
        raise InputError(path, "cannot be read: change its rights") from error


def _at(file: int, start: int, count: int) -> bytes:
    if hasattr(os, "pread"):
        return os.pread(file, count, start)
    os.lseek(file, start, os.SEEK_SET)
    return os.read(file, count)


# --- lines ---


def _encode(record: Record) -> bytes:
    """A record as a line of JSON whose last field is the CRC-32 of what stands before it."""
    fields = {"v": VERSION, **asdict(record)}
    fields["inputs"] = [{"path": name, **asdict(stamp)} for name, stamp in record.inputs]
    body = json.dumps(fields, separators=(",", ":"), allow_nan=False).encode()[:-1]
    return body + b',"crc":"%08x"}\n' % zlib.crc32(body)


def _decode(line: bytes) -> Record:
    """A line as a record. Raises ValueError for whatever is not one: lines may come from anyone."""
    end = _END.search(line)
    if len(line) > _LONGEST_LINE or not end or zlib.crc32(line[: end.start()]) != int(end[1], 16):
        raise ValueError("a damaged line")
    try:
        fields = json.loads(line)
        if fields.pop("v") != VERSION:
            raise ValueError("a line of another version")
        del fields["crc"]
        fields["inputs"] = tuple(
            (entry.pop("path"), _stamp(**entry)) for entry in _list(fields["inputs"])
        )
        fields["outputs"] = tuple(Output(**entry) for entry in _list(fields["outputs"]))
        record = Record(**fields)
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError("no record") from error
    if not _is_sound(record):
        raise ValueError("no record")
    return record


def _stamp(sha256: str, size: int, stat: list[int] | None) -> Stamp:
    return Stamp(sha256, size, None if stat is None else tuple(map(int, stat)))


def _list(value: Any) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise ValueError("no list")
    return value


def _is_sound(record: Record) -> bool:
    """Whether each value is of its kind, and each path lies below the folder."""
    texts = [record.item, record.command, record.source, *(name for name, _ in record.inputs)]
    hashes = [stamp.sha256 for _, stamp in record.inputs]
    hashes += [output.sha256 for output in record.outputs]
    sizes = [stamp.size for _, stamp in record.inputs]
    sizes += [n for output in record.outputs for n in (output.size, output.mtime_ns)]
    paths = [record.item, *(output.path for output in record.outputs)]
    optional = [record.key, record.error, record.code]
    optional += [output.before for output in record.outputs]
    return (
        record.state in STATES
        and all(isinstance(text, str) for text in (*texts, *hashes, *paths))
        and all(isinstance(text, str | None) for text in optional)
        and all(type(number) is int for number in (*sizes, record.attempts))
        and type(record.final) is bool
        and isinstance(record.started, float | int | None)
        and all(isinstance(part, dict) for part in (record.settings, record.seconds, record.facts))
        and all(isinstance(value, float | int) for value in record.seconds.values())
        and all(map(is_below, paths))
    )


def is_below(path: str) -> bool:
    """Whether a relative path with "/" stays in its folder on every system."""
    parts = path.split("/")
    return not any(part in ("", ".", "..") or "\\" in part or "\0" in part for part in parts)
