"""`dualsr bench`: what it prints, what it leaves behind, what it refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

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


def test_results_of_a_peer_go_to_the_default_folder(
    dualsr: Run, dusr_real: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DUALSR_DATA", str(tmp_path / "data"))
    shutil.copytree(dusr_real, tmp_path / "data" / "dusr-real")
    truth = dusr_real / "DuSR-Real" / "test" / "HR"
    code, out, err = dualsr(
        "bench", "--dataset", "dusr-real", "--results", truth, "--name", "Oracle",
        "--metric", "psnr", "--subset", "0010*",
    )  # fmt: skip
    assert code == 0 and "1 done" in err
    oracle = next(line.split() for line in out.splitlines() if line.startswith("Oracle"))
    assert oracle.count("∞") == 3
    scores = tmp_path / "bench-dusr-real" / "dusr-real-test-x2" / "kedusr" / "Oracle"
    assert [path.name for path in scores.iterdir()] == ["0010_0000.json"]


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
    assert names["method"] == ["bicubic", "lanczos", "detail-transfer", "dualsr"]
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
