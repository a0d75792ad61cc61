"""EDSR (Lim et al., 2017), by which AWnet's frames are upscaled where no interpolation does it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from dualsr_cli.networks._windows import assembled, cut, grown, scaled, within
from dualsr_cli.networks.blocks import conv3x3
from dualsr_cli.networks.contract import Window

_BLOCKS = 16  # of its baseline


class EDSR(nn.Module):
    """(B, 3, H, W) -> (B, 3, s H, s W), s a power of 2."""

    def __init__(self, scale: int, features: int) -> None:
        super().__init__()
        self.scale = scale
        doublings = scale.bit_length() - 1
        self.head = conv3x3(3, features)
        self.body = nn.Sequential(
            *(_Block(features) for _ in range(_BLOCKS)), conv3x3(features, features)
        )
        self.up = nn.Sequential(
            *(
                nn.Sequential(conv3x3(features, 4 * features), nn.PixelShuffle(2))
                for _ in range(doublings)
            )
        )
        self.tail = conv3x3(features, 3)
        self._radius = 2 * _BLOCKS + 2 + 2  # upsampling and tail see less than 2 pixels of LR

    def forward(self, lr: torch.Tensor, tile: int | None = None) -> torch.Tensor:
        """tile: the side, a multiple of CELL, of the squares of LR that are worked on at once."""
        size = lr.shape[2:]

        def made(window: Window) -> Sequence[torch.Tensor]:
            seen = grown(window, self._radius, size)
            features = self.head(cut(lr, seen))
            large = self.tail(self.up(self.body(features) + features))
            return [cut(large, scaled(within(window, seen), self.scale))]

        return assembled(size, tile, made)[0]


class _Block(nn.Module):
    def __init__(self, features: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            conv3x3(features, features), nn.ReLU(inplace=True), conv3x3(features, features)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        added: torch.Tensor = self.body(x)
        return x + added
