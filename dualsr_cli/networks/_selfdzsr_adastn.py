"""SelfDZSR's AdaSTN (paper 3.2, figure 3b), and the convolution that reads between pixels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
import torch.nn.functional as F
from torch import nn

_TAPS = [(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1)]  # G of eq. 6


class AdaSTN(nn.Module):
    """Adaptive spatial transformer network (3.2, figure 3b): an affine map at each pixel.

    Each pixel's nine taps lie on P = A G + b (eq. 5), A and b found from the features and those
    of the guide; a depthwise convolution reads there (eq. 7).
    """

    regular_matrix: torch.Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        # G as the checkpoints hold it; `_TAPS` says the same.
        self.register_buffer("regular_matrix", torch.tensor(_TAPS).t().float().contiguous())
        self.concat = _depthwise(2 * width, 2 * width, 2 * width)
        self.concat2 = _depthwise(2 * width, width, width)
        self.transform_matrix_conv = nn.Conv2d(width, 4, 5, padding=2)
        self.translation_conv = nn.Conv2d(width, 2, 5, padding=2)
        self.adapt_conv = DeformableConv(width, bias=False)

    def forward(
        self, features: torch.Tensor, guide: torch.Tensor, dropped: torch.Tensor | None = None
    ) -> torch.Tensor:
        """(B, C, H, W), the guide alike -> (B, C, H, W). dropped: (B,) bool, left in place."""
        both = self.concat2(self.concat(torch.cat([features, guide], dim=1)))
        matrix = self.transform_matrix_conv(both).unflatten(1, (2, 2))  # A: (B, 2, 2, H, W)
        shift = self.translation_conv(both)  # b: (B, 2, H, W)
        points = (down * matrix[:, :, 0] + right * matrix[:, :, 1] + shift for down, right in _TAPS)
        bent = F.leaky_relu(self.adapt_conv(features, points), 0.2)
        if dropped is None:
            return bent
        return torch.where(dropped[:, None, None, None], self.in_place(features), bent)

    def in_place(self, features: torch.Tensor) -> torch.Tensor:
        """P = 0: all taps read their own pixel, and only the sum of their weights counts."""
        sums = self.adapt_conv.weight.sum(dim=(2, 3))  # (C, 1)
        return F.leaky_relu(features * sums[:, :, None], 0.2)


class DeformableConv(nn.Conv2d):
    """A depthwise 3x3 convolution whose taps lie where they are told to, between pixels too.

    Tap by tap, so that no map of nine times the features is held, as a deformable convolution of
    libraries does; and the features may have another size than the result.
    """

    def __init__(self, width: int, bias: bool) -> None:
        super().__init__(width, width, 3, padding=1, groups=width, bias=bias)

    def forward(  # type: ignore[override]
        self, features: torch.Tensor, points: Iterable[torch.Tensor]
    ) -> torch.Tensor:
        """features (B, C, h, w) -> (B, C, H, W).

        points: for each tap (B, 2, H, W), how far down and right of a pixel of the result it
        reads, in pixels; beyond the features lie zeros.
        """
        weights = self.weight.flatten(1)  # (C, 9)
        total: torch.Tensor | None = None
        for n, reach in enumerate(points):
            read = _read(features, reach) * weights[:, n, None, None]
            total = read if total is None else total + read
        assert total is not None
        return total if self.bias is None else total + self.bias[:, None, None]


def taps_at(offsets: torch.Tensor) -> Iterator[torch.Tensor]:
    """A common convolution's nine taps, moved by offsets (B, 18, H, W): y and x of each in turn."""
    for n, tap in enumerate(_TAPS):
        yield offsets[:, 2 * n : 2 * n + 2] + offsets.new_tensor(tap)[:, None, None]


def _read(features: torch.Tensor, reach: torch.Tensor) -> torch.Tensor:
    """features (B, C, h, w) at q + reach(q), reach (B, 2, H, W), bilinearly -> (B, C, H, W)."""
    # Half precision knows no single pixels beyond the 2048th, and fewer places between them.
    work = torch.promote_types(torch.promote_types(features.dtype, reach.dtype), torch.float32)
    down, right = reach.to(work).unbind(dim=1)
    rows = torch.arange(reach.shape[2], device=reach.device, dtype=work)[:, None] + down
    columns = torch.arange(reach.shape[3], device=reach.device, dtype=work) + right
    # grid_sample counts from -1 to 1 between the outer edges of the border pixels.
    grid = torch.stack(
        [(2 * columns + 1) / features.shape[3] - 1, (2 * rows + 1) / features.shape[2] - 1], dim=3
    )
    read = F.grid_sample(features.to(work), grid, align_corners=False)
    return read.to(features.dtype)


def _depthwise(channels: int, width: int, groups: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1, groups=groups), nn.LeakyReLU(0.2, inplace=True)
    )
