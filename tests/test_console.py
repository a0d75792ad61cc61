"""What a person sees on a terminal or in a log, and what a script reads."""

from __future__ import annotations

import io
import json
import math
import os
import sys
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from rich.text import Text

from dualsr_cli.console import PROGRESS_INTERVAL, Console, duration


class Clock:
    """Time that passes only when told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_results_go_to_standard_output_and_talk_to_standard_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    console = Console(verbose=True)
    console.result("out.png")
    console.say("reading")
    console.detail("1632x1224")
    console.warn("the tele photo is blurred")
    console.error("no")
    out, err = capsys.readouterr()
    assert out == "out.png\n"
    assert err == "reading\n1632x1224\ndualsr: warning: the tele photo is blurred\ndualsr: no\n"


def test_quiet_leaves_results_warnings_and_errors(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console(quiet=True, verbose=True)
    console.result("out.png")
    console.say("reading")
    console.detail("more")
    with console.progress() as progress:
        progress("tiles", 0, 2)
        progress("tiles", 2, 2)
    console.warn("careful")
    assert capsys.readouterr() == ("out.png\n", "dualsr: warning: careful\n")


def test_details_only_when_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    Console().detail("more")
    assert capsys.readouterr() == ("", "")


def test_json_output_holds_json_lines_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console(json=True)
    console.result("for people")
    console.table(["wide"], [["a.jpg"]])
    console.emit_json({"zoom": 2.0, "file": Path("ü b.jpg")})
    console.emit_json({"second": True})
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line) for line in lines] == [
        {"zoom": 2.0, "file": "ü b.jpg"},
        {"second": True},
    ]
    assert lines[0].index("zoom") < lines[0].index("file")


def test_without_json_no_json(capsys: pytest.CaptureFixture[str]) -> None:
    Console().emit_json({"zoom": 2})
    assert capsys.readouterr().out == ""


def test_json_takes_the_values_that_engines_have(capsys: pytest.CaptureFixture[str]) -> None:
    Console(json=True).emit_json(
        {
            "ratio": np.float32(2.5),
            "count": np.int64(3),
            "yes": np.bool_(True),
            "homography": np.eye(2),
            "corners": ((0, 1.5), (2, 3)),
            "unknown": None,
            "psnr": math.inf,
            "loss": np.float64("nan"),
            "taken": datetime(2014, 5, 26, 12, 56, 2, 384000),
            "nested": {"file": Path("a/b")},
        }
    )
    assert json.loads(capsys.readouterr().out) == {
        "ratio": 2.5,
        "count": 3,
        "yes": True,
        "homography": [[1, 0], [0, 1]],
        "corners": [[0, 1.5], [2, 3]],
        "unknown": None,
        "psnr": None,
        "loss": None,
        "taken": "2014-05-26T12:56:02.384000",
        "nested": {"file": "a/b"},
    }


def test_a_name_with_control_characters_cannot_steer_the_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Console().error("evil\x1b[2J\r.jpg is not a photo")
    assert capsys.readouterr().err == "dualsr: evil\\x1b[2J\\r.jpg is not a photo\n"


@pytest.mark.skipif(os.name == "nt", reason="file names are always text there")
def test_a_name_that_is_no_text_comes_out_as_its_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="utf-8"))
    Console().result(os.fsdecode(b"caf\xe9.jpg"))
    assert raw.getvalue() == b"caf\xe9.jpg\n"


def test_a_name_that_the_stream_cannot_say_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    Console().result("日.jpg")
    assert raw.getvalue() == b"\\u65e5.jpg\n"


def test_a_table_lines_up(capsys: pytest.CaptureFixture[str]) -> None:
    Console().table(
        ["pair", "zoom", "note"], [["facade", 2.4, None], ["a long name", 10.25, "one\ntwo"]]
    )
    assert capsys.readouterr().out.splitlines() == [
        "pair          zoom  note",
        "facade        2.40  -",
        "a long name  10.25  one\\ntwo",
    ]


def test_an_empty_table_is_its_header(capsys: pytest.CaptureFixture[str]) -> None:
    Console().table(["wide", "tele"], [])
    assert capsys.readouterr().out == "wide  tele\n"


def test_a_styled_table_is_plain_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    header = [Text("method"), Text("full PSNR")]
    rows = [[Text("a", "dim"), Text("9.1", "bold")], [Text("longer\x1b[2J"), Text("30.25")]]
    Console().styled_table(header, rows)
    assert capsys.readouterr().out.splitlines() == [
        "method         full PSNR",
        "a                    9.1",
        "longer\\x1b[2J      30.25",
    ]
    Console(json=True).styled_table(header, rows)
    assert capsys.readouterr().out == ""


def test_a_styled_table_loses_nothing_on_a_narrow_terminal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "20")
    header = [Text("method"), *(Text(f"column {n}") for n in range(12))]
    rows = [[Text("a\x1b[2J"), *(Text(f"{n}.25", "bold") for n in range(12))]]
    Console().styled_table(header, rows)
    shown = terminal.getvalue()
    assert "11.25\x1b[0m" in shown and "\x1b[2J" not in shown


def test_progress_lines_tell_rate_and_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with Console(clock=clock).progress() as progress:
        progress("upscaling", 0, 100)
        for done in range(1, 101):
            clock.now += 0.5
            progress("upscaling", done, 100)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "upscaling: 10 of 100, 2.0/s, 45 s left"
    assert lines[-1] == "upscaling: done in 50 s"
    assert len(lines) == 50 / PROGRESS_INTERVAL


def test_what_is_resumed_goes_as_fast_as_it_goes_now(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with Console(clock=clock).progress() as progress:
        progress("training", 1000, 2000)
        clock.now += 10
        progress("training", 1020, 2000)
    assert capsys.readouterr().err == "training: 1020 of 2000, 2.0/s, 8 min 10 s left\n"


def test_slow_progress_is_told_by_the_minute(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with Console(clock=clock).progress() as progress:
        progress("tiles", 0, 4)
        clock.now += 80
        progress("tiles", 1, 4)
    assert capsys.readouterr().err == "tiles: 1 of 4, 0.8/min, 4 min 0 s left\n"


def test_progress_of_an_unknown_total(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with Console(clock=clock).progress() as progress:
        progress("photos", 0, 0)
        clock.now += 10
        progress("photos", 30, 0)
    assert capsys.readouterr().err == "photos: 30, 3.0/s\n"


def test_each_stage_ends_once_and_may_come_again(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with Console(clock=clock).progress() as progress:
        for _ in range(2):
            progress("align", 0, 1)
            clock.now += 1
            progress("align", 1, 1)
            progress("align", 1, 1)
            progress("upscale", 0, 1)
            clock.now += 2
            progress("upscale", 1, 1)
    assert (
        capsys.readouterr().err.splitlines()
        == [
            "align: done in 1 s",
            "upscale: done in 2 s",
        ]
        * 2
    )


def test_a_terminal_gets_a_bar_and_standard_output_stays_clean(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    console = Console(json=True)
    with console.progress() as progress:
        progress("upscaling [tiles]", 0, 12)
        progress("upscaling [tiles]", 12, 12)
        console.say("half way")
        console.emit_json({"done": 12})
        progress("upscaling [tiles]", 0, 5)
        progress("upscaling [tiles]", 5, 5)
    shown = terminal.getvalue()
    assert "upscaling [tiles]" in shown
    assert "5/5" in shown
    assert "half way" in shown
    assert json.loads(capsys.readouterr().out) == {"done": 12}


def test_a_failure_ends_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with pytest.raises(ValueError, match="stop"), Console().progress() as progress:
        progress("tiles", 1, 2)
        raise ValueError("stop")
    assert terminal.getvalue().endswith("\n\x1b[?25h")  # the cursor is shown again
    assert sys.stderr is terminal


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0 s"),
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (200, "3 min 20 s"),
        (3900, "1 h 5 min"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
