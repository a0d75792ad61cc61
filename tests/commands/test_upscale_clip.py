"""`dualsr upscale` of two clips."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from dualsr_cli.reconstruction import ClipOptions, GroupReport, upscale_clip
from dualsr_cli.videos import open_clip, read_frames, sole_writer

from ..alignment.conftest import scene
from ..clips import EVERY, FACTOR, HEIGHT, RATE, WIDTH, Pixels, film, small, truth
from ..conftest import ValidEvent
from ..reconstruction.conftest import psnr
from .conftest import Run

__all__ = ["scene"]

FRAMES = 12


@pytest.fixture(scope="module")
def truths(scene: Pixels) -> list[Pixels]:
    return [truth(scene, number) for number in range(FRAMES)]


@pytest.fixture(scope="module")
def clips(truths: list[Pixels], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("two clips")
    return (
        film(folder / "fast.mp4", [small(picture) for picture in truths], RATE),
        film(folder / "sharp.mp4", truths[::EVERY], RATE // EVERY),
    )


def frames(path: Path) -> list[Pixels]:
    return [frame.pixels for frame in read_frames(open_clip(path))]


def test_the_fast_clip_gets_the_sharp_ones_resolution(
    dualsr: Run, clips: tuple[Path, Path], truths: list[Pixels], tmp_path: Path
) -> None:
    out = tmp_path / "out.mp4"
    code, printed, _ = dualsr("upscale", *clips, "-o", out, "--json", "--crf", "8")
    assert code == 0
    *groups, told = [json.loads(line) for line in printed.splitlines()]
    assert {event["event"] for event in groups} == {"group"}
    assert {event["references"] for event in groups} <= {1, 2}
    assert sum(event["frames"] for event in groups) == told["frames"] == FRAMES
    assert (told["width"], told["height"], told["scale"]) == (WIDTH, HEIGHT, FACTOR)
    assert (told["resumed"], told["unreferenced"], told["swapped"]) == (0, 0, False)
    made = frames(out)
    assert open_clip(out).times == open_clip(clips[0]).times
    for number in (3, FRAMES - 1):
        plain = cv2.resize(small(truths[number]), (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
        assert psnr(made[number], truths[number]) > psnr(plain, truths[number]) + 2
        mean = cv2.resize(
            made[number], (WIDTH // FACTOR, HEIGHT // FACTOR), None, 0, 0, cv2.INTER_AREA
        )
        light = cv2.GaussianBlur(mean.astype(np.float32) - small(truths[number]), (0, 0), 1.0)
        assert np.abs(light).mean() < 1
    assert not (tmp_path / ".dualsr").exists()


def test_events_are_those_of_the_schema(
    dualsr: Run, clips: tuple[Path, Path], tmp_path: Path, valid_event: ValidEvent
) -> None:
    code, printed, _ = dualsr(
        "upscale", *clips[::-1], "-o", tmp_path / "%03d.png", "--json", "--reference", "single"
    )
    assert code == 0
    events = [valid_event(line) for line in printed.splitlines()]
    assert events[-1]["swapped"] and events[-1]["fast"] == str(clips[0])
    assert sorted(path.name for path in tmp_path.glob("*.png")) == [
        f"{number:03d}.png" for number in range(FRAMES)
    ]


KILLED = """
import os, signal, sys
from pathlib import Path
from dualsr_cli.reconstruction import ClipOptions, upscale_clip

def killed(stage, done, total):
    if stage == "restore" and done == int(sys.argv[4]):
        os.kill(os.getpid(), signal.SIGKILL)

upscale_clip(*map(Path, sys.argv[1:4]), ClipOptions(codec="ffv1", scale=2), killed)
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_a_run_that_is_killed_within_a_group_goes_on_after_the_last(
    clips: tuple[Path, Path], tmp_path: Path
) -> None:
    out, whole = tmp_path / "out.mkv", tmp_path / "whole.mkv"
    words = [str(path) for path in (*clips, out)]
    done = subprocess.run([sys.executable, "-c", KILLED, *words, str(EVERY + 2)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert not out.exists()
    options = ClipOptions(codec="ffv1", scale=2)
    groups: list[GroupReport] = []
    report = upscale_clip(*clips, out, options, finished=groups.append)
    assert report.resumed == EVERY  # two frames of the second group are lost
    assert [(group.first, group.frames) for group in groups] == [(EVERY, FRAMES - EVERY)]
    assert upscale_clip(*clips, whole, options).resumed == 0
    for one, two in zip(frames(out), frames(whole), strict=True):
        assert np.array_equal(one, two)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.mkv", "whole.mkv"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such locks")
def test_two_runs_do_not_make_one_result(
    dualsr: Run, clips: tuple[Path, Path], tmp_path: Path
) -> None:
    out = tmp_path / "out.mp4"
    with sole_writer(out):
        code, _, err = dualsr("upscale", *clips, "-o", out, "-q")
    assert code == 1
    assert err == (
        f"dualsr: {out} is being written by another run: wait until that has ended, or name "
        "another file\n"
    )


def test_clips_of_two_scenes_are_refused(
    dualsr: Run, clips: tuple[Path, Path], scene: Pixels, tmp_path: Path
) -> None:
    other = cv2.resize(scene[:1080, 1440:], (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
    strange = film(tmp_path / "strange.mp4", [other], 30)
    code, _, err = dualsr("upscale", clips[0], strange, "-o", tmp_path / "out.mp4", "-q")
    assert code == 1
    assert err.startswith("dualsr: strange.mp4 does not show the scene of fast.mp4: ")
    assert not (tmp_path / "out.mp4").exists()


def test_a_photo_of_a_moment_serves_as_a_clip_of_one_frame(
    clips: tuple[Path, Path], truths: list[Pixels], tmp_path: Path
) -> None:
    one = film(tmp_path / "one.mp4", truths[:1], 30)
    report = upscale_clip(clips[0], one, tmp_path / "out.mp4", ClipOptions(scale=2))
    assert (report.frames, report.references, report.unreferenced) == (FRAMES, 2, 0)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["fast.mp4", "sharp.jpg"], "fast.mp4 is a clip and sharp.jpg is not: give two of a kind"),
        (["fast.mp4"], "give two clips: the fast, small one and the slow, sharp one"),
        (["a.mp4", "b.mp4", "--quality", "90"], "--quality is for photos: leave it out for clips"),
        (["a.mp4", "b.mp4", "--watch"], "--watch is for photos: leave it out for clips"),
        (["a.jpg", "b.jpg", "--crf", "20"], "--crf is for clips: leave it out for photos"),
    ],
)
def test_what_does_not_go_together_is_told(
    dualsr: Run, words: list[str], sentence: str, tmp_path: Path
) -> None:
    code, out, err = dualsr("upscale", *words, "-o", tmp_path / "out.mp4", "-q")
    assert (code, out, err) == (2, "", f"dualsr: {sentence}\n")


def test_what_would_be_done_is_told(dualsr: Run, clips: tuple[Path, Path], tmp_path: Path) -> None:
    code, out, _ = dualsr("upscale", *clips, "-o", tmp_path / "out.mp4", "--dry-run")
    assert (code, out) == (0, f"new: {tmp_path / 'out.mp4'}\n")
