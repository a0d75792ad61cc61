"""Parts of one tensor's work, side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Protocol, TypeVar

import torch

_Part = TypeVar("_Part")
_Result = TypeVar("_Result")


class Each(Protocol):
    """Like `map`."""

    def __call__(
        self, work: Callable[[_Part], _Result], parts: Iterable[_Part], /
    ) -> Iterator[_Result]: ...


@contextmanager
def plain(device: torch.device) -> Iterator[None]:
    """Work without gradients, autocast and inference mode: other threads know of none of them."""
    with (
        torch.inference_mode(False),
        torch.no_grad(),
        torch.autocast(device.type, enabled=False),
    ):
        yield


@contextmanager
def workers(device: torch.device) -> Iterator[Each]:
    """A `map` over parts: in as many threads as PyTorch may use, with one each; elsewhere plain.

    A part that stays in the cache of a core is not shared out among several.
    """
    if device.type != "cpu":
        yield map
        return
    with ThreadPoolExecutor(
        torch.get_num_threads(), initializer=partial(torch.set_num_threads, 1)
    ) as pool:
        yield pool.map
