"""How an aligned tele photo lies on the wide one: displaced, hidden, toned and trusted wrongly.

What dense flow leaves behind is smooth and below a pixel where there is texture. Near the edge of
something close, where one photo sees what the other does not, it is as large as the parallax and
falls off over some pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from dualsr_cli.training._simulator_camera import Floats, Range, Rgb

_SPACING = 4  # wide pixels between the vertices of an alignment's confidence


@dataclass(frozen=True)
class ViewSettings:
    """What the tele photo's place and colours on the wide one are drawn from.

    Lengths are in pixels of the result. residual: deviation of the smooth displacement that is
    left, drawn with even logarithms, no longer than `most`. edge: share of the patches with the
    edge of something nearer in them, parallax: displacement there, reach: over how many pixels it
    falls off, drawn with even logarithms. outside: share of the patches that the tele photo does
    not show, border: that its border crosses. gain: deviation of what is left of exposure, white
    balance and tone curve between the photos, relative; unmatched: share of the patches where it
    is five times as much.
    defocus: share of the tele photos out of focus, by `blur` pixels. useless: share of the patches
    whose tele shows another scene, nothing, or a blur, in equal parts. spoilt: share of the
    tele photos with white `noise` (deviation of 255, even logarithms) or JPEG of a low `quality`.
    overlooked: share of the displacements that the confidence does not tell of.
    """

    residual: Range = (0.03, 0.8)
    most: float = 2.0
    edge: float = 0.4
    parallax: Range = (2.0, 20.0)
    reach: Range = (3.0, 40.0)
    outside: float = 0.15
    border: float = 0.2
    gain: float = 0.02
    unmatched: float = 0.1
    defocus: float = 0.08
    blur: Range = (1.0, 3.0)
    useless: float = 0.08
    spoilt: float = 0.08
    noise: Range = (3.0, 50.0)
    quality: Range = (5, 50)
    overlooked: float = 0.3


def smooth(
    rng: np.random.Generator, shape: tuple[int, int], cell: float, channels: int = 1
) -> Floats:
    """Smooth noise (h, w, channels), mean 0, deviation about 1, its bumps `cell` pixels wide."""
    height, width = shape
    grid = round(height / cell) + 3, round(width / cell) + 3, channels
    coarse = rng.standard_normal(grid, np.float32)
    fine = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    result: Floats = fine.reshape(height, width, channels)
    result *= np.float32(1.25)
    return result


def spoilt(settings: ViewSettings, rng: np.random.Generator, tele: Rgb) -> Rgb:
    """A tele photo (h, w, 3) of bytes as bad light or a bad file leaves it."""
    if rng.random() < 0.5:
        deviation = np.float32(np.exp(rng.uniform(*np.log(settings.noise))))
        noise = deviation * rng.standard_normal(tele.shape, np.float32)
        noisy: Rgb = np.clip(np.rint(tele + noise), 0, 255).astype(np.uint8)
        return noisy
    quality = round(rng.uniform(*settings.quality))
    _, data = cv2.imencode(".jpg", tele, [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded: Rgb = cv2.imdecode(data, cv2.IMREAD_COLOR).astype(np.uint8)
    return decoded


def displacement(
    settings: ViewSettings, rng: np.random.Generator, shape: tuple[int, int], scale: int
) -> Floats:
    """(h, w, 2), x and y in pixels of the result, at each wide pixel of a patch.

    The tele at a place shows what belongs to the place moved by it.
    """
    deviation = np.exp(rng.uniform(*np.log(np.maximum(settings.residual, 1e-6))))
    # Drift of the whole patch, what mesh and coarse flow leave, and the fine flow's noise.
    drift = rng.standard_normal(2).astype(np.float32)
    moved: Floats = 0.6 * drift + 0.6 * smooth(rng, shape, 40, 2) + 0.5 * smooth(rng, shape, 10, 2)
    moved *= np.float32(deviation)
    length = np.sqrt((moved * moved).sum(axis=2, keepdims=True)) + np.float32(1e-6)
    moved *= np.minimum(1, np.float32(settings.most) / length)
    if rng.random() < settings.edge:
        moved += _parallax(settings, rng, shape, scale)
    return moved


def _parallax(
    settings: ViewSettings, rng: np.random.Generator, shape: tuple[int, int], scale: int
) -> Floats:
    """What is left beside the wavy edge of something near, mostly on its far side."""
    beyond = _beyond(rng, shape) + 3 * smooth(rng, shape, 24)[..., 0]
    amount, angle = rng.uniform(*settings.parallax), rng.uniform(0, 2 * np.pi)
    near, far = rng.uniform(0.5, 1.5), np.exp(rng.uniform(*np.log(settings.reach))) / scale
    share = np.exp(np.minimum(beyond, 0) / near - np.maximum(beyond, 0) / far)
    direction = np.array([np.cos(angle), np.sin(angle)], np.float32) * np.float32(amount)
    result: Floats = share[..., None] * direction
    return result


def _beyond(rng: np.random.Generator, shape: tuple[int, int], tilt: float | None = None) -> Floats:
    """(h, w): signed distance in pixels to a line through a random place of the patch.

    tilt: greatest angle in radians to the nearest side of the patch; any without it.
    """
    height, width = shape
    if tilt is None:
        angle = rng.uniform(0, 2 * np.pi)
    else:
        angle = rng.integers(4) * np.pi / 2 + rng.uniform(-tilt, tilt)
    x0, y0 = rng.uniform(0.1, 0.9, 2) * (width, height)
    x = (np.arange(width) - x0) * np.cos(angle)
    y = (np.arange(height) - y0) * np.sin(angle)
    result: Floats = (y[:, None] + x).astype(np.float32)
    return result


def validity(settings: ViewSettings, rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
    """(h, w) 0..1: the share of each wide pixel that lies in the tele photo."""
    kind = rng.random()
    if kind < settings.outside:
        return np.zeros(shape, np.float32)
    if kind > settings.outside + settings.border:
        return np.ones(shape, np.float32)
    inside = _beyond(rng, shape, tilt=0.1)
    if rng.random() < 0.3:  # a corner of the tele photo
        inside = np.minimum(inside, _beyond(rng, shape, tilt=0.1))
    result: Floats = np.clip(inside + 0.5, 0, 1)
    return result


def toned(settings: ViewSettings, rng: np.random.Generator, picture: Rgb) -> Floats:
    """A picture (h, w, 3) to 0..1, with what colour matching leaves: gains, a curve, a slope."""
    strength = settings.gain * (5 if rng.random() < settings.unmatched else 1)
    gains = 1 + strength * rng.standard_normal(3)
    offsets = 0.25 * strength * rng.standard_normal(3)
    bend = strength * rng.standard_normal()
    value = np.arange(256) / 255
    curve = value * (1 - bend + bend * value)
    table = (curve[:, None] * gains + offsets).astype(np.float32)
    result: Floats = cv2.LUT(picture, table[None])
    local = 1 + 0.5 * strength * rng.standard_normal((4, 4))
    size = picture.shape[1], picture.shape[0]
    slow = cv2.resize(local.astype(np.float32), size, interpolation=cv2.INTER_CUBIC)
    result *= slow[..., None]
    return result


def confidence(
    lr: Floats,
    ref: Floats,
    moved: Floats,
    valid: Floats,
    doubt: Floats,
) -> Floats:
    """(h, w) 0..1, as `AlignedPair.confidence` has it.

    lr, ref: brightness 0..255 at the wide photo's pixels, (h, w). moved: (h, w, 2) in wide pixels;
    doubt: (h, w), how much of it flow forth and back disagree about. The other factors are the
    alignment's: the residual against the local contrast, and the finest band's energy.
    """
    returned = doubt * (moved * moved).sum(axis=2)
    residual = cv2.blur(np.abs(ref - lr), (5, 5))
    mean = cv2.blur(lr, (9, 9))
    contrast = np.sqrt(np.maximum(cv2.blur(lr * lr, (9, 9)) - mean * mean, 0))
    photometric = 1 / (1 + (residual / (6 + 0.5 * contrast)) ** 4)
    energy = [cv2.blur((g - cv2.GaussianBlur(g, (0, 0), 1.0)) ** 2, (9, 9)) for g in (lr, ref)]
    focus = np.clip(2 * (energy[1] + 4) / (energy[0] + 4), 0, 1)
    sure = np.exp(-returned) * photometric * focus * (valid > 0.99)
    height, width = lr.shape
    vertices = max(2, width // _SPACING), max(2, height // _SPACING)
    coarse = cv2.resize(sure.astype(np.float32), vertices, interpolation=cv2.INTER_AREA)
    coarse = cv2.GaussianBlur(cv2.erode(coarse, np.ones((3, 3), np.uint8)), (0, 0), 1.5)
    result: Floats = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.clip(result, 0, 1)


def brightness(picture: Rgb) -> Floats:
    """(h, w, 3) bytes to (h, w) 0..255."""
    result: Floats = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32)
    return result
