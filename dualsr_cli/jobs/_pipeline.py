"""What happens to an order inside one worker: hash and read, compute, write.

`Pipeline` does the three side by side for different orders, so that computing waits neither for
the disk nor for a decoder or encoder; `work` does them one after the other, for a single order.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from dualsr_cli.errors import InputError
from dualsr_cli.files import output_error
from dualsr_cli.jobs.item import (
    Made,
    Order,
    Outcome,
    Task,
    key_of,
    problem_of,
    sha256_of,
    stamp,
    stat_of,
)
from dualsr_cli.plain import json_types

_TRIES = 3  # for inputs that change while they are worked on


def work(task: Task, order: Order) -> Outcome:
    """Do one order from start to end in this thread. Exceptions become the outcome's problem."""
    job = _Job(task, order)
    while job.outcome is None:
        job.read()
        job.compute()
        job.write()
    return job.outcome


class Pipeline:
    """Takes orders and reports outcomes, reading ahead and writing behind.

    `jobs` orders are computed at once. An order waits for reading until the memory that the task
    says it takes fits into `memory` bytes beside that of the orders before it (one alone always
    fits). `finished` is called once an order, from any thread.
    """

    def __init__(
        self, task: Task, jobs: int, memory: int, finished: Callable[[Outcome], None]
    ) -> None:
        self._task = task
        self._finished = finished
        self._readers = ThreadPoolExecutor(1, "read")
        self._computers = ThreadPoolExecutor(jobs, "compute")
        self._writers = ThreadPoolExecutor(jobs, "write")
        self._room = _Room(memory)
        self._idle = _Idle(jobs)

    def submit(self, order: Order) -> None:
        """Queue an order; returns at once."""
        self._idle.expect()
        self._readers.submit(self._read, _Job(self._task, order))

    def close(self) -> None:
        """Finish what was submitted and end the threads."""
        for pool in (self._readers, self._computers, self._writers):
            pool.shutdown()

    def _read(self, job: _Job) -> None:
        if not job.memory:
            job.memory = self._room.enter(job.estimate())
        job.read()
        self._next(job, self._computers, self._compute)

    def _compute(self, job: _Job) -> None:
        job.seconds["idle"] = self._idle.leave()
        job.compute()
        self._idle.enter()
        self._next(job, self._writers, self._write)

    def _write(self, job: _Job) -> None:
        job.write()
        self._next(job, self._readers, self._read)  # its inputs have changed: once more

    def _next(self, job: _Job, pool: ThreadPoolExecutor, step: Callable[[_Job], None]) -> None:
        if job.outcome is None:
            pool.submit(step, job)
        else:
            self._room.leave(job.memory)
            self._idle.forget()
            self._finished(job.outcome)


class _Job:
    """One order on its way. `outcome` is set once it is known; later steps then do nothing."""

    def __init__(self, task: Task, order: Order) -> None:
        self.outcome: Outcome | None = None
        self.seconds: dict[str, float] = {}
        self.memory = 0
        self._task = task
        self._order = order
        self._tries = 0
        self._hashes: list[str] = []
        self._stats: list[tuple[int, ...]] = []
        self._held: Any = None  # what the next step takes

    def estimate(self) -> int:
        """Bytes that the order takes, by the task's word; 1 where it cannot tell."""
        try:
            return max(1, self._task.memory(self._order.item))
        except Exception:  # reading will meet it again, and tell
            return 1

    def read(self) -> None:
        """Hash the inputs, and read them unless the key says that there is nothing to do."""

        def step() -> None:
            item = self._order.item
            self._tries += 1
            self._hashes, self._stats = [], []
            for path in item.inputs:
                before = _stat(path)
                self._hashes.append(sha256_of(path))
                self._stats.append(before)
            known = key_of(item.settings, self._hashes) == self._order.known_key
            if known and all(self._stats):
                self.outcome = self._done(unchanged=True)
            else:
                self._held = self._task.read(item)

        self._step("read", step)

    def compute(self) -> None:
        def step() -> None:
            held, self._held = self._held, None  # so that reading ahead finds the memory free
            self._held = self._task.compute(self._order.item, held)

        self._step("compute", step)

    def write(self) -> None:
        def step() -> None:
            held, self._held = self._held, None
            item, staging = self._order.item, self._order.staging
            try:
                if staging.exists():
                    shutil.rmtree(staging)
                staging.mkdir(parents=True)
            except OSError as error:
                raise output_error(staging, error) from error
            target = staging / PurePosixPath(item.name).name
            facts = json_types(self._task.write(item, held, target))
            del held
            outputs = _made(target)
            if self._unchanged_inputs():
                self.outcome = self._done(outputs=outputs, facts=facts)
            elif self._tries < _TRIES:
                shutil.rmtree(staging)
            else:
                raise InputError(
                    item.inputs[0],
                    "or its partner keeps changing while it is read: run again once it is copied",
                )

        self._step("write", step)

    def _step(self, name: str, step: Callable[[], None]) -> None:
        if self.outcome is not None:
            return
        start = time.perf_counter()
        try:
            step()
        except Exception as error:
            self._held = None
            shutil.rmtree(self._order.staging, ignore_errors=True)
            self.outcome = Outcome(self._order.item.name, problem=problem_of(error))
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start
        if self.outcome is not None:
            spent = {name: round(spent, 4) for name, spent in self.seconds.items()}
            self.outcome = replace(self.outcome, seconds=spent)

    def _unchanged_inputs(self) -> bool:
        return [_stat(path) for path in self._order.item.inputs] == self._stats

    def _done(
        self,
        unchanged: bool = False,
        outputs: tuple[Made, ...] = (),
        facts: dict[str, Any] | None = None,
    ) -> Outcome:
        item = self._order.item
        return Outcome(
            item.name,
            unchanged=unchanged,
            key=key_of(item.settings, self._hashes),
            inputs=tuple(map(stamp, self._hashes, self._stats)),
            outputs=outputs,
            facts=facts or {},
        )


class _Room:
    """Bytes of memory that are handed out; whoever asks for too much waits to be alone."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._taken = 0
        self._changed = threading.Condition()

    def enter(self, wanted: int) -> int:
        with self._changed:
            self._changed.wait_for(lambda: not self._taken or self._taken + wanted <= self._size)
            self._taken += wanted
        return wanted

    def leave(self, taken: int) -> None:
        with self._changed:
            self._taken -= taken
            self._changed.notify_all()


class _Idle:
    """How long computing threads stand idle while orders are in the pipeline."""

    def __init__(self, jobs: int) -> None:
        self._lock = threading.Lock()
        self._orders = 0
        self._free = [time.perf_counter()] * jobs  # since when each idle thread is

    def expect(self) -> None:
        """An order comes. Where none was there, nobody waited until now."""
        with self._lock:
            if not self._orders:
                self._free = [time.perf_counter()] * len(self._free)
            self._orders += 1

    def forget(self) -> None:
        with self._lock:
            self._orders -= 1

    def leave(self) -> float:
        """A thread takes up work; returns for how many seconds it stood idle."""
        with self._lock:
            return time.perf_counter() - self._free.pop()

    def enter(self) -> None:
        """A thread has done its work."""
        with self._lock:
            self._free.append(time.perf_counter())


def _stat(path: Path) -> tuple[int, ...]:
    try:
        return stat_of(path)
    except (OSError, ValueError):
        return ()  # opening it will tell what is the matter


def _made(target: Path) -> tuple[Made, ...]:
    """The files that lie at `target`, in the order of their names, with their hashes."""
    files = sorted(path for path in target.rglob("*") if path.is_file())
    return tuple(
        Made(
            "" if path == target else path.relative_to(target).as_posix(),
            sha256_of(path),
            (status := os.stat(path)).st_size,
            status.st_mtime_ns,
        )
        for path in (files if target.is_dir() else [target])
    )
