"""How much memory this machine lets us take, what is taken, and how it is kept."""

from __future__ import annotations

import ctypes
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from dualsr_cli.errors import UsageError

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_SHARE = 0.6
_UNKNOWN = 4 << 30

# mallopt's parameters (malloc.h), what they are set to while memory is kept, and after it.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
_KEEPING = {_TRIM_THRESHOLD: 2**31 - 1, _MMAP_MAX: 0}
_USUAL = {_TRIM_THRESHOLD: 1 << 26, _MMAP_THRESHOLD: 1 << 25, _MMAP_MAX: 1 << 16}


def parse_memory(text: str) -> int:
    """Bytes from "4G", "512M" or a plain number. Raises UsageError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)i?B?", text.strip(), re.IGNORECASE)
    if not match or float(match[1]) <= 0:
        raise UsageError(f"--max-memory {text} is no size: give one like 4G or 512M")
    return int(float(match[1]) * _UNITS[match[2].upper()])


def default_memory() -> int:
    """Bytes: 60 % of what is free on this machine, and in this container."""
    free = [_UNKNOWN]
    if match := re.search(r"^MemAvailable:\s*(\d+) kB", _read("/proc/meminfo"), re.MULTILINE):
        free = [int(match[1]) * 1024]
    elif hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        free = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    limit, used = (_read(f"/sys/fs/cgroup/memory.{name}").strip() for name in ("max", "current"))
    if limit.isdecimal() and used.isdecimal():
        free.append(int(limit) - int(used))
    return max(1, int(min(free) * _SHARE))


def resident() -> int:
    """Bytes of this process that lie in memory, libraries included; 0 where no one tells."""
    pages = _read("/proc/self/statm").split()[1:2]
    return int(pages[0]) * os.sysconf("SC_PAGE_SIZE") if pages else 0


@contextmanager
def memory_kept(keep: bool) -> Iterator[Callable[[], None]]:
    """What to call whenever much memory was freed: it goes back to the system, if not kept.

    keep: the C library keeps freed memory for the next request, and gives it back at the end. Large
    blocks that go back at once come anew page by page, which takes up to half the time of large
    windows; kept ones lie in pieces, and take up to twice the room. For glibc; elsewhere nothing
    changes.
    """
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    if library is None or not (hasattr(library, "mallopt") and hasattr(library, "malloc_trim")):
        yield lambda: None
        return

    def give_back() -> None:
        library.malloc_trim(0)

    if not keep:
        yield give_back
        return
    _set(library, _KEEPING)
    try:
        yield lambda: None
    finally:
        _set(library, _USUAL)
        give_back()


def _set(library: ctypes.CDLL, parameters: dict[int, int]) -> None:
    for parameter, value in parameters.items():
        library.mallopt(parameter, value)


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii")
    except (OSError, ValueError):
        return ""
