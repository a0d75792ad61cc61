"""What is shown of a case: where methods fail, and the same place of each."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dualsr_cli.benchmark.layouts import find_cases
from dualsr_cli.benchmark.pictures import (
    TRUTH,
    Picture,
    cases_to_show,
    collect_pictures,
    take_picture,
    worst,
)

sys.path.append(str(Path(__file__).parent))

from example_tables import psnr_table


def test_the_window_lies_where_results_are_farthest_from_the_truth() -> None:
    truth = np.full((300, 500, 3), 100, np.uint8)
    first, second = truth.copy(), truth.copy()
    first[200:240, 400:440] = 160
    second[10:20, 10:20] = 110
    picture = take_picture("crop", 2, "case", truth, {"first": first, "second": second}, side=64)
    assert picture.top <= 200
    assert picture.left <= 400
    assert picture.top + 64 >= 240
    assert picture.left + 64 >= 440
    assert list(picture.images) == ["first", "second", TRUTH]
    rows, columns = slice(picture.top, picture.top + 64), slice(picture.left, picture.left + 64)
    assert (picture.images["first"] == first[rows, columns]).all()
    assert (picture.images[TRUTH] == 100).all()


def test_an_image_smaller_than_the_window_is_shown_whole_in_eight_bits() -> None:
    truth = np.linspace(0, 1, 30 * 20 * 3).reshape(30, 20, 3)
    picture = take_picture("", 2, "case", truth, {"deep": np.rint(truth * 65535).astype(np.uint16)})
    assert (picture.top, picture.left) == (0, 0)
    assert picture.images["deep"].shape == (30, 20, 3)
    assert np.abs(picture.images["deep"].astype(int) - picture.images[TRUTH]).max() <= 1
    assert picture.images[TRUTH].max() == 255


def test_images_of_two_sizes_are_no_picture() -> None:
    images = {"a": np.zeros((4, 4, 3), np.uint8), "b": np.zeros((4, 5, 3), np.uint8)}
    with pytest.raises(ValueError, match="one size"):
        Picture("", 2, "case", 0, 0, images)


def test_the_worst_of_a_metric_that_is_a_distance_are_the_largest() -> None:
    table = psnr_table({"a": [30, 20, 25, 28, 27, 26]}, {"a": [0.1, 0.2, 0.5, 0.1, 0.05, 0.3]})
    assert [row.case for row in worst(table, "a", "full", "psnr", 2)] == ["case1", "case2"]
    assert [row.case for row in worst(table, "a", "full", "lpips", 2)] == ["case2", "case5"]
    assert len(worst(table, "a", "full", "psnr")) == 5
    assert worst(table, "a", "center", "psnr") == []


def test_cases_to_show_are_the_worst_of_each_method_by_turns() -> None:
    table = psnr_table({"a": [30, 20, 25, 28], "b": [19, 29, 28, 18]})
    assert cases_to_show(table, 3) == ["case1", "case3", "case2"]
    assert cases_to_show(table) == ["case1", "case3", "case2", "case0"]


def test_pictures_are_collected_of_what_was_saved(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    sizes = {"LR": (24, 20), "Ref": (48, 40), "HR": (48, 40)}
    for name in ("case0", "case1"):
        for kind, (height, width) in sizes.items():
            path = tmp_path / "data" / kind / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8)).save(path)
    found = find_cases("triplets", tmp_path / "data")
    out = tmp_path / "out"
    out.mkdir()
    results = rng.integers(0, 256, (48, 40, 3), np.uint8)
    Image.fromarray(results).save(out / "a.png")
    Image.fromarray(results[:-1]).save(out / "cut.png")
    table = psnr_table({"a": [20, 30], "b": [20, 30], "c": [20, 30]}, part="")
    images = {("case1", "a"): "a.png", ("case1", "b"): "cut.png"}
    rows = [replace(row, image=images.get((row.case, row.method))) for row in table.rows]
    tables = [replace(table, rows=tuple(rows))] * 2
    (picture,) = collect_pictures(out, tables, found.cases)
    assert (picture.part, picture.scale, picture.case) == ("", 2, "case1")
    assert list(picture.images) == ["a", TRUTH]
    assert (picture.images["a"] == results).all()
