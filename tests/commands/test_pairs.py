"""`dualsr pairs` as a person and a script see it."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from PIL import Image

from dualsr_cli import commands


@pytest.fixture
def album(tmp_path: Path) -> Path:
    """A pair, a photo of another day, and a file that is no photo."""
    folder = tmp_path / "my album"
    folder.mkdir()
    for name, time, equivalent in (
        ("a.jpg", "2024:05:17 12:00:00", 26),
        ("b, ü.jpg", "2024:05:17 12:00:03", 77),
        ("c.jpg", "2024:05:18 12:00:00", 26),
    ):
        exif = Image.Exif()
        exif.update({0x010F: "Apple", 0x0110: "iPhone 13 Pro"})
        exif.get_ifd(0x8769).update({0x9003: time, 0xA405: equivalent})
        Image.new("RGB", (16, 12)).save(folder / name, exif=exif)
    (folder / "d.jpg").write_bytes(b"")
    return folder


def test_pairs_and_reasons_for_people(album: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.run(["pairs", str(album), "--no-content-check"]) == 0
    out, err = capsys.readouterr()
    header, pair, lonely, broken = out.splitlines()
    assert header.split() == ["wide", "tele", "zoom", "seconds", "apart", "evidence"]
    assert pair.split() == ["a.jpg", "b,", "ü.jpg", "2.96", "3.00", "time,", "zoom"]
    assert lonely == (
        "c.jpg has no partner: the nearest photo of its camera, b, ü.jpg, is 24 h away, "
        "and a pair is at most 20 s apart"
    )
    assert broken.startswith("d.jpg is empty")
    assert err.endswith("pairs: 1, left over: 2\n")


def test_pairs_and_reasons_for_scripts(album: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.run(["pairs", str(album), "--no-content-check", "--json", "-q"]) == 0
    out, err = capsys.readouterr()
    pair, lonely, broken, summary = map(json.loads, out.splitlines())
    assert pair == {
        "event": "pair",
        "wide": str(album / "a.jpg"),
        "tele": str(album / "b, ü.jpg"),
        "ratio": 77 / 26,
        "seconds_apart": 3.0,
        "evidence": "time, zoom",
    }
    assert list(lonely) == ["event", "path", "reason", "sentence"]
    assert lonely["reason"] == "no-partner-in-time"
    assert (broken["path"], broken["reason"]) == (str(album / "d.jpg"), "unreadable")
    assert summary == {"event": "summary", "pairs": 1, "leftovers": 2}
    assert err == ""


def test_the_table_for_other_commands(album: Path, tmp_path: Path) -> None:
    table = tmp_path / "tables" / "pairs.csv"
    assert commands.run(["pairs", str(album), "--no-content-check", "--csv", str(table)]) == 0
    with table.open(encoding="utf-8", newline="") as file:
        assert list(csv.reader(file)) == [
            ["wide", "tele"],
            ["../my album/a.jpg", "../my album/b, ü.jpg"],
        ]


def test_a_shorter_gap_and_no_pair(album: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["pairs", str(album), "--no-content-check", "--max-gap", "2"]
    assert commands.run(words) == 1
    assert "a.jpg has no partner" in capsys.readouterr().out


def test_a_folder_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.run(["pairs", str(tmp_path / "none"), "--no-content-check"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"dualsr: {tmp_path / 'none'} cannot be opened: no such file or directory\n"


@pytest.mark.parametrize("wrong", [["--max-gap", "-1"], ["--max-gap", "soon"], ["--csv"]])
def test_wrong_usage(album: Path, wrong: list[str]) -> None:
    assert commands.run(["pairs", str(album), *wrong]) == 2


def test_pictures_settle_what_exif_does_not_tell(
    sample_pairs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert commands.run(["pairs", str(sample_pairs), "--json"]) == 0
    items = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    evidence = {
        Path(item["wide"]).parent.name: item["evidence"]
        for item in items
        if item["event"] == "pair"
    }
    assert evidence == {
        "city": "names, content",
        "statue": "names, content",
        "facade": "names",
        "phone-heic": "names",
        "phone-jpeg": "names",
    }
    assert {Path(item["path"]).parent.name for item in items if item["event"] == "leftover"} == {
        "other-scene"
    }


def test_a_stripped_tele_of_another_scene_is_left_over(
    sample_pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, source in (("1_wide", "city/wide.png"), ("1_tele", "statue/tele.jpg")):
        with Image.open(sample_pairs / source) as picture:
            picture.convert("RGB").save(tmp_path / f"{name}.png")
    assert commands.run(["pairs", str(tmp_path)]) == 1
    assert "1_wide.png does not show the same scene as 1_tele.png" in capsys.readouterr().out
