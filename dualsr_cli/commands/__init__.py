"""The command line: a table of subcommands, each loaded when it is called.

`app` is the Typer application; `run` runs it with typed arguments and returns the exit code.
"""

from __future__ import annotations

import importlib
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup

import dualsr_cli
from dualsr_cli.commands.options import DEBUG
from dualsr_cli.console import Console
from dualsr_cli.errors import DualsrError, explain

__all__ = ["app", "run"]


class _Subcommand(NamedTuple):
    module: str
    function: str
    help: str


_SUBCOMMANDS = {
    "upscale": _Subcommand(
        "dualsr_cli.commands.upscale", "upscale", "Make the wide photo as sharp as the tele photo."
    ),
    "align": _Subcommand(
        "dualsr_cli.commands.align", "align", "Lay the tele photo over the wide photo; save both."
    ),
    "match": _Subcommand(
        "dualsr_cli.commands.match", "match", "Find where the wide photo's parts have their like."
    ),
    "bench": _Subcommand(
        "dualsr_cli.commands.bench", "bench", "Score methods on a data set, by its paper's rules."
    ),
    "train": _Subcommand(
        "dualsr_cli.commands.train",
        "train",
        "Train a network on photos of your own, or a data set.",
    ),
    "jobs": _Subcommand(
        "dualsr_cli.commands.jobs", "jobs", "Show what was done with each item of a folder."
    ),
    "models": _Subcommand(
        "dualsr_cli.commands.models",
        "models",
        "List the networks that there are; add or export one.",
    ),
    "pairs": _Subcommand(
        "dualsr_cli.commands.pairs", "pairs", "List the wide and tele photos of a folder as pairs."
    ),
}

_USAGE_ERROR = 2
_INTERRUPTED = 130


class _LazyGroup(TyperGroup):
    """Knows the names and one-line helps; imports a subcommand's module only to run it."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        for name, subcommand in _SUBCOMMANDS.items():
            self.add_command(TyperCommand(name, help=subcommand.help))

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        name, command, rest = super().resolve_command(ctx, args)
        return name, command and _load(str(name)), rest


def _load(name: str) -> Any:
    """The command that runs the function of the table's row `name`."""
    subcommand = _SUBCOMMANDS[name]
    module = importlib.import_module(subcommand.module)
    single = typer.Typer(add_completion=False, rich_markup_mode=None)
    single.command(name)(getattr(module, subcommand.function))
    return typer.main.get_command(single)


app = typer.Typer(
    cls=_LazyGroup, rich_markup_mode=None, context_settings={"help_option_names": ["-h", "--help"]}
)


def _print_version(asked: bool) -> None:
    if asked:
        Console().result(f"dualsr {dualsr_cli.__version__}")
        raise typer.Exit


@app.callback(epilog="'dualsr COMMAND --help' tells more, with an example.")
def _dualsr(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
    debug: Annotated[
        bool,
        typer.Option(
            "--debug",
            help="Show tracebacks of errors, as DUALSR_DEBUG=1 does; may stand anywhere.",
        ),
    ] = False,
) -> None:
    """Make the wide photo that a phone took as sharp as the tele photo of the same scene."""


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command line (the process's own by default); return its exit code.

    0 all done, 1 nothing could be done, 2 wrong usage, 3 some items failed, 130 interrupted.
    A subcommand's function returns its exit code, or None for 0.
    """
    words, debug = _take_debug(sys.argv[1:] if arguments is None else arguments)
    console = Console()
    DEBUG.set(debug)
    if not debug and not sys.warnoptions:
        warnings.simplefilter("ignore")  # libraries' advice to programmers
    try:
        code = _command_line(words or ["--help"])
    except KeyboardInterrupt:
        code = _INTERRUPTED
    except Exception as error:
        if debug:
            console.traceback(error)
        sentence, code = _explain(error)
        console.error(sentence)
    if code == _INTERRUPTED:
        console.error("interrupted")
    return code if words else _USAGE_ERROR


def _command_line(words: list[str]) -> int:
    result = typer.main.get_command(app).main(words, prog_name="dualsr", standalone_mode=False)
    return result if isinstance(result, int) else 0


def _take_debug(arguments: Sequence[str]) -> tuple[list[str], bool]:
    """The arguments without --debug, wherever it stood, and whether to debug."""
    words = list(arguments)
    options = words[: words.index("--")] if "--" in words else words
    asked = "--debug" in options or os.environ.get("DUALSR_DEBUG", "0") not in ("", "0")
    return [word for word in options if word != "--debug"] + words[len(options) :], asked


def _explain(error: Exception) -> tuple[str, int]:
    """One sentence for whatever went wrong, and the exit code."""
    if isinstance(error, DualsrError):
        return str(error), error.exit_code
    if isinstance(error, typer.Abort):
        return "interrupted", 1
    if hasattr(error, "format_message") and hasattr(error, "exit_code"):  # Typer's own errors
        context = getattr(error, "ctx", None)
        path = context.command_path if context else "dualsr"
        return f"{_sentence(error.format_message())} (see '{path} --help')", int(error.exit_code)
    return explain(error), 1


def _sentence(message: str) -> str:
    """Typer's message on one line, without its full stop."""
    return " ".join(message.split()).rstrip(".")
