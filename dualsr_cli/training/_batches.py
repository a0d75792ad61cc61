"""Samples -> batches: joined, cut, and dealt to the processes by their numbers."""

from __future__ import annotations

import dataclasses
import signal
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from dualsr_cli.errors import DualsrError
from dualsr_cli.networks import Inputs


class Source(Protocol):
    """Where samples come from.

    `sample` gives number `index` of an epoch's len(source) as a batch of 1, the same whenever and
    wherever it is asked for; what is drawn by chance in it differs from epoch to epoch.
    """

    def __len__(self) -> int: ...

    def sample(self, index: int, epoch_seed: int) -> Inputs: ...


def joined(samples: Sequence[Inputs]) -> Inputs:
    """Batches of 1 -> one batch. Raises ValueError where shapes differ."""
    return _made(samples[0], lambda values: torch.cat(values), samples)


def part(batch: Inputs, count: int) -> Inputs:
    """The first samples of a batch."""
    return _made(batch, lambda values: values[0][:count], [batch])


def _made(
    like: Inputs, make: Callable[[list[torch.Tensor]], torch.Tensor], given: Sequence[Inputs]
) -> Inputs:
    """An object of the same class, each tensor of it made of those of the given ones."""
    fields: dict[str, Any] = {}
    for field in dataclasses.fields(like):
        values = [getattr(each, field.name) for each in given]
        if isinstance(values[0], torch.Tensor):
            fields[field.name] = make(values)
        elif isinstance(values[0], tuple):
            fields[field.name] = tuple(make(list(images)) for images in zip(*values, strict=True))
        else:
            fields[field.name] = None
    return type(like)(**fields)


class _Samples(Dataset[Any]):
    """A source's samples, epoch after epoch, each of them in an order of its own.

    Errors travel between processes as their sentence.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self.epoch, self.order = -1, np.arange(0)

    def __getitem__(self, number: int) -> Inputs | str:
        epoch, place = divmod(number, len(self.source))
        if epoch != self.epoch:
            order = np.random.default_rng(epoch).permutation(len(self.source))
            self.epoch, self.order = epoch, order
        try:
            return self.source.sample(int(self.order[place]), epoch)
        except DualsrError as error:
            return str(error)
        except ValueError as error:
            return f"there is data that no sample can be made of ({error}): correct the recipe"


def _collate(samples: list[Inputs | str]) -> Inputs | str:
    whole = [sample for sample in samples if isinstance(sample, Inputs)]
    failed = [sample for sample in samples if isinstance(sample, str)]
    return failed[0] if failed else joined(whole)


def _heedless(worker: int) -> None:
    """A terminal's Ctrl-C, or the end of a batch job, reaches all: the training process decides."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def batches(source: Source, numbers: Iterator[list[int]], workers: int) -> Iterator[Inputs]:
    """The batches of those samples. workers: processes that make them ahead. Raises DualsrError."""
    # With a generator of its own the loader draws nothing from everybody's.
    loader = DataLoader(
        _Samples(source),
        batch_sampler=numbers,
        num_workers=workers,
        collate_fn=_collate,
        generator=torch.Generator(),
        worker_init_fn=_heedless,
    )
    for batch in loader:
        if isinstance(batch, str):
            raise DualsrError(batch)
        yield batch
