"""The options of every command that takes many pairs, written once."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from dualsr_cli.commands.config import Config, SaveConfig, save_options
from dualsr_cli.commands.options import Json, Quiet, Verbose
from dualsr_cli.console import Console
from dualsr_cli.errors import UsageError


class EngineName(str, Enum):
    local = "local"
    ray = "ray"


def parse_shard(text: str) -> tuple[int, int]:
    """(i, n) from "i/n", 1-based. Raises UsageError."""
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise UsageError(f"--shard {text} is no part: give one like 3/8, from 1/8 to 8/8")
    return int(match[1]), int(match[2])


@dataclass(frozen=True)
class Batch:
    """How a command goes about its pairs: the values of the options below."""

    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Tell what would be done, and do nothing.")
    ] = False
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite", help="Make every result anew, over whatever lies in its place."
        ),
    ] = False
    keep_going: Annotated[
        bool,
        typer.Option(
            "--keep-going/--stop-at-failure", help="Whether a pair that fails ends the run."
        ),
    ] = True
    retries: Annotated[
        int,
        typer.Option(
            metavar="N", min=0, help="Further tries after a crash, a timeout or a passing failure."
        ),
    ] = 2
    timeout: Annotated[
        float,
        typer.Option(
            metavar="SECONDS", min=0, help="Give up what brings no result for so long; 0: never."
        ),
    ] = 3600.0
    jobs: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Pairs computed at once.  [default: one for every 8 cores; with Ray one for every "
            "GPU, or machine]",
            show_default=False,
        ),
    ] = None
    max_memory: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="What all pairs in work may take, like 4G; a network's tiles are planned by it.  "
            "[default: 60 % of what is free]",
            show_default=False,
        ),
    ] = None
    engine: Annotated[EngineName, typer.Option(help="What works: this machine or Ray.")] = (
        EngineName.local
    )
    ray_address: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="The Ray cluster to use.", show_default=False),
    ] = None
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N",
            help="Do part I of N only, with a manifest of its own.",
            show_default=False,
        ),
    ] = None
    watch: Annotated[
        bool, typer.Option("--watch", help="Go on and take new pairs as they arrive.")
    ] = False
    interval: Annotated[
        float, typer.Option(metavar="SECONDS", min=0.1, help="How often --watch looks.")
    ] = 2.0
    max_gap: Annotated[
        float,
        typer.Option(metavar="SECONDS", min=0, help="The longest time between the two of a pair."),
    ] = 20.0
    no_content_check: Annotated[
        bool,
        typer.Option("--no-content-check", help="Pair by EXIF and names alone."),
    ] = False
    json: Json = False
    quiet: Quiet = False
    verbose: Verbose = False

    @property
    def console(self) -> Console:
        return Console(quiet=self.quiet, verbose=self.verbose, json=self.json)


def takes_batch(command: Callable[..., int]) -> Callable[..., int]:
    """Give a command that has a parameter `batch` the options above, --config and --save-config.

    Typer reads options from a signature: this writes them into it, and hands them over as one
    `Batch`.
    """
    own = inspect.signature(command, eval_str=True).parameters.values()
    hints = get_type_hints(Batch, include_extras=True)
    shared = [
        inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default,
            annotation=hints[field.name],
        )
        for field in fields(Batch)
    ]  # fmt: skip
    keyword = inspect.Parameter.KEYWORD_ONLY
    added = [
        *shared,
        inspect.Parameter("config", keyword, default=None, annotation=Config),
        inspect.Parameter("save_config", keyword, default=None, annotation=SaveConfig),
        inspect.Parameter("context", keyword, annotation=typer.Context),
    ]
    kept = [parameter.replace(kind=keyword) for parameter in own if parameter.name != "batch"]

    def run(**given: Any) -> int:
        save_options(given.pop("context"), given.pop("save_config"))
        given.pop("config")
        batch = Batch(**{field.name: given.pop(field.name) for field in fields(Batch)})
        return command(**given, batch=batch)

    run.__doc__ = command.__doc__
    run.__name__ = command.__name__
    run.__signature__ = inspect.Signature([*kept, *added])  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in (*kept, *added)}
    return run


Inputs = Annotated[
    list[Path],
    typer.Argument(
        metavar="WIDE TELE | FOLDER | PAIRS.csv",
        help="Two photos of one scene, a folder with such photos, or a table of pairs.",
        show_default=False,
    ),
]
