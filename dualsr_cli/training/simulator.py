"""Sharp photographs -> what a dual camera would have made of them, with the truth, for training.

A patch of a photograph is the truth at the result's resolution, in the wide photo's geometry and
colours. The wide photo's patch is a shot of it through a wide lens, or what a wide lens really
showed where somebody took both; the reference is another shot of it, laid on the wide photo as
imperfectly as alignments do. `simulate_pair` makes two whole photos instead, for pipelines that
align for themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt
import torch

from dualsr_cli.networks import Inputs
from dualsr_cli.training import _simulator_camera as camera
from dualsr_cli.training import _simulator_view as view
from dualsr_cli.training._simulator_camera import CameraSettings, Floats, Range, Rgb
from dualsr_cli.training._simulator_pair import PairSettings, SimulatedPair, simulate_pair
from dualsr_cli.training._simulator_photographs import Photographs, load_photographs
from dualsr_cli.training._simulator_view import ViewSettings
from dualsr_cli.training.patches import ON, inside, tensor, window
from dualsr_cli.training.recipe import Data

__all__ = [
    "CameraSettings",
    "PairSettings",
    "Photographs",
    "Simulated",
    "SimulatedPair",
    "Simulator",
    "SimulatorSettings",
    "ViewSettings",
    "load_photographs",
    "simulate_pair",
    "simulated",
]

Layout = Literal["on", "beside", "inside"]
_LAYOUTS: Mapping[str, Layout] = {
    "nearby": "beside",
    "around": "beside",
    "same": "beside",
    "laid": "on",
    "inside": "inside",
}
"""By what a recipe calls them."""

_WIDES: Mapping[str, Mapping[str, Any]] = {
    "simulated": {},
    "reduced": {"plain": 1.0},
    "blurred": {"plain": 0.0, "lens": (0.15, 0.8), "bare": 0.5},
    "sharp": {
        "plain": 0.7,
        "lens": (0.0, 0.35),
        "fringe": (-0.1, 0.1),
        "shake": (0.0, 0.3),
        "density": (1.0, 1.15),
        "mosaic": 0.0,
        "denoise": 0.1,
        "sharpen": (0.0, 0.3),
    },
}
"""How the wide camera differs by what a recipe says of it."""

_ALIKE: Mapping[str, Any] = {
    "outside": 0.0,
    "border": 0.0,
    "gain": 0.01,
    "unmatched": 0.0,
    "defocus": 0.0,
    "useless": 0.0,
    "spoilt": 0.0,
}
"""How another frame of a clip is seen: moved, and else as its neighbour is."""

_DOUBTFUL = 1 / 255  # confidence of what the tele shows, but not surely there
_MARGIN = 16  # wide pixels that a shot sees beside its patch, on both sides together
_DOUBT = (0.03, 0.6)  # of a wide pixel's error, squared, that flow forth and back disagree about
_FAR = 3.0  # wide pixels by which flow misses in a photo of another scene


@dataclass(frozen=True)
class SimulatorSettings:
    """What pairs are drawn from.

    scale: pixels of the result for each wide pixel. patch: height and width of a wide patch. zoom:
    tele pixels for each wide pixel, drawn with even logarithms. layout: "on", the reference lies on
    the patch, as `dualsr upscale` lays it; "beside", it lies on a patch at an `offset` (least and
    most wide pixels along both axes), as KeDuSR trains; "inside", it is a part of the truth, as
    SelfDZSR trains. on: share of the samples "beside" that have no offset. halved: share of the
    patches that are cut from halved photographs. taken: share of the plain wide photos whose truth
    is a shot by `truth` at the result's resolution, less sharp than the tele photo, as where photos
    are halved to measure on. candidates: of so many places that are drawn for a patch the
    one with the most detail is taken. references: of one scene, each moved on its own; what is told
    of their alignment is the first one's.
    """

    scale: int = 2
    patch: tuple[int, int] = (128, 128)
    zoom: Range = (1.5, 5.0)
    layout: Layout = "on"
    offset: tuple[int, int] = (32, 96)
    on: float = 0.0
    halved: float = 0.5
    taken: float = 0.8
    candidates: int = 2
    references: int = 1
    # Three in four shots are photos merely reduced, as protocols reduce them. The lenses of the
    # others blur more than phones' photos are blurred after reducing them: else nothing would
    # tell whether a slightly soft photo has lost its detail to a lens or to its own truth.
    wide: CameraSettings = field(
        default_factory=partial(CameraSettings, plain=0.75, lens=(0.3, 0.6))
    )
    truth: CameraSettings = field(
        default_factory=partial(CameraSettings, plain=0.0, lens=(0.2, 1.0))
    )
    tele: CameraSettings = field(default_factory=partial(CameraSettings, plain=0.5))
    view: ViewSettings = field(default_factory=ViewSettings)

    def __post_init__(self) -> None:
        """Raises ValueError for what makes no sense."""
        if self.scale not in (2, 3, 4):
            raise ValueError(f"scale {self.scale} is not 2, 3 or 4")
        if min(self.patch) < 16:
            raise ValueError(f"patches of {self.patch} pixels are smaller than 16")
        if self.layout not in ("on", "beside", "inside"):
            raise ValueError(f"layout {self.layout!r} is neither 'on', 'beside' nor 'inside'")
        if not 1 <= self.zoom[0] <= self.zoom[1]:
            raise ValueError(f"zoom {self.zoom} is not a range above 1")

    @property
    def side(self) -> int:
        """Pixels that a photograph needs on its short side."""
        reach = self.offset[1] if self.layout == "beside" else 0
        return (max(self.patch) + reach + _MARGIN) * self.scale


@dataclass(frozen=True, eq=False)
class Simulated:
    """One sample; patches are (h, w), the scale is s.

    inputs: a batch of one, with the truth. As in `dualsr upscale`, `ref` is the enlarged wide photo
    and `confidence` 0 where the tele photo does not reach. valid, confidence: (h, w) float32 0..1
    on the wide pixels under `ref`, as `AlignedPair` tells them. displacement: (h, w, 2) float32, x
    and y in pixels of the result: `ref` shows at a place what belongs to the place moved by it.
    useful: False where it shows another scene or nothing.
    """

    inputs: Inputs
    valid: Floats
    confidence: Floats
    displacement: Floats
    useful: bool


class Simulator:
    """A data source: `length` samples an epoch, each the same for the same seeds and index."""

    def __init__(
        self,
        photographs: Photographs,
        settings: SimulatorSettings = SimulatorSettings(),
        seed: int = 0,
        length: int = 1000,
    ) -> None:
        """Raises ValueError where a photograph is too small for the patches, or its wide photo is
        not of its size.
        """
        self.settings = settings
        self._photographs = photographs
        self._seed = seed
        self._length = length
        for index, name in enumerate(photographs.names):
            height, width = photographs.pixels(index).shape[:2]
            if min(height, width) < settings.side:
                raise ValueError(
                    f"{name} has {width} x {height} pixels: patches of {settings.patch} at scale "
                    f"{settings.scale} need {settings.side} a side"
                )
            wide = photographs.wide(index)
            if wide is not None:
                size = settings.scale * wide.shape[0], settings.scale * wide.shape[1]
                if size != (height, width):
                    raise ValueError(f"{name} is not {settings.scale} times its wide photo")

    def __len__(self) -> int:
        return self._length

    def sample(self, index: int, epoch_seed: int) -> Inputs:
        """A batch of one, on the CPU."""
        return self.simulate(index, epoch_seed).inputs

    def simulate(self, index: int, epoch_seed: int) -> Simulated:
        """A sample with what an alignment would tell of it."""
        rng = np.random.default_rng([self._seed, epoch_seed, index])
        settings = self.settings
        s, size = settings.scale, settings.patch
        # LR patch and key patch in the region that both lie in; mostly one and the same.
        steps, on = np.zeros(2, np.int64), settings.layout == "on"
        if settings.layout == "beside":
            low, high = settings.offset
            on = bool(rng.random() < settings.on)
            if not on:
                steps = rng.integers(low, high + 1, 2) * rng.choice((-1, 1), 2)
        # The place in the margin is drawn, so that JPEG's blocks lie anyhow.
        inset = rng.integers(_MARGIN // 4, _MARGIN - _MARGIN // 4 + 1, 2)
        patch, key = np.maximum(-steps, 0) + inset, np.maximum(steps, 0) + inset
        scene, wide = self._scene(rng, np.array(size) + np.abs(steps))
        truth = scene
        if wide is None:
            wide, truth = self._wide(rng, scene)
        lr, under = window(wide, patch, size), window(wide, key, size)
        hr = window(truth, s * patch, (s * size[0], s * size[1]))
        if settings.layout == "inside":
            box, part = inside(hr, size, s, 0, rng)
            seen = np.ones(part.shape[:2], np.float32)[::s, ::s]
            still = np.zeros((*seen.shape, 2), np.float32)
            inputs = Inputs(tensor(lr), tensor(part), box, tensor(hr))
            return Simulated(inputs, seen, seen, still, True)

        moved = view.displacement(settings.view, rng, size, s)
        valid = np.ones(size, np.float32)
        if on:
            valid = view.validity(settings.view, rng, size)
        useful = bool(rng.random() >= settings.view.useless)
        # Of the region no more than what lies about the key patch.
        shown = window(scene, s * (key - inset), (s * (size[0] + _MARGIN), s * (size[1] + _MARGIN)))
        shown = np.ascontiguousarray(shown)
        ref = self._reference(rng, shown, s * inset, moved, useful)
        more = []
        for _ in range(settings.references - 1):
            other = view.displacement(settings.view, rng, size, s)
            more.append(_batch(self._reference(rng, shown, s * inset, other, useful)))
        confidence = self._confidence(rng, under, ref, moved, valid, useful)
        sure = cv2.resize(np.maximum(confidence, _DOUBTFUL), ref.shape[1::-1])
        if valid.min() < 1:
            fine = cv2.resize(valid, ref.shape[1::-1])
            filling = cv2.resize(under, ref.shape[1::-1], interpolation=cv2.INTER_CUBIC)
            beyond = filling.astype(np.float32) * np.float32(1 / 255)
            ref = beyond + fine[..., None] * (ref - beyond)
            sure = sure * fine
        inputs = Inputs(
            tensor(lr),
            _batch(ref),
            torch.from_numpy(np.concatenate([steps, steps + size])[None]),
            tensor(hr),
            tuple(more),
            center=tensor(under) if settings.layout == "beside" else None,
            confidence=torch.from_numpy(sure)[None, None],
        )
        return Simulated(inputs, valid, confidence, moved, useful)

    def _scene(
        self, rng: np.random.Generator, region: npt.NDArray[np.int64]
    ) -> tuple[Rgb, Rgb | None]:
        """A turned or mirrored piece of a photograph, `region` and margin at the result's scale,
        and of its wide photo, if there is one.
        """
        s = self.settings.scale
        index = int(rng.integers(len(self._photographs)))
        turn = int(rng.integers(8))
        size = (region + _MARGIN) * s
        height, width = size[::-1] if turn % 2 else size
        wide = self._photographs.wide(index)
        level = int(rng.random() < self.settings.halved) if wide is None else 0
        pixels = self._photographs.pixels(index, level)
        if min(pixels.shape[0] - height, pixels.shape[1] - width) < 0:
            pixels = self._photographs.pixels(index)
        step = 1 if wide is None else s  # the wide photo's pixels are not cut through
        places = [
            (
                step * int(rng.integers((pixels.shape[0] - height) // step + 1)),
                step * int(rng.integers((pixels.shape[1] - width) // step + 1)),
            )
            for _ in range(self.settings.candidates)
        ]
        pieces = [pixels[top : top + height, left : left + width] for top, left in places]
        best = max(range(len(pieces)), key=lambda n: _detail(pieces[n])) if len(pieces) > 1 else 0
        if wide is None:
            return _turned(pieces[best], turn), None
        top, left = (edge // s for edge in places[best])
        part = wide[top : top + height // s, left : left + width // s]
        return _turned(pieces[best], turn), _turned(part, turn)

    def _wide(self, rng: np.random.Generator, scene: Rgb) -> tuple[Rgb, Rgb]:
        """The wide photo's file of the whole scene, and the truth."""
        s, settings = self.settings.scale, self.settings.wide
        shot = camera.draw(settings, rng)
        size = scene.shape[0] // s, scene.shape[1] // s
        if not shot.plain:
            seen = camera.blurred(camera.linear(scene), shot, _field(rng), s)
            return camera.exposed(seen, size, shot, 1.0, rng), scene
        truth = scene
        if rng.random() < self.settings.taken:
            shot = camera.draw(self.settings.truth, rng)
            seen = camera.blurred(camera.linear(scene), shot, _field(rng), 1)
            truth = camera.exposed(seen, scene.shape[:2], shot, 1.0, rng)
        return camera.resized(truth, size), truth

    def _reference(
        self,
        rng: np.random.Generator,
        scene: Rgb,
        corner: npt.NDArray[np.int64],
        moved: Floats,
        useful: bool,
    ) -> Floats:
        """The tele photo on the wide one: (s h, s w, 3), 0..1 but for the ends of its tones.

        corner: of what it lies on, in pixels of the scene.
        """
        settings = self.settings
        s = settings.scale
        height, width = s * settings.patch[0], s * settings.patch[1]
        shot = camera.draw(settings.tele, rng)
        softening = 0.0
        if rng.random() < settings.view.defocus:
            softening = float(rng.uniform(*settings.view.blur))
        if not useful:
            kind = rng.integers(3)
            if kind == 0:
                scene, _ = self._scene(rng, np.array(settings.patch))
            elif kind == 1:
                return np.full((height, width, 3), rng.uniform(0, 0.03), np.float32)
            else:
                softening = float(rng.uniform(3, 8))
        zoom = float(np.exp(rng.uniform(*np.log(settings.zoom))))
        share = min(1.0, zoom / s)  # tele pixels kept, for each of the result
        size = round(scene.shape[0] * share), round(scene.shape[1] * share)
        if shot.plain and not softening:
            tele = camera.resized(scene, size)
        else:
            light = camera.linear(scene)
            if softening:
                light = cv2.GaussianBlur(light, (0, 0), softening)
            seen = camera.blurred(light, shot, _field(rng), s / zoom)
            # Where the tele has more pixels than the result, each is the mean of several.
            many = max(1.0, zoom / s)
            shot = replace(shot, density=min(1.0, shot.density * many))
            tele = camera.exposed(seen, size, shot, 1 / many, rng)
        if rng.random() < settings.view.spoilt:
            tele = view.spoilt(settings.view, rng, tele)
        fine = cv2.resize(moved, (width, height), interpolation=cv2.INTER_LINEAR)
        rate = np.array([tele.shape[1] / scene.shape[1], tele.shape[0] / scene.shape[0]])
        x = (np.arange(width) + 0.5 + corner[1]) * rate[0] - 0.5
        y = (np.arange(height) + 0.5 + corner[0]) * rate[1] - 0.5
        laid = cv2.remap(
            tele,
            fine[..., 0] * np.float32(rate[0]) + x.astype(np.float32),
            fine[..., 1] * np.float32(rate[1]) + y.astype(np.float32)[:, None],
            cv2.INTER_CUBIC,
            borderMode=cv2.BORDER_REFLECT_101,
        )
        return view.toned(settings.view, rng, laid)

    def _confidence(
        self,
        rng: np.random.Generator,
        under: Rgb,
        ref: Floats,
        moved: Floats,
        valid: Floats,
        useful: bool,
    ) -> Floats:
        size = self.settings.patch
        small = cv2.resize(ref, size[::-1], interpolation=cv2.INTER_AREA)
        seen: Floats = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY) * np.float32(255)
        errors = moved / np.float32(self.settings.scale)
        doubt = np.zeros(size, np.float32)
        if rng.random() >= self.settings.view.overlooked:
            known = 1 + view.smooth(rng, size, 16)[..., 0]
            doubt = np.float32(np.exp(rng.uniform(*np.log(_DOUBT)))) * np.maximum(known, 0)
        if not useful:
            errors = errors + np.float32(_FAR) * view.smooth(rng, size, 12, 2)
        return view.confidence(view.brightness(under), seen, errors, valid, doubt)


def simulated(
    photographs: Photographs,
    data: Data,
    settings: SimulatorSettings = SimulatorSettings(),
    seed: int = 0,
    length: int = 1000,
) -> Simulator:
    """A source of what a recipe's stage asks for; all else by `settings`.

    Raises ValueError where a photograph is too small, and for stages of another kind.
    """
    if data.kind != "triplets":
        raise ValueError(f"simulated samples are triplets, not {data.kind}")
    still = data.reference == "same" and data.offset[1] == 0
    if data.tele == "frame":
        settings = replace(
            settings,
            zoom=(settings.scale, settings.scale),
            taken=0.0,
            references=data.frames,
            tele=replace(settings.tele, plain=1.0),
            view=replace(settings.view, **_ALIKE),
        )
    return Simulator(
        photographs,
        replace(
            settings,
            patch=(data.patch[0], data.patch[1]),
            wide=replace(settings.wide, **_WIDES[data.wide]),
            layout="on" if still else _LAYOUTS[data.reference],
            offset=(data.offset[0], data.offset[1]),
            on=ON if data.reference == "around" else 0.0,
        ),
        seed,
        length,
    )


def _batch(ref: Floats) -> torch.Tensor:
    """(h, w, 3) to (1, 3, h, w) in 0..1."""
    return torch.from_numpy(ref).permute(2, 0, 1)[None].contiguous().clamp_(0, 1)


def _turned(piece: Rgb, turn: int) -> Rgb:
    """A piece in one of the eight ways that it can lie."""
    seen = np.rot90(piece, turn)
    return np.ascontiguousarray(seen[:, ::-1] if turn >= 4 else seen)


def _detail(piece: Rgb) -> float:
    """Mean step between neighbours, in some rows: enough to tell sky from leaves."""
    rows = piece[::8, :, 1].astype(np.int16)
    return float(np.abs(rows[:, 1:] - rows[:, :-1]).mean())


def _field(rng: np.random.Generator) -> tuple[float, float]:
    """A place in the picture, even over its area: x and y, at most 1 from the centre."""
    distance, angle = np.sqrt(rng.random()), rng.uniform(0, 2 * np.pi)
    return float(distance * np.cos(angle)), float(distance * np.sin(angle))
