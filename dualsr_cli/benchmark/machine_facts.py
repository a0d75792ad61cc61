"""What a reader must know of the machine and the versions behind measured numbers."""

from __future__ import annotations

import os
import platform
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

import dualsr_cli

_PACKAGES = ("torchvision", "lpips", "numpy", "opencv-python-headless", "pillow")
_GB = 1e9


def machine_facts(device: str = "cpu") -> dict[str, str]:
    """By name, in the order of a table: the same on one machine at any time.

    device: what networks ran on, as torch calls it.
    """
    facts = {"dualsr": dualsr_cli.__version__, "Processor": _processor()}
    if memory := _memory():
        facts["Memory"] = f"{memory / _GB:.1f} GB"
    if device.startswith("cuda"):
        gpu = torch.cuda.get_device_properties(torch.device(device))
        facts["GPU"] = f"{gpu.name}, {gpu.total_memory / _GB:.1f} GB"
        facts["CUDA"] = str(torch.version.cuda)
    facts["System"] = f"{platform.system()} {platform.release()}"
    facts["Python"] = platform.python_version()
    facts["torch"] = str(torch.__version__)  # it says more than the package's version
    return facts | {name: found for name in _PACKAGES if (found := _version(name))}


def _processor() -> str:
    """Its name, and how many cores this process may use."""
    named = re.search(r"^model name\s*:\s*(.+)$", _read("/proc/cpuinfo"), re.MULTILINE)
    name = named[1].strip() if named else platform.processor() or platform.machine()
    usable = getattr(os, "sched_getaffinity", None)
    cores = len(usable(0)) if usable else os.cpu_count() or 1
    return f"{name}, {cores} {'core' if cores == 1 else 'cores'}"


def _memory() -> int:
    """Bytes of this machine, 0 where it does not tell."""
    if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
        return 0
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
