"""A task without photographs: it joins its inputs; what an input says decides how it fares."""

from __future__ import annotations

import errno
import os
import signal
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dualsr_cli.errors import InputError, OutputError, UsageError
from dualsr_cli.files import atomic_writer
from dualsr_cli.jobs import Item


@dataclass(frozen=True)
class Join:
    """Writes the inputs one after the other, in upper case; in a folder also their sizes.

    An input that begins with BAD is refused, CRASH ends the process, HANG waits for ever, FLAKY
    fails in passing as long as the file `luck` beside it has bytes left, FULL finds the disk full.
    """

    log: Path | None = None
    needs: str = ""

    def prepare(self) -> None:
        if self.needs:
            raise UsageError(f"--device {self.needs} is not on this machine: choose auto or cpu")

    def memory(self, item: Item) -> int:
        return 1 << 20

    def read(self, item: Item) -> list[bytes]:
        contents = [path.read_bytes() for path in item.inputs]
        for path, content in zip(item.inputs, contents, strict=True):
            if content.startswith(b"BAD"):
                raise InputError(path, "is bad: bring a good one")
        return contents

    def compute(self, item: Item, data: list[bytes]) -> bytes:
        if self.log:
            with open(self.log, "a") as file:
                file.write(f"{item.name}\n")
        for path, content in zip(item.inputs, data, strict=True):
            if content.startswith(b"CRASH"):
                os.kill(os.getpid(), signal.SIGKILL)
            if content.startswith(b"HANG"):
                threading.Event().wait()
            luck = path.with_name("luck")
            if content.startswith(b"FLAKY") and luck.exists() and luck.read_bytes():
                luck.write_bytes(luck.read_bytes()[1:])
                raise OSError(errno.EIO, "Input/output error", str(path))
        return b"".join(data).upper()

    def write(self, item: Item, result: bytes, target: Path) -> dict[str, Any]:
        if result.startswith(b"FULL"):
            error = OSError(errno.ENOSPC, "No space left on device")
            raise OutputError(target, "cannot be written: the disk is full") from error
        if item.settings.get("folder"):
            with atomic_writer(target / "sizes") as file:
                file.write(str(len(result)).encode())
            target = target / "joined"
        with atomic_writer(target) as file:
            file.write(result)
        return {"length": len(result), "nothing": float("nan")}
