"""Where orders are worked on: in this process, or in a worker process of this machine.

An engine is used from one thread, the runner's. It owns no item: whatever it loses, the runner
gives it again.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from typing import Protocol

from dualsr_cli.jobs._pipeline import Pipeline, work
from dualsr_cli.jobs.item import Order, Outcome, Problem, Task, problem_of

_PATIENCE = 2.0  # seconds that a worker has to end by itself


@dataclass(frozen=True)
class Lost:
    """Orders whose worker is gone; `sentence` says what became of it."""

    names: tuple[str, ...]
    sentence: str


class Engine(Protocol):
    """Works on orders somewhere. Whatever it needs is started by the first `submit`."""

    depth: int
    """How many orders keep it busy: those computed at once, and some read ahead and written."""

    def submit(self, order: Order) -> None:
        """Take an order; returns at once."""

    def wait(self, seconds: float) -> list[Outcome | Lost]:
        """What has happened; waits for at most so long for something to happen."""

    def kill(self, names: tuple[str, ...]) -> None:
        """End the workers that hold these orders, now; `wait` then tells what was lost."""

    def stop(self) -> None:
        """End all workers, now. Orders that they hold are dropped."""


class InlineEngine:
    """Works in this process, one order after the other: for a single pair."""

    depth = 1

    def __init__(self, task: Task) -> None:
        self._task = task
        self._orders: deque[Order] = deque()
        self._problem: Problem | None = None
        self._prepared = False

    def submit(self, order: Order) -> None:
        self._orders.append(order)

    def wait(self, seconds: float) -> list[Outcome | Lost]:
        if not self._orders:
            return []
        if not self._prepared:
            self._problem = prepare(self._task)
            self._prepared = True
        order = self._orders.popleft()
        if self._problem:
            return [Outcome(order.item.name, self._problem)]
        return [work(self._task, order)]

    def kill(self, names: tuple[str, ...]) -> None:
        self._orders.clear()  # what runs in this very thread cannot be ended from it

    def stop(self) -> None:
        self._orders.clear()


class LocalEngine:
    """Works in one process beside this one, which holds one model and computes `jobs` at once.

    A crash of that process (a decoder's, or the system's for want of memory) costs the orders
    that it held; the next order starts a new one. `memory`: see Pipeline.
    """

    def __init__(self, task: Task, jobs: int, memory: int) -> None:
        self.depth = jobs + 2
        self._task = task
        self._jobs = jobs
        self._memory = memory
        self._process: multiprocessing.process.BaseProcess | None = None
        self._connection: Connection | None = None
        self._held: dict[str, None] = {}  # in the order of submission

    def submit(self, order: Order) -> None:
        if self._process is None:
            self._start()
        self._held[order.item.name] = None
        assert self._connection is not None
        with suppress(OSError):  # a worker that is gone: `wait` will find that out
            self._connection.send(order)

    def wait(self, seconds: float) -> list[Outcome | Lost]:
        if self._process is None or self._connection is None:
            return []
        ready = wait([self._connection, self._process.sentinel], seconds)
        ended = self._process.sentinel in ready  # what it has sent is there by then
        events: list[Outcome | Lost] = []
        try:
            while self._connection.poll():
                outcome = self._connection.recv()
                self._held.pop(outcome.name, None)
                events.append(outcome)
            if ended:  # the pipe's other end may not be closed yet
                raise EOFError
        except (EOFError, OSError):
            self._process.join(_PATIENCE)
            events.append(self._bury())
        return events

    def kill(self, names: tuple[str, ...]) -> None:
        if self._process is not None:
            self._process.kill()

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._bury()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")  # a fork would copy threads' locks
        self._connection, theirs = context.Pipe()
        process = context.Process(
            target=_serve, args=(theirs, self._task, self._jobs, self._memory), daemon=True
        )
        process.start()
        self._process = process
        theirs.close()

    def _bury(self) -> Lost:
        assert self._process is not None and self._connection is not None
        code = self._process.exitcode
        if code is None:
            self._process.kill()
            self._process.join()
            code = self._process.exitcode
        lost = Lost(tuple(self._held), death(code))
        self._connection.close()
        self._process.close()
        self._process = self._connection = None
        self._held.clear()
        return lost


def death(code: int | None) -> str:
    """What became of a process, from its exit code."""
    if code is None or code >= 0:
        return f"its worker ended with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    if name == "SIGKILL":
        return "its worker was killed (SIGKILL), as systems do that run out of memory"
    return f"its worker crashed ({name})"


def prepare(task: Task) -> Problem | None:
    """Let a task load what it needs; a failure is every item's problem."""
    try:
        task.prepare()
    except Exception as error:
        return replace(problem_of(error), fatal=True)
    return None


def _serve(connection: Connection, task: Task, jobs: int, memory: int) -> None:
    """The worker process: orders come in and outcomes go out by `connection`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; the runner decides
    sending = threading.Lock()

    def send(outcome: Outcome) -> None:
        with sending, suppress(OSError):  # the runner is gone: the main thread ends this process
            connection.send(outcome)

    problem = prepare(task)
    pipeline = Pipeline(task, jobs, memory, send)
    while True:
        try:
            order = connection.recv()
        except (EOFError, OSError):
            os._exit(0)  # the runner is gone: so is whoever could use what is being computed
        if problem:
            send(Outcome(order.item.name, problem))
        else:
            pipeline.submit(order)
