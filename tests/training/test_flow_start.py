"""SpyNet's training: what it starts from, and level by level."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch

from dualsr_cli.errors import UsageError
from dualsr_cli.networks import read_weights
from dualsr_cli.training import Options, SyntheticFlow, build_network, find_recipe, train
from dualsr_cli.training._batches import joined
from dualsr_cli.training.flow_data import FlowInputs
from dualsr_cli.training.forwards import FORWARDS


class Photographs:
    """Textures of many sizes."""

    def __len__(self) -> int:
        return 3

    def pixels(self, index: int) -> npt.NDArray[np.uint8]:
        random = np.random.default_rng(index)
        whole = np.full((300, 300, 3), 128.0)
        for size in (2, 5, 15, 50):
            coarse = random.normal(size=(300 // size, 300 // size, 3))
            whole += 25 * cv2.resize(coarse, (300, 300), interpolation=cv2.INTER_CUBIC)
        pixels: npt.NDArray[np.uint8] = whole.clip(0, 255).astype(np.uint8)
        return pixels


SOURCE = SyntheticFlow(Photographs(), (32, 32), reach=2.0)


def lengths(flow: torch.Tensor) -> torch.Tensor:
    return flow.square().sum(1).sqrt()


@pytest.mark.parametrize("name", ["flow-spynet", "flow-spynet-compact"])
def test_levels_start_with_an_idea_of_the_movement(name: str) -> None:
    torch.manual_seed(0)
    network = build_network(find_recipe(name))
    given = joined([SOURCE.sample(n % 3, n) for n in range(24)])
    assert isinstance(given, FlowInputs) and given.flow is not None
    with torch.no_grad():
        found = network(given.lr, given.ref, levels=1)
    told = np.corrcoef(found.numpy().ravel(), given.flow.numpy().ravel())[0, 1]
    assert told > 0.35
    assert lengths(found - given.flow).mean() < 0.95 * lengths(given.flow).mean()


def test_a_stage_runs_the_levels_down_to_the_finest_that_it_trains() -> None:
    network = build_network(find_recipe("flow-spynet-compact")).requires_grad_(False)
    network.get_submodule("basic_module.1").requires_grad_(True)
    given = SOURCE.sample(0, 0)
    outputs = FORWARDS["spynet"](network, given)
    assert [tuple(flow.shape[2:]) for flow in outputs.maps.values()] == [(16, 16), (32, 32)]
    network.requires_grad_(True)
    assert len(FORWARDS["spynet"](network, given).maps) == 6


def test_parts_begin_a_stage_as_copies(tmp_path: Path) -> None:
    recipe = find_recipe("flow-spynet-compact")
    first = replace(recipe.stages[0], iterations=1, batch=1)
    second = replace(
        first,
        name="second",
        rates={"basic_module.1": 0.0},
        copies={"basic_module.1": "basic_module.0"},
    )
    options = Options(log_every=0, picture_every=0)

    def trained(folder: str, **changes: object) -> dict[str, torch.Tensor]:
        stages = (first, replace(second, **changes))  # type: ignore[arg-type]
        done = train(replace(recipe, stages=stages), lambda _: SOURCE, tmp_path / folder, options)
        return read_weights(done.weights)

    weights = trained("copied")
    names = [name[len("basic_module.0.") :] for name in weights if "basic_module.0." in name[:15]]
    assert len(names) == 10
    for name in names:
        assert torch.equal(weights[f"basic_module.0.{name}"], weights[f"basic_module.1.{name}"])
    with pytest.raises(UsageError, match=r"no part 'basic_module\.7'"):
        trained("none", copies={"basic_module.1": "basic_module.7"})
    with pytest.raises(UsageError, match="have other shapes"):
        trained("others", copies={"basic_module.1": "basic_module.0.basic_module.0"})


def test_a_start_from_gradients_is_spynets() -> None:
    recipe = find_recipe("flow-spynet-compact")
    for settings in ({"flow_widths": (8, 8, 8, 8)}, {"flow_widths": (16, 16)}):
        with pytest.raises(UsageError, match="takes widths of"):
            build_network(replace(recipe, settings={**recipe.settings, **settings}))
    with pytest.raises(UsageError, match="only SpyNet"):
        build_network(replace(find_recipe("flow-pwcnet-compact"), start={"all": "gradients"}))
