"""Upscaling as steps: the same file as in one go, whatever runs beside it."""

from __future__ import annotations

import json
import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dualsr_cli.errors import AlignmentError, InputError, OutputError, UsageError
from dualsr_cli.jobs import Item
from dualsr_cli.photos import read_header
from dualsr_cli.reconstruction import UpscaleOptions, UpscaleTask, upscale

from .conftest import item

TWICE = UpscaleTask(UpscaleOptions(scale=2))


def done(task: UpscaleTask, one: Item, target: Path) -> dict[str, Any]:
    """All steps of one pair; the facts without the seconds."""
    task.prepare()
    facts = task.write(one, task.compute(one, task.read(one)), target)
    assert set(facts.pop("seconds")) == {"read", "align", "reconstruct", "write"}
    return facts


@pytest.fixture(scope="module")
def black(items: list[Item], tmp_path_factory: pytest.TempPathFactory) -> Item:
    """A small wide photo and a black tele, which is refused: a whole run in no time."""
    folder = tmp_path_factory.mktemp("black")
    with Image.open(items[2].inputs[0]) as image:
        image.crop((200, 100, 320, 190)).save(folder / "small.png")
    Image.fromarray(np.zeros((60, 80, 3), np.uint8)).save(folder / "black.png")
    return item(folder / "small.png", folder / "black.png")


def test_the_steps_write_what_the_whole_writes(items: list[Item], tmp_path: Path) -> None:
    one = items[2]
    facts = done(TWICE, one, tmp_path / "new" / "steps.jpg")
    report = upscale(*one.inputs, tmp_path / "whole.jpg", TWICE.options)
    assert (tmp_path / "new" / "steps.jpg").read_bytes() == (tmp_path / "whole.jpg").read_bytes()
    assert facts == {name: told for name, told in report.summary().items() if name != "seconds"}
    assert json.loads(json.dumps(facts)) == facts
    assert (facts["wide"], facts["tele"]) == tuple(map(str, one.inputs))
    assert str(tmp_path) not in json.dumps({**facts, "wide": "", "tele": ""})
    assert (facts["scale"], facts["tele_used"]) == (2, True)
    assert (facts["refused"], facts["reason"]) == (None, None)
    assert facts["output_bytes"] == (tmp_path / "whole.jpg").stat().st_size


def test_pairs_at_once_give_what_pairs_in_turn_give(items: list[Item], tmp_path: Path) -> None:
    in_turn = [done(TWICE, one, tmp_path / f"turn{at}.png") for at, one in enumerate(items)]
    assert all(facts["tele_used"] for facts in in_turn)
    targets = [tmp_path / f"once{at}.png" for at in range(len(items))]
    with ThreadPoolExecutor(len(items)) as pool:
        at_once = list(pool.map(done, [TWICE] * len(items), items, targets))
    assert at_once == in_turn
    for at, target in enumerate(targets):
        assert target.read_bytes() == (tmp_path / f"turn{at}.png").read_bytes()


def test_photos_in_the_wrong_order_change_roles(items: list[Item], tmp_path: Path) -> None:
    wide, tele = items[2].inputs
    right = done(TWICE, items[2], tmp_path / "right.png")
    wrong = done(TWICE, item(tele, wide), tmp_path / "wrong.png")
    assert (tmp_path / "right.png").read_bytes() == (tmp_path / "wrong.png").read_bytes()
    assert wrong.pop("notes") == [
        "tele.jpg shows less of the scene than wide.jpg: taken as the tele photo"
    ]
    assert wrong == {**{key: right[key] for key in wrong}, "swapped": True}
    assert TWICE.memory(items[2]) == TWICE.memory(item(tele, wide))


def test_a_refused_tele_is_told(black: Item, tmp_path: Path) -> None:
    facts = done(TWICE, black, tmp_path / "a.png")
    assert (facts["tele_used"], facts["refused"]) == (False, "featureless")
    assert facts["reason"] == "black.png is black: choose another tele photo"
    crop = UpscaleTask(UpscaleOptions(crop_to_tele=True))
    with pytest.raises(AlignmentError, match="nothing to crop to"):
        crop.compute(black, crop.read(black))


def test_the_options_reach_the_file(black: Item, tmp_path: Path) -> None:
    page = tmp_path / "look.html"
    options = UpscaleOptions(scale=1.5, format="tiff", bit_depth=16, preview=page)
    done(UpscaleTask(options), black, tmp_path / "a.tif")
    header = read_header(tmp_path / "a.tif")
    assert (header.format, header.bit_depth, header.width) == ("tiff", 16, 180)
    assert page.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_what_all_pairs_lack_is_told_before_the_first(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--device cuda:99 is not on this machine"):
        UpscaleTask(UpscaleOptions(device="cuda:99")).prepare()
    with pytest.raises(OutputError, match="it is a folder"):
        UpscaleTask(UpscaleOptions(preview=tmp_path)).prepare()


def test_photos_that_cannot_be_read(black: Item, tmp_path: Path) -> None:
    wide, tele = black.inputs
    with pytest.raises(InputError, match="does not exist"):
        TWICE.read(item(wide, tmp_path / "gone.png"))
    with pytest.raises(InputError, match="given as wide and as tele photo"):
        TWICE.read(item(wide, wide.parent / ".." / wide.parent.name / wide.name))
    assert TWICE.memory(item(wide, tmp_path / "gone.png")) == 0
    (tmp_path / "text.jpg").write_text("no photo")
    assert TWICE.memory(item(tmp_path / "text.jpg", tele)) == 0


def test_the_memory_covers_photos_and_result(items: list[Item], tmp_path: Path) -> None:
    wide, tele = tmp_path / "wide.png", tmp_path / "tele.png"
    Image.new("RGB", (4000, 3000)).save(wide, compress_level=1)
    Image.new("RGB", (2000, 1500)).save(tele, compress_level=1)
    fourfold = UpscaleTask(UpscaleOptions(model="detail-transfer", scale=4))
    large = fourfold.memory(item(wide, tele))
    # 9 MP more of input and 144 MP more of output, three bytes each.
    assert large - fourfold.memory(item(tele, tele)) == pytest.approx(459_000_000, rel=0.02)
    deeper = tmp_path / "deep.png"
    Image.new("I;16", (4000, 3000)).save(deeper, compress_level=1)
    assert fourfold.memory(item(deeper, tele)) - large == 3 * 12_000_000 * (1 + 16)
    # EXIF tells the zoom of the third pair, 2.58; that of the first is unknown, so it may be 4.
    default = UpscaleTask()
    for one, scale in ((items[0], 4.0), (items[2], 2.58)):
        asked = replace(default.options, scale=scale)
        assert default.memory(one) == pytest.approx(UpscaleTask(asked).memory(one), rel=0.01)


def test_a_task_can_be_sent_elsewhere() -> None:
    assert pickle.loads(pickle.dumps(TWICE)) == TWICE
