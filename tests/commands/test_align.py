"""`dualsr align`: the files, and what a script can make of them without dualsr."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.interpolate import RegularGridInterpolator
from scipy.ndimage import map_coordinates

from dualsr_cli.photos import read_photo

from .conftest import Run

Pair = tuple[Path, Path]
FILES = ["alignment.json", "confidence.png", "overview.png", "tele_warped.png", "validity.png"]


@pytest.fixture(scope="module")
def aligned(pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the command wrote for the pair."""
    from dualsr_cli import commands

    folder = tmp_path_factory.mktemp("aligned") / "neu er Ordner"
    assert commands.run(["align", *map(str, pair), "-o", str(folder), "-q"]) == 0
    return folder


def test_the_files_have_the_wide_photos_size(aligned: Path) -> None:
    assert sorted(path.name for path in aligned.iterdir()) == FILES
    for name in ("tele_warped.png", "confidence.png", "validity.png"):
        photo = read_photo(aligned / name)
        assert (photo.width, photo.height) == (800, 450)
    with Image.open(aligned / "overview.png") as overview:
        assert overview.size == (800, 900)


def test_the_warped_tele_lies_on_the_wide_photo(aligned: Path, pair: Pair) -> None:
    wide = read_photo(pair[0]).pixels.astype(float)
    warped = read_photo(aligned / "tele_warped.png").pixels.astype(float)
    valid = read_photo(aligned / "validity.png").pixels[..., 0] > 250
    sure = read_photo(aligned / "confidence.png").pixels[..., 0]
    assert 0.13 < valid.mean() < 0.17  # 1 / 2.58^2
    assert np.abs(warped - wide)[valid].mean() < 4
    assert sure[valid].mean() > 150
    assert (sure[~valid] < 128).all()
    assert warped[~valid].mean() < 2


def test_a_script_maps_points_and_warps_by_the_json_alone(aligned: Path, pair: Pair) -> None:
    told = json.loads((aligned / "alignment.json").read_text(encoding="utf-8"))
    tele = read_photo(pair[1]).pixels.astype(float) / 255
    top, left, bottom, right = told["box"]

    def grid(values: list[object], y: np.ndarray, x: np.ndarray) -> np.ndarray:
        array = np.array(values, float)
        axes = np.linspace(top, bottom - 1, len(array)), np.linspace(left, right - 1, len(array[0]))
        return RegularGridInterpolator(axes, array)(np.stack([y, x], -1))

    # Nine samples in each wide pixel of a window inside the footprint.
    steps = np.arange(60 * 3) / 3
    y, x = np.meshgrid(
        top + 40 + steps - 1 / 3, left + 60 + np.arange(90 * 3) / 3 - 1 / 3, indexing="ij"
    )
    moved = np.stack([x, y], -1) + grid(told["displacement"]["values"], y, x)
    points = np.concatenate([moved, np.ones_like(moved[..., :1])], -1)
    points = points @ np.array(told["homography"]).T
    points = points[..., :2] / points[..., 2:]
    samples = np.stack(
        [
            map_coordinates(tele[..., c], (points[..., 1], points[..., 0]), order=3)
            for c in range(3)
        ],
        -1,
    )
    colours = samples.reshape(60, 3, 90, 3, 3).mean(axis=(1, 3))
    colours = colours @ np.array(told["tone"]["matrix"]) + np.array(told["tone"]["offset"])
    local = grid(told["tone"]["local"], y[1::3, 1::3], x[1::3, 1::3])
    colours = np.clip(colours * local[..., :3] + local[..., 3:], 0, 1) * 255
    warped = read_photo(aligned / "tele_warped.png").pixels.astype(float)
    window = warped[top + 40 : top + 100, left + 60 : left + 150]
    assert np.abs(colours - window).mean() < 1
    assert window.std() > 10


def test_the_json_says_how_well_it_fits(aligned: Path) -> None:
    told = json.loads((aligned / "alignment.json").read_text(encoding="utf-8"))
    assert told["version"] == 1
    assert (told["wide"]["width"], told["wide"]["height"]) == (800, 450)
    assert told["swapped"] is False
    fit = told["fit"]
    assert fit["density"] == pytest.approx(2.58, abs=0.02)
    assert fit["overlap"] == pytest.approx(1, abs=0.01)
    assert fit["inliers"] > 100
    corners = np.array(told["corners"])
    assert corners[2] - corners[0] == pytest.approx([800 / 2.58, 450 / 2.58], abs=3)


def test_what_people_and_scripts_are_told(dualsr: Run, small: Pair, tmp_path: Path) -> None:
    code, stdout, _ = dualsr("align", *small, "-o", tmp_path / "a", "--json")
    assert code == 0
    told = json.loads(stdout)
    assert told["event"] == "aligned"
    assert sorted(Path(path).name for path in told["files"]) == FILES
    assert told["density"] == pytest.approx(2.58, abs=0.02)
    code, stdout, stderr = dualsr("align", small[1], small[0], "-o", tmp_path / "b")
    assert code == 0
    assert stdout.splitlines()[0].startswith("tele.jpg lies on wide.jpg at 2.58")
    assert len(stdout.splitlines()) == 6
    assert "taken as the tele photo" in stderr


def test_photos_that_do_not_fit_are_refused(dualsr: Run, quick: Pair, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, stdout, stderr = dualsr("align", *quick, "-o", out, "-q")
    assert (code, stdout) == (1, "")
    assert stderr == "dualsr: black.png is black: choose another tele photo\n"
    assert not out.exists() or not list(out.iterdir())


def test_a_folder_that_cannot_be_written(dualsr: Run, small: Pair, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file")
    code, _, stderr = dualsr("align", *small, "-o", tmp_path / "file", "-q")
    assert code == 1
    assert stderr.startswith(f"dualsr: {tmp_path / 'file'}")
    assert "cannot be written" in stderr
    assert (tmp_path / "file").read_text() == "a file"


def test_an_unreadable_photo_is_named(dualsr: Run, pair: Pair, tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    code, _, stderr = dualsr("align", pair[0], tmp_path / "empty.jpg", "-o", tmp_path / "out", "-q")
    assert code == 1
    assert stderr.startswith(f"dualsr: {tmp_path / 'empty.jpg'} is empty")
    assert not (tmp_path / "out").exists()
