"""What every network takes and gives: the bench, the trainer and the tiler know no names."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

import torch
from torch import nn

Window = tuple[int, int, int, int]
"""Top, left, bottom, right of a part of an image, in pixels of lr."""

CELL = 8
"""Windows begin at multiples of it; they end at one or at the image's end."""


@dataclass(frozen=True, eq=False)
class Inputs:
    """One batch. Images are RGB, 0..1, floating, on one device; s is the network's scale.

    In half precision `lr` alone is in single: its enlargement is added to results, and eight bits
    of a photo are more than bfloat16 holds. Networks compute with `rounded_lr`.

    lr: (B, 3, H, W), the wide photo. ref: (B, 3, s * h, s * w), the tele photo at the result's
    resolution, on the wide photo as well as an alignment could lay it. box: (B, 4) int64, top,
    left, bottom, right of what `ref` shows, in pixels of lr; all of a batch have the size (h, w).
    hr: (B, 3, s * H, s * W), the truth, in training. more_refs: further references like `ref`, for
    networks that take several. center: (B, 3, h, w), the part of the wide photo that `ref` shows
    where `lr` is a patch of its own, as in KeDuSR's training; `box`, counted from the patch's first
    pixel, may then lie in it partly or not at all, and is empty where the place is not known.
    confidence: (B, 1, s * h, s * w), 0..1, how surely an alignment laid `ref` there; 0 where it
    shows nothing.
    Raises ValueError for shapes that do not fit.
    """

    lr: torch.Tensor
    ref: torch.Tensor
    box: torch.Tensor
    hr: torch.Tensor | None = None
    more_refs: tuple[torch.Tensor, ...] = ()
    center: torch.Tensor | None = None
    confidence: torch.Tensor | None = None

    def __post_init__(self) -> None:
        batch = len(self.lr)
        images = {"lr": self.lr, "ref": self.ref, "hr": self.hr, "center": self.center}
        for name, image in images.items():
            if image is not None and (image.ndim != 4 or image.shape[:2] != (batch, 3)):
                raise ValueError(f"{name} {tuple(image.shape)} is not ({batch}, 3, height, width)")
        if self.box.shape != (batch, 4) or self.box.dtype != torch.int64:
            raise ValueError(f"box is {tuple(self.box.shape)} {self.box.dtype}, not (B, 4) int64")
        if self.center is not None:
            return
        sizes = self.box[:, 2:] - self.box[:, :2]
        height, width = self.lr.shape[2:]
        inside = (self.box >= 0).all() and (
            self.box[:, 2:] <= sizes.new_tensor([height, width])
        ).all()
        if not bool(inside) or not bool((sizes == sizes[0]).all()) or not bool((sizes > 0).all()):
            raise ValueError(
                f"box {self.box.tolist()} does not lie in the {height} x {width} of lr"
            )

    def rounded_lr(self) -> torch.Tensor:
        """(B, 3, H, W): `lr` in the precision of the other images."""
        return self.lr.to(self.ref.dtype)

    def lr_center(self) -> torch.Tensor:
        """(B, 3, h, w): the part of the wide photo that `ref` shows, in the precision of `ref`."""
        if self.center is not None:
            return self.center
        parts = [
            image[:, top:bottom, left:right]
            for image, (top, left, bottom, right) in zip(self.lr, self.box.tolist(), strict=True)
        ]
        return torch.stack(parts).to(self.ref.dtype)

    def to(self, device: torch.device | str, dtype: torch.dtype = torch.float32) -> Inputs:
        """The same on a device, images in a precision, lr in single precision at least."""

        def moved(image: torch.Tensor | None) -> torch.Tensor | None:
            return None if image is None else image.to(device, dtype)

        return replace(
            self,
            lr=self.lr.to(device, torch.promote_types(dtype, torch.float32)),
            ref=self.ref.to(device, dtype),
            box=self.box.to(device),
            hr=moved(self.hr),
            more_refs=tuple(image.to(device, dtype) for image in self.more_refs),
            center=moved(self.center),
            confidence=moved(self.confidence),
        )


@dataclass(frozen=True, eq=False)
class Outputs:
    """sr: (B, 3, s * H, s * W), not clamped.

    maps: what a loss or a picture needs beside it, by name: "confidence" (B, 1, h', w') of matches,
    "mask", "weight" (how much of each pixel comes from the reference), "flow", "center" (a second
    result, of the reference's view), "embedding"; each network's docstring tells which it gives.
    """

    sr: torch.Tensor
    maps: Mapping[str, torch.Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Memory:
    """About how many numbers a network holds at inference: what tiles are planned by.

    image: for each LR pixel, from `encode` on. reference: for each LR pixel of the box, likewise.
    window: at the peak of `encode` or `render`, for each LR pixel of a window with its margin.
    """

    image: float
    reference: float
    window: float


Encoded = TypeVar("Encoded")


class Network(nn.Module, ABC, Generic[Encoded]):
    """A network of the registry's table. `forward` takes `Inputs` and gives `Outputs`, in any size.

    At inference `forward` is `encode` of the image, then `render` of all of it; `render` of its
    windows, one by one, gives the same: all that is global is made once, by `encode`.
    """

    @property
    @abstractmethod
    def scale(self) -> int:
        """Pixels of the result for each of lr, along both axes."""

    @property
    @abstractmethod
    def margin(self) -> int:
        """LR pixels around a window that `render` looks at, where the image has them."""

    @property
    @abstractmethod
    def memory(self) -> Memory: ...

    @abstractmethod
    def encode(self, inputs: Inputs, tile: int | None = None) -> Encoded:
        """All that looks at more of the image than the surroundings of a pixel.

        tile: the side, a multiple of CELL, of the squares of LR that are worked on at once, so that
        the working memory is theirs; the whole image without it. The result is the same. Raises
        ValueError for a reference that does not fit its box.
        """

    @abstractmethod
    def render(self, encoded: Encoded, window: Window) -> Outputs:
        """The result of a window, its margin taken from around it: sr (B, 3, s * h, s * w).

        Of the maps at least "confidence" or "weight", of the window alone, in any resolution: how
        much of the result comes from the reference.
        """

    def __call__(self, *args: Any, **kwargs: Any) -> Outputs:
        outputs: Outputs = super().__call__(*args, **kwargs)
        return outputs


def windows(height: int, width: int, tile: int | None) -> list[Window]:
    """Windows of at most `tile` x `tile` pixels that cover an image, or the one of all of it."""
    if tile is None:
        return [(0, 0, height, width)]
    if tile < CELL or tile % CELL:
        raise ValueError(f"tiles of {tile} pixels do not begin at multiples of {CELL}")
    return [
        (top, left, min(top + tile, height), min(left + tile, width))
        for top in range(0, height, tile)
        for left in range(0, width, tile)
    ]
