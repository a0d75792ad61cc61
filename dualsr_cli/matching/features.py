"""What photos are matched by where no network is wanted: signed gradients at two scales.

Chosen among seven kinds (orientation histograms, census, VGG16's relu2_2 reduced to 16 channels,
with and without local normalisation): of wide and tele photos of one scene, seen through different
lenses, its matches lie right most often; only under strong parallax VGG16's do.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

_LUMA = (0.299, 0.587, 0.114)  # of R, G and B, as Rec. 601 has it
_SIGMAS = (1.4, 2.8)  # image pixels: below the first, lenses of one phone differ most


def gradient_features(image: torch.Tensor) -> torch.Tensor:
    """(B, 3, H, W) RGB, 0..1 -> (B, 16, ceil(H / 2), ceil(W / 2)) float32, at half resolution.

    A place holds the gradients of the 2 x 2 luma pixels there, horizontal and vertical, at two
    scales, each times its sigma so that both count alike. Added brightness changes nothing, more
    contrast no cosine. Raises ValueError for another shape.
    """
    if image.ndim != 4 or image.shape[1] != 3 or 0 in image.shape:
        raise ValueError(f"an image of shape {tuple(image.shape)} is not (B, 3, H, W)")
    weights = image.new_tensor(_LUMA, dtype=torch.float32)
    luma = torch.einsum("bchw,c->bhw", image.float(), weights)[:, None]
    height, width = luma.shape[2:]
    luma = F.pad(luma, (0, width % 2, 0, height % 2), mode="replicate")
    scales = [sigma * _gradients(_blurred(luma, sigma)) for sigma in _SIGMAS]
    return torch.cat([F.pixel_unshuffle(scale, 2) for scale in scales], dim=1)


def _gradients(luma: torch.Tensor) -> torch.Tensor:
    """(B, 1, H, W) -> (B, 2, H, W): central differences across and down."""
    around = F.pad(luma, (1, 1, 1, 1), mode="replicate")
    across = around[..., 1:-1, 2:] - around[..., 1:-1, :-2]
    down = around[..., 2:, 1:-1] - around[..., :-2, 1:-1]
    return torch.cat([across, down], dim=1) / 2


def _blurred(luma: torch.Tensor, sigma: float) -> torch.Tensor:
    radius = math.ceil(3 * sigma)
    steps = torch.arange(-radius, radius + 1, device=luma.device, dtype=torch.float32)
    window = torch.exp(-(steps**2) / (2 * sigma**2))
    window /= window.sum()
    luma = F.conv2d(F.pad(luma, (radius, radius, 0, 0), mode="replicate"), window.view(1, 1, 1, -1))
    return F.conv2d(F.pad(luma, (0, 0, radius, radius), mode="replicate"), window.view(1, 1, -1, 1))
