"""The command line as a whole: help, version, completion, errors and exit codes."""

from __future__ import annotations

import os
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import pytest
import typer

import dualsr_cli
from dualsr_cli import commands
from dualsr_cli.commands.options import Json, Quiet, Verbose
from dualsr_cli.errors import AlignmentError, InputError, UsageError

AddCommand = Callable[[Callable[..., object]], None]


@pytest.fixture
def add_command(monkeypatch: pytest.MonkeyPatch) -> AddCommand:
    """Give the command line one more subcommand, `probe`, for the time of a test."""

    def add(function: Callable[..., object]) -> None:
        module = types.ModuleType("probe_module")
        module.probe = function  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "probe_module", module)
        row = commands._Subcommand("probe_module", "probe", "Probe.")
        monkeypatch.setitem(commands._SUBCOMMANDS, "probe", row)

    return add


@pytest.fixture(autouse=True)
def no_debug(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DUALSR_DEBUG", raising=False)


def dualsr(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "dualsr_cli", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )


def test_help_lists_the_subcommands_and_exits_with_0() -> None:
    done = dualsr("--help")
    assert done.returncode == 0
    assert done.stderr == ""
    for name, subcommand in commands._SUBCOMMANDS.items():
        assert any(
            line.split() == [name, *subcommand.help.split()] for line in done.stdout.splitlines()
        )


def test_no_words_show_the_help_as_wrong_usage() -> None:
    done = dualsr()
    assert done.returncode == 2
    assert "upscale" in done.stdout


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.run(["--version"]) == 0
    assert capsys.readouterr() == (f"dualsr {dualsr_cli.__version__}\n", "")


def command_files() -> list[str]:
    folder = Path(commands.__file__).parent
    return sorted({path.stem for path in folder.glob("[a-z]*.py")} - {"config", "options"})


@pytest.mark.parametrize("name", command_files())
def test_each_subcommand_tells_its_help_with_an_example(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert commands.run([name, "--help"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"Usage: dualsr {name} ")
    assert f"dualsr {name} " in out.split("\n", 1)[1], "no example"
    assert err == ""


def test_each_command_file_is_in_the_table() -> None:
    assert set(command_files()) <= set(commands._SUBCOMMANDS)


def test_bash_completion_knows_the_subcommands() -> None:
    done = dualsr(_DUALSR_COMPLETE="complete_bash", COMP_WORDS="dualsr ups", COMP_CWORD="1")
    assert done.stdout.split() == ["upscale"]


def test_bash_completion_knows_the_options() -> None:
    done = dualsr(_DUALSR_COMPLETE="complete_bash", COMP_WORDS="dualsr --ver", COMP_CWORD="1")
    assert done.stdout.split() == ["--version"]


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["upscal"], ["No such command 'upscal'", "'upscale'", "dualsr --help"]),
        (["--frobnicate"], ["No such option", "--frobnicate"]),
        (["probe"], ["'NUMBER'", "dualsr probe --help"]),
        (["probe", "many"], ["'number'", "dualsr probe --help"]),
    ],
)
def test_wrong_usage_is_one_sentence_and_2(
    words: list[str],
    parts: list[str],
    add_command: AddCommand,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def probe(number: int) -> None: ...

    add_command(probe)
    assert commands.run(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("dualsr: ")
    assert err.count("\n") == 1
    for part in parts:
        assert part.lower() in err.lower()


@pytest.mark.parametrize(
    ("error", "sentence", "code"),
    [
        (InputError("a.jpg", "is empty; copy it again"), "a.jpg is empty; copy it again", 1),
        (UsageError("--scale must be at least 1"), "--scale must be at least 1", 2),
        (AlignmentError("too-few-matches", "b.jpg shows another scene"), "b.jpg shows", 1),
        (MemoryError(), "not enough memory", 1),
        (KeyboardInterrupt(), "interrupted", 130),
        (ZeroDivisionError("division\nby zero"), "unexpected error (ZeroDivisionError: div", 1),
    ],
)
def test_what_goes_wrong_is_one_sentence_and_an_exit_code(
    error: BaseException,
    sentence: str,
    code: int,
    add_command: AddCommand,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def probe() -> None:
        raise error

    add_command(probe)
    assert commands.run(["probe"]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("dualsr: ")
    assert sentence in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("words", [["--debug", "probe"], ["probe", "--debug"]])
def test_debug_shows_the_traceback_wherever_it_stands(
    words: list[str], add_command: AddCommand, capsys: pytest.CaptureFixture[str]
) -> None:
    def probe() -> None:
        raise InputError("a.jpg", "is empty")

    add_command(probe)
    assert commands.run(words) == 1
    err = capsys.readouterr().err
    assert "Traceback (most recent call last)" in err
    assert err.endswith("\ndualsr: a.jpg is empty\n")


@pytest.mark.parametrize(("value", "shown"), [("1", True), ("0", False), ("", False)])
def test_the_environment_may_ask_for_tracebacks(
    value: str,
    shown: bool,
    add_command: AddCommand,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def probe() -> None:
        raise InputError("a.jpg", "is empty")

    add_command(probe)
    monkeypatch.setenv("DUALSR_DEBUG", value)
    commands.run(["probe"])
    assert ("Traceback" in capsys.readouterr().err) == shown


def test_after_two_dashes_debug_is_a_file_name(add_command: AddCommand) -> None:
    seen = []

    def probe(name: str) -> None:
        seen.append(name)

    add_command(probe)
    assert commands.run(["probe", "--", "--debug"]) == 0
    assert seen == ["--debug"]


@pytest.mark.parametrize(("result", "code"), [(None, 0), (0, 0), (3, 3)])
def test_a_subcommand_returns_its_exit_code(
    result: int | None, code: int, add_command: AddCommand
) -> None:
    add_command(lambda: result)
    assert commands.run(["probe"]) == code


def test_a_subcommand_may_leave_with_an_exit_code(add_command: AddCommand) -> None:
    def probe() -> None:
        raise typer.Exit(3)

    add_command(probe)
    assert commands.run(["probe"]) == 3


def test_the_common_options(add_command: AddCommand) -> None:
    seen = []

    def probe(
        name: Annotated[str, typer.Argument()],
        json: Json = False,
        quiet: Quiet = False,
        verbose: Verbose = False,
    ) -> None:
        seen.append((name, json, quiet, verbose))

    add_command(probe)
    assert commands.run(["probe", "a", "--json", "-q"]) == 0
    assert commands.run(["probe", "a", "-v"]) == 0
    assert seen == [("a", True, True, False), ("a", False, False, True)]


@pytest.mark.skipif(os.name == "nt", reason="no such pipes there")
def test_a_reader_that_leaves_is_no_crash() -> None:
    """As `dualsr --help | head -0` does."""
    script = (
        "import os, sys\n"
        "from dualsr_cli.commands import run\n"
        "reading, writing = os.pipe()\n"
        "os.close(reading)\n"
        "os.dup2(writing, 1)\n"
        "sys.exit(run(['--help']))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert done.returncode == 1
    assert done.stderr == b""


def test_libraries_warnings_are_for_programmers(add_command: AddCommand) -> None:
    script = (
        "import sys, types, warnings\n"
        "from dualsr_cli import commands\n"
        "module = types.ModuleType('probe_module')\n"
        "module.probe = lambda: warnings.warn('deprecated')\n"
        "sys.modules['probe_module'] = module\n"
        "commands._SUBCOMMANDS['probe'] = commands._Subcommand('probe_module', 'probe', '')\n"
        "sys.exit(commands.run(sys.argv[1:]))\n"
    )
    for words, warned in (["probe"], False), (["probe", "--debug"], True):
        done = subprocess.run(
            [sys.executable, "-c", script, *words], capture_output=True, text=True, check=True
        )
        assert ("deprecated" in done.stderr) == warned
