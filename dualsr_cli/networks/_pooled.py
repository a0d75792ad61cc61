"""What DM3Net and SDDuSR share: encoders whose attention pools over images, window by window."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

import torch

from dualsr_cli.networks._windows import assembled, cut, grown, within
from dualsr_cli.networks.blocks import AttentionBlock, lrelu
from dualsr_cli.networks.contract import Window, windows
from dualsr_cli.networks.kedusr import LREncoder


def channels_last(values: torch.Tensor) -> torch.Tensor:
    """The same values, laid out for quick convolutions."""
    return values.contiguous(memory_format=torch.channels_last)


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


def encode_by_windows(encoder: LREncoder, image: torch.Tensor, tile: int | None) -> torch.Tensor:
    """What an encoder with channel attention makes of an image: (B, 3, H, W) -> (B, F, H, W).

    An attention block needs means over the whole image of what its own first half makes. So each
    half goes over all windows, the second half in place, and three maps are held at most. tile: the
    side of the windows; without it the image is one, and gradients flow.
    """
    if tile is None:
        features: torch.Tensor = encoder(image)
        return features
    size = image.shape[2:]

    def convolved() -> Iterator[tuple[Window, Window, Window]]:
        """Windows, the same with the pixel around that a convolution sees, and inside of it."""
        for window in windows(size[0], size[1], tile):
            near = grown(window, 1, size)
            yield window, near, within(window, near)

    def head(window: Window) -> list[torch.Tensor]:
        near = grown(window, 1, size)
        return [channels_last(cut(encoder.head(cut(image, near)), within(window, near)))]

    (entered,) = assembled(size, tile, head)
    x, half = torch.empty_like(entered), torch.empty_like(entered)
    for group in (encoder.body1, encoder.body2, encoder.body3):
        x.copy_(entered)
        for block in cast(Sequence[AttentionBlock], group.RBs):
            pooled = Pooled()
            for window, near, inside in convolved():
                seen = cut(lrelu(block.conv1(cut(x, near))), inside)
                cut(half, window).copy_(seen)
                pooled.add(seen)
            means, _ = pooled.found()
            for window, near, inside in convolved():
                gated = block.channel_attention(cut(half, near), means)
                cut(x, window).add_(cut(lrelu(block.conv2(gated)), inside))
        for window, near, inside in convolved():
            cut(entered, window).add_(cut(group.conv_tail(cut(x, near)), inside))
    for window, near, inside in convolved():
        ended = encoder.head(cut(image, near)) + encoder.tail(cut(entered, near))
        cut(half, window).copy_(cut(ended, inside))
    return half
