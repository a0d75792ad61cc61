"""What of a manifest still holds: inputs, settings and results that are as they were recorded."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from dualsr_cli.errors import InputError
from dualsr_cli.jobs.item import Item, Stamp, sha256_of, stamp, stat_of
from dualsr_cli.jobs.manifest import Manifest, Output, Record


def planned(items: Sequence[Item], manifest: Manifest) -> Iterator[tuple[Item, str]]:
    """What a run would do with each item, without doing it.

    "new", "changed" (inputs or settings), "again" (it failed, its result is gone, or that was asked
    for), "unchanged" or "quarantined".
    """
    for item in items:
        record = manifest.get(item.name)
        if record is None:
            yield item, "new"
        elif record.state in ("failed", "pending") and not record.final:
            yield item, "again"
        elif not same_work(record, item) and not same_contents(record, item):
            yield item, "changed"
        elif record.state == "quarantined":
            yield item, "quarantined"
        elif record.final or (record.state == "done" and not is_missing(record, manifest.folder)):
            yield item, "unchanged"
        else:
            yield item, "again"


def mark_orphans(
    items: Sequence[Item], manifest: Manifest, source: str, command: str, partial: bool = False
) -> list[str]:
    """Note in the manifest what a command has no item for any more in this source.

    Returns the names. partial: the items are not all that there are; only what an input is gone of
    is noted then. Raises OutputError.
    """
    planned = {item.name for item in items}
    found = []
    for name in manifest.names():
        record = None if name in planned else manifest.get(name)
        if (
            record is None
            or record.state == "orphaned"
            or record.source != source
            or record.command != command
            or (partial and all(os.path.lexists(Path(source, path)) for path, _ in record.inputs))
        ):
            continue
        manifest.append(replace(record, state="orphaned"))
        found.append(name)
    return found


def stamped(path: Path) -> Stamp:
    """What can be said of an input that was not worked on; no hash where it cannot be read."""
    try:
        before = stat_of(path)
        return stamp(sha256_of(path), before)
    except (OSError, ValueError, InputError):
        return Stamp("", 0, None)


def same_work(record: Record, item: Item) -> bool:
    """Whether settings and inputs are as recorded, by the files' sizes and times alone."""
    if record.settings != item.settings or len(record.inputs) != len(item.inputs):
        return False
    try:
        return all(
            known.stat is not None and stat_of(path) == known.stat
            for path, (_, known) in zip(item.inputs, record.inputs, strict=True)
        )
    except (OSError, ValueError):
        return False


def same_contents(record: Record, item: Item) -> bool:
    """Whether settings and inputs are as recorded, by the files' contents."""
    if record.settings != item.settings or len(record.inputs) != len(item.inputs):
        return False
    try:
        return all(
            sha256_of(path) == known.sha256
            for path, (_, known) in zip(item.inputs, record.inputs, strict=True)
        )
    except InputError:
        return False


def is_missing(record: Record, folder: Path) -> bool:
    """Whether a file of the result is not in its place as it was made."""
    return any(found_at(folder / output.path, output) != output.sha256 for output in record.outputs)


def found_at(place: Path, output: Output) -> str | None:
    """The hash of what lies in an output's place; None: nothing does; "": it cannot be read.

    Where size and time are the recorded ones the content is taken to be.
    """
    try:
        status = os.stat(place)
        if (status.st_size, status.st_mtime_ns) == (output.size, output.mtime_ns):
            return output.sha256
        return sha256_of(place)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, InputError):
        return ""
