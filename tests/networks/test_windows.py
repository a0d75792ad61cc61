"""Windows of maps, and resizing with corners on corners window by window."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from dualsr_cli.networks._corners import needed, stretched
from dualsr_cli.networks._windows import assembled, cut, grown, holds, overlap, reduced, within
from dualsr_cli.networks.contract import Window


def test_windows_are_grown_cut_and_compared() -> None:
    assert grown((2, 0, 5, 4), 3, (7, 6)) == (0, 0, 7, 6)
    assert within((2, 3, 5, 4), (1, 3, 9, 9)) == (1, 0, 4, 1)
    assert reduced((8, 5, 13, 16), 4) == (2, 1, 4, 4)
    assert overlap((0, 2, 4, 6), (3, 0, 9, 3)) == (3, 2, 4, 3)
    assert overlap((0, 2, 4, 6), (4, 0, 9, 3)) is None
    assert holds((0, 2, 4, 6), (1, 2, 4, 5)) and not holds((0, 2, 4, 6), (1, 1, 4, 5))
    assert cut(torch.arange(12).view(3, 4), (1, 2, 3, 4)).tolist() == [[6, 7], [10, 11]]


@pytest.mark.parametrize("tile", [8, 16, None])
def test_maps_are_assembled_of_their_windows(tile: int | None) -> None:
    image = torch.rand(2, 3, 20, 28)

    def make(window: Window) -> list[torch.Tensor]:
        part = cut(image, window)
        doubled = F.interpolate(part, scale_factor=2)
        return [doubled, F.avg_pool2d(part, 4).contiguous(memory_format=torch.channels_last)]

    doubled, quarter = assembled((20, 28), tile, make)
    assert torch.equal(doubled, F.interpolate(image, scale_factor=2))
    assert torch.equal(quarter, F.avg_pool2d(image, 4))
    assert doubled.is_contiguous()
    assert quarter.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("target", [(23, 9), (5, 40), (1, 14), (7, 14)])
def test_a_window_is_stretched_as_the_whole(target: tuple[int, int]) -> None:
    image = torch.rand(1, 2, 7, 14)
    whole = F.interpolate(image, target, mode="bilinear", align_corners=True)
    assert torch.equal(stretched(image, (7, 14), target, (0, 0, *target)), whole)
    window = (target[0] // 3, 2, target[0], target[1] - 1)
    part = needed((7, 14), target, window)
    found = stretched(cut(image, part), (7, 14), target, window, part[:2])
    torch.testing.assert_close(found, cut(whole, window), atol=1e-5, rtol=0)
