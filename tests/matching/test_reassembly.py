"""Reassembly against torch's unfold, gather and fold."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from dualsr_cli.matching.correspondence import Correspondence
from dualsr_cli.matching.reassembly import Values, reassemble

VARIANTS: dict[str, dict[str, Any]] = {
    "default": {"scale": 2},
    "scale 1": {"scale": 1},
    "scale 4, patch 5": {"scale": 4, "patch": 5},
    "odd scale": {"scale": 3, "padding": "zeros"},
    "sddusr": {"scale": 4, "padding": "zeros", "normalise": "constant"},
    "kedusr": {
        "scale": 4,
        "kernel": 9,
        "key_margin": 2,
        "query_margin": 4,
        "normalise": "constant",
    },
    "kedusr, exact": {"scale": 4, "kernel": 9, "key_margin": 2, "query_margin": 4},
    "dcsr": {"scale": 4, "patch": 1, "normalise": "constant"},
    "ragged": {"scale": 3, "kernel": 8, "key_margin": 5, "query_margin": 1, "padding": "zeros"},
}


def pad(maps: torch.Tensor, before: int, after: int, padding: str) -> torch.Tensor:
    mode = "reflect" if padding == "reflect" else "constant"
    return F.pad(maps, (before, after, before, after), mode=mode)


def published(
    value: torch.Tensor,
    found: Correspondence,
    *,
    scale: int,
    patch: int = 3,
    kernel: int | None = None,
    key_margin: int | None = None,
    query_margin: int | None = None,
    padding: str = "reflect",
    normalise: str = "count",
    weight: torch.Tensor | None = None,
) -> torch.Tensor:
    """Unfold, gather, fold and division, as the papers' code has it."""
    kernel = kernel or scale * patch
    key_margin = scale * (patch // 2) if key_margin is None else key_margin
    query_margin = key_margin if query_margin is None else query_margin
    after = kernel - scale - key_margin
    index = found.index.flatten(1)
    _, height, width = found.index.shape
    none = (index < 0)[:, None, :]

    def warp(maps: torch.Tensor, weight: torch.Tensor | None) -> torch.Tensor:
        unfolded = F.unfold(pad(maps, key_margin, after, padding), kernel, stride=scale)
        chosen = index.clamp(min=0)[:, None, :].expand(-1, unfolded.shape[1], -1)
        windows = unfolded.gather(2, chosen).masked_fill(none, 0)
        if weight is not None:
            windows = windows * weight.flatten(1)[:, None, :]
        spare = 2 * kernel  # laid on a larger canvas, from which the output is cut
        canvas = scale * height + 2 * spare, scale * width + 2 * spare
        grid = canvas[0] // scale, canvas[1] // scale
        # fold starts windows at multiples of scale: the margin decides where the cut is made
        down = -(-spare // scale)
        laid = windows.new_zeros(len(windows), windows.shape[1], *grid)
        laid[:, :, down : down + height, down : down + width] = windows.unflatten(
            2, (height, width)
        )
        size = scale * (grid[0] - 1) + kernel, scale * (grid[1] - 1) + kernel
        folded = F.fold(laid.flatten(2), size, kernel, stride=scale)
        top = scale * down + query_margin
        return folded[:, :, top : top + scale * height, top : top + scale * width]

    total = warp(value, weight)
    if normalise == "constant":
        return total / (kernel / scale) ** 2
    return total / warp(torch.ones_like(value), None).clamp(min=1)


def example(
    scale: int, batch: int = 2, channels: int = 3, seed: int = 0
) -> tuple[torch.Tensor, Correspondence]:
    generator = torch.Generator().manual_seed(seed)
    keys, queries = (7, 6), (8, 5)
    value = torch.randn(
        batch,
        channels,
        scale * keys[0],
        scale * keys[1],
        dtype=torch.float64,
        generator=generator,
    )
    index = torch.randint(-4, keys[0] * keys[1], (batch, *queries), generator=generator)
    index.clamp_(min=-1)
    return value, Correspondence(index, torch.rand(index.shape, generator=generator), keys)


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("weighted", [False, True])
def test_equals_unfold_gather_fold(name: str, weighted: bool) -> None:
    variant = VARIANTS[name]
    value, found = example(variant["scale"])
    weight = found.similarity.double() if weighted else None
    expected = published(value, found, **variant, weight=weight)
    torch.testing.assert_close(reassemble(value, found, **variant, weight=weight), expected)


def test_kedusr_is_what_its_fold_gives() -> None:
    """KeDuSR: windows of 9 at stride 4, "same" reflection when read, 9 // 2 when laid."""
    value, found = example(4)
    index = found.index.clamp(min=0)
    found = Correspondence(index, found.similarity, found.key_size)
    unfolded = F.unfold(F.pad(value, (2, 3, 2, 3), mode="reflect"), 9, stride=4)
    windows = unfolded.gather(2, index.flatten(1)[:, None, :].expand(-1, unfolded.shape[1], -1))
    folded = F.fold(windows, (4 * 8, 4 * 5), 9, padding=4, stride=4) / 5.0625
    torch.testing.assert_close(reassemble(value, found, **VARIANTS["kedusr"]), folded)


def test_sddusr_and_ttsr_are_what_their_fold_gives() -> None:
    value, found = example(2)
    index = found.index.clamp(min=0)
    found = Correspondence(index, found.similarity, found.key_size)
    unfolded = F.unfold(value, 6, padding=2, stride=2)
    windows = unfolded.gather(2, index.flatten(1)[:, None, :].expand(-1, unfolded.shape[1], -1))
    folded = F.fold(windows, (2 * 8, 2 * 5), 6, padding=2, stride=2) / 9
    actual = reassemble(value, found, padding="zeros", normalise="constant")
    torch.testing.assert_close(actual, folded)


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_the_identity_gives_the_value_back_borders_and_all(scale: int) -> None:
    index = torch.arange(30).view(1, 5, 6)
    value = torch.randn(1, 2, scale * 5, scale * 6, generator=torch.Generator().manual_seed(0))
    found = Correspondence(index, torch.ones(index.shape), (5, 6))
    for padding in ("reflect", "zeros"):
        torch.testing.assert_close(reassemble(value, found, scale=scale, padding=padding), value)


def test_nothing_comes_to_where_no_query_has_a_key() -> None:
    index = torch.full((1, 9, 9), -1)
    index[0, 4, 4] = 7
    found = Correspondence(index, torch.zeros(1, 9, 9), (3, 4))
    value = torch.rand(1, 2, 6, 8, generator=torch.Generator().manual_seed(0))
    output = reassemble(value, found)
    window = output[..., 6:12, 6:12]
    torch.testing.assert_close(output.sum(), window.sum())
    # Key 7 is at row 1, column 3: its window's last two columns lie beyond the value map.
    torch.testing.assert_close(window[..., :4], value[..., 0:6, 4:8])
    assert bool((window[..., 4:] > 0).all())
    zeros = reassemble(value, found, padding="zeros")
    assert not zeros[..., 10:].any()
    assert not reassemble(value, Correspondence(torch.full_like(index, -1), index, (3, 4))).any()


def test_one_key_and_maps_too_small_to_be_mirrored() -> None:
    value = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    found = Correspondence(torch.zeros(1, 3, 2, dtype=torch.int64), torch.ones(1, 3, 2), (1, 1))
    output = reassemble(value, found)
    assert output.shape == (1, 1, 6, 4)
    assert bool(((output >= 1) & (output <= 4)).all())
    alone = reassemble(value, found, padding="zeros")
    torch.testing.assert_close(alone, value.repeat(1, 1, 3, 2))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_summed_in_float32(dtype: torch.dtype) -> None:
    value, found = example(2)
    value = value.to(dtype)
    output = reassemble(value, found)
    assert output.dtype == dtype
    torch.testing.assert_close(output, reassemble(value.float(), found).to(dtype))


@pytest.mark.parametrize("name", VARIANTS)
def test_gradients(name: str) -> None:
    variant = VARIANTS[name]
    scale = variant["scale"]
    generator = torch.Generator().manual_seed(1)
    size = (4, 4) if scale == 4 else (3, 4)
    value = torch.randn(
        2, 1, scale * size[0], scale * size[1], dtype=torch.float64, generator=generator
    )
    index = torch.randint(-1, 12, (2, 3, 2), generator=generator)
    found = Correspondence(index, torch.zeros(index.shape), size)
    weight = torch.rand(index.shape, dtype=torch.float64, generator=generator)
    value.requires_grad_()
    weight.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda value, weight: reassemble(value, found, **variant, weight=weight),
        (value, weight),
        fast_mode=True,
    )


def test_blocks_give_the_same_and_no_unfolded_map_is_held(
    monkeypatch: pytest.MonkeyPatch, sizes: Any
) -> None:
    generator = torch.Generator().manual_seed(2)
    value = torch.randn(1, 6, 24, 32, generator=generator, requires_grad=True)
    index = torch.randint(-1, 192, (1, 12, 16), generator=generator)
    weight = torch.rand(1, 12, 16, generator=generator, requires_grad=True)
    found = Correspondence(index, torch.zeros(1, 12, 16), (12, 16))
    whole = reassemble(value, found, weight=weight)
    expected = torch.autograd.grad(whole.square().sum(), (value, weight))
    monkeypatch.setattr("dualsr_cli.matching.reassembly._GATHERED", 1000)
    monkeypatch.setattr("dualsr_cli.matching.reassembly._COPIED", 3000)
    with sizes:
        blocks = reassemble(value, found, weight=weight)
        actual = torch.autograd.grad(blocks.square().sum(), (value, weight))
    torch.testing.assert_close(blocks, whole)
    torch.testing.assert_close(actual, expected)
    assert sizes.largest < 2 * value.numel()  # unfolded: nine times


def test_shapes_that_do_not_fit_are_told() -> None:
    value, found = example(2)
    with pytest.raises(ValueError, match="not 3 x the keys"):
        reassemble(value, found, scale=3)
    with pytest.raises(ValueError, match="the same B"):
        reassemble(value[:1], found)
    with pytest.raises(ValueError, match="weight is"):
        reassemble(value, found, weight=torch.ones(2, 3, 3))
    with pytest.raises(ValueError, match="odd"):
        reassemble(value, found, patch=2)
    with pytest.raises(ValueError, match="leaves pixels out"):
        reassemble(value, found, kernel=1)
    with pytest.raises(ValueError, match="margins"):
        reassemble(value, found, key_margin=5)
    with pytest.raises(ValueError, match="'mirror' is unknown"):
        reassemble(value, found, padding="mirror")
    with pytest.raises(ValueError, match="'mean' is unknown"):
        reassemble(value, found, normalise="mean")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    "arguments",
    [
        {"scale": 2},
        {"scale": 2, "padding": "zeros", "normalise": "constant"},
        {"scale": 4, "kernel": 9, "key_margin": 2, "query_margin": 4, "normalise": "constant"},
        {"scale": 3, "patch": 1},
    ],
)
def test_values_laid_out_once_serve_any_part(arguments: dict[str, Any], dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    scale = arguments["scale"]
    value = torch.randn(2, 5, scale * 6, scale * 7, generator=generator).to(dtype)
    index = torch.randint(-1, 42, (2, 8, 9), generator=generator)
    found = Correspondence(index, torch.zeros(2, 8, 9), (6, 7))
    part = Correspondence(index[:, 2:7, 1:6], torch.zeros(2, 5, 5), (6, 7))
    laid = Values(value, **arguments)
    for matches in (found, part):
        assert torch.equal(laid.reassemble(matches), reassemble(value, matches, **arguments))
    with pytest.raises(ValueError, match="the keys"):
        laid.reassemble(Correspondence(index, torch.zeros(2, 8, 9), (7, 6)))
