"""What a piece of work takes: floating point operations, and memory at its peak."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from dualsr_cli.matching import counted_searches

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class Operations:
    """Counts in `total`, once it is left, what products, convolutions and searches took.

    A multiply-add is two operations; a search for matches counts as its paper's product of all
    queries and keys, however it is done.
    """

    def __init__(self) -> None:
        self.total = 0
        self._entered = ExitStack()

    def __enter__(self) -> Operations:
        self._searches = self._entered.enter_context(counted_searches())
        self._products = self._entered.enter_context(_Products())
        return self

    def __exit__(self, *error: object) -> None:
        self._entered.close()
        self.total += self._products.total + self._searches.operations


class _Products(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts matrix products and convolutions by PyTorch's own table of formulas.

    Its counter holds hooks on all modules, and so is for one thread. What other threads or own
    kernels do is not seen: the search for matches.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        formula = flop_registry.get(func._overloadpacket)
        if formula is None:
            with self:  # at inference PyTorch has not yet told what a function is made of
                made = func.decompose(*args, **kwargs)
            if made is not NotImplemented:
                return made
        result = func(*args, **kwargs)
        if formula is not None:
            self.total += int(formula(*args, **kwargs, out_val=result))
        return result


class Peak:
    """The most memory that has been taken since this was made, beside what was held by then.

    device: of a GPU, what PyTorch holds there; "cpu": what the process has in memory, on systems
    that forget their peak when they are told to (Linux); "": not measured.
    """

    def __init__(self, device: str) -> None:
        self._device = device
        self._before: int | None = None
        if device.startswith("cuda"):
            torch.cuda.reset_peak_memory_stats(device)
            self._before = torch.cuda.memory_allocated(device)
        elif device == "cpu":
            with suppress(OSError):
                _RESET.write_text("5", encoding="ascii")
                self._before = _status("VmRSS")

    def bytes(self) -> int | None:
        """None where it is not measured."""
        if self._before is None:
            return None
        if self._device == "cpu":
            most = _status("VmHWM")
        else:
            most = torch.cuda.max_memory_allocated(self._device)
        return None if most is None else max(0, most - self._before)


def _status(name: str) -> int | None:
    """A figure of this process in bytes, where the system tells it."""
    with suppress(OSError, ValueError, StopIteration):
        lines = _STATUS.read_text(encoding="ascii", errors="replace").splitlines()
        line = next(line for line in lines if line.startswith(f"{name}:"))
        return int(line.split()[1]) << 10
    return None
