"""`dualsr upscale --model`: networks of one's own on real photos."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dualsr_cli.networks import Model, add_model, build

from .conftest import Run

Pair = tuple[Path, Path]
Add = Callable[..., Model]


@pytest.fixture
def add(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Add:
    """add("kedusr-mine", "kedusr", seed=1): a compact network, with weights as training starts."""
    monkeypatch.setenv("DUALSR_HOME", str(tmp_path / "home"))

    def made(name: str, architecture: str, seed: int = 0) -> Model:
        torch.manual_seed(seed)
        settings = {"compact": True}
        tensors = build(architecture, settings).state_dict()
        return add_model(name, architecture, settings, tensors, licence="CC0-1.0", source="here")

    return made


@pytest.mark.parametrize("architecture", ["dcsr", "awnet"])
def test_a_network_restores_a_pair(
    dualsr: Run, add: Add, tiny: Pair, tmp_path: Path, architecture: str
) -> None:
    model = f"{architecture}-mine"
    add(model, architecture)
    out = tmp_path / "out.png"
    code, stdout, _ = dualsr("upscale", *tiny, "-o", out, "--model", model, "--json")
    assert code == 0
    told = json.loads(stdout)
    assert told["model"] == model
    assert told["tele_used"]
    with Image.open(out) as image, Image.open(tiny[0]) as wide:
        assert image.size == (told["width"], told["height"])
        assert told["width"] == round(wide.width * told["scale"])
        back = np.asarray(image.resize(wide.size, Image.Resampling.BOX), float)
        smooth = np.asarray(wide, float) - back
    # An untrained network's picture is none, but its light is the photo's.
    cells = smooth[: 24 * 6, : 24 * 11].reshape(6, 24, 11, 24, 3).mean(axis=(1, 3))
    assert np.abs(cells).mean() < 4


def test_too_little_memory_is_a_sentence(
    dualsr: Run, add: Add, small: Pair, tmp_path: Path
) -> None:
    add("kedusr-mine", "kedusr")
    words = ("--model", "kedusr-mine", "--max-memory", "1M")
    code, _, err = dualsr("upscale", *small, "-o", tmp_path / "out.png", *words)
    assert code != 0
    assert "400 x 225 pixels take about" in err
    assert "--max-memory" in err
    assert list(tmp_path.glob("*.png")) == []


def test_an_unknown_model_is_a_sentence(dualsr: Run, small: Pair, tmp_path: Path) -> None:
    code, _, err = dualsr("upscale", *small, "-o", tmp_path / "out.png", "--model", "other")
    assert code == 2
    assert "there is no model 'other'" in err
    code, _, err = dualsr("upscale", *small, "-o", tmp_path / "out.png", "--model", "vgg16")
    assert code == 2
    assert "vgg16 is a backbone, not a network" in err


def test_a_folder_is_done_again_when_the_weights_change(
    dualsr: Run, add: Add, quick: Pair, tmp_path: Path
) -> None:
    import shutil

    model = add("kedusr-mine", "kedusr")
    table = tmp_path / "pairs.csv"
    table.write_text(f"wide,tele\n{quick[0]},{quick[1]}\n", encoding="utf-8")
    words = ("upscale", table, "-o", tmp_path / "out", "--model", "kedusr-mine", "--json")

    def states() -> list[str]:
        code, stdout, _ = dualsr(*words)
        assert code == 0
        told = [json.loads(line) for line in stdout.splitlines()]
        return [line["state"] for line in told if line["event"] == "upscaled"]

    assert states() == ["done"]
    assert states() == ["unchanged"]
    shutil.rmtree(model.folder)
    add("kedusr-mine", "kedusr", seed=1)
    assert states() == ["done"]
