"""Estimates for several lenses: what they are, and which mixture of them is taken."""

from __future__ import annotations

from itertools import product

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F

from dualsr_cli.networks._dualsr_lenses import RADIUS, estimated, estimates, shares
from dualsr_cli.networks.dualsr import _plain_filters

Floats = npt.NDArray[np.float64]
LENSES = [
    (blur, noise) for blur in (0.0, 0.25, 0.45, 0.65, 0.9, 1.2) for noise in (1e-4, 1e-3, 1e-2)
]


def photographed(scale: int, blur: float, noise: float, seed: int) -> tuple[Floats, Floats]:
    """LR and HR of a picture with a spectrum of 1 / f^2 and a variance of 1, which wraps around."""
    rng = np.random.default_rng(seed)
    side = 96 * scale
    f = np.fft.fftfreq(side)
    y, x = f[:, None], f[None]
    amplitude = (y * y + x * x + 1 / 64**2) ** -0.5
    spectrum = np.fft.fft2(rng.normal(size=(side, side))) * amplitude
    spectrum *= side / np.sqrt((amplitude**2).sum())
    hr = np.fft.ifft2(spectrum).real
    lens = np.exp(-2 * (np.pi * scale * blur) ** 2 * (y * y + x * x))
    seen = np.fft.ifft2(spectrum * lens).real
    lr = seen.reshape(96, scale, 96, scale).mean((1, 3))
    return lr + rng.normal(0, noise**0.5, lr.shape), hr


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_each_estimate_comes_nearest_of_all_filters_for_its_lens(scale: int) -> None:
    """Beside the filters that least squares find for one such picture; on another one."""
    found = estimates(scale)
    assert found.shape == (len(LENSES), scale**2, 7, 7)
    assert torch.allclose(found.sum((2, 3)), torch.ones(len(LENSES), scale**2), atol=1e-5)
    errors = np.empty((len(LENSES), len(LENSES)))
    for number, (blur, noise) in enumerate(LENSES):
        lr, hr = photographed(scale, blur, noise, seed=1)
        fitted = fitted_filters(*photographed(scale, blur, noise, seed=2), scale)
        for other in range(len(LENSES)):
            errors[number, other] = error(lr, hr, found[other])
        assert errors[number, number] < 1.02 * error(lr, hr, fitted)
    assert (np.diag(errors)[:, None] < 1.005 * errors).all()


def fitted_filters(lr: Floats, hr: Floats, scale: int) -> torch.Tensor:
    around = range(-RADIUS, RADIUS + 1)
    near = [np.roll(lr, (-y, -x), (0, 1)).ravel() for y, x in product(around, around)]
    phases = [hr[y::scale, x::scale].ravel() for y, x in product(range(scale), range(scale))]
    filters, *_ = np.linalg.lstsq(np.stack(near, 1), np.stack(phases, 1), rcond=None)
    return torch.from_numpy(filters.T.reshape(scale**2, 7, 7)).float()


def error(lr: Floats, hr: Floats, filters: torch.Tensor) -> float:
    made = estimated(torch.from_numpy(lr)[None, None].float(), filters[None])[0, 0].numpy()
    inner = np.s_[16:-16, 16:-16]
    return float(np.square(made - hr)[inner].mean())


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_bicubic_is_among_the_filters(scale: int) -> None:
    lr = torch.rand(2, 3, 20, 23, generator=torch.Generator().manual_seed(0))
    filters = _plain_filters(scale, lr.device)[None].repeat(2, 1, 1, 1)
    filters[1] *= 0.5  # a batch's are its images' own
    bicubic = F.interpolate(lr, scale_factor=scale, mode="bicubic")
    bicubic[1] *= 0.5
    torch.testing.assert_close(estimated(lr, filters), bicubic, rtol=0, atol=1e-5)


def test_no_other_shares_come_nearer() -> None:
    """Against all shares of a fine grid; also where both parts are the same, or nothing."""
    generator = torch.Generator().manual_seed(0)
    parts = torch.randn(300, 3, 4, generator=generator)
    parts[:100, 2] += parts[:100, 0]
    parts[100:200, 2] -= 2 * parts[100:200, 1]
    parts[200:220, 1] = parts[200:220, 0]
    parts[220:240, 0] = 0
    parts[240:250] = 0
    found = torch.stack([shares(each @ each.T, free=True) for each in parts])
    steps = torch.linspace(0, 1, 201)
    grid = torch.cartesian_prod(steps, steps)
    grid = grid[grid.sum(1) <= 1 + 1e-6]
    # For the second part, what it would explain by chance is paid.
    paid = 0.03 * parts[:, 1].norm(dim=1, keepdim=True) * parts[:, 2].norm(dim=1, keepdim=True)

    def cost(tried: torch.Tensor) -> torch.Tensor:  # (300, N, 2) -> (300, N)
        apart = (tried @ parts[:, :2] - parts[:, 2:]).square().sum(2)
        return apart + 2 * paid * tried[..., 1]

    assert (found >= 0).all() and (found.sum(1) <= 1 + 1e-5).all()
    assert (cost(found[:, None])[:, 0] <= cost(grid[None]).amin(1) + 1e-3).all()
    assert found[240:250].tolist() == [[1, 0]] * 10


def test_a_part_that_agrees_by_chance_alone_is_not_taken() -> None:
    target = torch.tensor([1.0, 0.0, 0.0])
    for slope, taken in ((0.02, False), (0.2, True)):
        other = torch.tensor([slope, (1 - slope**2) ** 0.5, 0.0])
        parts = torch.stack([torch.tensor([0.0, 0.0, 1.0]), other, target])
        assert bool(shares(parts @ parts.T, free=True)[1] > 0) == taken
