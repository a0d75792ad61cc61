"""What is asked of a run, and what it says: of each item, and at the end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dualsr_cli.jobs.item import Item, Problem


@dataclass(frozen=True)
class RunOptions:
    """How a run goes about its items.

    retries: further tries of an item that failed in passing, crashed its worker or took too long.
    timeout: seconds without any result after which the workers count as hung; 0: never.
    overwrite: do everything anew, over whatever lies there. keep_going: a failed item does not
    end the run. source: what the inputs' names are relative to, for the manifest.
    """

    retries: int = 2
    timeout: float = 3600.0
    overwrite: bool = False
    keep_going: bool = True
    source: str = ""


@dataclass(frozen=True)
class Result:
    """What became of one item in a run.

    state: done, unchanged (it was done before), failed or quarantined. outputs: the files in
    their places. altered: somebody has changed the result since; it was left alone.
    """

    item: Item
    state: str
    outputs: tuple[Path, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    problem: Problem | None = None
    attempts: int = 0
    altered: bool = False


@dataclass
class Tally:
    """How many items ended how; `remaining` were not come to."""

    done: int = 0
    unchanged: int = 0
    failed: int = 0
    quarantined: int = 0
    remaining: int = 0
    interrupted: bool = False
    problem: Problem | None = None
    """What ended the run before its end."""
    seconds: float = 0.0

    def exit_code(self) -> int:
        """0 all done, 1 nothing done (2: for wrong usage), 3 some items failed, 130 interrupted."""
        if self.interrupted:
            return 130
        good = self.done + self.unchanged
        if self.problem:
            return 3 if good else self.problem.exit_code
        if self.failed + self.quarantined + self.remaining == 0:
            return 0
        return 3 if good else 1
