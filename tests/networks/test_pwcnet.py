"""PWC-Net: its parts against plain loops; units and sizes of the flow; the published names."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from dualsr_cli.networks.pwcnet import PWCNet, PWCNetConfig, cost_volume, lies_within, warp

TINY = PWCNetConfig((4, 6, 8, 8, 8, 8), (8, 8, 8, 6, 6), (8, 8, 8, 8, 6, 6))


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def test_the_published_network() -> None:
    network = PWCNet(PWCNetConfig())
    assert sum(values.numel() for values in network.parameters()) == 9_374_340
    shapes = {name: tuple(values.shape) for name, values in network.state_dict().items()}
    for name, shape in {
        "conv1a.0.weight": (16, 3, 3, 3),
        "conv5a.0.weight": (128, 96, 3, 3),
        "conv6aa.0.weight": (196, 128, 3, 3),  # the one with stride 2, unlike the levels before
        "conv6a.0.weight": (196, 196, 3, 3),
        "conv6_0.0.weight": (128, 81, 3, 3),
        "conv2_4.0.weight": (32, 533, 3, 3),
        "predict_flow5.weight": (2, 661, 3, 3),
        "upfeat6.weight": (529, 2, 4, 4),
        "deconv2.bias": (2,),
        "dc_conv4.0.weight": (96, 128, 3, 3),
        "dc_conv7.weight": (2, 32, 3, 3),
    }.items():
        assert shapes[name] == shape
    assert "upfeat2.weight" not in shapes


def test_the_cost_volume_is_the_mean_product_at_each_displacement() -> None:
    first, second, reach = random(2, 3, 5, 4), random(2, 3, 5, 4, seed=1), 2
    found = cost_volume(first, second, reach)
    assert found.shape == (2, 25, 5, 4)
    for number, (dy, dx) in enumerate((dy, dx) for dy in range(-2, 3) for dx in range(-2, 3)):
        for y in range(5):
            for x in range(4):
                there = 0 <= y + dy < 5 and 0 <= x + dx < 4
                expected = (
                    (first[:, :, y, x] * second[:, :, y + dy, x + dx]).mean(1)
                    if there
                    else torch.zeros(2)
                )
                assert torch.allclose(found[:, number, y, x], expected, atol=1e-6)


def test_a_warp_fetches_what_the_flow_points_at() -> None:
    values = random(1, 2, 6, 9)
    flow = torch.zeros(1, 2, 6, 9)
    warped, inside = warp(values, flow)
    assert torch.allclose(warped, values, atol=1e-6)
    assert bool((inside == 1).all())
    flow[:, 0], flow[:, 1] = 2, -1  # to the right by two, up by one
    warped, inside = warp(values, flow)
    assert torch.allclose(warped[:, :, 1:, :7], values[:, :, :5, 2:], atol=1e-6)
    expected = torch.zeros(1, 1, 6, 9)
    expected[:, :, 1:, :7] = 1
    assert torch.equal(inside, expected)
    # Half a pixel beyond the border is not all there.
    warped, inside = warp(values, torch.full((1, 2, 6, 9), 0.5))
    assert torch.equal(inside[0, 0, :, -1], torch.zeros(6))
    assert torch.equal(inside[0, 0, :-1, :-1], torch.ones(5, 8))
    mean = (values[..., :-1, :-1] + values[..., 1:, :-1] + values[..., :-1, 1:]) / 4
    assert torch.allclose(warped[..., :-1, :-1], mean + values[..., 1:, 1:] / 4, atol=1e-6)


def test_what_lies_beyond_a_frame_does_not_count() -> None:
    x, y = torch.arange(9.0).expand(2, 6, 9), torch.arange(6.0)[:, None].expand(2, 6, 9)
    inside = lies_within(x, y, torch.tensor([[1, 2, 5, 8], [0, 0, 6, 4]]))
    expected = torch.zeros(2, 1, 6, 9, dtype=torch.bool)
    expected[0, :, 1:5, 2:8] = True
    expected[1, :, 0:6, 0:4] = True
    assert torch.equal(inside, expected)


@torch.no_grad()
def test_flows_made_square_by_square_are_those_made_at_once() -> None:
    torch.manual_seed(0)
    network = PWCNet(TINY)
    first, second = random(1, 3, 256, 320), random(1, 3, 256, 320, seed=1)
    expected = network.encode(first), network.encode(second)
    pyramids = network.encode(first, 64), network.encode(second, 96)
    for found, whole in zip(pyramids, expected, strict=True):
        for level, values in zip(found, whole, strict=True):
            assert torch.allclose(level, values, atol=1e-5)
    whole = network.flows(*expected)
    assert whole[0].abs().mean() > 1  # far enough for places to matter
    for flow, values in zip(network.flows(*expected, 16), whole, strict=True):
        assert torch.allclose(flow, values, atol=1e-3 * float(values.abs().max()))


def test_flows_of_all_levels() -> None:
    network = PWCNet(TINY)
    first, second = random(2, 3, 64, 128), random(2, 3, 64, 128, seed=1)
    flows = network(first, second)
    assert [tuple(flow.shape) for flow in flows] == [
        (2, 2, 64 // side, 128 // side) for side in (4, 8, 16, 32, 64)
    ]
    for one in (0, 1):
        alone = network(first[one : one + 1], second[one : one + 1])
        for flow, expected in zip(flows, alone, strict=True):
            assert torch.allclose(flow[one : one + 1], expected, atol=1e-3)
    for size in ((64, 96), (0, 64), (1, 1)):
        with pytest.raises(ValueError, match="are no multiples of 64"):
            network(random(1, 3, *size), random(1, 3, *size))


def test_every_layer_learns_save_the_unused_one() -> None:
    network = PWCNet(TINY)
    flows = network(random(1, 3, 128, 128), random(1, 3, 128, 128, seed=1))
    torch.stack([flow.abs().mean() for flow in flows]).sum().backward()
    without = {name for name, values in network.named_parameters() if values.grad is None}
    assert without == {"deconv2.weight", "deconv2.bias"}
    for name, values in network.named_parameters():
        if values.grad is not None:
            assert bool(values.grad.abs().sum() > 0), name


def test_it_can_learn_a_shift() -> None:
    """The flow is in pixels, points from the first image to the second, x before y."""
    torch.manual_seed(0)
    network = PWCNet(TINY)
    scene = F.interpolate(random(1, 3, 18, 18), size=(72, 72), mode="bicubic")
    first, second = scene[..., 4:68, 4:68], scene[..., 7:71, 2:66]
    truth = torch.tensor([2.0, -3.0])[None, :, None, None]  # second(x + 2, y - 3) is first(x, y)
    optimizer = torch.optim.Adam(network.parameters(), 6e-3)
    for _ in range(10):
        optimizer.zero_grad()
        torch.stack(
            [(flow - truth).abs().mean() for flow in network(first, second)]
        ).sum().backward()
        optimizer.step()
    with torch.no_grad():
        flow = F.interpolate(network(first, second)[0], scale_factor=4, mode="bilinear")
        warped, _ = warp(second, flow)
    kept = (..., slice(8, -8), slice(8, -8))
    assert (warped - first)[kept].abs().mean() < 0.3 * (second - first)[kept].abs().mean()
