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
from dualsr_cli.networks._dm3net_modulation import Affine
from dualsr_cli.networks.dm3net import DM3Net, DM3NetConfig, Encoded, Flow, Statistics

GOLDEN = Path(__file__).parent / "golden" / "dm3net.npz"
COMPACT = DM3NetConfig.compact()
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


def encode(network: DM3Net, inputs: Inputs) -> Encoded:
    return network.encode(inputs.lr, inputs.lr_center(), inputs.ref)


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


@pytest.mark.parametrize("wrong", [{"vgg": "vgg11"}, {"interval": 0}])
def test_what_cannot_be_built_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"vgg11|interval"):
        replace(COMPACT, **wrong)


def test_published_configuration_runs() -> None:
    outputs = filled(DM3NetConfig()).forward(photos((12, 20), (4, 4, 12, 12)))
    assert outputs.sr.shape == (1, 3, 24, 40)
    assert bool(outputs.sr.isfinite().all())
    assert outputs.maps["embedding"].shape == (1, 512)


def test_output_is_the_golden_one(network: DM3Net) -> None:
    outputs = network(photos((24, 20), (6, 4, 18, 16)))
    golden = np.load(GOLDEN)
    np.testing.assert_allclose(outputs.sr[0, :, ::4, ::4], golden["sr"], atol=1e-4)
    np.testing.assert_allclose(outputs.maps["embedding"][0], golden["embedding"], atol=1e-4)


def test_matching_is_that_of_the_dense_formulas() -> None:
    network = filled(replace(COMPACT, prune=False))
    inputs = photos((20, 28), (4, 8, 16, 24))
    encoded = encode(network, inputs)
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
        value = F.pad(encoded.value, (up, up, up, up), mode="reflect")
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
    features = network.combine(encoded)
    assert features.shape == (1, 2 * COMPACT.features, 40, 56)
    torch.testing.assert_close(features[:, : COMPACT.features], values, atol=1e-5, rtol=1e-5)


def test_only_keys_that_pruning_leaves_are_found(network: DM3Net) -> None:
    inputs = photos((24, 24), (0, 0, 20, 20))
    keys = network.matching_encoder(inputs.lr_center())
    exact = encode(filled(replace(COMPACT, prune=False)), inputs)
    fewer = 0
    for key, found, all_of in zip(keys, encode(network, inputs).found, exact.found, strict=True):
        remain = prune_keys(key, interval=16, threshold=0.7).flatten()
        fewer += int((~remain).sum())
        assert bool(remain[found.index].all())
        assert bool((found.similarity <= all_of.similarity + 1e-6).all())
    assert fewer > 0


def test_training_searches_all_keys() -> None:
    network, inputs = filled(COMPACT).train(), photos((24, 24), (0, 0, 20, 20))
    exact = encode(filled(replace(COMPACT, prune=False)), inputs)
    for found, all_of in zip(encode(network, inputs).found, exact.found, strict=True):
        assert torch.equal(found.index, all_of.index)


def test_pixels_that_were_added_to_the_centre_are_not_found() -> None:
    network = filled(replace(COMPACT, prune=False))
    encoded = encode(network, photos((23, 22), (2, 3, 15, 14)))  # a centre of 13 x 11
    for scale, found in zip((1, 2, 4), encoded.found, strict=True):
        assert found.key_size == (16 // scale, 12 // scale)
        rows, columns = found.places()
        assert int(rows.max()) * scale < 13
        assert int(columns.max()) * scale < 11


def test_both_results_in_training_and_one_at_inference() -> None:
    network = filled(COMPACT)
    inputs = photos((16, 16), (4, 4, 12, 12), truth=True)
    one = network(inputs)
    assert set(one.maps) == {"confidence", "flow", "embedding"}
    both = filled(replace(COMPACT, prune=False)).train()(inputs)
    assert both.maps["sr_truth"].shape == both.sr.shape == (1, 3, 32, 32)
    assert both.maps["embedding_truth"].shape == both.maps["embedding"].shape
    assert (both.maps["sr_truth"] - both.sr).abs().max() > 1e-3

    # They differ in the embedding alone.
    encoded = encode(network, inputs)
    features = network.combine(encoded)
    statistics = network.statistics(encoded)
    assert torch.equal(network.reconstruct(features, encoded.embedding, statistics), one.sr)
    other = network.prior_truth(inputs.lr, inputs.hr)
    assert (network.reconstruct(features, other, statistics) - one.sr).abs().max() > 1e-3


def test_every_parameter_gets_a_gradient() -> None:
    network = filled(COMPACT).train()
    with torch.enable_grad():
        outputs = network(photos((16, 20), (4, 4, 12, 16), truth=True))
        loss = outputs.sr.square().mean() + outputs.maps["sr_truth"].square().mean()
        loss.backward()
    for name, weight in network.named_parameters():
        assert weight.grad is not None, name
        assert bool(weight.grad.isfinite().all()), name
        # A gate's only two rectified numbers may both be 0, and then it waits for other images.
        if "channel_attention" not in name:
            assert bool(weight.grad.any()), name


def test_the_priors_learn_from_their_own_result_only() -> None:
    network = filled(COMPACT).train()
    with torch.enable_grad():
        network(photos((16, 16), (4, 4, 12, 12), truth=True)).sr.mean().backward()
    assert all(weight.grad is None for weight in network.prior_truth.parameters())
    assert all(weight.grad is not None for weight in network.prior_ref.parameters())


def test_statistics_are_those_of_the_whole_image(
    network: DM3Net, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded = encode(network, photos((44, 16), (4, 0, 16, 12)))
    features = network.combine(encoded)
    monkeypatch.setattr(dm3net, "_BAND", 8 * 16)  # 8 rows in a band, and 4 in the last
    found = network.statistics(encoded)
    expected = F.instance_norm(features.double(), eps=1e-5)
    normalised = (features - found.mean) * torch.rsqrt(found.variance + 1e-5)
    torch.testing.assert_close(normalised.double(), expected, atol=1e-4, rtol=1e-4)
    with pytest.raises(ValueError, match="without parts"):
        Statistics.of([])


def test_reconstruction_is_adain_and_modulated_blocks(network: DM3Net) -> None:
    encoded = encode(network, photos((12, 16), (4, 4, 12, 12)))
    features = network.combine(encoded)
    sr = network.reconstruct(features, encoded.embedding, network.statistics(encoded))
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
    expected = dmir.tail(values + features[:, COMPACT.features :])
    torch.testing.assert_close(sr, expected, atol=1e-5, rtol=1e-4)


def test_a_tile_is_part_of_the_whole(network: DM3Net) -> None:
    inputs = photos((96, 88), (20, 24, 60, 64))
    encoded = encode(network, inputs)
    features = network.combine(encoded)
    statistics = network.statistics(encoded)
    whole = network.reconstruct(features, encoded.embedding, statistics)
    margin = network.margin
    assert margin % 4 == 0
    for top, left, bottom, right in ((40, 36, 52, 56), (0, 72, 16, 88), (80, 0, 96, 12)):
        around = (
            max(0, top - margin),
            max(0, left - margin),
            min(96, bottom + margin),
            min(88, right + margin),
        )
        part = network.combine(encoded.crop(*around))
        tile = network.reconstruct(part, encoded.embedding, statistics)
        down, along = 2 * (top - around[0]), 2 * (left - around[1])
        tile = tile[:, :, down:, along:][:, :, : 2 * (bottom - top), : 2 * (right - left)]
        expected = whole[:, :, 2 * top : 2 * bottom, 2 * left : 2 * right]
        torch.testing.assert_close(tile, expected, atol=1e-4, rtol=0)
    with pytest.raises(ValueError, match="multiples of 4"):
        encoded.crop(0, 0, 8, 10)


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
def test_any_size_comes_back_doubled(
    network: DM3Net, size: tuple[int, int], box: tuple[int, int, int, int]
) -> None:
    inputs = photos(size, box)
    outputs = network(inputs)
    assert outputs.sr.shape == (1, 3, 2 * size[0], 2 * size[1])
    assert bool(outputs.sr.isfinite().all())
    assert outputs.maps["confidence"].shape == (1, 1, *size)
    assert outputs.maps["flow"].shape == (1, 2, *inputs.ref.shape[2:])


def test_a_batch_is_its_images_one_by_one(network: DM3Net) -> None:
    inputs = replace(
        photos((16, 20), (0, 0, 8, 12), batch=2),
        box=torch.tensor([[0, 0, 8, 12], [8, 6, 16, 18]]),
    )
    both = network(inputs).sr
    for n in range(2):
        one = Inputs(inputs.lr[n : n + 1], inputs.ref[n : n + 1], inputs.box[n : n + 1])
        torch.testing.assert_close(both[n : n + 1], network(one).sr, atol=1e-4, rtol=0)


def test_a_reference_of_another_size_is_refused(network: DM3Net) -> None:
    inputs = photos((16, 16), (4, 4, 12, 12))
    with pytest.raises(ValueError, match="is not twice"):
        network.restore(inputs.lr, inputs.lr, inputs.ref)


def test_flow_is_that_of_raft(network: DM3Net) -> None:
    random = torch.from_numpy(np.random.default_rng(2).random((2, 1, 3, 128, 136), np.float32))
    expected = network.flow.raft(*(2 * random - 1), num_flow_updates=COMPACT.flow_updates)[-1]
    torch.testing.assert_close(network.flow(*random), expected)
    assert network.flow(*random[..., :9, :31]).shape == (1, 2, 9, 31)


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


def test_half_precision_is_near(network: DM3Net) -> None:
    inputs = photos((24, 20), (6, 4, 18, 16))
    exact = network(inputs).sr
    with torch.autocast("cpu", torch.bfloat16):
        mixed = network(inputs).sr.float()
    cast = filled(COMPACT).to(torch.bfloat16)
    halves = replace(inputs, lr=inputs.lr.to(torch.bfloat16), ref=inputs.ref.to(torch.bfloat16))
    for near in (mixed, cast(halves).sr.float()):
        # Some matches differ, and the features that they bring; all else is rounded.
        assert (near - exact).abs().mean() < 0.05 * exact.std()


def test_weights_come_back_from_a_file(network: DM3Net, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file(network.state_dict(), path)
    other = DM3Net(COMPACT).eval()
    load_into(other, read_weights(path), path)
    inputs = photos((8, 12), (0, 0, 8, 8))
    assert torch.equal(other(inputs).sr, network(inputs).sr)
