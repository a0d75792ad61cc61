"""Pairs of views whose flow is known, made of photographs: what flow networks start from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import cv2
import numpy as np
import numpy.typing as npt
import torch

from dualsr_cli.networks import Inputs

Rgb = npt.NDArray[np.uint8]  # (height, width, 3)
Floats = npt.NDArray[np.float32]

_OBJECTS = 3  # at most, that move before the background


class Photographs(Protocol):
    """Photographs as uint8 (height, width, 3) RGB."""

    def __len__(self) -> int: ...

    def pixels(self, index: int) -> Rgb: ...


@dataclass(frozen=True, eq=False)
class FlowInputs(Inputs):
    """Two views (lr, ref) of one size, and flow (B, 2, H, W), x and y in pixels, between them.

    lr at a place shows what ref shows at that place plus the flow, unless something hides it there.
    """

    flow: torch.Tensor | None = None

    def to(self, device: torch.device | str, dtype: torch.dtype = torch.float32) -> FlowInputs:
        moved = super().to(device, dtype)
        assert isinstance(moved, FlowInputs) and self.flow is not None
        return replace(moved, flow=self.flow.to(device, torch.float32))


@dataclass(frozen=True, eq=False)
class SyntheticFlow:
    """A source of such pairs (see `Source`).

    patch: height and width. reach: pixels that the background moves at most, of which three
    quarters are a homography's and a quarter a smooth field's; objects move up to twice as far.
    One sample in eight has no motion but the smooth field's. The views differ in sharpness, noise,
    exposure and colour as a wide and a tele photo do. shrinks: a photograph's sides are divided by
    one of these, as far as it is large enough: a large one shows little detail in a patch.
    """

    photographs: Photographs
    patch: tuple[int, int] = (256, 256)
    reach: float = 12.0
    seed: int = 0
    shrinks: tuple[int, ...] = (1, 2, 4)

    def __len__(self) -> int:
        return len(self.photographs)

    def sample(self, index: int, epoch_seed: int) -> FlowInputs:
        """A pair of views of photograph `index`, as a batch of 1."""
        random = np.random.default_rng((self.seed, epoch_seed, index))
        height, width = self.patch
        rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
        still = random.random() < 0.125
        flow = _smooth(random, (height, width), self.reach / 4)
        if not still:
            flow = flow + _homography(random, rows, columns, 0.75 * self.reach)
        margin = int(np.abs(flow).max()) + 2
        scene = self._cut(random, index, height + 2 * margin, width + 2 * margin)
        ref = scene[margin : margin + height, margin : margin + width]
        lr = _read(scene, columns + flow[0] + margin, rows + flow[1] + margin)
        for _ in range(int(random.integers(0, _OBJECTS + 1))):
            lr, ref, flow = self._object(random, lr, ref, flow)
        views = [_shot(random, view) for view in (lr, ref)]
        box = torch.tensor([[0, 0, height, width]])
        first, second = (torch.from_numpy(view.transpose(2, 0, 1).copy())[None] for view in views)
        return FlowInputs(first, second, box, flow=torch.from_numpy(flow)[None])

    def _cut(self, random: np.random.Generator, index: int, height: int, width: int) -> Floats:
        """A window of a photograph, 0..1, mirrored beyond its edges where it is small."""
        pixels = self.photographs.pixels(index)
        most = min(pixels.shape[0] // height, pixels.shape[1] // width)
        shrink = int(random.choice([n for n in self.shrinks if n <= most] or [1]))
        whole = shrink * height, shrink * width
        top = int(random.integers(max(1, pixels.shape[0] - whole[0] + 1)))
        left = int(random.integers(max(1, pixels.shape[1] - whole[1] + 1)))
        part = pixels[top : top + whole[0], left : left + whole[1]]
        if shrink > 1:
            part = cv2.resize(part, (width, height), interpolation=cv2.INTER_AREA)
        below, beside = height - part.shape[0], width - part.shape[1]
        part = cv2.copyMakeBorder(
            np.ascontiguousarray(part), 0, below, 0, beside, cv2.BORDER_REFLECT
        )
        window: Floats = part.astype(np.float32) / 255
        return window

    def _object(
        self, random: np.random.Generator, lr: Floats, ref: Floats, flow: Floats
    ) -> tuple[Floats, Floats, Floats]:
        """Lay something before both views that moves on its own, and hides what lies behind it."""
        height, width = self.patch
        rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
        turn, grow = random.uniform(-0.05, 0.05), random.uniform(-0.03, 0.03)
        shift = random.uniform(-1.5 * self.reach, 1.5 * self.reach, 2)
        y, x = rows - height / 2, columns - width / 2
        own = np.stack([grow * x - turn * y + shift[0], turn * x + grow * y + shift[1]])
        own = own.astype(np.float32)
        # A blob: where a smooth field is high, near a place.
        cells = _smooth(random, (height, width), 1.0)[0]
        middle = random.uniform(0.2, 0.8, 2) * (height, width)
        size = random.uniform(0.08, 0.25) * min(height, width)
        distance = np.hypot(rows - middle[0], columns - middle[1]) / size
        # Its edge is about two pixels wide, as an edge of a photo is.
        shape = np.clip(size / 2 * (1 + 0.8 * cells - distance), 0, 1).astype(np.float32)
        other = int(random.integers(len(self.photographs)))
        texture = self._cut(random, other, height, width)
        there = shape[:, :, None]
        ref = there * texture + (1 - there) * ref
        x, y = columns + own[0], rows + own[1]
        here = _read(shape, x, y, cv2.BORDER_CONSTANT)
        moved = _read(texture, x, y)
        lr = here[:, :, None] * moved + (1 - here[:, :, None]) * lr
        return lr, ref, np.where(here > 0.5, own, flow)


def _homography(random: np.random.Generator, rows: Floats, columns: Floats, reach: float) -> Floats:
    """The flow (2, H, W) of a homography that moves the corners by up to `reach` pixels."""
    height, width = rows.shape
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    # All corners together, and each a little by itself.
    moves = random.uniform(-0.6, 0.6, (1, 2)) + random.uniform(-0.4, 0.4, (4, 2))
    matrix = cv2.getPerspectiveTransform(corners, corners + np.float32(reach * moves))
    places = np.stack([columns, rows], axis=2).reshape(1, -1, 2)
    moved = cv2.perspectiveTransform(places, matrix).reshape(height, width, 2)
    flow: Floats = np.stack([moved[:, :, 0] - columns, moved[:, :, 1] - rows])
    return flow


def _smooth(random: np.random.Generator, size: tuple[int, int], reach: float) -> Floats:
    """A smooth random flow (2, H, W) within `reach`, about 0."""
    cells = int(random.integers(2, 7))
    coarse = random.uniform(-reach, reach, (cells, cells, 2)).astype(np.float32)
    fine = cv2.resize(coarse, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)
    fine = cv2.GaussianBlur(fine, (0, 0), max(size) / (4 * cells))
    flow: Floats = np.ascontiguousarray(fine.transpose(2, 0, 1))
    return flow


def _read(image: Floats, x: Floats, y: Floats, border: int = cv2.BORDER_REFLECT) -> Floats:
    read: Floats = cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=border)
    return read


def _shot(random: np.random.Generator, view: Floats) -> Floats:
    """As another lens would show it: softer, brighter or darker, tinted, noisy; 0..1."""
    sigma = random.uniform(0, 1.2)
    if sigma > 0.3:
        view = cv2.GaussianBlur(view, (0, 0), sigma)
    gains = random.uniform(0.85, 1.15) * random.uniform(0.95, 1.05, 3)
    view = np.clip(view, 0, 1) ** random.uniform(0.85, 1.2) * gains.astype(np.float32)
    noise = random.uniform(0, 0.02) * random.standard_normal(view.shape, np.float32)
    shot: Floats = np.clip(view + noise, 0, 1).astype(np.float32)
    return shot
