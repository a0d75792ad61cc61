"""What a command is given -> the pairs to work on: two photos, a folder or a pairs table."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dualsr_cli.errors import InputError, UsageError
from dualsr_cli.photos._shots import Stamp, list_photos, stamp_of
from dualsr_cli.photos.pairing import (
    FoundPair,
    Known,
    Leftover,
    Progress,
    SameScene,
    find_pairs,
    read_pairs_table,
)

_CHOICE = "name two photos, a folder or a pairs table (CSV)"


@dataclass(frozen=True)
class Source:
    """Where pairs come from and what is left over."""

    root: Path  # what the results' paths are relative to; every pair's wide photo lies in it
    pairs: tuple[FoundPair, ...]
    leftovers: tuple[Leftover, ...]

    def name(self, pair: FoundPair) -> str:
        """The path of a pair's wide photo relative to the root, its parts joined by "/"."""
        return Path(_plain(pair.wide)).relative_to(_plain(self.root)).as_posix()


def read_source(
    inputs: Sequence[Path],
    *,
    leave_out: Path | None = None,
    same_scene: SameScene | None = None,
    max_gap: float = 20.0,
    known: Known | None = None,
    progress: Progress = lambda stage, done, total: None,
) -> Source:
    """The pairs that `inputs` stand for.

    Two files are a pair as they are. A folder is searched by `find_pairs`, to which the options
    go; `leave_out` is the folder that results go to, which is not searched. A file whose suffix is
    .csv is read by `read_pairs_table`. Files that two arguments or a table name are not looked
    for: whoever reads them meets what is the matter with them.

    Raises UsageError for any other number or kind of inputs and where `leave_out` is the folder
    itself, InputError for a folder or table that cannot be read.
    """
    if len(inputs) == 2:
        wide, tele = inputs
        return Source(wide.parent, (FoundPair(wide, tele, None, None, "named"),), ())
    path = _only(inputs)
    if _is_table(path):
        pairs = read_pairs_table(path, must_exist=False)
        return Source(_root(path, pairs), pairs, ())
    if leave_out is not None and os.path.realpath(leave_out) == os.path.realpath(path):
        raise UsageError(f"{path} is to be searched and to hold the results: choose another folder")
    found = find_pairs(
        path,
        same_scene=same_scene,
        max_gap=max_gap,
        leave_out=leave_out,
        known=known,
        progress=progress,
    )
    return Source(path, found.pairs, found.leftovers)


def snapshot(inputs: Sequence[Path], *, leave_out: Path | None = None) -> dict[Path, Stamp]:
    """Size in bytes and modification time (ns) of each file that `read_source` may look at.

    These are the photos of the folder, or the table and the photos that it names, or the two
    photos; a file that is not there is left out. A table that is not whole yet stands alone.
    Raises UsageError as `read_source` does, InputError for a folder that cannot be opened.
    """
    if len(inputs) == 2:
        paths = list(inputs)
    elif _is_table(path := _only(inputs)):
        try:
            pairs = read_pairs_table(path, must_exist=False)
        except InputError:
            pairs = ()
        paths = [path, *(photo for pair in pairs for photo in (pair.wide, pair.tele))]
    else:
        paths, _ = list_photos(path, leave_out)
    stamps = {path: stamp_of(path) for path in paths}
    return {path: stamp for path, stamp in stamps.items() if stamp is not None}


def _only(inputs: Sequence[Path]) -> Path:
    """The folder or table that stands alone."""
    if len(inputs) != 1:
        raise UsageError(f"{len(inputs) or 'no'} inputs are given: {_CHOICE}")
    (path,) = inputs
    if not os.path.exists(path):
        raise InputError(path, "does not exist: check the path")
    if not os.path.isdir(path) and not _is_table(path):
        raise UsageError(f"{path} is neither a folder nor a pairs table: {_CHOICE}")
    return path


def _is_table(path: Path) -> bool:
    return path.suffix.lower() == ".csv" and not os.path.isdir(path)


def _root(csv: Path, pairs: Sequence[FoundPair]) -> Path:
    """The table's folder where all wide photos lie in it, else the deepest that holds them all."""
    folder = _plain(csv.parent)
    parents = [os.path.dirname(_plain(pair.wide)) for pair in pairs]
    try:
        if not parents or os.path.commonpath([folder, *parents]) == folder:
            return csv.parent
        return Path(os.path.commonpath(parents))
    except ValueError as error:  # on Windows
        raise InputError(csv, "names photos of several drives: make a table for each") from error


def _plain(path: Path) -> str:
    """Absolute and without "..", as it is written: links stay what they are called."""
    return os.path.abspath(path)
