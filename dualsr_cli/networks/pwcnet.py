"""PWC-Net (Sun et al., 2018), with dense connections and a context network: optical flow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

STRIDE = 64
"""What the sides of an image have to be a multiple of: six levels, each half the one before."""

_FLOW_UNIT = 20.0  # pixels of the image: the network's own flows are in this unit
_INSIDE = 0.9999  # the part of a sampled pixel that lies in the frame, for it to count


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
            dilation = (1, 2, 4, 8, 16, 1)[number - 1]
            self.add_module(f"dc_conv{number}", _conv(before, width, dilation=dilation))
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

    def encode(self, image: torch.Tensor) -> list[torch.Tensor]:
        """(B, 3, H, W) -> features (B, C, H / n, W / n) for n = 4, 8, 16, 32, 64.

        Raises ValueError for sides that are no multiple of 64.
        """
        if image.shape[2] % STRIDE or image.shape[3] % STRIDE or 0 in image.shape:
            raise ValueError(f"sides of {tuple(image.shape)} are no multiples of {STRIDE}")
        pyramid = []
        values = image
        for level in range(1, len(self.config.pyramid) + 1):
            for name in _pyramid_names(level):
                values = self._layer(name, values)
            pyramid.append(values)
        return pyramid[1:]  # level 1 is too fine to be matched

    def flows(
        self, first: Sequence[torch.Tensor], second: Sequence[torch.Tensor]
    ) -> tuple[torch.Tensor, ...]:
        """What `encode` gave of two images -> the flows of `forward`."""
        found: list[torch.Tensor] = []
        deepest = len(self.config.pyramid)
        above: list[torch.Tensor] = []  # the flow and two features of the level above
        values = flow = first[0]
        for level in range(deepest, 1, -1):
            own, other = first[level - 2], second[level - 2]
            if above:
                # The flow in pixels of this level, which has 1 / 2^level of the image's sides.
                other, inside = warp(other, above[0] * (_FLOW_UNIT / 2**level))
                other = other * inside
            volume = F.leaky_relu(cost_volume(own, other, self.config.reach), 0.1)
            values = torch.cat((volume, own, *above), 1) if above else volume
            for number in range(len(self.config.decoder)):
                values = torch.cat((self._layer(f"conv{level}_{number}", values), values), 1)
            flow = self._layer(f"predict_flow{level}", values)
            if level > 2:
                above = [self._layer(f"{name}{level}", part) for name, part in
                         (("deconv", flow), ("upfeat", values))]  # fmt: skip
                found.append(flow)
        for number in range(1, len(self.config.context) + 2):
            values = self._layer(f"dc_conv{number}", values)
        found.append(flow + values)
        return tuple(_FLOW_UNIT * flow for flow in reversed(found))

    def _layer(self, name: str, values: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.get_submodule(name)(values)
        return result


def cost_volume(first: torch.Tensor, second: torch.Tensor, reach: int) -> torch.Tensor:
    """How alike features are: (B, C, H, W) twice -> (B, (2 reach + 1)^2, H, W).

    The mean over C of first(x, y) * second(x + dx, y + dy), dy before dx, each -reach to reach;
    zero beyond the border.
    """
    height, width = first.shape[2:]
    padded = F.pad(second, (reach,) * 4)
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
    values: torch.Tensor, flow: torch.Tensor, frame: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """`values` where the flow points, and where that lies within the frame.

    values: (B, C, H, W). flow: (B, 2, H, W) in pixels, x before y. frame: (B, 4), top, left,
    bottom, right of what counts of `values`; all of it if None. Gives (B, C, H, W), bilinear and
    zero beyond the border, and (B, 1, H, W), 1 where all of the sampled pixel lies within the
    frame and else 0.
    """
    height, width = values.shape[2:]
    # Coordinates of a large image need more digits than half precision has.
    precise = torch.promote_types(values.dtype, torch.float32)
    x = torch.arange(width, device=values.device, dtype=precise) + flow[:, 0]
    y = torch.arange(height, device=values.device, dtype=precise)[:, None] + flow[:, 1]
    # Corners are the middles of the outermost pixels: -1 and 1.
    grid = torch.stack((2 * x / max(width - 1, 1) - 1, 2 * y / max(height - 1, 1) - 1), -1)
    warped = F.grid_sample(values.to(precise), grid, align_corners=True).to(values.dtype)
    if frame is None:
        frame = torch.tensor([[0, 0, height, width]], device=values.device)
    top, left, bottom, right = frame.to(values.device)[:, :, None, None].unbind(1)
    beyond_x = torch.maximum(left - x, x - (right - 1)).clamp(0, 1)
    beyond_y = torch.maximum(top - y, y - (bottom - 1)).clamp(0, 1)
    inside = (1 - beyond_x) * (1 - beyond_y) >= _INSIDE
    return warped, inside[:, None].to(values.dtype)


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
