"""SelfDZSR's degradation network (paper 3.2, figure 5): the truth -> a pseudo-LR upon it."""

from __future__ import annotations

import torch
from torch import nn


class MeanShift(nn.Conv2d):
    """The mean colour of DIV2K taken off (sign -1) or put back (sign 1); not trained.

    A convolution, since the published checkpoints hold it as one.
    """

    def __init__(self, sign: int = -1) -> None:
        super().__init__(3, 3, 1, groups=3)
        assert self.bias is not None
        with torch.no_grad():
            self.weight.fill_(1)
            self.bias.copy_(sign * torch.tensor([0.4488, 0.4371, 0.4040]))
        self.requires_grad_(False)


def space_to_depth(image: torch.Tensor, scale: int) -> torch.Tensor:
    """(B, C, s H, s W) -> (B, s s C, H, W): a cell's pixels in order, channels innermost."""
    batch, channels, height, width = image.shape
    cells = image.reshape(batch, channels, height // scale, scale, width // scale, scale)
    return cells.permute(0, 3, 5, 1, 2, 4).reshape(
        batch, scale * scale * channels, height // scale, width // scale
    )


class SpaceToDepth(nn.Module):
    """`space_to_depth` as a layer."""

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return space_to_depth(image, self.scale)


class DegradationNetwork(nn.Module):
    """D of eq. 4: blurs and shrinks the truth as the wide lens did, and moves nothing.

    LR gives a vector that modulates the features; three convolutions blur, and `centroid_loss`
    keeps their kernels from shifting the image. The names are the checkpoint's (KernelGen).
    """

    def __init__(self, scale: int, features: int = 64) -> None:
        super().__init__()
        pixels = 3 * scale * scale
        self.scale = scale
        self.head_mean = MeanShift()
        self.head = nn.Sequential(nn.Conv2d(pixels, features, 1), nn.ReLU(inplace=True))
        self.conv_7x7 = _chain(features, 7, 1)
        self.conv_5x5 = _chain(features, 5, 1)
        self.conv_3x3 = _chain(features, 3, 1)
        self.conv_1x1 = _chain(features, 1, 3)
        self.tail = nn.Conv2d(features, 3, 1)
        self.guide_net = nn.Sequential(
            nn.Sequential(nn.Conv2d(pixels + 3, features, 7, stride=2), nn.ReLU(inplace=True)),
            nn.Sequential(
                nn.Conv2d(features, features, 3, padding=1),
                nn.ReLU(inplace=True),
                nn.Conv2d(features, features, 3, padding=1),
                nn.ReLU(inplace=True),
                nn.Conv2d(features, features, 3, padding=1),
            ),
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(features, features, 1),
        )
        self.tail_mean = MeanShift(sign=1)

    def forward(self, hr: torch.Tensor, lr: torch.Tensor) -> torch.Tensor:
        """hr (B, 3, s H, s W), lr (B, 3, H, W), RGB, 0..1 -> pseudo-LR (B, 3, H, W), not clamped.

        The sides of lr have 7 pixels at least. Noise (n of eq. 4) is the caller's to add.
        """
        pixels = space_to_depth(self.head_mean(hr), self.scale)
        guide = self.guide_net(torch.cat([pixels, self.head_mean(lr)], dim=1))  # (B, C, 1, 1)
        head = self.head(pixels)
        blurred = self.conv_3x3(self.conv_5x5(self.conv_7x7(head * guide + head)))
        pseudo: torch.Tensor = self.tail_mean(self.tail(self.conv_1x1(blurred) + head))
        return pseudo

    def centroid_loss(self) -> torch.Tensor:
        """How far the blurring kernels' centroids lie from their centres, summed over the layers.

        As published; eq. 9 takes one sum over a whole kernel, this one over each of its rows and
        columns. The recipe weighs it by 100.
        """
        total = self.tail.weight.new_zeros(())
        for layer in (self.conv_7x7, self.conv_5x5, self.conv_3x3):
            weight = layer[0].weight  # (C, C, k, k)
            assert isinstance(weight, torch.Tensor)
            size = weight.shape[2]
            place = torch.arange(size, device=weight.device, dtype=weight.dtype) - size // 2
            down = (weight * place[:, None]).mean(dim=2).abs()
            right = (weight * place).mean(dim=3).abs()
            total = total + (down + right).mean()
        return total


def _chain(features: int, kernel: int, count: int) -> nn.Sequential:
    """`count` convolutions, each with a ReLU."""
    chain = nn.Sequential()
    for _ in range(count):
        chain.append(nn.Conv2d(features, features, kernel, padding=kernel // 2))
        chain.append(nn.ReLU(inplace=True))
    return chain
