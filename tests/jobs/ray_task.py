"""A task whose first computing, of all there are, tells its process and then stands still."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toy_task import Join

from dualsr_cli.jobs import Item


@dataclass(frozen=True)
class Stuck(Join):
    """`pipe`: a FIFO that takes the process's number. The file beside it with ".first" goes away
    with the first who computes; nobody after that stands still.
    """

    pipe: Path = Path()

    def compute(self, item: Item, data: list[bytes]) -> bytes:
        try:
            self.pipe.with_suffix(".first").unlink()
        except FileNotFoundError:
            return super().compute(item, data)
        self.pipe.write_text(f"{os.getpid()} {item.name}\n")
        threading.Event().wait()
        raise AssertionError


@dataclass(frozen=True)
class Strange(Join):
    """Cannot be loaded on any node."""

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        raise ModuleNotFoundError("No module named 'strange'")
