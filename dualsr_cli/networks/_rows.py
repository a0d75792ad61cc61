"""Convolutions over a map that comes in bands of rows, so that only bands of it are held.

A step is given a map's bands from top to bottom and gives those of its result. A convolution keeps
the last rows of a band for the next one, so that nothing is computed twice, and what comes out is
what the whole map would give, in bands with other borders. Bands that a processor's caches hold
are worked on faster than whole maps. Only for inference: steps overwrite what they are given.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import nn


class Band(NamedTuple):
    """The next rows (B, C, n, W) of a map, at least one; `last` if no others follow."""

    rows: torch.Tensor
    last: bool


Step = Callable[[Band], Band | None]
"""None where it has to see more rows first; the last band always gives the rest."""


@runtime_checkable
class ByRows(Protocol):
    """A layer that is more than a convolution or a function of single pixels."""

    def by_rows(self) -> Step: ...


def by_rows(*layers: nn.Module) -> Step:
    """Layers one after the other, for one map: a step remembers where it is in it."""
    return chain(*map(_step, layers))


def _step(layer: nn.Module) -> Step:
    if isinstance(layer, nn.Conv2d):
        return _convolution(layer)
    if isinstance(layer, nn.MaxPool2d):
        return _pooling(layer)
    if isinstance(layer, nn.Sequential):
        return by_rows(*layer)
    if isinstance(layer, ByRows):
        return layer.by_rows()
    return pointwise(layer)


def chain(*steps: Step) -> Step:
    def step(band: Band) -> Band | None:
        given: Band | None = band
        for each in steps:
            if given is None:
                return None
            given = each(given)
        return given

    return step


def pointwise(work: Callable[[torch.Tensor], torch.Tensor]) -> Step:
    """A function of pixels, or of cells of rows that are never cut."""
    return lambda band: Band(work(band.rows), band.last)


def residual(body: Step) -> Step:
    """x + body(x); the body's result is overwritten."""
    held = Held()
    return chain(held.keep, body, held.add)


class Held:
    """Rows of a map that are wanted again, once for each row of the result."""

    def __init__(self) -> None:
        self._rows: deque[torch.Tensor] = deque()

    def keep(self, band: Band) -> Band:
        self._rows.append(band.rows)
        return band

    def take(self, count: int) -> Iterator[torch.Tensor]:
        """The next rows, in one or more parts."""
        while count > 0:
            rows = self._rows.popleft()
            if rows.shape[2] > count:
                # A view would keep all of the band.
                self._rows.appendleft(rows[:, :, count:].clone())
                rows = rows[:, :, :count]
            count -= rows.shape[2]
            yield rows

    def add(self, band: Band) -> Band:
        """The band, with the rows that were kept added in place."""
        done = 0
        for rows in self.take(band.rows.shape[2]):
            band.rows[:, :, done : done + rows.shape[2]].add_(rows)
            done += rows.shape[2]
        return band


def _convolution(conv: nn.Conv2d) -> Step:
    """An odd kernel, padded with zeros so that the size stays."""
    radius = conv.kernel_size[0] // 2
    above: torch.Tensor | None = None

    def step(band: Band) -> Band | None:
        nonlocal above
        rows, last = band
        if above is None and last:
            return Band(conv(rows), last)
        if above is None or last:
            rows = F.pad(rows, (0, 0, radius if above is None else 0, radius if last else 0))
        if above is not None:
            rows = torch.cat([above, rows], dim=2)
        # A view would keep all of the band; new memory each time would lie between bands for good.
        if above is None or above.shape[2] < 2 * radius:
            above = rows[:, :, -2 * radius :].clone()
        else:
            above.copy_(rows[:, :, -2 * radius :])
        if rows.shape[2] <= 2 * radius:
            return None
        return Band(F.conv2d(rows, conv.weight, conv.bias, padding=(0, radius)), last)

    # 1 x 1 sees nothing of other rows.
    return step if radius else pointwise(conv)


def _pooling(pool: nn.MaxPool2d) -> Step:
    """Of 2 x 2 pixels."""
    above: torch.Tensor | None = None

    def step(band: Band) -> Band | None:
        nonlocal above
        rows, last = band
        if above is not None:
            rows = torch.cat([above, rows], dim=2)
        whole = rows.shape[2] if last else rows.shape[2] // 2 * 2
        above = rows[:, :, whole:].clone() if whole < rows.shape[2] else None
        return Band(pool(rows[:, :, :whole]), last) if whole else None

    return step


def height_of(area: int, width: int) -> int:
    """How many rows, an even number, have about so many pixels."""
    return max(4, area // width // 2 * 2)


def cut_rows(values: torch.Tensor, height: int) -> Iterator[Band]:
    """A map (B, C, H, W) as bands of at most `height` rows."""
    for top in range(0, values.shape[2], height):
        yield Band(values[:, :, top : top + height], top + height >= values.shape[2])


def gather(
    step: Step,
    bands: Iterable[Band],
    height: int,
    layout: torch.memory_format = torch.channels_last,
) -> torch.Tensor:
    """All that a step gives for a map's bands, (B, C, height, W) in the layout."""
    whole: torch.Tensor | None = None
    done = 0
    for band in bands:
        made = step(band)
        if made is None:
            continue
        if whole is None:
            if made.last:
                return made.rows.contiguous(memory_format=layout)
            batch, channels, _, width = made.rows.shape
            whole = torch.empty(
                (batch, channels, height, width),
                dtype=made.rows.dtype,
                device=made.rows.device,
                memory_format=layout,
            )
        whole[:, :, done : done + made.rows.shape[2]] = made.rows
        done += made.rows.shape[2]
    assert whole is not None and done == height
    return whole
