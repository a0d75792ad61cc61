"""Pairs whose truth is known: real pictures, seen by a wide and a tele lens that are made up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from dualsr_cli.alignment import AlignedPair
from dualsr_cli.jobs import Item
from dualsr_cli.photos import Header, Metadata, Photo, parse_capture

Array = npt.NDArray[np.float64]
Pixels = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]


def photo(pixels: Pixels, name: str = "a.png") -> Photo:
    """A photo of these pixels that carries nothing else."""
    height, width = pixels.shape[:2]
    depth = pixels.dtype.itemsize * 8
    header = Header(Path(name), "png", width, height, depth, Metadata(), parse_capture(None))
    return Photo(np.ascontiguousarray(pixels), header)


@pytest.fixture(scope="session")
def scene(sample_pairs: Path) -> Pixels:
    """Four real photos side by side, (2160, 2880, 3) uint8: texture down to the pixel."""
    names = ("facade/tele.jpg", "other-scene/wide.jpg", "phone-jpeg/tele.jpg", "statue/tele.jpg")
    cells = []
    for name in names:
        with Image.open(sample_pairs / name) as image:
            side = min(image.width / 4, image.height / 3)
            box = (0, 0, round(4 * side), round(3 * side))
            cell = image.convert("RGB").resize((1440, 1080), Image.Resampling.BICUBIC, box)
            cells.append(np.asarray(cell))
    return np.concatenate([np.hstack(cells[:2]), np.hstack(cells[2:])])


@dataclass(frozen=True)
class Lens:
    """Where the tele lens looks. Lengths in wide pixels, unless said otherwise."""

    zoom: float = 2.0
    centre: tuple[float, float] = (0.5, 0.5)  # share of the wide photo's width and height
    size: tuple[int, int] = (640, 480)  # tele pixels: width, height
    turn: float = 0.0  # degrees
    tilt: tuple[float, float] = (0.0, 0.0)  # perspective terms, per tele-photo width
    parallax: float = 0.0  # amplitude of a smooth displacement
    reduction: int = 3  # scene pixels per wide pixel
    tone: Callable[[Array], Array] = field(default=lambda colours: colours)
    bits: int = 8


@dataclass(frozen=True, eq=False)
class Truth:
    """A wide and a tele photo, and the tele point of each wide point."""

    wide: Photo
    tele: Photo
    lens: Lens
    homography: Array  # wide -> tele, before the displacement is added

    def displacement(self, points: Array) -> Array:
        x, y = points[..., 0] / self.wide.width, points[..., 1] / self.wide.height
        dx = np.sin(5 * x + 3 * y + 0.4)
        dy = np.cos(4 * x - 6 * y + 1.1)
        return self.lens.parallax * np.stack([dx, dy], -1)

    def tele_points(self, points: Array) -> Array:
        return through(self.homography, points + self.displacement(points))

    def wide_points(self, points: Array) -> Array:
        """The inverse, by iteration: the displacement is smooth and small."""
        flat = through(np.linalg.inv(self.homography), points)
        found = flat
        for _ in range(6 if self.lens.parallax else 0):
            found = flat - self.displacement(found)
        return found

    def probes(self, inset: float = 0.06) -> Array:
        """Wide points (N, 2) that the tele photo shows, `inset` of its width off its edge."""
        u, v = np.meshgrid(np.linspace(inset, 1 - inset, 25), np.linspace(inset, 1 - inset, 25))
        tele = np.stack([u.ravel() * self.tele.width, v.ravel() * self.tele.height], -1)
        points = self.wide_points(tele)
        limit = np.array([self.wide.width, self.wide.height]) - 4
        return points[((points > 3) & (points < limit)).all(-1)]

    def errors(self, aligned: AlignedPair) -> Array:
        """How far off `aligned` is at the probes, in wide pixels."""
        points = self.probes()
        off = mapped(aligned, points) - self.tele_points(points)
        return np.linalg.norm(off, axis=-1) / self.lens.zoom


def through(homography: Array, points: Array) -> Array:
    """Points (..., 2) through a homography."""
    ones = np.ones((*points.shape[:-1], 1))
    moved = np.concatenate([points, ones], -1) @ homography.T
    return moved[..., :2] / moved[..., 2:]


def mapped(aligned: AlignedPair, points: Array) -> Array:
    """Wide points (N, 2) -> tele points, by what `AlignedPair` says of its own fields."""
    grid = aligned.displacement
    moved = np.array([grid.at(p[1:], p[:1])[0, 0] for p in points])
    return through(aligned.homography, points + moved)


def seen(scene: Pixels, lens: Lens) -> Truth:
    """What the two lenses make of the scene."""
    r = lens.reduction
    small = cv2.resize(
        scene, (scene.shape[1] // r, scene.shape[0] // r), interpolation=cv2.INTER_AREA
    )
    white = 2**lens.bits - 1
    dtype = np.uint8 if lens.bits == 8 else np.uint16
    wide = photo((small.astype(float) * (white / 255)).round().astype(dtype), "wide.png")
    width, height = lens.size
    angle = np.radians(lens.turn)
    turned = lens.zoom * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    at = np.array([lens.centre[0] * (wide.width - 1), lens.centre[1] * (wide.height - 1)])
    similar = np.eye(3)
    similar[:2, :2] = turned
    similar[:2, 2] = np.array([(width - 1) / 2, (height - 1) / 2]) - turned @ at
    tilt = np.eye(3)
    tilt[2, :2] = np.array(lens.tilt) / width
    tilt[2, 2] = 1 - tilt[2, 0] * width / 2 - tilt[2, 1] * height / 2
    homography = tilt @ similar
    truth = Truth(wide, wide, lens, homography / homography[2, 2])
    # Several samples down and across each tele pixel: a sensor's mean over its area.
    taps = 3 if lens.zoom < r else 2
    offsets = (np.arange(taps) + 0.5) / taps - 0.5
    y, x = np.meshgrid(
        (np.arange(height)[:, None] + offsets).ravel(),
        (np.arange(width)[:, None] + offsets).ravel(),
        indexing="ij",
    )
    points = ((truth.wide_points(np.stack([x, y], -1)) + 0.5) * r - 0.5).astype(np.float32)
    fine = cv2.remap(
        scene, points[..., 0], points[..., 1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101
    )
    pixels = cv2.resize(fine.astype(np.float32), lens.size, interpolation=cv2.INTER_AREA) / 255
    toned = np.clip(lens.tone(np.clip(pixels, 0, 1)), 0, 1)
    tele = photo((toned * white).round().astype(dtype), "tele.png")
    return Truth(wide, tele, lens, truth.homography)


@pytest.fixture(scope="session")
def look(scene: Pixels) -> Callable[..., Truth]:
    """look(zoom=3, turn=2, ...): the pair that such a lens sees."""
    return lambda **lens: seen(scene, Lens(**lens))


@pytest.fixture(scope="session")
def items(sample_pairs: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Item]:
    """Three small real pairs, as items of a run: wide and tele."""
    folder = tmp_path_factory.mktemp("items")
    found = []
    for name, factor in (("city", 1), ("statue", 2), ("phone-jpeg", 3)):
        (folder / name).mkdir()
        paths = []
        for role in ("wide", "tele"):
            source = next((sample_pairs / name).glob(f"{role}.*"))
            paths.append(folder / name / f"{role}.jpg")
            with Image.open(source) as image:
                small = image.convert("RGB").reduce(factor)
                small.save(paths[-1], quality=95, exif=image.info.get("exif", b""))
        found.append(item(*paths))
    return found


def item(wide: Path, tele: Path) -> Item:
    """The item for a pair."""
    return Item(wide.name, (wide, tele), (wide.name, tele.name), {})
