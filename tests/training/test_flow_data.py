"""Synthetic views: their flow is the one that they were made with."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch

from dualsr_cli.networks import Inputs
from dualsr_cli.training import FlowInputs, SyntheticFlow
from dualsr_cli.training._batches import joined, part


class Photographs:
    """Smooth colours, two photographs."""

    def __len__(self) -> int:
        return 2

    def pixels(self, index: int) -> npt.NDArray[np.uint8]:
        coarse = np.random.default_rng(index).integers(0, 256, (30, 40, 3)).astype(np.uint8)
        return np.asarray(cv2.resize(coarse, (400, 300), interpolation=cv2.INTER_CUBIC))


SOURCE = SyntheticFlow(Photographs(), (64, 96), reach=8.0, seed=3)


def warped(sample: FlowInputs, flow: torch.Tensor) -> npt.NDArray[Any]:
    rows, columns = np.mgrid[0:64, 0:96].astype(np.float32)
    x, y = flow[0].numpy()
    ref = np.ascontiguousarray(sample.ref[0].permute(1, 2, 0).numpy())
    return cv2.remap(ref, columns + x, rows + y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)


def test_ref_read_where_the_flow_points_to_is_lr() -> None:
    """In light and colour alone the two may differ: so their structure is compared."""
    better = []
    for index in range(12):
        sample = SOURCE.sample(index % 2, index)
        assert sample.lr.shape == sample.ref.shape == (1, 3, 64, 96)
        assert sample.flow is not None and sample.flow.shape == (1, 2, 64, 96)
        assert sample.lr.min() >= 0 and sample.lr.max() <= 1
        lr = sample.lr[0].permute(1, 2, 0).numpy()
        still, moved = (
            np.corrcoef(lr.ravel(), warped(sample, flow).ravel())[0, 1]
            for flow in (torch.zeros_like(sample.flow), sample.flow)
        )
        better.append(moved > still)
        assert moved > 0.9 or moved > still + 0.1  # of what is hidden in one of the views
    assert np.mean(better) > 0.9


def test_a_sample_is_the_same_whenever_it_is_made() -> None:
    one, again = SOURCE.sample(1, 5), replace(SOURCE).sample(1, 5)
    others = (SOURCE.sample(1, 6), SOURCE.sample(0, 5), replace(SOURCE, seed=4).sample(1, 5))
    assert torch.equal(one.lr, again.lr) and torch.equal(one.ref, again.ref)
    assert one.flow is not None and again.flow is not None
    assert torch.equal(one.flow, again.flow)
    assert not any(torch.equal(one.lr, other.lr) for other in others)


def test_flows_stay_within_reach_and_differ() -> None:
    flows = [SOURCE.sample(n % 2, n).flow for n in range(20)]
    most = [float(flow.abs().max()) for flow in flows if flow is not None]
    assert max(most) < 3 * 8.0 and min(most) > 0


def test_batches_keep_the_flow() -> None:
    samples = [SOURCE.sample(0, epoch) for epoch in range(3)]
    batch = joined(samples)
    assert isinstance(batch, FlowInputs) and batch.flow is not None
    assert batch.flow.shape == (3, 2, 64, 96)
    first = part(batch, 2).to("cpu")
    assert isinstance(first, FlowInputs) and first.flow is not None
    assert torch.equal(first.flow[1], samples[1].flow[0])  # type: ignore[index]


def test_batches_of_references_and_centers() -> None:
    image, box = torch.rand(1, 3, 4, 4), torch.tensor([[0, 0, 4, 4]])
    given = Inputs(image, image, box, None, (image, image), image)
    batch = joined([given, given])
    assert len(batch.more_refs) == 2 and batch.more_refs[0].shape == (2, 3, 4, 4)
    assert batch.hr is None and batch.center is not None and batch.center.shape == (2, 3, 4, 4)
    with pytest.raises(RuntimeError):
        joined([given, Inputs(torch.rand(1, 3, 5, 4), image, box)])


class Ramp(Photographs):
    """Brighter to the right, half a step a pixel."""

    def pixels(self, index: int) -> npt.NDArray[np.uint8]:
        return np.full((300, 400, 3), np.arange(400)[:, None] // 2, np.uint8)


def test_photographs_are_drawn_smaller_as_far_as_they_are_large_enough() -> None:
    still = SyntheticFlow(Ramp(), (64, 64), reach=1.0, shrinks=(1,))
    steps = {}
    for shrink in (1, 2, 4):
        source = replace(still, shrinks=(shrink,))
        views = [source.sample(0, epoch).ref for epoch in range(5)]
        steps[shrink] = float(torch.cat([view.diff(dim=3) for view in views]).mean())
    assert steps[2] == pytest.approx(2 * steps[1], rel=0.3)
    assert steps[4] == pytest.approx(4 * steps[1], rel=0.3)
    assert torch.equal(replace(still, shrinks=(8,)).sample(0, 0).ref, still.sample(0, 0).ref)
