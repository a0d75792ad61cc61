"""AWnet: its equations against plain ones, the published names, windows, sizes, references."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from dualsr_cli.networks import Inputs, load_into, read_weights
from dualsr_cli.networks.awnet import AWnet, AWnetConfig, FusionNet

GOLDEN = Path(__file__).parent / "golden" / "awnet.npz"
COMPACT = AWnetConfig.compact()
TINY = AWnetConfig(
    features=(4, 6, 8, 8),
    flow_pyramid=(4, 6, 8, 8, 8, 8),
    flow_decoder=(8, 8, 8, 6, 6),
    flow_context=(8, 8, 8, 8, 6, 6),
)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    values = np.random.RandomState(seed).random_sample(shape)
    return torch.from_numpy(values.astype(np.float32))


def seeded(config: AWnetConfig, seed: int = 0) -> AWnet:
    """The same weights with any PyTorch: moderate flows, filters and shares."""
    network = AWnet(config)
    numbers = np.random.RandomState(seed)
    with torch.no_grad():
        for values in network.parameters():
            shape = tuple(values.shape)
            gain = (1.5 / np.prod(shape[1:])) ** 0.5 if len(shape) > 1 else 0.02
            values.copy_(torch.from_numpy(gain * numbers.standard_normal(shape)))
        tail, taps = network.mask.mask_tail, 25 * config.references
        tail.weight[:taps] *= 0.05
        tail.bias[:taps] += 0.04
    return network.eval()


def steady(config: AWnetConfig, logits: list[float]) -> AWnet:
    """No flow, filters that keep each pixel, and these shares everywhere."""
    network = AWnet(config).eval()
    tail = network.mask.mask_tail
    with torch.no_grad():
        for name, values in network.FlowNet.named_parameters():
            if "flow" in name or "dc_conv7" in name:
                values.zero_()
        tail.weight.zero_()
        tail.bias.zero_()
        for number in range(config.references):
            tail.bias[25 * number + 12] = 1
        tail.bias[25 * config.references :] = torch.tensor(logits)
    return network


def inputs(
    height: int, width: int, box: list[list[int]] | None = None, scale: int = 4, more: int = 0
) -> Inputs:
    boxes = torch.tensor(box or [[0, 0, height, width]])
    top, left, bottom, right = boxes[0].tolist()
    size = (len(boxes), 3, scale * (bottom - top), scale * (right - left))
    references = [random(*size, seed=number) for number in range(1, more + 2)]
    lr = random(len(boxes), 3, height, width)
    return Inputs(lr, references[0], boxes, more_refs=tuple(references[1:]))


def upscaled(lr: torch.Tensor, scale: int = 4) -> torch.Tensor:
    return F.interpolate(lr, scale_factor=scale, mode="bicubic")


def test_the_published_network() -> None:
    network = AWnet(AWnetConfig())
    counts = dict.fromkeys(("FlowNet", "mask"), 0)
    for name, values in network.named_parameters():
        counts[name.split(".")[0]] += values.numel()
    assert counts == {"FlowNet": 9_374_340, "mask": 17_980_698}
    shapes = {name: tuple(values.shape) for name, values in network.mask.state_dict().items()}
    blocks = ["mask_Res1", "mask_Res2"]
    blocks += [
        f"mask_Res{level}_{part}" for level in (1, 2, 3) for part in ("1d", "2d", "1u", "2u")
    ]
    names = ["mask_head", "mask_tail", "down1", "down2", "down3"]
    names += [f"{block}.{conv}" for block in blocks for conv in ("conv1", "conv2")]
    assert set(shapes) == {f"{name}.{kind}" for name in names for kind in ("weight", "bias")}
    assert shapes["mask_head.weight"] == (64, 11, 3, 3)
    assert shapes["mask_Res3_1u.conv1.weight"] == (256, 512, 3, 3)
    assert shapes["mask_tail.weight"] == (26, 64, 3, 3)
    with torch.no_grad():
        assert network(inputs(9, 7)).sr.shape == (1, 3, 36, 28)


def test_two_references_have_53_channels() -> None:
    shapes = AWnet(AWnetConfig.compact(references=2)).mask.state_dict()
    assert shapes["mask_tail.weight"].shape[0] == 53
    assert shapes["mask_head.weight"].shape[1] == 19


@pytest.mark.parametrize(
    "settings",
    [
        {"upscale": "bilinear"},
        {"upscale": "edsr", "scale": 2},
        {"direct": True, "references": 2, "scale": 2},
    ],
)
def test_the_networks_of_the_ablations(settings: dict[str, Any]) -> None:
    """All of them learns, but for what PWC-Net never uses, and windows give the whole."""
    config = replace(TINY, **settings)
    torch.manual_seed(0)
    network = AWnet(config).train()
    given = inputs(40, 24, [[8, 0, 32, 16]], config.scale, more=config.references - 1)
    learned = network(given)
    (learned.sr.square().mean() + learned.maps["warped"].mean()).backward()
    for name, values in network.named_parameters():
        assert values.grad is not None or "deconv2" in name, name
    with torch.no_grad():
        if config.upscale == "bilinear":
            expected = F.interpolate(given.lr, scale_factor=4, mode="bilinear")
            assert torch.equal(network.upscaled(given.lr), expected)
        encoded = network.eval().encode(given, 16)
        parts = [network.render(encoded, (top, 0, min(top + 16, 40), 24)) for top in (0, 16, 32)]
    for name, whole in {"sr": learned.sr, "weight": learned.maps["weight"]}.items():
        rows = [part.sr if name == "sr" else part.maps[name] for part in parts]
        torch.testing.assert_close(torch.cat(rows, dim=2), whole.detach(), atol=1e-4, rtol=0)


@pytest.mark.parametrize("wrong", [{"upscale": "nearest"}, {"upscale": "edsr", "scale": 3}])
def test_what_upscales_nothing_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"upscale is one of|EDSR doubles"):
        replace(TINY, **wrong)


@torch.no_grad()
def test_references_without_a_place_are_laid_on_all_of_the_frame() -> None:
    network, given = seeded(TINY), inputs(16, 24)
    center = random(1, 3, 18, 20, seed=4)
    beside = replace(given, ref=upscaled(center), center=center, box=torch.zeros_like(given.box))
    stretched = F.interpolate(beside.ref, (64, 96), mode="bicubic")
    assert torch.equal(network(beside).sr, network(replace(given, ref=stretched)).sr)
    with pytest.raises(ValueError, match="a reference is"):
        network(replace(beside, ref=given.ref))


@pytest.mark.parametrize("references", [1, 2])
@torch.no_grad()
def test_the_result_is_that_of_the_equations(references: int) -> None:
    network = seeded(replace(TINY, references=references), seed=3)
    given = inputs(16, 32, more=references - 1)
    found = network(given)
    image = upscaled(given.lr)
    parts, flows, insides = [], [], []
    for reference in (given.ref, *given.more_refs):
        flow = network.FlowNet(image, reference)[0]
        flows.append(F.interpolate(flow, scale_factor=4, mode="bilinear"))
        x = torch.arange(128) + flows[-1][:, 0]
        y = torch.arange(64)[:, None] + flows[-1][:, 1]
        insides.append(((x >= 0) & (x <= 127) & (y >= 0) & (y <= 63)).float()[:, None])
        grid = torch.stack((x / 127, y / 63), -1) * 2 - 1
        parts.append(F.grid_sample(reference, grid, align_corners=True) * insides[-1])
    assert torch.allclose(found.maps["flow"], torch.cat(flows, 1), atol=1e-5)
    assert torch.allclose(found.maps["warped"], torch.cat(parts, 1), atol=1e-4)
    residuals = [part - image for part in parts]
    taken = torch.cat([*parts, image, *flows, *residuals], 1)
    maps = network.mask(taken, (0, 0), (64, 128))
    logits = maps[:, 25 * references :]
    if references == 1:
        shares = [torch.sigmoid(logits) * insides[0]]
    else:
        powers = logits.exp() / logits.exp().sum(1, keepdim=True)
        shares = [powers[:, number : number + 1] * insides[number] for number in (0, 1)]
    rest = 1 - sum(shares)
    expected, weights = rest * image, []
    for number, (part, share) in enumerate(zip(parts, shares, strict=True)):
        kernels = maps[:, 25 * number : 25 * number + 25]
        windows = F.unfold(F.pad(part, (2, 2, 2, 2), mode="replicate"), 5)
        windows = windows.view(1, 3, 25, 64, 128)
        expected = expected + share * (windows * kernels[:, None]).sum(2)
        weights.append(share * kernels.sum(1, keepdim=True))
    assert torch.allclose(found.sr, expected, atol=1e-4)
    assert torch.allclose(found.maps["mask"], torch.cat(shares, 1), atol=1e-4)
    weight = torch.cat(weights, 1)
    assert found.maps["weight"].min() >= 0
    assert found.maps["weight"].max() <= 1
    assert 0.1 < shares[0].mean() < 0.9
    plain = (weight >= 0).all(1, keepdim=True).expand_as(weight)
    assert plain.float().mean() > 0.2
    ratio = weight / (rest + weight.sum(1, keepdim=True))
    assert torch.allclose(found.maps["weight"][plain], ratio[plain], atol=1e-3)


@torch.no_grad()
def test_a_reference_counts_within_its_box() -> None:
    boxes = [[0, 3, 7, 12], [2, 4, 9, 13]]
    given = inputs(9, 13, boxes)
    found = steady(TINY, [30.0])(given)
    expected, weight = upscaled(given.lr), torch.zeros(2, 1, 36, 52)
    for number, (top, left, bottom, right) in enumerate(boxes):
        place = (number, ..., slice(4 * top, 4 * bottom), slice(4 * left, 4 * right))
        expected[place] = given.ref[number]
        weight[place] = 1
    assert torch.allclose(found.maps["weight"], weight, atol=1e-6)
    assert torch.allclose(found.sr, expected, atol=1e-5)
    assert torch.allclose(found.maps["warped"], expected * weight, atol=1e-5)


@pytest.mark.parametrize("shift", [-3, 3])
@torch.no_grad()
def test_beyond_the_photo_its_border_goes_on(shift: int) -> None:
    """As published, where padding makes the sides multiples of 64; but not beyond a box in it."""
    network = steady(TINY, [30.0])
    flow = network.FlowNet.get_submodule("dc_conv7")
    next(values for name, values in flow.named_parameters() if name == "bias").fill_(shift / 20)
    given = inputs(9, 13)
    found = network(given)
    rows, columns = ((torch.arange(n) + shift).clamp(0, n - 1) for n in (36, 52))
    assert torch.allclose(found.maps["flow"], torch.full((1, 2, 36, 52), float(shift)), atol=1e-5)
    assert torch.allclose(found.sr, given.ref[:, :, rows][..., columns], atol=1e-4)
    mask = network(inputs(9, 13, [[1, 1, 8, 12]])).maps["mask"]
    expected = torch.zeros(1, 1, 36, 52)
    expected[:, :, 4 - shift : 32 - shift, 4 - shift : 48 - shift] = 1
    assert torch.equal(mask.round(), expected)


@torch.no_grad()
def test_the_masks_choose_among_references() -> None:
    given = inputs(9, 13, more=1)
    config = replace(TINY, references=2)
    for logits, expected in (
        ([30.0, 0.0, 0.0], given.ref),
        ([0.0, 30.0, 0.0], given.more_refs[0]),
        ([0.0, 0.0, 30.0], upscaled(given.lr)),
        ([0.0, 0.0, 0.0], (given.ref + given.more_refs[0] + upscaled(given.lr)) / 3),
    ):
        assert torch.allclose(steady(config, logits)(given).sr, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("size", "scale"), [((1, 1), 4), ((5, 33), 4), ((17, 3), 8), ((23, 40), 2)]
)
@torch.no_grad()
def test_any_size(size: tuple[int, int], scale: int) -> None:
    given = inputs(*size, scale=scale)
    network = steady(replace(TINY, scale=scale), [-30.0])
    found = network(given)
    assert torch.allclose(found.sr, upscaled(given.lr, scale), atol=1e-5)
    for name, channels in (("flow", 2), ("warped", 3), ("mask", 1), ("weight", 1)):
        assert found.maps[name].shape == (1, channels, scale * size[0], scale * size[1])


@torch.no_grad()
def test_a_batch_is_its_images() -> None:
    network = seeded(TINY)
    given = inputs(20, 24, [[0, 0, 16, 20], [4, 3, 20, 23]])
    found = network(given)
    for one in (slice(0, 1), slice(1, 2)):
        alone = network(Inputs(given.lr[one], given.ref[one], given.box[one]))
        assert torch.allclose(found.sr[one], alone.sr, atol=1e-4)
        for name, values in alone.maps.items():
            assert torch.allclose(found.maps[name][one], values, atol=1e-3)


@pytest.mark.parametrize(("scale", "size"), [(4, (90, 109)), (2, (125, 165))])
@torch.no_grad()
def test_windows_are_the_whole(scale: int, size: tuple[int, int]) -> None:
    """A reference of a part of the photo, in a frame that begins beside the result."""
    network = seeded(replace(TINY, scale=scale))
    given = inputs(*size, [[8, 3, 83, size[1]]], scale)
    whole = network(given)
    encoded = network.encode(given, 24)
    for window in ((0, 0, 48, 40), (48, 40, *size)):
        part = network.render(encoded, window)
        top, left, bottom, right = (scale * side for side in window)
        assert part.sr.shape == (1, 3, bottom - top, right - left)
        assert torch.allclose(part.sr, whole.sr[..., top:bottom, left:right], atol=1e-4)
        for name, values in part.maps.items():
            expected = whole.maps[name][..., top:bottom, left:right]
            assert torch.allclose(values, expected, atol=1e-3 if name == "flow" else 1e-4), name


def test_every_layer_learns_save_the_unused_one() -> None:
    for references in (1, 2):
        network = seeded(replace(TINY, references=references)).train()
        given = inputs(32, 32, more=references - 1)
        (network(given).sr - random(1, 3, 128, 128, seed=9)).abs().mean().backward()
        without = {name for name, values in network.named_parameters() if values.grad is None}
        assert without == {"FlowNet.deconv2.weight", "FlowNet.deconv2.bias"}
        for name, values in network.named_parameters():
            assert values.grad is None or bool(values.grad.abs().sum() > 0), name


def test_the_flow_learns_by_the_warped_pixels_alone() -> None:
    network = seeded(TINY)
    network(inputs(16, 16)).maps["mask"].sum().backward()
    assert all(values.grad is None for values in network.FlowNet.parameters())
    # A reference may be a result, whose own network learns too.
    given = inputs(16, 16, [[0, 0, 14, 16]])
    reference = given.ref.clone().requires_grad_()
    network(Inputs(given.lr, reference, given.box)).sr.sum().backward()
    assert reference.grad is not None
    assert reference.grad.abs().sum() > 0


@torch.no_grad()
def test_noise_belongs_to_training() -> None:
    network = steady(replace(TINY, noise_variance=0.01), [-30.0])
    given = inputs(40, 40)
    assert torch.allclose(network(given).sr, upscaled(given.lr), atol=1e-5)
    noise = network.train()(given).sr - upscaled(given.lr)
    assert 0.095 < noise.std() < 0.105


@torch.no_grad()
def test_mixed_precision_leaves_the_flow_alone() -> None:
    network = seeded(TINY)
    given = inputs(20, 24)
    expected = network(given)
    with torch.autocast("cpu", torch.bfloat16):
        found = network(given)
    assert torch.equal(found.maps["flow"], expected.maps["flow"])
    assert found.sr.dtype == torch.float32
    # Beside an error of 36 dB, one of 55 dB costs 0.05 dB; these weights are not trained ones.
    assert 10 * torch.log10((found.sr - expected.sr).square().mean()) < -50


@torch.no_grad()
def test_half_precision_leaves_the_flow_alone() -> None:
    """But for the weights, which are rounded."""
    network = seeded(TINY)
    for values in network.parameters():
        values.copy_(values.bfloat16())
    given = inputs(20, 24)
    expected = network(replace(given, ref=given.ref.bfloat16().float()))
    found = network.bfloat16()(given.to("cpu", torch.bfloat16))
    assert found.sr.dtype == torch.float32
    assert torch.allclose(found.maps["flow"], expected.maps["flow"], atol=0.2)
    assert (found.sr - expected.sr).abs().mean() < 0.01


def test_a_configuration_is_plain_data() -> None:
    """As a model's file of settings has it: numbers, lists, no more."""
    settings = {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(TINY).items()}
    shapes = [values.shape for values in AWnet(AWnetConfig(**settings)).parameters()]
    assert shapes == [values.shape for values in AWnet(TINY).parameters()]
    for wrong, sentence in (
        ({"features": [8, 8]}, "features are four, not 2"),
        ({"references": 0}, "references are 1 or more"),
        ({"flow_context": [8] * 5}, "6, 5 and 6 layers"),
    ):
        with pytest.raises(ValueError, match=sentence):
            AWnetConfig(**{**settings, **wrong})


def test_what_does_not_fit_is_told() -> None:
    network = AWnet(TINY)
    with pytest.raises(ValueError, match="2 references where 1 belong"):
        network(inputs(8, 8, more=1))
    with pytest.raises(ValueError, match=r"a reference is \(1, 3, 16, 16\), not \(1, 3, 32, 32\)"):
        network(inputs(8, 8, scale=2))
    given = inputs(8, 8, more=1)
    wrong = Inputs(given.lr, given.ref, given.box, more_refs=(given.ref[..., 1:],))
    with pytest.raises(ValueError, match=r"not \(1, 3, 32, 32\)"):
        AWnet(replace(TINY, references=2))(wrong)


@torch.no_grad()
def test_saved_weights_give_the_same_result(tmp_path: Path) -> None:
    network, other = seeded(TINY), AWnet(TINY).eval()
    path = tmp_path / "weights.safetensors"
    save_file({f"module.{name}": v for name, v in network.state_dict().items()}, path)
    load_into(other, read_weights(path), path)
    given = inputs(8, 11)
    assert torch.equal(network(given).sr, other(given).sr)


@torch.no_grad()
def test_golden() -> None:
    """What this network gave when it was compared with the published one."""
    network = seeded(COMPACT)
    found = network(inputs(15, 20, [[0, 2, 13, 20]]))
    expected = np.load(GOLDEN)
    for name, values in (("sr", found.sr), *found.maps.items()):
        every = values.numpy()[..., ::7, ::5]
        assert np.allclose(every, expected[name], atol=1e-3 if name == "flow" else 1e-4), name
    assert FusionNet.STRIDE == 8
