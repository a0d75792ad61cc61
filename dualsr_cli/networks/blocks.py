"""The pieces that several networks share; names are those of KeDuSR's and DCSR's checkpoints."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from dualsr_cli.networks._rows import Band, Held, Step, by_rows, chain, pointwise, residual

SLOPE = 0.2
"""Of the leaky rectifiers, for negative values."""


def lrelu(values: torch.Tensor) -> torch.Tensor:
    """A leaky rectifier that overwrites what it is given: the output of a convolution."""
    return F.leaky_relu(values, SLOPE, inplace=True)


def conv3x3(channels: int, features: int) -> nn.Conv2d:
    return nn.Conv2d(channels, features, 3, padding=1)


class ResidualBlock(nn.Module):
    """x + conv(lrelu(conv(x))), (B, features, H, W)."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.conv1 = conv3x3(features, features)
        self.conv2 = conv3x3(features, features)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        added: torch.Tensor = self.conv2(lrelu(self.conv1(x)))
        return added.add_(x)

    def by_rows(self) -> Step:
        return residual(chain(by_rows(self.conv1), pointwise(lrelu), by_rows(self.conv2)))


class ResidualGroup(nn.Module):
    """Some residual blocks and a convolution, around which a skip leads; (B, features, H, W)."""

    def __init__(self, blocks: int, features: int) -> None:
        super().__init__()
        self.RBs = nn.Sequential(*(ResidualBlock(features) for _ in range(blocks)))
        self.conv_tail = conv3x3(features, features)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        added: torch.Tensor = self.conv_tail(self.RBs(x))
        return added.add_(x)

    def by_rows(self) -> Step:
        return residual(by_rows(self.RBs, self.conv_tail))


class ChannelAttention(nn.Module):
    """A gate for each channel, from the channels' means over the image."""

    def __init__(self, features: int, reduction: int = 16) -> None:
        super().__init__()
        narrow = max(4, features // reduction)  # of one rectifier nothing may be left
        self.conv_du = nn.Sequential(
            nn.Conv2d(features, narrow, 1), nn.ReLU(), nn.Conv2d(narrow, features, 1), nn.Sigmoid()
        )

    def forward(self, x: torch.Tensor, pooled: torch.Tensor | None = None) -> torch.Tensor:
        """x: (B, C, H, W). pooled: (B, C, 1, 1), the means of the image where x is a tile of it."""
        means = x.mean(dim=(2, 3), keepdim=True) if pooled is None else pooled
        gates: torch.Tensor = self.conv_du(means)
        return x * gates


class SpatialGate(nn.Module):
    """A gate for each pixel, from the maximum and the mean of its channels.

    KeDuSR rectifies before the sigmoid, so that no gate is below 0.5.
    """

    def __init__(self) -> None:
        super().__init__()
        self.spatial = nn.Conv2d(2, 1, 7, padding=3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gates: torch.Tensor = self.spatial(self._pooled(x)).relu().sigmoid()
        return x * gates

    def by_rows(self) -> Step:
        held = Held()

        def opened(band: Band) -> Band:
            gates = band.rows.relu_().sigmoid_()
            values = torch.cat([*held.take(gates.shape[2])], dim=2)
            return Band(values.mul_(gates), band.last)

        return chain(held.keep, pointwise(self._pooled), by_rows(self.spatial), opened)

    @staticmethod
    def _pooled(x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x.amax(dim=1, keepdim=True), x.mean(dim=1, keepdim=True)], dim=1)


class AttentionBlock(nn.Module):
    """x + lrelu(conv(attention(gate(lrelu(conv(x)))))), (B, features, H, W).

    gate: whether there is a spatial gate. attend: whether the channel attention is used; its
    parameters are there in any case, as in KeDuSR's checkpoints.
    """

    def __init__(self, features: int, *, attend: bool, gate: bool = False) -> None:
        super().__init__()
        self.attend = attend
        self.conv1 = conv3x3(features, features)
        self.conv2 = conv3x3(features, features)
        self.channel_attention = ChannelAttention(features)
        self.spatial_attention = SpatialGate() if gate else None

    def forward(self, x: torch.Tensor, pooled: torch.Tensor | None = None) -> torch.Tensor:
        """pooled: the means (B, features, 1, 1) of the image where x is a tile of it."""
        values = self._gated(x)
        if self.attend:
            values = self.channel_attention(values, pooled)
        return x + lrelu(self.conv2(values))

    def by_rows(self, pooled: torch.Tensor | None = None) -> Step:
        """pooled: the means of the map that the channel attention looks at, where it is used."""
        steps = [self.gated_by_rows()]
        if self.attend:
            if pooled is None:
                raise ValueError("channel attention by rows needs the means of all of them")
            steps.append(pointwise(lambda values: self.channel_attention(values, pooled)))
        return residual(chain(*steps, by_rows(self.conv2), pointwise(lrelu)))

    def gated_by_rows(self) -> Step:
        """What the channel attention takes, and the means of."""
        gate = [] if self.spatial_attention is None else [self.spatial_attention]
        return chain(by_rows(self.conv1), pointwise(lrelu), by_rows(*gate))

    def _gated(self, x: torch.Tensor) -> torch.Tensor:
        values = lrelu(self.conv1(x))
        return values if self.spatial_attention is None else self.spatial_attention(values)


class AttentionGroup(nn.Module):
    """Some attention blocks and a convolution, around which a skip leads; (B, features, H, W)."""

    def __init__(self, blocks: int, features: int, *, attend: bool) -> None:
        super().__init__()
        self.RBs = nn.Sequential(*(AttentionBlock(features, attend=attend) for _ in range(blocks)))
        self.conv_tail = conv3x3(features, features)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        added: torch.Tensor = self.conv_tail(self.RBs(x))
        return added.add_(x)

    def by_rows(self) -> Step:
        """Where channel attention is off."""
        return residual(by_rows(self.RBs, self.conv_tail))


class PixelShuffle(nn.Module):
    """(B, channels, H, W) -> (B, features, factor * H, factor * W)."""

    def __init__(self, channels: int, features: int, factor: int = 2) -> None:
        super().__init__()
        self.factor = factor
        self.upsample_conv = conv3x3(channels, features * factor**2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.pixel_shuffle(self.upsample_conv(x), self.factor)

    def by_rows(self) -> Step:
        shuffle = pointwise(lambda values: F.pixel_shuffle(values, self.factor))
        return chain(by_rows(self.upsample_conv), shuffle)


def warp(
    values: torch.Tensor, flow: torch.Tensor, padding: str = "zeros", top: int = 0
) -> torch.Tensor:
    """What lies where the flow points to, bilinearly.

    values: (B, C, H, W); flow: (B, 2, n, W), x and y in pixels, of the rows from `top` on. padding:
    what lies outside, "zeros" or "border". Returns (B, C, n, W).
    """
    height, width = values.shape[2:]
    # Half precision knows no more than some hundred places along a side.
    work = torch.promote_types(values.dtype, torch.float32)
    columns = torch.arange(width, device=flow.device, dtype=work)
    rows = torch.arange(top, top + flow.shape[2], device=flow.device, dtype=work)
    x = (flow[:, 0] + columns) * (2 / max(width - 1, 1)) - 1
    y = (flow[:, 1] + rows[:, None]) * (2 / max(height - 1, 1)) - 1
    grid = torch.stack([x, y], dim=3)  # (B, H, W, 2)
    warped = F.grid_sample(values.to(work), grid, "bilinear", padding, align_corners=True)
    return warped.to(values.dtype)


def enlarged(maps: torch.Tensor, factor: int = 2) -> torch.Tensor:
    """The bicubic enlargement (B, C, f * H, f * W), for which a margin of 2 pixels is enough."""
    return F.interpolate(maps, scale_factor=factor, mode="bicubic") if factor > 1 else maps


def cosines(query: torch.Tensor, key: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """How alike the patches of 3 x 3 around places are to those that were found for them.

    query (B, C, Hq, Wq), key (B, C, Hk, Wk), mirrored at the border as the search does it; index
    (B, Hq, Wq) into the key, -1 where there is none. Returns (B, Hq, Wq), 0 where there is none,
    with gradients to both, which the search has none of.
    """
    queries, keys = (
        F.normalize(F.unfold(_bordered(maps), 3), dim=1) for maps in (query, key)
    )  # (B, 9 * C, places)
    places = index.flatten(1).clamp(min=0)[:, None].expand(-1, keys.shape[1], -1)
    found = (queries * keys.gather(2, places)).sum(dim=1)
    return found.view(index.shape).masked_fill(index < 0, 0)


def _bordered(maps: torch.Tensor) -> torch.Tensor:
    """An axis of one place is repeated, not mirrored."""
    for axis, ends in ((2, (0, 0, 1, 1)), (3, (1, 1, 0, 0))):
        maps = F.pad(maps, ends, mode="reflect" if maps.shape[axis] > 1 else "replicate")
    return maps


def pad_to(image: torch.Tensor, multiple: int) -> torch.Tensor:
    """(B, C, H, W) with its last row and column repeated up to multiples of `multiple`."""
    bottom, right = (-side % multiple for side in image.shape[2:])
    return F.pad(image, (0, right, 0, bottom), mode="replicate") if bottom or right else image
