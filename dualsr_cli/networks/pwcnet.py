"""PWC-Net (Sun et al., 2018), with dense connections and a context network: optical flow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

from dualsr_cli.networks._windows import assembled, cut, grown, scaled, within
from dualsr_cli.networks.contract import Window

STRIDE = 64
"""What the sides of an image have to be a multiple of: six levels, each half the one before."""

_FLOW_UNIT = 20.0  # pixels of the image: the network's own flows are in this unit
_INSIDE = 0.9999  # the part of a sampled pixel that lies in the frame, for it to count
_DILATIONS = (1, 2, 4, 8, 16, 1)  # of the context network's layers


@dataclass(frozen=True)
class PWCNetConfig:
    """The published network. pyramid: features of levels 1 to 6, 1/2 to 1/64 of the image's sides.

    decoder: features of each level's five dense layers. context: features of the six layers that
    refine the finest flow. reach: pixels of a level that the cost volume looks to each side.
    Raises ValueError for other numbers of layers.
    """

    pyramid: tuple[int, ...] = (16, 32, 64, 96, 128, 196)
    decoder: tuple[int, ...] = (128, 128, 96, 64, 32)
    context: tuple[int, ...] = (128, 128, 128, 96, 64, 32)
    reach: int = 4

    def __post_init__(self) -> None:
        counts = len(self.pyramid), len(self.decoder), len(self.context)
        if counts != (6, 5, 6):
            raise ValueError(f"pyramid, decoder and context have 6, 5 and 6 layers, not {counts}")

    @classmethod
    def compact(cls) -> PWCNetConfig:
        """A quarter of the features; what two CPU cores can train."""
        return cls((8, 16, 24, 32, 40, 48), (32, 32, 24, 16, 16), (32, 32, 32, 24, 16, 16))


class PWCNet(nn.Module):
    """The flow from one image to another. The state dict has the names of the published files.

    `deconv2` is the published network's and unused: nothing lies above the finest flow.
    """

    def __init__(self, config: PWCNetConfig) -> None:
        super().__init__()
        self.config = config
        volume = (2 * config.reach + 1) ** 2
        for level, (before, width) in enumerate(pairwise((3, *config.pyramid)), 1):
            first, second, third = _pyramid_names(level)
            self.add_module(first, _conv(before, width, stride=2))
            self.add_module(second, _conv(width, width))
            self.add_module(third, _conv(width, width))
        deepest = len(config.pyramid)
        for level in range(deepest, 1, -1):
            # Cost volume; below the deepest level also features, flow and two features from above.
            dense = volume if level == deepest else volume + config.pyramid[level - 1] + 4
            for number, width in enumerate(config.decoder):
                self.add_module(f"conv{level}_{number}", _conv(dense, width))
                dense += width
            self.add_module(f"predict_flow{level}", nn.Conv2d(dense, 2, 3, padding=1))
            self.add_module(f"deconv{level}", _double(2))
            if level > 2:
                self.add_module(f"upfeat{level}", _double(dense))
        for number, (before, width) in enumerate(pairwise((dense, *config.context)), 1):
            self.add_module(
                f"dc_conv{number}", _conv(before, width, dilation=_DILATIONS[number - 1])
            )
        self.add_module(
            f"dc_conv{len(config.context) + 1}", nn.Conv2d(config.context[-1], 2, 3, padding=1)
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_in")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, first: torch.Tensor, second: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """(B, 3, H, W) each, 0..1 -> flows (B, 2, H / n, W / n) for n = 4, 8, 16, 32, 64.

        In pixels of the image, x before y: first(x, y) shows what second(x + u, y + v) shows.
        Raises ValueError for sides that are no multiple of 64.
        """
        return self.flows(self.encode(first), self.encode(second))

    def encode(self, image: torch.Tensor, tile: int | None = None) -> list[torch.Tensor]:
        """(B, 3, H, W) -> features (B, C, H / n, W / n) for n = 4, 8, 16, 32, 64.

        tile: the side of the squares of the image, a multiple of 8, that the two finest levels are
        made of one by one. Raises ValueError for sides that are no multiple of 64.
        """
        size = image.shape[2:]
        if size[0] % STRIDE or size[1] % STRIDE or 0 in image.shape:
            raise ValueError(f"sides of {tuple(image.shape)} are no multiples of {STRIDE}")

        def finest(window: Window) -> tuple[torch.Tensor]:
            seen = grown(window, 16, size)  # of which they see 15
            values = self._level(2, self._level(1, cut(image, seen)))
            top, left, bottom, right = within(window, seen)
            return (cut(values, (top // 4, left // 4, bottom // 4, right // 4)),)

        pyramid = assembled(size, tile, finest)  # level 1 is too fine to be matched
        for level in range(3, len(self.config.pyramid) + 1):
            pyramid.append(self._level(level, pyramid[-1]))
        return pyramid

    def volumes(
        self, first: Sequence[torch.Tensor], second: Sequence[torch.Tensor]
    ) -> tuple[torch.Tensor, ...]:
        """What `encode` gave of two images -> their cost volumes before anything is warped.

        (B, (2 reach + 1)^2, H / n, W / n) for n = 4, 8, 16, 32, 64, as `cost_volume` has them.
        """
        pairs = zip(first, second, strict=True)
        return tuple(cost_volume(own, other, self.config.reach) for own, other in pairs)

    def flows(
        self,
        first: Sequence[torch.Tensor],
        second: Sequence[torch.Tensor],
        tile: int | None = None,
    ) -> tuple[torch.Tensor, ...]:
        """What `encode` gave of two images -> the flows of `forward`.

        tile: the side of the squares of a level's pixels, a multiple of 8, that are worked on one
        by one.
        """
        found: list[torch.Tensor] = []
        above: list[torch.Tensor] = []  # the flow and two features of the level above
        for level in range(len(self.config.pyramid), 1, -1):
            own, other = first[level - 2], second[level - 2]
            decoded = partial(self._decoded, level, own, other, above)
            flow, *above = assembled(own.shape[2:], tile, decoded)
            found.append(flow)
        return tuple(_FLOW_UNIT * flow for flow in reversed(found))

    def _decoded(
        self,
        level: int,
        own: torch.Tensor,
        other: torch.Tensor,
        above: Sequence[torch.Tensor],
        window: Window,
    ) -> list[torch.Tensor]:
        """A window of a level's flow; but for the finest, also the flow and features of twice the
        size that the next level takes from it.
        """
        size, reach = own.shape[2:], self.config.reach
        finest = level == 2
        # Dense layers, the flow's and one that doubles, or those of the context.
        radius = len(self.config.decoder) + 1 + (sum(_DILATIONS) + 1 if finest else 1)
        seen = grown(window, radius, size)
        around = grown(seen, reach, size)  # what the cost volume compares with
        near = cut(other, around)
        if above:
            # The flow in pixels of this level, which has 1 / 2^level of the image's sides.
            flow = cut(above[0], around) * (_FLOW_UNIT / 2**level)
            near, inside = warp(other, flow, around[:2])
            near = near * inside
        mine = cut(own, seen)
        volume = F.leaky_relu(cost_volume(mine, near, reach, within(seen, around)[:2]), 0.1)
        values = volume
        if above:
            values = torch.cat((volume, mine, *(cut(values, seen) for values in above)), 1)
        for number in range(len(self.config.decoder)):
            values = torch.cat((self._layer(f"conv{level}_{number}", values), values), 1)
        flow = self._layer(f"predict_flow{level}", values)
        inner = within(window, seen)
        if not finest:
            doubled = self._layer(f"deconv{level}", flow), self._layer(f"upfeat{level}", values)
            return [cut(flow, inner), *(cut(values, scaled(inner, 2)) for values in doubled)]
        for number in range(1, len(self.config.context) + 2):
            values = self._layer(f"dc_conv{number}", values)
        return [cut(flow + values, inner)]

    def _level(self, level: int, values: torch.Tensor) -> torch.Tensor:
        """A level's features from those of the level before, or from the image."""
        for name in _pyramid_names(level):
            values = self._layer(name, values)
        return values

    def _layer(self, name: str, values: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.get_submodule(name)(values)
        return result


def cost_volume(
    first: torch.Tensor, second: torch.Tensor, reach: int, corner: tuple[int, int] = (0, 0)
) -> torch.Tensor:
    """How alike features are: (B, C, H, W) -> (B, (2 reach + 1)^2, H, W).

    The mean over C of first(x, y) * second(x + dx, y + dy), dy before dx, each -reach to reach;
    zero beyond the border of `second`, where `first` begins at `corner`.
    """
    height, width = first.shape[2:]
    top, left = corner
    bottom, right = second.shape[2] - top - height, second.shape[3] - left - width
    padded = F.pad(second, (reach - left, reach - right, reach - top, reach - bottom))
    offsets = range(2 * reach + 1)
    return torch.stack(
        [
            (first * padded[:, :, top : top + height, left : left + width]).mean(1)
            for top in offsets
            for left in offsets
        ],
        1,
    )


def warp(
    values: torch.Tensor, flow: torch.Tensor, corner: tuple[int, int] = (0, 0)
) -> tuple[torch.Tensor, torch.Tensor]:
    """`values` where the flow points, and where that lies within them.

    values: (B, C, H, W). flow: (B, 2, h, w) in pixels, x before y, of a window that begins at
    `corner`. Gives (B, C, h, w), bilinear and zero beyond the border, and (B, 1, h, w), 1 where all
    of the sampled pixel lies within the border and else 0.
    """
    x, y = pointed_at(flow, corner)
    sampled = sample(values, x, y, "zeros")
    height, width = values.shape[2:]
    return sampled, lies_within(x, y, torch.tensor([[0, 0, height, width]])).to(values.dtype)


def pointed_at(flow: torch.Tensor, corner: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Where the flow (B, 2, h, w) of a window leads: x and y (B, h, w), in pixels of the image."""
    # Coordinates of a large image need more digits than half precision has.
    precise = torch.promote_types(flow.dtype, torch.float32)
    rows, columns = (
        torch.arange(first, first + side, device=flow.device, dtype=precise)
        for first, side in zip(corner, flow.shape[2:], strict=True)
    )
    return columns + flow[:, 0], rows[:, None] + flow[:, 1]


def sample(values: torch.Tensor, x: torch.Tensor, y: torch.Tensor, padding: str) -> torch.Tensor:
    """values (B, C, H, W) between their pixels, at x and y (B, h, w): (B, C, h, w), bilinear.

    padding: what lies beyond the middles of the outermost pixels, "zeros" or "border".
    """
    height, width = values.shape[2:]
    # These middles are -1 and 1.
    grid = torch.stack((2 * x / max(width - 1, 1) - 1, 2 * y / max(height - 1, 1) - 1), -1)
    sampled = F.grid_sample(values.to(grid.dtype), grid, padding_mode=padding, align_corners=True)
    return sampled.to(values.dtype)


def lies_within(x: torch.Tensor, y: torch.Tensor, frame: torch.Tensor) -> torch.Tensor:
    """(B, 1, h, w) bool: where all of a pixel at x and y (B, h, w) lies in the frame.

    frame: (B, 4), or (1, 4) for all; top, left, bottom, right.
    """
    top, left, bottom, right = frame.to(x.device)[:, :, None, None].unbind(1)
    beyond_x = torch.maximum(left - x, x - (right - 1)).clamp(0, 1)
    beyond_y = torch.maximum(top - y, y - (bottom - 1)).clamp(0, 1)
    inside = (1 - beyond_x) * (1 - beyond_y) >= _INSIDE
    return inside[:, None]


def _pyramid_names(level: int) -> tuple[str, str, str]:
    """A level's layers, the one with stride 2 first; the checkpoint's level 6 swaps two names."""
    names = ("aa", "a", "b") if level == 6 else ("a", "aa", "b")
    return (f"conv{level}{names[0]}", f"conv{level}{names[1]}", f"conv{level}{names[2]}")


def _conv(before: int, after: int, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, 3, stride, padding=dilation, dilation=dilation), nn.LeakyReLU(0.1)
    )


def _double(before: int) -> nn.ConvTranspose2d:
    """(B, before, H, W) -> (B, 2, 2 H, 2 W)."""
    return nn.ConvTranspose2d(before, 2, 4, 2, 1)
