"""Many items through few workers, with a manifest that survives whatever happens."""

from dualsr_cli.jobs._engines import Engine, InlineEngine, LocalEngine, Lost
from dualsr_cli.jobs._ray import RayEngine
from dualsr_cli.jobs._stop import Stop
from dualsr_cli.jobs.export import export_records, find_records, row_of
from dualsr_cli.jobs.item import Item, Outcome, Problem, Task
from dualsr_cli.jobs.manifest import (
    STATES,
    Manifest,
    Output,
    Record,
    has_manifest,
    merge_shards,
    read_records,
    set_pending,
)
from dualsr_cli.jobs.naming import Wish, in_shard, names
from dualsr_cli.jobs.planning import mark_orphans, planned
from dualsr_cli.jobs.results import Result, RunOptions, Tally
from dualsr_cli.jobs.runner import run

__all__ = [
    "STATES",
    "Engine",
    "InlineEngine",
    "Item",
    "LocalEngine",
    "Lost",
    "Manifest",
    "Outcome",
    "Output",
    "Problem",
    "RayEngine",
    "Record",
    "Result",
    "RunOptions",
    "Stop",
    "Tally",
    "Task",
    "Wish",
    "export_records",
    "find_records",
    "has_manifest",
    "in_shard",
    "mark_orphans",
    "merge_shards",
    "names",
    "planned",
    "read_records",
    "row_of",
    "run",
    "set_pending",
]
