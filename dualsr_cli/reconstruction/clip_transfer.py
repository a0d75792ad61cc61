"""Detail transfer along a clip: one fast frame with the detail of the sharp frames laid on it.

As for photos (see `detail_transfer`), the frame is enlarged so that reducing the result gives it
back, and that part of the sharp frames is added which the fast frame cannot know. Here several
sharp frames may have a say, and what each pixel trusts must not change from frame to frame for no
reason. With h the fast frame's finest band and k_i that of what the fast camera would have seen of
sharp frame i, products over a Gaussian neighbourhood, each reference tells at each pixel

    energy <k_i, k_i>,   common <h, k_i>,   error <h - k_i, h - k_i>.

These are followed along the motion from frame to frame, each time half old and half new. A
reference's weight is one over its error, squared; the share of the weighted mean k's detail that
is taken is the regression of h on k, <h, k> / <k, k>, which noise in h does not bias, to the power
of `_FINER`: errors of the alignment spoil a finer band more.

Noise in the fast frame is taken out where a reference shows what it hides: of the difference
between frame and reference the light and colour stay (a Gaussian of `_LIGHT` pixels), of the rest
Wiener's share of what is more than noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch

from dualsr_cli.alignment import Floats, Grid, Laid, Reference
from dualsr_cli.reconstruction import _resampling as resampling

Pixels = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]

_FINEST = 0.8  # fast pixels: the finest band is x - G x
_STEP = 2  # fast pixels per pixel of the statistics, along both axes
_NEIGHBOURHOOD = 3.0  # fast pixels, of the Gaussian that products are taken over
_KEPT = 0.5  # share of what the neighbour knew in what is known of a frame
_LIGHT = 4.0
_SAFE = 2.0  # as noise counts so much more: what it is at a pixel varies
_FINER = 2.0
_WHITE = 0.63  # of white noise's energy in the finest band: the sum of (delta - G)^2
_LEAST = 1 / 255**2  # energy of a band that rounding alone has
_FLATTEST = 10.0  # per cent of a frame whose difference from a reference counts as noise
_EDGE = 4.0  # fast pixels over which a reference fades in at its border
_AROUND = np.ones((2 * int(_EDGE / _STEP) + 1,) * 2, np.uint8)
TILE = 256  # fast pixels


@dataclass(frozen=True, eq=False)
class Known:
    """What is known of one reference on one fast frame.

    points: (h, w, 2), where its pixels lie in the reference. The rest at (h / _STEP, w / _STEP):
    products: energy, common and error of the docstring above, the sums of three colours. valid:
    0..1. motion: x, y, from here to the neighbour nearer to the anchor, fast pixels.
    """

    points: Floats
    products: Floats
    valid: Floats
    motion: Floats


def judge(frame: Floats, laid: Laid, before: Known | None = None) -> Known:
    """A reference that was laid on a frame (h, w, 3) 0..1, and what its neighbour knew of it."""
    h, k = _finest(frame), _finest(laid.seen)
    error = h - k
    products = np.stack([(a * b).sum(axis=-1) for a, b in ((k, k), (h, k), (error, error))], -1)
    size = (-(-frame.shape[1] // _STEP), -(-frame.shape[0] // _STEP))
    small = [
        cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        for picture in (products, laid.valid, laid.motion)
    ]
    mean = cv2.GaussianBlur(small[0], (0, 0), _NEIGHBOURHOOD / _STEP)
    valid: Floats = cv2.GaussianBlur(cv2.erode(small[1], _AROUND), (0, 0), _EDGE / 2 / _STEP)
    motion: Floats = small[2]
    if before is not None:
        x = motion[..., 0] / np.float32(_STEP) + np.arange(size[0], dtype=np.float32)
        y = motion[..., 1] / np.float32(_STEP) + np.arange(size[1], dtype=np.float32)[:, None]
        known = cv2.remap(before.products, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        mean += np.float32(_KEPT) * (known - mean)
    return Known(laid.points, mean, valid, motion)


def noise_of(known: Known) -> float:
    """The energy of the fast frame's noise, of three colours with white 1, all bands."""
    energy, common, error = known.products[known.valid > 0.99].T
    if error.size == 0:
        return 0.0
    # Without what a gain of the reference explains: another contrast is no noise.
    rest = error - np.square(energy - common) / (energy + np.float32(_LEAST))
    return max(float(np.percentile(rest, _FLATTEST)), 0.0) / _WHITE


def weigh(
    known: Sequence[Known], size: tuple[int, int], noise: float
) -> tuple[list[Floats], list[Floats]]:
    """Of each reference its weight among all, which add up to 1 where any shows something, and the
    share of its detail to take: (h, w) 0..1 each, of the `size` h, w. noise: its energy.
    """
    least, hidden = np.float32(_LEAST), np.float32(noise * _WHITE)
    quality = []
    for one in known:
        error = one.products[..., 2]
        beyond = np.maximum(error - hidden, np.float32(0.1) * error)
        quality.append(one.valid / np.square(beyond + least))
    total = np.maximum(np.sum(quality, axis=0), np.float32(1e-12))
    weights = [one / total for one in quality]
    energy, common = (
        np.sum([w * one.products[..., c] for w, one in zip(weights, known, strict=True)], axis=0)
        for c in (0, 1)
    )
    taken = np.clip(common / (energy + least), 0, 1) ** np.float32(_FINER)
    shares = [taken * weight * one.valid for weight, one in zip(weights, known, strict=True)]
    height, width = size

    def whole(values: Floats) -> Floats:
        enlarged: Floats = cv2.resize(values, (width, height), interpolation=cv2.INTER_LINEAR)
        return enlarged.clip(0, 1)

    return [whole(weight) for weight in weights], [whole(share) for share in shares]


def quieted(frame: Floats, seen: Floats, valid: Floats, noise: float) -> Floats:
    """A frame (h, w, 3) without the noise that a reference, `seen` like it, shows to be noise.

    noise: its energy; valid: (h, w) 0..1, where the reference shows something.
    """
    difference = frame - seen
    light = cv2.GaussianBlur(difference, (0, 0), _LIGHT)
    rest = difference - light
    energy = cv2.GaussianBlur((rest * rest).sum(axis=-1), (0, 0), _NEIGHBOURHOOD)
    true = np.maximum(0, 1 - np.float32(_SAFE * noise) / np.maximum(energy, np.float32(1e-9)))
    kept = 1 - valid * (1 - true)
    result: Floats = frame - (1 - kept)[..., None] * rest
    return result


def transfer(
    frame: Floats,
    known: Sequence[Known],
    references: Sequence[Reference],
    scale: float,
    noise: float,
    like: np.dtype[Any],
    pool: ThreadPoolExecutor,
) -> Pixels:
    """The frame (h, w, 3) 0..1 at `scale`, of type `like`: (H, W, 3), `size_of` it.

    noise: what `noise_of` tells. pool: works on the frame's tiles.
    """
    low = frame
    shares: list[Floats] = []
    if known:
        weights, shares = weigh(known, (frame.shape[0], frame.shape[1]), noise)
        pictures = [r.seen(one.points) for r, one in zip(references, known, strict=True)]
        mean = np.zeros_like(frame)
        for weight, picture in zip(weights, pictures, strict=True):
            mean += weight[..., None] * picture
        low = quieted(frame, mean, np.sum(weights, axis=0), noise)
        for share, picture in zip(shares, pictures, strict=True):
            low = low - share[..., None] * picture
    fields = [field_of(one.points, share) for one, share in zip(known, shares, strict=True)]
    margin = resampling.MARGIN
    padded = np.pad(low, ((margin, margin), (margin, margin), (0, 0)), mode="reflect")
    planes = torch.from_numpy(np.ascontiguousarray(padded.transpose(2, 0, 1)))
    result = np.empty((*size_of(frame, scale), 3), like)
    white = np.iinfo(like).max

    def make(tile: Tile) -> None:
        part = _enlarged(planes, tile, scale)
        for reference, field in zip(references, fields, strict=True):
            seen, share = laid(reference, field, tile)
            part += seen * (share * np.float32(1 / reference.white))
        part *= white
        part += 0.5
        result[tile.place] = part.clip(0, white, out=part)

    for _ in pool.map(make, tiles(frame, scale)):
        pass
    return result


@dataclass(frozen=True, eq=False)
class Tile:
    """A part of a result: `box` of fast pixels (top, left, bottom, right), where its outputs lie
    in the result, and at which rows and columns of the fast frame.
    """

    box: tuple[int, int, int, int]
    place: tuple[slice, slice]
    rows: npt.NDArray[np.float64]
    columns: npt.NDArray[np.float64]


def size_of(frame: Floats, scale: float) -> tuple[int, int]:
    """Height and width of the result for a frame (h, w, ...)."""
    height, width = frame.shape[:2]
    return resampling.first_output(height, scale), resampling.first_output(width, scale)


def tiles(frame: Floats, scale: float) -> list[Tile]:
    """The parts of a frame's result."""
    height, width = frame.shape[:2]
    made = []
    for top in range(0, height, TILE):
        for left in range(0, width, TILE):
            bottom, right = min(top + TILE, height), min(left + TILE, width)
            ends = [
                (resampling.first_output(low, scale), resampling.first_output(high, scale))
                for low, high in ((top, bottom), (left, right))
            ]
            rows, columns = (
                (np.arange(*pair, dtype=np.float64) + 0.5) / scale - 0.5 for pair in ends
            )
            place = slice(*ends[0]), slice(*ends[1])
            made.append(Tile((top, left, bottom, right), place, rows, columns))
    return made


def laid(reference: Reference, field: Grid, tile: Tile) -> tuple[Pixels, Floats]:
    """A reference's pixels at a tile's outputs, (m, n, 3), and its share there, (m, n, 1)."""
    values = field.at(tile.rows, tile.columns)
    x, y = (np.ascontiguousarray(values[..., c]) for c in (0, 1))
    seen = cv2.remap(reference.pixels, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return seen, values[..., 2:]


def field_of(points: Floats, share: Floats) -> Grid:
    """Points (h, w, 2) and a share (h, w), going on evenly for a pixel beyond the frame."""
    values = np.concatenate([points, share[..., None]], axis=-1)
    height, width = values.shape[:2]
    wider = np.pad(values, ((1, 1), (1, 1), (0, 0)), mode="edge")
    if height > 1:
        wider[0], wider[-1] = 2 * wider[1] - wider[2], 2 * wider[-2] - wider[-3]
    if width > 1:
        wider[:, 0], wider[:, -1] = 2 * wider[:, 1] - wider[:, 2], 2 * wider[:, -2] - wider[:, -3]
    wider[..., 2] = wider[..., 2].clip(0, 1)
    return Grid(wider, (-1, -1, height + 1, width + 1))


def _enlarged(planes: torch.Tensor, tile: Tile, scale: float) -> Floats:
    """The outputs (m, n, 3) of a tile, from planes (3, h, w) that have a margin on each side."""
    margin = resampling.MARGIN
    top, left, bottom, right = tile.box
    window = planes[:, top : bottom + 2 * margin, left : right + 2 * margin]
    axes = [
        resampling.axis(low - margin, high - low + 2 * margin, scale, torch.device("cpu"))
        for low, high in ((top, bottom), (left, right))
    ]
    rows, columns = (
        slice(place.start - axis.first, place.stop - axis.first)
        for place, axis in zip(tile.place, axes, strict=True)
    )
    with torch.inference_mode():
        whole = resampling.enlarge(window, *axes)[:, rows, columns]
        return np.ascontiguousarray(whole.permute(1, 2, 0).numpy())


def _finest(picture: Floats) -> Floats:
    band: Floats = picture - cv2.GaussianBlur(picture, (0, 0), _FINEST)
    return band
