"""The runner: decides what is to be done, hands it to an engine, and puts results in their place.

A result takes this way: a worker writes it, whole and on the disk, into a folder of its own; the
runner appends the record with its hash to the manifest; then it renames the files into place. A
kill between any two of these leaves an item that the next run does again, to the same bytes. A
file that lies in a result's place and is not known to be dualsr's is never written over, unless
`overwrite` says so.
"""

from __future__ import annotations

import os
import secrets
import shutil
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from dualsr_cli.errors import DualsrError, InputError, OutputError
from dualsr_cli.files import fsync_folder, output_error
from dualsr_cli.jobs._engines import Engine, Lost
from dualsr_cli.jobs._stop import Stop
from dualsr_cli.jobs.item import Item, Made, Order, Outcome, Problem, problem_of, sha256_of
from dualsr_cli.jobs.manifest import FOLDER, Manifest, Output, Record, is_below
from dualsr_cli.jobs.planning import found_at, is_missing, same_contents, same_work, stamped
from dualsr_cli.jobs.results import Result, RunOptions, Tally

_POLL = 0.25  # seconds between two looks at locks and limits
_GRACE = 2.0  # seconds that items have to end after a stop was asked for
_CRASHED, _SLOW = "crashed", "timeout"


def run(
    items: Sequence[Item],
    folder: Path,
    engine: Engine,
    manifest: Manifest | None,
    options: RunOptions | None = None,
    report: Callable[[Result], None] = lambda result: None,
    stop: Stop | None = None,
) -> Tally:
    """Do all items that are not done; tell `report` of each as it ends.

    Results go to `folder`. Without a manifest every item is done, over whatever lies there. The
    engine is left running, for the next call. What is the matter with one item goes to its result,
    what ends the run goes to the tally's `problem`.
    """
    run = _Run(folder, engine, manifest, options or RunOptions(), report, stop or Stop())
    return run.work_through(items)


class _Foreign(OutputError):
    """A file that is not known to be dualsr's lies in a result's place."""

    reason = "exists"


@dataclass
class _Flight:
    """An item that the engine has."""

    item: Item
    staging: Path
    record: Record | None
    started: float  # by the machine's clock
    alone: bool = False


class _Run:
    def __init__(
        self,
        folder: Path,
        engine: Engine,
        manifest: Manifest | None,
        options: RunOptions,
        report: Callable[[Result], None],
        stop: Stop,
    ) -> None:
        self.folder = folder
        self.engine = engine
        self.manifest = manifest
        self.options = options
        self.report = report
        self.stop = stop
        self.tally = Tally()
        self.flights: dict[str, _Flight] = {}
        self.waiting: deque[Item] = deque()
        self.elsewhere: deque[Item] = deque()  # another run has these
        self.suspects: deque[Item] = deque()  # were there when a worker died: one at a time
        self.tries: dict[str, int] = {}
        self.losses: dict[str, int] = {}
        self.last_event = time.monotonic()
        self.last_look = 0.0
        self.stopped = 0.0
        self.late: tuple[str, ...] = ()
        token = secrets.token_hex(4)
        # Beside a result without a manifest lies nothing of ours but this, and not for long.
        self.home = folder / FOLDER / "work" / token if manifest else folder / f".{token}.part"

    def work_through(self, items: Sequence[Item]) -> Tally:
        start = time.monotonic()
        self.waiting.extend(items)
        try:
            if self.manifest:
                self._sweep()
            while not self._over():
                self._fill()
                self._handle(self.engine.wait(self._patience()))
                self._check_time()
                if self.manifest:
                    self.manifest.sync()
        except DualsrError as error:  # of the engine or the folder: the end for all items
            self.tally.problem = problem_of(error)
        except KeyboardInterrupt:
            self.tally.interrupted = True
        finally:
            self._leave()
        self.tally.remaining = len(items) - (
            self.tally.done + self.tally.unchanged + self.tally.failed + self.tally.quarantined
        )
        self.tally.seconds = time.monotonic() - start
        return self.tally

    # --- the way of the loop ---

    def _over(self) -> bool:
        if self.stop.asked and not self.tally.interrupted:
            self.tally.interrupted = True
            self.stopped = time.monotonic()
        if self.tally.interrupted:
            return time.monotonic() - self.stopped > _GRACE or not self.flights
        if self.tally.problem:
            return not self.flights
        return not (self.flights or self.waiting or self.elsewhere or self.suspects)

    def _leave(self) -> None:
        """Let go of what is unfinished, and of the places that it took."""
        if self.flights:
            self.engine.stop()
        for name in list(self.flights):
            self._land(name)
        shutil.rmtree(self.home, ignore_errors=True)
        if self.manifest:
            with suppress(OSError):  # another run's work may lie there
                self.home.parent.rmdir()
            self.manifest.sync(now=True)

    def _sweep(self) -> None:
        """Remove what runs that were killed have left; live ones are told by their lock."""
        assert self.manifest is not None
        work = self.home.parent
        self.manifest.locks.try_item(f"run {self.home.name}")
        try:
            self.home.mkdir(parents=True)
            for path in work.iterdir():
                if path != self.home and self.manifest.locks.try_item(f"run {path.name}"):
                    shutil.rmtree(path, ignore_errors=True)
                    self.manifest.locks.leave_item(f"run {path.name}")
        except OSError as error:
            raise output_error(work, error) from error

    def _patience(self) -> float:
        if self.flights:
            return _POLL
        if self.elsewhere:
            time.sleep(_POLL)  # nothing to do but to see whether the other run is done
        return 0.0

    def _fill(self) -> None:
        """Give the engine as much as it likes to have."""
        if self.tally.interrupted or self.tally.problem:
            return
        while self.suspects and not self.flights:
            self._consider(self.suspects.popleft(), alone=True)
        if any(flight.alone for flight in self.flights.values()) or self.suspects:
            return
        while self.waiting and len(self.flights) < self.engine.depth and not self.stop.asked:
            self._consider(self.waiting.popleft())
        if self.elsewhere and not self.waiting and time.monotonic() - self.last_look > _POLL:
            self.last_look = time.monotonic()
            for _ in range(len(self.elsewhere)):
                if len(self.flights) < self.engine.depth:
                    self._consider(self.elsewhere.popleft())

    def _consider(self, item: Item, alone: bool = False) -> None:
        """Skip an item, put it off, or give it to the engine."""
        record, known = None, None
        if self.manifest:
            if not self.manifest.locks.try_item(item.name):
                self.elsewhere.append(item)
                return
            self.manifest.refresh()
            record = self.manifest.get(item.name)
            if record and not self.options.overwrite:
                skipped = self._skip(item, record)
                if skipped:
                    self.manifest.locks.leave_item(item.name)
                    self._tell(skipped)
                    return
                if record.state in ("done", "orphaned") and not is_missing(record, self.folder):
                    known = record.key
        staging = self.home / secrets.token_hex(4)
        self.flights[item.name] = _Flight(item, staging, record, time.time(), alone)
        if len(self.flights) == 1:
            self.last_event = time.monotonic()
        self.engine.submit(Order(item, staging, known))

    def _skip(self, item: Item, record: Record) -> Result | None:
        """The result of an item for which nothing is to be done."""
        if not same_work(record, item):
            # Times tell nothing of files that were young then; and who takes workers down is
            # not let near one because somebody has touched a file.
            young = any(known.sha256 and known.stat is None for _, known in record.inputs)
            if not (young or record.state == "quarantined") or not same_contents(record, item):
                return None
        if record.state == "quarantined":
            problem = Problem(
                f"{record.error}; left out until 'dualsr jobs {self.folder} --retry' asks for it",
                record.code or _CRASHED,
            )
            return Result(item, "quarantined", problem=problem, attempts=record.attempts)
        if record.state == "failed" and record.final:
            problem = Problem(record.error or "", record.code or "", final=True)
            return Result(item, "failed", problem=problem, attempts=record.attempts)
        if record.state != "done":
            return None
        places = tuple(self.folder / output.path for output in record.outputs)
        altered = False
        for output, place in zip(record.outputs, places, strict=True):
            found = found_at(place, output)
            if found in (None, output.before) and found != output.sha256:
                return None  # it is gone, or it never got to its place
            altered = altered or found != output.sha256
        return Result(item, "unchanged", places, record.facts, altered=altered)

    def _handle(self, events: list[Outcome | Lost]) -> None:
        for event in events:
            self.last_event = time.monotonic()
            if isinstance(event, Lost):
                self._bury(event)
            elif event.name in self.flights:
                self._finish(self.flights[event.name], event)

    def _check_time(self) -> None:
        """End workers from which nothing has come for too long."""
        limit = self.options.timeout
        if limit and self.flights and time.monotonic() - self.last_event > limit:
            self.late = tuple(self.flights)
            self.last_event = time.monotonic()
            self.engine.kill(self.late)

    # --- what became of an item ---

    def _finish(self, flight: _Flight, outcome: Outcome) -> None:
        item = flight.item
        attempts = self._attempts(flight) + 1
        problem = outcome.problem
        try:
            if problem is None and not outcome.unchanged:
                self._commit(flight, outcome, attempts)
            elif problem is None and self.manifest and flight.record:
                inputs = tuple(zip(item.input_names, outcome.inputs, strict=True))
                self.manifest.append(replace(flight.record, state="done", inputs=inputs))
        except (OutputError, InputError) as error:
            problem = problem_of(error)
        if problem is not None:
            self._fail(flight, self._in_place(problem, flight), outcome.seconds)
            return
        record = self.manifest.get(item.name) if self.manifest else None
        self._land(item.name)
        if outcome.unchanged and record:
            places = tuple(self.folder / output.path for output in record.outputs)
            self._tell(Result(item, "unchanged", places, record.facts))
            return
        places = tuple(self.folder / _place(item, made) for made in outcome.outputs)
        self._tell(Result(item, "done", places, outcome.facts, outcome.seconds, attempts=attempts))

    def _commit(self, flight: _Flight, outcome: Outcome, attempts: int) -> None:
        """Record a result and put its files in their places. Raises OutputError, InputError."""
        item = flight.item
        staged = flight.staging / PurePosixPath(item.name).name
        outputs, moves = [], []
        for made in outcome.outputs:
            place = self.folder / _place(item, made)
            before = self._before(place, made, flight)
            outputs.append(
                Output(_place(item, made), made.sha256, made.size, made.mtime_ns, before)
            )
            moves.append((staged / made.path if made.path else staged, place))
        if self.manifest:
            self.manifest.append(
                Record(
                    item.name,
                    "done",
                    str(item.settings.get("command", "")),
                    outcome.key,
                    item.settings,
                    self.options.source,
                    tuple(zip(item.input_names, outcome.inputs, strict=True)),
                    tuple(outputs),
                    attempts=attempts,
                    started=flight.started,
                    seconds=outcome.seconds,
                    facts=outcome.facts,
                )
            )
        folders = set()
        for source, place in moves:
            try:
                place.parent.mkdir(parents=True, exist_ok=True)
                os.replace(source, place)
            except OSError as error:
                raise output_error(place, error) from error
            folders.add(place.parent)
        for folder in folders:
            try:
                fsync_folder(folder)
            except OSError as error:
                raise output_error(folder, error) from error

    def _before(self, place: Path, made: Made, flight: _Flight) -> str | None:
        """The hash of what lies in a result's place, if that may be written over."""
        try:
            there = os.stat(place)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise output_error(place, error) from error
        for path in flight.item.inputs:
            if _same_file(path, there):
                raise OutputError(place, "is one of the photos themselves: choose another folder")
        if self.manifest is None:
            return None
        digest = sha256_of(place)
        known = {made.sha256}
        for output in flight.record.outputs if flight.record else ():
            if self.folder / output.path == place:
                known |= {output.sha256, output.before or ""}
        if digest in known or self.options.overwrite:
            return digest
        raise _Foreign(
            place, "is there already and not known to be dualsr's: move it, or add --overwrite"
        )

    def _fail(self, flight: _Flight, problem: Problem, seconds: Mapping[str, float]) -> None:
        """Try an item again, or write it off."""
        name = flight.item.name
        if problem.fatal:
            self._land(name)
            if not self.tally.problem:
                self.tally.problem = problem
            return
        attempts = self._attempts(flight) + 1
        self.tries[name] = self.tries.get(name, 0) + 1
        hard = problem.code in (_CRASHED, _SLOW)
        if (problem.passing or hard) and self.tries[name] <= self.options.retries:
            self._land(name)
            (self.suspects if hard else self.waiting).append(flight.item)
            return
        state = "quarantined" if hard else "failed"
        if self.manifest:
            self._note_failure(flight, state, problem, attempts, seconds)
        self._land(name)
        self._tell(Result(flight.item, state, problem=problem, attempts=attempts))
        if not self.options.keep_going and not self.tally.problem:
            sentence = "stopped at the first failure, as asked"
            self.tally.problem = Problem(sentence, "stopped")

    def _note_failure(
        self,
        flight: _Flight,
        state: str,
        problem: Problem,
        attempts: int,
        seconds: Mapping[str, float],
    ) -> None:
        assert self.manifest is not None
        item, before = flight.item, flight.record
        record = Record(
            item.name,
            state,
            str(item.settings.get("command", "")),
            None,
            item.settings,
            self.options.source,
            tuple(zip(item.input_names, map(stamped, item.inputs), strict=True)),
            before.outputs if before else (),  # still known to be ours
            problem.sentence,
            problem.code,
            attempts,
            flight.started,
            seconds,
            final=problem.final,
        )
        try:
            self.manifest.append(record)
        except OutputError as error:
            self.tally.problem = problem_of(error)

    def _bury(self, lost: Lost) -> None:
        """A worker is gone. Who was alone with it is to blame.

        Of several the next try tells: machines go away, too. Who was there when a second worker
        died, or when one hung, is tried alone.
        """
        flights = [self.flights[name] for name in lost.names if name in self.flights]
        if self.tally.interrupted:
            for flight in flights:
                self._land(flight.item.name)
        elif len(flights) == 1:
            flight = flights[0]
            first = flight.item.inputs[0]
            if flight.item.name in self.late:
                sentence = f"{first} takes longer than {self.options.timeout:g} s (see --timeout)"
                self._fail(flight, Problem(sentence, _SLOW), {})
            else:
                sentence = f"{first} could not be worked on: {lost.sentence}"
                self._fail(flight, Problem(sentence, _CRASHED), {})
        else:
            for flight in flights:
                name = flight.item.name
                self.losses[name] = self.losses.get(name, 0) + 1
                suspect = self.losses[name] > 1 or name in self.late
                self._land(name)
                (self.suspects if suspect else self.waiting).append(flight.item)
        self.late = ()

    def _in_place(self, problem: Problem, flight: _Flight) -> Problem:
        """A problem's sentence with the place of the result instead of its temporary one."""
        staged = str(flight.staging / PurePosixPath(flight.item.name).name)
        place = str(self.folder / flight.item.name)
        sentence = problem.sentence.replace(staged, place)
        return replace(problem, sentence=sentence.replace(str(flight.staging), str(self.folder)))

    def _attempts(self, flight: _Flight) -> int:
        return (flight.record.attempts if flight.record else 0) + self.tries.get(
            flight.item.name, 0
        )

    def _land(self, name: str) -> None:
        """The engine has an item no more."""
        flight = self.flights.pop(name)
        shutil.rmtree(flight.staging, ignore_errors=True)
        if self.manifest:
            self.manifest.locks.leave_item(name)

    def _tell(self, result: Result) -> None:
        setattr(self.tally, result.state, getattr(self.tally, result.state) + 1)
        self.report(result)


def _place(item: Item, made: Made) -> str:
    path = f"{item.name}/{made.path}" if made.path else item.name
    if not is_below(path):
        raise OutputError(path, "leads out of the output folder")
    return path


def _same_file(path: Path, other: os.stat_result) -> bool:
    try:
        status = os.stat(path)
    except OSError:
        return False
    return (status.st_dev, status.st_ino) == (other.st_dev, other.st_ino)
