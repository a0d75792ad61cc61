"""Clip pairs whose truth is known: photographs that move, seen by a fast and by a sharp camera.

A scene is a stack of layers, each a photograph under a homography that changes with time. A frame
is rendered at twice its sides and averaged: motion is right to a 64th of a pixel.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

Rgb = npt.NDArray[np.uint8]  # (h, w, 3)
Floats = npt.NDArray[np.float32]
Matrix = npt.NDArray[np.float64]

RATE = 240  # fast frames per second
EVERY = 8  # fast frames per sharp frame
FINER = 2
"""Pixels of a photograph, and rendered ones, per pixel of the truth, along both axes."""


@dataclass(frozen=True)
class Picture:
    """A frame: pixels (h, w, 3) RGB, and seconds."""

    pixels: Rgb
    time: Fraction


@dataclass(frozen=True, eq=False)
class Layer:
    """A photograph in motion. place: (3, 3) from pixels of the truth to the photograph's, at a
    number of fast frames since the start. near: how much more it shifts between the two cameras
    than the background does, in pixels of the truth. mask: (h, w) 0..1, of the photograph.
    """

    photograph: Rgb
    place: Callable[[float], Matrix]
    near: float = 0.0
    mask: Floats | None = None


@dataclass(frozen=True, eq=False)
class Scene:
    """Layers from back to front, seen at `width` x `height` pixels.

    view: (3, 3) from the sharp camera's pixels to the fast one's, both at the truth's density;
    tone: gain of the three colours, and exponent, of the sharp camera. finer: FINER, or 1 where
    speed alone matters.
    """

    layers: Sequence[Layer]
    width: int
    height: int
    view: Matrix
    tone: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)
    finer: int = FINER

    def truth(self, frame: float) -> Rgb:
        """What a fast camera as sharp as the other would have seen."""
        return _rounded(self._seen(frame, np.eye(3), 0.0))

    def sharp(self, frame: float) -> Rgb:
        """What the sharp camera sees."""
        seen = self._seen(frame, self.view, 1.0).clip(0, 255) / 255
        return _rounded(255 * np.array(self.tone[:3], np.float32) * seen ** self.tone[3])

    def _seen(self, frame: float, view: Matrix, baseline: float) -> Floats:
        picture = np.zeros((self.finer * self.height, self.finer * self.width, 3), np.float32)
        step = 1 / self.finer
        coarser = np.array([[step, 0, step / 2 - 0.5], [0, step, step / 2 - 0.5], [0, 0, 1]])
        for layer in self.layers:
            aside = np.array([[1, 0, baseline * layer.near], [0, 1, 0], [0, 0, 1]])
            matrix = layer.place(frame) @ aside @ view @ coarser
            size = picture.shape[1], picture.shape[0]
            seen = _warped(layer.photograph, matrix, size, cv2.BORDER_REFLECT).astype(np.float32)
            if layer.mask is None:
                picture = seen
            else:
                share = _warped(layer.mask, matrix, size, cv2.BORDER_CONSTANT)[..., None]
                picture += share * (seen - picture)
        return cv2.resize(picture, (self.width, self.height), interpolation=cv2.INTER_AREA)


def _warped(image: npt.NDArray, matrix: Matrix, size: tuple[int, int], border: int) -> npt.NDArray:
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    return cv2.warpPerspective(image, matrix, size, flags=flags, borderMode=border)


def _rounded(values: Floats) -> Rgb:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


@dataclass(frozen=True)
class Camera:
    """The fast one: reduces the truth by `factor`, adds Gaussian noise of a standard deviation
    (of 0..1), and compresses each frame as JPEG of a quality (0: not at all).
    """

    factor: int = 4
    noise: float = 0.0
    quality: int = 0

    def shot(self, truth: Rgb, seed: int) -> Rgb:
        size = truth.shape[1] // self.factor, truth.shape[0] // self.factor
        small = np.asarray(Image.fromarray(truth).resize(size, Image.Resampling.BICUBIC))
        if self.noise:
            random = np.random.default_rng(seed)
            small = _rounded(small + random.normal(0, 255 * self.noise, small.shape))
        if not self.quality:
            return small
        with io.BytesIO() as file:
            Image.fromarray(small).save(file, "JPEG", quality=self.quality)
            return np.asarray(Image.open(file))


def fast_frames(scene: Scene, camera: Camera, start: int, stop: int) -> Iterator[Picture]:
    for number in range(start, stop):
        yield Picture(camera.shot(scene.truth(number), number), Fraction(number, RATE))


def sharp_frames(scene: Scene, start: int, stop: int) -> Iterator[Picture]:
    for number in range(start, stop):
        yield Picture(scene.sharp(number * EVERY), Fraction(number * EVERY, RATE))


def _moved(x: float, y: float, angle: float = 0.0, zoom: float = 1.0) -> Matrix:
    turn = zoom * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.array([[*turn[0], x], [*turn[1], y], [0, 0, 1]])


def _path(photograph: Rgb, size: tuple[int, int], velocity: tuple[float, float],
          spin: float = 0.0, zoom: float = 0.0) -> Callable[[float], Matrix]:  # fmt: skip
    """From the middle of the photograph on; velocity in pixels, spin in degrees, a frame."""
    width, height = size
    middle = _moved(photograph.shape[1] / 2, photograph.shape[0] / 2)

    def place(frame: float) -> Matrix:
        # A hand never moves evenly.
        sway = 1.5 * np.sin(frame / 3.1), 1.2 * np.cos(frame / 2.3)
        turned = _moved(0, 0, np.radians(spin * frame), FINER * (1 - zoom) ** frame)
        shift = velocity[0] * frame + sway[0], velocity[1] * frame + sway[1]
        return middle @ turned @ _moved(shift[0] - width / 2, shift[1] - height / 2)

    return place


def _island(shape: tuple[int, int], seed: int, radius: float) -> Floats:
    """A ragged blob in the middle, soft over two pixels."""
    random = np.random.default_rng(seed)
    height, width = shape
    rough = cv2.resize(random.normal(0, 1, (24, 24)).astype(np.float32), (width, height),
                       interpolation=cv2.INTER_CUBIC)  # fmt: skip
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    distance = np.hypot(x - width / 2, y - height / 2) / radius
    blob = (distance + 0.15 * rough < 1).astype(np.float32)
    return cv2.GaussianBlur(blob, (0, 0), 2.0)


def _forest(shape: tuple[int, int], seed: int) -> Floats:
    """Ragged stems from top to bottom, a third of the width."""
    random = np.random.default_rng(seed)
    height, width = shape
    rough = cv2.resize(random.normal(0, 1, (6, 14)).astype(np.float32), (width, height),
                       interpolation=cv2.INTER_CUBIC)  # fmt: skip
    return cv2.GaussianBlur((rough > 0.6).astype(np.float32), (0, 0), 2.0)


VIEW = _moved(9.0, -6.0, np.radians(0.6), 1.02)
TONE = (0.92, 1.0, 1.05, 1.1)


def scene(kind: str, first: Rgb, second: Rgb, width: int, height: int, *, apart: bool) -> Scene:
    """A scene of a kind of KINDS. apart: the cameras stand side by side and differ in tone."""
    size = width, height
    layers = KINDS[kind](first, second, size)
    if apart:
        return Scene(layers, width, height, VIEW, TONE)
    return Scene([Layer(one.photograph, one.place, 0.0, one.mask) for one in layers],
                 width, height, np.eye(3))  # fmt: skip


def _pan(first: Rgb, second: Rgb, size: tuple[int, int]) -> list[Layer]:
    return [Layer(first, _path(first, size, (5.3, 1.7)))]


def _zoom(first: Rgb, second: Rgb, size: tuple[int, int]) -> list[Layer]:
    return [Layer(first, _path(first, size, (1.1, -0.6), spin=0.25, zoom=0.004))]


def _parallax(first: Rgb, second: Rgb, size: tuple[int, int]) -> list[Layer]:
    shape = second.shape[0], second.shape[1]
    return [
        Layer(first, _path(first, size, (1.3, 0.4))),
        Layer(second, _path(second, size, (6.1, 1.1)), 6.0, _forest(shape, 1)),
    ]


def _object(first: Rgb, second: Rgb, size: tuple[int, int]) -> list[Layer]:
    shape = second.shape[0], second.shape[1]
    return [
        Layer(first, _path(first, size, (0.9, 0.5))),
        Layer(second, _path(second, size, (-9.7, 3.9), spin=0.8), 3.0,
              _island(shape, 2, FINER * size[1] / 5)),
    ]  # fmt: skip


KINDS: Mapping[str, Callable[[Rgb, Rgb, tuple[int, int]], list[Layer]]] = {
    "pan": _pan,
    "zoom": _zoom,
    "parallax": _parallax,
    "object": _object,
}


def photograph(path: Path, long_side: int) -> Rgb:
    """A photograph with its long side of so many pixels."""
    with Image.open(path) as picture:
        whole = picture.convert("RGB")
    factor = long_side / max(whole.size)
    size = round(whole.width * factor), round(whole.height * factor)
    return np.asarray(whole.resize(size, Image.Resampling.LANCZOS))
