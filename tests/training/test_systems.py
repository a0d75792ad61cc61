"""Each compact recipe learns: on samples that stay the same its loss falls, in each stage.

Some iterations of each; all twenty, in a minute or two, by

    DUALSR_TRAINING_STEPS=20 pytest tests/training/test_systems.py
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from dualsr_cli.networks import Inputs
from dualsr_cli.training import (
    FlowInputs,
    Options,
    Progress,
    Schedule,
    Stage,
    find_recipe,
    list_recipes,
    train,
)

STEPS = int(os.environ.get("DUALSR_TRAINING_STEPS", "3"))
SIDES = {
    "awnet": 32,
    "awnet-multi": 32,
    "flow-pwcnet": 64,
    "flow-raft-small": 128,
    "flow-spynet": 32,
}
"""Of patches; others have 16 pixels, the least that all networks take."""


class Sample:
    """The same sample of smooth noise for ever."""

    def __init__(self, stage: Stage, side: int, scale: int) -> None:
        drawn = torch.Generator().manual_seed(0)
        noise = torch.rand(1, 3, scale * side // 2, scale * side // 2, generator=drawn)
        hr = F.interpolate(noise, scale_factor=2, mode="bicubic").clamp(0, 1)
        lr = F.avg_pool2d(hr, scale)
        box = torch.tensor([[0, 0, side, side]])
        if stage.data.kind == "flow":
            flow = torch.zeros(1, 2, side, side)
            flow[:, 0] = 2.0
            self.inputs: Inputs = FlowInputs(lr, lr.roll(2, 3), box, flow=flow)
        elif stage.data.reference == "inside":
            self.inputs = Inputs(lr, hr[:, :, :side, :side], box // scale, hr)
        else:
            truth = hr if stage.data.kind == "triplets" else None
            self.inputs = Inputs(lr, hr, box, truth, (hr,) * (stage.data.frames - 1))

    def __len__(self) -> int:
        return 1

    def sample(self, index: int, epoch_seed: int) -> Inputs:
        return self.inputs


@pytest.mark.parametrize(
    "name",
    # dcsr-sra's first stage is all of dcsr; the noise of awnet's hides what three steps gain.
    [
        name
        for name in list_recipes()
        if name.endswith("-compact") and name not in ("dcsr-compact", "awnet-multi-noise-compact")
    ],
)
def test_the_loss_of_each_compact_recipe_falls(name: str, tmp_path: Path) -> None:
    recipe = find_recipe(name)
    # Without a warm-up the first steps at full rates may lead anywhere.
    slow = Schedule("steps", steps=(0,), factor=0.25)
    stages = tuple(
        replace(stage, iterations=STEPS, batch=1, schedule=slow) for stage in recipe.stages
    )
    side = SIDES.get(name.removesuffix("-compact"), 16)
    scale = 1 if recipe.part else int(recipe.settings.get("scale", 2))
    seen: dict[str, list[float]] = {stage.name: [] for stage in stages}

    def watch(progress: Progress) -> None:
        seen[progress.stage].append(progress.loss)

    train(
        replace(recipe, stages=stages),
        lambda stage: Sample(stage, side, scale),
        tmp_path,
        Options(log_every=0, picture_every=STEPS),
        on_progress=watch,
    )
    some = max(1, STEPS // 5)
    for losses in seen.values():
        assert len(losses) == STEPS
        assert np.mean(losses[-some:]) < np.mean(losses[:some])
    assert len(list((tmp_path / "samples").iterdir())) == len(stages)
