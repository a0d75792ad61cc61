"""`dualsr jobs`: what a manifest knows: shown, filtered, exported; items to be done again."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from dualsr_cli.commands.options import Json, Quiet
from dualsr_cli.console import Console
from dualsr_cli.errors import UsageError


class State(str, Enum):
    done = "done"
    failed = "failed"
    quarantined = "quarantined"
    orphaned = "orphaned"
    pending = "pending"


def jobs(
    folder: Annotated[
        Path,
        typer.Argument(metavar="OUT", help="A folder of results.", show_default=False),
    ],
    state: Annotated[
        list[State] | None,
        typer.Option(help="Only items in this state; may be given again.", show_default=False),
    ] = None,
    item: Annotated[
        str | None,
        typer.Option(
            metavar="PATTERN",
            help="Only items whose name fits, like 'rome/*'.",
            show_default=False,
        ),
    ] = None,
    export: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Save them as .csv or as JSON lines, .jsonl.", show_default=False
        ),
    ] = None,
    retry: Annotated[
        bool,
        typer.Option(
            "--retry",
            help="Have the next run do them again; without --state those that are quarantined.",
        ),
    ] = False,
    merge: Annotated[
        bool,
        typer.Option("--merge", help="First join the manifests of shards to one."),
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Show what the manifest of a folder of results knows of each item.

    States: done; failed (the next run tries it again); quarantined (it crashed or hung: left out
    until --retry); orphaned (a photo of its pair is gone, the result is kept); pending (to be
    done again).

    \b
    Examples:
      dualsr jobs sharp --state failed
      dualsr jobs sharp --state quarantined --retry
      dualsr jobs sharp --export table.csv
      dualsr jobs sharp --merge --json
    """
    from dualsr_cli.jobs import (
        export_records,
        find_records,
        merge_shards,
        row_of,
        set_pending,
    )

    console = Console(quiet=quiet, json=json)
    if merge:
        count = merge_shards(folder)
        console.say(f"manifests joined: {count}")
    wanted = [entry.value for entry in state or ()]
    if retry and not wanted:
        wanted = [State.quarantined.value]
    if retry and State.pending.value in wanted:
        raise UsageError("--state pending is to be done again already: name another state")
    records, damaged = find_records(folder, wanted, item)
    if damaged:
        console.warn(f"lines of the manifest that cannot be read: {damaged}")
    if retry:
        set_pending(folder, records)
        console.say(f"to be done again: {len(records)}")
        return 0
    if export:
        export_records(records, export)
    rows = [
        (record.item, record.state, record.attempts, record.took, record.error or "")
        for record in records
    ]
    if rows and not export:
        console.table(["item", "state", "attempts", "seconds", "error"], rows)
    for record in records:
        console.emit_json({"event": "job", **row_of(record)})
    console.say(f"items: {len(records)}")
    return 0
