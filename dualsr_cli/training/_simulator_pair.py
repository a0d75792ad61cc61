"""A photograph -> two whole photos of a dual camera, and where each wide pixel is in the tele."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt

from dualsr_cli.training import _simulator_camera as camera
from dualsr_cli.training._simulator_camera import CameraSettings, Floats, Range, Rgb, Shot
from dualsr_cli.training._simulator_view import smooth

Matrix = npt.NDArray[np.float64]
_COARSE = 8  # truth pixels for each of the maps of depth and of near things
_FIELD = 5  # places along each side of a photo at which its point spread function is known
_FEW = 0.02  # of the first part's weight: point spread functions do without lighter ones


@dataclass(frozen=True)
class PairSettings:
    """What whole pairs are drawn from; lengths in wide pixels.

    scale: pixels of the truth for each wide pixel. zoom: tele pixels for each wide pixel. turn:
    greatest angle in degrees between the photos, tilt: greatest relative change of scale across
    the tele photo, aside: greatest shift of the tele's centre, of the room that there is. depth:
    smooth parallax, near: the parallax of things that stand before it, things: how many. exposure:
    of the tele against the wide in stops, balance: of its red and blue, relative, curve: exponent
    of its tone curve.
    """

    scale: int = 2
    zoom: Range = (1.5, 5.0)
    turn: float = 4.0
    tilt: float = 0.03
    aside: float = 0.3
    depth: Range = (0.0, 4.0)
    near: Range = (4.0, 24.0)
    things: tuple[int, int] = (0, 4)
    exposure: Range = (-0.7, 0.7)
    balance: float = 0.08
    curve: Range = (0.85, 1.15)
    wide: CameraSettings = field(default_factory=CameraSettings)
    tele: CameraSettings = field(default_factory=CameraSettings)


@dataclass(frozen=True, eq=False)
class SimulatedPair:
    """wide, tele: (h, w, 3) bytes. truth: (s h, s w, 3), the wide photo as it should be.

    points: (h, w, 2) float32, x and y in the tele photo of each wide pixel's centre. visible:
    (h, w) bool, whether the tele photo shows it. zoom: tele pixels for each wide pixel.
    """

    wide: Rgb
    tele: Rgb
    truth: Rgb
    points: Floats
    visible: npt.NDArray[np.bool_]
    zoom: float


@dataclass(frozen=True, eq=False)
class _Scene:
    """What stands where; maps have a value for each _COARSE truth pixels, parallax is in those.

    A point p of a plane that both photos would see alike is seen by the wide photo at
    p + parallax, which is `depth` (rows, columns, 2) for the background. `things` are nearer, each
    with the map that is above 0 where the wide photo sees it, and its parallax, (2,).
    """

    depth: Floats
    things: tuple[tuple[Floats, Floats], ...]


def simulate_pair(
    photograph: Rgb, seed: int, settings: PairSettings = PairSettings()
) -> SimulatedPair:
    """Two shots of a photograph (height, width, 3); the same for the same seed.

    Both photos have the size of the photograph divided by `settings.scale`. Raises ValueError for
    photographs of fewer than 256 pixels a side.
    """
    if min(photograph.shape[:2]) < 256:
        raise ValueError(f"a photograph of {photograph.shape[:2]} is smaller than 256 pixels")
    rng = np.random.default_rng([seed])
    s = settings.scale
    size = photograph.shape[0] // s, photograph.shape[1] // s
    truth = np.ascontiguousarray(photograph[: size[0] * s, : size[1] * s])
    light = camera.linear(truth)
    wide_shot = camera.draw(settings.wide, rng)
    wide = camera.exposed(_through(light, wide_shot, s), size, wide_shot, 1.0, rng)

    zoom = float(np.exp(rng.uniform(*np.log(settings.zoom))))
    plane = _plane(settings, rng, size, zoom)
    scene = _scene(settings, rng, truth.shape[:2])
    many = max(1.0, s / zoom)  # truth pixels for each of the tele, along an axis
    dense = round(size[0] * many), round(size[1] * many)
    tele_light = _seen(light, scene, plane, size, dense)
    tele_shot = camera.draw(settings.tele, rng)
    tele_light = _through(tele_light, tele_shot, many)
    tele_light = _toned(settings, rng, tele_light)
    tele = camera.exposed(tele_light, size, tele_shot, 1.0, rng)
    points, visible = _points(scene, plane, size, s)
    return SimulatedPair(wide, tele, truth, points, visible, zoom)


def _plane(
    settings: PairSettings, rng: np.random.Generator, size: tuple[int, int], zoom: float
) -> Matrix:
    """(3, 3): from tele pixels to truth pixels of the background's plane."""
    s = settings.scale
    half = np.array(size[::-1]) / 2
    angle = np.radians(rng.uniform(-settings.turn, settings.turn))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * s / zoom
    room = half * s * (1 - 1 / zoom) * settings.aside
    middle = half * s + rng.uniform(-1, 1, 2) * room
    tilt = rng.uniform(-1, 1, 2) * settings.tilt / half
    centred = np.array([[1, 0, 0.5 - half[0]], [0, 1, 0.5 - half[1]], [0, 0, 1]])
    tilted = np.vstack([np.column_stack([turn, [0, 0]]), [*tilt, 1]])
    moved = np.array([[1, 0, middle[0] - 0.5], [0, 1, middle[1] - 0.5], [0, 0, 1]])
    result: Matrix = moved @ tilted @ centred
    return result


def _scene(settings: PairSettings, rng: np.random.Generator, size: tuple[int, ...]) -> _Scene:
    shape = size[0] // _COARSE + 1, size[1] // _COARSE + 1
    angle = rng.uniform(0, 2 * np.pi)  # of the line between the two cameras
    along = np.array([np.cos(angle), np.sin(angle)], np.float32)
    unit = settings.scale / _COARSE
    depth = (
        smooth(rng, shape, max(shape) / 4) * along * np.float32(rng.uniform(*settings.depth) * unit)
    )
    things = []
    for _ in range(rng.integers(settings.things[0], settings.things[1] + 1)):
        height, width = shape
        x0, y0 = rng.uniform(0.25, 0.75, 2) * (width, height)
        radius = rng.uniform(0.05, 0.15) * max(shape)
        stretch = np.exp(rng.uniform(-0.7, 0.7))
        x = (np.arange(width) - x0) / (radius * stretch)
        y = (np.arange(height) - y0) / (radius / stretch)
        distance = np.sqrt((y * y)[:, None] + x * x).astype(np.float32)
        inside = 1 - distance + np.float32(0.2) * smooth(rng, shape, radius / 2)[..., 0]
        parallax = along * np.float32(rng.uniform(*settings.near) * unit)
        things.append((inside, parallax))
    things.sort(key=lambda thing: float(np.abs(thing[1]).max()))  # the nearest last
    return _Scene(depth, tuple(things))


def _at(image: Floats, places: Floats) -> Floats:
    """Values of a map at places (h, w, 2), x and y in its pixels."""
    values: Floats = cv2.remap(
        image, places[..., 0], places[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return values


def _coarse(points: Floats) -> Floats:
    """Truth pixels to pixels of the maps."""
    places: Floats = (points + np.float32(0.5)) / np.float32(_COARSE) - np.float32(0.5)
    return places


def _truth(places: Floats) -> Floats:
    """Pixels of the maps to truth pixels."""
    points: Floats = (places + np.float32(0.5)) * np.float32(_COARSE) - np.float32(0.5)
    return points


def _seen(
    light: Floats, scene: _Scene, plane: Matrix, size: tuple[int, int], dense: tuple[int, int]
) -> Floats:
    """What the tele photo's place sees, (*dense, 3); what the wide one hides comes from aside."""
    x = (np.arange(dense[1]) + 0.5) * size[1] / dense[1] - 0.5
    y = (np.arange(dense[0]) + 0.5) * size[0] / dense[0] - 0.5
    p = _coarse(_mapped(plane, x, y))
    source = p + _at(scene.depth, p)
    hidden = np.zeros(dense, bool)
    for inside, _ in scene.things:
        hidden |= _at(inside, source) > 0
    aside = np.array([scene.depth.shape[1] / 3, scene.depth.shape[0] / 5], np.float32)
    source[hidden] += aside
    for inside, parallax in scene.things:
        moved = p + parallax
        shown = _at(inside, moved) > 0
        source[shown] = moved[shown]
    source = _truth(source)
    result: Floats = cv2.remap(
        light, source[..., 0], source[..., 1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101
    )
    return np.maximum(result, 0)


def _points(
    scene: _Scene, plane: Matrix, size: tuple[int, int], scale: int
) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Where each wide pixel lies in the tele photo, and whether it is seen there."""
    height, width = size
    x = (np.arange(width) + 0.5) * scale - 0.5
    y = (np.arange(height) + 0.5) * scale - 0.5
    here = _coarse(np.stack(np.meshgrid(x, y), axis=-1).astype(np.float32))
    p = here - _at(scene.depth, here)
    for _ in range(4):
        p = here - _at(scene.depth, p)
    level = np.zeros(size, np.int64)
    for number, (inside, parallax) in enumerate(scene.things, 1):
        mine = _at(inside, here) > 0
        p[mine] = here[mine] - parallax
        level[mine] = number
    visible = np.ones(size, bool)
    for number, (inside, parallax) in enumerate(scene.things, 1):
        visible &= (number <= level) | (_at(inside, p + parallax) <= 0)
    flat = _truth(p).reshape(-1, 1, 2).astype(np.float64)
    points = cv2.perspectiveTransform(flat, np.linalg.inv(plane)).reshape(height, width, 2)
    within = (points >= 0) & (points <= np.array([width - 1, height - 1]))
    return points.astype(np.float32), visible & within.all(axis=-1)


def _mapped(plane: Matrix, x: Matrix, y: Matrix) -> Floats:
    """The crossings of columns x and rows y through a homography, (rows, columns, 2)."""
    places = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 1, 2)
    result: Floats = cv2.perspectiveTransform(places, plane).astype(np.float32)
    return result.reshape(len(y), len(x), 2)


def _toned(settings: PairSettings, rng: np.random.Generator, light: Floats) -> Floats:
    """Exposure, white balance and tone curve, in linear light."""
    gains = 2 ** rng.uniform(*settings.exposure) * np.ones(3)
    gains[[0, 2]] *= 1 + settings.balance * rng.uniform(-1, 1, 2)
    curve = rng.uniform(*settings.curve)
    result: Floats = np.minimum(light, 1) ** np.float32(curve) * gains.astype(np.float32)
    return result


def _through(light: Floats, shot: Shot, unit: float) -> Floats:
    """A whole picture through the lens, its blur changing over the field.

    The point spread functions at _FIELD x _FIELD places are sums of few common ones; their weights
    are interpolated over the picture.
    """
    height, width = light.shape[:2]
    steps = ((np.arange(_FIELD) + 0.5) / _FIELD * 2 - 1) / np.hypot(width, height)
    places = [(x * width, y * height) for y in steps for x in steps]
    channels = []
    for channel in range(3):
        spreads = [shot.spread(place, unit, channel) for place in places]
        side = max(len(spread) for spread in spreads)
        kernels = np.stack([np.pad(k, (side - len(k)) // 2).ravel() for k in spreads])
        weights, strength, common = np.linalg.svd(kernels, full_matrices=False)
        plane = np.ascontiguousarray(light[..., channel])
        total = np.zeros_like(plane)
        for number in np.flatnonzero(strength > _FEW * strength[0]):
            over = (weights[:, number] * strength[number]).reshape(_FIELD, _FIELD)
            part = camera.convolved(plane, common[number].reshape(side, side))
            total += part * cv2.resize(over, (width, height), interpolation=cv2.INTER_LINEAR)
        channels.append(total)
    result: Floats = np.maximum(cv2.merge(channels), 0)
    return result
