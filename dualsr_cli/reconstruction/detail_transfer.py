"""Detail transfer: the reconstruction that needs no trained weights.

The wide photo is enlarged so that reducing the result gives it back. Inside the footprint the
tele photo's detail is added: of the tele photo on the output grid, R, that part which the wide
photo cannot know, R - P D R (D and P reduce and enlarge). How much of it is true shows in the
finest band that both photos do know: with h the wide photo's finest band at its own resolution
and k the tele's there, the share to take at a pixel is

    gain = rho^2 g,   rho = <h, k> / sqrt(<h, h> <k, k>)   over a Gaussian neighbourhood.

rho is 1 where the photos agree to a fraction of a pixel, and falls with misalignment, occlusion,
noise and defocus, each of which spoils the finest band first. g is one number for the pair: the
finer the band, the weaker the wide lens passes it. Its contrast against the tele's is a2 one
octave below the finest band and a1 in it; a Gaussian lens blur loses as the square of frequency,
which puts the contrast of the band to be added at a2 (a1 / a2)^4, kept above MIN_GAIN because the
wide photo is wanted sharper than its lens.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from dualsr_cli.alignment import AlignedPair, Floats
from dualsr_cli.reconstruction._resampling import Axis, blur, enlarge, reduce

MIN_GAIN = 0.5
_NEIGHBOURHOOD = 3.0  # wide pixels, of the Gaussian that correlations are taken over
_NOISE = 2 / 255**2  # energy of a band below which its correlation tells of noise alone
_FINEST, _NEXT = 0.8, 1.6  # wide pixels: the bands are x - G x and G x - G' x
_EDGE = 8.0  # wide pixels over which the detail fades in at the footprint's edge


@dataclass(frozen=True)
class Agreement:
    """What the two photos' common bands say of a pair, over its whole footprint.

    `contrast` and `correlation` in the finest band that both photos know, and the octave below.
    `gain` is g, the share of the tele's detail to add where the photos agree. `sharpness` is
    the tele's energy over the wide's in the finest band.
    """

    contrast: tuple[float, float]
    correlation: tuple[float, float]
    sharpness: float

    @property
    def gain(self) -> float:
        finest, below = self.contrast
        if finest <= 0 or below <= 0:
            return MIN_GAIN
        return float(np.clip(min(below, 1.0) * (finest / below) ** 4, MIN_GAIN, 1.0))


@dataclass(frozen=True, eq=False)
class Window:
    """One window of the pair: wide (3, h, w), and the tele on the output grid with validity."""

    wide: torch.Tensor
    tele: torch.Tensor  # (3, outputs down, outputs across), in the wide photo's tone
    valid: torch.Tensor  # (h, w) 0..1, faded towards the footprint's edge
    rows: Axis
    columns: Axis

    def reduced(self) -> torch.Tensor:
        """The tele as the wide photo's pixels would have seen it, (3, h, w)."""
        return reduce(self.tele, self.rows, self.columns)


def finest(window: torch.Tensor) -> torch.Tensor:
    """The finest band of (3, h, w)."""
    return window - blur(window, _FINEST)


def next_finest(window: torch.Tensor) -> torch.Tensor:
    """The octave below the finest band of (3, h, w)."""
    return blur(window, _FINEST) - blur(window, _NEXT)


def moments(window: Window) -> npt.NDArray[np.float64]:
    """Sums <h, h>, <k, k>, <h, k> of both bands, (2, 3), over all valid pixels and once more
    weighted by rho^2, (2, 2, 3) float64: where the photos do not lie on each other, their
    contrasts tell nothing of the lenses.
    """
    tele = window.reduced()
    inside = (window.valid > 0.99).to(window.wide.dtype)
    weights = inside, inside * _agreeing(window.wide, tele, window.valid)
    sums = []
    for band in (finest, next_finest):
        h, k = band(window.wide), band(tele)
        products = [(a * b).sum(0) for a, b in ((h, h), (k, k), (h, k))]
        sums.append([[float((p * w).cpu().double().sum()) for p in products] for w in weights])
    by_band: npt.NDArray[np.float64] = np.array(sums)
    result: npt.NDArray[np.float64] = by_band.transpose(1, 0, 2)
    return result


def agreement(sums: npt.NDArray[np.float64]) -> Agreement:
    """The pair's agreement from the summed `moments` of its windows."""
    wide, tele, both = (sums[0, :, i] for i in range(3))
    contrast = sums[1, :, 2] / np.maximum(sums[1, :, 1], 1e-9)
    correlation = both / np.sqrt(np.maximum(wide * tele, 1e-18))
    return Agreement(
        (float(contrast[0]), float(contrast[1])),
        (float(correlation[0]), float(correlation[1])),
        float(tele[0] / max(wide[0], 1e-9)),
    )


def transfer(window: Window, pair: Agreement) -> tuple[torch.Tensor, torch.Tensor]:
    """The tele's detail to add, (3, ., .) on the output grid, and the share taken, (h, w)."""
    tele = window.reduced()
    share = pair.gain * _agreeing(window.wide, tele, window.valid) * window.valid
    detail = window.tele - enlarge(tele, window.rows, window.columns)
    return spread(share, window.rows, window.columns) * detail, share


def _agreeing(wide: torch.Tensor, tele: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """rho^2 at each pixel, (h, w)."""
    h, k = finest(wide), finest(tele)
    inside = (valid > 0).to(wide.dtype)
    products = torch.stack([(h * h).sum(0), (k * k).sum(0), (h * k).sum(0), torch.ones_like(valid)])
    mean = blur(products * inside, _NEIGHBOURHOOD)
    hh, kk, hk = mean[:3] / (mean[3] + 1e-3)
    rho = (hk / ((hh + _NOISE) * (kk + _NOISE)).sqrt()).clamp(0, 1)
    squared: torch.Tensor = rho * rho
    return squared


def spread(share: torch.Tensor, rows: Axis, columns: Axis) -> torch.Tensor:
    """(h, w) on the output grid: smooth, and never outside its neighbours' range."""
    size = (rows.enlarge.outputs, columns.enlarge.outputs)
    return torch.nn.functional.interpolate(
        share[None, None], size=size, mode="bilinear", align_corners=False
    )[0, 0]


def faded(aligned: AlignedPair, top: int, left: int, height: int, width: int) -> Floats:
    """Validity (height, width) 0..1 of wide pixels, rising over _EDGE pixels from the edge."""
    from cv2 import GaussianBlur  # heavy, and needed only where there is a tele photo

    border = round(2 * _EDGE)
    rows = np.arange(top - border, top + height + border, dtype=float)
    columns = np.arange(left - border, left + width + border, dtype=float)
    inside = aligned.valid_at(rows, columns)
    soft = np.clip(2 * GaussianBlur(inside, (0, 0), _EDGE / 2) - 1, 0, 1)
    result: Floats = (soft * inside)[border:-border, border:-border]
    return result
