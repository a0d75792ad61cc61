"""KeDuSR: the published names, counts and tiling; matching, alignment and fusion by other ways."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

from dualsr_cli.errors import InputError
from dualsr_cli.matching import search
from dualsr_cli.networks import Inputs, load_into, pretrained_vgg, read_weights, windows
from dualsr_cli.networks.kedusr import (
    FlowGuidedAlignment,
    KeDuSR,
    KeDuSRConfig,
    MatchingEncoder,
    similarity,
    transfer,
)

GOLDEN = Path(__file__).parent / "golden" / "kedusr.npz"
PARTS = {
    "SISR": 1_935_968,
    "upsample": 147_712,
    "lr_nearby_head": 1_792,
    "lr_nearby_encoder": 332_352,
    "upsample_lr_nearby": 147_712,
    "ref_head": 1_792,
    "ref_encoder": 332_352,
    "spynet": 1_440_300,
    "Ref_align": 273_432,
    "feature_match": 278_620,
    "alphaConf2X": 10_080,
    "AdaFuison": 297_451,
    "fusion_tail": 73_792,
    "decoder": 332_352,
    "decoder_tail": 19_331,
}


def image(*shape: int, seed: int = 0) -> torch.Tensor:
    """Smooth, with a little noise."""
    generator = np.random.default_rng(seed)
    coarse = generator.random((*shape[:2], -(-shape[2] // 4) + 1, -(-shape[3] // 4) + 1))
    smooth = F.interpolate(torch.from_numpy(coarse), scale_factor=4, mode="bicubic")
    smooth = smooth[:, :, : shape[2], : shape[3]].clamp(0, 1)
    return (0.8 * smooth + 0.2 * torch.from_numpy(generator.random(shape))).float()


def pair(height: int, width: int, box: tuple[int, int, int, int], batch: int = 1) -> Inputs:
    size = 2 * (box[2] - box[0]), 2 * (box[3] - box[1])
    return Inputs(
        lr=image(batch, 3, height, width),
        ref=image(batch, 3, *size, seed=1),
        box=torch.tensor([box] * batch),
    )


def beside(size: tuple[int, int], center: tuple[int, int], batch: int = 1) -> Inputs:
    """As in training, where the key patch lies beside the LR patch."""
    return Inputs(
        lr=image(batch, 3, *size),
        ref=image(batch, 3, 2 * center[0], 2 * center[1], seed=1),
        box=torch.zeros(batch, 4, dtype=torch.int64),
        center=image(batch, 3, *center, seed=2),
    )


def seeded(config: KeDuSRConfig) -> KeDuSR:
    """Weights that keep values in the range of images, the same with every release of PyTorch."""
    network = KeDuSR(config)
    generator = np.random.default_rng(2)
    with torch.no_grad():
        for name, parameter in sorted(network.named_parameters()):
            if "sub_mean" in name:
                continue
            fan = parameter[0].numel() if parameter.ndim > 1 else 400
            gain = 0.3 if ".conv2." in name or ".conv_tail." in name else 1
            values = generator.standard_normal(parameter.shape) * gain * (1.3 / fan) ** 0.5
            if name.endswith("conv_du.0.bias"):  # few rectifiers, of which some must be open
                values = abs(values)
            parameter.copy_(torch.from_numpy(values))
        network.alpha.fill_(0.9)
    return network.eval()


@pytest.fixture(scope="module")
def compact() -> KeDuSR:
    return seeded(KeDuSRConfig.compact())


@pytest.fixture(scope="module")
def full() -> KeDuSR:
    return seeded(KeDuSRConfig())


def test_names_and_counts_are_the_published(full: KeDuSR) -> None:
    assert {name: count(part) for name, part in full.named_children()} == PARTS
    assert count(full) == 5_625_039 == sum(PARTS.values()) + full.alpha.numel()
    state = full.state_dict()
    assert len(state) == 367
    shapes = {name: tuple(value.shape) for name, value in state.items()}
    assert shapes["alpha"] == (1,)
    for name, shape in {
        "SISR.head.weight": (64, 3, 3, 3),
        "SISR.body3.RBs.7.channel_attention.conv_du.0.weight": (4, 64, 1, 1),
        "SISR.body1.RBs.0.channel_attention.conv_du.2.bias": (64,),
        "SISR.body2.conv_tail.weight": (64, 64, 3, 3),
        "upsample.upsample_conv.weight": (256, 64, 3, 3),
        "lr_nearby_head.0.weight": (64, 3, 3, 3),
        "ref_encoder.RBs.3.conv2.bias": (64,),
        "spynet.basic_module.0.basic_module.8.weight": (2, 16, 7, 7),
        "Ref_align.offset_conv1.weight": (64, 130, 3, 3),
        "Ref_align.dcnpack.weight": (64, 64, 3, 3),
        "Ref_align.dcnpack.conv_offset.weight": (216, 64, 3, 3),
        "feature_match.sub_mean.weight": (3, 3, 1, 1),
        "feature_match.feature_extract.7.weight": (128, 128, 3, 3),
        "feature_match.feature_extract.map.0.weight": (16, 128, 3, 3),
        "alphaConf2X.0.weight": (16, 1, 7, 7),
        "alphaConf2X.2.weight": (64, 16, 3, 3),
        "AdaFuison.channel_attention.conv_du.0.weight": (8, 128, 1, 1),
        "AdaFuison.spatial_attention.spatial.weight": (1, 2, 7, 7),
        "fusion_tail.0.weight": (64, 128, 3, 3),
        "decoder_tail.2.weight": (3, 32, 3, 3),
    }.items():
        assert shapes[name] == shape, name


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@torch.no_grad()
def published(
    network: KeDuSR, lr: torch.Tensor, lr_center: torch.Tensor, ref: torch.Tensor, tile: int
) -> torch.Tensor:
    """As the published code runs, whose matching and channel attention see a tile at a time.

    The LR is mirrored to a multiple of the tile and repeated by 8 pixels, by which tiles overlap.
    """
    height, width = lr.shape[2:]
    bottom, right = -height % tile, -width % tile
    lr = F.pad(F.pad(lr, (0, right, 0, bottom), mode="reflect"), (8, 8, 8, 8), mode="replicate")
    reference, features = network.encode_reference(lr_center, ref), network.encode_lr(lr)
    sr = lr.new_empty(len(lr), 3, 2 * (height + bottom), 2 * (width + right))
    side = tile + 16
    for y in range(0, height, tile):
        for x in range(0, width, tile):
            found, confidence = network.match(lr[:, :, y : y + side, x : x + side], reference)
            detail = network.detail(found, confidence, reference)
            part = features[:, :, 2 * y : 2 * (y + side), 2 * x : 2 * (x + side)]
            result = network.decode(detail, part)[:, :, 16:-16, 16:-16]
            sr[:, :, 2 * y : 2 * (y + tile), 2 * x : 2 * (x + tile)] = result
    return sr[:, :, : 2 * height, : 2 * width]


def golden(full: KeDuSR, compact: KeDuSR) -> dict[str, np.ndarray]:
    """Some pixels of what the training path, the published tiling and the compact network give."""
    with torch.no_grad():
        whole = full(pair(34, 40, (0, 2, 34, 40)))
        tiled = published(full, image(1, 3, 20, 26), image(1, 3, 16, 18), image(1, 3, 32, 36), 16)
        small = compact(pair(33, 25, (4, 3, 25, 20), batch=2))
    return {
        "whole": whole.sr[:, :, ::9, ::11].numpy(),
        "confidence": whole.maps["confidence"][:, :, ::4, ::4].numpy(),
        "flow": whole.maps["flow"][:, :, ::9, ::11].numpy(),
        "published": tiled[:, :, ::7, ::9].numpy(),
        "compact": small.sr[:, :, ::9, ::11].numpy(),
    }


def test_compact_twins_add_the_bicubic_enlargement(compact: KeDuSR) -> None:
    assert not KeDuSRConfig().skip
    inputs = pair(13, 10, (0, 0, 8, 8))
    without = seeded(replace(KeDuSRConfig.compact(), skip=False))
    expected = F.interpolate(inputs.lr, scale_factor=2, mode="bicubic")
    with torch.no_grad():
        for training in (True, False):
            added = compact.train(training)(inputs).sr - without.train(training)(inputs).sr
            assert torch.allclose(added, expected, atol=1e-5)


def test_golden(full: KeDuSR, compact: KeDuSR) -> None:
    found = golden(full, compact)
    with np.load(GOLDEN) as stored:
        assert set(stored) == set(found)
        for name, values in found.items():
            np.testing.assert_allclose(values, stored[name], rtol=0, atol=1e-4, err_msg=name)


def test_every_parameter_gets_a_gradient_but_the_published_idle_ones() -> None:
    for config in (KeDuSRConfig.compact(), KeDuSRConfig()):
        network = seeded(config).train()
        # SpyNet's coarsest level needs more than one pixel for the gradient of where it looks.
        result = network(beside((16, 20), (36, 40)))
        (result.sr - image(1, 3, 32, 40, seed=3)).abs().sum().backward()
        idle = {
            name
            for name, parameter in network.named_parameters()
            if parameter.grad is None or not parameter.grad.abs().max() > 0
        }
        assert idle == {
            "feature_match.sub_mean.weight",
            "feature_match.sub_mean.bias",
            *(
                f"SISR.body{group}.RBs.{block}.channel_attention.conv_du.{layer}.{kind}"
                for group in (1, 2, 3)
                for block in range(config.lr_blocks)
                for layer in (0, 2)
                for kind in ("weight", "bias")
            ),
        }


def test_a_checkpoint_is_read_back(tmp_path: Path, full: KeDuSR) -> None:
    state = full.state_dict()
    safe, pickled = tmp_path / "w.safetensors", tmp_path / "w.pth"
    save_file(state, safe)
    torch.save({"state_dict": {f"module.{name}": state[name] for name in state}}, pickled)
    network = KeDuSR()
    for path in (safe, pickled):
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.zero_()
        load_into(network, read_weights(path), path)
        for name, value in network.state_dict().items():
            assert torch.equal(value, state[name]), name
    with pytest.raises(InputError, match="does not fit KeDuSR"):
        load_into(KeDuSR(KeDuSRConfig.compact()), read_weights(safe), safe)


@pytest.mark.parametrize(
    ("size", "box"),
    [
        ((1, 1), (0, 0, 1, 1)),
        ((2, 3), (0, 1, 1, 3)),
        ((1, 20), (0, 5, 1, 12)),
        ((15, 22), (3, 4, 12, 15)),
        ((24, 16), (0, 0, 24, 16)),
    ],
)
def test_any_size_and_batches(
    compact: KeDuSR, size: tuple[int, int], box: tuple[int, int, int, int]
) -> None:
    inputs = pair(*size, box, batch=2)
    with torch.no_grad():
        result = compact(inputs)
        alone = compact(Inputs(inputs.lr[1:], inputs.ref[1:], inputs.box[1:]))
    assert result.sr.shape == (2, 3, 2 * size[0], 2 * size[1])
    assert result.maps["confidence"].shape == (2, 1, -(-size[0] // 2), -(-size[1] // 2))
    assert result.maps["flow"].shape == (2, 2, *inputs.ref.shape[2:])
    assert bool(result.sr.isfinite().all())
    assert torch.allclose(alone.sr, result.sr[1:], atol=1e-5)


@torch.no_grad()
def test_half_precision_comes_close(compact: KeDuSR) -> None:
    """Convolutions in bfloat16 or all of it; what is warped keeps its places."""
    inputs = pair(40, 48, (8, 8, 40, 40))
    exact = compact(inputs).sr
    with torch.autocast("cpu", torch.bfloat16):
        mixed = compact(inputs).sr
    half = KeDuSR(compact.config).eval()
    half.load_state_dict(compact.state_dict())
    whole = half.bfloat16()(inputs.to("cpu", torch.bfloat16)).sr
    assert whole.dtype == torch.float32
    for found, share in ((mixed, 0.02), (whole, 0.1)):
        assert (found.float() - exact).square().mean().sqrt() < share * exact.std()


def test_a_reference_of_another_size_is_refused(compact: KeDuSR) -> None:
    inputs = pair(16, 16, (4, 4, 12, 13))
    inputs = Inputs(inputs.lr, inputs.ref[..., :16], inputs.box)
    for network in (compact, KeDuSR(compact.config).train()):
        with pytest.raises(ValueError, match=r"ref \(1, 3, 16, 16\) is not twice \(1, 3, 8, 9\)"):
            network(inputs)


def test_channels_are_turned_for_weights_that_know_blue_first(compact: KeDuSR) -> None:
    blue_first = KeDuSR(KeDuSRConfig(**{**vars(compact.config), "channel_order": "bgr"})).eval()
    blue_first.load_state_dict(compact.state_dict())
    inputs = pair(12, 16, (2, 2, 10, 12))
    turned = Inputs(inputs.lr.flip(1), inputs.ref.flip(1), inputs.box)
    with torch.no_grad():
        assert torch.equal(blue_first(turned).sr.flip(1), compact(inputs).sr)
    assert KeDuSRConfig().channel_order == "bgr"
    with pytest.raises(ValueError, match="'brg' is not one of bgr, rgb"):
        KeDuSRConfig(channel_order="brg")


@torch.no_grad()
def test_inference_by_bands_gives_what_whole_maps_give(compact: KeDuSR) -> None:
    """What training computes, in another order: with the LR's centre and with a patch beside it."""
    learning = KeDuSR(compact.config).train()
    learning.load_state_dict(compact.state_dict())
    for inputs in (pair(44, 35, (5, 2, 38, 28), batch=2), beside((19, 24), (34, 36), batch=2)):
        expected = learning(inputs)
        found = compact(inputs)
        assert torch.allclose(found.sr, expected.sr, atol=1e-5)
        assert found.maps.keys() == expected.maps.keys()
        for name, values in expected.maps.items():
            assert torch.allclose(found.maps[name], values, atol=1e-4), name


@pytest.mark.parametrize(
    ("settings", "size", "box", "tile"),
    [
        ({}, (66, 85), (8, 4, 28, 36), 24),
        ({"lr_blocks": 0, "blocks": 1}, (41, 17), (3, 1, 36, 16), 16),
        ({"blocks": 0}, (9, 61), (0, 0, 9, 61), 8),
        ({}, (1, 3), (0, 1, 1, 2), 8),
    ],
)
@torch.no_grad()
def test_windows_give_the_whole(
    settings: dict[str, int],
    size: tuple[int, int],
    box: tuple[int, int, int, int],
    tile: int,
) -> None:
    """Small tiles are also small bands of rows, in which all is encoded."""
    network = seeded(KeDuSRConfig(**{**vars(KeDuSRConfig.compact()), **settings}))
    inputs = pair(*size, box, batch=2)
    whole = network(inputs)
    encoded = network.encode(inputs, tile)
    sr = torch.full_like(whole.sr, torch.nan)
    confidence = torch.full_like(whole.maps["confidence"], torch.nan)
    for window in windows(*size, tile):
        top, left, bottom, right = window
        part = network.render(encoded, window)
        sr[:, :, 2 * top : 2 * bottom, 2 * left : 2 * right] = part.sr
        rows, columns = slice(top // 2, (bottom + 1) // 2), slice(left // 2, (right + 1) // 2)
        confidence[:, :, rows, columns] = part.maps["confidence"]
    assert torch.allclose(sr, whole.sr, atol=1e-5)
    assert torch.allclose(confidence, whole.maps["confidence"], atol=1e-5)


@torch.no_grad()
def test_a_window_sees_no_further_than_its_margin(compact: KeDuSR) -> None:
    """What is encoded further away is of no account."""
    inputs = pair(80, 24, (8, 4, 28, 20))
    encoded = compact.encode(inputs)
    window = (0, 0, 16, 24)
    expected = compact.render(encoded, window).sr
    seen = 16 + compact.margin
    assert seen < 72
    encoded.features[:, :, seen:] = torch.nan
    encoded.found.similarity[:, seen // 2 :] = torch.nan
    assert torch.equal(compact.render(encoded, window).sr, expected)
    assert (compact.scale, KeDuSR().margin) == (2, 16)


def test_matching_is_the_dense_products_maximum(compact: KeDuSR) -> None:
    """Index, similarity and its gradients as the whole matrix and its maximum have them."""
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(2, 4, 6, 5, generator=generator, requires_grad=True)
    key = torch.randn(2, 4, 3, 7, generator=generator, requires_grad=True)
    patches = [
        F.normalize(F.unfold(F.pad(maps, (1, 1, 1, 1), mode="reflect"), 3), dim=1)
        for maps in (query, key)
    ]
    matrix = patches[1].transpose(1, 2) @ patches[0]  # (B, keys, queries)
    values, index = matrix.max(dim=1)
    found = search(query, key)
    assert torch.equal(found.index.flatten(1), index)
    weights = torch.randn(2, 30, generator=generator)
    expected = torch.autograd.grad((values * weights).sum(), (query, key))
    confidence = similarity(query, key, found)
    assert torch.allclose(confidence.flatten(1), values, atol=1e-6)
    gradients = torch.autograd.grad((confidence.flatten(1) * weights).sum(), (query, key))
    for one, other in zip(gradients, expected, strict=True):
        assert torch.allclose(one, other, atol=1e-6)
    with torch.no_grad():
        assert torch.allclose(similarity(query, key, found), confidence, atol=1e-6)


def test_transfer_is_unfold_gather_and_fold() -> None:
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(2, 4, 6, 5, generator=generator)
    key = torch.randn(2, 4, 3, 7, generator=generator)
    value = torch.randn(2, 3, 12, 28, generator=generator)
    found = search(query, key)
    windows = F.unfold(F.pad(value, (2, 3, 2, 3), mode="reflect"), 9, stride=4)
    chosen = windows.gather(2, found.index.flatten(1)[:, None].expand(-1, windows.shape[1], -1))
    folded = F.fold(chosen, (24, 20), 9, padding=4, stride=4) / (81 / 16)
    assert torch.allclose(transfer(value, found), folded, atol=1e-5)


@pytest.mark.parametrize("size", [(9, 11), (1, 1), (80, 16)])
def test_alignment_is_torchvisions_deformable_convolution(size: tuple[int, int]) -> None:
    torchvision: Any = pytest.importorskip("torchvision")
    align = FlowGuidedAlignment(64 if size[0] == 80 else 16, 8)
    features = align.dcnpack.weight.shape[0]
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in align.parameters():
            parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    values, guide = (torch.randn(2, features, *size, generator=generator) for _ in range(2))
    flow = 6 * torch.randn(2, 2, *size, generator=generator)
    values.requires_grad_()
    first, second, mask = align.dcnpack.conv_offset(guide).chunk(3, dim=1)
    offset = 15 * torch.cat([first, second], dim=1).tanh()
    offset = offset + flow.flip(1).repeat(1, offset.shape[1] // 2, 1, 1)
    expected = torchvision.ops.deform_conv2d(
        values, offset, align.dcnpack.weight, align.dcnpack.bias, padding=1, mask=mask.sigmoid()
    )
    found = align.dcnpack(values, guide, flow)
    assert torch.allclose(found, expected, atol=1e-4)
    weights = torch.randn(found.shape, generator=generator)
    for one, other in zip(
        torch.autograd.grad((found * weights).sum(), (values, align.dcnpack.weight)),
        torch.autograd.grad((expected * weights).sum(), (values, align.dcnpack.weight)),
        strict=True,
    ):
        assert torch.allclose(one, other, atol=1e-4 * float(other.abs().max()))


def test_matching_features_start_from_vgg16() -> None:
    encoder = MatchingEncoder()
    encoder.start_from_vgg16()
    photo = image(1, 3, 12, 16)
    expected = pretrained_vgg("vgg16", ["relu2_2"])(photo)["relu2_2"]
    with torch.no_grad():
        found = encoder.feature_extract[:9](encoder.sub_mean(photo))
        assert encoder(photo).shape == (1, 16, 6, 8)
    assert torch.allclose(found, expected, atol=1e-4)
    trained = {name for name, value in encoder.named_parameters() if value.requires_grad}
    assert trained == {name for name, _ in encoder.named_parameters() if "sub_mean" not in name}


if __name__ == "__main__":  # makes the golden file anew, where the network is meant to change
    arrays: dict[str, Any] = golden(seeded(KeDuSRConfig()), seeded(KeDuSRConfig.compact()))
    np.savez_compressed(GOLDEN, **arrays)
