"""What a run over many pairs costs beside the work itself: `python -m benchmarks.jobs`.

First 10,000 tiny pairs (--pairs), 48 x 36 pixels, whose own work takes a few milliseconds. The
overhead is measured twice. "One after the other": the same pairs through a plain loop that reads,
computes and writes, and through the runner in the same process, in turn by blocks of 50; nothing
overlaps, so the difference of the two, less that of their fsyncs, is all that the runner adds:
hashes, locks, the manifest, renames. "In a worker": all pairs through the runner and its worker
process, as `dualsr upscale FOLDER` runs them; what it takes longer than the loop, and what both
processes compute more than the loop, each for one pair. Reading ahead can make the first negative.

Then 12-megapixel pairs (--big), of PHOTO enlarged: for which share of the time the computing thread
stood idle because a pair was not read yet or the one before not handed on, and for which share a
plain loop reads and writes. The runner's pairs a minute include the start of its worker.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks._memory import MIB, children, resident
from benchmarks._pairs import SAMPLES
from benchmarks.upscale_speed import write_pair
from dualsr_cli import jobs
from dualsr_cli.machine import default_memory
from dualsr_cli.photos import read_source
from dualsr_cli.reconstruction import UpscaleTask

OVERHEAD, GROWTH, IDLE = 0.005, 32 * MIB, 0.10  # seconds a pair, bytes, share: the targets
_BLOCK = 50
_COMPARED = 1000  # pairs that go through the plain loop as well
_SETTINGS = {"command": "upscale", "version": "benchmark"}


class Syncs:
    """Counts this process's fsyncs and how long they take, from `watch` on."""

    count = 0
    seconds = 0.0

    @classmethod
    def watch(cls) -> None:
        real = os.fsync

        def fsync(file: Any) -> None:
            start = time.perf_counter()
            try:
                real(file)
            finally:
                cls.seconds += time.perf_counter() - start
                cls.count += 1

        os.fsync = fsync


@dataclass(frozen=True)
class Measured(UpscaleTask):
    """`UpscaleTask` that also tells of its process: CPU seconds, fsyncs, and their seconds."""

    def prepare(self) -> None:
        super().prepare()
        Syncs.watch()

    def write(self, item: Any, result: Any, target: Path) -> dict[str, Any]:
        facts = super().write(item, result, target)
        return {**facts, "process": [time.process_time(), Syncs.count, Syncs.seconds]}


@dataclass
class Spent:
    """Seconds by the clock, of computing (CPU), and of fsyncs."""

    wall: float = 0.0
    cpu: float = 0.0
    sync: float = 0.0
    syncs: int = 0

    @contextmanager
    def more(self) -> Iterator[None]:
        before = time.perf_counter(), time.process_time(), Syncs.seconds, Syncs.count
        yield
        self.wall += time.perf_counter() - before[0]
        self.cpu += time.process_time() - before[1]
        self.sync += Syncs.seconds - before[2]
        self.syncs += Syncs.count - before[3]


@dataclass
class Watcher:
    """Hears of each result; notes memory (this process, its worker) after some of them."""

    marks: Sequence[int] = ()
    memory: dict[int, tuple[int, int]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    last: Any = None  # what the worker told of its process
    count: int = 0

    def __call__(self, result: jobs.Result) -> None:
        if result.problem:
            raise RuntimeError(result.problem.sentence)
        self.count += 1
        self.last = result.facts.get("process", self.last)
        for name, spent in result.seconds.items():
            self.seconds[name] = self.seconds.get(name, 0.0) + spent
        if self.count in self.marks:
            workers = max(map(resident, children(os.getpid())), default=0)
            self.memory[self.count] = resident(), workers


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photo", nargs="?", default=SAMPLES / "phone-jpeg" / "tele.jpg", type=Path)
    parser.add_argument("--pairs", type=int, default=10_000, help="tiny ones; 0: none")
    parser.add_argument("--big", type=int, default=6, help="pairs of 12 megapixels; 0: none")
    parser.add_argument("--megapixels", type=float, default=12.0, help="of the big ones")
    options = parser.parse_args()
    Syncs.watch()
    missed = []
    with tempfile.TemporaryDirectory() as home:
        if options.pairs:
            missed += tiny_pairs(Path(home, "tiny"), options.pairs)
        if options.big:
            missed += big_pairs(Path(home, "big"), options.photo, options.big, options.megapixels)
    print("\n".join(missed) or "all targets are met")
    return bool(missed)


# --- overhead and memory ---


def tiny_pairs(home: Path, count: int) -> list[str]:
    """Measure, print, and return which targets are missed."""
    album = home / "album"
    write_tiny(album, count)
    start = time.perf_counter()
    source = read_source([album])
    spent = time.perf_counter() - start
    items = items_of(album, [(pair.wide, pair.tele) for pair in source.pairs])
    assert len(items) == count, f"{len(items)} pairs are found"
    print(f"{count} tiny pairs")
    row("finding them by EXIF", spent / count)

    compared = items[:_COMPARED]
    loop, inline, over = one_after_the_other(compared, home)
    few = len(compared)
    print(f"one after the other ({few} pairs)", " " * 20, "ms a pair")
    row("plain loop: read, compute, write", loop.wall / few, loop.sync / few, loop.syncs / few)
    row("runner in the same process", inline.wall / few, inline.sync / few, inline.syncs / few)
    row("overhead less fsyncs, median of blocks", over)

    driver, worker, memory = in_a_worker(items, home)
    longer = (driver.wall - driver.sync) / count - loop.wall / few
    more_cpu = (driver.cpu + worker.cpu) / count - loop.cpu / few
    syncs = (driver.sync + worker.sync) / count, (driver.syncs + worker.syncs) / count
    print(f"in a worker ({count} pairs)")
    row("runner", driver.wall / count, *syncs)
    row("longer than the loop, less the driver's fsyncs", longer)
    row("more CPU than the loop", more_cpu)
    row("driver's CPU alone", driver.cpu / count)

    again, plan, manifest = Spent(), Spent(), jobs.Manifest(home / "out")
    engine = jobs.LocalEngine(UpscaleTask(), 1, default_memory())  # is never started
    with again.more():
        tally = jobs.run(items, home / "out", engine, manifest)
    assert tally.unchanged == count, tally
    with plan.more():
        found = {action for _, action in jobs.planned(items, manifest)}
    assert found == {"unchanged"}, found
    manifest.close()
    row("second run, which finds all done", again.wall / count)
    row("--dry-run after that", plan.wall / count)

    print("memory in use, MiB", "driver".rjust(31), "worker".rjust(9))
    for mark, (own, other) in memory.items():
        print(f"  after {mark} pairs".ljust(40), f"{own / MIB:9.1f}", f"{other / MIB:9.1f}")
    first, *_, last = memory.values()
    growth = max(last[0] - first[0], last[1] - first[1])
    missed = []
    if max(over, longer) >= OVERHEAD:
        missed.append(f"missed: the overhead is not under {1000 * OVERHEAD:.0f} ms")
    if growth > GROWTH:
        missed.append(f"missed: memory grows by {growth / MIB:.0f} MiB")
    return missed


def one_after_the_other(items: Sequence[jobs.Item], home: Path) -> tuple[Spent, Spent, float]:
    """What a plain loop and what the runner take for these, and the runner's overhead for one."""
    task, loop, inline = UpscaleTask(), Spent(), Spent()
    task.prepare()
    plain(task, items[:1], home / "warm")
    engine = jobs.InlineEngine(task)
    manifest = jobs.Manifest(home / "inline")
    overheads = []
    for start in range(0, len(items), _BLOCK):
        block = items[start : start + _BLOCK]
        first, second = Spent(), Spent()
        with first.more():
            plain(task, block, home / "loop")
        with second.more():
            jobs.run(block, home / "inline", engine, manifest, report=Watcher())
        overheads.append((second.wall - second.sync - first.wall + first.sync) / len(block))
        for total, part in ((loop, first), (inline, second)):
            total.wall += part.wall
            total.cpu += part.cpu
            total.sync += part.sync
            total.syncs += part.syncs
    manifest.close()
    for item in items:
        assert (home / "loop" / item.name).read_bytes() == (
            home / "inline" / item.name
        ).read_bytes()
    return loop, inline, statistics.median(overheads)


def in_a_worker(
    items: Sequence[jobs.Item], home: Path
) -> tuple[Spent, Spent, dict[int, tuple[int, int]]]:
    """What this process and its worker spend on all items, but for starting; memory on the way.

    Of the worker only `cpu`, `sync` and `syncs` are known.
    """
    count = len(items)
    warm, watcher = Watcher(), Watcher(marks=(max(1, count // 10), max(1, count // 2), count))
    engine = jobs.LocalEngine(Measured(), 1, default_memory())
    manifest = jobs.Manifest(home / "warm-out")
    jobs.run(items[:1], home / "warm-out", engine, manifest, report=warm)
    manifest.close()
    driver, manifest = Spent(), jobs.Manifest(home / "out")
    with driver.more():
        tally = jobs.run(items, home / "out", engine, manifest, report=watcher)
    manifest.close()
    engine.stop()
    assert tally.done == count, tally
    cpu, syncs, sync = (
        after - before for after, before in zip(watcher.last, warm.last, strict=True)
    )
    return driver, Spent(cpu=cpu, sync=sync, syncs=syncs), watcher.memory


def plain(task: UpscaleTask, items: Sequence[jobs.Item], out: Path) -> dict[str, float]:
    """Do the work and nothing else; seconds of each step."""
    seconds = {"read": 0.0, "compute": 0.0, "write": 0.0}
    out.mkdir(parents=True, exist_ok=True)
    for item in items:
        times = [time.perf_counter()]
        data = task.read(item)
        times.append(time.perf_counter())
        result = task.compute(item, data)
        del data
        times.append(time.perf_counter())
        task.write(item, result, out / item.name)
        del result
        times.append(time.perf_counter())
        for name, begin, end in zip(seconds, times, times[1:], strict=False):
            seconds[name] += end - begin
    return seconds


def write_tiny(folder: Path, count: int) -> None:
    """`count` pairs of 48 x 36 pixels, a minute apart: copies but for the time in their EXIF."""
    folder.mkdir(parents=True)
    for lens, later in (("wide", 0), ("tele", 2)):
        with Image.open(SAMPLES / "phone-jpeg" / f"{lens}.jpg") as image:
            exif = image.getexif()
            taken = exif.get_ifd(0x8769)[0x9003].encode()
            file = BytesIO()
            image.resize((48, 36)).save(file, "JPEG", quality=90, exif=exif)
        for number in range(count):
            moment = datetime(2024, 5, 17) + timedelta(minutes=number, seconds=later)
            data = file.getvalue().replace(taken, f"{moment:%Y:%m:%d %H:%M:%S}".encode())
            (folder / f"IMG_{number:05}_{lens[0]}.jpg").write_bytes(data)


def items_of(folder: Path, pairs: Sequence[tuple[Path, Path]]) -> list[jobs.Item]:
    return [
        jobs.Item(wide.name, (wide, tele), (wide.name, tele.name), _SETTINGS)
        for wide, tele in pairs
    ]


def row(what: str, seconds: float, sync: float | None = None, syncs: float = 0.0) -> None:
    """A line with milliseconds for one pair."""
    rest = "" if sync is None else f"  of which {1000 * sync:.2f} for {syncs:.1f} fsyncs"
    print(f"  {what}".ljust(52), f"{1000 * seconds:8.2f}{rest}", flush=True)


# --- idleness ---


def big_pairs(home: Path, photo: Path, count: int, megapixels: float) -> list[str]:
    """Measure, print, and return which targets are missed."""
    home.mkdir(parents=True)
    first = write_pair(photo, megapixels, home)
    pairs = []
    for number in range(count):
        pair = home / f"{number}_wide.jpg", home / f"{number}_tele.jpg"
        for source, target in zip(first, pair, strict=True):
            shutil.copyfile(source, target)
        pairs.append(pair)
    items = items_of(home, pairs)
    print(f"{count} pairs of {megapixels:g} MP")

    task = UpscaleTask()
    task.prepare()
    start = time.perf_counter()
    steps = plain(task, items, home / "loop")
    loop = time.perf_counter() - start
    share = (steps["read"] + steps["write"]) / loop
    _tell("plain loop", count / loop, share, steps)

    watcher, manifest = Watcher(), jobs.Manifest(home / "out")
    engine = jobs.LocalEngine(UpscaleTask(), 1, default_memory())
    start = time.perf_counter()
    jobs.run(items, home / "out", engine, manifest, report=watcher)
    spent = time.perf_counter() - start
    engine.stop()
    manifest.close()
    seconds = watcher.seconds
    idle = seconds["idle"] / (seconds["idle"] + seconds["compute"])
    _tell("runner", count / spent, idle, seconds)
    return [] if idle <= IDLE else [f"missed: computing is idle for {idle:.0%} of the time"]


def _tell(what: str, rate: float, share: float, seconds: dict[str, float]) -> None:
    print(f"  {what:12}{60 * rate:6.2f} pairs a minute, {share:6.1%} of the time not computing")
    told = (f"{name} {spent:.1f} s" for name, spent in seconds.items())
    print(f"{'':14}{', '.join(told)}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
