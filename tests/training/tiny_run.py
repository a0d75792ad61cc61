"""A training of seconds that the tests of the loop run, here and in processes of their own.

python tiny_run.py FOLDER [KILL]: KILL is the iteration after which the process kills itself.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import torch

from dualsr_cli.networks import Inputs
from dualsr_cli.training import Data, Options, Progress, Recipe, Stage, Term, Trained, train

PATCH, BATCH, ITERATIONS = 8, 4, 6

RECIPE = Recipe(
    name="tiny",
    source="a test",
    architecture="sddusr",  # whose masks are drawn by chance in training
    settings={
        "features": 8,
        "lr_blocks": 1,
        "blocks": 1,
        "fusion_blocks": 1,
        "tokens": 4,
        "mask_features": 4,
        "groups": 2,
        "flow_widths": (4, 4),
    },
    ema=0.9,
    stages=(
        Stage(
            "warm",
            2,
            BATCH,
            (Term("charbonnier"),),
            {"all": 1e-3},
            Data(patch=(PATCH, PATCH)),
        ),
        Stage(
            "train",
            ITERATIONS - 2,
            BATCH,
            (
                Term("charbonnier"),
                Term("mask", 1e-3),
                Term("relativistic-gan", 1e-2, 1, {"features": (8, 8)}),
            ),
            {"all": 1e-3, "spynet": 1e-4},
            Data(patch=(PATCH, PATCH)),
            clip=1.0,
        ),
    ),
)
OPTIONS = Options(micro_batch=2, log_every=1, save_every=2, picture_every=0, validate_every=0)


class Noise:
    """Ten samples of noise."""

    def __len__(self) -> int:
        return 10

    def sample(self, index: int, epoch_seed: int) -> Inputs:
        drawn = torch.Generator().manual_seed(1000 * epoch_seed + index)
        lr = torch.rand(1, 3, PATCH, PATCH, generator=drawn)
        hr, ref = torch.rand(2, 1, 3, 2 * PATCH, 2 * PATCH, generator=drawn)
        return Inputs(lr, ref, torch.tensor([[0, 0, PATCH, PATCH]]), hr)


def run(folder: Path, kill: int = 0, options: Options = OPTIONS) -> Trained:
    """Train in a folder; `kill`: the iteration after which nothing more is to happen."""

    def watch(progress: Progress) -> None:
        if progress.step == kill:
            os.kill(os.getpid(), signal.SIGKILL)

    return train(RECIPE, lambda stage: Noise(), folder, options, on_progress=watch)


if __name__ == "__main__":
    torch.set_num_threads(1)
    run(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0)
