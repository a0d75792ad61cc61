"""Records as rows for people, spreadsheets and scripts."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Collection, Sequence
from datetime import datetime, timezone
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from dualsr_cli.errors import UsageError
from dualsr_cli.files import atomic_writer
from dualsr_cli.jobs.manifest import Record, read_records

_COLUMNS = (
    "item", "state", "command", "attempts", "seconds", "started", "error", "code", "inputs",
    "outputs", "bytes", "key",
)  # fmt: skip


def find_records(
    folder: Path, states: Collection[str] = (), pattern: str | None = None
) -> tuple[list[Record], int]:
    """The records in one of `states` (all where empty) whose item fits a shell's pattern.

    By name; then how many lines of the manifest are damaged. Raises InputError.
    """
    records, damaged = read_records(folder)
    return [
        record
        for record in records
        if (not states or record.state in states)
        and (pattern is None or fnmatchcase(record.item, pattern))
    ], damaged


def row_of(record: Record) -> dict[str, Any]:
    """A record as it is shown to scripts, in JSON's types.

    Files of a result that was made before an item failed are not among its outputs.
    """
    stands = record.state in ("done", "orphaned")
    started = record.started
    return {
        "item": record.item,
        "state": record.state,
        "command": record.command,
        "key": record.key if stands else None,
        "inputs": [
            {
                "path": name,
                "sha256": stamp.sha256 or None,
                "size": stamp.size if stamp.sha256 else None,
            }
            for name, stamp in record.inputs
        ],
        "outputs": [
            {"path": output.path, "sha256": output.sha256, "size": output.size}
            for output in (record.outputs if stands else ())
        ],
        "error": record.error,
        "code": record.code,
        "attempts": record.attempts,
        "started": (
            None
            if started is None
            else datetime.fromtimestamp(started, timezone.utc).isoformat(timespec="seconds")
        ),
        "seconds": record.took,
        "facts": dict(record.facts) if stands else {},
    }


def export_records(records: Sequence[Record], path: Path) -> None:
    """Save rows as CSV or JSON lines, as the suffix says. Raises UsageError, OutputError."""
    writers = {".csv": _as_csv, ".jsonl": _as_json_lines}
    if path.suffix.lower() not in writers:
        raise UsageError(f"{path} is neither .csv nor .jsonl: name one of these")
    text = writers[path.suffix.lower()]([row_of(record) for record in records])
    with atomic_writer(path) as file:
        file.write(text.encode("utf-8", "backslashreplace"))  # names that are no Unicode


def _as_json_lines(rows: Sequence[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def _as_csv(rows: Sequence[dict[str, Any]]) -> str:
    text = io.StringIO(newline="")
    table = csv.writer(text, lineterminator="\n")
    table.writerow(_COLUMNS)
    for row in rows:
        files = {
            "inputs": ";".join(entry["path"] for entry in row["inputs"]),
            "outputs": ";".join(entry["path"] for entry in row["outputs"]),
            "bytes": sum(entry["size"] for entry in row["outputs"]),
        }
        table.writerow([{**row, **files}[column] for column in _COLUMNS])
    return text.getvalue()
