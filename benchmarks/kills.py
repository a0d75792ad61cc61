"""Kills runs over a folder and looks whether they can be resumed: `python -m benchmarks.kills`.

First at every step towards the disk (writes, fsyncs, renames and more, see `_kill_points`), of
`upscale` and, more coarsely, of `align`. All of such a run happens in one process; what is computed
for a pair is kept from an earlier run, for no step lies within computing. Then with a disk that is
full from the n-th step on: such a run must say so and end. Then at random moments of the real
command: its driver, its worker, one after the other, or the whole process group; sometimes several
times in a row. After each of these no result may be there in part; after an ordinary run has
resumed the work, results must be byte for byte those of an uninterrupted run of the real command,
so must be the manifest's rows (times and attempts aside), and nothing else may be left in the
folder.

Needs Linux. Exits with 1 if anything differs. Takes 20 to 40 minutes on two cores.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks._kill_points import full_at, in_lanes, killed_at, run_forked, steps_of
from benchmarks._tiny_pairs import make_pairs
from dualsr_cli import commands, jobs

REPOSITORY = Path(__file__).parent.parent
OPTIONS = {"upscale": ["--scale", "1", "-q"], "align": ["-q"]}
_NOW_AND_THEN = 0.1  # of the random kills fall into the start of the process
_ROW = "{:<8} {:<27} {:>6} {:>9} {:>8}"


@dataclass(frozen=True)
class Left:
    """What a run leaves in its folder."""

    files: dict[str, bytes]
    rows: list[dict[str, Any]]
    private: list[str]


def left_in(out: Path) -> Left:
    """The results, the manifest's rows without what may differ, and the names in .dualsr."""
    rows = []
    for record in jobs.read_records(out)[0]:
        row = jobs.row_of(record)
        del row["attempts"], row["started"], row["seconds"]
        row["facts"].pop("seconds", None)
        rows.append(row)
    private = sorted(path.name for path in (out / ".dualsr").rglob("*"))
    return Left(results_in(out), rows, private)


def results_in(out: Path) -> dict[str, bytes]:
    """Every file outside of .dualsr; folders without files as well, with a slash."""
    found = {}
    for path in out.rglob("*"):
        name = path.relative_to(out).as_posix()
        if not name.startswith(".dualsr"):
            if path.is_file():
                found[name] = path.read_bytes()
            elif not any(path.iterdir()):
                found[name + "/"] = b""
    return found


def differences(found: Left, expected: Left) -> list[str]:
    """A sentence for each way in which a resumed run's folder is not the uninterrupted one's."""
    lines = []
    for name in sorted(found.files.keys() | expected.files.keys()):
        if name not in found.files:
            lines.append(f"{name} is missing")
        elif name not in expected.files:
            lines.append(f"{name} is left over")
        elif found.files[name] != expected.files[name]:
            lines.append(f"{name} differs")
    for row in found.rows:
        if row not in expected.rows:
            lines.append(f"the manifest says otherwise of {row['item']}: {row}")
    if len(found.rows) != len(expected.rows):
        lines.append(f"the manifest has {len(found.rows)} rows, not {len(expected.rows)}")
    if found.private != expected.private:
        lines.append(f".dualsr holds {found.private}")
    return lines


@dataclass(frozen=True)
class _Remembering:
    """A task that computes an item once and keeps what came of it in a folder."""

    task: jobs.Task
    folder: Path

    def prepare(self) -> None:
        self.task.prepare()

    def memory(self, item: jobs.Item) -> int:
        return self.task.memory(item)

    def read(self, item: jobs.Item) -> Any:
        return self.task.read(item)

    def compute(self, item: jobs.Item, data: Any) -> Any:
        place = self.folder / hashlib.sha256(item.name.encode()).hexdigest()
        if place.exists():
            return pickle.loads(place.read_bytes())
        result = self.task.compute(item, data)
        place.write_bytes(pickle.dumps(result))
        return result

    def write(self, item: jobs.Item, result: Any, target: Path) -> dict[str, Any]:
        return self.task.write(item, result, target)


@dataclass(frozen=True)
class Trial:
    """Runs of one command over one folder, all of which must leave the same.

    seconds: of the real command from its first sign of work to its end, and before that.
    """

    command: str
    source: Path
    scratch: Path
    expected: Left
    exit_code: int
    seconds: tuple[float, float]

    @classmethod
    def begin(cls, command: str, pairs: int, scratch: Path) -> Trial:
        """Make the pairs and the results that all others are held against."""
        source, out = scratch / "photos", scratch / "expected"
        (scratch / "computed").mkdir(parents=True)
        # Of the libraries that start threads nothing may be used here, for this process is forked.
        if run_forked(lambda: make_pairs(source, pairs)) != 0:
            raise RuntimeError("the pairs could not be made")
        start = time.monotonic()
        process = _start(command, source, out)
        for _ in _until(lambda: _at_work(out), process):
            pass
        work = time.monotonic()
        exit_code = process.wait()
        if exit_code not in (0, 3):
            raise RuntimeError(f"a run that nobody killed ended with {exit_code}: {_tail(out)}")
        seconds = time.monotonic() - work, work - start
        trial = cls(command, source, scratch, left_in(out), exit_code, seconds)
        here = scratch / "here"
        lines = trial._resumed(here)
        if lines:
            raise RuntimeError(f"a run in one process is another: {lines}")
        return trial

    def steps(self) -> int:
        return steps_of(lambda: self._run(self.scratch / "counted"))

    def kill_at(self, step: int) -> list[str]:
        """Kill a run at this step and resume it; returns what is wrong then."""
        out = self.scratch / f"out-{step}"
        killed_at(step, lambda: self._run(out))
        return self._torn(out) + self._resumed(out)

    def fill_disk_at(self, step: int) -> list[str]:
        """Let the disk be full from this step on, then have room; returns what is wrong then."""
        out = self.scratch / f"full-{step}"
        code = full_at(step, lambda: self._run(out, plain=True))
        said = _log(out).read_text(encoding="utf-8")
        lines = self._torn(out)
        if code not in ({self.exit_code, 1, 3} if step else {1}) or "Traceback" in said:
            lines.append(f"exit code {code} on a full disk: {_tail(out)}")
        if code != self.exit_code and "the disk is full; free some space" not in said:
            lines.append(f"nothing about the full disk: {_tail(out)}")
        return lines + self._resumed(out)

    def kill_at_random(self, seed: str) -> list[str]:
        """Kill the real command once or more often and resume it; returns what is wrong then."""
        rng = random.Random(seed)
        out = self.scratch / f"out-{seed}"
        lines: list[str] = []
        left = rng.choice((1, 1, 1, 2, 3))
        while left:
            wrong = self._kill_processes(rng, out)
            if wrong is None:  # too late: from the beginning
                shutil.rmtree(out)
            else:
                lines += wrong
                left -= 1
        return lines + self._resumed(out)

    def _kill_processes(self, rng: random.Random, out: Path) -> list[str] | None:
        """Start the real command and kill it; what is wrong then, None where it was done before."""
        process = _start(self.command, self.source, out)
        work, start = self.seconds
        if rng.random() < _NOW_AND_THEN:
            delay = rng.uniform(0, start)
        else:
            for _ in _until(lambda: _at_work(out), process):
                pass
            delay = rng.uniform(0, work)
        end = time.monotonic() + delay
        for _ in _until(lambda: time.monotonic() >= end, process):
            pass
        if process.poll() is not None:
            return None
        workers = _workers(process.pid)
        whom = rng.choice(("driver", "worker", "driver first", "worker first", "group"))
        if whom == "group":
            _kill(process.pid, os.killpg)
        else:
            order = [process.pid] * (whom != "worker" or not workers)
            if whom != "driver":
                order = order + workers if whom == "driver first" else workers + order
            for pid in order:
                _kill(pid)
        code = process.wait()
        lines = self._torn(out)
        if code not in (-signal.SIGKILL, self.exit_code):
            lines.append(f"exit code {code} after a kill of the {whom}: {_tail(out)}")
        # A worker whose driver is gone may be about to notice while the next run begins.
        if rng.random() < 0.5:
            gone = time.monotonic() + 30
            while any(map(_alive, workers)):
                if time.monotonic() > gone:
                    return [*lines, f"a worker outlived the kill of the {whom}"]
                time.sleep(0.01)
        return lines

    def _torn(self, out: Path) -> list[str]:
        """Results that are there, but not whole."""
        return [
            f"{name} was there in part"
            for name, content in (results_in(out) if out.exists() else {}).items()
            if not name.endswith("/") and content != self.expected.files.get(name)
        ]

    def _resumed(self, out: Path) -> list[str]:
        """Run once more to the end; what is wrong then. The folder is removed unless any is."""
        code = run_forked(lambda: self._run(out))
        lines = differences(left_in(out), self.expected)
        if code != 0:
            lines.append(f"the run that resumed it ended with {code}: {_tail(out)}")
        if not lines:
            shutil.rmtree(out)
            _log(out).unlink()
        return lines

    def _run(self, out: Path, plain: bool = False) -> int:
        """The command in this process; 0 where its exit code is the expected one, unless plain."""
        log = os.open(_log(out), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for stream in (1, 2):
            os.dup2(log, stream)

        def engine(task: jobs.Task, count: int, memory: int) -> jobs.Engine:
            return jobs.InlineEngine(_Remembering(task, self.scratch / "computed"))

        jobs.LocalEngine = engine  # type: ignore[assignment, misc]
        code = commands.run(_words(self.command, self.source, out))
        sys.stdout.flush()
        if plain:
            return code
        return 0 if code == self.exit_code else code or 71


def _words(command: str, source: Path, out: Path) -> list[str]:
    return [command, str(source), "-o", str(out), *OPTIONS[command]]


def _start(command: str, source: Path, out: Path) -> subprocess.Popen[bytes]:
    """The real command, the leader of a process group of its own."""
    with open(_log(out), "ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "dualsr_cli", *_words(command, source, out)],
            cwd=REPOSITORY,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def _until(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> Iterator[None]:
    while process.poll() is None and not condition():
        time.sleep(0.002)
        yield


def _at_work(out: Path) -> bool:
    return (out / ".dualsr" / "work").exists()


def _workers(pid: int) -> list[int]:
    """The processes in which a driver has pairs worked on."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [
            int(child)
            for child in children
            if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()
        ]
    except OSError:
        return []


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def _kill(pid: int, kill: Callable[[int, int], None] = os.kill) -> None:
    with suppress(ProcessLookupError):
        kill(pid, signal.SIGKILL)


def _log(out: Path) -> Path:
    return out.with_name(out.name + ".log")


def _tail(out: Path) -> str:
    """The last that was said by runs into this folder."""
    return " | ".join(_log(out).read_text(encoding="utf-8").splitlines()[-4:])


def _load() -> None:
    """Import what the commands import when they run: a fork then has it."""
    import cv2  # noqa: F401
    import pillow_heif  # noqa: F401
    import pyvips  # noqa: F401
    import torch  # noqa: F401

    import dualsr_cli.alignment
    import dualsr_cli.commands.align
    import dualsr_cli.commands.upscale
    import dualsr_cli.reconstruction  # noqa: F401


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=20, help="in the folder that is upscaled")
    parser.add_argument("--every", type=int, default=1, help="step that is killed at")
    parser.add_argument("--random", type=int, default=200, help="kills of the real command")
    parser.add_argument("--seed", default="0", help="of the random kills")
    parser.add_argument("--lanes", type=int, default=2, help="runs at once")
    options = parser.parse_args()
    _load()
    print(_ROW.format("command", "what", "points", "failures", "seconds"), flush=True)
    failures = 0
    with tempfile.TemporaryDirectory() as name:
        for command, pairs, every, count in (
            ("upscale", options.pairs, options.every, options.random),
            ("align", max(2, options.pairs // 3), 3 * options.every, options.random // 10),
        ):
            trial = Trial.begin(command, pairs, Path(name) / command)
            steps = trial.steps()
            for what, kill, nth in (
                ("killed", trial.kill_at, every),
                ("disk full", trial.fill_disk_at, 3 * every),
            ):
                tasks = range(0, steps, nth)
                failures += _table_row(trial, f"{what} at every {nth}. step", kill, tasks, options)
            seeds = [f"{options.seed}-{number}" for number in range(count)]
            failures += _table_row(trial, "killed at random", trial.kill_at_random, seeds, options)
    sys.exit(1 if failures else 0)


def _table_row(
    trial: Trial,
    how: str,
    kill: Callable[[Any], list[str]],
    tasks: Sequence[Any],
    options: argparse.Namespace,
) -> int:
    """Do one kind of kills and print the row; returns how many failed."""
    start = time.monotonic()
    count = failures = 0
    for index, lines in in_lanes(kill, tasks, options.lanes):
        count += 1
        failures += bool(lines)
        for line in lines:
            print(f"{trial.command} {how} ({tasks[index]}): {line}", file=sys.stderr, flush=True)
    failures += len(tasks) - count  # a lane that died
    seconds = round(time.monotonic() - start)
    print(_ROW.format(trial.command, how, count, failures, seconds), flush=True)
    return failures


if __name__ == "__main__":
    main()
