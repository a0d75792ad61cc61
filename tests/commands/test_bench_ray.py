"""`dualsr bench` on a Ray cluster finds what it finds on this machine alone."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from ..benchmark.miniatures import MINIATURES
from ..jobs.ray_cluster import RayCluster
from .conftest import Run

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None or not sys.platform.startswith("linux"),
    reason="needs Ray and Linux",
)


def test_scores_are_those_of_one_machine(
    dualsr: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    MINIATURES["dusr-real"](tmp_path / "data")
    words = ["bench", "--dataset", "dusr-real", "--root", tmp_path / "data", "--json", "-q"]
    words += ["--method", "bicubic,detail-transfer", "--metric", "psnr", "--metric", "ssim"]

    def scores(*more: object) -> dict[tuple[str, str], object]:
        code, out, err = dualsr(*words, *more)
        assert code == 0, err
        events = map(json.loads, out.splitlines())
        return {
            (event["case"], event["method"]): event["scores"]
            for event in events
            if event["event"] == "scored"
        }

    here = scores("-o", tmp_path / "here")
    assert len(here) == 4
    with RayCluster(nodes=1) as cluster:
        for name, value in cluster.environment.items():
            monkeypatch.setenv(name, value)
        assert scores("-o", tmp_path / "there", "--engine", "ray") == here
