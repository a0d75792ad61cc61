"""Sharp frames laid on the frames of a fast clip."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from dualsr_cli.alignment import Rig, begin, find_rig, follow
from dualsr_cli.errors import AlignmentError

from ..clips import FACTOR, HEIGHT, WIDTH, Pixels, place, small, truth
from .conftest import through

Array = npt.NDArray[np.float64]
VIEW = np.array([[1.02, 0.008, 5.0], [-0.008, 1.02, -3.0], [0, 0, 1.0]])  # sharp -> fast


@pytest.fixture(scope="module")
def rig(scene: Pixels) -> Rig:
    pairs = [(small(truth(scene, n)), truth(scene, n, VIEW)) for n in (0, 8)]
    return find_rig(pairs, "fast.mp4", "sharp.mp4")


def errors(points: npt.NDArray[np.float32], frame: float, sharp: float) -> Array:
    """How far off points (h, w, 2) in the sharp frame are, in fast pixels, inside both."""
    height, width = points.shape[:2]
    y, x = np.mgrid[0:height, 0:width]
    here = (np.stack([x, y], axis=-1) + 0.5) * FACTOR - 0.5
    right = through(np.linalg.inv(place(sharp, VIEW)) @ place(frame), here)
    inside = (right > 4).all(-1) & (right < (WIDTH - 5, HEIGHT - 5)).all(-1)
    return np.linalg.norm(points - right, axis=-1)[inside] / FACTOR


def test_the_cameras_geometry_is_found_from_pairs_of_frames(rig: Rig) -> None:
    assert rig.density == pytest.approx(FACTOR / 1.02, rel=0.01)
    assert (rig.width, rig.height) == (WIDTH // FACTOR, HEIGHT // FACTOR)
    assert np.median(errors(rig.points(), 0, 0)) < 0.35


def test_a_sharp_frame_is_followed_to_a_small_part_of_a_pixel(scene: Pixels, rig: Rig) -> None:
    begun = begin(small(truth(scene, 8, ball=False)), truth(scene, 8, VIEW, ball=False), rig)
    assert begun is not None
    reference, laid = begun
    assert np.median(errors(laid.points, 8, 8)) < 0.05
    for frame in range(9, 13):
        laid = follow(small(truth(scene, frame, ball=False)), reference, laid.points)
        # 4.7 pixels of the truth a frame; no more is missed after four frames than after one.
        assert np.median(errors(laid.points, frame, 8)) < 0.06
        assert np.percentile(errors(laid.points, frame, 8), 90) < 0.2
    assert laid.valid.mean() > 0.7
    assert not laid.valid[-1, -1]  # moved out of the sharp frame


def test_a_pair_that_was_not_taken_at_the_same_time_is_laid_all_the_same(
    scene: Pixels, rig: Rig
) -> None:
    frame, sharp = small(truth(scene, 12, ball=False)), truth(scene, 8, VIEW, ball=False)
    begun = begin(frame, sharp, rig)
    assert begun is not None
    assert np.median(errors(begun[1].points, 12, 8)) < 0.06


def test_cameras_that_shook_apart_are_found_by_features(scene: Pixels, rig: Rig) -> None:
    shift = np.array([[1, 0, 110.0], [0, 1, -60.0], [0, 0, 1]])
    begun = begin(
        small(truth(scene, 8)),
        truth(scene, 8, VIEW),
        replace(rig, homography=shift @ rig.homography),
    )
    assert begun is not None
    assert np.median(errors(begun[1].points, 8, 8)) < 0.06


def test_the_sharp_frame_takes_the_fast_ones_tone(scene: Pixels, rig: Rig) -> None:
    frame, sharp = small(truth(scene, 8)), truth(scene, 8, VIEW)
    dark = np.rint(sharp * [0.7, 0.85, 0.9] + 6).astype(np.uint8)
    begun = begin(frame, dark, rig)
    assert begun is not None
    reference, laid = begun
    inside = laid.valid > 0
    assert np.abs(laid.seen - frame / 255)[inside].mean() < 3 / 255
    assert reference.pixels.mean() == pytest.approx(sharp.mean(), abs=4)


def test_sixteen_bits_are_laid_as_eight_are(scene: Pixels, rig: Rig) -> None:
    frame, sharp = small(truth(scene, 8)), truth(scene, 8, VIEW)
    deep = frame.astype(np.uint16) * 257, sharp.astype(np.uint16) * 257
    one, two = begin(frame, sharp, rig), begin(*deep, rig)
    assert one is not None and two is not None
    assert two[0].pixels.dtype == np.uint16
    assert np.abs(one[1].points - two[1].points).mean() < 0.05
    assert np.abs(one[1].seen - two[1].seen).mean() < 1 / 255


def test_what_shows_something_else_is_refused(scene: Pixels, rig: Rig) -> None:
    other = cv2.resize(scene[:1080, 1440:], (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
    frame = small(truth(scene, 8))
    assert begin(frame, other, rig) is None
    with pytest.raises(AlignmentError, match=r"^sharp\.mp4 does not show .* fast\.mp4: film"):
        find_rig([(frame, other)], "fast.mp4", "sharp.mp4")
    with pytest.raises(AlignmentError, match=r"^sharp\.mp4 or fast\.mp4 is without"):
        find_rig([(frame, np.zeros_like(other))], "fast.mp4", "sharp.mp4")


def test_one_fitting_pair_is_enough(scene: Pixels, rig: Rig) -> None:
    frame, sharp = small(truth(scene, 8)), truth(scene, 8, VIEW)
    black = np.zeros_like(frame), np.zeros_like(sharp)
    found = find_rig([black, (frame, sharp), black], "fast.mp4", "sharp.mp4")
    assert found.density == pytest.approx(rig.density, rel=0.01)
