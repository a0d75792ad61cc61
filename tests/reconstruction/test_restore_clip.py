"""A fast clip at a sharp clip's resolution."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch

from dualsr_cli.networks.awnet import AWnet, AWnetConfig
from dualsr_cli.reconstruction import (
    ClipPlan,
    Footage,
    RestoredFrame,
    Restorer,
    plan_clip,
    plan_groups,
    restore_group,
)

from ..clips import EVERY, FACTOR, HEIGHT, RATE, WIDTH, Pixels, Shot, small, truth
from .conftest import psnr
from .pasting import Pasting

FRAMES = 12


def footage(name: str, frames: Sequence[Pixels], rate: int) -> Footage:
    shots = [Shot(pixels, Fraction(number, rate)) for number, pixels in enumerate(frames)]
    return Footage(name, [shot.time for shot in shots], lambda start, stop: shots[start:stop])


@pytest.fixture(scope="module")
def truths(scene: Pixels) -> list[Pixels]:
    return [truth(scene, number) for number in range(FRAMES)]


@pytest.fixture(scope="module")
def fast(truths: list[Pixels]) -> Footage:
    return footage("fast.mp4", [small(picture) for picture in truths], RATE)


@pytest.fixture(scope="module")
def sharp(truths: list[Pixels]) -> Footage:
    return footage("sharp.mp4", truths[::EVERY], RATE // EVERY)


@pytest.fixture(scope="module")
def plans(fast: Footage, sharp: Footage) -> tuple[ClipPlan, ClipPlan]:
    """With one reference, and with several."""
    one, two = (plan_clip(fast, sharp, several=several) for several in (False, True))
    return one, two


def restored(
    plan: ClipPlan, fast: Footage, sharp: Footage, restorer: Restorer | None = None
) -> list[RestoredFrame]:
    return [
        frame
        for group in plan.groups
        for frame in restore_group(plan, group, fast, sharp, restorer)
    ]


@pytest.fixture(scope="module")
def results(
    fast: Footage, sharp: Footage, plans: tuple[ClipPlan, ClipPlan]
) -> tuple[list[RestoredFrame], list[RestoredFrame]]:
    one, two = (restored(plan, fast, sharp) for plan in plans)
    return one, two


def mean_psnr(frames: Sequence[Pixels], truths: Sequence[Pixels]) -> float:
    return float(np.mean([psnr(a, b) for a, b in zip(frames, truths, strict=True)]))


def flicker(frames: Sequence[Pixels], truths: Sequence[Pixels]) -> float:
    errors = [a.astype(float) - b for a, b in zip(frames, truths, strict=True)]
    return float(np.mean([np.abs(b - a).mean() for a, b in pairwise(errors)]))


def test_a_clip_is_far_sharper_than_enlarged_and_two_references_beat_one(
    truths: list[Pixels], fast: Footage, results: tuple[list[RestoredFrame], list[RestoredFrame]]
) -> None:
    plain = [
        cv2.resize(shot.pixels, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
        for shot in fast.frames(0, FRAMES)
    ]
    one, two = results
    pictures = [[frame.pixels for frame in frames] for frames in results]
    assert mean_psnr(pictures[0], truths) > mean_psnr(plain, truths) + 3
    assert mean_psnr(pictures[1], truths) > mean_psnr(pictures[0], truths)
    assert flicker(pictures[1], truths) < flicker(pictures[0], truths) < flicker(plain, truths)
    assert [frame.time for frame in one] == list(fast.times)
    assert one[0].pixels.shape == (HEIGHT, WIDTH, 3) and one[0].pixels.dtype == np.uint8
    assert [frame.references for frame in two] == [2] * EVERY + [1] * (FRAMES - EVERY)


@pytest.mark.parametrize(
    "tone",
    [
        lambda colours: colours * [0.8, 0.7, 0.9],
        lambda colours: colours**0.5,
        lambda colours: colours**2,
    ],
    ids=["gains", "brighter shadows", "darker shadows"],
)
def test_the_fast_frames_light_and_colour_stay(
    tone: Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]],
    fast: Footage,
    sharp: Footage,
    plans: tuple[ClipPlan, ClipPlan],
) -> None:
    other = footage(
        "sharp.mp4",
        [np.rint(255 * tone(shot.pixels / 255)).astype(np.uint8) for shot in sharp.frames(0, 9)],
        RATE // EVERY,
    )
    shots = fast.frames(0, FRAMES)
    made = restore_group(plans[0], plans[0].groups[0], fast, other)
    for shot, frame in zip(shots, made, strict=False):
        assert frame.references == 1
        size = shot.pixels.shape[1::-1]
        mean = cv2.resize(frame.pixels.astype(np.float32), size, interpolation=cv2.INTER_AREA)
        missing = cv2.GaussianBlur(mean - shot.pixels, (0, 0), 1.0)
        assert np.abs(missing).mean() < 1
        assert abs(missing.mean()) < 0.5


def test_a_group_depends_on_no_other(
    fast: Footage,
    sharp: Footage,
    plans: tuple[ClipPlan, ClipPlan],
    results: tuple[list[RestoredFrame], list[RestoredFrame]],
) -> None:
    group = plans[1].groups[-1]
    again = restore_group(plans[1], group, fast, sharp)
    for before, after in zip(results[1][-len(group) :], again, strict=True):
        assert np.array_equal(before.pixels, after.pixels)


def test_sixteen_bits_in_sixteen_bits_out(
    fast: Footage,
    sharp: Footage,
    plans: tuple[ClipPlan, ClipPlan],
    results: tuple[list[RestoredFrame], list[RestoredFrame]],
) -> None:
    group = plans[0].groups[0]
    deep = footage(
        "fast.mp4", [shot.pixels.astype(np.uint16) * 257 for shot in fast.frames(0, FRAMES)], RATE
    )
    made = list(restore_group(plans[0], group, deep, sharp))
    assert {frame.pixels.dtype for frame in made} == {np.dtype(np.uint16)}
    for frame, other in zip(made, results[0], strict=False):
        assert np.abs(frame.pixels / 257 - other.pixels).mean() < 1


def test_a_sharp_frame_of_something_else_leaves_its_group_enlarged(
    scene: Pixels, fast: Footage, sharp: Footage, plans: tuple[ClipPlan, ClipPlan]
) -> None:
    other = cv2.resize(scene[:1080, 1440:], (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
    strange = footage("sharp.mp4", [other, *(s.pixels for s in sharp.frames(1, 2))], RATE // EVERY)
    frames = restored(plans[0], fast, strange)
    assert [frame.references for frame in frames] == [0] * 5 + [1] * (FRAMES - 5)
    assert {frame.pixels.shape for frame in frames} == {(HEIGHT, WIDTH, 3)}


def test_any_scale_is_given(fast: Footage, sharp: Footage) -> None:
    plan = plan_clip(fast, sharp, scale=2.5)
    assert (plan.width, plan.height) == (WIDTH * 5 // 8, HEIGHT * 5 // 8)
    frame = next(restore_group(plan, plan.groups[0], fast, sharp))
    assert frame.pixels.shape == (plan.height, plan.width, 3)


def loaded(network: torch.nn.Module) -> Restorer:
    network.eval().requires_grad_(False)
    return Restorer("test", network, torch.device("cpu"), "fp32")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "network",
    [
        lambda: Pasting(FACTOR),
        lambda: AWnet(AWnetConfig.compact(FACTOR)),
        lambda: AWnet(AWnetConfig.compact(FACTOR, references=2)),
    ],
)
def test_networks_restore_a_group(
    network: Callable[[], torch.nn.Module],
    truths: list[Pixels],
    fast: Footage,
    sharp: Footage,
    plans: tuple[ClipPlan, ClipPlan],
) -> None:
    torch.manual_seed(0)
    restorer = loaded(network())
    plan = replace(plans[0], groups=plan_groups(fast.times[:2], sharp.times[:1]))
    made = list(restore_group(plan, plan.groups[0], fast, sharp, restorer))
    assert [frame.time for frame in made] == list(fast.times[:2])
    for frame, shot in zip(made, fast.frames(0, 2), strict=True):
        mean = cv2.resize(frame.pixels, shot.pixels.shape[1::-1], interpolation=cv2.INTER_AREA)
        assert abs(mean.mean() - shot.pixels.mean()) < 2
    if isinstance(restorer.network, Pasting):  # what it was given is what it gives
        assert mean_psnr([frame.pixels for frame in made], truths[:2]) > 30
