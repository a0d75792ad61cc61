"""SelfDZSR's AdaSTN (paper 3.2, figure 3b), what its table 5 has in its place, and the convolution
that reads between pixels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import nn

from dualsr_cli.networks.contract import Window

_TAPS = [(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1)]  # G of eq. 6


class Bending(nn.Module, ABC):
    """Features bent onto a guide's: each pixel's nine taps read elsewhere (eq. 7).

    Where they lie is found from the features and those of the guide.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.concat = _depthwise(2 * width, 2 * width, 2 * width)
        self.concat2 = _depthwise(2 * width, width, width)
        self._add_estimators(width)
        self.adapt_conv = DeformableConv(width, bias=False)

    @abstractmethod
    def _add_estimators(self, width: int) -> None:
        """The layers of `_estimated`."""

    @abstractmethod
    def _estimated(self, both: torch.Tensor) -> torch.Tensor:
        """Taps, of what is made of features and guide (B, C, H, W)."""

    def forward(
        self, features: torch.Tensor, guide: torch.Tensor, dropped: torch.Tensor | None = None
    ) -> torch.Tensor:
        """(B, C, H, W), the guide alike -> (B, C, H, W). dropped: (B,) bool, left in place."""
        bent = self.bend(features, self.taps(features, guide))
        if dropped is None:
            return bent
        return torch.where(dropped[:, None, None, None], self.in_place(features), bent)

    def taps(self, features: torch.Tensor, guide: torch.Tensor) -> torch.Tensor:
        """P: how far down and right of its pixel each tap lies, (B, 9, 2, H, W) in pixels."""
        return self._estimated(self.concat2(self.concat(torch.cat([features, guide], dim=1))))

    def bend(
        self, features: torch.Tensor, taps: torch.Tensor, corner: tuple[int, int] = (0, 0)
    ) -> torch.Tensor:
        """features (B, C, h, w) read at taps (B, 9, 2, H, W), of a window that begins at `corner`
        of the features -> (B, C, H, W).
        """
        return F.leaky_relu(self.adapt_conv(features, taps.unbind(1), corner), 0.2)

    def in_place(self, features: torch.Tensor) -> torch.Tensor:
        """P = 0: all taps read their own pixel, and only the sum of their weights counts."""
        sums = self.adapt_conv.weight.sum(dim=(2, 3))  # (C, 1)
        return F.leaky_relu(features * sums[:, :, None], 0.2)


class AdaSTN(Bending):
    """Adaptive spatial transformer network (3.2, figure 3b): an affine map at each pixel.

    Each pixel's nine taps lie on P = A G + b (eq. 5).
    """

    RADIUS = 4
    """Pixels around a place that its taps are found from. They may lie anywhere."""

    regular_matrix: torch.Tensor

    def _add_estimators(self, width: int) -> None:
        # G as the checkpoints hold it; `_TAPS` says the same.
        self.register_buffer("regular_matrix", torch.tensor(_TAPS).t().float().contiguous())
        self.transform_matrix_conv = nn.Conv2d(width, 4, 5, padding=2)
        self.translation_conv = nn.Conv2d(width, 2, 5, padding=2)

    def _estimated(self, both: torch.Tensor) -> torch.Tensor:
        matrix = self.transform_matrix_conv(both).unflatten(1, (2, 2))  # A: (B, 2, 2, H, W)
        shift = self.translation_conv(both)  # b: (B, 2, H, W)
        return torch.stack(
            [down * matrix[:, :, 0] + right * matrix[:, :, 1] + shift for down, right in _TAPS], 1
        )


class FreeTaps(Bending):
    """Deformable convolution (table 5): each tap's offset by itself."""

    def _add_estimators(self, width: int) -> None:
        self.offset_conv = nn.Conv2d(width, 18, 5, padding=2)

    def _estimated(self, both: torch.Tensor) -> torch.Tensor:
        offsets: torch.Tensor = self.offset_conv(both).unflatten(1, (9, 2))
        return offsets + offsets.new_tensor(_TAPS)[:, :, None, None]


class STN(Bending):
    """Spatial transformer network (table 5): one affine map for the whole image, about its middle.

    It begins as the identity.
    """

    def _add_estimators(self, width: int) -> None:
        self.affine = nn.Linear(width, 6)
        for parameter in self.affine.parameters():
            nn.init.zeros_(parameter)

    def _estimated(self, both: torch.Tensor) -> torch.Tensor:
        found = self.affine(both.mean(dim=(2, 3)))[..., None, None]
        matrix, shift = found[:, :4].unflatten(1, (2, 2)), found[:, 4:]
        rows, columns = (
            torch.arange(side, device=both.device) - (side - 1) / 2 for side in both.shape[2:]
        )
        return torch.stack(
            [
                found.new_tensor([down, right])[:, None, None]
                + (rows[:, None] + down) * matrix[:, :, 0]
                + (columns + right) * matrix[:, :, 1]
                + shift
                for down, right in _TAPS
            ],
            1,
        )


class InPlace(nn.Module):
    """Nothing is bent: LR and the truth lie as the optical flow has brought them (table 5)."""

    def __init__(self, width: int) -> None:
        super().__init__()

    def forward(
        self, features: torch.Tensor, guide: torch.Tensor, dropped: torch.Tensor | None = None
    ) -> torch.Tensor:
        return features

    def in_place(self, features: torch.Tensor) -> torch.Tensor:
        return features


ALIGNMENTS: Mapping[str, Callable[[int], Bending | InPlace]] = {
    "adastn": AdaSTN,
    "deformable": FreeTaps,
    "stn": STN,
    "none": InPlace,
}
"""By name: how LR is brought onto the pseudo-LR."""


class DeformableConv(nn.Conv2d):
    """A depthwise 3x3 convolution whose taps lie where they are told to, between pixels too.

    Tap by tap, so that no map of nine times the features is held, as a deformable convolution of
    libraries does; and the features may have another size than the result.
    """

    def __init__(self, width: int, bias: bool) -> None:
        super().__init__(width, width, 3, padding=1, groups=width, bias=bias)

    def forward(  # type: ignore[override]
        self,
        features: torch.Tensor,
        points: Iterable[torch.Tensor],
        corner: tuple[int, int] = (0, 0),
    ) -> torch.Tensor:
        """features (B, C, h, w) -> (B, C, H, W).

        points: for each tap (B, 2, H, W), how far down and right of a pixel of the result it
        reads, in pixels; beyond the features lie zeros. corner: the place of the features where
        the result's first pixel lies.
        """
        weights = self.weight.flatten(1)  # (C, 9)
        # Half precision knows no single pixels beyond the 2048th, and fewer places between them.
        precise = features.to(torch.promote_types(features.dtype, torch.float32))
        total: torch.Tensor | None = None
        for n, reach in enumerate(points):
            read = _read(precise, reach, corner).to(features.dtype) * weights[:, n, None, None]
            total = read if total is None else total + read
        assert total is not None
        return total if self.bias is None else total + self.bias[:, None, None]


def taps_at(offsets: torch.Tensor) -> Iterator[torch.Tensor]:
    """A common convolution's nine taps, moved by offsets (B, 18, H, W): y and x of each in turn."""
    for n, tap in enumerate(_TAPS):
        yield offsets[:, 2 * n : 2 * n + 2] + offsets.new_tensor(tap)[:, None, None]


def read_by(taps: torch.Tensor, window: Window, size: Sequence[int]) -> Window:
    """The pixels of a map of `size` that taps (B, 9, 2, h, w) of one of its windows read."""
    ends: list[tuple[int, int]] = []
    for axis in (0, 1):
        places = torch.arange(window[axis], window[axis + 2], device=taps.device)
        places = taps[:, :, axis].float() + (places[:, None] if axis == 0 else places)
        low, high = (
            int(place.nan_to_num().clamp(-2, size[axis]).floor()) for place in places.aminmax()
        )
        # One more on each side, for places that are rounded otherwise where they are read.
        first = min(max(low - 1, 0), size[axis] - 1)
        ends.append((first, min(max(high + 3, first + 1), size[axis])))
    return ends[0][0], ends[1][0], ends[0][1], ends[1][1]


def _read(features: torch.Tensor, reach: torch.Tensor, corner: tuple[int, int]) -> torch.Tensor:
    """features (B, C, h, w) at q + reach(q), reach (B, 2, H, W), bilinearly -> (B, C, H, W)."""
    down, right = reach.to(features.dtype).unbind(dim=1)
    rows, columns = (
        torch.arange(first, first + side, device=reach.device, dtype=features.dtype)
        for first, side in zip(corner, reach.shape[2:], strict=True)
    )
    # grid_sample counts from -1 to 1 between the outer edges of the border pixels.
    grid = torch.stack(
        [
            (2 * (columns + right) + 1) / features.shape[3] - 1,
            (2 * (rows[:, None] + down) + 1) / features.shape[2] - 1,
        ],
        dim=3,
    )
    return F.grid_sample(features, grid, align_corners=False)


def _depthwise(channels: int, width: int, groups: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1, groups=groups), nn.LeakyReLU(0.2, inplace=True)
    )
