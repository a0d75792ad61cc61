"""`dualsr bench`: what it prints, what it leaves behind, what it refuses."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dualsr_cli import jobs
from dualsr_cli.benchmark import PROTOCOLS

from ..benchmark.miniatures import MINIATURES
from ..conftest import ValidEvent
from .conftest import Run

Event = dict[str, Any]


@pytest.fixture(scope="module")
def dusr_real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("größere Daten")
    MINIATURES["dusr-real"](root)
    return root


def words(root: Path, *more: object) -> list[object]:
    return ["bench", "--dataset", "dusr-real", "--root", root, *more]


def named(events: list[Event], name: str) -> list[Event]:
    return [event for event in events if event["event"] == name]


def test_a_data_set_is_scored_and_broken_cases_are_told(
    dualsr: Run, dusr_real: Path, tmp_path: Path, valid_event: ValidEvent
) -> None:
    root = Path(shutil.copytree(dusr_real, tmp_path / "own"))
    broken = root / "DuSR-Real" / "test" / "LR" / "0026_0066.png"
    broken.write_bytes(broken.read_bytes()[:100])
    asked = words(root, "--method", "bicubic,lanczos", "--limit", 2, "--metric", "psnr")
    asked += ["-o", tmp_path / "out"]
    code, out, err = dualsr(*asked, "--json")
    assert code == 3
    assert err.count(str(broken)) == 1, "not once for each method"
    events = [valid_event(line) for line in out.splitlines()]
    assert [event["case"] for event in named(events, "scored")] == ["0010_0000"] * 2
    assert [event["case"] for event in named(events, "unscored")] == ["0026_0066"] * 2
    measured = [event for event in named(events, "mean") if event["paper"] is None]
    assert [(mean["method"], mean["missing"]) for mean in measured] == [
        ("bicubic", 1),
        ("lanczos", 1),
    ]
    assert {event["paper"] for event in named(events, "mean")} == {None, "dm3net", "sddusr"}
    (batch,) = named(events, "batch")
    assert (batch["done"], batch["failed"]) == (2, 2)
    assert Path(batch["manifest"]).is_file()

    # Put right, only that is done; the table then says what the files say.
    shutil.copy(dusr_real / broken.relative_to(root), broken)
    code, out, err = dualsr(*asked)
    assert code == 0 and "2 done, 2 unchanged" in err
    title, _, *lines = out.splitlines()
    assert title == "dusr-real, test, x2, by kedusr: means of 2 cases"
    assert "<table" in (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    tables = json.loads((tmp_path / "out" / "results.json").read_text(encoding="utf-8"))
    assert tables["tables"][0]["expected"] == 2
    bicubic = next(line.split() for line in lines if line.startswith("bicubic"))
    files = sorted((tmp_path / "out").glob("**/bicubic/*.json"))
    values = [json.loads(file.read_text())["scores"]["full"]["psnr"] for file in files]
    assert len(files) == 2
    assert bicubic[1:3] == ["measured", f"{sum(values) / 2:.2f}"]
    assert any(line.startswith("KeDuSR") and "DM3Net, table 2" in line for line in lines)


def test_results_of_peers_go_to_the_default_folder_and_its_page(
    dualsr: Run, dusr_real: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DUALSR_DATA", str(tmp_path / "data"))
    shutil.copytree(dusr_real, tmp_path / "data" / "dusr-real")
    truth = dusr_real / "DuSR-Real" / "test" / "HR"
    shutil.copytree(truth, tmp_path / "peer, too")
    code, out, err = dualsr(
        "bench", "--dataset", "dusr-real", "--results", truth, "--name", "Oracle",
        "--results", "peer, too", "--name", "Peer", "--metric", "psnr", "--subset", "0010*",
    )  # fmt: skip
    assert code == 0 and "2 done" in err
    _, _, oracle, peer, *_ = (line.split() for line in out.splitlines())
    assert (oracle[:2], peer[:2]) == (["Oracle", "measured"], ["Peer", "measured"])
    assert oracle.count("∞") == peer.count("∞") == 3
    folder = tmp_path / "bench-dusr-real"
    scores = folder / "dusr-real-test-x2" / "kedusr" / "Oracle"
    assert [path.name for path in scores.iterdir()] == ["0010_0000.json"]
    found = re.search(r'id="data">(.*)</script>', (folder / "index.html").read_text("utf-8"))
    assert found
    (shown,) = json.loads(found[1])["pictures"]
    assert list(shown["images"]) == ["Oracle", "Peer", "truth"]


def test_only_what_was_asked_for_is_in_the_tables(
    dualsr: Run, dusr_real: Path, tmp_path: Path
) -> None:
    asked = words(dusr_real, "--method", "bicubic", "--limit", 1, "--metric", "psnr")
    code, out, _ = dualsr(*asked, "-o", tmp_path)
    files = [tmp_path / name for name in ("results.csv", "results.md", "results.tex", "index.html")]
    texts = [out, *(path.read_text("utf-8") for path in files)]
    texts.append(json.dumps(json.loads((tmp_path / "results.json").read_text("utf-8"))["tables"]))
    assert code == 0
    for text in texts:
        shown = re.sub("<script.*</script>", "", text, flags=re.DOTALL)
        tables = shown.partition("Machine and versions")[0].lower()
        assert "psnr" in tables and "ssim" not in tables and "lpips" not in tables


def test_a_missing_partner_stops_what_is_to_stop(
    dualsr: Run, dusr_real: Path, tmp_path: Path, valid_event: ValidEvent
) -> None:
    root = Path(shutil.copytree(dusr_real, tmp_path / "own"))
    (root / "DuSR-Real" / "test" / "Ref_SIFT" / "0010_0000.png").unlink()
    asked = words(root, "--method", "bicubic", "--limit", 1, "--metric", "psnr")
    code, out, err = dualsr(*asked, "-o", tmp_path / "out", "--stop-at-failure", "--json")
    events = [valid_event(line) for line in out.splitlines()]
    assert [event["event"] for event in events] == ["unscored", "batch"]
    assert code == 1 and events[0]["case"] == "0010_0000" and events[1]["remaining"] == 1
    assert "0010_0000.png has no partner" in err and "stopped at the first failure" in err
    code, out, _ = dualsr(*asked, "-o", tmp_path / "out")
    assert code == 3 and "means of 1 of 2 cases" in out


def test_weights_that_are_not_there_end_a_run_before_its_first_image(
    dualsr: Run, dusr_real: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "none"))
    asked = words(dusr_real, "--method", "bicubic", "--metric", "psnr,lpips-vgg")
    code, _, err = dualsr(*asked, "-o", tmp_path / "out")
    assert code == 1 and err.count("vgg16-397923af.pth (553 MB) and put it there") == 1
    assert "0 done, 2 not come to" in err


@pytest.mark.parametrize(("more", "expected"), [((), (1, 3 << 30)), (("--jobs", 2), (2, 3 << 30))])
def test_what_works_is_one_process_beside_this_one(
    dualsr: Run,
    dusr_real: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    more: tuple[object, ...],
    expected: tuple[int, int],
) -> None:
    asked: list[tuple[int, int]] = []

    def local(task: jobs.Task, count: int, memory: int) -> jobs.Engine:
        asked.append((count, memory))
        return jobs.InlineEngine(task)

    monkeypatch.setattr(jobs, "LocalEngine", local)
    wanted = words(dusr_real, "--method", "bicubic", "--metric", "psnr", "--max-memory", "3G")
    assert dualsr(*wanted, "--limit", 1, "-o", tmp_path, *more)[0] == 0
    assert asked == [expected]


KILLED = """
import os, signal, sys
from dualsr_cli import commands
from dualsr_cli.console import Console

emit, scored = Console.emit_json, []

def killed(self, event):
    emit(self, event)
    scored.extend([event] if event["event"] == "scored" else [])
    if len(scored) == 3:
        os.kill(os.getpid(), signal.SIGKILL)

Console.emit_json = killed
commands.run(sys.argv[1:])
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_killed_in_the_middle_it_goes_on_to_the_same_bytes(
    dualsr: Run, dusr_real: Path, tmp_path: Path
) -> None:
    """The one that is killed has its worker in another process."""
    asked = words(dusr_real, "--method", "bicubic,lanczos", "--metric", "psnr", "--save-images")
    asked += ["--json", "-o"]
    command = [sys.executable, "-c", KILLED, *map(str, asked), str(tmp_path / "part")]
    killed = subprocess.run(command, check=False, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert dualsr(*asked, tmp_path / "whole")[0] == 0
    code, out, _ = dualsr(*asked, tmp_path / "part")
    states = [event["state"] for event in named(list(map(json.loads, out.splitlines())), "scored")]
    assert (code, states) == (0, ["unchanged"] * 3 + ["done"])

    def made(folder: Path) -> dict[str, bytes]:
        files = (folder / "dusr-real-test-x2").rglob("*.*")
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}

    assert len(made(tmp_path / "whole")) == 8
    assert made(tmp_path / "part") == made(tmp_path / "whole")


def test_names_repeated_or_with_commas_also_from_a_file(
    dualsr: Run, dusr_real: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last name is wrong: so all were taken."""
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "run.yaml"
    for more in (
        ("--method", "bicubic", "--method", "lanczos, nearest", "--save-config", file),
        ("--config", file),
    ):
        code, _, err = dualsr(*words(dusr_real, *more))
        assert (code, "no method 'nearest'" in err) == (2, True)
    assert "method: bicubic,lanczos, nearest" in file.read_text().splitlines()
    code, _, err = dualsr(*words(dusr_real, "--config", file, "--method", "peer"))
    assert "no method 'peer'" in err


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (("--method", "bicubic,nearest"), "there is no method 'nearest': choose among bicubic"),
        (("--results", "x"), "--results and --name belong together"),
        (("--results", "x", "--results", "y", "--name", "X"), "give each folder a name"),
        (("--protocol", "mine"), "there is no protocol 'mine': choose kedusr"),
        (("--part", "sony"), "dusr-real has no part 'sony'"),
        (("--max-memory", "much"), "--max-memory much is no size"),
        (("--device", "tpu"), "--device tpu is unknown"),
        (("--ray-address", "node:6379"), "--ray-address is for --engine ray"),
        (("--write-recipes", "x"), "is for the rows of an ablation: name it by --ablation"),
        (("--ablation", "awnet-noise", "--method", "bicubic,lanczos"), "an ablation varies one"),
    ],
)
def test_what_cannot_be_asked_for(
    dualsr: Run,
    dusr_real: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    more: tuple[str, ...],
    sentence: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = dualsr(*words(dusr_real, *more))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert sentence in err
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_tells_what_would_be_scored(
    dualsr: Run, dusr_real: Path, tmp_path: Path, valid_event: ValidEvent
) -> None:
    asked = words(dusr_real, "--method", "bicubic,lanczos", "--limit", 2, "--metric", "psnr")
    asked += ["-o", tmp_path / "out"]
    code, out, _ = dualsr(*asked, "--dry-run")
    assert code == 0 and not (tmp_path / "out").exists()
    assert [line.split() for line in out.splitlines()[1:]] == [
        [method, "kedusr", "0", "2", "0.0"] for method in ("bicubic", "lanczos")
    ]
    assert dualsr(*asked, "--subset", "0010*")[0] == 0
    code, out, _ = dualsr(*asked, "--dry-run", "--json")
    events = [valid_event(line) for line in out.splitlines()]
    assert [(event["case"], event["action"]) for event in named(events, "due")] == [
        (case, action)
        for case, action in (("0010_0000", "unchanged"), ("0026_0066", "new"))
        for _ in range(2)
    ]


def test_the_list_names_all_that_can_be_chosen(
    dualsr: Run, monkeypatch: pytest.MonkeyPatch, valid_event: ValidEvent
) -> None:
    from dualsr_cli.benchmark import ABLATIONS, LAYOUTS, METRICS

    monkeypatch.delenv("DUALSR_DATA", raising=False)
    code, out, _ = dualsr("bench", "--list", "--json")
    assert code == 0
    names: dict[str, list[str]] = {}
    for line in out.splitlines():
        event = valid_event(line)
        names.setdefault(event["option"], []).append(event["name"])
    assert names["dataset"] == list(LAYOUTS)
    assert names["protocol"] == list(PROTOCOLS)
    assert names["metric"] == [*METRICS, "lpips-vgg"]
    assert names["method"][:3] == ["bicubic", "lanczos", "detail-transfer"]
    assert {"dualsr", "kedusr-compact"} <= {*names["method"]}
    assert names["ablation"] == list(ABLATIONS)
    code, out, _ = dualsr("bench", "--list")
    words = out.split()
    assert (
        code == 0 and [name for some in names.values() for name in some if name not in words] == []
    )


def test_an_ablation_from_its_recipes_to_its_table(
    dualsr: Run, dusr_real: Path, tmp_path: Path, valid_event: ValidEvent
) -> None:
    code, out, _ = dualsr(
        "bench", "--ablation", "sddusr-tokens", "--write-recipes", tmp_path / "recipes", "--compact"
    )
    assert code == 0
    assert out.splitlines()[0] == str(tmp_path / "recipes" / "sddusr-tokens-64-tokens.yaml")
    words = ["bench", "--ablation", "sddusr-tokens", "--root", dusr_real, "-o", tmp_path / "out"]
    code, out, err = dualsr(*words)
    assert code == 1 and "none of the rows has a model yet" in err
    assert out.splitlines()[0].startswith("sddusr-tokens: tokens in each dictionary (SDDuSR, ")
    assert "64 tokens is not trained: dualsr bench --ablation sddusr-tokens" in out
    code, out, _ = dualsr(*words[:2], "awnet-noise", "--dataset", "dusr-real", *words[3:],
                          "--method", "bicubic", "--metric", "psnr", "--json")  # fmt: skip
    means = named([valid_event(line) for line in out.splitlines()], "mean")
    assert code == 0
    assert {(mean["ablation"], mean["dataset"]) for mean in means} == {("awnet-noise", "dusr-real")}
    assert [mean["method"] for mean in means] == [
        f"variance {variance}" for variance in (0, 0.001, 0.01)
    ]


@pytest.mark.parametrize(
    ("ablation", "datasets", "rows"),
    [("awnet-parallax", ("light-field", "kitti"), 8), ("selfdzsr-cameras", ("drealsr",), 4)],
)
def test_rows_of_several_places_count_their_own_cases(
    dualsr: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    ablation: str,
    datasets: tuple[str, ...],
    rows: int,
) -> None:
    monkeypatch.setenv("DUALSR_DATA", str(tmp_path))
    for dataset in datasets:
        MINIATURES[dataset](tmp_path / dataset)
    asked = ["bench", "--ablation", ablation, "--method", "bicubic", "--metric", "psnr"]
    code, out, _ = dualsr(*asked, "--limit", 1, "-o", tmp_path / "out")
    assert code == 0 and out.splitlines()[1].endswith(": means of 1 case a row")
    assert out.count(" measured ") == rows
    text = (tmp_path / "out" / "results.md").read_text("utf-8")
    assert "\n1 case a row.\n" in text


def test_without_data_it_says_where_they_are_got(
    dualsr: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DUALSR_DATA", raising=False)
    code, _, err = dualsr("bench", "--dataset", "kitti")
    assert code == 2
    assert "give --root DIR or set DUALSR_DATA" in err and "cvlibs.net" in err


def test_the_help_names_each_protocol_and_each_data_set(dualsr: Run) -> None:
    from dualsr_cli.benchmark import LAYOUTS

    code, out, _ = dualsr("bench", "--help")
    shown = " ".join(out.split())
    assert code == 0
    assert [name for name in (*PROTOCOLS, *LAYOUTS) if name not in shown] == []
