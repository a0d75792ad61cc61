"""How much memory processes take; needs /proc, as Linux has it."""

from __future__ import annotations

import ctypes
import gc
import re
import threading
from pathlib import Path

MIB = 2**20


def resident(process: int | str = "self") -> int:
    """Bytes of a process that lie in memory now; 0 where that cannot be known."""
    return _field(process, "VmRSS")


def peak(process: int | str = "self") -> int:
    """The most bytes that a process has had in memory; 0 where that cannot be known."""
    return _field(process, "VmHWM")


def forget_peak() -> None:
    """Have `peak` of this process start anew."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def give_back() -> None:
    """Return to the system what the C library holds of freed memory, which else counts as ours."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)


def available() -> int:
    """Bytes of memory that could be had now."""
    text = Path("/proc/meminfo").read_text(encoding="ascii")
    match = re.search(r"^MemAvailable:\s*(\d+) kB", text, re.MULTILINE)
    return int(match[1]) * 1024 if match else 0


def children(process: int) -> list[int]:
    """The processes that a process has started and that still run."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(
                path.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[1]
            )
        except (OSError, IndexError):
            continue
        if parent == process:
            found.append(int(path.parent.name))
    return found


class Watch:
    """Looks at a process and its children until `stop`; then `own` and `worker` are their peaks."""

    def __init__(self, process: int) -> None:
        self.own = self.worker = 0
        self._process = process
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(0.05):
            self.own = max(self.own, peak(self._process))
            self.worker = max([self.worker, *map(peak, children(self._process))])


def _field(process: int | str, name: str) -> int:
    try:
        status = Path(f"/proc/{process}/status").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0
    match = re.search(rf"^{name}:\s*(\d+) kB", status, re.MULTILINE)
    return int(match[1]) * 1024 if match else 0
