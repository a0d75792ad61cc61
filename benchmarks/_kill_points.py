"""SIGKILL, or a full disk, at the n-th step of a process towards the disk, for every n.

Steps are: before and after each fsync, each rename and each folder that is made; before each write
and when half of it is written; after each file, folder or end of a file is removed. What is killed
is a fork of a process that has loaded everything, so that a kill costs no start.
"""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO

from dualsr_cli import files

Call = Callable[..., Any]


class _Points:
    """Counts steps. After `left` of them the process is killed, or the disk is `full` from then on.

    A full disk takes nothing more, and removes as before.
    """

    def __init__(self, left: int | None, full: bool = False) -> None:
        self.count = 0
        self._left = left
        self._full = full

    def step(self, takes: bool = True) -> None:
        """`takes`: what comes next takes room on the disk."""
        self.count += 1
        if self._left is None or self.count <= self._left:
            return
        if not self._full:
            os.kill(os.getpid(), signal.SIGKILL)
        elif takes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def around(self, function: Call) -> Call:
        def call(*arguments: Any, **named: Any) -> Any:
            self.step()
            result = function(*arguments, **named)
            self.step(takes=False)
            return result

        return call

    def behind(self, function: Call) -> Call:
        def call(*arguments: Any, **named: Any) -> Any:
            result = function(*arguments, **named)
            self.step(takes=False)
            return result

        return call

    def within(self, write: Call) -> Call:
        """os.write, in two halves."""

        def call(file: int, data: bytes) -> int:
            self.step()
            done: int = write(file, data[: len(data) // 2])
            self.step()
            return done + write(file, data[done:])  # type: ignore[no-any-return]

        return call


class _Halved:
    """A file whose writes take two steps."""

    def __init__(self, file: BinaryIO, points: _Points) -> None:
        self._file = file
        self._points = points

    def __enter__(self) -> _Halved:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def write(self, data: bytes) -> int:
        self._points.step()
        half = len(data) // 2
        self._file.write(data[:half])
        self._file.flush()
        self._points.step()
        return half + self._file.write(data[half:])


def _count(left: int | None, full: bool = False) -> _Points:
    """Count the steps of this process from now on."""
    points = _Points(left, full)

    def opened(path: Any, mode: str = "r", *options: Any, **named: Any) -> Any:
        file = open(path, mode, *options, **named)  # noqa: SIM115
        return _Halved(file, points) if "x" in mode else file

    files.open = opened  # type: ignore[attr-defined]
    for name in ("fsync", "replace", "mkdir"):
        setattr(os, name, points.around(getattr(os, name)))
    for name in ("unlink", "rmdir", "ftruncate"):
        setattr(os, name, points.behind(getattr(os, name)))
    os.write = points.within(os.write)
    return points


def run_forked(action: Callable[[], int | None]) -> int:
    """The exit code of `action` in a fork of this process; below 0 it is a signal's number."""
    child = os.fork()
    if child == 0:
        os._exit(_guarded(action))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def killed_at(point: int, action: Callable[[], int]) -> bool:
    """Run `action` in a fork and kill it at step `point`, from 0; False where it has fewer steps.

    Raises RuntimeError where it ends by itself with anything but 0.
    """

    def counted() -> int:
        _count(point)
        return action()

    code = run_forked(counted)
    if code not in (0, -signal.SIGKILL):
        raise RuntimeError(f"ended with exit code {code} instead of being killed")
    return code != 0


def full_at(point: int, action: Callable[[], int]) -> int:
    """The exit code of `action` in a fork, for which the disk is full from step `point` on."""

    def counted() -> int:
        _count(point, full=True)
        return action()

    return run_forked(counted)


def steps_of(action: Callable[[], int]) -> int:
    """How many steps `action` takes, run to its end in a fork. Raises RuntimeError as above."""
    reading, writing = os.pipe()

    def counted() -> int:
        write, points = os.write, _count(None)
        code = action()
        write(writing, b"%d" % points.count)
        return code

    code = run_forked(counted)
    os.close(writing)
    with open(reading, "rb") as pipe:
        told = pipe.read()
    if code != 0:
        raise RuntimeError(f"ended with exit code {code}")
    return int(told)


def in_lanes(
    work: Callable[[Any], list[str]], tasks: Iterable[Any], lanes: int
) -> Iterator[tuple[int, list[str]]]:
    """Do all tasks in forks of this process, `lanes` at once.

    Yields the index of each task that was done, and the lines that `work` returned.
    """
    todo = list(tasks)
    pipes = []
    for lane in range(lanes):
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)

            def report(lane: int = lane, writing: int = writing) -> int:
                with open(writing, "w", encoding="utf-8") as pipe:
                    for index in range(lane, len(todo), lanes):
                        lines = [line.replace("\n", " ") for line in work(todo[index])]
                        print(index, *lines, sep="\t", file=pipe, flush=True)
                return 0

            os._exit(_guarded(report))
        os.close(writing)
        pipes.append((child, reading))
    for child, reading in pipes:
        with open(reading, encoding="utf-8") as pipe:
            for line in pipe:
                index, *lines = line.rstrip("\n").split("\t")
                yield int(index), lines
        os.waitpid(child, 0)


def _guarded(action: Callable[[], int | None]) -> int:
    try:
        return action() or 0
    except BaseException:
        import traceback

        traceback.print_exc()
        return 70
