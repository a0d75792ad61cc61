"""What is made of a whole image window by window, so that the working memory is one window's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import cast

import torch
import torch.nn.functional as F

from dualsr_cli.networks.blocks import AttentionBlock, lrelu
from dualsr_cli.networks.contract import Window, windows
from dualsr_cli.networks.kedusr import LREncoder

Index = tuple[slice, ...]


def around(window: Window, margin: int, image: torch.Tensor, multiple: int = 1) -> Window:
    """The window with its margin inside of an image (B, C, H, W), at multiples of `multiple`."""
    top, left = (max(0, side - margin) // multiple * multiple for side in window[:2])
    bottom, right = (-(-(side + margin) // multiple) * multiple for side in window[2:])
    return top, left, min(image.shape[2], bottom), min(image.shape[3], right)


def part(window: Window, scale: int = 1) -> Index:
    """What to index a map (B, C, scale * H, scale * W) with to have a window of it."""
    top, left, bottom, right = (scale * side for side in window)
    return slice(None), slice(None), slice(top, bottom), slice(left, right)


def inside(window: Window, near: Window, scale: int = 1) -> Index:
    """The same for a map of `near` alone, in which the window lies."""
    top, left = near[:2]
    return part((window[0] - top, window[1] - left, window[2] - top, window[3] - left), scale)


def channels_last(values: torch.Tensor) -> torch.Tensor:
    """The same values, laid out for quick convolutions."""
    return values.contiguous(memory_format=torch.channels_last)


def enlarged(lr: torch.Tensor) -> torch.Tensor:
    """The bicubic enlargement (B, C, 2 * H, 2 * W), for which a margin of 2 pixels is enough."""
    return F.interpolate(lr, scale_factor=2, mode="bicubic")


class Pooled:
    """Mean and maximum of each channel over an image, from its windows."""

    def __init__(self) -> None:
        self._seen: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._places = 0

    def add(self, values: torch.Tensor) -> None:
        """A window's (B, C, h, w)."""
        work = torch.promote_types(values.dtype, torch.float32)  # sums of many thousands
        total = values.sum(dim=(2, 3), keepdim=True, dtype=work)
        self._seen.append((total, values.amax(dim=(2, 3), keepdim=True)))
        self._places += values.shape[2] * values.shape[3]

    def found(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Both (B, C, 1, 1), of the values' type."""
        totals, highest = (torch.stack(seen) for seen in zip(*self._seen, strict=True))
        return (totals.sum(dim=0) / self._places).to(highest.dtype), highest.amax(dim=0)


def by_windows(
    make: Callable[[Window], Sequence[torch.Tensor]],
    image: torch.Tensor,
    tile: int | None,
    margin: int,
) -> list[torch.Tensor]:
    """The maps of an image (B, C, H, W), in any resolutions, that `make` gives for windows of it.

    tile: the side of the windows; without it the image is one, and gradients flow. margin: pixels
    by which `make` is asked for more than a window, whose maps depend on them. It and the image's
    sides are multiples of the most pixels that a place of a map stands for.
    """
    height, width = image.shape[2:]
    if tile is None:
        return list(make((0, 0, height, width)))
    whole: list[torch.Tensor] = []
    for window in windows(height, width, tile):
        near = around(window, margin, image)
        maps, tall = make(near), near[2] - near[0]
        if not whole:
            whole = [
                _blank(values, *(side * values.shape[2] // tall for side in (height, width)))
                for values in maps
            ]
        for target, values in zip(whole, maps, strict=True):
            where, seen = (_scaled(place, values.shape[2], tall) for place in (window, near))
            target[part(where)] = values[inside(where, seen)]
    return whole


def encode_by_windows(encoder: LREncoder, image: torch.Tensor, tile: int | None) -> torch.Tensor:
    """What an encoder with channel attention makes of an image: (B, 3, H, W) -> (B, F, H, W).

    An attention block needs means over the whole image of what its own first half makes. So each
    half goes over all windows, the second half in place, and three maps are held at most.
    """
    if tile is None:
        features: torch.Tensor = encoder(image)
        return features
    places = windows(image.shape[2], image.shape[3], tile)

    def convolved() -> Iterator[tuple[Index, Index, Index]]:
        """Windows, the same with the pixel around that a convolution sees, and inside of it."""
        for window in places:
            near = around(window, 1, image)
            yield part(window), part(near), inside(window, near)

    (entered,) = by_windows(lambda near: [encoder.head(image[part(near)])], image, tile, 1)
    x, half = torch.empty_like(entered), torch.empty_like(entered)
    for group in (encoder.body1, encoder.body2, encoder.body3):
        x.copy_(entered)
        for block in cast(Sequence[AttentionBlock], group.RBs):
            pooled = Pooled()
            for window, near, within in convolved():
                half[window] = lrelu(block.conv1(x[near]))[within]
                pooled.add(half[window])
            means, _ = pooled.found()
            for window, near, within in convolved():
                gated = block.channel_attention(half[near], means)
                x[window].add_(lrelu(block.conv2(gated))[within])
        for window, near, within in convolved():
            entered[window].add_(group.conv_tail(x[near])[within])
    for window, near, within in convolved():
        half[window] = (encoder.head(image[near]) + encoder.tail(entered[near]))[within]
    return half


def _blank(like: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Memory for a map of another size."""
    return torch.empty(
        (*like.shape[:2], height, width),
        dtype=like.dtype,
        device=like.device,
        memory_format=torch.channels_last,
    )


def _scaled(window: Window, times: int, over: int) -> Window:
    top, left, bottom, right = (side * times // over for side in window)
    return top, left, bottom, right
