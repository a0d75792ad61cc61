"""Samples in other colours."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from dualsr_cli.networks import Inputs
from dualsr_cli.training import Photographs, Simulator, SimulatorSettings
from dualsr_cli.training._colours import Recoloured

SHARE = 0.5
COUNT = 40


@pytest.fixture(scope="module")
def source() -> Simulator:
    picture = np.random.default_rng(0).integers(0, 256, (400, 400, 3), np.uint8)
    settings = SimulatorSettings(patch=(16, 16), layout="beside", offset=(0, 16))
    return Simulator(Photographs(((picture, picture),), ("noise",)), settings)


def images(sample: Inputs) -> list[torch.Tensor]:
    assert sample.hr is not None and sample.center is not None
    return [sample.lr, sample.ref, sample.hr, sample.center, *sample.more_refs]


def test_a_share_of_the_samples_has_other_colours_alike_in_all_pictures(source: Simulator) -> None:
    changed, swapped = 0, 0
    for index in range(COUNT):
        before = source.sample(index, 3)
        after = Recoloured(source, SHARE).sample(index, 3)
        assert after.confidence is not None and before.confidence is not None
        assert torch.equal(after.confidence, before.confidence)
        assert torch.equal(after.box, before.box)
        if torch.equal(after.lr, before.lr):
            assert all(map(torch.equal, images(after), images(before)))
            continue
        changed += 1
        # One share and one colour explain all pictures, with red and blue changed or not.
        first, second = before.lr[0].flatten(1), after.lr[0].flatten(1)
        order = [0, 1, 2]
        if float(np.corrcoef(first[0], second[2])[0, 1]) > 0.999:
            order, swapped = [2, 1, 0], swapped + 1
        kept = float(second[1].std() / first[1].std())
        assert 0.6 <= kept <= 1
        colour = after.lr.mean((2, 3)) - kept * before.lr[:, order].mean((2, 3))
        for image, was in zip(images(after), images(before), strict=True):
            assert torch.allclose(image, kept * was[:, order] + colour[..., None, None], atol=1e-5)
            assert float(image.min()) >= 0 and float(image.max()) <= 1
    assert COUNT / 4 < changed < COUNT * 3 / 4
    assert changed / 4 < swapped < changed * 3 / 4


def test_the_same_seeds_give_the_same_sample(source: Simulator) -> None:
    first, again, other = (Recoloured(source, 1.0, seed).sample(1, 2) for seed in (0, 0, 1))
    assert all(map(torch.equal, images(first), images(again)))
    assert not torch.equal(first.lr, other.lr)


def test_further_references_and_what_is_missing(source: Simulator) -> None:
    plain = source.sample(0, 0)

    class Two:
        def __len__(self) -> int:
            return 1

        def sample(self, index: int, epoch_seed: int) -> Inputs:
            return replace(plain, hr=None, more_refs=(plain.ref,))

    sample = Recoloured(Two(), 1.0).sample(0, 0)
    assert sample.hr is None
    assert torch.equal(sample.more_refs[0], sample.ref) and not torch.equal(sample.ref, plain.ref)
