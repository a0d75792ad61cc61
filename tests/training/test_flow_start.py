"""What the training of flow networks starts from, and their stages."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch

from dualsr_cli.errors import UsageError
from dualsr_cli.networks import Inputs, read_weights
from dualsr_cli.training import (
    Options,
    SyntheticFlow,
    build_loss,
    build_network,
    find_recipe,
    train,
)
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


@pytest.mark.parametrize("name", ["flow-pwcnet", "flow-pwcnet-compact"])
def test_decoders_start_by_going_where_features_are_alike(name: str) -> None:
    torch.manual_seed(0)
    network = build_network(find_recipe(name))
    widths = find_recipe(name).settings.get("flow_pyramid", (16, 32, 64, 96, 128, 196))[1:]
    sizes = [32 // 2**n for n in range(5)]
    for level, down, across in ((3, 3, 0), (2, 0, -3), (3, -3, 3)):
        own = [torch.zeros(4, width, n, n) for width, n in zip(widths, sizes, strict=True)]
        own[level - 2].normal_()  # other levels tell nothing
        other = [values.roll((down, across), (2, 3)) for values in own]
        with torch.no_grad():
            found = network.flows(own, other)  # type: ignore[operator]
        flow = found[0].mean(dim=(0, 2, 3))
        wanted = torch.tensor([float(across), float(down)])
        assert torch.nn.functional.cosine_similarity(flow, wanted, dim=0) > 0.9
        assert 0.1 < lengths(found[0]).mean() < lengths(wanted[None]) * 2**level


def test_only_pwcnet_starts_from_cost_volumes() -> None:
    with pytest.raises(UsageError, match="only PWC-Net"):
        build_network(replace(find_recipe("flow-spynet-compact"), start={"all": "cost-volumes"}))


def test_features_of_pwcnet_learn_to_match() -> None:
    recipe = find_recipe("flow-pwcnet-compact")
    stage = recipe.stages[0]
    torch.manual_seed(0)
    network = build_network(recipe)
    term = stage.losses[0]
    loss = build_loss(term.loss, term.settings)
    source = SyntheticFlow(Photographs(), (64, 64), reach=6.0)
    given, held = (joined([source.sample(n % 3, n) for n in range(n, n + 4)]) for n in (0, 9))
    optimiser = torch.optim.Adam(network.parameters(), stage.rates["all"])

    def cost(inputs: Inputs) -> torch.Tensor:
        return loss(FORWARDS[stage.forward](network, inputs), inputs)

    before = cost(held).item()
    for _ in range(25):
        optimiser.zero_grad()
        torch.autograd.backward(cost(given))
        optimiser.step()
    assert cost(held).item() < 0.9 * before


def test_volumes_of_raft_are_the_likeness_of_its_features() -> None:
    """Row by row: place (x, y) of lr and (x + dx, y + dy) of ref, dy before dx."""
    torch.manual_seed(0)
    network = build_network(find_recipe("flow-raft-small-compact")).eval()
    source = SyntheticFlow(Photographs(), (128, 136), reach=6.0)
    given = source.sample(0, 0)
    with torch.no_grad():
        outputs = FORWARDS["raft-matching"](network, given)
        # Instance norms: each image by itself.
        first, second = (
            network.get_submodule("feature_encoder")(2 * image - 1)
            for image in (given.lr, given.ref)
        )
    (volume,) = outputs.maps.values()
    assert volume.shape == (1, 49, 16, 17)
    around = torch.nn.functional.pad(second, (3, 3, 3, 3))
    for number, (down, across) in enumerate((i, j) for i in range(7) for j in range(7)):
        moved = around[:, :, down : down + 16, across : across + 17]
        likeness = (first * moved).sum(dim=1) / first.shape[1] ** 0.5
        torch.testing.assert_close(volume[:, number], likeness, atol=1e-4, rtol=1e-4)
