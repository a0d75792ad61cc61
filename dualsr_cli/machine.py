"""How much memory this machine lets us take, and what is taken."""

from __future__ import annotations

import os
import re
from pathlib import Path

from dualsr_cli.errors import UsageError

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_SHARE = 0.6
_UNKNOWN = 4 << 30


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


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii")
    except (OSError, ValueError):
        return ""
