"""Options that mean the same on every subcommand."""

from __future__ import annotations

from contextvars import ContextVar
from enum import Enum
from typing import Annotated

import typer

__all__ = ["DEBUG", "Json", "Precision", "Quiet", "Verbose"]

DEBUG: ContextVar[bool] = ContextVar("debug", default=False)
"""Whether --debug stood somewhere on the command line."""

Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON object per line on standard output.")
]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Print warnings and errors only.")]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="Tell more about each step.")]


class Precision(str, Enum):
    """Of a network's arithmetic; the help of each subcommand says what auto is there."""

    auto = "auto"
    fp32 = "fp32"
    bf16 = "bf16"
    fp16 = "fp16"
