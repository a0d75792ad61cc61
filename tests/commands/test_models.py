"""`dualsr models` as a person and a script see it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dualsr_cli import commands
from dualsr_cli.networks import build, find_model, load_into, read_weights

from ..conftest import ValidEvent


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DUALSR_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """A checkpoint as training programs write it."""
    torch.manual_seed(0)
    state = {f"module.{key}": value for key, value in build("kedusr", {}).state_dict().items()}
    path = tmp_path / "DuSR Real.pth"
    torch.save({"state_dict": state, "epoch": 3}, path)
    return path


def test_what_is_shipped_is_listed(
    capsys: pytest.CaptureFixture[str], valid_event: ValidEvent
) -> None:
    assert commands.run(["models"]) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split() == ["name", "network", "scale", "parameters", "licence", "from"]
    assert any(row.split()[0] == "vgg16" and row.split()[-1] == "shipped" for row in rows)
    assert commands.run(["models", "--json"]) == 0
    assert [valid_event(line)["event"] for line in capsys.readouterr().out.splitlines()] == [
        "model"
    ] * len(rows)


def test_a_published_checkpoint_is_added(
    published: Path, home: Path, capsys: pytest.CaptureFixture[str], valid_event: ValidEvent
) -> None:
    words = ["models", "add", str(published), "--as", "kedusr", "--json"]
    assert commands.run(words) == 0
    event = valid_event(capsys.readouterr().out)
    assert (event["name"], event["kind"], event["shipped"]) == (
        "kedusr-dusr-real",
        "network",
        False,
    )
    assert {path.name for path in (home / "models").iterdir()} == {"kedusr-dusr-real"}
    model = find_model("kedusr-dusr-real")
    network = build(model.architecture, model.settings)
    load_into(network, read_weights(model.weights, model.sha256), model.weights)
    expected = torch.load(published, weights_only=True)["state_dict"]
    assert all(
        torch.equal(value, expected[f"module.{key}"]) for key, value in network.state_dict().items()
    )
    assert commands.run(words) == 2
    assert "there is a model kedusr-dusr-real already" in capsys.readouterr().err


def test_published_files_of_parts_are_added_as_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    network = build("selfdzsr", {"degradation": False})
    files = []
    for part in ("student", "refsr"):
        files.append(str(tmp_path / f"{part}_401.pth"))
        torch.save({"state_dict": network.get_submodule(part).state_dict()}, files[-1])
    assert commands.run(["models", "add", *files, "--as", "selfdzsr", "--name", "dzsr"]) == 0
    row = capsys.readouterr().out.splitlines()[-1].split()
    assert row == ["dzsr", "selfdzsr", "2x", "2,996,557", "LicenseRef-unknown", "yours"]
    model = find_model("dzsr")
    assert model.source == "student_401.pth, refsr_401.pth"
    again = build(model.architecture, model.settings)
    load_into(again, read_weights(model.weights, model.sha256), model.weights)
    for name, value in network.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])


def test_a_pickle_is_read_as_tensors_or_not_at_all(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = build("awnet", {"compact": True})
    path = tmp_path / "model-no-noise.pkl"
    torch.save(network.state_dict(), path)
    assert read_weights(path).keys() == network.state_dict().keys()
    torch.save(network, path)
    assert commands.run(["models", "add", str(path), "--as", "awnet"]) == 1
    assert "holds more than tensors" in capsys.readouterr().err


def test_bad_models_of_ones_own_hide_no_others(
    home: Path, published: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert commands.run(["models", "add", str(published), "--as", "kedusr", "--name", "mine"]) == 0
    for name, settings in (("unknown", "{depth: 3}"), ("gone", "{}")):
        (home / "models" / name).mkdir()
        text = (home / "models" / "mine" / "config.yaml").read_text()
        config = home / "models" / name / "config.yaml"
        config.write_text(text.replace("settings: {}", f"settings: {settings}"))
    (home / "models" / "bad").mkdir()
    (home / "models" / "bad" / "config.yaml").write_text("- a")
    capsys.readouterr()
    assert commands.run(["models"]) == 0
    out, err = capsys.readouterr()
    names = [line.split()[0] for line in out.splitlines()[1:]]
    assert {"mine", "vgg16"} <= set(names) and not {"bad", "gone", "unknown"} & set(names)
    first, second, third = err.splitlines()
    assert "bad" in first and "is no YAML mapping" in first
    assert "gone" in second and "cannot be read as safetensors" in second
    assert "unknown: KeDuSR has no depth to be set" in third


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["models", "add"], 2, "what to add is missing"),
        (["models", "add", "FILE", "--as", "nonsense"], 2, "there is no architecture 'nonsense'"),
        (["models", "add", "OTHER", "--as", "kedusr"], 1, "does not fit KeDuSR: it lacks "),
        (["models", "add", "FILE", "--as", "kedusr", "--name", "../x"], 2, "is no model's name"),
        (["models", "list", "FILE"], 2, "did you mean dualsr models add?"),
    ],
)
def test_what_cannot_be_added_is_told(
    words: list[str],
    code: int,
    sentence: str,
    published: Path,
    home: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    other = tmp_path / "other.pth"
    torch.save({"a.weight": torch.zeros(3)}, other)
    names = {"FILE": str(published), "OTHER": str(other)}
    assert commands.run([names.get(word, word) for word in words]) == code
    assert sentence in capsys.readouterr().err
    assert not home.exists()
