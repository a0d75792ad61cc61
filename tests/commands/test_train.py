"""`dualsr train` and `dualsr models export` as a person uses them: photos in, a model out."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from dualsr_cli.networks import find_model, read_weights

from ..conftest import ValidEvent
from .conftest import Run

SMALL = ["--patch", "16", "--batch", "2", "--device", "cpu", "--seed", "1"]

TINY = """
source: a test
architecture: dualsr
settings: {features: 4, blocks: [0, 1], domain: 2, scales: [2]}
data: {reference: around, offset: [0, 8]}
batch: 2
stages:
  - name: train
    iterations: 1000000
    rates: {all: 1e-4}
    losses: [{loss: l1}]
"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DUALSR_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(scope="session")
def two_pairs(sample_pairs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two") / "Meine Fotos"
    folder.mkdir()
    for lens in ("wide", "tele"):
        with Image.open(sample_pairs / "city" / f"{lens}.png") as image:
            small = image.convert("RGB")
            small.save(folder / f"a_{lens}.png")
            small.point([v * 9 // 10 for v in range(256)] * 3).save(folder / f"b_{lens}.png")
    return folder


def test_two_pairs_become_a_model_that_upscales(
    dualsr: Run, two_pairs: Path, tiny: tuple[Path, Path], tmp_path: Path, home: Path
) -> None:
    run = tmp_path / "run"
    words = ["train", "--recipe", "kedusr-compact", "--data", two_pairs, "-o", run, *SMALL]
    code, _, err = dualsr(*words, "--iterations", "2", "--start", "spynet=nothing")
    assert code == 2 and "there is no model 'nothing'" in err
    code, out, err = dualsr(*words, "--iterations", "2")
    assert code == 0, err
    assert "training on 2 pairs of wide and tele photos" in err
    name = out.rsplit("--model ", 1)[1].strip()
    assert name == "kedusr-compact-meine-fotos"
    card = (home / "models" / name / "README.md").read_text()
    for told in ("Meine Fotos", "| Iterations | 2 |", "| Seed | 1 |", "| Time | ", "| torch | "):
        assert told in card
    code, _, err = dualsr("upscale", *tiny, "-o", tmp_path / "out.png", "--model", name)
    assert code == 0, err

    # The same command finds nothing left to do; another one is told so.
    code, again, _ = dualsr(*words, "--iterations", "2")
    assert (code, again) == (0, out)
    begun = json.loads((run / "training.json").read_text())
    for stage in begun["recipe"]["stages"]:
        del stage["data"]["recoloured"]  # a version had not it yet
    (run / "training.json").write_text(json.dumps(begun))
    code, again, _ = dualsr(*words, "--iterations", "2")
    assert (code, again) == (0, out)
    for change in (["--iterations", "3"], ["--iterations", "2", "--kind", "pairs"]):
        code, _, err = dualsr(*words, *change)
        assert code == 2
        assert f"{run} holds a training that was begun with another " in err

    # What is exported comes back as it was, on another machine too.
    folder = tmp_path / "exported model"
    assert dualsr("models", "export", name, "-o", folder)[0] == 0
    assert {path.name for path in folder.iterdir()} == {
        "weights.safetensors",
        "config.yaml",
        "README.md",
    }
    code, _, err = dualsr("models", "export", name, "-o", folder)
    assert code == 2 and "is there already" in err
    added = ("models", "add", folder / "weights.safetensors")
    assert dualsr(*added, "--name", "back")[0] == 0
    there, back = find_model(name), find_model("back")
    assert (back.settings, back.sha256) == (there.settings, there.sha256)
    (folder / "weights.safetensors").write_bytes(b"something else")
    code, _, err = dualsr(*added, "--name", "other")
    assert code == 1 and "SHA-256 differs" in err


def test_events_and_validation(
    dualsr: Run, two_pairs: Path, tmp_path: Path, valid_event: ValidEvent
) -> None:
    run = tmp_path / "run"
    words = ["train", "--recipe", "dualsr-compact", "--data", two_pairs, "-o", run, *SMALL]
    words += ["--validate", two_pairs, "--iterations", "2", "--name", "mine", "--json", "-q"]
    code, out, err = dualsr(*words)
    assert (code, err) == (0, "")
    *steps, trained = map(valid_event, out.splitlines())
    assert [(step["step"], step["stage"]) for step in steps] == [(2, "train")]
    assert (trained["model"], trained["count"]) == ("mine", 2)
    assert {"psnr", "psnr-center", "psnr-corner", "gain"} <= set(trained["validation"])
    with open(run / "validation.csv", newline="") as file:
        *_, last = csv.DictReader(file)
    assert float(last["psnr"]) == trained["validation"]["psnr"]
    other = [tmp_path / "other" if word == run else word for word in words]
    code, _, err = dualsr(*other)
    assert code == 2 and "there is a model mine already" in err


def test_several_places_are_trained_on_at_once(
    dualsr: Run, two_pairs: Path, tmp_path: Path, home: Path
) -> None:
    triplets = tmp_path / "a=b, c"
    for name, side in (("LR", 80), ("Ref", 160), ("HR", 160)):
        (triplets / name).mkdir(parents=True)
        with Image.open(two_pairs / "a_wide.png") as image:
            image.resize((side, side)).save(triplets / name / "one.png")
    words = ["train", "--recipe", "dualsr-compact", "-o", tmp_path / "run", *SMALL]
    both = f"triplets={triplets},pairs:0.5={two_pairs}"
    code, out, err = dualsr(*words, "--iterations", "2", "--data", both)
    assert code == 0, err
    assert "a=b, c: 1 cases of triplets" in err and "Meine Fotos: 2 pairs" in err
    name = out.rsplit("--model ", 1)[1].strip()
    assert name == "dualsr-compact-a-b-c-meine-fotos"
    assert "a=b, c, Meine Fotos" in (home / "models" / name / "README.md").read_text()
    code, _, err = dualsr(*words, "--iterations", "2", "--data", both.replace(":0.5", ""))
    assert code == 2 and "begun with another data" in err


def test_a_stop_keeps_the_last_iteration(two_pairs: Path, tmp_path: Path) -> None:
    """By SIGTERM to all of its processes, then by Ctrl-C, each long before a checkpoint is due."""
    run, recipe = tmp_path / "run", tmp_path / "tiny.yaml"
    recipe.write_text(TINY)
    words = ["train", "--recipe", str(recipe), "--data", str(two_pairs), "-o", str(run), *SMALL]
    words += ["--kind", "photos", "--workers", "1", "--json"]  # photos need no preparing
    reached = 0
    for number in (signal.SIGTERM, signal.SIGINT):
        with subprocess.Popen(
            [sys.executable, "-m", "dualsr_cli", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            start_new_session=True,
        ) as process:
            assert process.stdout is not None and process.stderr is not None
            told = json.loads(process.stdout.readline())["step"]
            assert told == (reached // 50 + 1) * 50  # it went on from where it was stopped
            os.killpg(process.pid, number)
            process.stdout.read()
            err = process.stderr.read()
        assert process.returncode == 130
        assert "stopped; the same command goes on" in err and "Traceback" not in err
        checkpoint = max((run / "checkpoints").iterdir())
        reached = int(checkpoint.name)
        assert told <= reached < told + 50
        assert read_weights(checkpoint / "weights.safetensors")


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["--recipe", "kedsur", "--data", "HERE"], 2, "there is no recipe 'kedsur'"),
        (["--recipe", "kedusr", "--data", "HERE"], 1, "holds no photo"),
        (["--recipe", "kedusr"], 2, "give --data"),
        (["--recipe", "kedusr", "--data", "HERE", "--kind", "pairs"], 1, "holds no wide and tele"),
        (["--recipe", "kedusr", "--data", "HERE", "--start", "spynet"], 2, "is no PART=MODEL"),
        (["--recipe", "kedusr", "--data", "HERE", "--name", "A b"], 2, "is no model's name"),
        (["--recipe", "kedusr", "--dataset", "sample", "--kind", "pairs"], 2, "exclude each other"),
        (
            ["--recipe", "dualsr", "--data", "fotos=x"],
            2,
            "fotos is neither one of pairs, triplets,",
        ),
        (["--recipe", "dualsr", "--data", "photos=x,photos:0=y"], 2, "photos:0=y has a share of 0"),
        (
            ["--recipe", "dualsr", "--data", "photos=x", "--kind", "photos"],
            2,
            "says all of its data",
        ),
        (["--recipe", "dualsr", "--data", "photos=none,city100=x"], 1, "none does not exist"),
    ],
)
def test_what_cannot_be_trained_is_a_sentence(
    dualsr: Run, tmp_path: Path, words: list[str], code: int, sentence: str
) -> None:
    (tmp_path / "empty").mkdir()
    given = [tmp_path / "empty" if word == "HERE" else word for word in words]
    ended, out, err = dualsr("train", *given, "-o", tmp_path / "run", "--device", "cpu")
    assert (ended, out) == (code, "")
    assert sentence in err and err.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_results_lie_outside_of_the_data(dualsr: Run, two_pairs: Path) -> None:
    words = ["train", "--recipe", "kedusr-compact", "--data", two_pairs, "-o", two_pairs / "run"]
    code, _, err = dualsr(*words, "--device", "cpu")
    assert code == 2 and "let -o name a folder outside of it" in err


def test_exports_need_a_name_and_a_place(dualsr: Run, tmp_path: Path) -> None:
    code, _, err = dualsr("models", "export", "vgg16")
    assert code == 2 and "dualsr models export NAME -o FOLDER" in err
    code, _, err = dualsr("models", "export", "none", "-o", tmp_path / "out")
    assert code == 2 and "there is no model 'none'" in err
    code, _, err = dualsr("models", "list", "-o", tmp_path / "out")
    assert code == 2 and "did you mean dualsr models export" in err
