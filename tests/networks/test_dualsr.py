"""DualSR: windows, scales, what a reference may and may not do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from dualsr_cli.networks import (
    Inputs,
    _dualsr_agreement,
    build,
    dualsr,
    load_into,
    read_weights,
    windows,
)
from dualsr_cli.networks._dualsr_agreement import bands, maps, statistics, totals
from dualsr_cli.networks._dualsr_lenses import estimated, estimates
from dualsr_cli.networks.dualsr import PARTS, DualSR, DualSRConfig

SMALL = DualSRConfig(features=8, blocks=(1, 1), domain=6)


def image(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def inputs(scale: int = 2, size: tuple[int, int] = (61, 75), batch: int = 1) -> Inputs:
    height, width = size
    top, left, bottom, right = height // 4, width // 3, height // 4 + 27, width // 3 + 34
    shape = (scale * (bottom - top), scale * (right - left))
    sure = image(batch, 1, *shape, seed=2)
    sure[:, :, :5] = 0
    return Inputs(
        image(batch, 3, height, width),
        image(batch, 3, *shape, seed=1),
        torch.tensor([[top, left, bottom, right]] * batch),
        confidence=sure,
    )


def network(scale: int = 2, config: DualSRConfig = SMALL) -> DualSR:
    torch.manual_seed(0)
    made = DualSR(replace(config, scale=scale)).eval().requires_grad_(False)
    for parameter in made.parameters():  # so that all parts have a say
        parameter.add_(0.05 * torch.randn_like(parameter))
    return made


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("tile", [16, 40])
@pytest.mark.parametrize("lenses", [False, True])
def test_windows_make_the_whole(scale: int, tile: int, lenses: bool) -> None:
    net, given = network(scale, replace(SMALL, lenses=lenses)), inputs(scale)
    whole = net(given).sr
    assert whole.shape == (1, 3, 61 * scale, 75 * scale)
    encoded = net.encode(given, tile)
    for window in windows(61, 75, tile):
        made = net.render(encoded, window)
        top, left, bottom, right = (scale * edge for edge in window)
        assert (made.sr - whole[:, :, top:bottom, left:right]).abs().max() < 1e-4
        assert made.maps["weight"].shape[2:] == made.sr.shape[2:]


@pytest.mark.parametrize("size", [(64, 64), (33, 90), (200, 57)])
@pytest.mark.parametrize("lenses", [False, True])
def test_any_size(size: tuple[int, int], lenses: bool) -> None:
    height, width = size
    box = torch.tensor([[0, 1, 1, 4]])
    given = Inputs(image(1, 3, height, width), image(1, 3, 2, 6), box)
    net = network(config=replace(SMALL, lenses=lenses))
    assert net(given).sr.shape == (1, 3, 2 * height, 2 * width)


@pytest.mark.parametrize("part", PARTS)
def test_a_part_left_out_does_nothing_and_learns_nothing(part: str) -> None:
    config = replace(SMALL, lenses=True)
    whole, given = network(config=config), inputs()
    without = DualSR(replace(config, without=(part,)))
    without.load_state_dict(whole.state_dict())
    without.eval()
    made = without(given)
    assert not torch.allclose(made.sr, whole(given).sr)
    assert bool(made.maps["flow"].any()) == (part != "flow")
    assert bool(made.maps["weight"].any()) == (part != "mask")
    idle = unlearned(without) - unlearned(DualSR(config))
    modules = {name.split(".")[0] for name in idle}
    assert modules == (
        {"domain", "before", "after"} if part == "domain" else {part} - {"mask", "lenses"}
    )


def unlearned(net: DualSR) -> set[str]:
    """The parameters that get no gradient."""
    net.train()(inputs()).sr.square().mean().backward()
    return {
        name
        for name, values in net.named_parameters()
        if values.grad is None or not values.grad.any()
    }


def test_nearness_is_how_much_of_the_reference_is_drawn_without_it() -> None:
    """A reference that shows just what the network adds, twice as much, half and its opposite."""
    net = network(config=replace(SMALL, without=("domain",)))  # nothing of it tells of lenses
    lr, box = image(1, 3, 64, 64), torch.tensor([[0, 0, 64, 64]])
    nothing = Inputs(lr, lr.new_zeros(1, 3, 128, 128), box, confidence=lr.new_zeros(1, 1, 128, 128))
    plain = F.interpolate(lr, scale_factor=2, mode="bicubic")
    added = net(nothing).sr - plain
    for share, near in ((1, 1), (2, 0.75), (0.5, 1), (-1, 0)):
        found = net.nearness(Inputs(lr, plain + share * added, box))
        assert found == pytest.approx(near, abs=1e-2)


def test_nearness_is_of_what_has_the_wide_photos_light() -> None:
    """A bar or a writing on the reference tells nothing of what is drawn."""
    net = network(config=replace(SMALL, without=("domain",)))
    lr, box = image(1, 3, 64, 64), torch.tensor([[0, 0, 64, 64]])
    nothing = Inputs(lr, lr.new_zeros(1, 3, 128, 128), box, confidence=lr.new_zeros(1, 1, 128, 128))
    reference = net(nothing).sr.clone()
    reference[..., 96:, :] = image(1, 3, 32, 128, seed=9) + 0.5
    assert net.nearness(Inputs(lr, reference, box)) == pytest.approx(1, abs=1e-2)


def test_what_is_no_part_cannot_be_left_out() -> None:
    with pytest.raises(ValueError, match="without head: what can be left out is domain, flow"):
        DualSRConfig(without=("head",))


def test_a_batch_is_its_images() -> None:
    net, given = network(), inputs(batch=2)
    both = net(given).sr
    for n in range(2):
        part = Inputs(
            given.lr[n : n + 1],
            given.ref[n : n + 1],
            given.box[n : n + 1],
            confidence=given.confidence[n : n + 1] if given.confidence is not None else None,
        )
        assert (net(part).sr - both[n : n + 1]).abs().max() < 1e-5


def test_where_the_reference_shows_nothing_its_colours_do_not_count() -> None:
    net, given = network(), inputs()
    assert given.confidence is not None
    other = torch.where(given.confidence > 0, given.ref, 1 - given.ref)
    assert torch.equal(net(given).sr, net(replace(given, ref=other)).sr)
    nothing = replace(given, confidence=torch.zeros_like(given.confidence))
    assert (net(nothing).maps["weight"] == 0).all()


def test_without_a_confidence_all_of_the_reference_counts() -> None:
    given = replace(inputs(), confidence=None)
    ones = replace(given, confidence=torch.ones_like(given.ref[:, :1]))
    assert torch.equal(network()(given).sr, network()(ones).sr)


@pytest.mark.parametrize("box", [(-27, 3, 0, 37), (61, -90, 88, -56), (0, 0, 0, 0)])
def test_a_key_patch_beside_the_patch_tells_of_the_lenses_alone(box: tuple[int, ...]) -> None:
    given = inputs()
    center = image(1, 3, 27, 34, seed=5)
    beside = replace(given, center=center, box=torch.tensor([box]))
    made = network()(beside)
    assert (made.maps["weight"] == 0).all()
    other = network()(replace(beside, ref=1 - given.ref))
    assert not torch.equal(made.sr, other.sr)


@pytest.mark.parametrize("box", [(0, 0, 27, 34), (-9, 60, 18, 94), (50, -20, 77, 14)])
def test_a_key_patch_lies_on_the_patch_as_far_as_its_box_meets_it(box: tuple[int, ...]) -> None:
    """As what is left of the reference where the rest of it shows nothing of the patch."""
    net = network()
    center = image(1, 3, 27, 34, seed=5)
    given = replace(inputs(), confidence=None, center=center, box=torch.tensor([box]))
    encoded = net.encode(given)
    top, left, bottom, right = max(0, box[0]), max(0, box[1]), min(61, box[2]), min(75, box[3])
    part = encoded.reference[
        :, :, 2 * (top - box[0]) : 2 * (bottom - box[0]), 2 * (left - box[1]) : 2 * (right - box[1])
    ]
    clipped = replace(encoded, reference=part, boxes=[[top, left, bottom, right]])
    made, expected = (net.render(each, (0, 0, 61, 75)) for each in (encoded, clipped))
    assert torch.equal(made.sr, expected.sr)
    weight = made.maps["weight"]
    assert (weight[:, :, 2 * top : 2 * bottom, 2 * left : 2 * right] > 0).float().mean() > 0.5
    shown = torch.zeros_like(weight)
    shown[:, :, max(0, 2 * top - 8) : 2 * bottom + 8, max(0, 2 * left - 8) : 2 * right + 8] = 1
    assert (weight[shown == 0] == 0).all()


def test_what_the_reference_does_not_confirm_is_not_drawn_beside_it() -> None:
    """By half where it shows half of what is drawn without it, or a mixture with what an estimate
    for one lens shows; light does not count."""
    net = network()
    for block in (*net.before, *net.after):  # what is drawn is the same for all references
        block.gamma.weight.zero_()
    given = inputs(size=(62, 180))
    top, left, bottom, right = given.box[0].tolist()
    there = np.s_[..., 2 * top : 2 * bottom, 2 * left : 2 * right]
    plain = F.interpolate(given.lr, scale_factor=2, mode="bicubic")
    encoded = net.encode(given)
    all_of_it, nothing = torch.ones(1, 1, 1, 1), torch.zeros_like(encoded.reference)
    alone = replace(encoded, reference=nothing, belief=all_of_it)
    drawn = net.render(alone, (0, 0, 62, 180)).sr
    lens = estimated(given.lr, estimates(2)[10][None])
    beside = np.s_[..., 2 * (right + net.margin) :]  # out of the reference's reach
    for of_drawn, of_lens in ((0.0, 0.0), (0.5, 0.0), (1.0, 0.0), (0.0, 1.0), (0.3, 0.6)):
        expected = plain + of_drawn * (drawn - plain) + of_lens * (lens - plain)
        told = net.encode(replace(given, ref=expected[there] + 0.07))
        if of_lens in (0, 1):  # what is drawn may look like an estimate in part
            assert float(told.belief) == pytest.approx(of_drawn, abs=0.06)
        sr = net.render(told, (0, 0, 62, 180)).sr[beside]
        apart = (expected - plain)[beside].abs().mean() + 0.01
        assert sr.numel() > 0 and (sr - expected[beside]).abs().mean() < 0.1 * apart
    net.train()
    told = net.encode(given)
    assert torch.equal(told.belief, all_of_it) and not told.beside.any()
    sure = DualSR(replace(net.config, doubts=False)).eval()
    sure.load_state_dict(net.state_dict())
    told = sure.encode(replace(given, ref=plain[there]))
    assert torch.equal(told.belief, all_of_it) and not told.beside.any()


def test_what_the_wide_photo_does_not_show_tells_nothing_of_lenses() -> None:
    """A reference that shows a lens's estimate above, and another scene below."""
    net = network(config=replace(SMALL, lenses=True))
    lr = image(1, 3, 96, 96)
    lens = estimates(2)[9][None]
    ref = estimated(lr, lens)
    ref[:, :, 128:] = image(1, 3, 64, 192, seed=7)
    base = net.encode(Inputs(lr, ref, torch.tensor([[0, 0, 96, 96]]))).base
    assert base is not None
    error = (estimated(lr, base) - estimated(lr, lens)).abs().mean()
    assert (
        error
        < 0.12
        * (estimated(lr, lens) - F.interpolate(lr, scale_factor=2, mode="bicubic")).abs().mean()
    )


@pytest.mark.parametrize("lens", [0, 5, 9])
def test_base_undoes_the_lens_that_the_reference_tells_of(lens: int) -> None:
    net = network(config=replace(SMALL, lenses=True))
    for tail in (net.share, *net.tails.values()):
        for parameter in tail.parameters():
            parameter.zero_()
    lr = image(2, 3, 64, 72)
    known = estimated(lr, estimates(2)[lens].expand(2, -1, -1, -1))
    given = Inputs(lr, known[:, :, 20:80, 40:100], torch.tensor([[10, 20, 40, 50]] * 2))
    base = net.encode(given).base
    assert base is not None
    plain = F.interpolate(lr, scale_factor=2, mode="bicubic")
    assert (estimated(lr, base) - known).abs().mean() < 0.1 * (known - plain).abs().mean()
    nothing = net.encode(replace(given, confidence=torch.zeros(2, 1, 60, 60))).base
    assert nothing is not None and torch.allclose(nothing, estimates(2)[0].expand(2, -1, -1, -1))


def test_of_a_reference_that_shows_nothing_all_that_is_drawn_is_believed() -> None:
    given = inputs()
    told = network().encode(replace(given, confidence=torch.zeros_like(given.ref[:, :1])))
    assert float(told.belief) == 1 and not told.beside.any()


def test_a_new_network_begins_at_the_enlarged_photo() -> None:
    torch.manual_seed(0)
    given = inputs()
    sr = DualSR(DualSRConfig()).eval()(replace(given, confidence=0 * given.ref[:, :1])).sr
    base = F.interpolate(given.lr, scale_factor=2, mode="bicubic")
    assert (sr - base).abs().mean() < 0.1


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_where_nothing_is_drawn_the_enlargement_is_back_projected_bicubic(scale: int) -> None:
    given = inputs(scale, (60, 74))
    made = network(scale)
    for tail in (made.share, *made.tails.values()):
        for parameter in tail.parameters():
            parameter.zero_()
    size = (scale * given.lr.shape[2], scale * given.lr.shape[3])
    expected = F.interpolate(given.lr, size, mode="bicubic")
    # Two steps, and half of a third: a share of zero's sigmoid.
    for share in (1.0, 1.0, 0.5):
        small = F.interpolate(expected, given.lr.shape[2:], mode="bicubic", antialias=True)
        expected += F.interpolate(share * (given.lr - small), size, mode="bicubic")
    blank = replace(
        given, ref=torch.zeros_like(given.ref), confidence=torch.zeros_like(given.ref[:, :1])
    )
    torch.testing.assert_close(made(blank).sr, expected, rtol=0, atol=2e-5)


def test_how_well_the_photos_agree_is_seen_in_their_finest_bands() -> None:
    lr = F.interpolate(image(1, 3, 40, 44), scale_factor=2, mode="bicubic").clamp(0, 1)
    base = F.interpolate(lr, scale_factor=2, mode="nearest")

    def seen(reference: torch.Tensor) -> list[float]:
        detail = torch.cat([reference - base, torch.ones_like(base[:, :1])], 1)
        energies = bands(lr, detail, 2)
        whole = statistics(totals(energies, (0, 0, 40, 44)))[0]
        assert float(maps(energies)[:, 0].mean()) == pytest.approx(float(whole[0]), abs=0.1)
        return [float(value) for value in whole[:4]]

    assert seen(base) == pytest.approx([1, 1, 1, 1], abs=0.02)
    middle = base.mean()
    assert seen(middle + 2 * (base - middle))[2:] == pytest.approx([0.5, 0.5], abs=0.02)
    other = F.interpolate(image(1, 3, 80, 88, seed=5), scale_factor=2, mode="nearest")
    assert seen(other)[:2] == pytest.approx([0, 0], abs=0.15)
    nothing = torch.zeros(1, 4, 160, 176)
    assert not statistics(totals(bands(lr, nothing, 2), (0, 0, 40, 44))).any()
    assert not maps(bands(lr, nothing, 2)).any()


def test_every_parameter_of_the_scale_in_use_learns() -> None:
    torch.manual_seed(0)
    net = DualSR(SMALL).train()
    outputs = net(inputs(size=(40, 64)))
    (outputs.sr - 0.5).square().mean().backward()
    idle = {name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()}
    heads = ("ref_heads.", "moved_heads.", "tails.")
    assert {name for name in idle if not any(h in name for h in heads)} == set()
    assert {name for name in idle if ".2." in name} == set()


def test_what_was_prepared_when_inferring_is_of_use_in_training() -> None:
    for prepared in (dualsr._cubic_filters, _dualsr_agreement._gaussian, estimates):
        prepared.cache_clear()
    net = DualSR(replace(SMALL, lenses=True)).eval()
    with torch.inference_mode():
        net(inputs(size=(40, 64)))
    net.train()(inputs(size=(40, 64))).sr.sum().backward()


def test_weights_come_back(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    net = network()
    save_file(net.state_dict(), tmp_path / "w.safetensors")
    other = build("dualsr", {"features": 8, "blocks": (1, 1), "domain": 6})
    load_into(other, read_weights(tmp_path / "w.safetensors"), tmp_path / "w.safetensors")
    assert torch.equal(other.eval()(inputs()).sr, net(inputs()).sr)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="no head for a scale of 5"):
        DualSRConfig(scale=5)
    with pytest.raises(ValueError, match="blocks"):
        DualSRConfig(blocks=(1,))  # type: ignore[arg-type]
    given = inputs(3)
    with pytest.raises(ValueError, match="is not 2 x its box"):
        network(2)(given)
    with pytest.raises(ValueError, match=r"confidence .* is not of ref"):
        network(3)(replace(given, confidence=torch.ones(1, 1, 5, 5)))
