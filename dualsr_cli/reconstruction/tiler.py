"""A network and its inputs -> its result, window by window, in the memory that there is.

Windows are planned from what the network says it holds; where memory runs out all the same, the
window that failed is made again in parts, and all others as small.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypeVar

import torch

from dualsr_cli.errors import UsageError
from dualsr_cli.machine import memory_kept
from dualsr_cli.networks import CELL, Inputs, Network, Outputs, Window, windows

LEAST = 32
"""LR pixels: the side of the smallest window, which would else be nothing but margin."""

MOST = 768
"""LR pixels: larger windows save little of the margins."""

_MOST_ANEW = 512
"""LR pixels, where memory is not kept between windows: pages of larger ones cost what they save."""

_THREADS = torch.get_num_threads()
"""Of an operation, as PyTorch begins. A pool whose threads take one each sets it to one for every
thread that begins to compute after that, the one that runs networks among them."""

Found = TypeVar("Found")


def plan(network: Network[Any], inputs: Inputs, memory: int, taken: int = 0) -> tuple[int, bool]:
    """The side of the windows, in LR pixels, for `memory` bytes, some of which are taken already;
    and whether there is room enough to keep freed memory between them, see `memory_kept`.

    The side is a multiple of CELL, LEAST..MOST. Raises UsageError where not even the smallest
    windows fit.
    """
    height, width = inputs.lr.shape[2:]
    seen = math.prod(inputs.ref.shape[2:]) / network.scale**2
    size = inputs.ref.element_size() * len(inputs.lr)
    needs = network.memory
    held = needs.image * height * width + needs.reference * seen
    around = 2 * network.margin

    def bytes_of(tile: int) -> float:
        window = min(height, tile + around) * min(width, tile + around)
        return float(taken + size * (held + needs.window * window))

    for tile in range(MOST, LEAST - 1, -CELL):
        kept = 2 * bytes_of(tile) <= memory  # kept memory lies in pieces
        if kept or (tile <= _MOST_ANEW and bytes_of(tile) <= memory):
            return tile, kept
    raise UsageError(
        f"{width} x {height} pixels take about {bytes_of(LEAST) / 2**30:.1f} GiB of memory with "
        f"this model, and {memory / 2**30:.1f} GiB may be used: allow more by --max-memory, or "
        "choose a smaller model"
    )


def restore_windows(
    network: Network[Any],
    inputs: Inputs,
    tile: int,
    keep: bool = False,
    *,
    around: int = 0,
    wanted: Callable[[Window], bool] = lambda window: True,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Iterator[tuple[Window, Window, Outputs]]:
    """The windows of an image that are `wanted`, at inference: all together what `forward` gives.

    Each with the window that was made for it, `around` LR pixels (a multiple of CELL) wider where
    the image is, and what the network gave for that. tile, keep: as `plan` gives them. progress:
    how many LR pixels of how many are done. Raises MemoryError where windows of LEAST pixels do
    not fit into memory.
    """
    torch.set_num_threads(_THREADS)
    with memory_kept(keep) as give_back:
        yield from _restored(network, inputs, tile, around, wanted, progress, give_back)


def _restored(
    network: Network[Any],
    inputs: Inputs,
    tile: int,
    around: int,
    wanted: Callable[[Window], bool],
    progress: Callable[[int, int], None],
    give_back: Callable[[], None],
) -> Iterator[tuple[Window, Window, Outputs]]:
    height, width = inputs.lr.shape[2:]
    with torch.inference_mode():
        encoded: Any = None
        while encoded is None:
            encoded = _tried(partial(network.encode, inputs, tile), inputs.lr.device)
            give_back()
            if encoded is None:
                tile = _halved(tile)
    waiting = [window for window in windows(height, width, tile) if wanted(window)]
    done, total = 0, sum(map(_area, waiting))
    progress(done, total)
    while waiting:
        window = waiting.pop(0)
        if max(window[2] - window[0], window[3] - window[1]) > tile:
            waiting[:0] = _parts(window, tile)
            continue
        made = (
            max(0, window[0] - around),
            max(0, window[1] - around),
            min(height, window[2] + around),
            min(width, window[3] + around),
        )
        with torch.inference_mode():
            outputs = _tried(partial(network.render, encoded, made), inputs.lr.device)
        give_back()
        if outputs is None:
            tile = _halved(tile)
            waiting.insert(0, window)
            continue
        yield window, made, outputs
        done += _area(window)
        progress(done, total)


def _tried(work: Callable[[], Found], device: torch.device) -> Found | None:
    """What `work` returns; None where memory ran out."""
    try:
        return work()
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
    # Only here nothing holds the tensors of what failed any more.
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return None


def _is_out_of_memory(error: Exception) -> bool:
    """On a processor and on MPS PyTorch has no type of its own for it."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(
        words in str(error) for words in ("DefaultCPUAllocator", "out of memory", "bad_alloc")
    )


def _halved(tile: int) -> int:
    if tile <= LEAST:
        raise MemoryError
    return max(LEAST, tile // 2 // CELL * CELL)


def _parts(window: Window, tile: int) -> list[Window]:
    top, left, bottom, right = window
    return [
        (top + part[0], left + part[1], top + part[2], left + part[3])
        for part in windows(bottom - top, right - left, tile)
    ]


def _area(window: Window) -> int:
    return (window[2] - window[0]) * (window[3] - window[1])
