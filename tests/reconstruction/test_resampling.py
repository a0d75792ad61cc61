"""Enlarging and reducing against independent formulas."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from dualsr_cli.reconstruction import _resampling as resampling

CPU = torch.device("cpu")
SCALES = (1.0, 1.37, 2.0, 2.58, 3.0, 4.0, 7.3)


def noise(*shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).random(shape, np.float32))


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize(("start", "count"), [(0, 60), (-24, 73), (1000, 49), (3, 1), (0, 2)])
def test_reducing_undoes_enlarging(scale: float, start: int, count: int) -> None:
    """On white noise, the hardest picture there is."""
    rows, columns = resampling.axis(start, count, scale, CPU), resampling.axis(0, 31, scale, CPU)
    window = noise(3, count, 31)
    enlarged = resampling.enlarge(window, rows, columns)
    reduced = resampling.reduce(enlarged, rows, columns)
    assert (reduced - window).abs().max() < 2e-4


@pytest.mark.parametrize("scale", SCALES)
def test_outputs_are_those_whose_centres_lie_in_the_window(scale: float) -> None:
    start, count = 17, 40
    centres = (np.arange(-10, 2000) + 0.5) / scale - 0.5
    inside = np.flatnonzero((centres >= start - 0.5) & (centres < start + count - 0.5)) - 10
    axis = resampling.axis(start, count, scale, CPU)
    assert axis.first == inside[0]
    enlarged = resampling.enlarge(torch.ones(1, count, count), axis, axis)
    assert enlarged.shape == (1, len(inside), len(inside))


@pytest.mark.parametrize("scale", SCALES)
def test_a_plain_surface_stays_plain_and_a_ramp_a_ramp(scale: float) -> None:
    axis = resampling.axis(0, 80, scale, CPU)
    grey = resampling.enlarge(torch.full((1, 80, 80), 0.4), axis, axis)
    assert (grey - 0.4).abs().max() < 1e-5
    ramp = torch.linspace(0, 1, 80).expand(1, 80, 80).contiguous()
    enlarged = resampling.enlarge(ramp, axis, axis)[0]
    positions = (np.arange(enlarged.shape[1]) + 0.5) / scale - 0.5
    inner = (positions > 20) & (positions < 59)
    np.testing.assert_allclose(enlarged[0][inner], positions[inner] / 79, atol=2e-3)


@pytest.mark.parametrize("scale", [2.0, 3.0, 4.0])
def test_of_a_soft_picture_enlarging_is_what_other_resamplers_make(scale: float) -> None:
    """Where there is nothing to sharpen, Pillow's Lanczos and ours agree."""
    soft = cv2.GaussianBlur(noise(64, 64).numpy(), (0, 0), 4)
    soft = (soft - soft.min()) / (soft.max() - soft.min())
    side = round(64 * scale)
    reference = np.asarray(Image.fromarray(soft).resize((side, side), Image.Resampling.LANCZOS))
    axis = resampling.axis(0, 64, scale, CPU)
    ours = resampling.enlarge(torch.from_numpy(soft)[None], axis, axis)[0].numpy()
    border = round(8 * scale)
    inner = np.s_[border:-border, border:-border]
    assert np.abs(ours[inner] - reference[inner]).max() < 0.02


@pytest.mark.parametrize("scale", [2.0, 3.0, 4.0])
def test_reducing_is_the_mean_of_a_box_and_pillows_bicubic(scale: float) -> None:
    side, factor = 48, int(scale)
    fine = noise(side * factor, side * factor).numpy()
    image = Image.fromarray(fine)
    box = np.asarray(image.resize((side, side), Image.Resampling.BOX))
    bicubic = np.asarray(image.resize((side, side), Image.Resampling.BICUBIC))
    axis = resampling.axis(0, side, scale, CPU)
    ours = resampling.reduce(torch.from_numpy(fine)[None], axis, axis)[0].numpy()
    # Half of each along each axis: box and bicubic meet crosswise as well.
    crossed = [
        np.asarray(image.resize((side, side * factor), a).resize((side, side), b))
        for a, b in (
            (Image.Resampling.BOX, Image.Resampling.BICUBIC),
            (Image.Resampling.BICUBIC, Image.Resampling.BOX),
        )
    ]
    expected = (box + bicubic + sum(crossed)) / 4
    np.testing.assert_allclose(ours[3:-3, 3:-3], expected[3:-3, 3:-3], atol=1e-4)


@pytest.mark.parametrize("sigma", [0.8, 1.6, 4.0])
def test_blurring_is_a_gaussian(sigma: float) -> None:
    window = noise(2, 40, 50)
    radius = int(np.ceil(4 * sigma))
    ours = resampling.blur(window, sigma).numpy()
    for channel in range(2):
        reference = cv2.GaussianBlur(
            window[channel].numpy(),
            (2 * radius + 1, 2 * radius + 1),
            sigma,
            borderType=cv2.BORDER_REFLECT_101,
        )
        np.testing.assert_allclose(ours[channel], reference, atol=2e-4)
