"""`dualsr match`: the files, and what they say of a pair whose truth is known."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dualsr_cli.photos import read_photo

from .conftest import Run

Pair = tuple[Path, Path]
FILES = ["matches.npz", "matching.json", "overview.png", "similarity.png"]


@pytest.fixture(scope="module")
def cut(sample_pairs: Path, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """A wide photo, and its middle from rows 100 and columns 160 on, twice as sharp."""
    folder = tmp_path_factory.mktemp("cut")
    with Image.open(sample_pairs / "facade" / "wide.jpg") as image:
        sharp = image.crop((0, 0, 1200, 900)).convert("RGB")
    sharp.reduce(2).save(folder / "w.png")
    sharp.crop((320, 200, 880, 640)).save(folder / "t.png")
    return folder / "w.png", folder / "t.png"


def test_the_maps_say_where_each_place_has_its_like(
    dualsr: Run, cut: Pair, tmp_path: Path, valid_event: Callable[[str], dict[str, object]]
) -> None:
    out = tmp_path / "matched"
    code, stdout, _ = dualsr("match", *cut, "-o", out, "--json", "--search", "exact")
    assert code == 0
    told = valid_event(stdout)
    assert sorted(path.name for path in out.iterdir()) == FILES
    maps = np.load(out / "matches.npz")
    assert maps["rows"].shape == maps["similarity"].shape == (225, 300)
    # The place (r, c) lies at the wide pixel (2 r + 0.5, 2 c + 0.5), and so should its match be.
    rows, columns = np.mgrid[:225, :300] * 2 + 0.5
    inside = np.s_[60:150, 95:205]
    off = np.maximum(np.abs(maps["rows"] - rows), np.abs(maps["columns"] - columns))[inside]
    assert (off <= 2).mean() > 0.85
    assert maps["similarity"].min() >= -1
    # Every match lies where the tele photo looks.
    assert np.nanmin(maps["rows"]) > 98
    assert np.nanmax(maps["rows"]) < 322
    assert np.nanmin(maps["columns"]) > 158
    assert np.nanmax(maps["columns"]) < 442
    record = json.loads((out / "matching.json").read_text())
    for name in ("similarity_footprint", "similarity_corner", "reliable", "agreement"):
        assert record[name] == told[name]
    assert record["similarity_footprint"] == pytest.approx(
        float(maps["similarity"][inside].mean()), abs=0.03
    )
    assert record["similarity_footprint"] > record["similarity_corner"]
    assert record["agreement"] > 0.85
    assert (told["features"], told["search"], told["step"]) == ("gradients", "exact", 2.0)
    confidence = read_photo(out / "similarity.png").pixels[..., 0]
    assert np.abs(confidence / 255 - maps["similarity"].clip(0, 1)).max() < 0.003
    assert read_photo(out / "overview.png").pixels.shape == (225, 300, 3)


@pytest.fixture(scope="module")
def half(cut: Pair) -> Pair:
    """The same at half the size."""
    halves = []
    for path in cut:
        halves.append(path.with_name(f"small-{path.name}"))
        with Image.open(path) as image:
            image.reduce(2).save(halves[-1])
    return halves[0], halves[1]


def test_vgg16s_features_find_the_same_places(
    dualsr: Run, half: Pair, tmp_path: Path, valid_event: Callable[[str], dict[str, object]]
) -> None:
    out = tmp_path / "matched"
    words = ("--json", "--search", "exact", "--features", "vgg16")
    code, stdout, _ = dualsr("match", *half, "-o", out, *words)
    assert code == 0
    told = valid_event(stdout)
    record = json.loads((out / "matching.json").read_text())
    assert record["features"] == told["features"] == "vgg16"
    assert record["agreement"] > 0.85
    assert record["similarity_footprint"] > record["similarity_corner"]
    assert np.load(out / "matches.npz")["rows"].shape == (113, 150)


def test_other_features_make_another_result(dualsr: Run, half: Pair, tmp_path: Path) -> None:
    table = tmp_path / "pairs.csv"
    table.write_text(f"wide,tele\n{half[0]},{half[1]}\n")

    def done(*words: str) -> list[str]:
        _, stdout, _ = dualsr("match", table, "-o", tmp_path / "out", "--json", *words)
        return [json.loads(line).get("state") for line in stdout.splitlines()][:1]

    assert done() == ["done"]
    assert done("--features", "gradients") == ["unchanged"]
    assert done("--features", "vgg16") == ["done"]
    assert done("--features", "vgg16") == ["unchanged"]


def test_the_same_files_again_and_in_a_folder(dualsr: Run, half: Pair, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for path, name in zip(half, ("x_wide.png", "x_tele.png"), strict=True):
        (photos / name).write_bytes(path.read_bytes())
    words = ("--no-content-check", "-q", "--search", "clustered")
    assert dualsr("match", photos, "-o", tmp_path / "a", *words)[0] == 0
    both = (photos / "x_wide.png", photos / "x_tele.png")
    assert dualsr("match", *both, "-o", tmp_path / "b", "-q", "--search", "clustered")[0] == 0
    for name in FILES:
        assert (tmp_path / "a" / "x_wide" / name).read_bytes() == (
            tmp_path / "b" / name
        ).read_bytes()


def test_photos_that_do_not_fit(dualsr: Run, quick: Pair, tmp_path: Path) -> None:
    code, stdout, stderr = dualsr("match", *quick, "-o", tmp_path / "matched")
    assert (code, stdout) == (1, "")
    assert "black.png is black: choose another tele photo" in stderr
    assert not (tmp_path / "matched").exists()
