"""Each loss against its equation, computed another way."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import scipy.ndimage
import scipy.special
import torch
from PIL import Image

from dualsr_cli.benchmark import lpips_layers, lpips_value
from dualsr_cli.errors import UsageError
from dualsr_cli.networks import Inputs, Outputs, pretrained_vgg
from dualsr_cli.training import LOSSES, FlowInputs, build_loss
from dualsr_cli.training._losses_adversarial import RelativisticGAN
from dualsr_cli.training._losses_features import contextual_distance, sliced


def images(seed: int, *shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).random(shape)).float()


def inputs(size: int = 8, batch: int = 2, **changes: Any) -> Inputs:
    box = torch.tensor([[0, 0, size, size]] * batch)
    given = {"hr": images(0, batch, 3, 2 * size, 2 * size), **changes}
    lr, ref = images(1, batch, 3, size, size), images(2, batch, 3, 2 * size, 2 * size)
    return Inputs(lr, ref, box, **given)


def outputs(size: int = 8, batch: int = 2, **maps: torch.Tensor) -> Outputs:
    return Outputs(images(3, batch, 3, 2 * size, 2 * size), maps)


def value(name: str, made: Outputs, given: Inputs, **settings: Any) -> float:
    return float(build_loss(name, settings)(made, given))


def truth(given: Inputs) -> torch.Tensor:
    assert given.hr is not None
    return given.hr


def test_charbonnier() -> None:
    made, given = outputs(), inputs()
    apart = (made.sr - truth(given)).double().numpy()
    expected = np.sqrt(apart**2 + 1e-6).mean()
    assert value("charbonnier", made, given) == pytest.approx(expected, rel=1e-5)
    # Of equal images the root of eps is left.
    same = Outputs(truth(given), {"sr_truth": made.sr})
    assert value("charbonnier", same, given) == pytest.approx(1e-3)
    assert value("charbonnier", same, given, image="sr_truth") == pytest.approx(expected, rel=1e-5)


def test_l1_of_the_result_and_of_a_map() -> None:
    given = inputs()
    made = outputs(pseudo_lr=given.lr + 0.25)
    assert value("l1", made, given) == pytest.approx(
        float((made.sr - truth(given)).abs().double().mean())
    )
    assert value("l1", made, given, image="pseudo_lr", target="lr") == pytest.approx(0.25)


def test_blurred_l1_equals_scipys_blur() -> None:
    made, given = outputs(), inputs()
    expected = []
    for image, sharp in zip(made.sr.double().numpy(), truth(given).double().numpy(), strict=True):
        blurred = [
            scipy.ndimage.gaussian_filter(values, (0, 0.5, 0.5), mode="mirror", radius=(0, 1, 1))
            for values in (image, sharp)
        ]
        expected.append(np.abs(blurred[0] - blurred[1]).mean())
    assert value("blurred-l1", made, given) == pytest.approx(np.mean(expected), rel=1e-4)
    assert value("blurred-l1", made, given, sigma=1.0) < np.mean(expected)


def test_adaptation_looks_at_the_reduced_result() -> None:
    made, given = outputs(), inputs()
    reduced = [
        np.asarray(Image.fromarray(plane).resize((8, 8), Image.Resampling.BICUBIC))
        for plane in made.sr.numpy().reshape(-1, 16, 16)
    ]
    expected = np.abs(np.array(reduced) - given.lr.numpy().reshape(-1, 8, 8)).mean()
    assert value("adaptation", made, given) == pytest.approx(expected, rel=1e-4)


def test_domain_warping_centroid() -> None:
    given = inputs()
    one, two = images(4, 2, 16), images(5, 2, 16)
    made = outputs(
        embedding=one,
        embedding_truth=two,
        warped=torch.cat([truth(given) + 0.5, truth(given)], dim=1),
        centroid=torch.tensor(3.5),
    )
    assert value("domain", made, given) == pytest.approx(np.abs((one - two).numpy()).mean())
    assert value("warping", made, given) == pytest.approx(0.25)  # of two references
    assert value("centroid", made, given) == 3.5


def test_mask_is_held_against_the_half_with_more_detail() -> None:
    sharp = torch.zeros(1, 3, 16, 16)
    sharp[:, :, :, ::2] = 1.0  # stripes, of which the upper half is left
    sharp[:, :, 8:] = 0.5
    given = Inputs(
        torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 16, 16), torch.tensor([[0, 0, 8, 8]]), sharp
    )
    mask = torch.zeros(1, 1, 4, 4)
    mask[:, :, :2] = 1.0
    made = Outputs(sharp, {"mask": mask})
    assert value("mask", made, given) == 0.0
    assert value("mask", Outputs(sharp, {"mask": 1 - mask}), given) == 1.0
    assert value("mask", Outputs(sharp, {"mask": torch.ones_like(mask)}), given) == 0.5


def test_perceptual_is_the_distance_of_features() -> None:
    made, given = outputs(), inputs()
    vgg = pretrained_vgg("vgg16", ["relu1_2", "conv2_1"])
    one, two = vgg(made.sr), vgg(truth(given))
    expected = 0.5 * (one["relu1_2"] - two["relu1_2"]).abs().mean()
    expected = expected + 2 * (one["conv2_1"] - two["conv2_1"]).abs().mean()
    found = value("perceptual", made, given, layers={"relu1_2": 0.5, "conv2_1": 2.0})
    assert found == pytest.approx(float(expected), rel=1e-5)


def test_lpips_is_the_benchs_and_teaches_the_result() -> None:
    made, given = outputs(size=32), inputs(size=32)
    levels = [255 * image.permute(0, 2, 3, 1).numpy() for image in (made.sr, truth(given))]
    expected = np.mean([lpips_value(lpips_layers(x, y)) for x, y in zip(*levels, strict=True)])
    assert value("lpips", made, given) == pytest.approx(float(expected), rel=1e-4)
    learned = made.sr.requires_grad_()
    loss = build_loss("lpips", {})
    loss(made, given).backward()
    assert learned.grad is not None and float(learned.grad.abs().sum()) > 0
    assert not [parameter for parameter in loss.parameters() if parameter.requires_grad]


def test_sliced_wasserstein_of_shuffled_features_is_none() -> None:
    features = images(0, 1, 4, 3, 3)
    directions = torch.eye(4)[:2]
    shuffled = features.flatten(2)[:, :, torch.randperm(9)].view_as(features)
    assert float(sliced(features, shuffled, directions)) == 0.0
    # Projected on its first channel, 9 values against 9 that are all larger by 2.
    assert float(sliced(features, features + 2, torch.eye(4)[:1])) == pytest.approx(2.0)
    one, two = features.numpy()[0].reshape(4, 9), images(1, 1, 4, 3, 3)
    drawn = np.random.default_rng(0).normal(size=(2, 4)).astype(np.float32)
    pairs = zip(drawn @ one, drawn @ two.numpy()[0].reshape(4, 9), strict=True)
    expected = np.mean([np.abs(np.sort(a) - np.sort(b)) for a, b in pairs])
    found = sliced(features, two, torch.from_numpy(drawn))
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_sliced_wasserstein_depends_on_the_seed_alone() -> None:
    made, given = outputs(), inputs()
    found = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        found.append(value("sliced-wasserstein", made, given, layers={"relu1_1": 1.0}))
    assert found[0] == found[1] != found[2]


def cx(x: torch.Tensor, y: torch.Tensor, bandwidth: float) -> list[float]:
    """-log max_j CX_ij, place by place; (C, places)."""
    middle = y.double().mean(dim=1, keepdim=True).numpy()
    one, two = x.double().numpy() - middle, y.double().numpy() - middle
    found = []
    for i in range(one.shape[1]):
        distances = np.array(
            [
                1 - one[:, i] @ two[:, j] / np.linalg.norm(one[:, i]) / np.linalg.norm(two[:, j])
                for j in range(two.shape[1])
            ]
        )
        weights = np.exp((1 - distances / (distances.min() + 1e-5)) / bandwidth)
        found.append(-math.log((weights / weights.sum()).max()))
    return found


def test_contextual_and_fidelity() -> None:
    """DCSR eq. 5 and 6, whose distance is that of the contextual loss."""
    x, y = images(0, 2, 5, 2, 3), images(1, 2, 5, 3, 3)
    expected = [cx(a.flatten(1), b.flatten(1), 0.5) for a, b in zip(x, y, strict=True)]
    np.testing.assert_allclose(contextual_distance(x, y, 0.5), expected, rtol=1e-3, atol=1e-6)

    confidence = images(4, 2, 1, 8, 8) - 0.2
    made, given = outputs(confidence=confidence), inputs()
    layers: Mapping[str, float] = {"relu2_1": 2.0}
    vgg = pretrained_vgg("vgg16", list(layers))
    sr, hr, ref = (
        [image.flatten(1) for image in vgg(batch)["relu2_1"]]
        for batch in (made.sr, truth(given), given.ref)
    )
    there = np.mean([cx(a, b, 0.5) for a, b in zip(sr, hr, strict=True)])
    back = np.mean([cx(b, a, 0.5) for a, b in zip(sr, hr, strict=True)])
    found = value("contextual", made, given, layers=layers)
    assert found == pytest.approx(2 * (there + back), rel=1e-3)

    weights = np.maximum(confidence.numpy(), 0).reshape(2, 64)  # the features have 8 x 8 places
    sums = [
        (np.array(cx(a, b, 0.5)) * c).sum() / c.sum()
        for a, b, c in zip(sr, ref, weights, strict=True)
    ]
    found = value("fidelity", made, given, layers=layers)
    assert found == pytest.approx(2 * np.mean(sums), rel=1e-3)


def test_relativistic_gan() -> None:
    """f is the cross-entropy; the gradients of each side reach that side alone."""
    torch.manual_seed(0)
    gan = build_loss("relativistic-gan", {"features": (8, 8)})
    assert isinstance(gan, RelativisticGAN)
    made, given = outputs(), inputs()
    made.sr.requires_grad_(True)
    with torch.no_grad():
        fake, real = gan.discriminator(made.sr).double(), gan.discriminator(truth(given)).double()

    def f(scores: torch.Tensor, target: float) -> float:
        chances = 1 / (1 + np.exp(-scores.numpy()))
        return float(-(target * np.log(chances) + (1 - target) * np.log(1 - chances)).mean())

    generator, discriminator = (
        0.5 * (f(fake - real.mean(), wanted) + f(real - fake.mean(), 1 - wanted))
        for wanted in (1.0, 0.0)
    )
    loss = gan(made, given)
    assert loss.item() == pytest.approx(generator, rel=1e-4)
    loss.backward()
    assert made.sr.grad is not None and made.sr.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in gan.parameters())
    made.sr.grad = None
    loss = gan.discriminate(made, given)
    assert loss.item() == pytest.approx(discriminator, rel=1e-4)
    loss.backward()
    assert made.sr.grad is None
    assert all(parameter.grad is not None for parameter in gan.parameters())


def test_distillation_is_the_divergence_from_the_teacher() -> None:
    given = inputs(size=16)
    query, key = images(6, 2, 8, 4, 4), images(7, 2, 8, 8, 8)
    made = outputs(size=16, query=query, key=key)
    vgg = pretrained_vgg("vgg16", ["relu3_1"])
    seen = vgg(truth(given))["relu3_1"].reshape(2, 256, 4, 2, 4, 2).mean(dim=(3, 5))
    shown = vgg(given.ref)["relu3_1"]

    def chances(one: torch.Tensor, two: torch.Tensor) -> np.ndarray[Any, np.dtype[np.float64]]:
        a, b = (maps.flatten(2).double().numpy() for maps in (one, two))
        a, b = (maps / np.linalg.norm(maps, axis=1, keepdims=True) for maps in (a, b))
        scores = np.exp(np.einsum("ncq,nck->nqk", a, b) / 0.15)
        return np.asarray(scores / scores.sum(axis=2, keepdims=True))

    wanted, found = chances(seen, shown), chances(query, key)
    expected = (wanted * np.log(wanted / found)).sum(axis=2).mean()
    assert value("distillation", made, given) == pytest.approx(expected, rel=1e-3)


def test_correspondence_wants_the_place_that_ref_shows() -> None:
    """Ref shows LR from (8, 16) on at twice the resolution: two of its places for one of LR."""
    key = torch.eye(64)[None].view(1, 64, 8, 8)  # each place is like itself alone
    box = torch.tensor([[8, 16, 24, 32]])
    given = Inputs(torch.zeros(1, 3, 32, 40), torch.zeros(1, 3, 32, 32), box)
    query = torch.zeros(1, 64, 8, 10)
    rows, columns = torch.meshgrid(torch.arange(2, 6), torch.arange(4, 8), indexing="ij")
    down, right = 2 * (rows - 2) + 1, 2 * (columns - 4) + 1  # the middles of 2 x 2 of Ref's
    query[0, (down * 8 + right).flatten(), rows.flatten(), columns.flatten()] = 1.0
    made = Outputs(torch.zeros(1), {"query": query, "key": key})
    # The positive is at distance 0, all others at 2: more than the margin.
    assert value("correspondence", made, given, radius=0) == 0.0
    assert value("correspondence", made, given, radius=0, margin=3.0) == pytest.approx(1.0)
    # Moved by a place, it is the positive that lies at 2 and a negative at 0.
    moved = Outputs(torch.zeros(1), {"query": query.roll(1, dims=3), "key": key})
    assert value("correspondence", moved, given, radius=0) > 2.0
    assert value("correspondence", moved, given, radius=9) == 0.0  # no negative is far enough


def test_end_point_error_over_scales() -> None:
    flow = torch.zeros(1, 2, 4, 4)
    flow[:, 0] = 3.0
    image = torch.zeros(1, 3, 4, 4)
    given = FlowInputs(image, image, torch.tensor([[0, 0, 4, 4]]), flow=flow)
    coarse, fine = torch.zeros(1, 2, 2, 2), torch.zeros(1, 2, 4, 4)
    fine[:, 1] = 4.0  # (0, 4) for (3, 0): 5 pixels off
    made = Outputs(image, {"flow/1": coarse, "flow/2": fine})
    assert value("end-point-error", made, given, decay=0.5) == pytest.approx(0.5 * 3 + 5)


def test_matching_is_the_cross_entropy_of_where_places_move_to() -> None:
    """Two volumes of 2 x 4 and 4 x 8 places, reach 1; the flow is (1.5, -1) pixels of 4 x 8."""
    image = torch.zeros(1, 3, 4, 8)
    flow = torch.tensor([1.5, -1.0])[None, :, None, None].expand(1, 2, 4, 8)
    given = FlowInputs(image, image, torch.tensor([[0, 0, 4, 8]]), flow=flow)
    coarse, fine = images(4, 1, 9, 2, 4), images(5, 1, 9, 4, 8)
    costs = []
    # (dy, dx) = (-0.5, 0.75): of the places of the second row, but for the last column.
    for place in range(3):
        scores = scipy.special.log_softmax(3 * coarse[0, :, 1, place].numpy().reshape(3, 3))
        told = np.outer([0.5, 0.5, 0], [0, 0.25, 0.75]) * scores
        mean = np.log(np.exp(3 * coarse[0, :, 1, place].numpy()).mean())
        costs.append(0.2 * mean**2 - told.sum())
    made = Outputs(image, {"volume/1": fine, "volume/2": coarse})  # (-1, 1.5): beyond the reach
    assert value("matching", made, given, scale=3, level=0.2) == pytest.approx(np.mean(costs))
    still = FlowInputs(image, image, given.box, flow=torch.zeros(1, 2, 4, 8))
    entropy = -torch.cat([v.log_softmax(1)[0, 4].flatten() for v in (coarse, fine)]).mean()
    assert value("matching", made, still, level=0) == pytest.approx(float(entropy))
    far = FlowInputs(image, image, given.box, flow=torch.full((1, 2, 4, 8), 9.0))
    assert value("matching", made, far) == 0


def test_matching_is_least_where_likeness_is_that_of_the_truth() -> None:
    image = torch.zeros(1, 3, 6, 6)
    flow = torch.zeros(1, 2, 6, 6)
    flow[:, 0] = 1
    given = FlowInputs(image, image, torch.tensor([[0, 0, 6, 6]]), flow=flow)
    values = {}
    for offset in range(9):  # dx varies first
        volume = torch.full((1, 9, 6, 6), -5.0)
        volume[:, offset] = 5
        values[offset] = value("matching", Outputs(image, {"volume/1": volume}), given, level=0)
    assert values.pop(5) < 0.01
    assert min(values.values()) > 9


def test_what_a_loss_misses_is_told() -> None:
    made, given = outputs(), inputs(hr=None)
    for name, sentence in (("l1", "needs the truth"), ("end-point-error", "kind flow")):
        with pytest.raises(UsageError, match=sentence):
            value(name, made, given)
    with pytest.raises(UsageError, match="needs 'sr_truth', which this network does not give"):
        value("l1", made, inputs(), image="sr_truth")
    with pytest.raises(UsageError, match="needs maps named volume/"):
        image = given.lr
        value("matching", made, FlowInputs(image, image, given.box, flow=image[:, :2]))
    with pytest.raises(UsageError, match="there is no loss 'l3'"):
        build_loss("l3", {})
    with pytest.raises(UsageError, match="the loss l1 cannot be built"):
        build_loss("l1", {"colour": 3})
    with pytest.raises(UsageError, match="are not layers of vgg16"):
        build_loss("perceptual", {"layers": {"relu9_9": 1.0}})


def test_the_table_names_all_that_recipes_may_ask_for() -> None:
    assert {"charbonnier", "l1", "perceptual", "relativistic-gan", "fidelity"} < set(LOSSES)
