"""The real command on a Ray cluster: the same bytes as here, whoever is killed meanwhile."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from ray_cluster import RayCluster

from dualsr_cli import commands
from dualsr_cli.jobs import Record, read_records

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None or not sys.platform.startswith("linux"),
    reason="needs Ray and Linux",
)
PAIRS = 6


@pytest.fixture(scope="module")
def photos(sample_pairs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small real pairs, each another part of the same two photos."""
    folder = tmp_path_factory.mktemp("photos")
    with Image.open(sample_pairs / "phone-jpeg" / "tele.jpg") as image:
        tele = image.reduce(8)
    with Image.open(sample_pairs / "phone-jpeg" / "wide.jpg") as image:
        wide = image.reduce(8)
    for number in range(PAIRS):
        part = (number, number, wide.width - number, wide.height - number)
        wide.crop(part).save(folder / f"{number}_wide.png")
        tele.save(folder / f"{number}_tele.png")
    return folder


@pytest.fixture(scope="module")
def expected(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of this machine alone."""
    out = tmp_path_factory.mktemp("local")
    words = ["upscale", str(photos), "-o", str(out), "--no-content-check", "-q"]
    assert commands.run(words) == 0
    return out


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    with RayCluster(nodes=2) as running:
        yield running


def start(cluster: RayCluster, photos: Path, out: Path) -> subprocess.Popen[str]:
    words = ["upscale", photos, "-o", out, "--engine", "ray", "--jobs", "2", "-q"]
    return subprocess.Popen(
        [sys.executable, "-m", "dualsr_cli", *map(str, words), "--no-content-check"],
        env={**os.environ, **cluster.environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def workers() -> list[int]:
    """The processes of Ray's actors on this machine."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if path.read_bytes().startswith(b"ray::_Worker"):
                found.append(int(path.parent.name))
    return found


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def rows(folder: Path) -> list[Record]:
    """The manifest, times and attempts aside."""
    return [
        replace(
            record,
            attempts=0,
            started=None,
            seconds={},
            facts={name: fact for name, fact in record.facts.items() if name != "seconds"},
            inputs=tuple((name, replace(stamp, stat=None)) for name, stamp in record.inputs),
            outputs=tuple(replace(made, mtime_ns=0, before=None) for made in record.outputs),
        )
        for record in read_records(folder)[0]
    ]


def test_a_killed_worker_changes_nothing(
    cluster: RayCluster, photos: Path, expected: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with start(cluster, photos, out) as process:
        assert process.stdout is not None
        process.stdout.readline()  # the first result
        found = workers()
        assert found
        os.kill(found[0], signal.SIGKILL)
        _, stderr = process.communicate()
    assert process.returncode == 0, stderr
    assert files(out) == files(expected)
    assert rows(out) == rows(expected)
    assert sorted(path.name for path in (out / ".dualsr").iterdir()) == ["lock", "manifest"]


def test_a_killed_command_is_gone_on_with(
    cluster: RayCluster, photos: Path, expected: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with start(cluster, photos, out) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.kill()
    done = len(read_records(out)[0])
    assert 1 <= done <= PAIRS
    with start(cluster, photos, out) as process:
        stdout, stderr = process.communicate()
    assert process.returncode == 0, stderr
    assert len(stdout.splitlines()) == PAIRS
    assert files(out) == files(expected)
    assert rows(out) == rows(expected)
    assert sorted(path.name for path in (out / ".dualsr").iterdir()) == ["lock", "manifest"]
    shutil.rmtree(out)
