"""How a result is scored: each paper's rules as a row of one table, any of them on any data."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from dualsr_cli.benchmark._layouts_case import Box
from dualsr_cli.benchmark.metrics import (
    LPIPS_SIDE,
    SSIM_MARGIN,
    SSIM_SIDE,
    Array,
    Backbone,
    Map,
    Rounding,
    levels,
    load_lpips,
    lpips_layers,
    lpips_map,
    lpips_value,
    luma,
    psnr,
    squared_error,
    ssim_map,
)

Mask = npt.NDArray[np.bool_]
"""(H, W) of the truth: true where the reference shows the scene, where that is no box."""

Scores = dict[str, dict[str, float]]
"""Region (`REGIONS`) -> metric -> value."""

REGIONS = ("full", "center", "corner")
METRICS = ("psnr", "ssim", "lpips")

_LPIPS: dict[str, Backbone] = {"lpips": "alex", "lpips-vgg": "vgg"}


@dataclass(frozen=True)
class Protocol:
    """The rules of one paper.

    colour: what PSNR and SSIM see, RGB or Y of BT.601. shave: pixels cut off each side first, for
    PSNR and SSIM. rounding: what PSNR and SSIM see of a result that is not in whole levels, see
    `levels`. file: how it becomes the 8-bit file that LPIPS sees, which is AlexNet's and of RGB,
    unshaved. sample_covariance: scikit-image's SSIM instead of Wang's. plain_lpips: of a whole
    image the plain value, not the mean of the map. regions: how Center and Corner are cut, one
    of:

    "own place": by pixel; an SSIM window belongs to the pixel in its middle.
    "unshifted": likewise, but the box is laid on the SSIM map as it is, although that begins 5
        pixels further in.
    "strips": the center and the four strips around it (left and right over the full height) are
        scored as images of their own. PSNR of Corner is that of all its pixels; its SSIM and LPIPS
        are the plain mean of the strips'.

    source: where the rules come from; what the source leaves open, and is chosen here.
    """

    colour: Literal["rgb", "y"]
    shave: int
    rounding: Rounding
    file: Rounding
    sample_covariance: bool
    plain_lpips: bool
    regions: Literal["own place", "unshifted", "strips"]
    source: str


PROTOCOLS = {
    "kedusr": Protocol(
        colour="rgb",
        shave=0,
        rounding="none",
        file="half-up",
        sample_covariance=False,
        plain_lpips=False,
        regions="unshifted",
        source="KeDuSR's code, which DM3Net and SDDuSR follow: the network's output is neither "
        "clamped nor rounded. LPIPS is published for the full image only; here its map is cut, too",
    ),
    "dcsr": Protocol(
        colour="y",
        shave=2,
        rounding="half-even",
        file="half-even",
        sample_covariance=False,
        plain_lpips=True,
        regions="own place",
        source="DCSR's code at a scale of 2, which has PSNR only: the paper's SSIM is taken as "
        "Wang's on the same pixels",
    ),
    "dcsr-x4": Protocol(
        colour="y",
        shave=4,
        rounding="half-even",
        file="half-even",
        sample_covariance=False,
        plain_lpips=True,
        regions="own place",
        source="DCSR's code at a scale of 4 (CUFED5), which shaves as many pixels as the scale has",
    ),
    "selfdzsr": Protocol(
        colour="rgb",
        shave=0,
        rounding="half-even",
        file="half-even",
        sample_covariance=True,
        plain_lpips=True,
        regions="strips",
        source="SelfDZSR's metrics.py, on 8-bit files",
    ),
    "ttsr": Protocol(
        colour="y",
        shave=0,
        rounding="half-even",
        file="half-even",
        sample_covariance=False,
        plain_lpips=True,
        regions="own place",
        source="TTSR's code, for CUFED5",
    ),
    "awnet": Protocol(
        colour="rgb",
        shave=0,
        rounding="down",
        file="down",
        sample_covariance=False,
        plain_lpips=True,
        regions="own place",
        source="AWnet's code truncates to 8 bits; how the paper computes PSNR and SSIM is not "
        "published: RGB and Wang's SSIM are chosen",
    ),
    "half-size": Protocol(
        colour="rgb",
        shave=0,
        rounding="half-even",
        file="half-even",
        sample_covariance=False,
        plain_lpips=True,
        regions="own place",
        source="ours: both photos halved, the wide one as it was is the truth; 8-bit RGB",
    ),
    "city100": Protocol(
        colour="rgb",
        shave=0,
        rounding="half-even",
        file="half-even",
        sample_covariance=False,
        plain_lpips=True,
        regions="own place",
        source="ours: the short-focal photo halved, the long-focal one is the truth; 8-bit RGB",
    ),
}
"""The protocols by name."""


def load_metrics(metrics: Collection[str], device: str = "cpu") -> None:
    """Load what `metrics` need, of which `score` then has it.

    Raises InputError where LPIPS's weights are not there or not right.
    """
    for metric, backbone in _LPIPS.items():
        if metric in metrics:
            load_lpips(backbone, device)


def score(
    result: Array,
    truth: Array,
    box: Box | Mask | None,
    protocol: str,
    *,
    metrics: Collection[str] = METRICS,
    device: str = "cpu",
) -> Scores:
    """The scores of one result, by region and metric.

    result, truth: (H, W, 3) RGB, each uint8, uint16, or floating point with 1 as white. box: what
    the reference shows, in pixels of the truth (a `Sample` has it in those of LR); with None, or an
    empty one, there is "full" only. Of a mask the protocols that know boxes only take the bounding
    box. metrics: of `METRICS`, and "lpips-vgg". device: where LPIPS is computed. A region that is
    smaller than a metric needs (11 pixels for an SSIM window, 31 for LPIPS) lacks that metric, and
    is left out where it has none; PSNR of equal images is infinite.

    Raises ValueError for an unknown protocol or metric, images that are not RGB of one size, a box
    outside of them, and NaN; InputError where LPIPS's weights are not there or not right.
    """
    rules = PROTOCOLS.get(protocol)
    if rules is None:
        raise ValueError(f"{protocol!r} is no protocol: choose among {', '.join(PROTOCOLS)}")
    if unknown := set(metrics) - {*METRICS, *_LPIPS}:
        raise ValueError(f"unknown metrics: {', '.join(sorted(unknown))}")
    if truth.ndim != 3 or truth.shape[2] != 3 or result.shape != truth.shape:
        raise ValueError(f"{result.shape} and {truth.shape} are not two RGB images of one size")
    center = _center(box, truth.shape[:2], rules)
    found: dict[str, dict[str, float]] = {}
    if not {"psnr", "ssim"}.isdisjoint(metrics):
        seen, true = (_seen(image, rules) for image in (result, truth))
        if "psnr" in metrics:
            errors = _own_place(squared_error(seen, true), center, rules.shave)
            found["psnr"] = {region: psnr(error) for region, error in errors.items()}
        if "ssim" in metrics and min(true.shape[:2]) >= SSIM_SIDE:
            similarity = ssim_map(seen, true, sample_covariance=rules.sample_covariance)
            found["ssim"] = _SSIM_CUTS[rules.regions](similarity, center, rules.shave + SSIM_MARGIN)
        del seen, true
    for metric, backbone in _LPIPS.items():
        if metric in metrics and min(truth.shape[:2]) >= LPIPS_SIDE:
            files = levels(result, rules.file), levels(truth, rules.file)
            found[metric] = _lpips(*files, center, rules, backbone, device)
    scores = {
        region: {metric: means[region] for metric, means in found.items() if region in means}
        for region in REGIONS
    }
    return {region: values for region, values in scores.items() if values}


@dataclass(frozen=True, eq=False)
class _Center:
    """What Center is in the truth, as rules want it: a box, or by pixel."""

    box: Box
    mask: Mask


def _center(given: Box | Mask | None, shape: tuple[int, int], rules: Protocol) -> _Center | None:
    """None where there is no Center. A mask stays what it is only under "own place"."""
    if given is None:
        return None
    if isinstance(given, np.ndarray):
        if given.shape != shape or given.dtype != np.bool_:
            raise ValueError(f"a mask of {given.shape} {given.dtype} is not {shape} bool")
        if not given.any():
            return None
        rows, columns = (np.flatnonzero(given.any(axis)) for axis in (1, 0))
        box = int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1
        if rules.regions == "own place":
            return _Center(box, given)
    else:
        box = given
    top, left, bottom, right = box
    if not (0 <= top <= bottom <= shape[0] and 0 <= left <= right <= shape[1]):
        raise ValueError(f"the box {box} does not lie in {shape[0]} x {shape[1]} pixels")
    mask = np.zeros(shape, np.bool_)
    mask[top:bottom, left:right] = True
    return _Center(box, mask) if mask.any() else None


def _seen(image: Array, rules: Protocol) -> Array:
    """What PSNR and SSIM see: levels, (h, w, 3) or, of Y, (h, w)."""
    height, width = image.shape[:2]
    shaved = image[rules.shave : height - rules.shave, rules.shave : width - rules.shave]
    seen = levels(shaved, rules.rounding)
    return luma(seen) if rules.colour == "y" else seen


def _own_place(values: Map, center: _Center | None, margin: int) -> dict[str, float]:
    """The means of a map that begins `margin` pixels within the image, by pixel."""
    if not values.size:
        return {}
    means = {"full": float(values.mean())}
    if center is None:
        return means
    height, width = values.shape
    inside = center.mask[margin : margin + height, margin : margin + width]
    for region, chosen in (("center", inside), ("corner", ~inside)):
        if chosen.any():
            means[region] = float(values[chosen].mean())
    return means


def _unshifted(values: Map, center: _Center | None, margin: int) -> dict[str, float]:
    """The means of an SSIM map with the box laid on it as it is."""
    means = {"full": float(values.mean())}
    if center is None:
        return means
    top, left, bottom, right = center.box
    inside = values[top:bottom, left:right]
    around = values[:top], values[bottom:], values[top:bottom, :left], values[top:bottom, right:]
    places = values.size - (bottom - top) * (right - left)  # as if the map did not end in the box
    if inside.size:
        means["center"] = float(inside.mean())
    if places > 0:
        means["corner"] = float(sum(part.sum() for part in around)) / places
    return means


def _strips(values: Map, center: _Center | None, margin: int) -> dict[str, float]:
    """The means of an SSIM map over the windows that lie whole in each part of the image."""
    means = {"full": float(values.mean())}
    if center is None:
        return means
    height, width = (side + 2 * margin for side in values.shape)
    for region, parts in _parts(center.box, height, width).items():
        cut = [
            values[top : max(top, bottom - 2 * margin), left : max(left, right - 2 * margin)]
            for top, left, bottom, right in parts
        ]
        if found := [float(part.mean()) for part in cut if part.size]:
            means[region] = sum(found) / len(found)
    return means


_SSIM_CUTS: dict[str, Callable[[Map, _Center | None, int], dict[str, float]]] = {
    "own place": _own_place,
    "unshifted": _unshifted,
    "strips": _strips,
}


def _lpips(
    result: Array,
    truth: Array,
    center: _Center | None,
    rules: Protocol,
    backbone: Backbone,
    device: str,
) -> dict[str, float]:
    layers = lpips_layers(result, truth, backbone, device)
    height, width = truth.shape[:2]
    plain = {"full": lpips_value(layers)}
    if rules.regions != "strips":
        if rules.plain_lpips and center is None:
            return plain
        means = _own_place(lpips_map(layers, (height, width)), center, 0)
        return means | plain if rules.plain_lpips else means
    if center is None:
        return plain
    for region, parts in _parts(center.box, height, width).items():
        found = [
            lpips_value(lpips_layers(result[place], truth[place], backbone, device))
            for top, left, bottom, right in parts
            if min(bottom - top, right - left) >= LPIPS_SIDE
            for place in [np.s_[top:bottom, left:right]]
        ]
        if found:
            plain[region] = sum(found) / len(found)
    return plain


def _parts(box: Box, height: int, width: int) -> dict[str, list[Box]]:
    """What is scored as an image of its own for each region."""
    top, left, bottom, right = box
    strips = [
        (0, 0, height, left),
        (0, right, height, width),
        (0, left, top, right),
        (bottom, left, height, right),
    ]
    return {"center": [box], "corner": strips}
