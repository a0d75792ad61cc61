"""The loop: stopped and gone on with, in one process or two, and what ends it."""

from __future__ import annotations

import csv
import importlib.util
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

from dualsr_cli.errors import DualsrError, UsageError
from dualsr_cli.networks import Inputs, Outputs, read_weights
from dualsr_cli.training import Options, Recipe, Schedule, Stage, Term, train
from dualsr_cli.training.forwards import FORWARDS

SCRIPT = Path(__file__).parent / "tiny_run.py"


def _script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tiny_run", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


tiny = _script()


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the tiny training, in one go and one process."""
    folder = tmp_path_factory.mktemp("whole")
    tiny.run(folder)
    return folder


def rows(folder: Path, columns: tuple[str, ...] = ("step", "stage", "loss")) -> list[list[str]]:
    with open(folder / "log.csv", newline="") as file:
        return [[row[name] for name in columns] for row in csv.DictReader(file)]


def test_killed_and_started_again_gives_the_same_bytes(uninterrupted: Path, tmp_path: Path) -> None:
    # After iteration 5, in the second stage, of which the last checkpoint is that of iteration 4.
    killed = subprocess.run([sys.executable, SCRIPT, tmp_path, "5"], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "weights.safetensors").exists()
    assert [row[0] for row in rows(tmp_path)] == ["1", "2", "3", "4", "5"]
    tiny.run(tmp_path)
    for name in ("weights.safetensors", f"checkpoints/{tiny.ITERATIONS:09}/weights.safetensors"):
        assert (tmp_path / name).read_bytes() == (uninterrupted / name).read_bytes()
    assert rows(tmp_path) == rows(uninterrupted)


def test_stopped_in_any_iteration_it_goes_on_from_there(
    uninterrupted: Path, tmp_path: Path
) -> None:
    asked = iter(step == 3 for step in range(1, 99))
    with pytest.raises(KeyboardInterrupt):
        train(tiny.RECIPE, lambda _: tiny.Noise(), tmp_path, tiny.OPTIONS, stop=lambda: next(asked))
    kept = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert kept == ["000000002", "000000003"]
    weights = tiny.run(tmp_path).weights
    assert weights.read_bytes() == (uninterrupted / weights.name).read_bytes()
    assert rows(tmp_path) == rows(uninterrupted)


def test_two_processes_are_one(uninterrupted: Path, tmp_path: Path) -> None:
    """At the same batch, the same loss, and weights that differ by the order of sums."""
    start = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [sys.executable, *start, SCRIPT, tmp_path],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for ours, theirs in zip(rows(tmp_path), rows(uninterrupted), strict=True):
        assert float(ours[2]) == pytest.approx(float(theirs[2]), rel=1e-4)
    one, two = (read_weights(f / "weights.safetensors") for f in (uninterrupted, tmp_path))
    assert all(torch.allclose(one[name], two[name], atol=1e-5) for name in one)


def test_samples_may_be_made_by_other_processes(uninterrupted: Path, tmp_path: Path) -> None:
    weights = tiny.run(tmp_path, options=replace(tiny.OPTIONS, workers=1)).weights
    assert weights.read_bytes() == (uninterrupted / weights.name).read_bytes()


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_learns_the_same(
    precision: str, uninterrupted: Path, tmp_path: Path
) -> None:
    tiny.run(tmp_path, options=replace(tiny.OPTIONS, precision=precision))
    for ours, theirs in zip(rows(tmp_path), rows(uninterrupted), strict=True):
        assert float(ours[2]) == pytest.approx(float(theirs[2]), rel=0.01)


def test_a_finished_training_has_nothing_left_to_do(uninterrupted: Path) -> None:
    before = rows(uninterrupted)
    trained = tiny.run(uninterrupted)
    assert trained.iterations == tiny.ITERATIONS and not trained.losses
    assert rows(uninterrupted) == before


def test_another_network_in_the_same_folder_is_refused(uninterrupted: Path) -> None:
    with pytest.raises(UsageError, match="another network or seed"):
        tiny.run(uninterrupted, options=replace(tiny.OPTIONS, seed=1))


def test_the_parts_that_a_stage_names_are_trained(tmp_path: Path) -> None:
    stage = replace(tiny.RECIPE.stages[0], rates={"fusion": 1e-2, "fusion.leave": 0.0})
    recipe = replace(tiny.RECIPE, stages=(stage,), ema=0.0)
    torch.manual_seed(0)
    before: dict[str, torch.Tensor] = {}
    nets: list[nn.Module] = []

    def validate(network: nn.Module) -> Mapping[str, float]:
        assert not network.training
        nets.append(network)
        return {"zero": 0.0}

    options = replace(tiny.OPTIONS, save_every=1, keep=9, validate_every=1)
    train(recipe, lambda _: tiny.Noise(), tmp_path, options, validate=validate)
    before, after = (
        read_weights(tmp_path / "checkpoints" / f"{step:09}" / "weights.safetensors")
        for step in (1, 2)
    )
    moved = {name.split(".")[0] for name in after if not torch.equal(before[name], after[name])}
    assert moved == {"fusion"}
    assert torch.equal(before["fusion.leave.weight"], after["fusion.leave.weight"])
    assert len(nets) == 2
    assert (tmp_path / "validation.csv").read_text() == "step,zero\n1,0\n2,0\n"


def test_an_unknown_part_is_told(tmp_path: Path) -> None:
    stage = replace(tiny.RECIPE.stages[0], rates={"fusoin": 1e-2})
    with pytest.raises(UsageError, match="no part 'fusoin'"):
        train(replace(tiny.RECIPE, stages=(stage,)), lambda _: tiny.Noise(), tmp_path)


class Poisoned:
    """Noise with a sample that holds a NaN."""

    def __init__(self, bad: int) -> None:
        self.bad = bad
        self.asked = 0

    def __len__(self) -> int:
        return 10

    def sample(self, index: int, epoch_seed: int) -> Inputs:
        self.asked += 1
        sample: Inputs = tiny.Noise().sample(index, epoch_seed)
        if self.asked < self.bad:
            return sample
        assert sample.hr is not None
        return replace(sample, hr=sample.hr * torch.nan)


class Unfit:
    """Data of which no patch can be cut."""

    def __len__(self) -> int:
        return 1

    def sample(self, index: int, epoch_seed: int) -> Inputs:
        raise ValueError("patches of 8 x 8 pixels do not fit")


@pytest.mark.parametrize("workers", [0, 1])
def test_data_that_does_not_fit_is_told(workers: int, tmp_path: Path) -> None:
    options = replace(tiny.OPTIONS, workers=workers)
    with pytest.raises(DualsrError, match=r"no sample can be made of \(patches of 8 x 8"):
        train(tiny.RECIPE, lambda _: Unfit(), tmp_path, options)


def test_nan_stops_and_keeps_the_state_before(tmp_path: Path) -> None:
    recipe = replace(tiny.RECIPE, stages=tiny.RECIPE.stages[:1])
    options = replace(tiny.OPTIONS, save_every=0)
    with pytest.raises(DualsrError, match=r"broke down at iteration 1 .*lower the rates"):
        train(recipe, lambda _: Poisoned(tiny.BATCH + 1), tmp_path, options)
    # read_weights refuses what is not finite.
    assert read_weights(tmp_path / "checkpoints" / "000000001" / "weights.safetensors")
    assert train(recipe, lambda _: tiny.Noise(), tmp_path, options).iterations == 2


DEGRADATION = Recipe(
    "tiny",
    "a test",
    "selfdzsr",
    (
        Stage(
            "degradation",
            150,
            1,
            (Term("l1", settings={"image": "pseudo_lr", "target": "lr"}),),
            {"degradation": 1e-9},
            forward="selfdzsr-degradation",
            # Nothing moves until the loss is taken for settled, then everything.
            schedule=Schedule("steps", steps=(105,), factor=1e9),
        ),
    ),
    {"features": 16, "blocks": 1, "student": (1, 1, 1)},
)


def test_divergence_stops(tmp_path: Path) -> None:
    options = Options(log_every=0, save_every=50, picture_every=0)
    with pytest.raises(DualsrError, match=r"diverged before iteration 1[01]"):
        train(DEGRADATION, lambda _: tiny.Noise(), tmp_path, options)


def test_out_of_memory_tells_what_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a real allocation, of more than there is for more than four samples."""

    def hungry(network: Any, inputs: Inputs) -> Outputs:
        torch.empty(1 << (20 if len(inputs.lr) <= 4 else 60), dtype=torch.uint8)
        return FORWARDS["selfdzsr-degradation"](network, inputs)

    monkeypatch.setitem(FORWARDS, "hungry", hungry)
    stage = replace(DEGRADATION.stages[0], iterations=1, batch=16, forward="hungry")
    recipe = replace(DEGRADATION, stages=(stage,))
    with pytest.raises(DualsrError, match=r"16 samples of 8 x 8 .* take a micro batch of 4$"):
        train(recipe, lambda _: tiny.Noise(), tmp_path)
    assert train(recipe, lambda _: tiny.Noise(), tmp_path, Options(micro_batch=4)).iterations == 1
