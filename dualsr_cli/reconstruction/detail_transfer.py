"""Detail transfer: the reconstruction that needs no trained weights.

The wide photo is enlarged so that reducing the result gives it back. Inside the footprint the
tele photo's detail is added: of the tele photo on the output grid, R, that part which the wide
photo cannot know, R - P D R (D and P reduce and enlarge). How much of it is true shows in the
finest band that both photos do know: with h the wide photo's finest band at its own resolution
and k the tele's there, the share to take at a pixel is

    gain = rho^2 g max(0, 1 - n / v),   rho = <h, k> / sqrt(<h, h> <k, k>),

with products over a Gaussian neighbourhood. v is the detail's own energy there and n its noise's,
so that the last factor is Wiener's share of signal. n is what the flattest parts of the footprint
show, but no more than white noise could be, given how well the photos agree in the finest band.
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
from dualsr_cli.reconstruction._resampling import Axis, blur, enlarge, linear, reduce

MIN_GAIN = 0.5
_NEIGHBOURHOOD = 3.0  # wide pixels, of the Gaussian that correlations are taken over
_NOISE = 2 / 255**2  # energy of a band below which its correlation tells of noise alone
_WHITE = 0.63  # of white noise's energy in the finest band: the sum of (delta - G)^2
_FLATTEST = 5.0  # per cent of the footprint that are taken to show nothing but noise
_FINEST, _NEXT = 0.8, 1.6  # wide pixels: the bands are x - G x and G x - G' x
_EDGE = 8.0  # wide pixels over which the detail fades in at the footprint's edge

# Between pairs whose wide lens blurs at its pixels (City100's short focal lengths: contrast 0.33 to
# 0.56, fineness 0.4 to 0.7) and halved photos (0.77 to 1.07, above 1.07), with and without noise.
_FADED = 0.72  # the wide photo's contrast against the tele's, in the finest band
_SOFT = 0.8  # the wide photo's fineness
_SAME = 0.85  # contrast of a soft wide photo from which on the tele photo is no sharper
_AGREEMENT = 0.6  # correlation in the finest band, below which parallax or noise spoils it
_WELL_LAID = 0.7  # correlation in the octave below; parallax that spoils the finest leaves less
_GRAINY = 1.3  # the wide photo's fineness from which on noise may be most of its finest band
_LOST_BELOW = 1.1  # contrast in the octave below, of tele photos out of focus 1.2 and more
_NO_FINER = 0.3  # the tele's energy in the finest band over the wide's, of one out of focus
_SHARED = 0.3  # correlation in the octave below, from which on that energy can be compared
_AMPLIFIED = 0.95  # the tele's finest band, as a multiple of the wide's


@dataclass(frozen=True)
class Agreement:
    """What the two photos' common bands say of a pair, over its whole footprint.

    `contrast` and `correlation` in the finest band that both photos know, and the octave below.
    `gain` is g, the share of the tele's detail to add where the photos agree. `sharpness` is
    the tele's energy over the wide's in the finest band. `noise` is the energy of the noise in
    the tele's detail, of three colours with white 1. `fineness` is the wide photo's own energy in
    the finest band over that of the octave below.
    """

    contrast: tuple[float, float]
    correlation: tuple[float, float]
    sharpness: float
    noise: float
    fineness: float

    @property
    def lens_blurs(self) -> bool:
        """Whether the wide photo is less sharp than its pixels allow and than the tele photo.

        Noise in the tele photo lowers the contrast too; but then the wide photo is not soft, nor is
        the tele's finest band an amplified copy of the wide's.
        """
        contrast, correlation = self.contrast[0], self.correlation[0]
        if self.soft:
            return 0 < contrast < _SAME
        return 0 < contrast < _FADED and correlation**2 > _AMPLIFIED * contrast

    @property
    def soft(self) -> bool:
        """Whether the wide photo is less sharp than its pixels allow."""
        return self.fineness < _SOFT

    @property
    def agrees(self) -> bool:
        """Whether the photos show the same in the finest band that both know."""
        return self.correlation[0] > _AGREEMENT

    @property
    def drowned(self) -> bool:
        """Whether noise drowns the finest band, of photos that agree in the octave below."""
        below = self.correlation[1] > _WELL_LAID and 0 < self.contrast[1] < _LOST_BELOW
        return not self.agrees and below and self.fineness > _GRAINY

    @property
    def tele_blurred(self) -> bool:
        """Whether the tele photo is no finer than the wide photo, nor that is all noise.

        What a lens out of focus has lost, it has lost a part of in the octave below as well.
        """
        if self.drowned:
            return False
        return self.sharpness < _NO_FINER and self.correlation[1] > _SHARED

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
    """Sums of both bands over the window, (2 weights, 2 bands, 4) float64.

    <h, h>, <k, k>, <h, k> and the weights' own sum; weighted once by validity and once by rho^2 as
    well: where the photos do not lie on each other, their contrasts tell nothing of the lenses.
    """
    tele = window.reduced()
    inside = (window.valid > 0.99).to(window.wide.dtype)
    weights = inside, inside * _agreeing(window.wide, tele, window.valid)
    sums = []
    for band in (finest, next_finest):
        h, k = band(window.wide), band(tele)
        products = [(a * b).sum(0) for a, b in ((h, h), (k, k), (h, k))]
        products.append(torch.ones_like(window.valid))
        sums.append([[float((p * w).cpu().double().sum()) for p in products] for w in weights])
    by_band: npt.NDArray[np.float64] = np.array(sums)
    result: npt.NDArray[np.float64] = by_band.transpose(1, 0, 2)
    return result


def energies(window: Window) -> Floats:
    """The detail's energy at some of the window's valid pixels that are not clipped, (n,)."""
    tele = window.reduced()
    energy = _energy(window, window.tele - enlarge(tele, window.rows, window.columns))
    exposed = (tele.amax(0) < 0.98) & (tele.amin(0) > 0.02) & (window.valid > 0.99)
    sample: Floats = energy[exposed][::7].cpu().numpy()
    return sample


def _energy(window: Window, detail: torch.Tensor) -> torch.Tensor:
    """The energy of a detail (3, ., .) on the output grid around each wide pixel, (h, w)."""
    square = detail.square().sum(0)[None, None]
    size = window.valid.shape
    return blur(
        torch.nn.functional.interpolate(square, size=size, mode="area")[0, 0], _NEIGHBOURHOOD
    )


def agreement(sums: npt.NDArray[np.float64], energy: Floats, scale: float) -> Agreement:
    """The pair's agreement from the summed `moments` and all `energies` of its windows."""
    wide, tele, both, count = (sums[0, :, i] for i in range(4))
    contrast = sums[1, :, 2] / np.maximum(sums[1, :, 1], 1e-9)
    correlation = both / np.sqrt(np.maximum(wide * tele, 1e-18))
    # White noise on the output grid has 1 - 1/s^2 of its energy in the detail, and of the 1/s^2
    # that the wide photo's pixels see, the share _WHITE in the finest band.
    unlike = (1 - correlation[0] ** 2) * tele[0] / max(count[0], 1)
    disagreement = unlike * (scale * scale - 1) / _WHITE
    return Agreement(
        (float(contrast[0]), float(contrast[1])),
        (float(correlation[0]), float(correlation[1])),
        float(tele[0] / max(wide[0], 1e-9)),
        float(min(np.percentile(energy, _FLATTEST), disagreement)) if len(energy) else 0.0,
        float(wide[0] / max(wide[1], 1e-9)),
    )


def transfer(window: Window, pair: Agreement) -> tuple[torch.Tensor, torch.Tensor]:
    """The tele's detail to add, (3, ., .) on the output grid, and the share taken, (h, w)."""
    tele = window.reduced()
    share = pair.gain * _agreeing(window.wide, tele, window.valid) * window.valid
    detail = window.tele - enlarge(tele, window.rows, window.columns)
    share = share * (1 - pair.noise / _energy(window, detail).clamp(min=1e-9)).clamp(min=0)
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
    """(h, w) on the output grid."""
    device = str(share.device)
    return linear(columns, device).across(linear(rows, device).down(share))


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
