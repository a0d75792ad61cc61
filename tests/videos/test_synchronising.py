"""Two clips of one scene are laid over each other in time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from dualsr_cli.videos import Clip, open_clip, synchronise

from .conftest import MakeClip

LATER = 0.2371  # seconds by which the second clip's clock starts later than the first's
Path = Callable[[float], tuple[float, float]]


def scene() -> npt.NDArray[np.float32]:
    """Something to look at: smooth texture, 0..1."""
    noise = np.random.default_rng(3).random((240, 320, 3), np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 4)
    result: npt.NDArray[np.float32] = (smooth - smooth.min()) / (smooth.max() - smooth.min())
    return result


def by_hand(time: float) -> tuple[float, float]:
    """Where a camera looks that is held in a hand, in pixels of the scene."""
    return (
        12 * np.sin(2.1 * time) + 5 * np.sin(7.3 * time + 1) + 2 * np.sin(17.9 * time),
        8 * np.sin(3.3 * time + 2) + 4 * np.sin(9.1 * time) + 2 * np.sin(23.7 * time + 1),
    )


def still(time: float) -> tuple[float, float]:
    return 0.0, 0.0


def film(
    times: Sequence[float],
    size: tuple[int, int],
    view: float = 1.0,
    path: Path = by_hand,
    gain: float = 1.0,
    ball: bool = False,
    noise: float = 0.01,
) -> list[npt.NDArray[np.uint8]]:
    """Frames of the scene: `view` of its width is seen, `gain` times as bright."""
    texture = scene()
    random = np.random.default_rng(size[0])
    frames = []
    for time in times:
        x, y = path(time)
        zoom = size[0] / (240 * view)
        matrix = np.array(
            [
                [zoom, 0, size[0] / 2 - zoom * (160 + x)],
                [0, zoom, size[1] / 2 - zoom * (120 + y)],
            ]
        )
        seen = cv2.warpAffine(texture, matrix, size, flags=cv2.INTER_LINEAR)
        if ball:
            place = matrix @ (160 + 60 * np.sin(2.3 * time) + 9 * np.sin(11 * time), 120, 1)
            cv2.circle(seen, tuple(int(v) for v in place), int(12 * zoom), (1, 1, 1), -1)
        seen = seen * gain + random.normal(0, noise, seen.shape)
        frames.append((np.clip(seen, 0, 1) * 255).astype(np.uint8))
    return frames


def pair(make_clip: MakeClip, late: dict[str, Any], **both: Any) -> tuple[Clip, Clip]:
    """A fast, small clip and a slow, larger one whose clock starts LATER."""
    fast = film([at / 120 for at in range(300)], (64, 48), **both)
    slow = film([LATER + at / 24 for at in range(48)], (96, 72), **both | late)
    return (
        open_clip(make_clip("fast.mp4", fast, base=Fraction(1, 120), size=(64, 48))),
        open_clip(make_clip("slow.mp4", slow, base=Fraction(1, 24), size=(96, 72))),
    )


@pytest.mark.parametrize(
    ("late", "both"),
    [
        ({}, {}),
        ({"view": 0.5, "gain": 0.7}, {}),
        ({"view": 0.6}, {"path": still, "ball": True}),
    ],
    ids=["same view", "narrower and darker", "still cameras, a ball"],
)
def test_content_tells_the_offset(
    make_clip: MakeClip, late: dict[str, Any], both: dict[str, Any]
) -> None:
    fast, slow = pair(make_clip, late, **both)
    offset = synchronise(fast, slow)
    assert offset.refined and offset.evidence == "content"
    assert abs(float(offset.seconds) - LATER) < 1 / 120  # the gap of the fast clip's frames
    back = synchronise(slow, fast)
    assert back.refined
    assert abs(float(back.seconds) + LATER) < 1 / 120
    assert offset.stamped == 0


def test_nothing_moves(make_clip: MakeClip) -> None:
    fast, slow = pair(make_clip, {}, path=still)
    offset = synchronise(fast, slow)
    assert not offset.refined
    assert offset.seconds == offset.stamped == 0
    assert offset.evidence == "start"
    assert offset.certainty < 0.15


def test_short_clips(make_clip: MakeClip) -> None:
    """At 8 times the rate: exact from a second on. Where there are but a few sharp frames, or the
    cameras only pan, content does not tell, and time stamps stand."""

    def clips(count: int, path: Path) -> tuple[Clip, Clip]:
        fast = film([at / 240 for at in range(320)], (64, 48), path=path)
        slow = film([at / 30 + 0.05 for at in range(count)], (96, 72), 0.8, path)
        return (
            open_clip(make_clip("fast.mp4", fast, base=Fraction(1, 240), size=(64, 48))),
            open_clip(make_clip("slow.mp4", slow, base=Fraction(1, 30), size=(96, 72))),
        )

    def panning(time: float) -> tuple[float, float]:
        return 40 * time, 16 * time

    offset = synchronise(*clips(36, by_hand))
    assert offset.refined
    assert abs(float(offset.seconds) - 0.05) < 1 / 240
    for count, path in ((2, by_hand), (36, panning)):
        offset = synchronise(*clips(count, path))
        assert (offset.seconds, offset.refined, offset.evidence) == (0, False, "start")
        assert offset.certainty == 0


def test_one_moment_again_and_again(make_clip: MakeClip) -> None:
    def waving(time: float) -> tuple[float, float]:
        return 10 * np.sin(2 * np.pi * 3 * time), 0.0

    fast, slow = pair(make_clip, {}, path=waving)
    assert not synchronise(fast, slow).refined


def test_other_scenes(make_clip: MakeClip) -> None:
    def otherwise(time: float) -> tuple[float, float]:
        return tuple(-value for value in by_hand(3 - 1.3 * time))[::-1]  # type: ignore[return-value]

    fast, slow = pair(make_clip, {"path": otherwise})
    assert not synchronise(fast, slow).refined


def test_creation_times_are_the_first_guess(make_clip: MakeClip) -> None:
    def taken(name: str, at: str) -> Clip:
        frames = film([0.0] * 60, (64, 48), path=still, noise=0)
        metadata = {"creation_time": f"2024-05-01T12:30:{at}.000000Z"}
        return open_clip(make_clip(name, frames, metadata=metadata))

    first, second, hours = taken("a.mp4", "15"), taken("b.mp4", "16"), taken("c.mp4", "45")
    offset = synchronise(first, second)
    assert (offset.seconds, offset.refined, offset.evidence) == (1, False, "creation time")
    assert synchronise(second, first).seconds == -1
    assert synchronise(first, hours).seconds == 0  # they would not overlap


def test_clips_that_start_elsewhere_on_their_clocks(make_clip: MakeClip) -> None:
    stamps = list(range(30, 60))
    frames = film([0.0] * 30, (64, 48), path=still, noise=0)
    late = open_clip(make_clip("late.mp4", frames, stamps))
    early = open_clip(make_clip("early.mp4", frames))
    assert synchronise(late, early).seconds == 1
    one = open_clip(make_clip("one.mp4", frames[:1]))
    assert synchronise(late, one).seconds == 1
    assert not synchronise(one, one).refined
