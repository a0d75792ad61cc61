"""Whole triplets (LR, Ref, HR) -> the patches that a network is trained on, as its paper cuts them.

Also what a user's own wide and tele photo give without any truth: see `half_size`, `telephoto`
and `real`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from dualsr_cli.alignment import AlignedPair, Box, align
from dualsr_cli.networks import Inputs
from dualsr_cli.photos import Photo
from dualsr_cli.training._simulator_photographs import bytes_of
from dualsr_cli.training.recipe import Data

Rgb = npt.NDArray[np.uint8]  # (height, width, 3)
Place = npt.NDArray[np.int64]  # row and column of a patch's first pixel

_ROWS = 256  # wide rows that are warped at once
_SHRINK = 0.02  # of a footprint, in each step of the search for a part that is all valid


class Case(Protocol):
    """A triplet; s is the scale, all arrays are uint8 RGB.

    lr: (H, W, 3). ref: (s h, s w, 3), laid on the part of lr in `box`: top, left, bottom, right in
    LR pixels, (h, w) large. hr: (s H, s W, 3), or None where there is no truth.
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
    """A `Case` in memory."""

    lr: Rgb
    ref: Rgb
    box: Box
    hr: Rgb | None = None


def scale_of(case: Case) -> int:
    """Pixels of ref for each of lr. Raises ValueError for sizes that do not fit."""
    top, left, bottom, right = case.box
    height, width = case.lr.shape[:2]
    s: int = case.ref.shape[0] // max(bottom - top, 1)
    fits = case.ref.shape[:2] == (s * (bottom - top), s * (right - left)) and (
        case.hr is None or case.hr.shape[:2] == (s * height, s * width)
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
    other along each axis. border: LR pixels between the key patch and the box's sides. (KeDuSR,
    published training; DM3Net and SDDuSR alike.)
    """

    patch: tuple[int, int] = (128, 128)
    offset: tuple[int, int] = (32, 96)
    border: int = 10

    def __call__(self, case: Case, rng: np.random.Generator) -> Inputs:
        place = _place(rng, (0, 0, *case.lr.shape[:2]), self.patch)
        steps = rng.integers(self.offset[0], self.offset[1] + 1, 2) * rng.choice((-1, 1), 2)
        top, left, bottom, right = case.box
        inner = top + self.border, left + self.border, bottom - self.border, right - self.border
        return _cut(case, place, _within(place + steps, inner, self.patch), self.patch)


@dataclass(frozen=True)
class Same:
    """DCSR's training: an LR patch that the reference shows too, moved by up to `offset`.

    patch: height and width, LR pixels. offset: least and greatest step down and right of what the
    reference shows; DCSR's 30 pixels of it are 15 of LR. Without, `ref` lies on `lr` and there is
    no `center`. border: LR pixels between patch and the box's sides. (DCSR, published training.)
    """

    patch: tuple[int, int] = (128, 128)
    offset: tuple[int, int] = (0, 15)
    border: int = 0

    def __call__(self, case: Case, rng: np.random.Generator) -> Inputs:
        top, left, bottom, right = case.box
        inner = top + self.border, left + self.border, bottom - self.border, right - self.border
        place = _place(rng, inner, self.patch)
        step = rng.integers(self.offset[0], self.offset[1] + 1)
        cut = _cut(case, place, _within(place + step, inner, self.patch), self.patch)
        return cut if self.offset[1] else replace(cut, center=None)


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
    "same": Same,
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
    height, width = case.lr.shape[:2]
    top, left, bottom, right = case.box
    for _ in range(quarters % 4):  # the right side comes to the top
        top, left, bottom, right = width - right, top, width - left, bottom
        height, width = width, height
    if mirrored:
        left, right = width - right, width - left

    def seen(image: Rgb) -> Rgb:
        view = np.rot90(image, quarters % 4)
        return view[:, ::-1] if mirrored else view

    hr = None if case.hr is None else seen(case.hr)
    return Triplet(seen(case.lr), seen(case.ref), (top, left, bottom, right), hr)


def cut(cases: Sequence[Case], data: Data, seed: int = 0, per_case: int = 50) -> Patches:
    """A source of what a recipe's stage asks for. Raises ValueError for "flow", or without cases.

    The truth is left out of stages that ask for "pairs".
    """
    if data.kind == "flow":
        raise ValueError("flow is learned from views whose flow is known, not from pairs")
    patch, offset = (data.patch[0], data.patch[1]), (data.offset[0], data.offset[1])
    cutter = CUTTERS[data.reference](patch, offset, data.border)
    if data.kind == "pairs":
        cases = [Triplet(case.lr, case.ref, case.box) for case in cases]
    return Patches(cases, cutter, seed, per_case, data.flips, data.rotations)


def half_size(wide: Photo, tele: Photo) -> Triplet:
    """A user's pair, both photos halved; the wide photo as it is is the truth. Scale 2.

    Raises AlignmentError where the halved tele cannot be laid on the halved wide.
    """
    truth = bytes_of(wide)
    truth = truth[: truth.shape[0] // 2 * 2, : truth.shape[1] // 2 * 2]
    aligned = align(_with(wide, _halved(truth)), _with(tele, _halved(bytes_of(tele))))
    if aligned.swapped:
        raise ValueError(f"{wide.path} shows less of the scene than {tele.path}: exchange them")
    box = aligned.footprint_box()
    return Triplet(bytes_of(aligned.wide), warped(aligned, box, 2), box, truth)


def telephoto(aligned: AlignedPair, scale: int) -> Triplet:
    """SelfDZSR's preparation of a pair, for any ratio: the tele photo is the truth.

    LR is the part of the wide photo that the tele shows; the truth is the tele photo in the wide's
    colours, warped on it by homography, mesh and flow; the reference is the truth's centre, one
    `scale`-th of its sides. (Section 4.1.) Raises ValueError where they hardly overlap.
    """
    top, left, bottom, right = _all_valid(aligned)
    lr = bytes_of(aligned.wide)[top:bottom, left:right]
    hr = warped(aligned, (top, left, bottom, right), scale)
    height, width = (bottom - top) // scale, (right - left) // scale
    y, x = (bottom - top - height) // 2, (right - left - width) // 2
    ref = hr[scale * y : scale * (y + height), scale * x : scale * (x + width)]
    return Triplet(lr, ref, (y, x, y + height, x + width), hr)


def real(aligned: AlignedPair, scale: int) -> Triplet:
    """A pair at its own size, without truth: what DCSR's adaptation (SRA, equation 7) trains on."""
    box = aligned.footprint_box()
    return Triplet(bytes_of(aligned.wide), warped(aligned, box, scale), box)


def warped(aligned: AlignedPair, box: Box, scale: int) -> Rgb:
    """The tele photo on `box` of the wide, (s h, s w, 3), in the wide photo's tone."""
    top, left, bottom, right = box
    columns = left + (np.arange(scale * (right - left)) + 0.5) / scale - 0.5
    parts = []
    for first in range(top, bottom, _ROWS):
        count = min(_ROWS, bottom - first)
        rows = first + (np.arange(scale * count) + 0.5) / scale - 0.5
        colours, _ = aligned.tele_at(rows, columns)
        parts.append(np.clip(np.rint(colours * 255), 0, 255).astype(np.uint8))
    return np.concatenate(parts)


def tensor(pixels: Rgb) -> torch.Tensor:
    """(h, w, 3) bytes to (1, 3, h, w) float32 0..1."""
    planes = torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)[None]
    return planes.to(torch.float32, memory_format=torch.contiguous_format).div_(255)


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
    return Inputs(
        tensor(window(case.lr, place, patch)),
        tensor(window(case.ref, s * (key - case.box[:2]), large)),
        torch.tensor([[0, 0, *patch]]),
        None if case.hr is None else tensor(window(case.hr, s * place, large)),
        center=tensor(window(case.lr, key, patch)),
    )


def window(pixels: Rgb, corner: Place, size: tuple[int, int]) -> Rgb:
    """Height and width `size` from a row and column on, a view."""
    top, left = corner
    return pixels[top : top + size[0], left : left + size[1]]


def _all_valid(aligned: AlignedPair) -> Box:
    """A part of the footprint's box, about its centre, that lies in the tele photo wholly."""
    top, left, bottom, right = aligned.footprint_box()
    for step in range(round(0.4 / _SHRINK)):
        down = round((bottom - top) * step * _SHRINK)
        across = round((right - left) * step * _SHRINK)
        box = top + down, left + across, bottom - down, right - across
        rows = np.arange(box[0], box[2], dtype=float)
        columns = np.arange(box[1], box[3], dtype=float)
        if aligned.valid_at(rows, columns).min() == 1:
            return box
    raise ValueError(f"{aligned.tele.path} has no upright part inside {aligned.wide.path}")


def _halved(pixels: Rgb) -> Rgb:
    """By Pillow's bicubic, which is antialiased: the half-size protocol's reduction."""
    size = pixels.shape[1] // 2, pixels.shape[0] // 2
    image = Image.fromarray(np.ascontiguousarray(pixels[: size[1] * 2, : size[0] * 2]))
    return np.asarray(image.resize(size, Image.Resampling.BICUBIC))


def _with(photo: Photo, pixels: Rgb) -> Photo:
    height, width = pixels.shape[:2]
    return replace(
        photo,
        pixels=np.ascontiguousarray(pixels),
        header=replace(photo.header, width=width, height=height, bit_depth=8),
    )
