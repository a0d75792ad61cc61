"""The inputs of a command as items: pairs found, results named; once, or as they arrive."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dualsr_cli
from dualsr_cli import jobs
from dualsr_cli.commands._batch_options import Batch
from dualsr_cli.console import Console, Progress

if TYPE_CHECKING:
    from dualsr_cli.photos import Source

Stamps = Mapping[Path, tuple[int, int]]
"""Size and modification time (ns) of files."""


@dataclass(frozen=True)
class Work:
    """What a command does with a pair.

    command: its name; event: of its JSON lines; task: made with a callback for the progress of a
    single pair, or None; settings: what decides the result beside the photos; suffix: of the
    result for a wide photo ("": the result is a folder); tell: prints what is worth knowing of one
    result, given its facts and how to begin; check: refuses an output early; named: settings that
    the JSON lines repeat.
    """

    command: str
    event: str
    task: Callable[[Progress | None], jobs.Task]
    settings: Mapping[str, Any]
    suffix: Callable[[Path], str]
    tell: Callable[[Console, Mapping[str, Any], str], None]
    check: Callable[[Path], None]
    named: tuple[str, ...] = ()

    def item(self, name: str, photos: Sequence[Path], names: Sequence[str]) -> jobs.Item:
        """The item that makes `name` of a wide and a tele photo."""
        settings = {"command": self.command, "version": dualsr_cli.__version__, **self.settings}
        return jobs.Item(name, tuple(photos), tuple(names), settings)


@dataclass
class Reader:
    """Reads the inputs into items, again and again where they are watched."""

    work: Work
    inputs: Sequence[Path]
    folder: Path
    batch: Batch
    stop: jobs.Stop
    known: Any = field(default_factory=dict)  # what was read of photos that have not changed
    scores: dict[Any, float] = field(default_factory=dict)

    def read(self, settled: Stamps | None) -> tuple[Source, list[jobs.Item]]:
        """The source and its items; `settled`: those of these files only."""
        from dualsr_cli.photos import read_source

        with self.batch.console.progress() as progress:

            def stoppable(stage: str, done: int, total: int) -> None:
                if self.stop.asked:
                    raise KeyboardInterrupt
                progress(stage, done, total)

            source = read_source(
                self.inputs,
                leave_out=self.folder,
                same_scene=None if self.batch.no_content_check else self._same_scene,
                max_gap=self.batch.max_gap,
                known=self.known if self.batch.watch else None,
                progress=stoppable,
            )
        pairs = [
            pair
            for pair in source.pairs
            if settled is None or (pair.wide in settled and pair.tele in settled)
        ]
        wishes = []
        for pair in pairs:
            photos = tuple(
                Path(os.path.relpath(path, source.root)).as_posix()
                for path in (pair.wide, pair.tele)
            )
            wishes.append(jobs.Wish(source.name(pair), self.work.suffix(pair.wide), photos))
        items = [
            self.work.item(name, (pair.wide, pair.tele), wish.identity)
            for name, pair, wish in zip(jobs.names(wishes), pairs, wishes, strict=True)
        ]
        return source, items

    def snapshot(self) -> Stamps:
        from dualsr_cli.photos import snapshot

        return snapshot(self.inputs, leave_out=self.folder)

    def _same_scene(self, wide: Path, tele: Path) -> float:
        from dualsr_cli.alignment import same_scene

        if not self.batch.watch:
            return same_scene(wide, tele)
        key = tuple(
            (path, os.stat(path).st_size, os.stat(path).st_mtime_ns) for path in (wide, tele)
        )
        if key not in self.scores:
            self.scores[key] = same_scene(wide, tele)
        return self.scores[key]


def rounds(reader: Reader) -> Iterator[Stamps | None]:
    """Once; or, with --watch, whenever files have come and are whole: the files that are.

    A file counts as whole once its size and time have been the same in two looks.
    """
    if not reader.batch.watch:
        yield None
        return
    before: Stamps = {}
    done: Stamps | None = None
    while not reader.stop.asked:
        now = reader.snapshot()
        settled = {path: stamp for path, stamp in now.items() if before.get(path) == stamp}
        if settled != done and (settled or not now):
            done = settled
            yield settled
        before = now
        reader.stop.sleep(reader.batch.interval)
