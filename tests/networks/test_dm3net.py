"""DM3Net: its parts' sizes, matching against dense formulas, domain modulation, tiles, any size."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from dualsr_cli.matching import prune_keys
from dualsr_cli.networks import Inputs, dm3net, load_into, read_weights
from dualsr_cli.networks._dm3net_modulation import Affine, Statistics
from dualsr_cli.networks.contract import Network, windows
from dualsr_cli.networks.dm3net import DM3Net, DM3NetConfig, Encoded, Flow

GOLDEN = Path(__file__).parent / "golden" / "dm3net.npz"
COMPACT = DM3NetConfig.compact()
SMALL = replace(
    COMPACT,
    features=8,
    blocks=1,
    matching_features=4,
    prior_features=8,
    prior_blocks=1,
    flow_updates=1,
)
"""For what does not depend on widths and depths."""
PARTS = {
    "lr_encoder": 1_935_968,
    "ref_encoder": 1_935_968,
    "upsample": 147_712,
    "flow": 990_162,
    "matching_encoder": 2_390_128,
    "fusion_head": 221_440,
    "prior_ref": 4_472_784,
    "prior_truth": 4_472_784,
    "dmir": 10_250_115,
}


def filled(config: DM3NetConfig, seed: int = 0) -> DM3Net:
    """A network whose weights are those of a seed, with any release of PyTorch."""
    network = DM3Net(config)
    random = np.random.default_rng(seed)
    with torch.no_grad():
        for weight in network.parameters():
            spread = 0.1 if weight.ndim == 1 else 0.7 * weight[0].numel() ** -0.5
            values = spread * random.standard_normal(tuple(weight.shape))
            weight.copy_(torch.from_numpy(values))
    return network.eval()


@pytest.fixture(scope="module")
def network() -> DM3Net:
    return filled(COMPACT)


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def photos(
    size: tuple[int, int], box: tuple[int, int, int, int], batch: int = 1, truth: bool = False
) -> Inputs:
    """Noise with some structure: an LR, a reference that shows its box, and a truth."""
    random = np.random.default_rng(1)

    def noise(height: int, width: int) -> torch.Tensor:
        fine = torch.from_numpy(random.random((batch, 3, height, width)).astype(np.float32))
        return 0.5 * fine + 0.5 * F.avg_pool2d(fine, 5, 1, 2)

    top, left, bottom, right = box
    lr, ref = noise(*size), noise(2 * (bottom - top), 2 * (right - left))
    hr = noise(2 * size[0], 2 * size[1]) if truth else None
    return Inputs(lr, ref, torch.tensor([box] * batch), hr)


def combined(network: DM3Net, encoded: Encoded) -> torch.Tensor:
    """What the reconstruction takes, of the whole image."""
    window = (0, 0, *encoded.features.shape[2:])
    return network._combine_part(encoded.features, encoded.values, encoded.found, window)


def golden_values(network: DM3Net) -> tuple[torch.Tensor, torch.Tensor]:
    encoded = network.encode(photos((24, 20), (6, 4, 18, 16)))
    return network.render(encoded, (0, 0, 24, 20)).sr[0, :, ::4, ::4], encoded.embedding[0]


def test_parts_have_the_sizes_that_the_paper_leads_to() -> None:
    with torch.device("meta"):
        network = DM3Net()
    parts = {
        name: sum(weight.numel() for weight in part.parameters())
        for name, part in network.named_children()
    }
    assert parts == PARTS
    assert sum(parts.values()) == 26_817_061
    assert abs(sum(parts.values()) / 27.42e6 - 1) < 0.025
    assert all(weight.requires_grad for weight in network.parameters())


@pytest.mark.parametrize(
    "wrong", [{"vgg": "vgg11"}, {"interval": 0}, {"scales": ()}, {"scales": (2, 1)}]
)
def test_what_cannot_be_built_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"vgg11|interval|scales"):
        replace(COMPACT, **wrong)


def test_published_configuration_runs() -> None:
    inputs = photos((12, 20), (4, 4, 12, 12))
    network = DM3Net().eval()
    assert network.encode(inputs).embedding.shape == (1, 512)
    sr = network(inputs).sr
    assert sr.shape == (1, 3, 24, 40)
    assert bool(sr.isfinite().all())


def test_output_is_the_golden_one(network: DM3Net) -> None:
    sr, embedding = golden_values(network)
    golden = np.load(GOLDEN)
    np.testing.assert_allclose(sr, golden["sr"], atol=1e-4)
    np.testing.assert_allclose(embedding, golden["embedding"], atol=1e-4)


def test_matching_is_that_of_the_dense_formulas() -> None:
    network = filled(replace(SMALL, prune=False))
    inputs = photos((20, 28), (4, 8, 16, 24))
    encoded = network.encode(inputs)
    aligned = network._aligned(inputs.lr_center(), inputs.ref, None)
    queries, keys = (network.matching_encoder(i) for i in (inputs.lr, inputs.lr_center()))
    warped = []
    for scale, query, key in zip((1, 2, 4), queries, keys, strict=True):
        patches = [
            F.normalize(F.unfold(F.pad(maps, (1, 1, 1, 1), mode="reflect"), 3), dim=1)
            for maps in (query, key)
        ]
        cosines = patches[1].transpose(1, 2) @ patches[0]  # (1, keys, queries)
        confidence, index = cosines.max(dim=1)  # eq. 3 and 4
        up = 2 * scale
        value = F.pad(aligned, (up, up, up, up), mode="reflect")
        windows = F.unfold(value, 3 * up, stride=up)[:, :, index[0]]
        fold = {
            "output_size": (2 * 20, 2 * 28),
            "kernel_size": 3 * up,
            "stride": up,
            "padding": up,
        }
        stitched = F.fold(windows, **fold) / F.fold(torch.ones_like(windows), **fold)
        alike = confidence.view(1, 1, *query.shape[2:])
        warped.append(
            stitched * F.interpolate(alike, scale_factor=up, mode="bilinear", align_corners=False)
        )
    values = torch.cat(warped, dim=1)
    for conv in network.fusion_head.convs:
        values = conv(values).relu()
    features = combined(network, encoded)
    assert features.shape == (1, 2 * SMALL.features, 40, 56)
    torch.testing.assert_close(features[:, : SMALL.features], values, atol=1e-5, rtol=1e-5)


def test_only_keys_that_pruning_leaves_are_found() -> None:
    inputs = photos((24, 24), (0, 0, 20, 20))
    network = filled(SMALL)
    keys = network.matching_encoder(inputs.lr_center())
    exact = filled(replace(SMALL, prune=False)).encode(inputs)
    fewer = 0
    for key, found, all_of in zip(keys, network.encode(inputs).found, exact.found, strict=True):
        remain = prune_keys(key, interval=16, threshold=0.7).flatten()
        fewer += int((~remain).sum())
        assert bool(remain[found.index].all())
        assert bool((found.similarity <= all_of.similarity + 1e-6).all())
    assert fewer > 0


def test_training_searches_all_keys() -> None:
    inputs = photos((24, 24), (0, 0, 20, 20))
    exact, pruned = filled(replace(SMALL, prune=False)), filled(SMALL)
    expected = exact(inputs).maps["confidence"]
    torch.testing.assert_close(pruned.train()(inputs).maps["confidence"], expected)
    assert not torch.allclose(pruned.eval()(inputs).maps["confidence"], expected)


def test_pixels_that_were_added_to_the_centre_are_not_found() -> None:
    network = filled(replace(SMALL, prune=False))
    encoded = network.encode(photos((23, 22), (2, 3, 15, 14)))  # a centre of 13 x 11
    for scale, found in zip((1, 2, 4), encoded.found, strict=True):
        assert found.key_size == (16 // scale, 12 // scale)
        rows, columns = found.places()
        assert int(rows.max()) * scale < 13
        assert int(columns.max()) * scale < 11


def test_both_results_in_training_and_one_at_inference() -> None:
    network = filled(replace(SMALL, prune=False))
    inputs = photos((15, 18), (4, 4, 11, 12), truth=True)
    one = network(inputs)
    assert set(one.maps) == {"confidence"}
    both = network.train()(inputs)
    torch.testing.assert_close(both.sr, one.sr, atol=1e-4, rtol=1e-4)
    encoded = network.encode(inputs)
    torch.testing.assert_close(both.maps["embedding"], encoded.embedding)
    assert both.maps["embedding_truth"].shape == both.maps["embedding"].shape

    # They differ in the embedding alone.
    window = (0, 0, *inputs.lr.shape[2:])
    other = network.prior_truth(inputs.lr, inputs.hr)
    truth = network.render(replace(encoded, embedding=other), window).sr
    torch.testing.assert_close(both.maps["sr_truth"], truth, atol=1e-4, rtol=1e-4)
    assert (truth - one.sr).abs().max() > 1e-3


@pytest.mark.parametrize("settings", [{"scales": (4,)}, {"scales": (1, 2)}, {"modulate": False}])
def test_the_networks_of_the_ablations(settings: dict[str, Any]) -> None:
    """They learn what they are asked for at inference, in windows too, with all their weights."""
    config = replace(SMALL, prune=False, flow_updates=2, **settings)
    network, inputs = filled(config), photos((22, 18), (2, 3, 15, 14), truth=True)
    whole = network(inputs)
    finest = config.scales[0]
    assert whole.maps["confidence"].shape == (1, 1, -(-22 // finest), -(-18 // finest))
    encoded = network.encode(inputs, 8)
    assert [found.index.shape[1:] for found in encoded.found] == [
        (24 // scale, 20 // scale) for scale in config.scales
    ]
    parts = [network.render(encoded, (top, 0, min(top + 8, 22), 18)).sr for top in (0, 8, 16)]
    torch.testing.assert_close(torch.cat(parts, dim=2), whole.sr, atol=1e-4, rtol=0)
    with torch.enable_grad():
        learned = network.train()(inputs)
        sum(values.sum() for values in (learned.sr, *learned.maps.values())).backward()
    torch.testing.assert_close(learned.sr.detach(), whole.sr, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(learned.maps["confidence"].detach(), whole.maps["confidence"])
    assert ("sr_truth" in learned.maps) == config.modulate
    for name, weight in network.named_parameters():
        assert weight.grad is not None, name


def test_a_patch_beside_the_lr_can_be_the_centre() -> None:
    """As in KeDuSR's training: nothing but the box says that it is a part of the LR."""
    network = filled(SMALL).train()
    inside = photos((16, 20), (4, 8, 12, 16))
    beside = replace(inside, center=inside.lr_center(), box=torch.zeros_like(inside.box))
    assert torch.equal(network(inside).sr, network(beside).sr)


def test_compact_twins_add_the_bicubic_enlargement() -> None:
    assert COMPACT.skip and not DM3NetConfig().skip
    inputs = photos((13, 10), (0, 0, 8, 8))
    added = filled(SMALL)(inputs).sr - filled(replace(SMALL, skip=False))(inputs).sr
    expected = F.interpolate(inputs.lr, scale_factor=2, mode="bicubic")
    torch.testing.assert_close(added, expected, atol=1e-5, rtol=0)


def test_every_parameter_gets_a_gradient() -> None:
    # RAFT's first update starts from no flow at all.
    network = filled(replace(SMALL, flow_updates=2)).train()
    with torch.enable_grad():
        outputs = network(photos((16, 20), (4, 4, 12, 16), truth=True))
        loss = outputs.sr.square().mean() + outputs.maps["sr_truth"].square().mean()
        loss.backward()
    for name, weight in network.named_parameters():
        assert weight.grad is not None, name
        assert bool(weight.grad.isfinite().all()), name
        # A gate's four rectified numbers may all be 0, and then it waits for other images.
        if "channel_attention" not in name:
            assert bool(weight.grad.any()), name


def test_the_priors_learn_from_their_own_result_only() -> None:
    network = filled(SMALL).train()
    with torch.enable_grad():
        network(photos((16, 16), (4, 4, 12, 12), truth=True)).sr.mean().backward()
    assert all(weight.grad is None for weight in network.prior_truth.parameters())
    assert all(weight.grad is not None for weight in network.prior_ref.parameters())


def test_statistics_are_those_of_the_whole_image() -> None:
    network, inputs = filled(SMALL), photos((44, 18), (4, 0, 16, 12))
    encoded = network.encode(inputs, 16)
    features, found = combined(network, encoded), encoded.statistics
    expected = F.instance_norm(features.double(), eps=1e-5)
    normalised = (features - found.mean) * torch.rsqrt(found.variance + 1e-5)
    torch.testing.assert_close(normalised.double(), expected, atol=1e-4, rtol=1e-4)
    with pytest.raises(ValueError, match="without parts"):
        Statistics.of([])


def test_reconstruction_is_adain_and_modulated_blocks() -> None:
    network = filled(replace(SMALL, skip=False))
    inputs = photos((12, 16), (4, 4, 12, 12))
    encoded = network.encode(inputs)
    features, sr = combined(network, encoded), network(inputs).sr
    dmir = network.dmir

    def affine(mlp: Affine) -> tuple[torch.Tensor, torch.Tensor]:
        hidden = F.leaky_relu(mlp.hidden(encoded.embedding), 0.2)
        gamma, beta = mlp.output(hidden)[..., None, None].chunk(2, dim=1)
        return 1 + gamma, beta

    gamma, beta = affine(dmir.adain)
    values = F.leaky_relu(dmir.merge(gamma * F.instance_norm(features) + beta), 0.2)
    for group in dmir.groups:
        before = values
        for block in group.blocks:
            gamma, beta = affine(block.affine)
            values = values + block.conv2(F.leaky_relu(gamma * block.conv1(values) + beta, 0.2))
        values = before + group.conv(values)
    expected = dmir.tail(values + features[:, SMALL.features :])
    torch.testing.assert_close(sr, expected, atol=1e-5, rtol=1e-4)


def test_windows_give_the_whole() -> None:
    """As deep as published; odd sides, and windows that do not divide them."""
    network = filled(replace(SMALL, blocks=8, prior_blocks=6, vgg="vgg19"))
    assert isinstance(network, Network) and network.scale == 2
    inputs = photos((107, 27), (26, 6, 91, 21), batch=2)
    whole = network(inputs)
    encoded = network.encode(inputs, 16)
    tiled = torch.full_like(whole.sr, torch.nan)
    confidence = torch.full_like(whole.maps["confidence"], torch.nan)
    for top, left, bottom, right in windows(107, 27, 24):
        outputs = network.render(encoded, (top, left, bottom, right))
        tiled[:, :, 2 * top : 2 * bottom, 2 * left : 2 * right] = outputs.sr
        confidence[:, :, top:bottom, left:right] = outputs.maps["confidence"]
    torch.testing.assert_close(tiled, whole.sr, atol=1e-4, rtol=0)
    torch.testing.assert_close(confidence, whole.maps["confidence"], atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("size", "box"),
    [
        ((1, 1), (0, 0, 1, 1)),
        ((1, 9), (0, 2, 1, 5)),
        ((7, 5), (1, 1, 4, 2)),
        ((17, 30), (0, 3, 13, 30)),
        ((12, 16), (0, 0, 12, 16)),
    ],
)
def test_any_size_comes_back_doubled(size: tuple[int, int], box: tuple[int, int, int, int]) -> None:
    outputs = filled(SMALL)(photos(size, box))
    assert outputs.sr.shape == (1, 3, 2 * size[0], 2 * size[1])
    assert bool(outputs.sr.isfinite().all())
    assert outputs.maps["confidence"].shape == (1, 1, *size)


def test_a_batch_is_its_images_one_by_one() -> None:
    network = filled(SMALL)
    inputs = replace(
        photos((16, 20), (0, 0, 8, 12), batch=2),
        box=torch.tensor([[0, 0, 8, 12], [8, 6, 16, 18]]),
    )
    both = network(inputs).sr
    for n in range(2):
        one = Inputs(inputs.lr[n : n + 1], inputs.ref[n : n + 1], inputs.box[n : n + 1])
        torch.testing.assert_close(both[n : n + 1], network(one).sr, atol=1e-4, rtol=0)


@pytest.mark.parametrize("training", [False, True])
def test_a_reference_of_another_size_is_refused(training: bool) -> None:
    inputs = photos((16, 16), (4, 4, 12, 12))
    with pytest.raises(ValueError, match="is not twice"):
        filled(SMALL).train(training)(replace(inputs, ref=inputs.ref[:, :, 1:]))


def test_flow_is_that_of_raft(network: DM3Net) -> None:
    random = torch.from_numpy(np.random.default_rng(2).random((2, 1, 3, 128, 136), np.float32))
    expected = network.flow.raft(*(2 * random - 1), num_flow_updates=COMPACT.flow_updates)[-1]
    torch.testing.assert_close(network.flow(*random), expected)
    assert network.flow(*random[..., :9, :31]).shape == (1, 2, 9, 31)


def test_flow_of_large_images_is_estimated_at_a_coarser_scale(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    random = torch.from_numpy(np.random.default_rng(3).random((2, 1, 3, 16, 17), np.float32))
    image, other = F.interpolate(random[0], (256, 272)), F.interpolate(random[1], (256, 272))
    flow = filled(SMALL).flow
    half = [
        F.interpolate(values, (128, 136), mode="bilinear", antialias=True)
        for values in (image, other)
    ]
    expected = 2 * F.interpolate(flow(*half), (256, 272), mode="bilinear")
    monkeypatch.setattr(dm3net, "_FLOW_MOST", 128 * 136)
    torch.testing.assert_close(flow(image, other), expected)


def test_flow_learns() -> None:
    flow = Flow(2)
    with torch.enable_grad():
        flow(torch.rand(1, 3, 16, 16), torch.rand(1, 3, 16, 16)).sum().backward()
    assert all(weight.grad is not None for weight in flow.parameters())


def test_matching_starts_from_imagenet() -> None:
    network = DM3Net(COMPACT)
    before = network.matching_encoder.vgg.features[14].weight.clone()
    network.matching_encoder.start_from_imagenet()
    assert not torch.equal(network.matching_encoder.vgg.features[14].weight, before)
    assert all(weight.requires_grad for weight in network.parameters())


def test_half_precision_is_near() -> None:
    inputs = photos((24, 20), (6, 4, 18, 16))
    network = filled(SMALL)
    exact = network(inputs).sr
    with torch.autocast("cpu", torch.bfloat16):
        mixed = network.render(network.encode(inputs, 16), (0, 0, 24, 20)).sr.float()
    cast = filled(SMALL).to(torch.bfloat16)
    for near in (mixed, cast(inputs.to("cpu", torch.bfloat16)).sr.float()):
        # Some matches differ, and the features that they bring; all else is rounded.
        assert (near - exact).abs().mean() < 0.05 * exact.std()


def test_weights_come_back_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    network = filled(SMALL)
    save_file(network.state_dict(), path)
    other = DM3Net(SMALL).eval()
    load_into(other, read_weights(path), path)
    inputs = photos((8, 12), (0, 0, 8, 8))
    assert torch.equal(other(inputs).sr, network(inputs).sr)


if __name__ == "__main__":  # makes the golden file anew, where the network is meant to change
    with torch.no_grad():
        sr, embedding = golden_values(filled(COMPACT))
    np.savez_compressed(GOLDEN, sr=sr.numpy(), embedding=embedding.numpy())
