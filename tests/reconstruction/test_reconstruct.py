"""The result against the truth, against the wide photo, and against itself in other tiles."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import replace

import cv2
import numpy as np
import pytest
from PIL import Image

from dualsr_cli.alignment import AlignedPair, Box, Grid, align
from dualsr_cli.errors import AlignmentError, UsageError
from dualsr_cli.photos import Photo
from dualsr_cli.reconstruction import Reconstruction, default_scale, measure, reconstruct

from ..alignment.conftest import Pixels, Truth
from .conftest import area_mean, blurred, photo, psnr

Look = Callable[..., Truth]

# The module, which the room's door hides behind the function of its name.
tiling = importlib.import_module("dualsr_cli.reconstruction.reconstruct")


@pytest.fixture(scope="session")
def truth(scene: Pixels) -> Pixels:
    """What the wide photo should be at twice its size, (720, 960, 3)."""
    return cv2.resize(scene, (960, 720), interpolation=cv2.INTER_AREA)


@pytest.fixture(scope="session")
def seen(look: Look) -> Truth:
    """A wide photo of 480 x 360 pixels, and a tele of 2.2x that sees 220 x 160 of them."""
    return look(zoom=2.2, centre=(0.45, 0.55), size=(484, 352), reduction=6, turn=1.5)


@pytest.fixture(scope="session")
def aligned(seen: Truth) -> AlignedPair:
    return align(seen.wide, seen.tele)


@pytest.fixture(scope="session")
def result(seen: Truth, aligned: AlignedPair) -> Reconstruction:
    return reconstruct(seen.wide, aligned, 2.0)


@pytest.fixture(scope="session")
def alone(seen: Truth) -> Reconstruction:
    return reconstruct(seen.wide, None, 2.0)


def deep(shallow: Photo) -> Photo:
    return photo(shallow.pixels.astype(np.uint16) * 257)


@pytest.mark.parametrize("scale", [1, 1.37, 2, 2.58, 3, 4])
@pytest.mark.parametrize("size", [(1, 1), (3, 5), (17, 300), (261, 257)])
def test_the_mean_over_each_wide_pixel_is_the_wide_pixel(
    scene: Pixels, size: tuple[int, int], scale: float
) -> None:
    height, width = size
    part = np.ascontiguousarray(scene[300 : 300 + height, 500 : 500 + width])
    made = reconstruct(photo(part), None, scale)
    assert made.pixels.shape == (
        *(max(1, int(np.ceil(n * scale - 0.5 - 1e-9))) for n in size),
        3,
    )
    assert np.abs(area_mean(made.pixels, height, width, scale) - part).mean() <= 1
    if scale == 1:
        assert (made.pixels == part).all()


def test_with_the_teles_detail_it_still_is(seen: Truth, result: Reconstruction) -> None:
    back = area_mean(result.pixels, seen.wide.height, seen.wide.width, 2)
    assert np.abs(back - seen.wide.pixels).mean() <= 1


@pytest.mark.parametrize("scale", [1.5, 2.2, 3])
def test_at_other_scales_it_still_is(seen: Truth, aligned: AlignedPair, scale: float) -> None:
    made = reconstruct(seen.wide, aligned, scale)
    back = area_mean(made.pixels, seen.wide.height, seen.wide.width, scale)
    assert np.abs(back - seen.wide.pixels).mean() <= 1


def test_the_teles_detail_brings_the_result_close_to_the_truth(
    truth: Pixels, aligned: AlignedPair, result: Reconstruction, alone: Reconstruction
) -> None:
    top, left, bottom, right = (2 * edge for edge in aligned.footprint_box())
    middle = np.s_[top + 40 : bottom - 40, left + 40 : right - 40]
    gain = psnr(result.pixels[middle], truth[middle]) - psnr(alone.pixels[middle], truth[middle])
    assert gain > 2.5  # dB
    assert psnr(result.pixels, truth) > psnr(alone.pixels, truth) + 0.2


def test_enlarging_alone_beats_bicubic(seen: Truth, truth: Pixels, alone: Reconstruction) -> None:
    bicubic = Image.fromarray(seen.wide.pixels).resize((960, 720), Image.Resampling.BICUBIC)
    assert psnr(alone.pixels, truth) > psnr(np.asarray(bicubic), truth) + 0.15


def test_nothing_shows_where_the_footprint_ends(
    aligned: AlignedPair, result: Reconstruction, alone: Reconstruction
) -> None:
    """What the tele adds fades out: just inside the edge there is next to nothing of it."""
    added = np.abs(result.pixels.astype(float) - alone.pixels).mean(axis=-1)
    corners = ((aligned.corners() + 0.5) * 2 - 0.5).astype(np.float32)
    inside = np.zeros((720, 960), np.uint8)
    cv2.fillConvexPoly(inside, np.rint(corners).astype(np.int32), 1)
    depth = cv2.distanceTransform(inside, cv2.DIST_L2, 5)
    outside = cv2.distanceTransform(1 - inside, cv2.DIST_L2, 5)
    core = added[depth > 40].mean()
    edge = added[(depth > 0) & (depth <= 3)].mean()
    beyond = added[(outside > 0) & (outside <= 3)].mean()
    assert edge < 0.2 * core
    assert abs(edge - beyond) < 0.2 * core
    # And no step stands along it: slopes on the edge are those of the wide photo enlarged.
    slopes = []
    for pixels in (result.pixels, alone.pixels):
        grey = pixels.astype(np.float32).mean(axis=-1)
        slope = np.hypot(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1))
        slopes.append(slope[(depth <= 2) & (outside <= 2)].mean())
    assert slopes[0] < 1.05 * slopes[1]


def squares(box: Box, side: int) -> Iterator[Box]:
    top, left, bottom, right = box
    for y in range(top, bottom, side):
        for x in range(left, right, side):
            yield y, x, min(y + side, bottom), min(x + side, right)


@pytest.mark.parametrize("scale", [2.0, 2.58])
def test_tiles_leave_no_trace(
    seen: Truth, aligned: AlignedPair, monkeypatch: pytest.MonkeyPatch, scale: float
) -> None:
    """In 16 bits, where half a step of 8 bits is 128: against one tile that holds it all."""
    wide = deep(seen.wide)
    pair = replace(aligned, wide=wide)
    agreement = measure(pair)
    monkeypatch.setattr(tiling, "_tiles", lambda box: iter([box]))
    whole = reconstruct(wide, pair, scale, agreement=agreement)
    for tile in (64, 100):
        monkeypatch.setattr(tiling, "_tiles", lambda box, tile=tile: squares(box, tile))
        tiled = reconstruct(wide, pair, scale, agreement=agreement)
        difference = np.abs(whole.pixels.astype(int) - tiled.pixels)
        assert difference.max() < 128
        assert (difference > 128).mean() < 0.001
        assert difference.mean() < 4


def test_twice_the_same_pair_gives_the_same_pixels(
    seen: Truth, aligned: AlignedPair, result: Reconstruction
) -> None:
    assert (reconstruct(seen.wide, aligned, 2.0).pixels == result.pixels).all()


def test_sixteen_bits_stay_and_say_the_same(
    seen: Truth, aligned: AlignedPair, result: Reconstruction
) -> None:
    wide = deep(seen.wide)
    made = reconstruct(wide, replace(aligned, wide=wide), 2.0)
    assert made.pixels.dtype == np.uint16
    assert np.abs(made.pixels / 257 - result.pixels).max() < 1.01
    assert len(np.unique(made.pixels)) > 10_000  # and not 8 bits blown up


def test_a_part_is_cut_from_the_whole(
    seen: Truth, aligned: AlignedPair, result: Reconstruction
) -> None:
    top, left, bottom, right = aligned.footprint_box()
    box = (top | 1, left | 1, bottom, right)  # odd, unlike the whole photo's
    part = reconstruct(seen.wide, aligned, 2.0, box=box, agreement=measure(aligned))
    top, left, bottom, right = (2 * edge for edge in box)
    assert part.box == box
    assert part.pixels.shape == (bottom - top, right - left, 3)
    difference = np.abs(part.pixels.astype(int) - result.pixels[top:bottom, left:right])
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.01
    assert part.shares[0] > 2 * result.shares[0]


def test_provenance_adds_up_and_ends_at_the_footprint(
    aligned: AlignedPair, result: Reconstruction, alone: Reconstruction
) -> None:
    assert result.provenance.shape == (90, 120, 3)
    assert np.abs(result.provenance.astype(int).sum(axis=-1) - 255).max() <= 2
    assert sum(result.shares) == pytest.approx(1, abs=0.01)
    top, left, bottom, right = aligned.footprint_box()
    from_tele = result.provenance[..., 0].copy()
    from_tele[top // 4 : bottom // 4 + 1, left // 4 : right // 4 + 1] = 0
    assert from_tele.max() == 0
    covered = (bottom - top) * (right - left) / (480 * 360)
    assert 0.2 * covered < result.shares[0] < covered
    assert alone.shares == (0, 0, 1)


def test_the_default_scale_follows_the_pair(seen: Truth, aligned: AlignedPair) -> None:
    def of(density: float, width: int = 400, height: int = 300) -> float:
        wide = photo(np.zeros((height, width, 3), np.uint8))
        return default_scale(wide, replace(aligned, fit=replace(aligned.fit, density=density)))

    assert of(2.58) == 2.58
    assert of(1.5) == 1.5
    assert of(4.6) == 4
    assert of(9.7) == 4
    assert of(2.003) == 2  # a lens sold as 2x
    assert of(2.58, 10_000, 5_000) == pytest.approx(2)  # 200 megapixels
    assert of(2.58, 20_000, 10_000) == pytest.approx(1)
    assert default_scale(seen.wide, None) == 2
    assert default_scale(seen.wide, aligned) == pytest.approx(2.2, abs=0.02)


@pytest.mark.parametrize("scale", [0.5, 0, -2, 16.5, float("nan"), float("inf")])
def test_impossible_scales_are_refused(seen: Truth, scale: float) -> None:
    with pytest.raises(UsageError, match="between 1 and 16"):
        reconstruct(seen.wide, None, scale)


def test_progress_goes_from_none_to_all(seen: Truth) -> None:
    calls: list[tuple[str, int, int]] = []
    reconstruct(seen.wide, None, 1.5, progress=lambda *call: calls.append(call))
    done = [call[1] for call in calls]
    assert done == sorted(done)
    assert calls[0][1] == 0
    assert calls[-1][1] == calls[-1][2] >= 2


def made_with(wide: Photo, tele: Photo) -> tuple[Pixels, str]:
    """The result as the command makes it, and the reason why the tele was refused."""
    try:
        pair = align(wide, tele)
        agreement = measure(pair)
    except AlignmentError as error:
        return reconstruct(wide, None, 2.0).pixels, error.reason
    return reconstruct(wide, pair, 2.0, agreement=agreement).pixels, ""


def noisy(pixels: Pixels) -> Pixels:
    grain = np.random.default_rng(0).normal(0, 25, pixels.shape)
    return np.clip(pixels + grain, 0, 255).astype(np.uint8)


def occluded(pixels: Pixels) -> Pixels:
    changed = pixels.copy()
    changed[60:260, 100:330] = pixels[::-1, ::-1][60:260, 100:330]
    return changed


TELES: dict[str, Callable[[Pixels], Pixels]] = {
    "black": np.zeros_like,
    "noise": lambda pixels: np.random.default_rng(0).integers(0, 256, pixels.shape, np.uint8),
    "noisy": noisy,
    "blurred": lambda pixels: blurred(pixels, 6),
    "a little blurred": lambda pixels: blurred(pixels, 1.5),
    "upside down": lambda pixels: pixels[::-1, ::-1],
    "mirrored": lambda pixels: pixels[:, ::-1],
    "occluded": occluded,
    "posterised": lambda pixels: pixels // 64 * 64 + 32,
    "overexposed": lambda pixels: np.clip(pixels.astype(int) * 3, 0, 255).astype(np.uint8),
    "inverted": lambda pixels: 255 - pixels,
}


@pytest.mark.parametrize("name", TELES)
def test_no_tele_makes_it_worse(
    seen: Truth, truth: Pixels, alone: Reconstruction, name: str
) -> None:
    tele = photo(TELES[name](seen.tele.pixels), "tele.png")
    pixels, reason = made_with(seen.wide, tele)
    assert psnr(pixels, truth) > psnr(alone.pixels, truth) - 0.05
    if name in ("black", "noise", "upside down", "mirrored"):
        assert reason


@pytest.mark.parametrize("shift", [1.0, 3.0, 20.0])
def test_a_wrong_alignment_does_not_make_it_worse(
    seen: Truth, truth: Pixels, aligned: AlignedPair, alone: Reconstruction, shift: float
) -> None:
    """The transforms are off by `shift` wide pixels, and the confidence does not know."""
    off = aligned.displacement.values + np.float32(shift)
    wrong = replace(aligned, displacement=Grid(off, aligned.box))
    try:
        pixels = reconstruct(seen.wide, wrong, 2.0).pixels
    except AlignmentError as error:
        assert error.reason in {"does-not-fit", "blurred"}
    else:
        assert psnr(pixels, truth) > psnr(alone.pixels, truth) - 0.05


def test_a_blurred_tele_is_refused_as_blurred(seen: Truth, aligned: AlignedPair) -> None:
    soft = photo(blurred(seen.tele.pixels, 7), "soft tele.png")
    with pytest.raises(AlignmentError, match=r"soft tele\.png is less sharp") as caught:
        measure(replace(aligned, tele=soft))
    assert caught.value.reason == "blurred"


def test_a_tele_whose_details_differ_is_refused(
    seen: Truth, aligned: AlignedPair, scene: Pixels
) -> None:
    other = photo(scene[1300:1652, 1500:1984], "other tele.png")
    with pytest.raises(AlignmentError, match=r"other tele\.png does not fit") as caught:
        measure(replace(aligned, tele=other))
    assert caught.value.reason == "does-not-fit"
