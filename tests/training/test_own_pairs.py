"""A user's own pair as training data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from dualsr_cli.alignment import align
from dualsr_cli.photos import Photo, read_photo
from dualsr_cli.training.own_pairs import half_size, real, telephoto
from dualsr_cli.training.patches import scale_of

SAMPLES = Path(__file__).parent.parent.parent / "sample_pairs"
Rgb = npt.NDArray[np.uint8]


def correlation(first: Rgb, second: Rgb) -> float:
    return float(np.corrcoef(first.ravel(), second.ravel())[0, 1])


@pytest.fixture(scope="module")
def city() -> tuple[Photo, Photo]:
    wide, tele = (read_photo(SAMPLES / "city" / f"{name}.png") for name in ("wide", "tele"))
    return wide, tele


def test_the_tele_photo_is_the_truth_or_there_is_none(city: tuple[Photo, Photo]) -> None:
    wide, tele = city
    aligned = align(wide, tele)
    own = telephoto(aligned, 2)
    assert scale_of(own) == 2 and own.hr is not None
    assert correlation(own.hr[::2, ::2], own.lr) > 0.9
    top, left, bottom, right = own.box
    assert np.array_equal(own.ref, own.hr[2 * top : 2 * bottom, 2 * left : 2 * right])
    height, width = own.lr.shape[:2]
    assert abs(top - (height - bottom)) <= 1 and abs(left - (width - right)) <= 1
    assert abs((bottom - top) - height / 2) <= 1

    bare = real(aligned, 3)
    assert scale_of(bare) == 3 and bare.hr is None
    assert bare.confidence is not None and bare.confidence.shape == bare.ref.shape[:2]
    top, left, bottom, right = bare.box
    reduced = bare.ref.reshape(bottom - top, 3, right - left, 3, 3).mean(axis=(1, 3))
    assert correlation(reduced, bare.lr[top:bottom, left:right]) > 0.9
    assert (bare.confidence > 200).mean() > 0.4
    assert np.array_equal(bare.lr, wide.pixels)


def test_halved_the_wide_photo_is_the_truth(city: tuple[Photo, Photo]) -> None:
    wide, tele = city
    half = half_size(wide, tele)
    assert scale_of(half) == 2 and half.hr is not None
    assert np.array_equal(half.hr, wide.pixels[: half.hr.shape[0], : half.hr.shape[1]])
    top, left, bottom, right = half.box
    truth = half.hr[2 * top : 2 * bottom, 2 * left : 2 * right]
    assert correlation(half.ref, truth) > 0.9
    with pytest.raises(ValueError, match="exchange"):
        half_size(tele, wide)
