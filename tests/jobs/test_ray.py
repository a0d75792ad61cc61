"""The Ray engine on a cluster of two nodes, and on one that goes away."""

from __future__ import annotations

import importlib.util
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import items_of
from ray_cluster import RayCluster
from ray_task import Strange, Stuck
from toy_task import Join

from dualsr_cli.errors import DualsrError, UsageError
from dualsr_cli.jobs import InlineEngine, Task
from dualsr_cli.jobs._engines import Engine, Lost
from dualsr_cli.jobs._ray import RayEngine
from dualsr_cli.jobs.item import Order, Outcome

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None or not hasattr(os, "pidfd_open"),
    reason="needs Ray and Linux",
)
LONG = 60.0  # seconds after which a test has failed
SCRIPT = """
import signal, sys
from pathlib import Path
sys.path[:0] = {paths!r}
from conftest import items_of
from ray_task import Stuck
from dualsr_cli.jobs._ray import RayEngine
from dualsr_cli.jobs.item import Order
seen = set()
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda number, frame: seen.add(number))
engine = RayEngine(Stuck(pipe=Path({pipe!r})), None, 1 << 30, None)
item = items_of(Path({source!r}))[0]
engine.submit(Order(item, Path({work!r}) / "a"))
while len(seen) < 2:
    assert engine.wait(0.1) == []
engine.kill((item.name,))
events = []
while not events:
    events = engine.wait(0.1)
engine.stop()
print(events[0].names, events[0].sentence)
"""


@pytest.fixture(scope="module")
def running() -> Iterator[RayCluster]:
    with RayCluster(nodes=2) as cluster:
        yield cluster


@pytest.fixture
def cluster(running: RayCluster, monkeypatch: pytest.MonkeyPatch) -> RayCluster:
    join(running, monkeypatch)
    return running


def join(cluster: RayCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have this process's engines use the cluster."""
    for name, value in cluster.environment.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    """For `Stuck`: once it is read from, somebody stands still."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    path.with_suffix(".first").touch()
    return path


def told(pipe: Path) -> tuple[int, str]:
    """The process that stands still, and at which item."""
    file = os.open(pipe, os.O_RDWR)
    try:
        assert select.select([file], [], [], LONG)[0]
        number, _, name = os.read(file, 1000).decode().strip().partition(" ")
    finally:
        os.close(file)
    return int(number), name


def wait_for_end(process: int) -> None:
    try:
        file = os.pidfd_open(process)
    except ProcessLookupError:
        return
    try:
        assert select.select([file], [], [], LONG)[0]
    finally:
        os.close(file)


def orders_of(source: Path, work: Path) -> list[Order]:
    work.mkdir(exist_ok=True)
    return [Order(item, work / f"{n}") for n, item in enumerate(items_of(source))]


def work_off(engine: Engine, count: int) -> list[Outcome | Lost]:
    """Wait until so many items are answered or lost."""
    events: list[Outcome | Lost] = []
    empty = 0
    while count > 0 and empty < 10:
        new = engine.wait(LONG / 10)
        empty += not new
        events += new
        count -= sum(len(event.names) if isinstance(event, Lost) else 1 for event in new)
    return events


def do(engine: Engine, orders: list[Order]) -> dict[str, Outcome]:
    for order in orders:
        engine.submit(order)
    events = work_off(engine, len(orders))
    return {event.name: comparable(event) for event in events if isinstance(event, Outcome)}


def comparable(outcome: Outcome) -> Outcome:
    """Without what differs from run to run."""
    return replace(
        outcome,
        seconds={},
        facts={name: value for name, value in outcome.facts.items() if value is not None},
        inputs=tuple(replace(stamp, stat=None) for stamp in outcome.inputs),
        outputs=tuple(replace(made, mtime_ns=0) for made in outcome.outputs),
    )


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def expected(source: Path, work: Path) -> tuple[dict[str, Outcome], dict[str, bytes]]:
    outcomes = do_inline(Join(), orders_of(source, work))
    return outcomes, files(work)


def do_inline(task: Task, orders: list[Order]) -> dict[str, Outcome]:
    return do(InlineEngine(task), orders)


def test_results_are_those_of_this_process(
    cluster: RayCluster, source: Path, tmp_path: Path
) -> None:
    (source / "0/item 2.a").write_bytes(b"BAD")
    engine = RayEngine(Join(), None, 1 << 30, cluster.address)
    try:
        outcomes = do(engine, orders_of(source, tmp_path / "ray"))
        assert engine.depth == 6  # an actor for each node
    finally:
        engine.stop()
    reference, contents = expected(source, tmp_path / "inline")
    bad = outcomes.pop("0/item 2").problem
    assert bad is not None
    assert bad.sentence == f"{source / '0/item 2.a'} is bad: bring a good one"
    del reference["0/item 2"]
    assert outcomes == reference
    assert files(tmp_path / "ray") == contents


def test_a_killed_actor_costs_what_it_held(
    cluster: RayCluster, source: Path, tmp_path: Path, pipe: Path
) -> None:
    engine = RayEngine(Stuck(pipe=pipe), None, 1 << 30, None)
    orders = orders_of(source, tmp_path / "ray")
    try:
        for order in orders:
            engine.submit(order)
        process, name = told(pipe)
        os.kill(process, signal.SIGKILL)
        events = work_off(engine, len(orders))
        (lost,) = [event for event in events if isinstance(event, Lost)]
        assert name in lost.names
        assert lost.sentence.endswith("ended: it crashed, was killed, or lost its machine")
        outcomes = {event.name: comparable(event) for event in events if event is not lost}  # type: ignore[union-attr]
        outcomes |= do(engine, [order for order in orders if order.item.name in lost.names])
    finally:
        engine.stop()
    reference, contents = expected(source, tmp_path / "inline")
    assert outcomes == reference
    assert files(tmp_path / "ray") == contents


def test_signals_and_the_terminal_stay_the_runner_s(
    cluster: RayCluster, source: Path, tmp_path: Path, pipe: Path
) -> None:
    driver = start_driver(source, tmp_path, pipe)
    _, name = told(pipe)
    os.killpg(driver.pid, signal.SIGINT)  # as Ctrl-C does
    os.kill(driver.pid, signal.SIGTERM)
    said, complaints = driver.communicate(timeout=LONG)
    assert (said, complaints) == (f"('{name}',) its worker was ended\n", "")


def test_actors_end_with_a_killed_driver(
    cluster: RayCluster, source: Path, tmp_path: Path, pipe: Path
) -> None:
    driver = start_driver(source, tmp_path, pipe)
    process, _ = told(pipe)
    driver.kill()
    driver.communicate(timeout=LONG)
    wait_for_end(process)


def start_driver(source: Path, tmp_path: Path, pipe: Path) -> subprocess.Popen[str]:
    (tmp_path / "work").mkdir()
    script = SCRIPT.format(
        paths=os.environ["PYTHONPATH"].split(os.pathsep),
        pipe=str(pipe),
        source=str(source),
        work=str(tmp_path / "work"),
    )
    return subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_a_task_that_cannot_be_prepared_answers_every_order(
    cluster: RayCluster, source: Path, tmp_path: Path
) -> None:
    task = Join(needs="cuda")
    engine = RayEngine(task, 1, 1 << 30, "auto")
    try:
        outcomes = do(engine, orders_of(source, tmp_path / "ray"))
    finally:
        engine.stop()
    for name, outcome in do_inline(task, orders_of(source, tmp_path / "inline")).items():
        problem = outcomes[name].problem
        assert problem is not None
        assert outcome.problem is not None
        assert problem.fatal
        assert problem.sentence == outcome.problem.sentence


def test_an_output_that_a_node_does_not_see_is_told(
    cluster: RayCluster, source: Path, tmp_path: Path
) -> None:
    (order, *_) = orders_of(source, tmp_path / "ray")
    order = replace(order, staging=tmp_path / "elsewhere" / "0")
    engine = RayEngine(Join(), 1, 1 << 30, None)
    try:
        (outcome,) = do(engine, [order]).values()
    finally:
        engine.stop()
    assert outcome.problem is not None
    assert outcome.problem.fatal
    assert "must have the same paths on all nodes" in outcome.problem.sentence


def test_a_task_that_no_node_can_load_ends_the_run(
    cluster: RayCluster, source: Path, tmp_path: Path
) -> None:
    engine = RayEngine(Strange(), 1, 1 << 30, None)
    try:
        with pytest.raises(DualsrError) as caught:
            do(engine, orders_of(source, tmp_path / "ray"))
    finally:
        engine.stop()
    assert str(caught.value) == (
        "no worker can start on the Ray cluster: ModuleNotFoundError: No module named 'strange'; "
        "each node needs the same dualsr as this machine"
    )


def test_a_cluster_that_goes_away_is_told(
    source: Path, tmp_path: Path, pipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_gcs_rpc_server_reconnect_timeout_s", "2")  # Ray's own patience
    with RayCluster(nodes=1) as cluster:
        join(cluster, monkeypatch)
        engine = RayEngine(Stuck(pipe=pipe), None, 1 << 30, None)
        try:
            (order, *_) = orders_of(source, tmp_path / "ray")
            engine.submit(order)
            process, _ = told(pipe)
            cluster.kill_node(0)
            with pytest.raises(DualsrError, match="the Ray cluster is gone: start it again"):
                assert work_off(engine, 2) == []  # what the actor held is lost, and then all is
            wait_for_end(process)
        finally:
            engine.stop()


def test_ray_can_be_started_for_one_run(
    cluster: RayCluster, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = RayEngine(Join(), 1, 1 << 30, "local")
    try:
        outcomes = do(engine, orders_of(source, tmp_path / "ray"))
    finally:
        engine.stop()
    assert outcomes == expected(source, tmp_path / "inline")[0]


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("PORT", "no Ray cluster runs at PORT: start it with `ray start`, or "),
        ("nonsense", "nonsense is no address of Ray: give host:port, auto or local"),
        (
            "ray://somewhere:1",
            "ray://somewhere:1 is no address of Ray: give host:port, auto or local",
        ),
    ],
)
def test_an_address_without_a_cluster_is_told(
    address: str, sentence: str, source: Path, tmp_path: Path
) -> None:
    with socket.socket() as unused:  # bound, but nobody listens
        unused.bind(("127.0.0.1", 0))
        port = f"127.0.0.1:{unused.getsockname()[1]}"
        engine = RayEngine(Join(), None, 1 << 30, address.replace("PORT", port))
        try:
            with pytest.raises(UsageError) as caught:
                do(engine, orders_of(source, tmp_path / "ray")[:1])
        finally:
            engine.stop()
    assert str(caught.value).startswith(sentence.replace("PORT", port))


def test_ray_that_is_not_installed_is_told(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)  # what an import of it then meets is no module
    engine = RayEngine(Join(), None, 1 << 30, None)
    with pytest.raises(UsageError) as caught:
        engine.submit(orders_of(source, tmp_path / "ray")[0])
    assert str(caught.value) == "--engine ray needs Ray: pip install 'dualsr[ray]'"
