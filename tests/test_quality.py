"""What a pair gains, in the half-size protocol: both photos halved, the wide photo is the truth."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from dualsr_cli.alignment import AlignedPair, align
from dualsr_cli.photos import Header, Metadata, Photo, parse_capture, read_photo
from dualsr_cli.reconstruction import measure, reconstruct

Pixels = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Halved:
    """A pair at half its size and what was made of it, each at the truth's size."""

    truth: Pixels
    bicubic: Pixels
    plain: Pixels
    ours: Pixels
    centre: Mask  # what the tele shows


def resized(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))


def half(path: Path) -> tuple[Pixels, Photo]:
    """The photo cut to even size, and half of it."""
    pixels = read_photo(path).pixels
    pixels = np.ascontiguousarray(pixels[: len(pixels) // 2 * 2, : pixels.shape[1] // 2 * 2])
    height, width = (n // 2 for n in pixels.shape[:2])
    header = Header(path, "png", width, height, 8, Metadata(), parse_capture(None))
    return pixels, Photo(resized(pixels, (width, height)), header)


def plain_recipe(wide: Pixels, tele: Pixels) -> Pixels:
    """SIFT homography, DIS flow, 0.7 of the tele's Gaussian high band added where it looks."""
    bicubic = resized(wide, (2 * wide.shape[1], 2 * wide.shape[0]))
    grey = [cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in (bicubic, tele)]
    (points, one), (others, two) = (cv2.SIFT_create(8000).detectAndCompute(g, None) for g in grey)
    pairs = [
        first
        for first, second in cv2.BFMatcher().knnMatch(two, one, k=2)
        if first.distance < 0.75 * second.distance
    ]
    homography, _ = cv2.findHomography(
        np.float32([others[m.queryIdx].pt for m in pairs]),
        np.float32([points[m.trainIdx].pt for m in pairs]),
        cv2.RANSAC,
        3.0,
    )
    size = (bicubic.shape[1], bicubic.shape[0])
    warped = cv2.warpPerspective(tele, homography, size, flags=cv2.INTER_CUBIC)
    inside = cv2.warpPerspective(np.ones(tele.shape[:2], np.float32), homography, size)
    hole = np.where(inside[..., None] > 0.99, warped, bicubic)
    dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    flow = dis.calc(grey[0], cv2.cvtColor(hole, cv2.COLOR_RGB2GRAY), None)
    y, x = np.mgrid[0 : size[1], 0 : size[0]].astype(np.float32)
    moved = cv2.remap(hole, x + flow[..., 0], y + flow[..., 1], cv2.INTER_CUBIC).astype(np.float32)
    # Of sigma 1, 2 and 4 the one with the largest gain: wider bands add what bicubic already has.
    band = moved - cv2.GaussianBlur(moved, (0, 0), 1.0)
    result = bicubic + 0.7 * band * (inside[..., None] > 0.99)
    return np.clip(np.rint(result), 0, 255).astype(np.uint8)


def centre_of(aligned: AlignedPair, shape: tuple[int, ...]) -> Mask:
    mask = np.zeros(shape[:2], np.uint8)
    corners = (aligned.corners() + 0.5) * 2 - 0.5
    cv2.fillConvexPoly(mask, np.rint(corners).astype(np.int32), 1)
    return mask > 0


# At least so many dB over bicubic: in the centre and overall.
GAINS = {"city": (4.4, 3.1), "facade": (2.4, 0.8), "phone-jpeg": (8.3, 1.7)}


def made(folder: Path) -> Halved:
    truth, wide = half(next(folder.glob("wide.*")))
    _, tele = half(next(folder.glob("tele.*")))
    aligned = align(wide, tele)
    return Halved(
        truth,
        resized(wide.pixels, (truth.shape[1], truth.shape[0])),
        plain_recipe(wide.pixels, tele.pixels),
        reconstruct(wide, aligned, 2.0, agreement=measure(aligned)).pixels,
        centre_of(aligned, truth.shape),
    )


@pytest.fixture(scope="module")
def pairs(sample_pairs: Path) -> dict[str, Halved]:
    return {name: made(sample_pairs / name) for name in GAINS}


def psnr(pixels: Pixels, truth: Pixels, mask: Mask | None = None) -> float:
    squares = (pixels.astype(float) - truth) ** 2
    return float(10 * np.log10(255**2 / np.mean(squares if mask is None else squares[mask])))


def gains(pair: Halved, pixels: Pixels) -> tuple[float, float]:
    """dB over bicubic: in the centre and overall."""
    centre, overall = (
        psnr(pixels, pair.truth, mask) - psnr(pair.bicubic, pair.truth, mask)
        for mask in (pair.centre, None)
    )
    return centre, overall


@pytest.mark.parametrize("name", GAINS)
def test_the_tele_pays(pairs: dict[str, Halved], name: str) -> None:
    centre, overall = gains(pairs[name], pairs[name].ours)
    assert centre > GAINS[name][0]
    assert overall > GAINS[name][1]


def test_it_gains_more_than_the_plain_recipe(pairs: dict[str, Halved]) -> None:
    ours = np.array([gains(pair, pair.ours) for pair in pairs.values()])
    plain = np.array([gains(pair, pair.plain) for pair in pairs.values()])
    assert (ours > plain + 0.5).all()
    assert (ours.mean(axis=0) > plain.mean(axis=0) + 1).all()
