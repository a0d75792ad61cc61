"""Patches: what belongs together stays together, wherever it is cut and however it is turned."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
import torch

from dualsr_cli.networks import Inputs
from dualsr_cli.training import Data
from dualsr_cli.training.patches import (
    CUTTERS,
    Inside,
    Laid,
    Nearby,
    Patches,
    Same,
    Triplet,
    cut,
    scale_of,
    turned,
)

Rgb = npt.NDArray[np.uint8]


def mapped(
    height: int = 160, width: int = 240, box: tuple[int, int, int, int] = (30, 60, 140, 200)
):
    """A case at scale 2 whose colours tell the row and column of each LR pixel."""
    y, x = np.mgrid[0:height, 0:width]
    lr = np.dstack([y, x, np.full_like(y, 7)]).astype(np.uint8)
    hr = lr.repeat(2, axis=0).repeat(2, axis=1)
    top, left, bottom, right = box
    return Triplet(lr, hr[2 * top : 2 * bottom, 2 * left : 2 * right], box, hr)


def reduced(image: torch.Tensor) -> torch.Tensor:
    return image[..., ::2, ::2]


def where_both_are(inputs: Inputs) -> tuple[torch.Tensor, torch.Tensor]:
    """What lr and center show of the same, as `box` tells it."""
    top, left, bottom, right = inputs.box[0].tolist()
    height, width = inputs.lr.shape[2:]
    rows, columns = (max(0, top), min(height, bottom)), (max(0, left), min(width, right))
    if rows[0] >= rows[1] or columns[0] >= columns[1]:
        return torch.zeros(0), torch.zeros(0)
    own = inputs.lr[..., slice(*rows), slice(*columns)]
    rows, columns = (rows[0] - top, rows[1] - top), (columns[0] - left, columns[1] - left)
    return own, inputs.lr_center()[..., slice(*rows), slice(*columns)]


def place(image: torch.Tensor) -> tuple[int, int]:
    """Least row and column in a patch."""
    row, column = (image[0, :2].flatten(1).amin(1) * 255).round().int().tolist()
    return row, column


def elsewhere(case: Triplet, height: int = 120, width: int = 180) -> Triplet:
    """With another photo as its reference, its third channel tells the two apart."""
    center = mapped(height, width).lr + np.array([0, 0, 9], np.uint8)
    ref = center.repeat(2, axis=0).repeat(2, axis=1)
    return Triplet(case.lr, ref, (0, 0, height, width), case.hr, center=center)


@pytest.mark.parametrize("cutter", [Nearby((32, 32), (8, 24), 4), Same((40, 48), (0, 15))], ids=str)
@pytest.mark.parametrize("size", [(120, 180), (60, 300)], ids=str)
def test_a_reference_that_is_another_photo_has_no_box(
    cutter: Nearby | Same, size: tuple[int, int]
) -> None:
    patches = Patches([elsewhere(mapped(90, 200, (10, 10, 60, 60)), *size)], cutter)
    for index in range(8):
        inputs = patches.sample(index, 0)
        assert inputs.hr is not None and inputs.center is not None
        assert inputs.lr.shape == inputs.center.shape == (1, 3, *cutter.patch)
        assert torch.equal(reduced(inputs.hr), inputs.lr)
        assert torch.equal(reduced(inputs.ref), inputs.center)
        told = [round(255 * float(image[0, 2].mean())) for image in (inputs.lr, inputs.center)]
        assert told == [7, 16] and not inputs.box.any()
    with pytest.raises(ValueError, match="no place on it"):
        Laid()(elsewhere(mapped()), np.random.default_rng(0))


CASES = [
    Nearby((32, 32), (8, 24), 4),
    Nearby((32, 32), (0, 40), on=0.5),
    Same((40, 48), (0, 15)),
    Same((40, 48), (0, 0)),
    Inside((48, 32)),
]


@pytest.mark.parametrize("cutter", CASES, ids=str)
def test_what_belongs_together_is_cut_together(cutter: Nearby | Same | Inside) -> None:
    patches = Patches([mapped()], cutter, per_case=24)
    assert len(patches) == 24
    for index in range(24):
        inputs = patches.sample(index, 0)
        assert inputs.hr is not None
        assert inputs.lr.shape[2:] == cutter.patch
        assert torch.equal(reduced(inputs.hr), inputs.lr)
        assert torch.equal(reduced(inputs.ref), inputs.lr_center())
        if inputs.center is not None:
            assert torch.equal(*where_both_are(inputs))


@pytest.mark.parametrize("cutter", CASES[:4], ids=str)
def test_several_references_are_cut_alike(cutter: Nearby | Same) -> None:
    case = mapped()
    both = replace(case, ref=np.concatenate([case.ref, 255 - case.ref], axis=2))
    for index in range(4):
        one, two = (Patches([each], cutter).sample(index, 0) for each in (case, both))
        assert torch.equal(two.lr, one.lr) and torch.equal(two.ref, one.ref)
        (more,) = two.more_refs
        torch.testing.assert_close(more, 1 - one.ref)


def test_patches_are_the_same_for_the_same_seeds() -> None:
    first, again = (Patches([mapped()], Nearby((32, 32)), seed=4) for _ in range(2))
    told = [first.sample(index, 2).lr for index in range(6)]
    assert all(torch.equal(again.sample(i, 2).lr, told[i]) for i in reversed(range(6)))
    assert len({place(lr) for lr in told}) > 3
    assert not all(torch.equal(first.sample(i, 3).lr, told[i]) for i in range(6))


def test_kedusr_key_patch_lies_beside_and_in_the_box() -> None:
    case = mapped(200, 240, (0, 0, 200, 240))
    steps = []
    for index in range(60):
        inputs = Patches([case], Nearby((32, 32), (20, 40), 10)).sample(index, 0)
        assert inputs.center is not None
        row, column = place(inputs.center)
        assert 10 <= row <= 200 - 32 - 10 and 10 <= column <= 240 - 32 - 10
        steps.append(np.subtract(place(inputs.lr), (row, column)))
    far = np.abs(steps)
    assert far.max() == 40
    assert np.mean((far >= 20).all(axis=1)) > 0.4  # the others were clamped
    assert {(y > 0, x > 0) for y, x in steps} == {
        (a, b) for a in (False, True) for b in (False, True)
    }


def test_half_of_the_patches_around_lie_where_the_reference_lies() -> None:
    case = mapped(200, 240, (0, 0, 200, 240))
    patches = cut([case], Data(patch=(32, 32), reference="around", offset=(0, 40)))
    told = [patches.sample(index, 0) for index in range(50)]
    shares = [where_both_are(inputs)[0].numel() / (3 * 32 * 32) for inputs in told]
    assert 0.35 < np.mean([share == 1 for share in shares]) < 0.65
    assert 0 in shares and any(0 < share < 1 for share in shares)
    for inputs in told:
        assert inputs.center is not None and inputs.confidence is not None
        assert (inputs.confidence == 1).all()  # nobody said otherwise


def test_dcsr_patch_lies_in_the_box_and_its_reference_a_bit_aside() -> None:
    patches = Patches([mapped()], Same((40, 40)), flips=False, rotations=(0,))
    steps = set()
    for index in range(60):
        inputs = patches.sample(index, 0)
        assert inputs.center is not None
        row, column = place(inputs.lr)
        assert 30 <= row <= 100 and 60 <= column <= 160
        steps.add(place(inputs.center)[1] - column)
    assert min(steps) == 0 and 10 <= max(steps) <= 15


def test_a_reference_that_lies_on_the_patch_has_no_center() -> None:
    inputs = Patches([mapped()], Same((40, 40), (0, 0))).sample(0, 0)
    assert inputs.center is None
    assert inputs.box.tolist() == [[0, 0, 40, 40]]


def test_a_patch_that_the_reference_reaches_in_part_is_filled_up() -> None:
    case = mapped()
    known = case.ref[..., 0] // 2 + 1
    patches = Patches([replace(case, confidence=known)], Laid((64, 48)))
    shares = set()
    for index in range(20):
        inputs = patches.sample(index, 0)
        assert inputs.confidence is not None and inputs.hr is not None
        assert inputs.lr_center().equal(inputs.lr)
        sure = inputs.confidence[0, 0]
        shown = sure > 0
        assert torch.equal(inputs.ref[0][:, shown], inputs.hr[0][:, shown])
        told = torch.div((inputs.ref[0, 0] * 255).round(), 2, rounding_mode="floor") + 1
        assert torch.equal((sure * 255).round()[shown], told[shown])
        # Enlarged, the map of places is the same map, but for the interpolation.
        assert (inputs.ref - inputs.hr).abs().max() < 2.1 / 255
        shares.add(round(float(shown.float().mean()), 1))
    assert len(shares) > 4


def test_turned_eight_ways_the_box_turns_along() -> None:
    case = mapped()
    seen = set()
    for quarters in range(4):
        for mirrored in (False, True):
            view = turned(case, quarters, mirrored)
            top, left, bottom, right = view.box
            assert np.array_equal(view.lr[top:bottom, left:right], view.ref[::2, ::2])
            assert view.hr is not None and np.array_equal(view.hr[::2, ::2], view.lr)
            seen.add(view.lr[0, 0].tobytes() + view.lr[0, 1].tobytes())
    assert len(seen) == 8


def test_patches_are_what_a_recipe_asks_for() -> None:
    data = Data(patch=(24, 32), reference="nearby", offset=(4, 8), border=2)
    inputs = cut([mapped()], data, per_case=3).sample(2, 0)
    assert inputs.lr.shape == (1, 3, 24, 32) and inputs.center is not None
    pairs = Data(kind="pairs", patch=(24, 32), reference="same")
    bare = cut([mapped()], pairs).sample(0, 0)
    assert bare.hr is None and bare.center is None
    with pytest.raises(ValueError, match="flow"):
        cut([mapped()], Data(kind="flow"))


def test_what_does_not_fit_is_refused() -> None:
    rng = np.random.default_rng(0)
    for name, cutter in CUTTERS.items():
        with pytest.raises(ValueError, match="do not fit"):
            cutter((512, 512), (0, 0), 0)(mapped(), rng)
        assert name
    case = mapped()
    with pytest.raises(ValueError, match="has none"):
        Inside()(Triplet(case.lr, case.ref, case.box), rng)
    with pytest.raises(ValueError, match="do not fit"):
        scale_of(Triplet(case.lr, case.ref[:-2], case.box))
    with pytest.raises(ValueError, match="no case"):
        Patches([], Inside())
