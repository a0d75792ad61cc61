"""SelfDZSR: the published sizes and names, its parts against references, any size, training."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dualsr_cli.networks import Inputs, Outputs, load_into, read_weights
from dualsr_cli.networks._selfdzsr_adastn import (
    STN,
    AdaSTN,
    DeformableConv,
    FreeTaps,
    read_by,
    taps_at,
)
from dualsr_cli.networks._selfdzsr_degradation import DegradationNetwork, MeanShift
from dualsr_cli.networks._selfdzsr_student import Student, match, tap_offsets
from dualsr_cli.networks.contract import Window
from dualsr_cli.networks.selfdzsr import SelfDZSR, SelfDZSRConfig

GOLDEN = Path(__file__).parent / "golden" / "selfdzsr.npz"


def tiny(scale: int = 2) -> SelfDZSRConfig:
    return SelfDZSRConfig(scale=scale, features=16, blocks=2, student=(8, 8, 16))


def seeded(network: SelfDZSR, seed: int = 0) -> SelfDZSR:
    """Weights that no version of a library changes; outputs of about the size of an image."""
    numbers = np.random.RandomState(seed)
    for name, parameter in network.named_parameters():
        if parameter.requires_grad or name.startswith("student"):  # all but the mean colour
            fan = max(1, parameter[0].numel())
            values = numbers.uniform(-1, 1, parameter.shape) * fan**-0.5
            if name.startswith("student"):  # sees edges, so that matches differ clearly
                values -= values.mean(axis=(2, 3), keepdims=True) if values.ndim == 4 else values
            parameter.data.copy_(torch.from_numpy(values))
    # Branches that were not trained together would find nothing.
    first, second = network.student.children()
    second.load_state_dict(first.state_dict())
    return network


def picture(height: int, width: int, batch: int = 1, seed: int = 0) -> torch.Tensor:
    """Smooth and rough, (B, 3, H, W), 0..1."""
    numbers = np.random.RandomState(seed)
    rough = torch.from_numpy(numbers.rand(batch, 3, height, width)).float()
    coarse = torch.from_numpy(numbers.rand(batch, 3, height // 6 + 2, width // 6 + 2)).float()
    smooth = F.interpolate(coarse, (height, width), mode="bilinear")
    return 0.8 * smooth + 0.2 * rough


def pair(
    height: int, width: int, box: tuple[int, int, int, int], scale: int = 2, batch: int = 1
) -> Inputs:
    """A truth, its half (or quarter) and the part of it that the box shows."""
    hr = picture(scale * height, scale * width, batch)
    top, left, bottom, right = (scale * side for side in box)
    return Inputs(
        F.avg_pool2d(hr, scale),
        hr[:, :, top:bottom, left:right],
        torch.tensor([box] * batch),
        hr,
    )


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("scale", "refsr", "kernel_gen"), [(2, 1_885_817, 515_727), (4, 2_054_265, 630_927)]
)
def test_parameters_are_the_published_ones(scale: int, refsr: int, kernel_gen: int) -> None:
    network = SelfDZSR(SelfDZSRConfig(scale=scale))
    assert network.degradation is not None
    assert parameters(network.refsr) == refsr
    assert parameters(network.degradation) == kernel_gen
    assert parameters(network.student) == 1_110_656


def test_names_are_the_checkpoints() -> None:
    network = SelfDZSR(SelfDZSRConfig(scale=4))
    assert network.degradation is not None
    refsr = {name: tuple(tensor.shape) for name, tensor in network.refsr.state_dict().items()}
    modules = {"ref_extractor", "ref_head", "head", "ada1", "ada2", "ada3", "deform_conv"}
    modules |= {"ref_ada", "predictor", "concat_fea", "body_lastconv", "up", "tail"}
    assert {name.split(".")[0] for name in refsr} == modules | {f"block{n}" for n in range(16)}
    for name, shape in {
        "ref_extractor.0.weight": (3, 1, 1, 1),
        "ref_extractor.1.0.weight": (64, 3, 3, 3),
        "ref_extractor.2.6.weight": (64, 64, 3, 3),
        "ref_head.2.weight": (64, 48, 3, 3),
        "head.1.weight": (64, 3, 3, 3),
        "ada1.regular_matrix": (2, 9),
        "ada2.concat.0.weight": (128, 1, 3, 3),
        "ada3.concat2.0.weight": (64, 2, 3, 3),
        "ref_ada.transform_matrix_conv.weight": (4, 64, 5, 5),
        "ref_ada.translation_conv.bias": (2,),
        "ada1.adapt_conv.weight": (64, 1, 3, 3),
        "deform_conv.bias": (64,),
        "predictor.mean.bias": (3,),
        "predictor.head.0.0.weight": (64, 6, 3, 3),
        "predictor.predictor.4.0.weight": (64, 64, 3, 3),
        "concat_fea.0.weight": (64, 128, 3, 3),
        "block15.res.2.weight": (64, 64, 3, 3),
        "block0.mlp.0.0.weight": (4, 64, 1, 1),
        "block0.mlp.1.weight": (64, 4, 1, 1),
        "up.1.0.weight": (256, 64, 3, 3),
        "tail.1.bias": (3,),
    }.items():
        assert refsr[name] == shape, name
    assert "ada1.adapt_conv.bias" not in refsr
    kernel_gen = {name.rsplit(".", 1)[0] for name in network.degradation.state_dict()}
    assert kernel_gen == {
        "head_mean", "head.0", "conv_7x7.0", "conv_5x5.0", "conv_3x3.0", "conv_1x1.0",
        "conv_1x1.2", "conv_1x1.4", "tail", "guide_net.0.0", "guide_net.1.0", "guide_net.1.2",
        "guide_net.1.4", "guide_net.3", "tail_mean",
    }  # fmt: skip
    branch = {"mean", "std"} | {
        f"model.conv{layer}.{kind}"
        for layer in ("1_1", "1_2", "2_1", "2_2", "3_1")
        for kind in ("weight", "bias")
    }
    assert set(network.student.state_dict()) == {
        f"feature_extraction_image{n}.{name}" for n in (1, 2) for name in branch
    }


def published(network: SelfDZSR, lr: torch.Tensor, ref: torch.Tensor) -> torch.Tensor:
    """The published inference: tiles, each with as much of Ref as it has pixels itself.

    lr, ref: (1, 3, H, W). Its tiles are matched with Ref's part of the most similar colours, those
    in the centre have Ref's own place pasted, and a tile's modulation knows no other tile. At
    scale 2 it needs sides of 72 pixels.
    """
    scale, refsr = network.config.scale, network.refsr
    tiles = {2: 6, 4: 3}[scale]
    height, width = lr.shape[2:]
    frame = [(side // 24 + 1) * 24 for side in (height, width)]
    top, left = ((side + 16 - own) // 2 for side, own in zip(frame, lr.shape[2:], strict=True))
    ends = (left, frame[1] + 16 - width - left, top, frame[0] + 16 - height - top)
    padded = F.pad(lr, ends, mode="reflect")
    around = F.pad(ref, [end - 8 for end in ends], mode="reflect")
    high, wide = (side // tiles for side in frame)
    middle = slice(height // 4, 3 * height // 4), slice(width // 4, 3 * width // 4)
    if scale == 4:
        middle = slice(3 * height // 8, 5 * height // 8), slice(3 * width // 8, 5 * width // 8)
    coarse_ref = F.interpolate(ref, scale_factor=1 / 8, mode="bilinear", align_corners=True)
    rows = []
    for j in range(tiles):
        row = []
        for i in range(tiles):
            own = slice(high * j, high * j + high + 16), slice(wide * i, wide * i + wide + 16)
            tile = padded[:, :, own[0], own[1]]
            pasted, box = None, None
            if scale == 2 and {i, j} <= {2, 3}:
                first = (j - 1) * around.shape[2] // 3 - high - 16
                start = (i - 1) * around.shape[3] // 3 - wide - 16
                place = slice(first, first + 2 * high + 32), slice(start, start + 2 * wide + 32)
                pasted = around[:, :, place[0], place[1]]
                box = torch.tensor([[0, 0, high + 16, wide + 16]])
                part = around[:, :, first : first + high + 16, start : start + wide + 16]
            elif scale == 4 and i == j == 1:
                first, start = round(high // 8) + 6 + top // 4, round(wide // 8) + 6 + left // 4
                box = torch.tensor([[first, start, first + height // 4, start + width // 4]])
                pasted = ref[:, :, : height // 4 * 4, : width // 4 * 4]
                part = ref[:, :, own[0], own[1]]
            else:
                coarse = F.interpolate(
                    tile, scale_factor=1 / 8, mode="bilinear", align_corners=True
                )
                colours = coarse.flatten(2).sort(dim=2).values[0, ..., None]
                windows = F.unfold(coarse_ref, coarse.shape[2:]).unflatten(1, (3, -1))
                windows = windows.sort(dim=2).values[0]
                best = int((windows - colours).abs().mean(dim=(0, 1)).argmin())
                columns = coarse_ref.shape[3] - coarse.shape[3] + 1
                first = min(best // columns * 8, height - high - 16)
                start = min(best % columns * 8, width - wide - 16)
                part = ref[:, :, first : first + high + 16, start : start + wide + 16]
            aligned, guide = refsr.align(tile)
            flow, _ = network.match(tile, part)
            whole = (0, 0, *tile.shape[2:])
            warped = refsr.warp(refsr.extract(part), flow, whole)
            if pasted is not None and box is not None:
                refsr.paste(warped, pasted, box, whole)
            fused = refsr.join(aligned, refsr.ref_ada(warped, guide))
            vector = modulation(network, lr[:, :, middle[0], middle[1]], ref, fused)
            sr = refsr.restore(aligned, fused, vector, tile)
            row.append(sr[:, :, 8 * scale : -8 * scale, 8 * scale : -8 * scale])
        rows.append(torch.cat(row, dim=3))
    tiles_together = torch.cat(rows, dim=2)[:, :, scale * (top - 8) :, scale * (left - 8) :]
    return tiles_together[:, :, : scale * height, : scale * width]


def modulation(
    network: SelfDZSR, center: torch.Tensor, ref: torch.Tensor, fused: torch.Tensor
) -> torch.Tensor:
    def window(place: Window) -> torch.Tensor:
        return fused[:, :, place[0] : place[2], place[1] : place[3]]

    return network.refsr.modulation(center, ref, fused.shape[2:], window)


def golden() -> dict[str, np.ndarray]:
    """Some pixels of each path; keep: np.savez(GOLDEN, **...)."""
    found = {}
    for scale in (2, 4):
        network = seeded(SelfDZSR(replace(tiny(scale), identity_drop=0, paste_chance=1)))
        inputs = pair(24, 28, (8, 5, 20, 21), scale)
        with torch.no_grad():
            learned = network.train()(inputs, 0.02 * (picture(24, 28, seed=1) - 0.5))
            flow, _ = network.match(inputs.lr, inputs.ref)
            tiled = published(network.eval(), picture(74, 80), picture(74, 80, seed=1))
            result = network(pair(18, 21, (3, 4, 12, 15), scale))
        found[f"training{scale}"] = learned.sr[:, :, 1::11, 2::7]
        found[f"pseudo_lr{scale}"] = learned.maps["pseudo_lr"][:, :, ::5, ::5]
        found[f"centroid{scale}"] = learned.maps["centroid"]
        found[f"sr{scale}"] = result.sr[:, :, 1::9, 2::7]
        found[f"published{scale}"] = tiled[:, :, 3::17, 5::19]
        found[f"confidence{scale}"] = result.maps["confidence"]
        found[f"offsets{scale}"] = tap_offsets(flow, (0, 0, 24, 28))[:, :, ::9, ::9]
    return {name: tensor.numpy() for name, tensor in found.items()}


def test_golden() -> None:
    with np.load(GOLDEN) as kept:
        for name, values in golden().items():
            np.testing.assert_allclose(values, kept[name], atol=1e-4, err_msg=name)


def test_training_gives_every_parameter_a_gradient() -> None:
    torch.manual_seed(0)
    config = replace(tiny(), features=64, blocks=1, identity_drop=0, paste_chance=1)
    network = SelfDZSR(config).train()
    inputs = pair(24, 24, (4, 8, 16, 20), batch=2)
    outputs = network(inputs)
    assert inputs.hr is not None
    loss = F.l1_loss(outputs.sr, inputs.hr) + F.l1_loss(outputs.maps["pseudo_lr"], inputs.lr)
    (loss + 100 * outputs.maps["centroid"]).backward()
    means = {
        f"{name}.{kind}"
        for name, module in network.named_modules()
        if isinstance(module, MeanShift)
        for kind in ("weight", "bias")
    }
    without = {
        name
        for name, parameter in network.named_parameters()
        if parameter.grad is None or not bool(parameter.grad.any())
    }
    # The mean colour is a constant, and the Student was trained beforehand.
    assert without == means | {f"student.{name}" for name, _ in network.student.named_parameters()}


def test_restoring_teaches_the_degradation_network_nothing() -> None:
    network = SelfDZSR(tiny()).train()
    network(pair(12, 12, (0, 0, 6, 6))).sr.sum().backward()
    assert network.degradation is not None
    assert all(parameter.grad is None for parameter in network.degradation.parameters())
    assert network.refsr.ada1.adapt_conv.weight.grad is not None


@pytest.mark.parametrize("scale", [2, 4])
def test_published_files_are_taken(scale: int, tmp_path: Path) -> None:
    """Three files, each with its tensors under `state_dict`, here saved from several GPUs."""
    saved, loaded = (SelfDZSR(tiny(scale)).eval() for _ in range(2))
    seeded(saved)
    for name in ("refsr", "student", "degradation"):
        path = tmp_path / f"{name}.pth"
        tensors = saved.get_submodule(name).state_dict()
        torch.save({"state_dict": {f"module.{key}": value for key, value in tensors.items()}}, path)
        load_into(loaded.get_submodule(name), read_weights(path), path)
    inputs = pair(12, 16, (3, 4, 9, 12), scale)
    with torch.no_grad():
        assert torch.equal(saved(inputs).sr, loaded(inputs).sr)
        pseudo = [network.train()(inputs).maps["pseudo_lr"] for network in (saved, loaded)]
    assert torch.equal(*pseudo)


@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize(
    ("size", "box"),
    [
        ((1, 1), (0, 0, 1, 1)),
        ((5, 3), (0, 1, 5, 2)),
        ((17, 26), (3, 4, 12, 17)),
        ((8, 41), (0, 0, 8, 41)),
    ],
)
def test_any_size(scale: int, size: tuple[int, int], box: tuple[int, int, int, int]) -> None:
    network = seeded(SelfDZSR(tiny(scale))).eval()
    with torch.no_grad():
        outputs = network(pair(*size, box, scale))
    assert outputs.sr.shape == (1, 3, scale * size[0], scale * size[1])
    assert bool(outputs.sr.isfinite().all())
    confidence = outputs.maps["confidence"]
    assert confidence.shape == (1, 1, -(-size[0] // 4), -(-size[1] // 4))
    assert float(confidence.abs().max()) <= 1.001


def test_a_batch_is_its_images_one_by_one() -> None:
    network = seeded(SelfDZSR(tiny())).eval()
    both = pair(19, 22, (2, 5, 11, 16), batch=2)
    box = torch.tensor([[2, 5, 11, 16], [10, 0, 19, 11]])
    with torch.no_grad():
        together = network(Inputs(both.lr, both.ref, box)).sr
        for n in range(2):
            alone = network(Inputs(both.lr[n : n + 1], both.ref[n : n + 1], box[n : n + 1])).sr
            torch.testing.assert_close(together[n : n + 1], alone, atol=1e-5, rtol=1e-5)


def test_pasting_changes_the_box_only() -> None:
    """Also where a window shows a part of the box."""
    refsr = seeded(SelfDZSR(tiny())).refsr
    ref = picture(24, 16)
    plain = torch.randn(1, 16, 16, 20)
    box = torch.tensor([[4, 6, 16, 14]])
    with torch.no_grad():
        cells = refsr.ref_head(ref)
        pasted = plain.clone()
        refsr.paste(pasted, ref, box, (0, 0, 16, 20))
        none = plain.clone()
        refsr.paste(none, ref, box, (0, 0, 16, 20), torch.tensor([False]))
        part = plain[:, :, 3:9, 10:20].clone()
        refsr.paste(part, ref, box, (3, 10, 9, 20))
    expected = plain.clone()
    expected[:, :, 4:16, 6:14] = cells
    torch.testing.assert_close(pasted, expected)
    torch.testing.assert_close(part, expected[:, :, 3:9, 10:20])
    assert torch.equal(none, plain)


def test_deformable_convolution_is_torchvisions() -> None:
    ops = pytest.importorskip("torchvision.ops")
    torch.manual_seed(0)
    layer = DeformableConv(4, bias=True)
    features = torch.randn(2, 4, 9, 11)
    offsets = 3 * torch.randn(2, 18, 9, 11)
    expected = ops.deform_conv2d(features, offsets, layer.weight, layer.bias, padding=1)
    torch.testing.assert_close(layer(features, taps_at(offsets)), expected, atol=1e-5, rtol=1e-4)


def test_deformable_convolution_without_offsets_is_a_convolution() -> None:
    torch.manual_seed(0)
    layer = DeformableConv(3, bias=True)
    features = torch.randn(2, 3, 7, 5)
    expected = F.conv2d(features, layer.weight, layer.bias, padding=1, groups=3)
    torch.testing.assert_close(
        layer(features, taps_at(torch.zeros(2, 18, 7, 5))), expected, atol=1e-5, rtol=1e-4
    )


def test_adastn_bends_by_an_affine_map_or_not_at_all() -> None:
    torch.manual_seed(0)
    network = AdaSTN(16)
    features, guide = torch.randn(2, 16, 8, 8), torch.randn(2, 16, 8, 8)
    for layer in (network.transform_matrix_conv, network.translation_conv):
        nn.init.zeros_(layer.weight)
        assert layer.bias is not None
        nn.init.zeros_(layer.bias)
    assert network.translation_conv.bias is not None
    assert network.transform_matrix_conv.bias is not None
    # A = 0, b = 0: every tap reads its own pixel.
    torch.testing.assert_close(network(features, guide), network.in_place(features))
    # A = 0, b = (1, -2): the pixel below and two to the left.
    network.translation_conv.bias.data.copy_(torch.tensor([1.0, -2.0]))
    moved = network(features, guide)
    expected = network.in_place(features)[:, :, 1:, :-2]
    torch.testing.assert_close(moved[:, :, :-1, 2:], expected, atol=1e-5, rtol=1e-5)
    # A = 1, b = 0: a common convolution.
    network.translation_conv.bias.data.zero_()
    network.transform_matrix_conv.bias.data.copy_(torch.tensor([1.0, 0.0, 0.0, 1.0]))
    weight = network.adapt_conv.weight
    common = F.leaky_relu(F.conv2d(features, weight, padding=1, groups=16), 0.2)
    bent = network(features, guide)
    torch.testing.assert_close(bent, common, atol=1e-5, rtol=1e-5)
    mixed = network(features, guide, torch.tensor([True, False]))
    torch.testing.assert_close(mixed[0], network.in_place(features)[0])
    torch.testing.assert_close(mixed[1], bent[1])


def test_what_stands_in_adastns_place_bends_too() -> None:
    torch.manual_seed(0)
    features, guide = torch.randn(1, 16, 9, 7), torch.randn(1, 16, 9, 7)
    free, stn = FreeTaps(16), STN(16)
    for parameter in free.offset_conv.parameters():
        nn.init.zeros_(parameter)
    for network in (free, stn):  # taps that nothing moves: a common convolution
        common = F.conv2d(features, network.adapt_conv.weight, padding=1, groups=16)
        torch.testing.assert_close(
            network(features, guide), F.leaky_relu(common, 0.2), atol=1e-5, rtol=1e-5
        )
    stn.affine.bias.data.copy_(torch.tensor([-1.0, 0, 0, -1, 2, -3]))
    place = stn.in_place(features)[
        :, :, 6:7, 0:1
    ]  # all read what is there from the middle, 4 and 3
    bent = stn(features, guide)
    torch.testing.assert_close(bent, place.expand_as(bent), atol=1e-5, rtol=1e-5)


def test_lr_takes_the_pseudo_lrs_place_where_it_is_told_to() -> None:
    whole, inputs = seeded(SelfDZSR(tiny())), pair(16, 16, (4, 4, 12, 12))
    found: dict[tuple[str, ...], Outputs] = {}
    alone = replace(inputs, hr=None)
    for chosen in (("lr", "ref"), ("lr",), ("ref",), ()):
        network = SelfDZSR(replace(tiny(), pseudo_lr=chosen, degradation=bool(chosen))).train()
        network.load_state_dict(whole.state_dict(), strict=bool(chosen))
        torch.manual_seed(0)
        with torch.no_grad():
            found[chosen] = network(inputs if chosen else alone)
    results = [outputs.sr for outputs in found.values()]
    assert all(not torch.equal(a, b) for a, b in combinations(results, 2))
    _, similarity = whole.match(inputs.lr, inputs.ref)
    for chosen, outputs in found.items():
        other = similarity if "ref" not in chosen else found["lr", "ref"].maps["confidence"]
        assert torch.equal(outputs.maps["confidence"], other)
        assert ("pseudo_lr" in outputs.maps) == bool(chosen)


@pytest.mark.parametrize("alignment", ["deformable", "stn", "none"])
def test_the_networks_of_the_ablations(alignment: str) -> None:
    """All learns in training; at inference none of them bends LR."""
    config = replace(tiny(), alignment=alignment, identity_drop=0.0, paste_chance=1.0)
    network = seeded(SelfDZSR(config))
    inputs = pair(16, 16, (4, 4, 12, 12))
    outputs = network.train()(inputs)
    (outputs.sr.mean() + outputs.maps["pseudo_lr"].mean()).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None or not parameter.requires_grad, name
    assert any(name.startswith("refsr.ada1") for name in network.state_dict()) == (
        alignment != "none"
    )
    with torch.no_grad():
        assert network.eval()(inputs).sr.shape == inputs.hr.shape


def test_match_finds_what_was_moved() -> None:
    torch.manual_seed(0)
    key = torch.randn(1, 8, 12, 14)
    query = key[:, :, 3:11, 2:12].clone()
    flow, similarity = match(query, key)
    offsets = tap_offsets(flow, (0, 0, 32, 40))
    assert offsets.shape == (1, 18, 32, 40)
    assert similarity.shape == (1, 1, 8, 10)
    torch.testing.assert_close(similarity[:, :, 1:-1, 1:-1], torch.ones(1, 1, 6, 8))
    inner = offsets[:, :, 10:-10, 10:-10]  # whose taps all have a match
    torch.testing.assert_close(inner[:, 0::2], torch.full_like(inner[:, 0::2], 12.0))
    torch.testing.assert_close(inner[:, 1::2], torch.full_like(inner[:, 1::2], 8.0))
    # At the corner the last tap's match lies outside, the first tap's does not.
    assert offsets[0, 16:, 0, 0].tolist() == [0, 0]
    torch.testing.assert_close(offsets[0, :2, 0, 0], torch.tensor([12.0, 8.0]))
    window = tap_offsets(flow, (5, 0, 30, 27))
    torch.testing.assert_close(window, offsets[:, :, 5:30, :27], atol=1e-4, rtol=0)


def test_features_that_are_no_numbers_match_nothing() -> None:
    torch.manual_seed(0)
    query, key = torch.randn(1, 4, 6, 7), torch.randn(1, 4, 6, 7)
    query[0, 0, 2, 2] = torch.nan
    flow, similarity = match(query, key)
    assert bool(flow.isfinite().all() & similarity.isfinite().all())
    assert similarity[0, 0, 1, 1] == 0 and similarity[0, 0, 4, 5] != 0


def test_student_in_squares_is_the_student_whole() -> None:
    torch.manual_seed(0)
    student = Student((4, 6, 8))
    image = picture(61, 34)
    whole = student.query(image)
    torch.testing.assert_close(student.query(image, 16), whole, atol=1e-5, rtol=1e-5)
    branch = student.feature_extraction_image1
    features = branch.model((image - branch.mean) / branch.std)
    expected = F.interpolate(features, (15, 8), mode="bilinear", align_corners=True)
    torch.testing.assert_close(whole, expected, atol=1e-5, rtol=1e-5)


def test_centroid_loss_is_of_shifts_alone() -> None:
    network = DegradationNetwork(2, 16)
    layers = (network.conv_7x7, network.conv_5x5, network.conv_3x3)
    with torch.no_grad():
        for layer in layers:
            weight = layer.get_parameter("0.weight")
            weight.copy_(weight + weight.flip(2) + weight.flip(3) + weight.flip(2, 3))
        assert network.centroid_loss().item() < 1e-7
        kernel = network.conv_3x3.get_parameter("0.weight").zero_()
        kernel[:, :, 1, 2] = 1.5  # one pixel to the side
        # Of three columns' and three rows' moments one row's is 1.5 / 3.
        assert network.centroid_loss().item() == pytest.approx(0.5 / 3, rel=1e-5)


def test_noise_moves_the_match_and_not_the_pseudo_lr() -> None:
    network = seeded(SelfDZSR(tiny(4))).train()
    inputs = pair(16, 16, (4, 4, 12, 12), 4)
    with torch.no_grad():
        torch.manual_seed(0)
        clean = network(inputs)
        torch.manual_seed(0)
        noisy = network(inputs, 0.3 * (picture(16, 16, seed=2) - 0.5))
    assert torch.equal(clean.maps["pseudo_lr"], noisy.maps["pseudo_lr"])
    assert not torch.equal(clean.maps["confidence"], noisy.maps["confidence"])
    assert not torch.equal(clean.sr, noisy.sr)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="scale 3"):
        SelfDZSRConfig(scale=3)
    with pytest.raises(ValueError, match="alignment is one of adastn, deformable, stn, none"):
        SelfDZSRConfig(alignment="flow")
    with pytest.raises(ValueError, match="aligned with the pseudo-LR"):
        SelfDZSRConfig(pseudo_lr=("lr", "hr"))
    with pytest.raises(ValueError, match="multiple of 16"):
        SelfDZSRConfig(features=24)
    inputs = pair(12, 12, (0, 0, 6, 6))
    with pytest.raises(ValueError, match="learns from hr"):
        SelfDZSR(tiny()).train()(Inputs(inputs.lr, inputs.ref, inputs.box))
    large = Inputs(inputs.lr, inputs.ref, torch.tensor([[0, 0, 7, 6]]), inputs.hr)
    for training in (True, False):
        with pytest.raises(ValueError, match="not 2 x its box"):
            SelfDZSR(tiny()).train(training)(large)
    with pytest.raises(ValueError, match="multiples of 4"):
        SelfDZSR(tiny()).train()(pair(12, 14, (0, 0, 6, 6)))


@pytest.mark.parametrize("scale", [2, 4])
def test_a_skip_adds_what_takes_lrs_place(scale: int) -> None:
    """LR at inference, in training the pseudo-LR that lies on the truth."""
    with_skip, without = (seeded(SelfDZSR(replace(tiny(scale), skip=s))) for s in (True, False))
    inputs = pair(12, 16, (4, 4, 12, 16), scale)
    results = []
    with torch.no_grad():
        for network in (with_skip, without):
            torch.manual_seed(0)
            results.append((network.eval()(inputs).sr, network.train()(inputs)))
    (deployed, learned), (plain, plain_learned) = results
    added = F.interpolate(inputs.lr, scale_factor=scale, mode="bicubic")
    inner = (..., slice(2 * scale, -2 * scale), slice(2 * scale, -2 * scale))
    torch.testing.assert_close((deployed - plain)[inner], added[inner], atol=1e-5, rtol=0)
    pseudo = learned.maps["pseudo_lr"].clamp(0, 1)
    added = F.interpolate(pseudo, scale_factor=scale, mode="bicubic")
    torch.testing.assert_close(learned.sr - plain_learned.sr, added, atol=1e-5, rtol=0)


def test_pasting_can_be_left_out() -> None:
    network = seeded(SelfDZSR(tiny())).eval()
    without = SelfDZSR(replace(network.config, paste=False)).eval()
    without.load_state_dict(network.state_dict())
    inputs = pair(16, 20, (4, 4, 12, 14))
    with torch.no_grad():
        assert not torch.equal(without(inputs).sr, network(inputs).sr)


def test_the_compact_one_is_small() -> None:
    for scale, size in ((2, 373_029), (4, 420_389)):
        network = SelfDZSR(replace(SelfDZSRConfig.compact(scale), degradation=False))
        assert parameters(network) == size


def test_without_its_degradation_network_it_is_what_is_deployed() -> None:
    network = SelfDZSR(SelfDZSRConfig(degradation=False))
    assert parameters(network) == 1_885_817 + 1_110_656
    with pytest.raises(ValueError, match="degradation network"):
        network.train()(pair(12, 12, (0, 0, 6, 6)))


@pytest.mark.parametrize("scale", [2, 4])
def test_windows_are_the_whole(scale: int) -> None:
    network = seeded(SelfDZSR(replace(tiny(scale), blocks=1, skip=True))).eval()
    inputs = pair(45, 49, (9, 12, 21, 29), scale)
    assert network.margin == 12
    with torch.no_grad():
        encoded, whole = network.encode(inputs, 24), network(inputs)
        for window in ((0, 24, 24, 48), (24, 0, 45, 24)):
            top, left, bottom, right = window
            part = network.render(encoded, window)
            own = slice(scale * top, scale * bottom), slice(scale * left, scale * right)
            torch.testing.assert_close(part.sr, whole.sr[..., own[0], own[1]], atol=1e-4, rtol=0)
            places = slice(top // 4, -(-bottom // 4)), slice(left // 4, -(-right // 4))
            expected = whole.maps["confidence"][..., places[0], places[1]]
            torch.testing.assert_close(part.maps["confidence"], expected, atol=1e-5, rtol=0)


def test_what_is_bent_from_afar_is_found_there() -> None:
    """A window's taps may lie anywhere, whatever its margin."""
    network = seeded(SelfDZSR(replace(tiny(), blocks=1))).eval()
    bias = network.refsr.ref_ada.translation_conv.bias
    assert bias is not None
    inputs = pair(48, 48, (0, 0, 24, 24))
    for far in ((26.0, -31.0), (-90.0, 0.0)):
        bias.data.copy_(torch.tensor(far))
        with torch.no_grad():
            encoded = network.encode(inputs)
            whole = network.render(encoded, (0, 0, 48, 48)).sr
            part = network.render(encoded, (8, 32, 16, 40)).sr
        torch.testing.assert_close(part, whole[:, :, 16:32, 64:80], atol=1e-4, rtol=0)


def test_the_part_that_taps_read() -> None:
    taps = torch.zeros(1, 9, 2, 4, 5)
    assert read_by(taps, (6, 7, 10, 12), (20, 20)) == (5, 6, 12, 14)
    taps[0, 3, 0, 1, 2], taps[0, 8, 1, 3, 4] = -4.5, 30.0
    assert read_by(taps, (6, 7, 10, 12), (20, 20)) == (1, 6, 12, 20)
    assert read_by(taps - 60, (6, 7, 10, 12), (20, 20)) == (0, 0, 1, 1)
    assert read_by(taps + torch.nan, (6, 7, 10, 12), (20, 20)) == (0, 0, 3, 3)


def test_modulation_in_squares_is_the_modulation_whole() -> None:
    network = seeded(SelfDZSR(tiny())).eval()
    inputs = pair(150, 40, (10, 5, 140, 22))
    fused = picture(150, 40, seed=3).repeat(1, 6, 1, 1)[:, :16]
    center = inputs.lr_center()
    with torch.no_grad():
        predictor = network.refsr.predictor
        up = F.interpolate(center, (260, 34), mode="bilinear", align_corners=True)
        pairs = predictor.head(torch.cat([predictor.mean(up), predictor.mean(inputs.ref)], dim=1))
        stretched = F.interpolate(fused, (260, 34), mode="bilinear", align_corners=True)
        plain = predictor.predictor(torch.cat([pairs, stretched], dim=1)).mean((2, 3), keepdim=True)
        whole = modulation(network, center, inputs.ref, fused)
        squares = network.refsr.modulation(
            center,
            inputs.ref,
            (150, 40),
            lambda window: fused[:, :, window[0] : window[2], window[1] : window[3]],
            40,
        )
    torch.testing.assert_close(whole, plain, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(squares, whole, atol=1e-6, rtol=1e-5)


def test_the_compact_twin_begins_near_the_enlarged_lr() -> None:
    torch.manual_seed(0)
    network = SelfDZSR(SelfDZSRConfig.compact()).eval()
    lr = torch.rand(1, 3, 24, 32, generator=torch.Generator().manual_seed(1))
    ref = torch.rand(1, 3, 24, 32, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        sr = network(Inputs(lr, ref, torch.tensor([[6, 8, 18, 24]]))).sr
    apart = sr - F.interpolate(lr, scale_factor=2, mode="bicubic")
    assert float(apart.abs().mean()) < 0.05
