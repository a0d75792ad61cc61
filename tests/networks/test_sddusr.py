"""SDDuSR: its equations one by one, masks in training and at inference, windows, gradients."""

from __future__ import annotations

import math
import zlib
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
from dualsr_cli.matching import detail_mask
from dualsr_cli.networks import Inputs, load_into, read_weights
from dualsr_cli.networks._sddusr_parts import CBAMBlock, MaskGenerator, TokenDictionaries
from dualsr_cli.networks.contract import Network, windows
from dualsr_cli.networks.kedusr import MatchingEncoder
from dualsr_cli.networks.sddusr import SDDuSR, SDDuSRConfig

GOLDEN = Path(__file__).parent / "golden" / "sddusr.npz"
PARTS = {
    "lr_encoder": 1_935_968,
    "upsample": 147_712,
    "lrc_encoder": 481_856,
    "ref_encoder": 334_144,
    "spynet": 1_440_300,
    "align": 273_432,
    "matching_encoder": 278_620,
    "mask_generator": 5_202,
    "confidence": 10_080,
    "dictionaries": 45_377,
    "fusion": 743_864,
    "tail": 1_731,
}
LETTERS = SDDuSRConfig(
    features=8,
    lr_blocks=1,
    blocks=1,
    fusion_blocks=2,
    tokens=6,
    matching_features=4,
    mask_features=4,
    flow_widths=(4, 4, 4, 4),
)
"""As few as there can be: what is tested with it does not depend on widths."""


def seeded(network: nn.Module) -> nn.Module:
    """With weights that depend on their names and shapes alone; none of them is left at zero."""
    with torch.no_grad():
        for name, values in network.named_parameters():
            if values.requires_grad:
                seed = torch.Generator().manual_seed(zlib.crc32(name.encode()))
                bound = 1 / math.sqrt(max(1, values[0].numel() if values.ndim else 1))
                values.copy_(bound * (2 * torch.rand(values.shape, generator=seed) - 1))
                if name.endswith("conv_offset.weight"):
                    values.mul_(0.1)
    return network


def network(config: SDDuSRConfig = LETTERS) -> SDDuSR:
    built = seeded(SDDuSR(config))
    assert isinstance(built, SDDuSR)
    return built.eval()


def picture(height: int, width: int, phase: float = 0.0) -> torch.Tensor:
    """(1, 3, height, width): waves that grow finer towards the right and lie flat at the left."""
    y, x = torch.meshgrid(torch.arange(height) / 7, torch.arange(width) / 5, indexing="ij")
    waves = [torch.sin(x * (1 + x / 8) + y * k + phase + k) * (x / (x + 2)) for k in (1, 2, 3)]
    return torch.stack(waves)[None] * 0.4 + 0.5


def example(height: int = 24, width: int = 32, batch: int = 1) -> Inputs:
    """A centre of about half the sides, at another place for each of the batch."""
    h, w = max(1, height // 2), max(1, width // 2)
    lr = torch.cat([picture(height, width, n) for n in range(batch)])
    ref = torch.cat([picture(2 * h, 2 * w, n + 0.3) for n in range(batch)])
    starts = [((height - h) // 2, min(n, width - w)) for n in range(batch)]
    box = torch.tensor([(top, left, top + h, left + w) for top, left in starts])
    return Inputs(lr, ref, box)


def with_half_a_mask(built: SDDuSR, inputs: Inputs) -> SDDuSR:
    """The last bias moved so that about half of the LR is matched, and no place is in doubt."""
    last = built.mask_generator.decide[-1]
    assert isinstance(last, nn.Conv2d) and last.bias is not None
    with torch.no_grad():
        lr = F.pad(inputs.lr, (0, inputs.lr.shape[3] % 2, 0, inputs.lr.shape[2] % 2), "replicate")
        scores = built.mask_generator(built.matching_encoder(lr))
        ordered = (scores[:, 0] - scores[:, 1]).flatten().sort().values
        middle = slice(len(ordered) * 4 // 10, len(ordered) * 6 // 10)
        gap = ordered[middle].diff().argmax()
        last.bias[0] -= ordered[middle][gap : gap + 2].mean()
    return built


def matching_everywhere(built: SDDuSR) -> SDDuSR:
    last = built.mask_generator.decide[-1]
    assert isinstance(last, nn.Conv2d) and last.bias is not None
    with torch.no_grad():
        last.bias[0] += 1000
    return built


def test_parameters_by_part() -> None:
    built = SDDuSR()
    counted = {
        name: sum(values.numel() for values in part.parameters())
        for name, part in built.named_children()
    }
    assert counted == PARTS
    assert sum(values.numel() for values in built.parameters()) == 5_698_286
    assert "5,698,286" in str(SDDuSR.__doc__)
    for name, count in PARTS.items():
        assert f"`{name}`" in str(SDDuSR.__doc__) and f"| {count:,} |" in str(SDDuSR.__doc__)


def test_dictionaries_are_equations_6_to_11() -> None:
    """Written out with maps of keys and values; the reference has more places than one block."""
    torch.manual_seed(1)
    tokens, features, places = 5, 4, (260, 256)
    part = TokenDictionaries(tokens, features).double()
    with torch.no_grad():
        part.keep.fill_(0.4)
    lrc, ref = torch.randn(2, 2, features, *places, dtype=torch.float64) * 3
    lr = torch.randn(2, features, 270, 250, dtype=torch.float64)

    def rows(maps: torch.Tensor) -> torch.Tensor:
        return maps.flatten(2).transpose(1, 2)  # (B, places, features)

    attention = (part.query_up(part.lrc) @ part.key_up(rows(lrc)).transpose(1, 2)).softmax(2)
    s = 1 / (1 + math.exp(-0.4))
    d_lrc = s * part.lrc + (1 - s) * (attention @ part.value_up_lrc(rows(lrc)))
    d_ref = s * part.ref + (1 - s) * (attention @ part.value_up_ref(rows(ref)))
    learned = (part.query(rows(lr)) @ part.key(d_lrc).transpose(1, 2)).softmax(2)
    expected = (learned @ part.value(d_ref)).transpose(1, 2).view_as(lr)

    updated = part.update(lrc, ref)
    torch.testing.assert_close(updated.lrc, d_lrc)
    torch.testing.assert_close(updated.ref, d_ref)
    torch.testing.assert_close(part.learn(lr, updated), expected)


def test_dictionaries_start_normally_distributed_and_nothing_persists() -> None:
    torch.manual_seed(2)
    part = SDDuSR().dictionaries
    assert part.lrc.shape == part.ref.shape == (128, 64)
    for values in (part.lrc, part.ref):
        assert abs(values.mean()) < 0.05 and abs(values.std() - 1) < 0.05
    built = with_half_a_mask(network(), example())
    before = {name: values.clone() for name, values in built.state_dict().items()}
    with torch.no_grad():
        first = built(example()).sr
        built(example(30, 20))
        again = built(example()).sr
    assert torch.equal(first, again)
    assert all(torch.equal(before[name], values) for name, values in built.state_dict().items())


def test_sampled_masks_are_binary_follow_their_scores_and_carry_gradients() -> None:
    torch.manual_seed(3)
    generator = MaskGenerator(4, 8)
    features = torch.randn(2, 4, 40, 40)
    mask = generator.sample(features)
    assert mask.shape == (2, 40, 40) and set(mask.unique().tolist()) == {0.0, 1.0}
    expected = generator(features).softmax(1)[:, 0].mean()
    assert abs(mask.mean() - expected) < 0.05
    mask.sum().backward()
    assert all(bool((values.grad != 0).any()) for values in generator.parameters())
    chosen = generator.choose(features)
    assert chosen.dtype == torch.bool
    assert torch.equal(chosen, generator(features).argmax(1) == 0)


def test_inference_matches_chosen_queries_with_chosen_keys_only() -> None:
    """Against the whole similarity matrix, unfold and fold."""
    inputs = example(20, 28)
    built = with_half_a_mask(network(), inputs)
    with torch.no_grad():
        query, key = (built.matching_encoder(i) for i in (inputs.lr, inputs.lr_center()))
        queries, keys = (
            F.normalize(F.unfold(maps, 3, padding=1)[0], dim=0) for maps in (query, key)
        )
        scores = keys.t() @ queries  # (keys, queries): eq. 2
        wanted, usable = (built.mask_generator.choose(maps).flatten() for maps in (query, key))
        assert 0.3 < wanted.float().mean() < 0.7 and 0 < usable.float().mean() < 1
        best, index = scores.masked_fill(~usable[:, None], -torch.inf).max(dim=0)
        value, dictionaries = built._reference(inputs.lr_center(), inputs.ref, None)
        laid = F.unfold(value, 12, padding=4, stride=4)[0][:, index] * wanted
        warped = F.fold(laid[None], (40, 56), 12, padding=4, stride=4) / 9
        confidence = (best * wanted).view(1, 1, 10, 14)
        embedded = built.confidence(F.interpolate(confidence, scale_factor=4, mode="bicubic"))
        features = built.upsample(built.lr_encoder(inputs.lr))
        looked_up = built.dictionaries.learn(features, dictionaries)
        fused = built.fusion(torch.cat((features, embedded * warped, looked_up), dim=1))  # eq. 1
        expected = built.tail(fused + features)
        outputs = built(inputs)
    torch.testing.assert_close(outputs.sr, expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(outputs.maps["confidence"], confidence, atol=1e-5, rtol=0)
    assert torch.equal(outputs.maps["mask"].flatten() > 0, wanted)


def test_training_equals_inference_where_all_is_matched() -> None:
    inputs = example()
    built = matching_everywhere(network())
    with torch.no_grad():
        inferred = built(inputs)
        trained = built.train()(inputs)
    assert bool((inferred.maps["mask"] == 1).all()) and bool((trained.maps["mask"] == 1).all())
    torch.testing.assert_close(inferred.sr, trained.sr, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(
        inferred.maps["confidence"], trained.maps["confidence"], atol=1e-5, rtol=0
    )


def test_a_patch_beside_the_lr_can_be_the_centre() -> None:
    """As in KeDuSR's training: nothing but the box says that it is a part of the LR."""
    inside = example()
    beside = replace(inside, center=inside.lr_center(), box=torch.zeros_like(inside.box))
    built = matching_everywhere(network()).train()
    with torch.no_grad():
        assert torch.equal(built(inside).sr, built(beside).sr)


def test_compact_twins_add_the_bicubic_enlargement() -> None:
    assert SDDuSRConfig.compact().skip and not SDDuSRConfig().skip
    inputs = example(13, 10)
    with torch.no_grad():
        added = network(replace(LETTERS, skip=True))(inputs).sr - network()(inputs).sr
    expected = F.interpolate(inputs.lr, scale_factor=2, mode="bicubic")
    torch.testing.assert_close(added, expected, atol=1e-5, rtol=0)


def test_training_masks_queries_only() -> None:
    torch.manual_seed(4)
    inputs = example()
    maps = with_half_a_mask(network(), inputs).train()(inputs).maps
    assert 0 < maps["mask"].mean() < 1
    assert torch.equal(maps["confidence"] != 0, maps["mask"] != 0)


def test_windows_give_the_whole() -> None:
    """Odd sides, windows that do not divide them, other windows to encode than to render."""
    inputs = example(61, 87, batch=2)
    config = replace(LETTERS, blocks=4, skip=True)
    built = with_half_a_mask(network(config), inputs)
    assert isinstance(built, Network) and built.scale == 2
    with torch.no_grad():
        for name, values in built.named_parameters():
            if ".channel" in name or ("fusion.blocks" in name and ".body." in name):
                values.mul_(3)  # so that gates differ from channel to channel
        whole = built(inputs)
        encoded = built.encode(inputs, 16)
        tiled = torch.full((2, 3, 122, 174), torch.nan)
        maps = {name: torch.full((2, 1, 31, 44), torch.nan) for name in ("mask", "confidence")}
        for top, left, bottom, right in windows(61, 87, 24):
            outputs = built.render(encoded, (top, left, bottom, right))
            tiled[:, :, 2 * top : 2 * bottom, 2 * left : 2 * right] = outputs.sr
            for name, values in maps.items():
                rows, columns = slice(top // 2, -(-bottom // 2)), slice(left // 2, -(-right // 2))
                values[:, :, rows, columns] = outputs.maps[name]
        first = replace(inputs, lr=inputs.lr[..., :24, :24], center=inputs.lr_center())
        alone = built(first).sr
    torch.testing.assert_close(tiled, whole.sr, atol=1e-4, rtol=0)
    for name, values in maps.items():
        torch.testing.assert_close(values, whole.maps[name], atol=1e-4, rtol=0)
    # Without the whole image's statistics a window is another: they are needed.
    assert (alone - whole.sr[:, :, :48, :48])[:, :, :24, :24].abs().max() > 1e-2


def test_cbam_gates_channels_then_places() -> None:
    torch.manual_seed(5)
    block = CBAMBlock(8)
    x = torch.randn(2, 8, 9, 7)
    detail = block.body(x)
    flat = detail.flatten(2)
    hidden = [block.channel(pooled[..., None, None]) for pooled in (flat.mean(2), flat.amax(2))]
    detail = detail * torch.sigmoid(hidden[0] + hidden[1])
    pooled = torch.stack((detail.amax(1), detail.mean(1)), 1)
    expected = x + detail * torch.sigmoid(block.spatial(pooled))
    torch.testing.assert_close(block(x), expected)


def test_every_parameter_learns() -> None:
    """Save sub_mean, the fixed normalisation of pixels. All that is rectified is made positive."""
    torch.manual_seed(6)
    inputs = example(batch=2)
    built = with_half_a_mask(network(), inputs).train()
    with torch.no_grad():
        for name, values in built.named_parameters():
            if name.endswith("conv_du.0.bias"):
                values.fill_(10.0)
    outputs = built(inputs)
    truth = torch.cat([picture(48, 64, n) for n in range(2)])
    label = detail_mask(truth, (outputs.maps["mask"].shape[2], outputs.maps["mask"].shape[3]))
    mask_loss = F.mse_loss(outputs.maps["mask"][:, 0], label.float())
    (F.l1_loss(outputs.sr, truth) + 1e-3 * mask_loss).backward()
    without = [
        name
        for name, values in built.named_parameters()
        if values.grad is None or not bool((values.grad != 0).any())
    ]
    assert without == ["matching_encoder.sub_mean.weight", "matching_encoder.sub_mean.bias"]
    assert all(
        bool(values.grad.isfinite().all())
        for values in built.parameters()
        if values.grad is not None
    )


def test_the_mask_loss_alone_teaches_the_mask() -> None:
    torch.manual_seed(7)
    hr = picture(96, 128)
    encoder, generator = MatchingEncoder(16), MaskGenerator(16, 32)
    encoder.start_from_vgg16()
    with torch.no_grad():
        features = encoder(F.avg_pool2d(hr, 2))
    label = detail_mask(hr, (24, 32))
    optimiser = torch.optim.Adam(generator.parameters(), 0.01)
    for _ in range(60):
        optimiser.zero_grad()
        F.mse_loss(generator.sample(features), label.float()).backward()
        optimiser.step()
    assert (generator.choose(features) == label).float().mean() > 0.9


@pytest.mark.parametrize("size", [(25, 33), (24, 31), (7, 5), (3, 2), (1, 1)])
@pytest.mark.parametrize("training", [False, True])
def test_any_size(size: tuple[int, int], training: bool) -> None:
    inputs = example(*size)
    built = matching_everywhere(network()).train(training)
    with torch.no_grad():
        outputs = built(inputs)
    assert outputs.sr.shape == (1, 3, 2 * size[0], 2 * size[1])
    assert bool(outputs.sr.isfinite().all())
    cells = (1, 1, -(-size[0] // 2), -(-size[1] // 2))
    assert outputs.maps["mask"].shape == outputs.maps["confidence"].shape == cells


def test_a_batch_is_one_by_one() -> None:
    inputs = example(26, 30, batch=3)
    built = with_half_a_mask(network(), inputs)
    with torch.no_grad():
        together = built(inputs)
        for n in range(3):
            one = slice(n, n + 1)
            alone = built(Inputs(inputs.lr[one], inputs.ref[one], inputs.box[one]))
            torch.testing.assert_close(alone.sr, together.sr[one], atol=1e-5, rtol=1e-5)
            for name, values in alone.maps.items():
                torch.testing.assert_close(values, together.maps[name][one], atol=1e-4, rtol=1e-4)


def test_a_photo_without_detail_is_matched_nowhere_and_has_a_result() -> None:
    built = network()
    last = built.mask_generator.decide[-1]
    assert isinstance(last, nn.Conv2d) and last.bias is not None
    with torch.no_grad():
        last.bias[0] -= 1000
        outputs = built(example())
    assert not outputs.maps["mask"].any() and not outputs.maps["confidence"].any()
    assert bool(outputs.sr.isfinite().all())


@pytest.mark.parametrize("training", [False, True])
def test_a_reference_of_another_size_is_refused(training: bool) -> None:
    inputs = example()
    with pytest.raises(ValueError, match="not twice"):
        network().train(training)(replace(inputs, ref=inputs.ref[:, :, 1:]))


def test_half_precision_is_near() -> None:
    inputs = example()
    built = matching_everywhere(network())
    with torch.no_grad():
        exact = built(inputs).sr
        with torch.autocast("cpu", torch.bfloat16):
            mixed = built.render(built.encode(inputs, 16), (0, 0, 24, 32)).sr.float()
        cast = built.to(torch.bfloat16)(inputs.to("cpu", torch.bfloat16)).sr.float()
    for near in (mixed, cast):
        # Some matches differ, and the features that they bring; all else is rounded.
        assert (near - exact).abs().mean() < 0.05 * exact.std()


def test_the_centres_mask_lies_in_its_box() -> None:
    inputs = example(23, 33)
    box = torch.tensor([[5, 2, 16, 18]])
    inputs = replace(inputs, box=box, ref=inputs.ref[:, :, :22, :32])
    built = with_half_a_mask(network(), inputs)
    with torch.no_grad():
        whole = built(inputs).maps["center_mask"]
        part = built.render(built.encode(inputs, 8), (8, 8, 16, 24)).maps["center_mask"]
        key = built.matching_encoder(F.pad(inputs.lr_center(), (0, 0, 0, 1), "replicate"))
        chosen = built.mask_generator.choose(key)[0].float()
    assert 0 < chosen.mean() < 1
    expected = torch.zeros(1, 1, 23, 33)
    expected[0, 0, 5:16, 2:18] = chosen.repeat_interleave(2, 0).repeat_interleave(2, 1)[:11]
    assert torch.equal(whole, expected)
    assert torch.equal(part, expected[:, :, 8:16, 8:24])


@pytest.mark.parametrize("tokens", [0, 6])
def test_the_networks_of_the_ablations(tokens: int) -> None:
    """Dense matching is sparse matching that leaves nothing out; there may be no dictionaries."""
    inputs, dense = example(), replace(LETTERS, sparse=False, tokens=tokens)
    built = network(dense)
    with torch.no_grad():
        whole = built(inputs)
        sparse = matching_everywhere(network(replace(dense, sparse=True)))(inputs)
        encoded = built.encode(inputs, 8)
        parts = [built.render(encoded, (top, 0, top + 8, 32)).sr for top in (0, 8, 16)]
    assert torch.equal(whole.sr, sparse.sr) and bool(whole.maps["mask"].all())
    torch.testing.assert_close(torch.cat(parts, dim=2), whole.sr, atol=1e-4, rtol=0)
    learned = built.train()(inputs)
    torch.testing.assert_close(learned.sr.detach(), whole.sr, atol=1e-4, rtol=0)
    learned.sr.mean().backward()
    idle = {
        name.split(".")[0]
        for name, values in built.named_parameters()
        if values.requires_grad and values.grad is None
    }
    assert idle == {"mask_generator"}
    assert (built.dictionaries is None) == (tokens == 0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"features": 30},
        {"groups": 3},
        {"tokens": -1},
        {"mask_features": 5},
        {"flow_widths": (4, 0)},
    ],
)
def test_what_cannot_be_built_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        SDDuSRConfig(**wrong)


def test_weights_come_back_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    inputs = example()
    saved = with_half_a_mask(network(), inputs)
    save_file(saved.state_dict(), path)
    loaded = SDDuSR(LETTERS).eval()
    load_into(loaded, read_weights(path), path)
    with torch.no_grad():
        assert torch.equal(loaded(inputs).sr, saved(inputs).sr)
    with pytest.raises(InputError, match="does not fit SDDuSR"):
        load_into(SDDuSR(SDDuSRConfig.compact()), read_weights(path), path)


def test_compact_configuration_gives_the_golden_result() -> None:
    inputs = example(27, 34)
    built = with_half_a_mask(network(SDDuSRConfig.compact()), inputs)
    with torch.no_grad():
        outputs = built(inputs)
    golden = np.load(GOLDEN)
    assert np.array_equal(outputs.maps["mask"].numpy().astype(bool), golden["mask"])
    np.testing.assert_allclose(outputs.sr[:, :, ::5, ::7].numpy(), golden["sr"], atol=1e-4, rtol=0)


if __name__ == "__main__":  # makes the golden file anew, where the network is meant to change
    inputs = example(27, 34)
    with torch.no_grad():
        outputs = with_half_a_mask(network(SDDuSRConfig.compact()), inputs)(inputs)
    np.savez_compressed(
        GOLDEN,
        mask=outputs.maps["mask"].numpy().astype(bool),
        sr=outputs.sr[:, :, ::5, ::7].numpy(),
    )
