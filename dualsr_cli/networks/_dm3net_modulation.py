"""DM3Net's domain modulation: the embedding of a domain, and the reconstruction under it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from dualsr_cli.networks._pooled import Pooled
from dualsr_cli.networks._windows import cut, grown, reduced, scaled, within
from dualsr_cli.networks.blocks import (
    SLOPE,
    PixelShuffle,
    ResidualBlock,
    ResidualGroup,
    conv3x3,
    lrelu,
    pad_to,
)
from dualsr_cli.networks.contract import windows

GROUPS = 3
"""Of blocks, as in KeDuSR's LR branch."""

_UNSHUFFLE = 4  # the prior extractors look at cells of 4 x 4 pixels
_EPSILON = 1e-5  # added to variances


@dataclass(frozen=True, eq=False)
class Statistics:
    """Mean and variance of each channel over an image, both (B, C, 1, 1), float32."""

    mean: torch.Tensor
    variance: torch.Tensor

    @classmethod
    def of(cls, parts: Iterable[torch.Tensor]) -> Statistics:
        """Those of an image that comes in parts (B, C, h, w), each pixel once."""
        count = 0
        mean, squares = torch.zeros(1), torch.zeros(1)  # sum of squared distances from the mean
        for piece in parts:
            more = piece.shape[2] * piece.shape[3]
            # Some channels at a time, as half-precision ones are copied.
            moments = [
                torch.var_mean(some.float(), dim=(2, 3), correction=0, keepdim=True)
                for some in torch.split(piece, 16, dim=1)
            ]
            variance, other = (torch.cat(found, dim=1) for found in zip(*moments, strict=True))
            if not count:
                count, mean, squares = more, other, more * variance
                continue
            apart = other - mean
            squares = squares + more * variance + apart.square() * (count * more / (count + more))
            mean = mean + apart * (more / (count + more))
            count += more
        if not count:
            raise ValueError("an image without parts has no statistics")
        return cls(mean, squares / count)


class PriorExtractor(nn.Module):
    """Global Prior Extractor (3.4): what a degraded image and its sharp one differ in, as numbers.

    The degraded one is enlarged, both are cut into cells of 4 x 4 pixels, and what convolutions
    find in them is averaged over the image. width: of the embedding.
    """

    def __init__(self, features: int, blocks: int) -> None:
        super().__init__()
        self.width = 4 * features
        self.margin = 2 * (1 + 2 * blocks + 3 + 1)  # cells that its convolutions see, of 2 pixels
        self.enlarge = PixelShuffle(3, 3)
        self.body = nn.Sequential(
            conv3x3(2 * 3 * _UNSHUFFLE**2, features),
            nn.LeakyReLU(SLOPE, inplace=True),
            *(ResidualBlock(features) for _ in range(blocks)),
            conv3x3(features, 2 * features),
            nn.LeakyReLU(SLOPE, inplace=True),
            conv3x3(2 * features, 2 * features),
            nn.LeakyReLU(SLOPE, inplace=True),
            conv3x3(2 * features, self.width),
            nn.LeakyReLU(SLOPE, inplace=True),
        )
        self.mlp = nn.Sequential(
            nn.Linear(self.width, self.width),
            nn.LeakyReLU(SLOPE, inplace=True),
            nn.Linear(self.width, self.width),
            nn.LeakyReLU(SLOPE, inplace=True),
        )

    def forward(
        self, degraded: torch.Tensor, sharp: torch.Tensor, tile: int | None = None
    ) -> torch.Tensor:
        """(B, 3, H, W) and (B, 3, 2 * H, 2 * W), both 0..1 -> (B, width).

        tile: the side, a multiple of 8, of the windows of the degraded one that are worked on.
        """
        pooled = Pooled()
        for window in windows(degraded.shape[2], degraded.shape[3], tile):
            near = grown(window, self.margin, degraded.shape[2:])
            pair = [self.enlarge(cut(degraded, near)), cut(sharp, scaled(near, 2))]
            cells = torch.cat([pad_to(image, _UNSHUFFLE) for image in pair], dim=1)
            # (B, 6, 2 * H, 2 * W) -> (B, 96, H / 2, W / 2) -> (B, width, H / 2, W / 2)
            found = self.body(F.pixel_unshuffle(cells, _UNSHUFFLE))
            pooled.add(cut(found, reduced(within(window, near), 2)))
        embedding: torch.Tensor = self.mlp(pooled.found()[0].flatten(1))
        return embedding


class DMIR(nn.Module):
    """Domain Modulated Integrated Reconstruction (3.5), three groups of modulated blocks."""

    def __init__(self, features: int, blocks: int, width: int) -> None:
        super().__init__()
        self.adain = Affine(width, 2 * features)
        self.merge = conv3x3(2 * features, features)
        self.groups = nn.ModuleList(ModulatedGroup(blocks, features, width) for _ in range(GROUPS))
        self.tail = _tail(features)

    def forward(
        self, features: torch.Tensor, embedding: torch.Tensor, statistics: Statistics
    ) -> torch.Tensor:
        """(B, 2 * F, H, W), reference's and LR's, (B, width) -> (B, 3, H, W).

        statistics: of the features over the image that they are all or a part of.
        """
        gamma, beta = self.adain(embedding)
        # AdaIN: gamma (x - mean) / deviation + beta, as one product and one sum.
        scale = gamma * torch.rsqrt(statistics.variance + _EPSILON)
        values = lrelu(self.merge(modulated(features, scale, beta - scale * statistics.mean)))
        for group in self.groups:
            values = group(values, embedding)
        sr: torch.Tensor = self.tail(values.add_(features[:, features.shape[1] // 2 :]))
        return sr


class PlainReconstruction(nn.Module):
    """What is left of DMIR where no embedding modulates it: the baseline of section 4.4."""

    def __init__(self, features: int, blocks: int) -> None:
        super().__init__()
        self.merge = conv3x3(2 * features, features)
        self.groups = nn.Sequential(*(ResidualGroup(blocks, features) for _ in range(GROUPS)))
        self.tail = _tail(features)

    def forward(self, features: torch.Tensor, embedding: None, statistics: None) -> torch.Tensor:
        """As DMIR's: (B, 2 * F, H, W), reference's and LR's -> (B, 3, H, W)."""
        values: torch.Tensor = self.groups(lrelu(self.merge(features)))
        sr: torch.Tensor = self.tail(values.add_(features[:, features.shape[1] // 2 :]))
        return sr


class ModulatedGroup(nn.Module):
    """Some modulated blocks and a convolution, around which a skip leads; (B, F, H, W)."""

    def __init__(self, blocks: int, features: int, width: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(ModulatedBlock(features, width) for _ in range(blocks))
        self.conv = conv3x3(features, features)

    def forward(self, x: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
        values = x
        for block in self.blocks:
            values = block(values, embedding)
        added: torch.Tensor = self.conv(values)
        return added.add_(x)


class ModulatedBlock(nn.Module):
    """x + conv(lrelu(gamma * conv(x) + beta)), (B, F, H, W)."""

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        self.conv1 = conv3x3(features, features)
        self.conv2 = conv3x3(features, features)
        self.affine = Affine(width, features)

    def forward(self, x: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
        values = lrelu(modulated(self.conv1(x), *self.affine(embedding)))
        added: torch.Tensor = self.conv2(values)
        return added.add_(x)


def _tail(features: int) -> nn.Sequential:
    return nn.Sequential(
        conv3x3(features, features // 2),
        nn.LeakyReLU(SLOPE, inplace=True),
        conv3x3(features // 2, 3),
    )


class Affine(nn.Module):
    """The MLP that makes gamma and beta of an embedding: (B, width) -> twice (B, F, 1, 1)."""

    def __init__(self, width: int, features: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(width, width)
        self.output = nn.Linear(width, 2 * features)

    def forward(self, embedding: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Both in float32; gamma is around 1 when training starts."""
        # A few numbers, of which each counts for a whole channel: no place for half precision.
        with torch.autocast(embedding.device.type, enabled=False):
            embedding = embedding.to(self.hidden.weight.dtype)
            values = self.output(lrelu(self.hidden(embedding))).float()
        gamma, beta = values[:, :, None, None].chunk(2, dim=1)
        return 1 + gamma, beta


def modulated(values: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    """values (B, C, H, W) * scale + shift, both (B, C, 1, 1), in the type of the values."""
    return torch.addcmul(shift.to(values.dtype), values, scale.to(values.dtype))
