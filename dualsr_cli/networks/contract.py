"""What every network takes and gives: the bench, the trainer and the tiler know no names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch


@dataclass(frozen=True, eq=False)
class Inputs:
    """One batch. Images are RGB, 0..1, floating, on one device; s is the network's scale.

    lr: (B, 3, H, W), the wide photo. ref: (B, 3, s * h, s * w), the tele photo at the result's
    resolution, on the wide photo as well as an alignment could lay it. box: (B, 4) int64, top,
    left, bottom, right of what `ref` shows, in pixels of lr; all of a batch have the size (h, w).
    hr: (B, 3, s * H, s * W), the truth, in training. more_refs: further references like `ref`, for
    networks that take several. Raises ValueError for shapes that do not fit.
    """

    lr: torch.Tensor
    ref: torch.Tensor
    box: torch.Tensor
    hr: torch.Tensor | None = None
    more_refs: tuple[torch.Tensor, ...] = ()

    def __post_init__(self) -> None:
        batch = len(self.lr)
        for name, image in (("lr", self.lr), ("ref", self.ref), ("hr", self.hr)):
            if image is not None and (image.ndim != 4 or image.shape[:2] != (batch, 3)):
                raise ValueError(f"{name} {tuple(image.shape)} is not ({batch}, 3, height, width)")
        if self.box.shape != (batch, 4) or self.box.dtype != torch.int64:
            raise ValueError(f"box is {tuple(self.box.shape)} {self.box.dtype}, not (B, 4) int64")
        sizes = self.box[:, 2:] - self.box[:, :2]
        height, width = self.lr.shape[2:]
        inside = (self.box >= 0).all() and (
            self.box[:, 2:] <= sizes.new_tensor([height, width])
        ).all()
        if not bool(inside) or not bool((sizes == sizes[0]).all()) or not bool((sizes > 0).all()):
            raise ValueError(
                f"box {self.box.tolist()} does not lie in the {height} x {width} of lr"
            )

    def lr_center(self) -> torch.Tensor:
        """(B, 3, h, w): the part of `lr` that `ref` shows."""
        parts = [
            image[:, top:bottom, left:right]
            for image, (top, left, bottom, right) in zip(self.lr, self.box.tolist(), strict=True)
        ]
        return torch.stack(parts)


@dataclass(frozen=True, eq=False)
class Outputs:
    """sr: (B, 3, s * H, s * W), not clamped.

    maps: what a loss or a picture needs beside it, by name: "confidence" (B, 1, h', w') of matches,
    "mask", "weight" (how much of each pixel comes from the reference), "flow", "center" (a second
    result, of the reference's view), "embedding"; each network's docstring tells which it gives.
    """

    sr: torch.Tensor
    maps: Mapping[str, torch.Tensor] = field(default_factory=dict)
