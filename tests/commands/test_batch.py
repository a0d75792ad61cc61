"""Folders and tables of pairs through the commands, with their manifest."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from dualsr_cli.photos import read_photo

from .conftest import Run

Pair = tuple[Path, Path]


@pytest.fixture
def trip(quick: Pair, tmp_path: Path) -> Path:
    """Three small pairs, named so, in a folder and one below it, and a photo left over."""
    folder = tmp_path / "trip"
    (folder / "day 2").mkdir(parents=True)
    for number, name in enumerate(("a", "day 2/b", "day 2/c")):
        with Image.open(quick[0]) as wide:
            wide.rotate(90 * number, expand=True).save(folder / f"{name}_wide.jpg", quality=95)
        shutil.copy(quick[1], folder / f"{name}_tele.png")
    shutil.copy(quick[0], folder / "day 2" / "alone.jpg")
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and ".dualsr" not in path.parts
    }


RESULTS = ["a_wide.jpg", "day 2/b_wide.jpg", "day 2/c_wide.jpg"]


def test_a_folder_is_done_once_and_gone_on_with(
    dualsr: Run, trip: Path, tmp_path: Path, valid_event: Callable[[str], dict[str, object]]
) -> None:
    out = tmp_path / "out"
    words = ("upscale", trip, "-o", out, "--no-content-check")
    code, stdout, stderr = dualsr(*words, "--dry-run")
    assert code == 0
    assert stdout.splitlines() == [f"new: {out / name}" for name in RESULTS]
    assert not out.exists()

    code, stdout, stderr = dualsr(*words, "--json")
    assert code == 0
    events = [valid_event(line) for line in stdout.splitlines()]
    assert [event["event"] for event in events] == ["leftover"] + 3 * ["upscaled"] + ["batch"]
    assert [event["item"] for event in events[1:4]] == RESULTS
    assert events[-1]["done"] == 3
    first = files(out)
    assert sorted(first) == RESULTS
    assert "3 done in" in stderr
    assert "alone.jpg has no partner" in stderr

    code, stdout, stderr = dualsr(*words, "--json")
    events = [valid_event(line) for line in stdout.splitlines()]
    assert (code, events[-1]["done"], events[-1]["unchanged"]) == (0, 0, 3)

    (trip / "day 2" / "b_wide.jpg").write_bytes((trip / "a_wide.jpg").read_bytes())
    (trip / "day 2" / "c_wide.jpg").write_bytes(b"no photo")
    (out / "a_wide.jpg").unlink()
    code, stdout, _ = dualsr(*words, "--dry-run")
    actions = [line.split(":")[0] for line in stdout.splitlines()]
    assert (code, actions) == (0, ["again", "changed"])
    code, stdout, stderr = dualsr(*words, "-q")
    assert code == 3
    assert stdout.splitlines() == [str(out / name) for name in RESULTS[:2]]
    (line,) = [line for line in stderr.splitlines() if "c_wide" in line]
    assert line.startswith("dualsr: day 2/c_wide.jpg is a text file, not a photo: ")
    assert files(out)["a_wide.jpg"] == first["a_wide.jpg"]
    assert files(out)["day 2/b_wide.jpg"] == first["a_wide.jpg"]


def test_a_table_of_pairs_and_what_its_manifest_tells(
    dualsr: Run,
    quick: Pair,
    trip: Path,
    tmp_path: Path,
    valid_event: Callable[[str], dict[str, object]],
) -> None:
    shutil.copy(trip / "a_wide.jpg", trip / "a_wide.JPG.jpg")
    with Image.open(trip / "a_wide.jpg") as wide:
        wide.save(trip / "a_wide.png")
    (trip / "bad.jpg").write_bytes(b"\xff\xd8\xff nothing more")
    (trip / "pairs.csv").write_text(
        "wide,tele\na_wide.jpg,a_tele.png\na_wide.png,a_tele.png\nbad.jpg,a_tele.png\n"
        "gone.jpg,a_tele.png\n"
    )
    out = tmp_path / "out"
    words = ("upscale", trip / "pairs.csv", "-o", out, "--format", "png")
    code, stdout, _ = dualsr(*words, "--json", "--save-config", tmp_path / "run.yaml")
    assert code == 3
    events = {event.get("item"): event for event in map(valid_event, stdout.splitlines())}
    assert sorted(files(out)) == ["a_wide.jpg.png", "a_wide.png.png"]
    assert events["bad.png"]["event"] == "failed"
    assert "gone.jpg does not exist" in str(events["gone.png"]["error"])
    assert (tmp_path / "run.yaml").read_text().splitlines() == [
        f"output: {out}",
        "format: png",
        "json: true",
    ]

    code, stdout, _ = dualsr("jobs", out, "--json", "--state", "failed")
    rows = [valid_event(line) for line in stdout.splitlines()]
    assert [(row["item"], row["code"]) for row in rows] == [
        ("bad.png", "input"),
        ("gone.png", "input"),
    ]
    for suffix in ("csv", "jsonl"):
        assert dualsr("jobs", out, "--export", tmp_path / f"rows.{suffix}")[0] == 0
        assert len((tmp_path / f"rows.{suffix}").read_text().splitlines()) == 4 + (suffix == "csv")
    assert dualsr("jobs", out, "--export", tmp_path / "rows.xls")[0] == 2

    dualsr("jobs", out, "--retry", "--state", "done", "--item", "*.jpg.png")
    words = ("upscale", trip / "pairs.csv", "--config", tmp_path / "run.yaml", "--dry-run")
    plans = [valid_event(line) for line in dualsr(*words)[1].splitlines()]
    assert {str(plan["item"]): plan["action"] for plan in plans} == {
        "a_wide.jpg.png": "again",
        "a_wide.png.png": "unchanged",
        "bad.png": "again",
        "gone.png": "again",
    }


def test_shards_and_their_merge(dualsr: Run, trip: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ("upscale", trip, "-o", out, "--no-content-check", "-q")
    for number in (1, 2, 3):
        assert dualsr(*words, "--shard", f"{number}/3")[0] in (0, 1)  # 1: nothing in this part
    assert sorted(files(out)) == RESULTS
    assert sorted(path.name for path in (out / ".dualsr").iterdir()) == [
        "lock",
        "manifest-1-of-3",
        "manifest-2-of-3",
        "manifest-3-of-3",
    ]
    code, stdout, _ = dualsr("jobs", out, "--merge")
    assert [line.split("  ")[0] for line in stdout.splitlines()[1:]] == RESULTS
    assert sorted(path.name for path in (out / ".dualsr").iterdir()) == ["lock", "manifest"]
    code, _, stderr = dualsr("upscale", trip, "-o", out, "--no-content-check")
    assert (code, "0 done, 3 unchanged" in stderr) == (0, True)


def test_align_makes_a_folder_for_each_pair(dualsr: Run, pair: Pair, tmp_path: Path) -> None:
    source = tmp_path / "in"
    (source / "x").mkdir(parents=True)
    for path, name in zip(pair, ("p_wide.jpg", "p_tele.jpg"), strict=True):
        with Image.open(path) as image:
            image.reduce(2).save(source / "x" / name, quality=95)
    out = tmp_path / "out"
    code, stdout, _ = dualsr("align", source, "-o", out, "--no-content-check")
    assert code == 0
    assert stdout.splitlines()[-1] == str(out / "x" / "p_wide")
    assert sorted(files(out)) == [
        f"x/p_wide/{name}"
        for name in (
            "alignment.json", "confidence.png", "overview.png", "tele_warped.png", "validity.png",
        )
    ]  # fmt: skip


def test_two_photos_into_a_folder(dualsr: Run, quick: Pair, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    assert dualsr("upscale", *quick, "-o", out)[0] == 0
    assert read_photo(out / "small.jpg").width == 240
    assert (out / ".dualsr" / "manifest").is_file()
    assert dualsr("upscale", *quick, "-o", f"{tmp_path}/new/", "-q")[0] == 0
    assert (tmp_path / "new" / "small.jpg").is_file()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["trip", "-o", "trip"], "is to be searched and to hold the results"),
        (["trip", "-o", "out.png"], "out.png is a file's name, but many results may come"),
        (["trip", "-o", "out", "--preview", "a.html"], "--preview is for two photos"),
        (["trip", "-o", "out", "--shard", "4/3"], "--shard 4/3 is no part"),
        (["trip", "-o", "out", "--max-memory", "lots"], "--max-memory lots is no size"),
        (["trip", "-o", "out", "--ray-address", "auto"], "--ray-address is for --engine ray"),
        (["none", "-o", "out"], "none does not exist"),
        (["trip/day 2/alone.jpg", "-o", "out"], "neither a folder nor a pairs table"),
        (["a", "b", "c", "-o", "out"], "3 inputs are given"),
        (["a", "b", "-o", "x.png", "--watch"], "--watch is for a folder"),
    ],
)
def test_what_cannot_be_meant(
    dualsr: Run,
    trip: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    sentence: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, stdout, stderr = dualsr("upscale", *words)
    assert code == (1 if sentence == "none does not exist" else 2)
    assert stdout == ""
    assert sentence in stderr
    assert stderr.count("\n") == 1
    assert files(tmp_path).keys() == {f"trip/{name}" for name in files(trip)}


def test_a_folder_without_a_pair(dualsr: Run, trip: Path, tmp_path: Path) -> None:
    for path in trip.rglob("*_tele.png"):
        path.unlink()
    code, _, stderr = dualsr("upscale", trip, "-o", tmp_path / "other", "-q")
    assert code == 1
    assert "has no pair to work on: 'dualsr pairs' tells why" in stderr


def start(*words: object, **streams: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "dualsr_cli", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **streams,  # type: ignore[call-overload]
    )


def test_watching_takes_pairs_as_they_come(trip: Path, tmp_path: Path) -> None:
    late = {path: path.read_bytes() for path in trip.rglob("c_*")}
    for path in late:
        path.unlink()
    out = tmp_path / "out"
    words = ("upscale", trip, "-o", out, "--no-content-check", "--watch", "--interval", "0.2", "-q")
    with start(*words) as process:
        assert process.stdout is not None
        told = [process.stdout.readline().strip() for _ in range(2)]
        assert told == [str(out / name) for name in RESULTS[:2]]
        for path, content in late.items():
            path.write_bytes(content)
        assert process.stdout.readline().strip() == str(out / RESULTS[2])
        process.send_signal(signal.SIGTERM)
        stdout, stderr = process.communicate()
    assert (process.returncode, stdout) == (130, "")
    *warnings, last = stderr.splitlines()
    assert last == "dualsr: interrupted"
    assert [line.split(": ")[2] for line in warnings] == RESULTS
    assert sorted(files(out)) == RESULTS


def test_ctrl_c_ends_a_folder_in_order(trip: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with start("upscale", trip, "-o", out, "--no-content-check", "--scale", "16") as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate()
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr
    assert stderr.endswith("dualsr: interrupted\n")
    assert sorted(path.name for path in (out / ".dualsr").iterdir()) == ["lock", "manifest"]
    assert not any(".part" in name for name in files(out))


def test_the_readmes_script(repository: Path, tiny: Pair, tmp_path: Path) -> None:
    """It goes through folders, tells what failed, and goes on when it is run again."""
    text = (repository / "README.md").read_text(encoding="utf-8")
    (script,) = re.findall(r"<!-- example:script -->\n```sh\n(.*?)```", text, re.DOTALL)
    (tmp_path / "sharpen.sh").write_text(script)
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "dualsr").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m dualsr_cli "$@"\n')
    (programs / "dualsr").chmod(0o755)
    photos, results = tmp_path / "photos", tmp_path / "results"
    (photos / "empty").mkdir(parents=True)
    (photos / "day 2").mkdir()
    for name in ("b_wide", "b_tele", "c_wide", "c_tele"):
        with Image.open(tiny[name.endswith("tele")]) as image:
            image.save(photos / "day 2" / f"{name}.jpg", quality=95)
    good = (photos / "day 2" / "c_wide.jpg").read_bytes()
    (photos / "day 2" / "c_wide.jpg").write_bytes(good[:-3000])
    environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}
    command = ["sh", str(tmp_path / "sharpen.sh"), str(photos), str(results)]

    def go() -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    first = go()
    assert first.returncode == 1, first.stderr  # the empty folder
    assert f"nothing done in {photos}/empty/ (code 1)" in first.stderr
    assert first.stdout.splitlines() == [str(results / "day 2" / "b_wide.jpg")]
    assert f"some photos of {photos}/day 2/ failed" in first.stderr
    assert "c_wide.jpg is truncated or damaged" in (results / "problems.txt").read_text()
    (photos / "empty").rmdir()
    (photos / "day 2" / "c_wide.jpg").write_bytes(good)
    second = go()
    assert second.returncode == 0, second.stderr
    assert sorted(files(results)) == ["day 2/b_wide.jpg", "day 2/c_wide.jpg", "problems.txt"]
