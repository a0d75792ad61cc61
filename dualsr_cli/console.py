"""All talk with the person or the script at the other end: the only place that prints.

Results go to standard output, everything else to standard error. A command makes one `Console`
from its flags and hands `console.progress()` callbacks to the engine it calls; engines never print.
"""

from __future__ import annotations

import json as jsonlib
import os
import re
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TextIO

from dualsr_cli.plain import json_types

if TYPE_CHECKING:
    from rich.text import Text

__all__ = ["PROGRESS_INTERVAL", "Console", "Progress", "duration"]

Progress = Callable[[str, int, int], None]
"""What an engine reports to: (stage, done, total), first with done 0; total 0 means unknown."""

PROGRESS_INTERVAL = 5.0
"""Seconds between two progress lines of one stage where standard error is no terminal."""

_WIDEST = 1000  # characters of a table

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # all but tab and line feed


@dataclass(frozen=True)
class Console:
    """How one run of a command talks.

    quiet: only warnings and errors on standard error. verbose: details as well. json: standard
    output carries JSON lines and nothing else.
    """

    quiet: bool = False
    verbose: bool = False
    json: bool = False
    clock: Callable[[], float] = time.monotonic

    def result(self, text: str) -> None:
        """A line of the result, for people; silent when the result is asked for as JSON."""
        if not self.json:
            _write(sys.stdout, text)

    def table(self, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """A result in columns, for people; numbers stand to the right."""
        self.result(_columns(header, rows))

    def styled_table(
        self, header: Sequence[Text], rows: Sequence[Sequence[Text]], words: int = 1
    ) -> None:
        """A result in columns of rich's text, whose styles are for terminals; as wide as it is.

        Columns but the first `words` hold numbers.
        """
        if self.json:
            return
        if not _is_terminal(sys.stdout):
            plain = [[_seen(cell).plain for cell in line] for line in (header, *rows)]
            right = [number >= words for number in range(len(header))]
            self.result(_columns(plain[0], plain[1:], right))
            return
        from rich.box import SIMPLE_HEAD
        from rich.console import Console as Terminal
        from rich.table import Table

        table = Table(box=SIMPLE_HEAD, pad_edge=False)
        for number, title in enumerate(header):
            shown = _seen(title)
            shown.plain = shown.plain.replace(" ", "\n")
            side: Literal["left", "right"] = "left" if number < words else "right"
            table.add_column(shown, justify=side, no_wrap=True)
        for row in rows:
            table.add_row(*map(_seen, row))
        # Wider than the terminal its lines go on below, with nothing left out.
        Terminal(file=sys.stdout, width=_WIDEST).print(table, soft_wrap=True)
        sys.stdout.flush()

    def emit_json(self, item: Mapping[str, Any]) -> None:
        """One object on one line of standard output, keys in the order given; only with `json`.

        Paths become strings, NumPy scalars numbers, times ISO 8601, NaN and infinity null.
        """
        if self.json:
            _write(sys.stdout, jsonlib.dumps(json_types(item), allow_nan=False))

    def say(self, text: str) -> None:
        """What is being done, for people; silent with `quiet`."""
        if not self.quiet:
            _write(sys.stderr, text)

    def detail(self, text: str) -> None:
        """What only `verbose` asks for."""
        if self.verbose and not self.quiet:
            _write(sys.stderr, text)

    def warn(self, text: str) -> None:
        """Something is not as asked, and the work goes on."""
        _write(sys.stderr, f"dualsr: warning: {text}")

    def error(self, text: str) -> None:
        """Something could not be done: one sentence."""
        _write(sys.stderr, f"dualsr: {text}")

    def traceback(self, error: BaseException) -> None:
        """The whole story of an exception, for whoever debugs."""
        _write(sys.stderr, "".join(traceback.format_exception(error)).rstrip())

    @contextmanager
    def progress(self) -> Iterator[Progress]:
        """Yield a callback that shows how far the work is, with rate and time left.

        A bar where standard error is a terminal; else a line per stage and every
        PROGRESS_INTERVAL seconds. To be called from one thread.
        """
        if self.quiet:
            yield lambda stage, done, total: None
        elif _is_terminal(sys.stderr):
            with _bar() as callback:
                yield callback
        else:
            yield _lines(self.say, self.clock)


def duration(seconds: float) -> str:
    """Seconds as people say them: "8 s", "3 min 20 s", "1 h 5 min"."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _lines(say: Callable[[str], None], clock: Callable[[], float]) -> Progress:
    """Progress as plain lines: the end of each stage, and a line now and then on the way."""
    current: str | None = None
    finished = False
    started = spoken = 0.0
    before = 0  # done when the stage was first heard of: what is resumed begins with some

    def report(stage: str, done: int, total: int) -> None:
        nonlocal current, finished, started, spoken, before
        complete = 0 < total <= done
        if stage == current and finished and complete:
            return  # said already
        now = clock()
        if stage != current or finished:
            current, started, spoken, before = stage, now, now, done
        finished = complete
        elapsed = now - started
        if complete:
            say(f"{stage}: done in {duration(elapsed)}")
        elif now - spoken >= PROGRESS_INTERVAL:
            spoken = now
            say(_on_the_way(stage, done, total, (done - before) / elapsed if elapsed else 0))

    return report


def _on_the_way(stage: str, done: int, total: int, speed: float) -> str:
    """speed: done per second, 0 where that is not known."""
    line = f"{stage}: {done} of {total}" if total else f"{stage}: {done}"
    if speed > 0:
        line += f", {_rate(speed)}"
        if total:
            line += f", {duration((total - done) / speed)} left"
    return line


def _rate(per_second: float) -> str:
    """Items a second, or a minute where they are slow, with two digits that count."""
    if per_second >= 1:
        return f"{per_second:.1f}/s"
    return f"{per_second * 60:.1f}/min"


@contextmanager
def _bar() -> Iterator[Progress]:
    """Progress as a bar on standard error, one task a stage."""
    from rich.console import Console as Terminal
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        ProgressColumn,
        Task,
        TaskID,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as Bar
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text(_rate(speed) if speed else "")

    bar = Bar(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(),
        TimeRemainingColumn(),
        console=Terminal(stderr=True),
        # Standard output may be a pipe to a script: nothing of it may go through the bar.
        redirect_stdout=sys.stdout.isatty(),
    )
    tasks: dict[str, TaskID] = {}

    def report(stage: str, done: int, total: int) -> None:
        if stage not in tasks:
            tasks[stage] = bar.add_task(stage, completed=done)
        elif done < bar.tasks[tasks[stage]].completed:  # the same stage of the next item
            bar.reset(tasks[stage])
        bar.update(tasks[stage], completed=done, total=total or None)

    with bar:
        yield report


def _columns(
    header: Sequence[str], rows: Sequence[Sequence[object]], right: Sequence[bool] | None = None
) -> str:
    """right: which columns stand to the right, else those that hold nothing but numbers."""
    lines = [list(header), *([_cell(value) for value in row] for row in rows)]
    right = right or [
        all(isinstance(row[i], int | float) for row in rows) and bool(rows)
        for i in range(len(header))
    ]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    return "\n".join(
        "  ".join(
            text.rjust(width) if to_right else text.ljust(width)
            for text, width, to_right in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in lines
    )


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" if isinstance(value, float) else str(value).replace("\n", "\\n")


def _visible(text: str) -> str:
    """`text` without control characters: a file's name must not steer somebody's terminal."""
    return _CONTROL.sub(lambda match: ascii(match[0])[1:-1], text)


def _seen(text: Text) -> Text:
    """`text` without control characters, in its style."""
    seen = text.copy()
    seen.plain = _visible(text.plain)
    return seen


def _is_terminal(stream: TextIO) -> bool:
    return stream.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")


def _write(stream: TextIO, text: str) -> None:
    """Write one line and push it out, so that a pipe's reader sees it now.

    Names of files that are not valid text come out as the bytes they are on the disk; what the
    stream's encoding lacks comes out escaped.
    """
    line = _visible(text) + "\n"
    try:
        stream.write(line)
    except UnicodeEncodeError:
        encoding = stream.encoding or "utf-8"
        buffer = getattr(stream, "buffer", None)
        if buffer is None:
            stream.write(line.encode(encoding, "backslashreplace").decode(encoding))
        else:
            stream.flush()
            buffer.write(b"".join(_bytes(c, encoding) for c in line))
    stream.flush()


def _bytes(character: str, encoding: str) -> bytes:
    try:
        return character.encode(encoding, "surrogateescape")
    except UnicodeEncodeError:
        return character.encode(encoding, "backslashreplace")
