"""DCSR: parameters and names of its checkpoints, its transform, its windows, tiles and sizes."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from dualsr_cli.errors import InputError
from dualsr_cli.matching import search
from dualsr_cli.networks import Inputs, load_into, read_weights
from dualsr_cli.networks.dcsr import DCSR, DCSRConfig, transform_patches

GOLDEN = Path(__file__).parent / "golden" / "dcsr.npz"
SMALL = DCSRConfig(n_feats=6, blocks=2, match_feats=4)
CONFIGS = {
    "2x": SMALL,
    "2x half": replace(SMALL, match_half=True),
    "4x": replace(SMALL, scale=4),
    "4x half": replace(SMALL, scale=4, match_half=True),
}
TWO = ("2x half", "4x")  # what the others have in common
PARAMETERS = {
    "feature_match": 114_652,
    "ref_encoder1": 38_720,
    "ref_encoder2": 73_856,
    "res1": 332_352,
    "res2": 332_352,
    "input_encoder": 629_568,
    "fusion1": 241_792,
    "fusion2": 241_792,
    "decoder1": 627_776,
    "decoder2": 332_352,
    "decoder_tail": 19_331,
    "alpha1": 10_080,
    "alpha2": 10_080,
    "alpha3": 7_171,
    "aa1": 90_755,
    "aa3": 90_755,
}


def seeded(config: DCSRConfig, seed: int = 0) -> DCSR:
    """With transforms that do transform: untrained ones hardly differ from none."""
    torch.manual_seed(seed)
    network = DCSR(config)
    with torch.no_grad():
        for name, values in network.named_parameters():
            if "p_conv.4" in name:
                values.mul_(8)
    return network


def picture(seed: int, *shape: int) -> torch.Tensor:
    """Large spots with fine noise, 0..1."""
    generator = torch.Generator().manual_seed(seed)
    batch, channels, height, width = shape
    coarse = (batch, channels, height // 4 + 1, width // 4 + 1)
    spots = torch.rand(coarse, generator=generator)
    spots = F.interpolate(spots, (height, width), mode="bicubic", align_corners=False)
    return (0.8 * spots + 0.2 * torch.rand(shape, generator=generator)).clamp(0, 1)


def example(
    config: DCSRConfig,
    size: tuple[int, int],
    box: tuple[int, int, int, int] | None = None,
    batch: int = 1,
) -> Inputs:
    top, left, bottom, right = box or (0, 0, size[0], size[1])
    ref = picture(2, batch, 3, config.scale * (bottom - top), config.scale * (right - left))
    boxes = torch.tensor([[top, left, bottom, right]] * batch)
    return Inputs(picture(1, batch, 3, *size), ref, boxes)


def test_parameters_are_those_of_the_published_network() -> None:
    network = DCSR()
    counts: Counter[str] = Counter()
    for name, values in network.state_dict().items():
        counts[name.partition(".")[0]] += values.numel()
    assert counts == PARAMETERS
    assert sum(values.numel() for values in network.parameters()) == 3_193_384
    shapes = {name: tuple(values.shape) for name, values in network.state_dict().items()}
    assert len(shapes) == 194
    for name, shape in {
        "feature_match.feature_extract.5.weight": (128, 64, 3, 3),
        "feature_match.feature_extract.map.0.weight": (16, 128, 1, 1),
        "feature_match.sub_mean.weight": (3, 3, 1, 1),
        "ref_encoder2.1.0.weight": (64, 64, 3, 3),
        "res1.RBs.3.conv2.weight": (64, 64, 3, 3),
        "input_encoder.conv_head.weight": (64, 3, 3, 3),
        "input_encoder.RBs.7.conv1.bias": (64,),
        "decoder1.conv_tail.weight": (64, 64, 3, 3),
        "fusion1.0.0.weight": (64, 128, 5, 5),
        "alpha1.0.0.weight": (16, 1, 7, 7),
        "alpha3.0.0.weight": (32, 4, 7, 7),
        "decoder_tail.2.weight": (3, 32, 3, 3),
        "aa1.align.conv1.2.conv1.weight": (32, 32, 3, 3),
        "aa3.align.p_conv.0.weight": (32, 64, 5, 5),
        "aa3.align.p_conv.4.weight": (3, 32, 1, 1),
    }.items():
        assert shapes[name] == shape
    half = DCSR(DCSRConfig(match_half=True)).state_dict()
    assert {name: tuple(values.shape) for name, values in half.items()} == shapes


def test_4x_has_one_level_more() -> None:
    two, four = DCSR(), DCSR(DCSRConfig(scale=4))
    more = {name.partition(".")[0] for name in four.state_dict()} - set(PARAMETERS)
    assert more == {"ref_encoder3", "res3", "fusion3", "decoder3", "alpha4", "aa4"}
    assert sum(values.numel() for values in four.parameters()) == 4_274_571
    assert sum(values.numel() for values in two.parameters()) < 4_274_571


@pytest.mark.parametrize(
    "wrong",
    [
        {"scale": 3},
        {"n_feats": 1},
        {"blocks": 3},
        {"match_feats": 0},
        {"tile": 4},
        {"tile": 33, "match_half": True},
        {"reach": -1},
        {"fusion": "product"},
    ],
)
def test_what_cannot_be_built_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"take|no search"):
        replace(DCSRConfig(), **wrong)


def test_a_reference_of_another_scale_is_refused() -> None:
    inputs = example(SMALL, (10, 12), (2, 2, 8, 8))
    with pytest.raises(ValueError, match="not 4 x its box of 6 x 6"):
        DCSR(CONFIGS["4x"])(inputs)


def golden() -> dict[str, torch.Tensor]:
    """What the file holds; `python tests/networks/test_dcsr.py` writes it."""
    results = {}
    with torch.no_grad():
        for name, config in CONFIGS.items():
            config = replace(config, tile=8, reach=2)
            inputs = example(config, (9, 8), (2, 1, 8, 6))
            results[name] = seeded(config)(inputs).sr[..., ::2, ::2]
        lr, ref = picture(3, 1, 3, 43, 18), picture(4, 1, 3, 116, 116)
        tiled = published(seeded(SMALL), lr, ref, (8, 8))
        results["published 2x"] = tiled[..., ::7, ::7]
    return results


def test_results_are_those_of_before() -> None:
    found = golden()
    with np.load(GOLDEN) as file:
        assert set(file) == set(found)
        for name, values in found.items():
            assert np.abs(values.numpy() - file[name]).max() < 1e-4, name


def published(
    network: DCSR, lr: torch.Tensor, ref: torch.Tensor, tile: tuple[int, int]
) -> torch.Tensor:
    """Whole images as the published program does them, for a Ref of the middle half of LR.

    LR ends at a multiple of the tile, and has 20 zeros around it. Each tile has a part of Ref of
    its own, encoded anew: about its own place, or else where the l1 distance of both, reduced
    without smoothing, is least.
    """
    whole = DCSR(replace(network.config, tile=1 << 12))  # one window
    whole.load_state_dict(network.state_dict())
    count = [side // part for side, part in zip(lr.shape[2:], tile, strict=True)]
    padded = F.pad(lr[..., : count[0] * tile[0], : count[1] * tile[1]], (20,) * 4)
    rows = []
    for row in range(count[0]):
        columns = []
        for column in range(count[1]):
            top, left = row * tile[0], column * tile[1]
            part = padded[..., top : top + tile[0] + 40, left : left + tile[1] + 40]
            spans = _published_spans((row, column), count, tile, ref.shape[2:])
            if spans is None:
                spans = _published_coarse(part, ref)
            crop = ref[..., slice(*spans[0]), slice(*spans[1])]
            box = torch.tensor([[0, 0, crop.shape[2] // 2, crop.shape[3] // 2]])
            found = whole.match(part, crop, box)
            sr = whole.restore(part, found, whole.encode_reference(crop))
            columns.append(sr[..., 40:-40, 40:-40])
        rows.append(torch.cat(columns, dim=3))
    return torch.cat(rows, dim=2)


def _published_spans(
    place: tuple[int, int], count: list[int], tile: tuple[int, int], size: torch.Size
) -> list[tuple[int, int]] | None:
    """The rows and columns of Ref for a tile that is in the middle half or touches it."""
    first = [n // 4 for n in count]
    last = [3 * n // 4 for n in count]
    start = [2 * (n - f) * side for n, f, side in zip(place, first, tile, strict=True)]
    double = [2 * side for side in tile]
    axes = list(zip(place, first, last, start, double, size, strict=True))
    if all(f <= n < end for n, f, end, *_ in axes):
        return [(max(0, s - 20), min(whole, s + d + 80)) for *_, s, d, whole in axes]
    before = [n == f - 1 for n, f, *_ in axes]
    after = [n == end for n, _, end, *_ in axes]
    if any(before) and all(f - 1 <= n < end for n, f, end, *_ in axes):
        return [(max(s, 0), min(whole, max(s, 0) + d + 100)) for *_, s, d, whole in axes]
    if any(after) and all(f <= n <= end for n, f, end, *_ in axes):
        return [(min(s, whole - d), min(s, whole - d) + d) for *_, s, d, whole in axes]
    if (before[0] and after[1]) or (after[0] and before[1]):
        return [
            (0, min(whole, d + 100)) if low else (max(0, whole - d - 100), whole)
            for low, (*_, d, whole) in zip(before, axes, strict=True)
        ]
    return None


def _published_coarse(part: torch.Tensor, ref: torch.Tensor) -> list[tuple[int, int]]:
    small = F.interpolate(part, scale_factor=1 / 8, mode="bicubic")
    key = F.interpolate(ref, scale_factor=1 / 16, mode="bicubic")
    windows = key.unfold(2, small.shape[2], 1).unfold(3, small.shape[3], 1)  # (1, 3, y, x, h, w)
    distance = (windows - small[:, :, None, None]).abs().mean(dim=(0, 1, 4, 5))
    place = divmod(int(distance.argmin()), distance.shape[1])
    return [
        (16 * start, min(16 * start + 2 * side, whole))
        for start, side, whole in zip(place, part.shape[2:], ref.shape[2:], strict=True)
    ]


@pytest.mark.parametrize("cell", [2, 4, 8])
def test_each_patch_is_read_through_its_own_transform(cell: int) -> None:
    generator = torch.Generator().manual_seed(0)
    maps = torch.rand(2, 2, 3 * cell, 2 * cell, generator=generator)
    affine = 1 + torch.randn(2, 3, 3, 2, generator=generator)
    found = transform_patches(maps, affine, cell)
    padded = F.pad(maps, (1, 1, 1, 1), mode="reflect").double()
    last = [side - 1 for side in padded.shape[2:]]
    outside = 0
    for n, row, column in product(range(2), range(3 * cell), range(2 * cell)):
        down, right, angle = affine[n, :, row // cell, column // cell].tolist()
        middle = (cell - 1) / 2
        y, x = down * (row % cell - middle), right * (column % cell - middle)
        turn = (angle - 1) * 1.0472
        y, x = (
            y * math.cos(turn) - x * math.sin(turn) + row - row % cell + middle + 1,
            y * math.sin(turn) + x * math.cos(turn) + column - column % cell + middle + 1,
        )
        expected = torch.zeros(2, dtype=torch.float64)
        for low, near in product((0, 1), (0, 1)):
            # Either neighbour is led back into the map, and so is the place itself.
            v = min(max(math.floor(y) + low, 0), last[0])
            u = min(max(math.floor(x) + near, 0), last[1])
            weight = 1 - abs(min(max(y, 0), last[0]) - v)
            expected += weight * (1 - abs(min(max(x, 0), last[1]) - u)) * padded[n, :, v, u]
        outside += not (0 <= y < last[0] and 0 <= x < last[1])
        assert torch.allclose(found[n, :, row, column].double(), expected, atol=1e-5)
    assert outside > 0


def test_identity_leaves_patches_alone() -> None:
    maps = torch.rand(1, 3, 8, 12)
    assert torch.allclose(transform_patches(maps, torch.ones(1, 3, 2, 3), 4), maps, atol=1e-6)


@pytest.mark.parametrize("name", TWO)
def test_one_window_holds_the_best_of_all_keys(name: str) -> None:
    """Tiles leave no trace in a search of which every window is the whole reference."""
    config = replace(CONFIGS[name], tile=8, reach=40)
    network, inputs = seeded(config), example(config, (22, 30), (2, 4, 18, 26), batch=2)
    with torch.no_grad():
        found = network.match(inputs.lr, inputs.ref, inputs.box)
        prepared = network.feature_match.prepare(inputs.lr)
        key = network.feature_match.prepare(F.avg_pool2d(inputs.ref, config.scale))
        expected = search(*(network.feature_match.features(maps) for maps in (prepared, key)))
    assert found.key_size == expected.key_size
    assert torch.allclose(found.similarity, expected.similarity, atol=1e-5)
    assert (found.index == expected.index).float().mean() > 0.99


def test_windows_lie_about_a_tiles_own_place_or_where_it_looks_alike() -> None:
    config = replace(SMALL, tile=16, reach=4)
    network = seeded(config)
    sharp = picture(5, 1, 3, 256, 256)
    lr = F.avg_pool2d(sharp, 2)
    box = torch.tensor([[0, 0, 64, 64]])
    ref = sharp[..., :128, :128]
    # Far from the box, LR shows what the reference shows elsewhere.
    lr[..., 112:, 112:] = lr[..., 16:32, 40:56]
    with torch.no_grad():
        rows, columns = network.match(lr, ref, box).places()
    own = torch.arange(128)
    near = torch.arange(32, 48)
    assert (rows[0, near][:, near] - own[near, None]).abs().max() <= 16 + 4
    # Behind the border alone the patches differ, and the upsampling aligns each image's corners.
    inner = slice(116, 124)
    assert (rows[0, inner, inner] - (own[inner, None] - 96)).abs().float().median() <= 1
    assert (columns[0, inner, inner] - (own[None, inner] - 72)).abs().float().median() <= 1


def test_a_reference_without_a_place_is_searched_where_it_looks_alike() -> None:
    network = seeded(replace(SMALL, tile=16, reach=4))
    scene = picture(5, 1, 3, 192, 256)
    center = F.avg_pool2d(scene, 2)
    lr = center[..., 40:72, 56:104]
    inputs = Inputs(lr, scene, torch.zeros(1, 4, dtype=torch.int64), center=center)
    with torch.no_grad():
        rows, columns = network.encode(inputs).found.places()
    inner = slice(4, 28), slice(4, 44)
    down = rows[0] - torch.arange(32)[:, None] - 40
    right = columns[0] - torch.arange(48) - 56
    assert down[inner].abs().float().median() <= 1 and right[inner].abs().float().median() <= 1


@pytest.mark.parametrize("name", CONFIGS)
def test_windows_are_the_whole(name: str) -> None:
    config = replace(CONFIGS[name], tile=16, skip=True)
    network, scale, step = seeded(config), config.scale, config.step
    assert network.margin < 24
    inputs = example(config, (65, 73), (16, 20, 47, 52))
    with torch.no_grad():
        whole, encoded = network(inputs), network.encode(inputs, 16)
        for window in ((24, 32, 40, 48), (56, 64, 65, 73)):
            part = network.render(encoded, window)
            top, left, bottom, right = window
            own = slice(scale * top, scale * bottom), slice(scale * left, scale * right)
            assert torch.allclose(part.sr, whole.sr[..., own[0], own[1]], atol=1e-4)
            places = slice(top // step, -(-bottom // step)), slice(left // step, -(-right // step))
            expected = whole.maps["confidence"][..., places[0], places[1]]
            assert torch.equal(part.maps["confidence"], expected)


def test_a_skip_adds_the_enlarged_photo() -> None:
    network = seeded(replace(SMALL, skip=True))
    inputs = example(SMALL, (10, 12), (2, 2, 8, 8))
    with torch.no_grad():
        found, expected = network(inputs).sr, seeded(SMALL)(inputs).sr
    added = F.interpolate(inputs.lr, scale_factor=2, mode="bicubic")
    assert torch.allclose(found - expected, added, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "gone"),
    [
        ({"fusion": "sum"}, {"fusion1", "fusion2", "alpha1", "alpha2"}),
        ({"fusion": "soft"}, {"alpha1", "alpha2"}),
        ({"align": False}, {"aa1", "aa3"}),
        ({"high_band": False, "scale": 4}, {"aa1", "alpha4"}),
    ],
)
def test_the_networks_of_the_ablations(settings: dict[str, Any], gone: set[str]) -> None:
    """They lack what is taken away, and nothing that is left is idle; windows give the whole."""
    config = replace(SMALL, tile=8, **settings)
    whole, network = seeded(replace(SMALL, scale=config.scale)), seeded(config)
    parts = [{name.partition(".")[0] for name in each.state_dict()} for each in (whole, network)]
    assert parts[0] - parts[1] == gone
    inputs = example(config, (20, 18), (4, 4, 14, 12))
    learned = network(inputs)
    learned.sr.square().mean().backward()
    for name, values in network.named_parameters():
        assert values.grad is not None or "sub_mean" in name, name
    with torch.no_grad():
        encoded = network.encode(inputs, 8)
        rows = [network.render(encoded, (top, 0, min(top + 8, 20), 18)).sr for top in (0, 8, 16)]
    torch.testing.assert_close(torch.cat(rows, dim=2), learned.sr.detach(), atol=1e-4, rtol=0)


def test_without_aligned_attention_patches_stay_as_they_are() -> None:
    straight, plain = seeded(SMALL), seeded(replace(SMALL, align=False))
    with torch.no_grad():
        for name, values in straight.named_parameters():
            if "p_conv.4" in name:
                values.zero_()
    plain.load_state_dict({name: straight.state_dict()[name] for name in plain.state_dict()})
    inputs = example(SMALL, (20, 18), (4, 4, 14, 12))
    with torch.no_grad():
        torch.testing.assert_close(plain(inputs).sr, straight(inputs).sr, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", TWO)
@pytest.mark.parametrize(
    ("size", "box"),
    [((1, 1), (0, 0, 1, 1)), ((7, 5), (2, 1, 5, 2)), ((1, 9), (0, 3, 1, 8)), ((19, 33), None)],
)
def test_any_size_goes_in_and_nothing_is_lost(
    name: str, size: tuple[int, int], box: tuple[int, int, int, int] | None
) -> None:
    config = CONFIGS[name]
    with torch.no_grad():
        outputs = seeded(config)(example(config, size, box))
    assert outputs.sr.shape == (1, 3, config.scale * size[0], config.scale * size[1])
    confidence = outputs.maps["confidence"]
    assert confidence.shape == (1, 1, -(-size[0] // config.step), -(-size[1] // config.step))
    assert outputs.sr.isfinite().all() and confidence.abs().max() <= 1


@pytest.mark.parametrize("name", TWO)
def test_a_batch_is_its_images_one_by_one(name: str) -> None:
    config = replace(CONFIGS[name], tile=8, reach=2)
    network, inputs = seeded(config), example(config, (20, 18), (4, 4, 14, 12), batch=3)
    inputs.box[1] += torch.tensor([2, 3, 2, 3])
    with torch.no_grad():
        together = network(inputs)
        for n in range(3):
            one = slice(n, n + 1)
            alone = network(Inputs(inputs.lr[one], inputs.ref[one], inputs.box[one]))
            confidence = together.maps["confidence"][one]
            assert torch.allclose(alone.maps["confidence"], confidence, atol=1e-5)
            # Of patches that are alike but for rounding, either may be taken.
            same = (alone.sr - together.sr[one]).abs() < 1e-5
            assert same.float().mean() > 0.8


def test_autocast_finds_the_same_patches() -> None:
    network, inputs = seeded(SMALL), example(SMALL, (40, 32), (8, 8, 32, 24))
    with torch.no_grad():
        expected = network(inputs)
        with torch.autocast("cpu", torch.bfloat16):
            found = network(inputs)
    assert torch.equal(found.maps["confidence"], expected.maps["confidence"])
    assert (found.sr - expected.sr).abs().max() < 0.02


@pytest.mark.parametrize("name", TWO)
def test_every_parameter_learns_but_the_mean_and_deviation(name: str) -> None:
    config = replace(CONFIGS[name], tile=8)
    network = seeded(config)
    inputs = example(config, (12, 10), batch=2)
    trained = network(inputs)
    with torch.no_grad():
        used = network(inputs)
    assert torch.allclose(trained.sr, used.sr, atol=1e-5)
    assert torch.allclose(trained.maps["confidence"], used.maps["confidence"], atol=1e-5)
    trained.sr.square().mean().backward()
    without = {
        parameter
        for parameter, values in network.named_parameters()
        if values.grad is None or not bool(values.grad.any())
    }
    assert without == {"feature_match.sub_mean.weight", "feature_match.sub_mean.bias"}
    for values in network.parameters():
        assert values.grad is None or values.grad.isfinite().all()


def test_weights_go_to_a_file_and_come_back(tmp_path: Path) -> None:
    network = seeded(SMALL)
    inputs = example(SMALL, (10, 12), (2, 2, 8, 8))
    state = network.state_dict()
    save_file(state, tmp_path / "weights.safetensors")
    wrapped = {f"module.{name}": values for name, values in state.items()}
    torch.save({"state_dict": wrapped}, tmp_path / "weights.pt")
    with torch.no_grad():
        expected = network(inputs).sr
        for name in ("weights.safetensors", "weights.pt"):
            again = seeded(SMALL, seed=1)
            path = tmp_path / name
            load_into(again, read_weights(path), path)
            assert torch.equal(again(inputs).sr, expected)
    del state["aa1.align.p_conv.4.bias"]
    with pytest.raises(InputError, match=r"lacks aa1\.align\.p_conv\.4\.bias"):
        load_into(DCSR(SMALL), state, tmp_path / "weights.pt")


def test_the_compact_one_runs() -> None:
    config = DCSRConfig.compact()
    network = DCSR(config)
    assert sum(values.numel() for values in network.parameters()) == 392_104
    with torch.no_grad():
        assert network(example(config, (32, 24), (8, 6, 24, 18))).sr.shape == (1, 3, 64, 48)


if __name__ == "__main__":
    GOLDEN.parent.mkdir(exist_ok=True)
    arrays: dict[str, Any] = {name: values.numpy() for name, values in golden().items()}
    np.savez_compressed(GOLDEN, **arrays)
