"""A folder of small items, and runs over it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # workers import the task by its module's name

from toy_task import Join

from dualsr_cli.jobs import (
    InlineEngine,
    Item,
    LocalEngine,
    Manifest,
    Result,
    RunOptions,
    Tally,
    run,
)

SETTINGS = {"command": "join", "version": "1", "scale": 2.0}
Ran = tuple[Tally, dict[str, Result]]


def items_of(source: Path, **settings: object) -> list[Item]:
    """One item for each pair of files NAME.a and NAME.b."""
    return [
        Item(
            first.relative_to(source).with_suffix("").as_posix(),
            (first, first.with_suffix(".b")),
            tuple(path.relative_to(source).as_posix() for path in (first, first.with_suffix(".b"))),
            {**SETTINGS, **settings},
        )
        for first in sorted(source.rglob("*.a"))
    ]


def fill(source: Path, count: int = 5) -> Path:
    for number in range(count):
        first = source / f"{number % 2}" / f"item {number}.a"
        first.parent.mkdir(parents=True, exist_ok=True)
        first.write_bytes(f"wide {number}, ".encode())
        first.with_suffix(".b").write_bytes(f"tele {number}".encode())
    return source


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return fill(tmp_path / "source")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def inline(source: Path, out: Path) -> Callable[..., Ran]:
    """Run all items of the source in this process; which ones were computed is in out.log."""

    def go(
        items: list[Item] | None = None, shard: tuple[int, int] | None = None, **options: object
    ) -> Ran:
        results: dict[str, Result] = {}
        engine = InlineEngine(Join(log=out.with_suffix(".log")))
        manifest = Manifest(out, shard)
        try:
            tally = run(
                items_of(source) if items is None else items,
                out,
                engine,
                manifest,
                RunOptions(source=str(source), **options),  # type: ignore[arg-type]
                lambda result: results.__setitem__(result.item.name, result),
            )
        finally:
            manifest.close()
        return tally, results

    return go


@pytest.fixture
def local(source: Path, out: Path) -> Iterator[Callable[..., Ran]]:
    """The same in a worker process of its own."""
    engine = LocalEngine(Join(log=out.with_suffix(".log")), 1, 1 << 30)

    def go(**options: object) -> Ran:
        results: dict[str, Result] = {}
        manifest = Manifest(out)
        try:
            tally = run(
                items_of(source),
                out,
                engine,
                manifest,
                RunOptions(source=str(source), **options),  # type: ignore[arg-type]
                lambda result: results.__setitem__(result.item.name, result),
            )
        finally:
            manifest.close()
        return tally, results

    yield go
    engine.stop()


def tree(folder: Path) -> dict[str, bytes]:
    """All files below a folder but the manifest's."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and ".dualsr" not in path.parts
    }


def computed(out: Path) -> list[str]:
    """Which items were computed since the last call."""
    log = out.with_suffix(".log")
    lines = log.read_text().splitlines() if log.exists() else []
    log.unlink(missing_ok=True)
    return sorted(lines)
