"""One shot: what a lens, its sensor and a phone's processing make of a scene.

The order of a real camera: lens blur and hand shake, the sensor's pixels that integrate light, shot
and read noise, a colour filter array and its demosaicing, all in linear light; then the sRGB curve,
denoising, sharpening and JPEG.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

Rgb = npt.NDArray[np.uint8]  # (height, width, 3)
Floats = npt.NDArray[np.float32]
Range = tuple[float, float]
"""The least and the greatest value that may be drawn."""

_STEPS = 1 << 14  # of linear light, in the table of the sRGB curve
_MAX_RADIUS = 10  # pixels of a point spread function
_SEEN = 0.15  # pixels by which colours must be apart to be blurred one by one
_RANK = 0.03  # what a separable part may weigh, against the first, to be left out
# A daylight white balance multiplies red and blue, and their noise.
_BALANCE = np.array([1.9, 1.0, 1.6], np.float32)
_DEMOSAIC = {
    "bilinear": cv2.COLOR_BayerRGGB2RGB,
    "edge-aware": cv2.COLOR_BayerRGGB2RGB_EA,
}


@dataclass(frozen=True)
class CameraSettings:
    """What the shots of one kind of camera are drawn from; lengths in its own pixels.

    lens: radius (one sigma) of the point spread function at the picture's centre; `growth` its
    relative growth to the corner, `stretch` its radial against its tangential axis there, `tail`
    its shape, from 0, a Gaussian, over 0.25, a Moffat function with beta 4, to 0.5, one with 2.
    fringe: radial shift of red against blue at the corner. shake: length of the path that a point
    draws while the shutter is open. density: sensor pixels per pixel of the file, below 1 for
    cameras that interpolate, and 1 for what is drawn above it. shot: variance of the noise per
    unit of linear light (0..1), read: its deviation in the dark, both drawn with even logarithms.
    mosaic, denoise, jpeg: shares of the shots with a colour filter array, with a denoiser, with
    JPEG of a `quality`. sharpen: amount of unsharp masking, at a radius of `halo`. bare: share of
    the shots with neither filter array, denoiser nor sharpening: what lens and sensor lose can be
    undone best there. plain: share of the shots with nothing of all this, the scene resized by an
    antialiased bicubic filter.

    The ranges are set by real pairs. Against the truth reduced by an antialiased bicubic filter,
    the photos of City100's short focal lengths (halved) keep 0.25 to 0.52 of the contrast in the
    finest band (x - G x, G of 0.8 pixels) and 0.72 to 1.05 in the octave below, phones' wide photos
    0.5 to 0.9 and 0.65 to 1.0; these settings 0.2 to 1.0 and 0.65 to 1.15 (deciles).
    """

    lens: Range = (0.1, 0.55)
    growth: Range = (0.0, 0.3)
    stretch: Range = (0.85, 1.3)
    tail: Range = (0.0, 0.3)
    fringe: Range = (-0.25, 0.25)
    shake: Range = (0.0, 1.0)
    density: Range = (0.85, 1.15)
    shot: Range = (1e-5, 6e-4)
    read: Range = (2e-4, 2e-3)
    mosaic: float = 0.4
    denoise: float = 0.4
    sharpen: Range = (0.0, 1.2)
    halo: Range = (0.7, 1.6)
    jpeg: float = 0.7
    quality: Range = (80, 98)
    bare: float = 0.0
    plain: float = 0.2


@dataclass(frozen=True, eq=False)
class Shot:
    """How one shot is taken; see `CameraSettings`. `shake` is the covariance of the path."""

    lens: float
    growth: float
    stretch: float
    tail: float
    fringe: float
    shake: npt.NDArray[np.float64]
    density: float
    shot: float
    read: float
    demosaic: str | None
    denoise: float
    sharpen: float
    halo: float
    quality: int | None
    plain: bool

    def spread(
        self, field: tuple[float, float], unit: float, channel: int = 1, softer: float = 0.0
    ) -> Floats:
        """The point spread function, (2 r + 1, 2 r + 1), of sum 1.

        field: place in the picture, x and y, with length 1 at the corners. unit: pixels of the
        kernel for one of the camera. channel: 0 red, 1 green, 2 blue. softer: variance to add, in
        pixels of the camera.
        """
        distance = math.hypot(*field)
        x, y = (value / distance if distance > 0 else 0.0 for value in field)
        radius = self.lens * (1 + self.growth * distance**2)
        stretch = self.stretch ** (distance**2)
        turn = np.array([[x, -y], [y, x]]) if distance > 0 else np.eye(2)
        lens = turn @ np.diag([radius**2 * stretch, radius**2 / stretch]) @ turn.T
        shift = self.fringe * distance * (channel - 1)
        return _spread(
            (lens + self.shake + softer * np.eye(2)) * unit**2,
            self.tail,
            (shift * x * unit, shift * y * unit),
        )


def draw(settings: CameraSettings, rng: np.random.Generator) -> Shot:
    """One shot by the settings."""

    def even(limits: Range) -> float:
        return float(rng.uniform(*limits))

    def logarithmic(limits: Range) -> float:
        return float(np.exp(rng.uniform(*np.log(np.maximum(limits, 1e-9)))))

    length, angle = even(settings.shake), rng.uniform(0, np.pi)
    along = np.array([np.cos(angle), np.sin(angle)])
    kinds = list(_DEMOSAIC)
    shot = Shot(
        lens=even(settings.lens),
        growth=even(settings.growth),
        stretch=logarithmic(settings.stretch),
        tail=even(settings.tail),
        fringe=even(settings.fringe),
        shake=length**2 / 12 * np.outer(along, along),
        density=min(1.0, even(settings.density)),
        shot=logarithmic(settings.shot),
        read=logarithmic(settings.read),
        demosaic=kinds[rng.integers(len(kinds))] if rng.random() < settings.mosaic else None,
        denoise=float(rng.uniform(0.3, 1.0)) if rng.random() < settings.denoise else 0.0,
        sharpen=even(settings.sharpen),
        halo=even(settings.halo),
        quality=round(even(settings.quality)) if rng.random() < settings.jpeg else None,
        plain=bool(rng.random() < settings.plain),
    )
    if settings.bare and rng.random() < settings.bare:
        shot = replace(shot, demosaic=None, denoise=0.0, sharpen=0.0)
    return shot


def linear(pixels: Rgb) -> Floats:
    """sRGB bytes to linear light 0..1."""
    light: Floats = cv2.LUT(np.ascontiguousarray(pixels), _TO_LINEAR)
    return light


def encoded(light: Floats) -> Floats:
    """Linear light to sRGB, 0..1 both; clipped."""
    steps = light * np.float32(_STEPS - 1)
    steps += np.float32(0.5)
    value: Floats = _FROM_LINEAR.take(steps.astype(np.intp), mode="clip")
    return value


def blurred(light: Floats, shot: Shot, field: tuple[float, float], unit: float) -> Floats:
    """A patch of the scene (h, w, 3) through the lens; see `Shot.spread`."""
    if abs(shot.fringe) * math.hypot(*field) * unit < _SEEN:
        return convolved(light, shot.spread(field, unit))
    channels = [
        convolved(plane, shot.spread(field, unit, channel))
        for channel, plane in enumerate(cv2.split(light))
    ]
    result: Floats = cv2.merge(channels)
    return result


def exposed(
    light: Floats, size: tuple[int, int], shot: Shot, noise: float, rng: np.random.Generator
) -> Rgb:
    """The sensor and what follows it: light (h, w, 3) behind the lens to a file's pixels.

    size: (height, width) of the result. noise: factor of the noise's deviation, for a file that is
    reduced or enlarged afterwards.
    """
    height, width = size
    sensor = round(width * shot.density), round(height * shot.density)
    caught = cv2.resize(light, sensor, interpolation=cv2.INTER_AREA)
    if shot.demosaic is None:
        caught += _noise(caught, np.float32(1), shot, noise, rng)
        picture = encoded(caught)
    else:
        picture = encoded(_mosaicked(caught, shot, noise, rng))
    if shot.denoise:
        picture = _denoised(picture, shot.denoise)
    if sensor != (width, height):
        picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_CUBIC)
    if shot.sharpen > 0.02:
        soft = cv2.GaussianBlur(picture, (0, 0), shot.halo)
        picture = cv2.addWeighted(picture, 1 + shot.sharpen, soft, -shot.sharpen, 0)
    file = bytes_of(picture)
    return file if shot.quality is None else compressed(file, shot.quality)


def resized(pixels: Rgb, size: tuple[int, int]) -> Rgb:
    """To (height, width) by Pillow's bicubic, which is antialiased."""
    image = Image.fromarray(pixels).resize(size[::-1], Image.Resampling.BICUBIC)
    return np.asarray(image)


def bytes_of(picture: Floats) -> Rgb:
    """0..1 to 0..255, rounded and clipped."""
    result: Rgb = cv2.convertScaleAbs(np.maximum(picture, 0), alpha=255)
    return result


def compressed(pixels: Rgb, quality: int) -> Rgb:
    """After JPEG of a quality, colours halved as phones do below 90."""
    sampling = (
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444
        if quality >= 90
        else cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420
    )
    options = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling]
    _, file = cv2.imencode(".jpg", pixels[..., ::-1], options)
    result: Rgb = cv2.imdecode(file, cv2.IMREAD_COLOR_RGB)
    return result


def _noise(
    light: Floats, gain: Floats | np.float32, shot: Shot, factor: float, rng: np.random.Generator
) -> Floats:
    """Of light that was amplified by `gain`, its deviation times `factor`."""
    variance = light * (gain * np.float32(shot.shot * factor**2))
    variance += (gain * np.float32(shot.read * factor)) ** 2
    deviation: Floats = np.sqrt(variance, out=variance)
    deviation *= _normal(light.shape, rng)
    return deviation


def _normal(shape: tuple[int, ...], rng: np.random.Generator) -> Floats:
    """Normal deviates: of a stock, from a random one on, where few are needed, as it is faster."""
    count = math.prod(shape)
    stock = _stock()
    if count > len(stock) // 2:
        return rng.standard_normal(shape, np.float32)
    start = int(rng.integers(len(stock) - count))
    return stock[start : start + count].reshape(shape)


@lru_cache(maxsize=1)
def _stock() -> Floats:
    return np.random.default_rng(0).standard_normal(1 << 20, np.float32)


def _mosaicked(caught: Floats, shot: Shot, noise: float, rng: np.random.Generator) -> Floats:
    """Each pixel sees one colour, in the pattern RG/GB; the others are interpolated."""
    raw = caught[..., 1].copy()
    raw[::2, ::2] = caught[::2, ::2, 0]
    raw[1::2, 1::2] = caught[1::2, 1::2, 2]
    gain = np.ones(raw.shape, np.float32)
    gain[::2, ::2], gain[1::2, 1::2] = _BALANCE[0], _BALANCE[2]
    raw += _noise(raw, gain, shot, noise, rng)
    counts = np.clip(raw * 65535 + 0.5, 0, 65535).astype(np.uint16)
    colours = cv2.demosaicing(counts, _DEMOSAIC[shot.demosaic or "bilinear"])
    result: Floats = colours.astype(np.float32) * np.float32(1 / 65535)
    return result


def _denoised(picture: Floats, strength: float) -> Floats:
    """Colour smoothed, and brightness where it differs by little, as fast denoisers do."""
    ycc = cv2.cvtColor(bytes_of(picture), cv2.COLOR_RGB2YCrCb)
    luma = cv2.bilateralFilter(np.ascontiguousarray(ycc[..., 0]), 5, 12 * strength, 1.2)
    colour = cv2.GaussianBlur(ycc[..., 1:], (0, 0), 0.5 + strength)
    smooth = cv2.cvtColor(np.dstack([luma, colour]), cv2.COLOR_YCrCb2RGB)
    result: Floats = smooth.astype(np.float32) * np.float32(1 / 255)
    return result


def _spread(covariance: npt.NDArray[np.float64], tail: float, shift: tuple[float, float]) -> Floats:
    """A Gaussian or Moffat function of a core covariance (2, 2), shifted, its sum 1."""
    widest = math.sqrt(float(np.linalg.eigvalsh(covariance)[1]))
    reach = 3 * widest * (1 + tail) + max(map(abs, shift))
    radius = min(max(1, math.ceil(reach)), _MAX_RADIUS)
    # A narrow function is not what a pixel's centre says: the mean over 3 x 3 places of each.
    side, fine = 2 * radius + 1, 3 if widest < 1.5 else 1
    places = (np.arange(fine * side) + 0.5) / fine - side / 2
    x, y = np.meshgrid(places - shift[0], places - shift[1])
    a, b, c, d = np.linalg.inv(covariance + 1e-4 * np.eye(2)).ravel()
    half = 0.5 * (a * x * x + (b + c) * x * y + d * y * y)
    value = np.exp(-half) if tail < 0.01 else (1 + tail * half) ** (-1 / tail)
    kernel = value.reshape(side, fine, side, fine).sum(axis=(1, 3))
    result: Floats = (kernel / kernel.sum()).astype(np.float32)
    return result


def convolved(light: Floats, kernel: Floats) -> Floats:
    """By the few separable kernels whose sum it is, which is faster by far."""
    columns, weights, rows = np.linalg.svd(kernel[::-1, ::-1])  # OpenCV correlates
    missing = float(kernel.sum())
    result = np.zeros_like(light)
    for i in np.flatnonzero(weights > _RANK * weights[0]):
        down, across = np.ascontiguousarray(columns[:, i]), rows[i] * weights[i]
        result += cv2.sepFilter2D(light, -1, across, down, borderType=cv2.BORDER_REFLECT_101)
        missing -= float(down.sum() * across.sum())
    result += np.float32(missing) * light  # so that flat parts stay as bright as they were
    return result


def _curve() -> tuple[Floats, Floats]:
    """sRGB (IEC 61966-2-1): bytes to light, and steps of light to 0..1."""
    value = np.arange(256) / 255
    to_linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    light = np.arange(_STEPS) / (_STEPS - 1)
    from_linear = np.where(
        light <= 0.0031308, light * 12.92, 1.055 * np.maximum(light, 1e-9) ** (1 / 2.4) - 0.055
    )
    return to_linear.astype(np.float32), from_linear.astype(np.float32)


_TO_LINEAR, _FROM_LINEAR = _curve()
