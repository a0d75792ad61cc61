"""SpyNet: names, sizes, and what its levels' flows add up to."""

from __future__ import annotations

import pytest
import torch

from dualsr_cli.networks.spynet import LEVELS, SpyNet


def image(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def silent() -> SpyNet:
    """A network whose levels all add nothing."""
    network = SpyNet((4, 4, 4, 4))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    return network


def test_names_and_counts_are_the_published() -> None:
    network = SpyNet()
    names = [
        f"basic_module.{level}.basic_module.{layer}.{kind}"
        for level in range(6)
        for layer in (0, 2, 4, 6, 8)
        for kind in ("weight", "bias")
    ]
    state = network.state_dict()
    assert sorted(state) == sorted([*names, "mean", "std"])
    assert state["basic_module.5.basic_module.2.weight"].shape == (64, 32, 7, 7)
    assert state["mean"].shape == state["std"].shape == (1, 3, 1, 1)
    assert sum(parameter.numel() for parameter in network.parameters()) == 1_440_300


@pytest.mark.parametrize("level", range(LEVELS))
@pytest.mark.parametrize("size", [(64, 96), (50, 33)])
def test_a_levels_flow_counts_as_often_as_its_pixels_do(
    silent: SpyNet, level: int, size: tuple[int, int]
) -> None:
    last = silent.get_parameter(f"basic_module.{level}.basic_module.8.bias")
    with torch.no_grad():
        last.copy_(torch.tensor([0.5, -0.25]))
        flow = silent(image(1, 3, *size), image(1, 3, *size, seed=1))
    height, width = (-(-side // 32) * 32 for side in size)
    enlarged = 2.0 ** (LEVELS - 1 - level)
    expected = torch.tensor([0.5 * size[1] / width, -0.25 * size[0] / height]) * enlarged
    assert torch.allclose(flow, expected[None, :, None, None].expand(1, 2, *size), atol=1e-5)


def test_a_level_sees_the_other_image_warped_by_the_flow_so_far(silent: SpyNet) -> None:
    """The last level is made to hand on the warped red channel, which lies 2 pixels further on."""
    with torch.no_grad():
        silent.get_parameter("basic_module.4.basic_module.8.bias").copy_(torch.tensor([1.0, 0.0]))
        for layer, channel in ((0, 3), (2, 0), (4, 0), (6, 0), (8, 0)):
            weight = silent.get_parameter(f"basic_module.5.basic_module.{layer}.weight")
            weight[0, channel, 3, 3] = 1
        silent.get_parameter("basic_module.5.basic_module.0.bias")[0] = 10  # above the rectifiers
        other = image(1, 3, 32, 32, seed=1)
        flow = silent(image(1, 3, 32, 32), other)
    red = (other[0, 0] - silent.mean[0, 0, 0, 0]) / silent.std[0, 0, 0, 0]
    assert torch.allclose(flow[0, 0, :, :-2], red[:, 2:] + 10 + 2, atol=1e-4)


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (31, 33), (64, 64)])
def test_any_size(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    network = SpyNet((4, 8, 4, 4))
    images = image(2, 3, *size), image(2, 3, *size, seed=1)
    flow = network(*images)
    assert flow.shape == (2, 2, *size)
    for n in range(2):
        alone = network(*(one[n : n + 1] for one in images))
        assert torch.allclose(alone, flow[n : n + 1], atol=1e-5)
    with pytest.raises(ValueError, match="are not of one shape"):
        network(images[0], image(2, 3, size[0] + 1, size[1]))


def test_every_parameter_gets_a_gradient() -> None:
    torch.manual_seed(0)
    network = SpyNet((4, 8, 4, 4))
    network(image(1, 3, 64, 64), image(1, 3, 64, 64, seed=1)).abs().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name
