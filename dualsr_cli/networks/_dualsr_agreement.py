"""How well a reference agrees with the wide photo in the finest bands that both show.

What detail transfer decides by, handed to a network to learn from: correlation tells of noise,
occlusion and misalignment, contrast of the two lenses.
"""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F

from dualsr_cli.networks._windows import cut
from dualsr_cli.networks.contract import Window

MAPS = 8
STATISTICS = 6
_CELL = 2
_FINE, _NEAR = 0.8, 1.5  # pixels: a band is x - G x; cells: the neighbourhood of products
_LITTLE = 2 / 255**2  # energy of a band below which its correlation tells of noise alone


def bands(lr: torch.Tensor, detail: torch.Tensor, scale: int) -> torch.Tensor:
    """(B, 8, h / 2, w / 2): energies of each cell of 2 x 2 LR pixels.

    lr: (B, 3, h, w) with even sides. detail: (B, 4, s * h, s * w), what the reference has beyond
    LR enlarged, and how surely. With h and k the grey bands of LR and of the reference reduced to
    its size: <h, h>, <k, k>, <h, k> of the finest band, of the octave below, the energy of what
    only the reference shows, and the share of the cell that it covers; 0 where it covers nothing.
    """
    grey = lr.float().mean(1, keepdim=True)
    beyond = detail[:, :3].float().mean(1, keepdim=True)
    more = F.avg_pool2d(beyond, scale)
    both = torch.cat([grey, grey + more], 1)
    coarse = F.avg_pool2d(both, _CELL)
    fine, below = both - _blurred(both, _FINE, 2), coarse - _blurred(coarse, _FINE, 2)
    unseen = F.avg_pool2d(beyond.square(), _CELL * scale) - F.avg_pool2d(more.square(), _CELL)
    here = F.avg_pool2d((detail[:, 3:] > 0).float(), _CELL * scale)
    found = [F.avg_pool2d(_pairs(fine), _CELL), _pairs(below), unseen.clamp(min=0)]
    return torch.cat([here * torch.cat(found, 1), here], 1)


def maps(energies: torch.Tensor) -> torch.Tensor:
    """(B, MAPS, h, w) of `bands`: correlations, contrasts and amplitudes about each cell."""
    near = _blurred(energies, _NEAR, 4)
    here = energies[:, 7:]
    hh, kk, hk, hh2, kk2, hk2, unseen, _ = (near / (near[:, 7:] + 1e-3)).chunk(8, 1)
    rho, rho2 = _correlation(hh, kk, hk), _correlation(hh2, kk2, hk2)
    unlike = (1 - rho.square()) * kk
    found = [
        rho,
        rho2,
        (hk / (kk + _LITTLE)).clamp(-1, 2),
        (hk2 / (kk2 + _LITTLE)).clamp(-1, 2),
        10 * kk.sqrt(),
        10 * unseen.sqrt(),
        10 * unlike.clamp(min=0).sqrt(),
        torch.ones_like(rho),
    ]
    return here * torch.cat(found, 1)


def totals(energies: torch.Tensor, inner: Window) -> torch.Tensor:
    """(B, 2, 8): sums of `bands` over a window of them, and of those weighed by how well the
    photos agree there.
    """
    hh, kk, hk = _blurred(energies[:, :3], _NEAR, 4).chunk(3, 1)
    agreeing = _correlation(hh, kk, hk).clamp(min=0).square()
    both = energies, agreeing * energies
    return torch.stack([cut(values, inner).sum((2, 3)) for values in both], 1)


def statistics(totals: torch.Tensor) -> torch.Tensor:
    """(B, STATISTICS) of the sum of `totals`: what the pair is like as a whole."""
    mean = totals / (totals[:, :, 7:] + 1e-3)
    plain, agreeing = mean[:, 0], mean[:, 1]
    hh, kk, hk, hh2, kk2, hk2, unseen, _ = plain.unbind(1)
    _, kk3, hk3, _, kk4, hk4, _, _ = agreeing.unbind(1)
    found = [
        _correlation(hh, kk, hk),
        _correlation(hh2, kk2, hk2),
        (hk3 / (kk3 + _LITTLE / 4)).clamp(-1, 2),
        (hk4 / (kk4 + _LITTLE / 4)).clamp(-1, 2),
        ((kk + _LITTLE) / (hh + _LITTLE)).log(),
        ((unseen + _LITTLE) / (kk + _LITTLE)).log(),
    ]
    return (totals[:, 0, 7:] > 0) * torch.stack(found, 1)


def _pairs(bands: torch.Tensor) -> torch.Tensor:
    h, k = bands.chunk(2, 1)
    return torch.cat([h * h, k * k, h * k], 1)


def _correlation(hh: torch.Tensor, kk: torch.Tensor, hk: torch.Tensor) -> torch.Tensor:
    return hk / ((hh + _LITTLE) * (kk + _LITTLE)).sqrt()


def _blurred(image: torch.Tensor, sigma: float, reach: int) -> torch.Tensor:
    """A Gaussian over (B, C, H, W) float32, whose edge pixels go on beyond it."""
    line = _gaussian(sigma, reach).to(image.device)
    with torch.autocast(image.device.type, enabled=False):
        padded = F.pad(image, (reach, reach, reach, reach), mode="replicate")
        down = F.conv2d(padded.flatten(0, 1)[:, None], line[None, None, :, None])
        return F.conv2d(down, line[None, None, None]).reshape(image.shape)


@cache
@torch.inference_mode(False)  # training uses it, too
def _gaussian(sigma: float, reach: int) -> torch.Tensor:
    line = torch.exp(-(torch.arange(-reach, reach + 1.0) ** 2) / (2 * sigma**2))
    return line / line.sum()
