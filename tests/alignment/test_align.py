"""Alignment against pairs whose truth is known, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from dualsr_cli.alignment import AlignedPair, align, same_scene
from dualsr_cli.errors import AlignmentError, InputError
from dualsr_cli.photos import read_photo

from .conftest import Array, Pixels, Truth, photo

Look = Callable[..., Truth]

LENSES: dict[str, dict[str, Any]] = {
    "1.5": {"zoom": 1.5},
    "2, tilted, parallax": {"zoom": 2, "tilt": (0.02, -0.01), "parallax": 1.5},
    "2.9, turned, parallax": {"zoom": 2.9, "turn": 3, "parallax": 2, "centre": (0.4, 0.6)},
    "5, turned, off-centre": {"zoom": 5, "centre": (0.3, 0.3), "turn": -4},
    "10, off-centre": {"zoom": 10, "centre": (0.25, 0.75), "size": (960, 720)},
    "turned by 10 degrees": {"zoom": 2, "turn": 10},
    "portrait against landscape": {"zoom": 2.5, "size": (420, 640)},
    "partly outside": {"zoom": 2, "centre": (0.03, 0.3)},
    "16 bits": {"zoom": 2, "bits": 16},
}


def warmer(colours: Array) -> Array:
    """Another sensor's colours: darker, warmer, a little mixed, flatter."""
    mixed = colours @ np.array([[0.9, 0.05, 0.0], [0.05, 0.85, 0.05], [0.0, 0.1, 0.7]])
    return 0.06 + 0.85 * mixed


@pytest.mark.parametrize("name", LENSES)
def test_each_wide_point_finds_its_tele_point(look: Look, name: str) -> None:
    truth = look(**LENSES[name])
    aligned = align(truth.wide, truth.tele)
    errors = truth.errors(aligned)
    assert len(errors) > 300
    assert np.median(errors) < 0.05  # wide pixels
    assert np.percentile(errors, 95) < 0.25
    assert aligned.fit.density == pytest.approx(truth.lens.zoom, rel=0.02)
    assert aligned.fit.rotation == pytest.approx(truth.lens.turn, abs=0.6)
    assert aligned.fit.confident > 0.5
    assert not aligned.swapped


def test_the_share_inside_and_the_box_are_those_of_the_truth(look: Look) -> None:
    truth = look(zoom=2, centre=(0.03, 0.3))
    aligned = align(truth.wide, truth.tele)
    left = 0.03 * (truth.wide.width - 1) + 0.5 - 320 / 2  # of the footprint, from the photo's edge
    assert aligned.fit.overlap == pytest.approx(1 + left / 320, abs=0.01)
    top, box_left, bottom, right = aligned.footprint_box()
    assert (box_left, right) == (0, pytest.approx(320 + left, abs=2))
    assert bottom - top == pytest.approx(240, abs=2)


def test_the_teles_tone_becomes_the_wides(look: Look) -> None:
    truth = look(zoom=2.3, tone=warmer)
    aligned = align(truth.wide, truth.tele)
    top, left, bottom, right = aligned.footprint_box()
    rows, columns = np.arange(top + 8.0, bottom - 8), np.arange(left + 8.0, right - 8)
    wide = truth.wide.pixels[top + 8 : bottom - 8, left + 8 : right - 8].astype(float)
    raw, _ = aligned.tele_at(rows, columns, toned=False)
    toned, valid = aligned.tele_at(rows, columns)
    assert valid.min() == 1
    assert np.abs(raw * 255 - wide).mean() > 15
    assert np.abs(toned * 255 - wide).mean() < 2
    assert np.abs((toned * 255 - wide).mean(axis=(0, 1))).max() < 0.5
    assert np.median(truth.errors(aligned)) < 0.05


def test_a_light_fall_off_is_followed(look: Look) -> None:
    truth = look(zoom=2)
    y, x = np.mgrid[-1:1:480j, -1:1:640j]
    fallen = (truth.tele.pixels * (1 - 0.15 * (x**2 + y**2))[..., None]).astype(np.uint8)
    aligned = align(truth.wide, photo(fallen, "tele.png"))
    top, left, bottom, right = aligned.footprint_box()
    rows, columns = np.arange(top + 8.0, bottom - 8), np.arange(left + 8.0, right - 8)
    wide = truth.wide.pixels[top + 8 : bottom - 8, left + 8 : right - 8].astype(float)
    raw, _ = aligned.tele_at(rows, columns, toned=False)
    toned, _ = aligned.tele_at(rows, columns)
    assert (raw * 255 - wide)[:60, :60].mean() < -15
    difference = toned * 255 - wide
    assert np.abs(difference).mean() < 4
    for part in (difference[:60, :60], difference[-60:, -60:], difference[90:150, 130:190]):
        assert np.abs(part.mean()) < 6


def test_the_wrong_order_is_noticed(look: Look) -> None:
    truth = look(zoom=2.5, centre=(0.45, 0.55))
    aligned = align(truth.tele, truth.wide)
    assert aligned.swapped
    assert aligned.wide is truth.wide
    assert aligned.tele is truth.tele
    assert np.median(truth.errors(aligned)) < 0.05


def sure(aligned: AlignedPair, box: tuple[int, int, int, int]) -> float:
    """Mean confidence in a box (top, left, bottom, right) of the wide photo."""
    rows, columns = np.arange(box[0], box[2], dtype=float), np.arange(box[1], box[3], dtype=float)
    return float(aligned.confidence.at(rows, columns).mean())


@pytest.mark.parametrize("which", ["wide", "tele"])
def test_what_only_one_photo_shows_is_not_trusted(look: Look, scene: Pixels, which: str) -> None:
    truth = look(zoom=2)
    wide, tele = truth.wide.pixels.copy(), truth.tele.pixels.copy()
    # The middle of the wide photo is the middle of the tele: something stands there in one.
    if which == "wide":
        wide[330:390, 440:520] = scene[1500:1560, 300:380]
    else:
        tele[180:300, 240:400] = scene[1500:1620, 300:460]
    aligned = align(photo(wide, "wide.png"), photo(tele, "tele.png"))
    assert sure(aligned, (338, 448, 382, 512)) < 0.15
    assert sure(aligned, (260, 340, 310, 620)) > 0.7
    assert sure(aligned, (20, 20, 120, 120)) < 0.01  # outside the footprint


def test_confidence_falls_where_the_tele_is_out_of_focus(look: Look) -> None:
    truth = look(zoom=2)
    tele = truth.tele.pixels.copy()
    tele[:, :320] = cv2.GaussianBlur(tele, (0, 0), 5)[:, :320]
    aligned = align(truth.wide, photo(tele, "tele.png"))
    assert sure(aligned, (280, 340, 440, 460)) < 0.6 * sure(aligned, (280, 500, 440, 620))


def test_twice_the_same_pair_gives_the_same_numbers(look: Look) -> None:
    truth = look(zoom=2.9, turn=2, parallax=1)
    one, two = align(truth.wide, truth.tele), align(truth.wide, truth.tele)
    assert (one.homography == two.homography).all()
    assert (one.displacement.values == two.displacement.values).all()
    assert (one.confidence.values == two.confidence.values).all()
    assert (one.tone.local.values == two.tone.local.values).all()
    assert one.fit == two.fit


@pytest.fixture(scope="module")
def plain(look: Look) -> Truth:
    return look(zoom=2)


def noise(size: tuple[int, int, int]) -> Pixels:
    return np.random.default_rng(0).integers(0, 256, size, np.uint8)


BAD_TELES: dict[str, tuple[set[str], Callable[[Truth], Pixels]]] = {
    "black": ({"featureless"}, lambda pair: np.zeros_like(pair.tele.pixels)),
    "white": ({"featureless"}, lambda pair: np.full_like(pair.tele.pixels, 255)),
    "grey": ({"featureless"}, lambda pair: np.full_like(pair.tele.pixels, 120)),
    "noise": ({"noisy", "scene-differs"}, lambda pair: noise((480, 640, 3))),
    "mirrored": ({"mirrored"}, lambda pair: pair.tele.pixels[:, ::-1]),
    "upside down": ({"turned"}, lambda pair: pair.tele.pixels[::-1, ::-1]),
    "on its side": ({"turned"}, lambda pair: pair.tele.pixels.transpose(1, 0, 2)[:, ::-1]),
    "flipped": ({"mirrored"}, lambda pair: pair.tele.pixels[::-1]),
    "the wide photo": ({"no-zoom"}, lambda pair: pair.wide.pixels),
    "one pixel": ({"featureless"}, lambda pair: pair.tele.pixels[:1, :1]),
    "one row": ({"featureless", "scene-differs", "no-zoom"}, lambda pair: pair.tele.pixels[:1]),
}


@pytest.mark.parametrize("name", BAD_TELES)
def test_a_tele_that_cannot_help_is_refused_with_its_reason(plain: Truth, name: str) -> None:
    reasons, pixels = BAD_TELES[name]
    with pytest.raises(AlignmentError) as caught:
        align(plain.wide, photo(pixels(plain), "bad tele.png"))
    assert caught.value.reason in reasons
    assert "bad tele.png" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_black_wide_photo_is_named(plain: Truth) -> None:
    with pytest.raises(AlignmentError, match=r"dark wide\.png is black") as caught:
        align(photo(np.zeros_like(plain.wide.pixels), "dark wide.png"), plain.tele)
    assert caught.value.reason == "featureless"


def test_a_tele_that_looks_past_the_wide_photo_is_refused(look: Look) -> None:
    truth = look(zoom=2, centre=(0.62, 0.5))
    half = photo(truth.wide.pixels[:, :480], "wide.png")  # the tele starts at column 434 of it
    with pytest.raises(AlignmentError) as caught:
        align(half, truth.tele)
    assert caught.value.reason in {"no-overlap", "scene-differs"}


def test_another_scene_is_refused(sample_pairs: Path, tmp_path: Path) -> None:
    for name in ("wide.jpg", "tele.jpg"):
        with Image.open(sample_pairs / "other-scene" / name) as image:
            image.reduce(2).save(tmp_path / name, quality=95, exif=image.info["exif"])
    with pytest.raises(
        AlignmentError, match=r"tele\.jpg does not show the scene of wide\.jpg"
    ) as e:
        align(read_photo(tmp_path / "wide.jpg"), read_photo(tmp_path / "tele.jpg"))
    assert e.value.reason == "scene-differs"


def test_one_scene_is_told_from_two(sample_pairs: Path, tmp_path: Path) -> None:
    def small(path: Path) -> Path:
        reduced = tmp_path / f"{path.parent.name}-{path.stem}.png"
        with Image.open(path) as image:
            image.convert("RGB").reduce(2).save(reduced)
        return reduced

    wide, tele = (small(sample_pairs / "phone-jpeg" / f"{name}.jpg") for name in ("wide", "tele"))
    other = small(sample_pairs / "other-scene" / "wide.jpg")
    assert same_scene(wide, tele) > 0.8
    assert same_scene(tele, wide) == 0  # this way round it is no pair
    assert same_scene(wide, other) == 0
    (tmp_path / "empty.jpg").touch()
    with pytest.raises(InputError, match=r"empty\.jpg is empty"):
        same_scene(wide, tmp_path / "empty.jpg")


def test_a_pair_with_exif_is_taken_at_its_word_about_the_order(sample_pairs: Path) -> None:
    wide, tele = (read_photo(sample_pairs / "phone-jpeg" / f"{n}.jpg") for n in ("wide", "tele"))

    def halved(full: Any) -> Any:
        pixels = cv2.resize(full.pixels, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        return replace(full, pixels=pixels)

    aligned = align(halved(tele), halved(wide))
    assert aligned.swapped
    assert aligned.fit.density == pytest.approx(2.58, abs=0.02)
