"""One pair, a table or a folder of pairs through a task: what upscale and align have in common.

Reads the inputs into items, hands them to the runner, and tells what became of each. One pair into
a named file goes the same way, in this process and without a manifest.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from dualsr_cli import jobs
from dualsr_cli.commands._batch_options import Batch, EngineName, parse_shard
from dualsr_cli.commands._reader import Reader, Work, rounds
from dualsr_cli.commands._teller import Teller
from dualsr_cli.console import Console
from dualsr_cli.errors import OutputError, UsageError
from dualsr_cli.machine import default_memory, parse_memory

__all__ = ["Work", "is_one_file", "work_on"]


def work_on(work: Work, inputs: Sequence[Path], output: str, batch: Batch, *, one: bool) -> int:
    """Do the inputs' pairs; returns the exit code. `one`: output is one pair's own place."""
    place = Path(output)
    if one:
        # What "." and ".." are called is found out by making them absolute.
        place = place if place.name not in ("", "..") else Path(os.path.abspath(place))
        return _work_on_one(work, inputs, place, batch)
    from dualsr_cli.photos import READ_SUFFIXES

    if place.suffix.lower() in READ_SUFFIXES and not place.is_dir():
        raise UsageError(f"{output} is a file's name, but many results may come: name a folder")
    return _work_through(work, inputs, place, batch)


def is_one_file(inputs: Sequence[Path], output: str) -> bool:
    """Whether two photos go into a file of their own, not into a folder with a manifest."""
    return len(inputs) == 2 and not output.endswith(("/", os.sep)) and not os.path.isdir(output)


def _work_on_one(work: Work, photos: Sequence[Path], output: Path, batch: Batch) -> int:
    console = batch.console
    for name, given in (("--watch", batch.watch), ("--shard", batch.shard)):
        if given:
            raise UsageError(f"{name} is for a folder or a table of pairs: name one")
    work.check(output)
    for photo in photos:
        if output.exists() and photo.exists() and output.samefile(photo):
            raise OutputError(output, "is one of the photos themselves: choose another name")
    item = work.item(output.name, photos, [str(path) for path in photos])
    if batch.dry_run:
        _tell_plan(console, item, output.parent, "new")
        return 0
    results: list[jobs.Result] = []
    stop = jobs.Stop()
    with console.progress() as progress, stop.signals(at_once=True):
        engine = jobs.InlineEngine(work.task(progress))
        tally = jobs.run([item], output.parent, engine, None, report=results.append)
    teller = Teller(console, work, output.parent, None)
    for result in results:
        teller.tell(result)
    if tally.problem:
        teller.tell_problem(tally.problem)
    return tally.exit_code()


def _work_through(work: Work, inputs: Sequence[Path], folder: Path, batch: Batch) -> int:
    shard = parse_shard(batch.shard) if batch.shard else None
    stop = jobs.Stop()
    reader = Reader(work, inputs, folder, batch, stop)
    if batch.dry_run:
        return _plan(reader, shard)
    manifest = jobs.Manifest(folder, shard)
    with ExitStack() as stack:
        stack.callback(manifest.close)
        teller = Teller(batch.console, work, folder, manifest.path)
        teller.warn_of(manifest, sharded=shard is not None)
        engine = _engine(work, batch)
        stack.callback(engine.stop)
        with stop.signals():
            for settled in rounds(reader):
                source, items = reader.read(settled)
                items = [item for item in items if shard is None or jobs.in_shard(item.name, shard)]
                options = _options(batch, source.root)
                with batch.console.progress() as teller.progress:
                    teller.start_round(source.leftovers, len(items))
                    tally = jobs.run(items, folder, engine, manifest, options, teller.tell, stop)
                teller.add(tally)
                if len(inputs) == 1 and not (stop.asked or tally.problem):
                    # A table may be one of several for a folder.
                    partial = bool(shard or batch.watch or not inputs[0].is_dir())
                    gone = jobs.mark_orphans(items, manifest, options.source, work.command, partial)
                    teller.tell_orphans(gone)
                if tally.problem:
                    break
            teller.tally.interrupted |= stop.asked
    return teller.tell_end(" and ".join(map(str, inputs)))


def _plan(reader: Reader, shard: tuple[int, int] | None) -> int:
    """--dry-run: print what a run would do."""
    console = reader.batch.console
    source, items = reader.read(None)
    items = [item for item in items if shard is None or jobs.in_shard(item.name, shard)]
    for item, action in _planned(items, reader.folder, shard):
        _tell_plan(console, item, reader.folder, action)
    for leftover in source.leftovers:
        console.say(leftover.sentence)
        console.emit_json({"event": "leftover", **vars(leftover)})
    return 0 if items else 1


def _planned(
    items: Sequence[jobs.Item], folder: Path, shard: tuple[int, int] | None
) -> Iterator[tuple[jobs.Item, str]]:
    if not jobs.has_manifest(folder):  # and none is made
        yield from ((item, "new") for item in items)
        return
    manifest = jobs.Manifest(folder, shard)
    try:
        yield from jobs.planned(items, manifest)
    finally:
        manifest.close()


def _tell_plan(console: Console, item: jobs.Item, folder: Path, action: str) -> None:
    console.result(f"{action}: {folder / item.name}")
    wide, tele = item.inputs
    console.emit_json(
        {"event": "planned", "item": item.name, "wide": wide, "tele": tele, "action": action}
    )


def _engine(work: Work, batch: Batch) -> jobs.Engine:
    memory = parse_memory(batch.max_memory) if batch.max_memory else default_memory()
    task = work.task(None)
    if batch.engine is EngineName.ray:
        return jobs.RayEngine(task, batch.jobs, memory, batch.ray_address)
    if batch.ray_address:
        raise UsageError("--ray-address is for --engine ray: add that")
    return jobs.LocalEngine(task, batch.jobs or max(1, (os.cpu_count() or 1) // 8), memory)


def _options(batch: Batch, root: Path) -> jobs.RunOptions:
    return jobs.RunOptions(
        batch.retries, batch.timeout, batch.overwrite, batch.keep_going, os.path.abspath(root)
    )
