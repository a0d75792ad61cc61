"""Windows of maps: grown, scaled, cut out, and whole maps made of them one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from dualsr_cli.networks.contract import Window, windows


def cut(maps: torch.Tensor, window: Window) -> torch.Tensor:
    """What lies there of maps (..., H, W)."""
    top, left, bottom, right = window
    return maps[..., top:bottom, left:right]


def grown(window: Window, by: int, size: Sequence[int]) -> Window:
    """With `by` more places on each side, as far as a map of `size` goes."""
    top, left, bottom, right = window
    return (
        max(0, top - by),
        max(0, left - by),
        min(size[0], bottom + by),
        min(size[1], right + by),
    )


def scaled(window: Window, factor: int) -> Window:
    """The same on a map that is `factor` times as large."""
    top, left, bottom, right = window
    return factor * top, factor * left, factor * bottom, factor * right


def reduced(window: Window, factor: int) -> Window:
    """The places of a map 1 / factor as large that hold the window."""
    top, left, bottom, right = window
    return top // factor, left // factor, -(-bottom // factor), -(-right // factor)


def moved(window: Window, down: int, right: int) -> Window:
    """That many places further down and right."""
    top, first, bottom, last = window
    return top + down, first + right, bottom + down, last + right


def within(window: Window, around: Window) -> Window:
    """The same places, counted from the corner of `around`."""
    return moved(window, -around[0], -around[1])


def holds(around: Window, window: Window) -> bool:
    """Whether all of the window lies in `around`."""
    return overlap(around, window) == window


def overlap(one: Sequence[int], other: Sequence[int]) -> Window | None:
    """What two windows share, if anything."""
    top, left = max(one[0], other[0]), max(one[1], other[1])
    bottom, right = min(one[2], other[2]), min(one[3], other[3])
    return (top, left, bottom, right) if top < bottom and left < right else None


def assembled(
    size: Sequence[int], tile: int | None, make: Callable[[Window], Sequence[torch.Tensor]]
) -> list[torch.Tensor]:
    """Maps (B, C, f * H, f * W), of which `make` gives the windows of at most `tile` places.

    size: (H, W) of what the windows are counted on; each map has an f of its own, which may be a
    fraction. Only the maps, laid out in memory like their windows, and what one window takes are
    held.
    """
    wholes: list[torch.Tensor] = []
    for window in windows(size[0], size[1], tile):
        parts = make(window)
        if window == (0, 0, *size):
            return list(parts)
        wholes = wholes or [_room_for(part, window, size) for part in parts]
        for whole, part in zip(wholes, parts, strict=True):
            rows, columns = (
                slice(first * own // side, last * own // side)
                for first, last, own, side in zip(
                    window[:2], window[2:], whole.shape[2:], size, strict=True
                )
            )
            whole[:, :, rows, columns] = part
    return wholes


def _room_for(part: torch.Tensor, window: Window, size: Sequence[int]) -> torch.Tensor:
    """A map of which `part` is the first window."""
    sides = [
        own * side // end for own, side, end in zip(part.shape[2:], size, window[2:], strict=True)
    ]
    last = part.is_contiguous(memory_format=torch.channels_last)
    return torch.empty(
        (*part.shape[:2], *sides),
        dtype=part.dtype,
        device=part.device,
        memory_format=torch.channels_last if last else torch.contiguous_format,
    )
