"""What lies beside the tele photo: estimates for several lenses, and which ones the tele confirms.

A lens and a sensor that are known are undone best, among linear ways, by Wiener's filter. Which
lens it was is not known, but the tele photo shows what came of it: the mixture of estimates is
taken that comes nearest to that.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

RADIUS = 3  # LR pixels around each that an estimate looks at
_BLURS = (0.0, 0.25, 0.45, 0.65, 0.9, 1.2)  # LR pixels: sigma of the lens, a Gaussian
_NOISES = (1e-4, 1e-3, 1e-2)  # variance, of the picture's
_PERIOD = 96  # pixels of the result in which pictures repeat themselves, for the sums below
_LARGEST = 64.0  # pixels: the spectrum of pictures, 1 / f^2, is even for what is larger
_LEAST = 0.03  # correlation with what the tele photo shows for which alone no estimate is taken
_TINY = 1e-6  # of the largest: what products in single precision do not tell from nothing


@cache
@torch.inference_mode(False)  # training uses it, too
def estimates(scale: int) -> torch.Tensor:
    """(lenses, s^2, 7, 7) float32: filters of LR for each pixel of the result that one becomes,
    row by row. Each sums to 1.

    They give the picture that is the nearest, in the mean square, to that which the lens blurred,
    the sensor's pixels averaged and noise was added to; pictures' spectrum is 1 / f^2.
    """
    filters = [_wiener(scale * blur, noise, scale) for blur in _BLURS for noise in _NOISES]
    return torch.from_numpy(np.stack(filters)).float()


def estimated(lr: torch.Tensor, filters: torch.Tensor) -> torch.Tensor:
    """LR (B, 3, H, W) and filters (B, s^2, 7, 7) of it -> (B, 3, s * H, s * W) float32."""
    scale = round(filters.shape[1] ** 0.5)
    padded = F.pad(lr.float(), (RADIUS,) * 4, mode="replicate")
    with torch.autocast(lr.device.type, enabled=False):
        found = [
            F.conv2d(planes[:, None], each[:, None])
            for planes, each in zip(padded, filters.float(), strict=True)
        ]
    return F.pixel_shuffle(torch.stack(found).flatten(1, 2), scale)


def products(
    lr: torch.Tensor, filters: torch.Tensor, images: torch.Tensor, weight: torch.Tensor
) -> torch.Tensor:
    """(B, N + L, N + L) float32: sums over all pixels of what pictures have in common.

    Of images (B, N, 3, s * H, s * W), and before the last of them of what filters (L, s^2, 7, 7)
    make of LR (B, 3, H, W); weight (B, 1, s * H, s * W).
    """
    batch, channels, height, width = lr.shape
    phases, scale = filters.shape[1], round(filters.shape[1] ** 0.5)
    size = batch, channels, -1, phases, height, width
    given = F.pixel_unshuffle(images.float(), scale).view(batch, -1, channels, *size[3:])
    given = given.transpose(1, 2)
    parts = given[:, :, :0]
    if len(filters):
        planes = F.pad(lr.float(), (RADIUS,) * 4, mode="replicate").flatten(0, 1)[:, None]
        with torch.autocast(lr.device.type, enabled=False):
            parts = F.conv2d(planes, filters.flatten(0, 1)[:, None]).view(size)
    both = torch.cat([given[:, :, :-1], parts, given[:, :, -1:]], 2)
    weighed = both * F.pixel_unshuffle(weight.float(), scale)[:, None, None]
    return (weighed.flatten(3) @ both.flatten(3).mT).sum(1)


def shares(products: torch.Tensor, free: bool = False) -> torch.Tensor:
    """(N + 1, N + 1) of N parts and a target -> (N,): the mixture of parts nearest to the target.

    Least squares; no share is below 0, nor their sum above 1: what is missing to that is a part
    that is nothing. Each part has to explain more than it would by chance, but for the first if
    that is `free`. All of the first where the target shows nothing.
    """
    from scipy.optimize import nnls  # half a second, which only networks with lenses need

    both = products.detach().double().cpu().numpy()
    parts, target, energy = both[:-1, :-1], both[:-1, -1].copy(), both[-1, -1]
    count = len(target)
    if not energy > 0 or not np.trace(parts) > 0:
        return products.new_tensor([1.0] + [0.0] * (count - 1))
    paying = np.s_[int(free) :]
    target[paying] -= _LEAST * np.sqrt(energy * np.diag(parts)[paying])
    values, vectors = np.linalg.eigh(parts)
    root = np.sqrt(np.maximum(values, _TINY * values[-1]))
    # The parts as vectors, and that nothing; the last row holds the sum of the shares at 1.
    heavy = 1e3 * root[-1]
    equations = np.full((count + 1, count + 1), heavy)
    equations[:-1, :-1] = root[:, None] * vectors.T
    equations[:-1, -1] = 0
    wanted = np.append(vectors.T @ target / root, heavy)
    # Rounded: what sums in another order, by more processors, give must not change the result.
    return products.new_tensor(nnls(equations, wanted)[0][:-1].round(4))


def _wiener(blur: float, noise: float, scale: int) -> npt.NDArray[np.float64]:
    """(s^2, 7, 7): of a lens with that sigma, in pixels of the result."""
    places = np.arange(-RADIUS, RADIUS + 1) * scale
    frequencies = np.fft.fftfreq(_PERIOD)
    power = 1 / (frequencies[:, None] ** 2 + frequencies**2 + _LARGEST**-2)
    power /= power.sum()
    sinc = np.sinc(scale * frequencies) / np.sinc(frequencies)
    seen = np.exp(-2 * (np.pi * blur * frequencies) ** 2) * sinc  # along each axis

    def correlation(distances: npt.NDArray[np.float64], twice: bool) -> npt.NDArray[np.float64]:
        """(n, n), over distances down and across, of what was seen once, with itself or not."""
        waves = np.cos(2 * np.pi * distances[:, None] * frequencies) * seen ** (1 + twice)
        result: npt.NDArray[np.float64] = waves @ power @ waves.T
        return result

    count = len(places)
    apart = correlation(np.arange(count, dtype=np.float64) * scale, True)
    steps = np.abs(np.arange(count)[:, None] - np.arange(count))
    same = apart[steps[:, None, :, None], steps[None, :, None, :]].reshape(count**2, count**2)
    # What the filter's values are multiplied with, and that their sum is 1.
    equations = np.ones((count**2 + 1, count**2 + 1))
    equations[:-1, :-1] = same + noise * np.eye(count**2)
    equations[-1, -1] = 0
    filters = []
    offsets = np.arange(scale) - (scale - 1) / 2
    for down in offsets:
        for across in offsets:
            rows, columns = (np.cos(2 * np.pi * (places - at)[:, None] * frequencies) * seen
                             for at in (down, across))  # fmt: skip
            wanted = np.append((rows @ power @ columns.T).ravel(), 1.0)
            filters.append(np.linalg.solve(equations, wanted)[:-1].reshape(count, count))
    return np.stack(filters)
