"""What an iteration of each recipe costs: `python -m benchmarks.training [RECIPE ...]`.

Without names the compact recipes, which are made for processors. Each stage runs for --iterations
at its recipe's patch and batch, on pairs simulated from the photographs of --data, in a process of
its own with one process that makes samples beside it, as `dualsr train --workers 1` runs it; what
it learns is thrown away.

s           of an iteration, waiting for samples included; the first three are not counted
CPU s       of all threads of the training process, which says more where other work takes its share
peak        MiB: all that the training process had in memory
load        how many processes wanted a processor just before
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks._memory import MIB, peak
from dualsr_cli.training import (
    PRECISIONS,
    Options,
    Progress,
    Wanted,
    find_recipe,
    list_recipes,
    open_data,
    train,
)

_FIRST = 3  # iterations that warm up
_ROOT = Path(__file__).parent.parent


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipes", nargs="*", metavar="RECIPE", help="by name, or a YAML file")
    parser.add_argument("--data", type=Path, default=_ROOT / "sample_pairs", help="photographs")
    parser.add_argument("--iterations", type=int, default=8, help="of each stage")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--precision", choices=PRECISIONS, default="fp32")
    parser.add_argument("--here", action="store_true", help="the one recipe, in this process")
    options = parser.parse_args()
    if options.here:
        _measure(options.recipes[0], options)
        return
    names = options.recipes or [
        name
        for name in list_recipes()
        if name.endswith("-compact") and not name.startswith(("flow-", "dcsr-sra"))
    ]
    threads = torch.get_num_threads()
    print(f"{options.device}, {options.precision}, {threads} threads, PyTorch {torch.__version__}")
    print(f"{'recipe':20} {'stage':12} {'batch':>5} {'patch':>8} {'s':>7} {'CPU s':>7}", end="")
    print(f" {'peak':>6} {'load':>5}", flush=True)
    for name in names:
        words = [arg for arg in sys.argv[1:] if arg not in options.recipes]
        command = [sys.executable, "-m", "benchmarks.training", name, "--here", *words]
        subprocess.run(command, check=True, cwd=_ROOT)


def _measure(name: str, options: argparse.Namespace) -> None:
    recipe = find_recipe(name)
    stages = tuple(replace(stage, iterations=options.iterations) for stage in recipe.stages)
    load = os.getloadavg()[0]
    marks: dict[str, list[tuple[float, float]]] = {}

    def mark(progress: Progress) -> None:
        marks.setdefault(progress.stage, []).append((time.perf_counter(), time.process_time()))

    with tempfile.TemporaryDirectory() as folder:
        wanted = [Wanted(options.data.resolve(), kind="photos")]
        data = open_data(recipe, wanted, Path(folder) / "data", seed=0)
        never = {"log_every": 0, "save_every": 0, "picture_every": 0, "validate_every": 0}
        train(
            replace(recipe, stages=stages),
            data.source,
            Path(folder) / "run",
            Options(options.device, options.precision, workers=1, **never),
            on_progress=mark,
        )
    for stage in stages:
        (wall, cpu), (wall_end, cpu_end) = marks[stage.name][_FIRST - 1], marks[stage.name][-1]
        count = len(marks[stage.name]) - _FIRST
        patch = "x".join(map(str, stage.data.patch))
        print(
            f"{name:20} {stage.name:12} {stage.batch:5} {patch:>8} "
            f"{(wall_end - wall) / count:7.2f} {(cpu_end - cpu) / count:7.2f} "
            f"{peak() / MIB:6.0f} {load:5.1f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
