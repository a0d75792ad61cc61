"""`dualsr bench --dry-run`: what would be scored, with nothing computed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from dualsr_cli import jobs
from dualsr_cli.console import Console
from dualsr_cli.errors import DualsrError

if TYPE_CHECKING:
    from dualsr_cli.benchmark import Bench

_DONE = "unchanged", "quarantined"


def tell_dry_run(console: Console, bench: Bench, folder: Path, overwrite: bool) -> int:
    """What a run would do, by method and protocol; each item with `verbose`, or as JSON.

    Returns the exit code.
    """
    counts: dict[tuple[str, str], Counter[str]] = {}
    pixels: Counter[tuple[str, str]] = Counter()
    for item, action in _planned(bench, folder):
        work = bench.work[item.name]
        action = "again" if overwrite and action in _DONE else action
        key = work.method.name, work.protocol or work.map or "images"
        counts.setdefault(key, Counter())[action] += 1
        if action not in _DONE:
            pixels[key] += _pixels(bench, item.name)
        console.detail(f"{action}: {folder / item.name}")
        console.emit_json(
            {
                "event": "due",
                "item": item.name,
                "case": work.case.name,
                "method": work.method.name,
                "protocol": work.protocol or None,
                "action": action,
            }
        )
    rows = []
    for key, found in counts.items():
        done = sum(found[action] for action in _DONE)
        rows.append((*key, str(done), str(found.total() - done), f"{pixels[key] / 1e6:.1f}"))
    if rows:
        console.table(["method", "protocol", "done before", "to do", "megapixels"], rows)
    for row in bench.ablation.rows if bench.ablation else ():
        if row.absent:
            console.result(row.absent)
    return 0 if rows else 1


def _planned(bench: Bench, folder: Path) -> Iterator[tuple[jobs.Item, str]]:
    items = bench.items()
    if not jobs.has_manifest(folder):  # and none is made
        yield from ((item, "new") for item in items)
        return
    manifest = jobs.Manifest(folder)
    try:
        yield from jobs.planned(items, manifest)
    finally:
        manifest.close()


def _pixels(bench: Bench, item: str) -> int:
    """Of the truth, by its header; 0 where that cannot be read."""
    from dualsr_cli.photos import read_header

    case = bench.work[item].case
    if case.crops:
        top, left, bottom, right = case.crops[0]
        return (bottom - top) * (right - left)
    assert case.truth is not None
    with suppress(DualsrError):
        header = read_header(case.truth)
        return header.width * header.height
    return 0
