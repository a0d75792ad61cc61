"""The short version of `python -m benchmarks.kills`: whatever is killed can be resumed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.skipif(sys.platform != "linux", reason="looks for workers in /proc")
def test_a_killed_run_is_resumed_to_the_same_bytes(repository: Path) -> None:
    words = ["--pairs", "3", "--every", "17", "--random", "1"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.kills", *words],
        cwd=repository,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    rows = [line.rsplit(maxsplit=3)[:3] for line in done.stdout.splitlines()[1:]]
    assert [what for what, _, _ in rows] == [
        "upscale  killed at every 17. step",
        "upscale  disk full at every 51. step",
        "upscale  killed at random",
        "align    killed at every 51. step",
        "align    disk full at every 153. step",
        "align    killed at random",
    ]
    assert [failures for _, _, failures in rows] == ["0"] * 6
    points = [int(count) for _, count, _ in rows]
    assert points[0] >= 7
    assert points[1] >= 2
    assert points[2] == 1
    assert points[3] >= 2
