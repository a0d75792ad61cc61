"""Options that mean the same on every subcommand."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Annotated

import typer

__all__ = ["DEBUG", "Json", "Quiet", "Verbose"]

DEBUG: ContextVar[bool] = ContextVar("debug", default=False)
"""Whether --debug stood somewhere on the command line."""

Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON object per line on standard output.")
]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Print warnings and errors only.")]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="Tell more about each step.")]
