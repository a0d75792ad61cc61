"""The shared pieces: warping, padding, and attention that looks at a whole image from a tile."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from dualsr_cli.networks._rows import by_rows, cut_rows, gather
from dualsr_cli.networks.blocks import (
    AttentionBlock,
    AttentionGroup,
    ChannelAttention,
    PixelShuffle,
    ResidualGroup,
    pad_to,
    warp,
)


def image(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def test_warping_by_whole_pixels_shifts() -> None:
    values = image(2, 3, 7, 9)
    flow = torch.zeros(2, 2, 7, 9)
    flow[:, 0], flow[:, 1] = 2, -1
    warped = warp(values, flow)
    assert torch.allclose(warped[:, :, 1:, :-2], values[:, :, :-1, 2:], atol=1e-5)
    assert warped[:, :, 0].abs().max() < 1e-5
    bordered = warp(values, flow, "border")
    assert torch.allclose(bordered[:, :, 1:, -2:], values[:, :, :-1, -1:].expand(-1, -1, -1, 2))
    assert torch.allclose(warp(values[..., :1, :1], torch.zeros(2, 2, 1, 1)), values[..., :1, :1])


def test_warping_between_pixels_is_bilinear() -> None:
    rows, columns = torch.meshgrid(torch.arange(6.0), torch.arange(8.0), indexing="ij")
    plane = (3 * columns - 2 * rows + 1)[None, None]
    flow = 0.9 * image(1, 2, 6, 8)
    warped = warp(plane, flow)[0, 0]
    expected = plane[0, 0] + 3 * flow[0, 0] - 2 * flow[0, 1]
    assert torch.allclose(warped[:-1, :-1], expected[:-1, :-1], atol=1e-4)


@pytest.mark.parametrize(("size", "padded"), [((4, 8), (4, 8)), ((5, 7), (8, 8)), ((1, 1), (4, 4))])
def test_padding_repeats_the_last_row_and_column(
    size: tuple[int, int], padded: tuple[int, int]
) -> None:
    values = image(1, 2, *size)
    found = pad_to(values, 4)
    assert found.shape[2:] == padded
    rows = torch.arange(padded[0]).clamp(max=size[0] - 1)
    columns = torch.arange(padded[1]).clamp(max=size[1] - 1)
    assert torch.equal(found, values[:, :, rows][:, :, :, columns])


@pytest.mark.parametrize("gate", [False, True])
def test_a_tile_with_the_images_means_gives_a_part_of_the_whole(gate: bool) -> None:
    torch.manual_seed(0)
    block = AttentionBlock(16, attend=True, gate=gate).eval()
    x = image(2, 16, 24, 24)
    with torch.no_grad():
        whole = block(x)
        pooled = gather(block.gated_by_rows(), cut_rows(x, 24), 24).mean(dim=(2, 3), keepdim=True)
        assert torch.allclose(block(x, pooled), whole, atol=1e-6)
        tile = block(x[:, :, 6:, :18], pooled)
        again = gather(block.by_rows(pooled), cut_rows(x, 5), 24)
    assert torch.allclose(tile[:, :, 6:, :12], whole[:, :, 12:, :12], atol=1e-5)
    assert torch.allclose(again, whole, atol=1e-6)
    with pytest.raises(ValueError, match="needs the means"):
        block.by_rows()


@pytest.mark.parametrize("rows", [1, 2, 3, 7, 20])
@pytest.mark.parametrize("height", [1, 2, 6, 17])
def test_bands_of_rows_give_the_whole(rows: int, height: int) -> None:
    torch.manual_seed(0)
    layers = (
        ResidualGroup(2, 4),
        AttentionGroup(1, 4, attend=False),
        PixelShuffle(4, 4),
        nn.Sequential(nn.Conv2d(4, 8, 7, padding=3), nn.ReLU(True), nn.Conv2d(8, 3, 1)),
        nn.MaxPool2d(2, ceil_mode=True),
        PixelShuffle(3, 4, 3),
    )
    x = image(2, 4, height, 6)
    with torch.no_grad():
        expected = x
        for layer in layers:
            expected = layer(expected)
        found = gather(by_rows(*layers), cut_rows(x, rows), 3 * height)
    assert torch.allclose(found, expected, atol=1e-6)
    assert torch.equal(x, image(2, 4, height, 6))


@pytest.mark.parametrize(("features", "narrow"), [(8, 4), (24, 4), (64, 4), (128, 8)])
def test_channel_attention_keeps_enough_rectifiers_to_see_by(features: int, narrow: int) -> None:
    assert ChannelAttention(features).conv_du[0].weight.shape == (narrow, features, 1, 1)


def test_attention_that_is_off_leaves_its_parameters_out() -> None:
    torch.manual_seed(0)
    off, on = (AttentionGroup(2, 16, attend=attend) for attend in (False, True))
    on.load_state_dict(off.state_dict())
    x = image(1, 16, 8, 8)
    assert not torch.allclose(off(x), on(x))
    off(x).sum().backward()
    idle = [name for name, parameter in off.named_parameters() if parameter.grad is None]
    assert idle == [name for name in off.state_dict() if "channel_attention" in name]
    assert len(idle) == 8


def test_pixel_shuffle_enlarges() -> None:
    assert PixelShuffle(4, 6)(image(1, 4, 3, 5)).shape == (1, 6, 6, 10)
    assert PixelShuffle(4, 6, 3)(image(1, 4, 3, 5)).shape == (1, 6, 9, 15)
