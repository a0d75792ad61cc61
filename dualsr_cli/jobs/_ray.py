"""Where orders are worked on: by actors on the nodes of a Ray cluster.

Ray's driver runs in a process of its own. It ends itself, without a word to Python, when the
cluster goes away; it takes over signals, the process group and the terminal. None of that is
wanted in the process that writes the manifest.
"""

from __future__ import annotations

import importlib.util
import math
import multiprocessing
import os
import pickle
import queue
import signal
import socket
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any

from dualsr_cli import __version__
from dualsr_cli.errors import DualsrError, UsageError
from dualsr_cli.jobs._engines import Lost, prepare
from dualsr_cli.jobs._pipeline import Pipeline
from dualsr_cli.jobs.item import Order, Outcome, Task, problem_of

_IN_HAND = 3  # orders of one actor: one read ahead, one computed, one written
_REACH_SECONDS = 5.0  # for a cluster's port to answer
_CONNECT_SECONDS = 90.0  # for Ray to connect, or to start on this machine
_END_SECONDS = 5.0  # for Ray's driver to end by itself
_FREE_SECONDS = 600.0  # for the cluster to have room for a first actor
_SPARE_STARTS = 1  # failed starts of actors that are tried again
_STORE_BYTES = 100_000_000  # of Ray's object store where Ray is started here: orders are small

_QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"}
"""Nothing is reported to anyone, and nothing is packed and sent to the nodes."""


class RayEngine:
    """Works in actors on a Ray cluster, each of which holds one model and computes one order.

    jobs: actors; by default one for each GPU of the cluster, or one for each node if it has none.
    memory: for each actor, see Pipeline. address: "host:port" of a cluster that has a node on this
    machine, "local" to start Ray here for this run, "auto" for a cluster that runs here. None
    does what `ray.init()` does: the cluster that RAY_ADDRESS names, else the one that
    `ray start` has started here, else Ray is started here.

    Inputs and staging are paths that all nodes share. An actor that is lost costs the orders that
    it held. `depth` grows once the cluster is known. `submit` raises UsageError where Ray is not
    installed; `wait` raises UsageError where the cluster cannot be reached, DualsrError where it
    goes away or none of its nodes can run a worker.
    """

    def __init__(self, task: Task, jobs: int | None, memory: int, address: str | None) -> None:
        self.depth = _IN_HAND * (jobs or 1)
        self._setup = _Setup(pickle.dumps(task), jobs, memory, address)
        self._process: multiprocessing.process.BaseProcess | None = None
        self._connection: Connection | None = None
        self._deadline: float | None = None  # until the driver is connected

    def submit(self, order: Order) -> None:
        if self._process is None:
            self._start()
        self._tell(order)

    def wait(self, seconds: float) -> list[Outcome | Lost]:
        if self._process is None or self._connection is None:
            return []
        ready = wait([self._connection, self._process.sentinel], seconds)
        ended = self._process.sentinel in ready  # what it has sent is there by then
        events: list[Outcome | Lost] = []
        try:
            while self._connection.poll():
                message = self._connection.recv()
                if isinstance(message, DualsrError):
                    raise message
                if isinstance(message, int):
                    self.depth = message
                    self._deadline = None
                else:
                    events.append(message)
            if ended and not events:  # the pipe's other end may not be closed yet
                raise EOFError
        except (EOFError, OSError) as error:
            raise DualsrError(
                "the Ray cluster is gone: start it again and run the same command to carry on"
                if self._deadline is None
                else "Ray ended while it started: try `ray start --head` to see why"
            ) from error
        if self._deadline is not None and time.monotonic() > self._deadline:
            raise DualsrError(
                f"Ray did not get ready within {_CONNECT_SECONDS:.0f} seconds: "
                "try `ray status` to see whether the cluster is well"
            )
        return events

    def kill(self, names: tuple[str, ...]) -> None:
        self._tell(names)

    def stop(self) -> None:
        if self._process is None or self._connection is None:
            return
        self._connection.close()  # which tells the driver to end the actors and itself
        self._process.join(_END_SECONDS)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._process.close()
        self._process = self._connection = None

    def _start(self) -> None:
        if importlib.util.find_spec("ray") is None:
            raise UsageError("--engine ray needs Ray: pip install 'dualsr[ray]'")
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        process = context.Process(target=_drive, args=(theirs, self._setup), daemon=True)
        process.start()
        theirs.close()
        self._process = process
        self._deadline = time.monotonic() + _CONNECT_SECONDS

    def _tell(self, message: Order | tuple[str, ...]) -> None:
        if self._connection is not None:
            with suppress(OSError):  # a driver that is gone: `wait` will find that out
                self._connection.send(message)


@dataclass(frozen=True)
class _Setup:
    """What Ray's driver needs to know. task: pickled, for the actors to load."""

    task: bytes
    jobs: int | None
    memory: int
    address: str | None


# --- in the process of Ray's driver ---


def _drive(connection: Connection, setup: _Setup) -> None:
    """Ray's driver: orders and names to kill come in; depth, outcomes and errors go out."""
    _detach()
    inbox: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
    try:
        ray = _connect(setup.address)
        actors = _Actors(ray, setup, connection.send, inbox.put)
    except Exception as error:
        connection.send(_refusal(error))
        return

    def receive() -> None:
        try:
            while True:
                message = connection.recv()
                step = actors.kill if isinstance(message, tuple) else actors.take
                inbox.put(lambda step=step, message=message: step(message))  # type: ignore[misc]
        except (EOFError, OSError):  # the runner has stopped or is gone
            inbox.put(None)
            time.sleep(_END_SECONDS)
            os._exit(1)  # Ray cannot be ended in good order

    threading.Thread(target=receive, daemon=True).start()
    try:
        connection.send(actors.depth)
        while event := inbox.get(timeout=actors.patience()):
            event()
    except queue.Empty:
        resource = "GPU" if actors.gpu else "CPU"
        with suppress(OSError):
            connection.send(
                DualsrError(
                    f"the Ray cluster had no free {resource} for {_FREE_SECONDS:.0f} seconds: "
                    "run again when it has"
                )
            )
    except DualsrError as error:
        with suppress(OSError):
            connection.send(error)
    except OSError:  # the runner is gone
        pass
    actors.end()
    ray.shutdown()


def _detach() -> None:
    """Leave the terminal alone: its keys are for the runner, its lines are the runner's."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(os, "setsid"):
        os.setsid()
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in range(3):
        os.dup2(nowhere, descriptor)
    os.close(nowhere)


def _connect(address: str | None) -> Any:
    """Import Ray and connect it; returns the module. Raises whatever goes wrong."""
    os.environ.update(_QUIET)
    warnings.simplefilter("ignore")
    import ray
    from ray._private.services import canonicalize_bootstrap_address

    name = address or os.environ.get("RAY_ADDRESS") or "auto"
    if "://" in name:
        raise UsageError(f"{name} is no address of Ray: give host:port, auto or local")
    try:
        found = canonicalize_bootstrap_address(address)
        if found is not None:
            host, _, port = found.rpartition(":")  # Ray itself would try for minutes
            socket.create_connection((host.strip("[]"), int(port)), _REACH_SECONDS).close()
    except OSError as error:
        where = "on this machine" if name == "auto" else f"at {name}"
        raise UsageError(
            f"no Ray cluster runs {where}: start it with `ray start`, "
            "or give --ray-address local to work on this machine alone"
        ) from error
    except ValueError as error:
        raise UsageError(f"{name} is no address of Ray: give host:port, auto or local") from error
    if found is None:
        ray.init(
            "local", include_dashboard=False, object_store_memory=_STORE_BYTES, log_to_driver=False
        )
        return ray
    try:
        ray.init(found, log_to_driver=False)
    except (OSError, RuntimeError) as error:
        raise UsageError(
            f"the Ray cluster at {found} cannot be used from here: this machine must be a node of "
            f"it, with the same Ray and the same token ({_short(error.__cause__ or error)})"
        ) from error
    return ray


def _refusal(error: Exception) -> DualsrError:
    """The sentence for a cluster that cannot be had."""
    if isinstance(error, DualsrError):
        return error
    if isinstance(error, ImportError):
        return UsageError(f"Ray cannot be loaded ({error}): pip install 'dualsr[ray]'")
    return DualsrError(f"Ray cannot be started: {_short(error)}")


def _short(error: BaseException) -> str:
    """An exception in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = lines[-1].split(". ")[0] if lines else ""
    return f"{type(error).__name__}: {said}"[:300]


@dataclass(eq=False)
class _Actor:
    """An actor, from its start on. host: known once it is ready."""

    handle: Any
    host: str | None = None
    held: dict[str, None] = field(default_factory=dict)
    killed: bool = False


class _Actors:
    """The actors and the orders that wait for one. All calls come from the driver's main thread.

    An actor gets orders once it is ready: those that wait for a place in the cluster, or cannot
    start, hold up none. `send`: to the runner. `later`: has the main thread call something.
    """

    def __init__(
        self,
        ray: Any,
        setup: _Setup,
        send: Callable[[Outcome | Lost], None],
        later: Callable[[Callable[[], None]], None],
    ) -> None:
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        cpus = sum(node.get("CPU", 0) for node in nodes)
        gpus = sum(node.get("GPU", 0) for node in nodes)
        working = max(1, sum(node.get("CPU", 0) > 0 for node in nodes))
        self.gpu = gpus >= 1
        self._count = setup.jobs or int(gpus) or working
        self.depth = _IN_HAND * self._count
        self._ray = ray
        self._send = send
        self._later = later
        self._actors: list[_Actor] = []
        self._waiting: deque[Order] = deque()
        self._failed_starts = 0
        self._remote = ray.remote(_Worker).options(
            num_cpus=_share(cpus, self._count),
            num_gpus=_share(gpus, self._count) if self.gpu else 0,
            scheduling_strategy="SPREAD",
            max_concurrency=_IN_HAND + 1,
            max_restarts=0,
            max_task_retries=0,
        )
        neighbours = math.ceil(self._count / working)
        self._arguments = setup.task, setup.memory, __version__, neighbours, os.getcwd()

    def patience(self) -> float | None:
        """How many seconds may pass until something happens; None for any."""
        ready = any(actor.host for actor in self._actors)
        return _FREE_SECONDS if self._waiting and not ready else None

    def take(self, order: Order) -> None:
        self._waiting.append(order)
        self._hand_out()

    def kill(self, names: tuple[str, ...]) -> None:
        waiting = tuple(order.item.name for order in self._waiting if order.item.name in names)
        if waiting:
            self._waiting = deque(o for o in self._waiting if o.item.name not in waiting)
            self._send(Lost(waiting, "it was taken back before a worker had it"))
        for actor in self._actors:
            if not actor.held.keys().isdisjoint(names):
                actor.killed = True
                self._end(actor)

    def end(self) -> None:
        for actor in self._actors:
            self._end(actor)

    def _end(self, actor: _Actor) -> None:
        with suppress(Exception):  # it is gone already
            self._ray.kill(actor.handle, no_restart=True)

    def _hand_out(self) -> None:
        while self._waiting:
            ready = [a for a in self._actors if a.host and not a.killed]
            actor = min(ready, key=lambda a: len(a.held), default=None)
            if actor is None or len(actor.held) >= _IN_HAND:
                break
            order = self._waiting.popleft()
            actor.held[order.item.name] = None
            future = actor.handle.work.remote(order).future()
            self._when_done(future, self._answered, actor, order.item.name)
        while self._waiting and len(self._actors) < self._count:
            actor = _Actor(self._remote.remote())
            self._actors.append(actor)
            future = actor.handle.start.remote(*self._arguments).future()
            self._when_done(future, self._started, actor)

    def _when_done(self, future: Future[Any], step: Callable[..., None], *arguments: Any) -> None:
        future.add_done_callback(lambda done: self._later(lambda: step(*arguments, done)))

    def _started(self, actor: _Actor, future: Future[str]) -> None:
        error = future.exception()
        if error is None:
            actor.host = future.result()
        else:
            self._actors.remove(actor)
            self._end(actor)
            self._failed_starts += 1
            if self._failed_starts > _SPARE_STARTS:
                self._count -= 1
            if not self._count:
                raise DualsrError(
                    f"no worker can start on the Ray cluster: {_reason(error)}; "
                    "each node needs the same dualsr as this machine"
                )
        self._hand_out()

    def _answered(self, actor: _Actor, name: str, future: Future[Outcome]) -> None:
        if actor not in self._actors:
            return  # lost, and said so
        error = future.exception()
        if error is None:
            del actor.held[name]
            self._send(future.result())
        else:
            self._actors.remove(actor)
            self._end(actor)  # it may be alive and out of reach
            self._send(Lost(tuple(actor.held), _death(actor, error)))
        self._hand_out()


def _share(total: float, actors: int) -> float:
    """How much of a CPU or GPU each actor asks for, so that all of them find a place."""
    return 1.0 if actors <= total or total < 1 else 1 / math.ceil(actors / total)


def _reason(error: BaseException) -> str:
    """Why an actor did not start: what it raised, or the end of Ray's story."""
    cause = getattr(error, "cause", None) or error
    return str(cause) if isinstance(cause, DualsrError) else _short(cause)


def _death(actor: _Actor, error: BaseException) -> str:
    if actor.killed:
        return "its worker was ended"
    if "low on memory" in str(error):
        return f"Ray ended its worker on {actor.host}, which ran out of memory"
    return f"its worker on {actor.host} ended: it crashed, was killed, or lost its machine"


# --- on the nodes ---


class _Worker:
    """The actor."""

    def start(self, task: bytes, memory: int, version: str, neighbours: int, folder: str) -> str:
        """Load the task; returns the host's name. Raises what keeps it from working here.

        neighbours: how many actors share a node's cores. folder: where relative paths start.
        """
        host = socket.gethostname()
        if version != __version__:
            raise UsageError(f"{host} has dualsr {__version__} and this machine {version}")
        # Ray allows one thread for one CPU. To be set before the task loads what reads it.
        os.environ["OMP_NUM_THREADS"] = str(max(1, _cores() // neighbours))
        with suppress(OSError):
            os.chdir(folder)
        loaded: Task = pickle.loads(task)
        self._answers: dict[str, Future[Outcome]] = {}
        self._problem = prepare(loaded)
        self._pipeline = Pipeline(loaded, 1, memory, self._finish)
        return host

    def work(self, order: Order) -> Outcome:
        """Do an order; up to `_IN_HAND` calls are under way at once, each in its own thread."""
        name = order.item.name
        if self._problem:
            return Outcome(name, self._problem)
        if not order.staging.parent.is_dir():
            error = UsageError(
                f"{order.staging.parent} is not there on {socket.gethostname()}: inputs and output "
                "must have the same paths on all nodes"
            )
            return Outcome(name, problem_of(error))
        answer: Future[Outcome] = Future()
        self._answers[name] = answer
        self._pipeline.submit(order)
        return answer.result()

    def _finish(self, outcome: Outcome) -> None:
        self._answers.pop(outcome.name).set_result(outcome)


def _cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
