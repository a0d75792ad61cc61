"""How far a flow network's flow misses: `python -m benchmarks.flow RECIPE WEIGHTS`.

RECIPE is one of flow-spynet, flow-raft-small, flow-pwcnet, each also -compact, WEIGHTS the file
that `dualsr train` wrote for it. Mean end-point error, in pixels, over pairs of views of the
photographs of --data, with motion as the recipes train on (`SyntheticFlow`: up to 12 pixels,
objects up to 24); beside it that of no flow at all.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F

from dualsr_cli.networks import build, load_into, read_weights
from dualsr_cli.training import SyntheticFlow, find_recipe, load_photographs
from dualsr_cli.training.forwards import FORWARDS

_ROOT = Path(__file__).parent.parent
_FORWARDS = {"spynet": "spynet", "flow.raft": "raft", "FlowNet": "pwcnet"}
"""How the parts that the recipes train are run, by their names."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipe")
    parser.add_argument("weights", type=Path)
    parser.add_argument("--data", type=Path, default=_ROOT / "sample_pairs", help="photographs")
    parser.add_argument("--pairs", type=int, default=48)
    parser.add_argument("--patch", type=int, default=128, help="pixels along a side of a view")
    options = parser.parse_args()
    recipe = find_recipe(options.recipe)
    network = build(recipe.architecture, recipe.settings).get_submodule(recipe.part)
    load_into(network, read_weights(options.weights), options.weights)
    network.eval()
    forward = FORWARDS[_FORWARDS[recipe.part]]
    photographs = load_photographs(options.data)
    views = SyntheticFlow(photographs, (options.patch, options.patch), seed=1)
    errors = []
    with torch.inference_mode():
        for number in range(options.pairs):
            pair = views.sample(number % len(views), number)
            assert pair.flow is not None
            flow = list(forward(network, pair).maps.values())[-1]
            found = F.interpolate(flow, pair.flow.shape[2:], mode="bilinear")
            errors.append([
                float((each - pair.flow).square().sum(1).sqrt().mean())
                for each in (found, torch.zeros_like(found))
            ])  # fmt: skip
    mean, none = torch.tensor(errors).mean(0).tolist()
    print(f"{recipe.name}: {mean:.2f} pixels over {len(errors)} pairs; without flow {none:.2f}")


if __name__ == "__main__":
    main()
