"""What each part of DualSR is worth: `python -m benchmarks.ablation --data photos=FOLDER`.

The same recipe is trained without each part in turn, from the same seed on the same samples, and
measured on the same held-out photos: PSNR where the tele photo shows the scene, beside it and of
all, and gains over bicubic of each kind of data; below the whole network's figures how far the
others are from them. --data is as of `dualsr train`.

--model NAME takes a trained DualSR instead and switches off each of its parts, without any
training: what these weights lean on, which is more than what a training without would miss.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from dualsr_cli.commands._train_wanted import wanted_of
from dualsr_cli.networks import build, find_model, load_into, read_weights
from dualsr_cli.networks.dualsr import PARTS
from dualsr_cli.training import (
    Options,
    TrainingData,
    changed,
    find_recipe,
    measure,
    open_data,
    train,
)

WHOLE = "whole"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recipe", default="dualsr-compact", help="of DualSR")
    parser.add_argument("--data", required=True, help="as of `dualsr train`")
    parser.add_argument("--iterations", type=int, default=800, help="of each training")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--model", help="trained, whose parts are switched off")
    parser.add_argument("--without", nargs="+", choices=PARTS, default=PARTS, help="parts")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    options = parser.parse_args()
    recipe = changed(find_recipe(options.recipe), options.iterations, options.batch)
    wanted = wanted_of(options.data, "", "", "", None)
    whole: Mapping[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        data = open_data(recipe, wanted, Path(folder) / "data", options.seed)
        for part in (WHOLE, *options.without):
            without = () if part == WHOLE else (part,)
            if options.model:
                model = find_model(options.model)
                settings, weights = {**model.settings, "without": without}, model.weights
            else:
                settings = {**recipe.settings, "without": without}
                varied = replace(recipe, settings=settings)
                chosen = Options(seed=options.seed, save_every=0)
                weights = train(varied, data.source, Path(folder) / part, chosen).weights
            found = _measured(settings, weights, data)
            if not whole:
                whole = found
                if not options.json:
                    print(f"{'without':10}", *(f"{name:>14}" for name in found))
            if options.json:
                print(json.dumps({"without": part, **found}), flush=True)
                continue
            shown = [
                f"{value:14.2f}" if part == WHOLE else f"{value - whole[name]:+14.2f}"
                for name, value in found.items()
            ]
            print(f"{part:10}", *shown, flush=True)


def _measured(settings: Mapping[str, Any], weights: Path, data: TrainingData) -> dict[str, float]:
    """What a network gains on the held-out samples."""
    network = build("dualsr", settings).eval().requires_grad_(False)
    load_into(network, read_weights(weights), weights)
    found = measure(network, data.held_out, data.origins)
    return {name: value for name, value in found.items() if not name.startswith("ssim")}


if __name__ == "__main__":
    main()
