"""SpyNet (Ranjan and Black, Optical flow estimation using a spatial pyramid network, 2017)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from dualsr_cli.networks._rows import by_rows, cut_rows, gather, height_of
from dualsr_cli.networks.blocks import warp
from dualsr_cli.networks.vgg import MEAN, STD

LEVELS = 6


class SpyNet(nn.Module):
    """The flow from one image to another, refined over a pyramid of six levels.

    widths: the channels of each level's four inner convolutions.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, widths: Sequence[int] = (32, 64, 32, 16)) -> None:
        super().__init__()
        self.basic_module = nn.ModuleList(_Level(widths) for _ in range(LEVELS))
        self.register_buffer("mean", torch.tensor(MEAN)[None, :, None, None])
        self.register_buffer("std", torch.tensor(STD)[None, :, None, None])

    def forward(
        self,
        image: torch.Tensor,
        other: torch.Tensor,
        area: int | None = None,
        levels: int = LEVELS,
    ) -> torch.Tensor:
        """Where each pixel of `image` lies in `other`: warp(other, flow) looks like `image`.

        Both (B, 3, H, W), 0..1, of any size. area: how many pixels are worked on at once, at
        inference; all of them without it. levels: how many of the network's first levels find the
        flow, the last of them at the images' own size; fewer than all in training. Returns
        (B, 2, H, W), x and y in pixels. Raises ValueError for images of different shapes.
        """
        if image.shape != other.shape:
            raise ValueError(f"{tuple(image.shape)} and {tuple(other.shape)} are not of one shape")
        height, width = image.shape[2:]
        multiple = 2 ** (levels - 1)  # of both sides, so that each level halves them
        size = [-(-side // multiple) * multiple for side in (height, width)]
        first, second = (self._prepare(each, size, levels) for each in (image, other))
        flow = self._refine(first, second, area)
        flow = F.interpolate(flow, (height, width), mode="bilinear", align_corners=False)
        return flow * flow.new_tensor([width / size[1], height / size[0]])[:, None, None]

    def _prepare(self, image: torch.Tensor, size: list[int], levels: int) -> list[torch.Tensor]:
        """The image's pyramid, smallest first, normalised."""
        resized = F.interpolate(image, size, mode="bilinear", align_corners=False)
        pyramid = [(resized - self.mean) / self.std]
        while len(pyramid) < levels:
            pyramid.insert(0, F.avg_pool2d(pyramid[0], 2))
        return pyramid

    def _refine(
        self, image: list[torch.Tensor], other: list[torch.Tensor], area: int | None
    ) -> torch.Tensor:
        flow = image[0].new_zeros(len(image[0]), 2, *image[0].shape[2:])
        for number, level in enumerate(self.basic_module[: len(image)]):
            if number > 0:
                flow = 2 * F.interpolate(flow, scale_factor=2, mode="bilinear", align_corners=True)
            warped = warp(other[number], flow, padding="border")
            flow = flow + level(torch.cat([image[number], warped, flow], dim=1), area)
        return flow


class _Level(nn.Module):
    """What one level adds to the flow, from the image, the warped other and the flow so far."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.basic_module = nn.Sequential()
        channels = 8
        for width in widths:
            self.basic_module.extend([nn.Conv2d(channels, width, 7, padding=3), nn.ReLU(True)])
            channels = width
        self.basic_module.append(nn.Conv2d(channels, 2, 7, padding=3))

    def forward(self, x: torch.Tensor, area: int | None = None) -> torch.Tensor:
        if area is None:
            flow: torch.Tensor = self.basic_module(x)
            return flow
        bands = cut_rows(x, height_of(area, x.shape[3]))
        return gather(by_rows(self.basic_module), bands, x.shape[2])
