"""The benchmark of clips works; what it measures is for its reader."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dualsr_cli.commands import run
from dualsr_cli.videos import open_clip

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks import video

SMALL = ["--photographs", "1", "--kinds", "pan", "--size", "512", "320"]
Ran = Callable[..., str]


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Ran:
    """ran("--frames", 9): what the benchmark prints."""

    def told(*words: object) -> str:
        monkeypatch.setattr(sys, "argv", ["video", *SMALL, *map(str, words)])
        video.main()
        return capsys.readouterr().out

    return told


def test_clips_that_it_keeps_are_a_pair(ran: Ran, tmp_path: Path) -> None:
    paths = ran("--frames", 9, "--keep", tmp_path).splitlines()
    fast, sharp, truth = map(open_clip, paths)
    assert (fast.width, sharp.width, len(sharp.times)) == (128, 512, 2)
    out = tmp_path / "out.mp4"
    assert run(["upscale", *paths[:2], "-o", str(out), "-q"]) == 0
    made = open_clip(out)
    assert (made.width, made.height, made.times) == (truth.width, truth.height, truth.times)


def test_coded_clips_are_measured(ran: Ran) -> None:
    words = ["--frames", 2, "--without", "single", "photos", "clip 2", "--json"]
    psnr = []
    for more in ([], ["--crf", 35]):
        row, mean = map(json.loads, ran(*words, *more).splitlines())
        assert row["psnr"] == mean["psnr"]
        psnr.append(row["psnr"])
    for method in ("bicubic", "clip 1"):
        assert psnr[1][method] < psnr[0][method] - 0.1
