"""Triplets (LR, Ref, HR) -> the patches that a network is trained on, as its paper cuts them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

import cv2
import numpy as np
import numpy.typing as npt
import torch

from dualsr_cli.alignment import Box
from dualsr_cli.networks import Inputs
from dualsr_cli.training.recipe import Data

Bytes = npt.NDArray[np.uint8]
Rgb = npt.NDArray[np.uint8]  # (height, width, 3)
Place = npt.NDArray[np.int64]  # row and column of a patch's first pixel

ON = 0.5
"""Share of the samples "around" whose key patch is the LR patch itself."""


class Case(Protocol):
    """A triplet; s is the scale, all arrays are uint8 RGB.

    lr: (H, W, 3). ref: (s h, s w, 3), laid on the part of lr in `box`: top, left, bottom, right in
    LR pixels, (h, w) large; or several like it, side by side as (s h, s w, 3 n). hr: (s H, s W, 3),
    or None where there is no truth.
    """

    @property
    def lr(self) -> Rgb: ...
    @property
    def ref(self) -> Rgb: ...
    @property
    def hr(self) -> Rgb | None: ...
    @property
    def box(self) -> Box: ...


@dataclass(frozen=True, eq=False)
class Triplet:
    """A `Case` in memory. confidence: (s h, s w) bytes, of the alignment that laid `ref`.

    center: (h, w, 3), what `ref` shows at the resolution of lr, where that is another photo, which
    has no place on lr (CUFED5); `box` is all of it then.
    """

    lr: Rgb
    ref: Rgb
    box: Box
    hr: Rgb | None = None
    confidence: Bytes | None = None
    center: Rgb | None = None


def scale_of(case: Case) -> int:
    """Pixels of ref for each of lr. Raises ValueError for sizes that do not fit."""
    top, left, bottom, right = case.box
    height, width = _seen(case).shape[:2]
    s: int = case.ref.shape[0] // max(bottom - top, 1)
    fits = case.ref.shape[:2] == (s * (bottom - top), s * (right - left)) and (
        case.hr is None or case.hr.shape[:2] == tuple(s * side for side in case.lr.shape[:2])
    )
    if not (0 <= top < bottom <= height and 0 <= left < right <= width) or s < 1 or not fits:
        truth = "no truth" if case.hr is None else f"a truth of {case.hr.shape[:2]}"
        raise ValueError(
            f"a reference of {case.ref.shape[:2]} and {truth} do not fit {case.lr.shape[:2]} "
            f"with the box {case.box}"
        )
    return s


class Cutter(Protocol):
    """Takes one patch of a case, as a batch of one. Raises ValueError where it does not fit."""

    def __call__(self, case: Case, rng: np.random.Generator) -> Inputs: ...


@dataclass(frozen=True)
class Nearby:
    """KeDuSR's training: an LR patch anywhere, and a key patch near it that the reference shows.

    patch: height and width of both, LR pixels. offset: least and greatest step from one to the
    other along each axis. border: LR pixels between the key patch and the box's sides. on: share
    of the samples without such a step, whose key patch is the LR patch, or the nearest to it in the
    box. (KeDuSR, published training; DM3Net and SDDuSR alike, all without `on`.)
    """

    patch: tuple[int, int] = (128, 128)
    offset: tuple[int, int] = (32, 96)
    border: int = 10
    on: float = 0.0

    def __call__(self, case: Case, rng: np.random.Generator) -> Inputs:
        place = _place(rng, (0, 0, *case.lr.shape[:2]), self.patch)
        steps = rng.integers(self.offset[0], self.offset[1] + 1, 2) * rng.choice((-1, 1), 2)
        if rng.random() < self.on:
            steps[:] = 0
        top, left, bottom, right = case.box
        inner = top + self.border, left + self.border, bottom - self.border, right - self.border
        return _cut(case, place, _within(place + steps, inner, self.patch), self.patch)


@dataclass(frozen=True)
class Same:
    """DCSR's training: an LR patch that the reference shows too, moved by up to `offset`.

    patch: height and width, LR pixels. offset: least and greatest step down and right of what the
    reference shows; DCSR's 30 pixels of it are 15 of LR. Without, `ref` lies on `lr` and there is
    no `center`. border: LR pixels between patch and the box's sides. Of another photo it is the
    part at the same place. (DCSR, published training.)
    """

    patch: tuple[int, int] = (128, 128)
    offset: tuple[int, int] = (0, 15)
    border: int = 0

    def __call__(self, case: Case, rng: np.random.Generator) -> Inputs:
        top, left, bottom, right = case.box
        inner = top + self.border, left + self.border, bottom - self.border, right - self.border
        height, width = case.lr.shape[:2]
        place = _place(
            rng, (inner[0], inner[1], min(inner[2], height), min(inner[3], width)), self.patch
        )
        step = rng.integers(self.offset[0], self.offset[1] + 1)
        cut = _cut(case, place, _within(place + step, inner, self.patch), self.patch)
        return cut if self.offset[1] else replace(cut, center=None)


@dataclass(frozen=True)
class Laid:
    """As `dualsr upscale` lays it: an LR patch anywhere, `ref` on it as far as it reaches.

    Elsewhere `ref` is the patch itself, enlarged, and `confidence` 0. Of several references the
    first one is laid. patch: height and width, LR pixels. border: between patch and the sides of
    LR. `offset` says nothing here. Raises ValueError for another photo, which lies nowhere.
    """

    patch: tuple[int, int] = (128, 128)
    offset: tuple[int, int] = (0, 0)
    border: int = 0

    def __call__(self, case: Case, rng: np.random.Generator) -> Inputs:
        if _center(case) is not None:
            raise ValueError("its reference is another photo, which has no place on it")
        s, b = scale_of(case), self.border
        bottom, right = np.array(case.lr.shape[:2]) - b
        place = _place(rng, (b, b, int(bottom), int(right)), self.patch)
        lr = window(case.lr, place, self.patch)
        large = s * self.patch[0], s * self.patch[1]
        ref = cv2.resize(np.ascontiguousarray(lr), large[::-1], interpolation=cv2.INTER_CUBIC)
        sure = np.zeros(large, np.uint8)
        # What patch and box have in common, in pixels of LR.
        first = np.maximum(place, case.box[:2])
        common = np.minimum(place + self.patch, case.box[2:]) - first
        if common.min() > 0:
            size = s * int(common[0]), s * int(common[1])
            source, target = s * (first - case.box[:2]), s * (first - place)
            window(ref, target, size)[:] = window(case.ref, source, size)[..., :3]
            known = _confidence(case)
            window(sure, target, size)[:] = 255 if known is None else window(known, source, size)
        return Inputs(
            tensor(lr),
            tensor(ref),
            torch.tensor([[0, 0, *self.patch]]),
            None if case.hr is None else tensor(window(case.hr, s * place, large)),
            confidence=tensor(sure[..., None]),
        )


@dataclass(frozen=True)
class Inside:
    """SelfDZSR's training: the reference is a part of the patch's truth, of 1 / scale its sides.

    patch: height and width, LR pixels. The part lies anywhere in the patch, at least `border` LR
    pixels inside, as in the published training; the paper's equation 2 takes the centre of the
    whole photo. `offset` says nothing here.
    """

    patch: tuple[int, int] = (48, 48)
    offset: tuple[int, int] = (0, 0)
    border: int = 0

    def __call__(self, case: Case, rng: np.random.Generator) -> Inputs:
        if case.hr is None:
            raise ValueError("the reference is cut from the truth, and the case has none")
        s = scale_of(case)
        place = _place(rng, (0, 0, *case.lr.shape[:2]), self.patch)
        hr = window(case.hr, s * place, (s * self.patch[0], s * self.patch[1]))
        box, ref = inside(hr, self.patch, s, self.border, rng)
        return Inputs(tensor(window(case.lr, place, self.patch)), tensor(ref), box, tensor(hr))


def inside(
    hr: Rgb, patch: tuple[int, int], scale: int, border: int, rng: np.random.Generator
) -> tuple[torch.Tensor, Rgb]:
    """A part of a patch's truth, of 1 / scale its sides: box (1, 4) in LR pixels, pixels."""
    height, width = patch
    part = height // scale, width // scale
    corner = _place(rng, (border, border, height - border, width - border), part)
    box = torch.from_numpy(np.concatenate([corner, corner + part])[None])
    return box, window(hr, scale * corner, (scale * part[0], scale * part[1]))


CUTTERS: Mapping[str, Callable[[tuple[int, int], tuple[int, int], int], Cutter]] = {
    "nearby": Nearby,
    "around": partial(Nearby, on=ON),
    "same": Same,
    "laid": Laid,
    "inside": Inside,
}
"""By name: how a cutter is made of patch, offset and border."""


class Patches:
    """A data source: `per_case` patches of each case an epoch, turned and mirrored at random."""

    def __init__(
        self,
        cases: Sequence[Case],
        cutter: Cutter,
        seed: int = 0,
        per_case: int = 50,
        flips: bool = True,
        rotations: Sequence[int] = (0, 90, 180, 270),
    ) -> None:
        """flips: along both axes, each in half of the patches. rotations: degrees to draw from.

        Raises ValueError without cases.
        """
        if not len(cases):
            raise ValueError("there is no case to cut patches from")
        self._cases = cases
        self._cutter = cutter
        self._seed = seed
        self._per_case = per_case
        self._flips = flips
        self._rotations = tuple(rotations)

    def __len__(self) -> int:
        return len(self._cases) * self._per_case

    def sample(self, index: int, epoch_seed: int) -> Inputs:
        """A batch of one, the same for the same seeds and index."""
        rng = np.random.default_rng([self._seed, epoch_seed, index])
        down, across = rng.integers(2, size=2) * self._flips
        quarters = int(rng.choice(self._rotations)) // 90 + 2 * down  # down is across and a half
        case = turned(self._cases[index % len(self._cases)], quarters, bool(down ^ across))
        return self._cutter(case, rng)


def turned(case: Case, quarters: int, mirrored: bool = False) -> Triplet:
    """A case turned to the left by quarters, then mirrored left to right; views, no copies."""
    height, width = _seen(case).shape[:2]
    top, left, bottom, right = case.box
    for _ in range(quarters % 4):  # the right side comes to the top
        top, left, bottom, right = width - right, top, width - left, bottom
        height, width = width, height
    if mirrored:
        left, right = width - right, width - left

    def seen(image: Bytes) -> Bytes:
        view = np.rot90(image, quarters % 4)
        return view[:, ::-1] if mirrored else view

    hr, known, center = case.hr, _confidence(case), _center(case)
    return Triplet(
        seen(case.lr),
        seen(case.ref),
        (top, left, bottom, right),
        None if hr is None else seen(hr),
        None if known is None else seen(known),
        None if center is None else seen(center),
    )


def cut(cases: Sequence[Case], data: Data, seed: int = 0, per_case: int = 50) -> Patches:
    """A source of what a recipe's stage asks for. Raises ValueError for "flow", or without cases.

    The truth is left out of stages that ask for "pairs".
    """
    if data.kind == "flow":
        raise ValueError("flow is learned from views whose flow is known, not from pairs")
    patch, offset = (data.patch[0], data.patch[1]), (data.offset[0], data.offset[1])
    cutter = CUTTERS[data.reference](patch, offset, data.border)
    if data.kind == "pairs":
        cases = [
            Triplet(case.lr, case.ref, case.box, None, _confidence(case), _center(case))
            for case in cases
        ]
    return Patches(cases, cutter, seed, per_case, data.flips, data.rotations)


def tensor(pixels: Bytes) -> torch.Tensor:
    """(h, w, c) bytes to (1, c, h, w) float32 0..1."""
    planes = torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)[None]
    return planes.to(torch.float32, memory_format=torch.contiguous_format).div_(255)


def references(pixels: Bytes) -> tuple[torch.Tensor, ...]:
    """(h, w, 3 n) bytes to n times (1, 3, h, w) float32 0..1."""
    return torch.split(tensor(pixels), 3, dim=1)


def _place(rng: np.random.Generator, box: Box, patch: tuple[int, int]) -> Place:
    """Top and left of a patch somewhere in a box."""
    top, left, _, _ = box
    low, high = np.array([top, left]), _last(box, patch)
    return rng.integers(low, high + 1)


def _within(corner: Place, box: Box, patch: tuple[int, int]) -> Place:
    """The nearest corner at which a patch lies in a box."""
    top, left, _, _ = box
    clamped: Place = np.maximum(np.minimum(corner, _last(box, patch)), (top, left))
    return clamped


def _last(box: Box, patch: tuple[int, int]) -> Place:
    """The last corner at which a patch lies in a box. Raises ValueError where there is none."""
    top, left, bottom, right = box
    if bottom - top < patch[0] or right - left < patch[1]:
        raise ValueError(
            f"patches of {patch[0]} x {patch[1]} pixels do not fit in the "
            f"{bottom - top} x {right - left} that there are"
        )
    return np.array([bottom - patch[0], right - patch[1]])


def _cut(case: Case, place: Place, key: Place, patch: tuple[int, int]) -> Inputs:
    """LR and truth at one place, key patch and reference at another."""
    s = scale_of(case)
    large = s * patch[0], s * patch[1]
    corner = s * (key - case.box[:2])
    known = _confidence(case)
    ref, *more = references(window(case.ref, corner, large))
    sure = torch.ones_like(ref[:, :1])
    box = np.concatenate([key - place, key - place + patch])
    return Inputs(
        tensor(window(case.lr, place, patch)),
        ref,
        torch.from_numpy((box if _center(case) is None else np.zeros_like(box))[None]),
        None if case.hr is None else tensor(window(case.hr, s * place, large)),
        tuple(more),
        center=tensor(window(_seen(case), key, patch)),
        confidence=sure if known is None else tensor(window(known, corner, large)[..., None]),
    )


def _confidence(case: Case) -> Bytes | None:
    return case.confidence if isinstance(case, Triplet) else None


def _center(case: Case) -> Rgb | None:
    return case.center if isinstance(case, Triplet) else None


def _seen(case: Case) -> Rgb:
    """What `box` lies in: LR, or the other photo that the reference is."""
    center = _center(case)
    return case.lr if center is None else center


def window(pixels: Bytes, corner: Place, size: tuple[int, int]) -> Bytes:
    """Height and width `size` from a row and column on, a view."""
    top, left = corner
    return pixels[top : top + size[0], left : left + size[1]]
