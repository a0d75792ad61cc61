"""Aligning as steps: the same files as in one go, whatever runs beside it and wherever they lie."""

from __future__ import annotations

import json
import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dualsr_cli.alignment import AlignTask, align_files, expected_ratio, working_memory
from dualsr_cli.errors import AlignmentError, InputError, OutputError
from dualsr_cli.jobs import Item
from dualsr_cli.photos import read_header

from .conftest import item


def done(one: Item, target: Path) -> dict[str, Any]:
    """All steps of one pair."""
    task = AlignTask()
    task.prepare()
    return task.write(one, task.compute(one, task.read(one)), target)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_steps_write_what_the_whole_writes(items: list[Item], tmp_path: Path) -> None:
    one = items[2]
    facts = done(one, tmp_path / "new" / "steps")
    report = align_files(*one.inputs, tmp_path / "whole")
    assert files(tmp_path / "new" / "steps") == files(tmp_path / "whole")
    assert sorted(files(tmp_path / "whole")) == sorted(path.name for path in report.files)
    told = report.summary()
    assert told.pop("files") == [str(path) for path in report.files]
    assert facts == told
    assert json.loads(json.dumps(facts)) == facts
    assert (facts["wide"], facts["tele"]) == tuple(map(str, one.inputs))
    assert str(tmp_path) not in json.dumps({**facts, "wide": "", "tele": ""})


def test_pairs_at_once_give_what_pairs_in_turn_give(items: list[Item], tmp_path: Path) -> None:
    in_turn = [done(one, tmp_path / f"turn{at}") for at, one in enumerate(items)]
    with ThreadPoolExecutor(len(items)) as pool:
        targets = [tmp_path / f"once{at}" for at in range(len(items))]
        at_once = list(pool.map(done, items, targets))
    assert at_once == in_turn
    for at in range(len(items)):
        assert files(tmp_path / f"once{at}") == files(tmp_path / f"turn{at}")


def test_results_do_not_tell_where_the_photos_lay(items: list[Item], tmp_path: Path) -> None:
    one = items[0]
    moved = [tmp_path / "anderswo" / path.name for path in one.inputs]
    moved[0].parent.mkdir()
    for path, copy in zip(one.inputs, moved, strict=True):
        shutil.copyfile(path, copy)
    done(one, tmp_path / "here")
    done(item(*moved), tmp_path / "there")
    assert files(tmp_path / "here") == files(tmp_path / "there")
    record = json.loads((tmp_path / "here" / "alignment.json").read_text())
    assert (record["wide"]["name"], record["tele"]["name"]) == ("wide.jpg", "tele.jpg")


def test_photos_in_the_wrong_order_change_roles(items: list[Item], tmp_path: Path) -> None:
    wide, tele = items[2].inputs
    facts = done(item(tele, wide), tmp_path / "a")
    assert (facts["swapped"], facts["wide"], facts["tele"]) == (True, str(wide), str(tele))
    assert facts["notes"] == [
        "tele.jpg shows less of the scene than wide.jpg: taken as the tele photo"
    ]


def test_what_cannot_be_aligned_or_written(items: list[Item], tmp_path: Path) -> None:
    task, one = AlignTask(), items[2]
    with pytest.raises(InputError, match="does not exist"):
        task.read(item(one.inputs[0], tmp_path / "gone.jpg"))
    Image.fromarray(np.zeros((60, 80, 3), np.uint8)).save(tmp_path / "black.png")
    black = item(one.inputs[0], tmp_path / "black.png")
    with pytest.raises(AlignmentError, match="black"):
        task.compute(black, task.read(black))
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        done(one, tmp_path / "file")


def test_the_memory_covers_photos_and_pictures(items: list[Item], tmp_path: Path) -> None:
    task = AlignTask()
    wide, tele = tmp_path / "wide.png", tmp_path / "tele.png"
    Image.new("RGB", (4000, 3000)).save(wide, compress_level=1)
    Image.new("RGB", (2000, 1500)).save(tele, compress_level=1)
    # Both photos, the warped tele, two masks with one and with three colours.
    pixels = 12_000_000 * (3 + 3 + 8) + 3_000_000 * 3
    work = working_memory(read_header(wide), read_header(tele))
    assert task.memory(item(wide, tele)) == task.memory(item(tele, wide)) == pixels + work
    # Nobody knows how much closer the tele is here; where EXIF tells, less is enough.
    assert work - (350 << 20) == 12_000_000 * 64
    assert working_memory(*(read_header(path) for path in items[2].inputs)) < work
    assert expected_ratio(*(read_header(path) for path in items[2].inputs)) == pytest.approx(
        2.58, abs=0.01
    )
    assert task.memory(item(wide, tmp_path / "gone.png")) == 0


def test_a_task_can_be_sent_elsewhere() -> None:
    assert pickle.loads(pickle.dumps(AlignTask())) == AlignTask()
