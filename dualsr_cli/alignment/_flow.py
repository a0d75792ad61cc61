"""Dense optical flow from wide to tele, coarse first, then at the wide photo's resolution in tiles.

DIS (Kroeger et al., 2016) finds the displacement that mesh and homography left; both directions
are computed, so that what one photo sees and the other does not shows itself.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from dualsr_cli.alignment.aligned_pair import AlignedPair, Floats, Grid

SPACING = 4  # wide pixels between the vertices of the fine displacement field
_TILE = 768  # wide pixels; a tile's flow sees _MARGIN more on each side
_MARGIN = 64
WINDOW = _TILE + 2 * _MARGIN
THREADS = min(os.cpu_count() or 1, 8)
Luma = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Evidence:
    """What one patch of the wide photo and the tele on it say about each other, (h, w) each."""

    flow: Floats  # (h, w, 2) in pixels of the patch
    confidence: Floats  # 0..1
    residual: Floats  # absolute luma difference after the flow, 0..255
    valid: Floats  # 0..1


COARSE_SIDE = 640  # pixels on the long side of the coarse picture of the footprint


def with_small_tele(aligned: AlignedPair) -> AlignedPair:
    """`aligned` with the tele photo reduced to about what the coarse picture shows of it."""
    top, left, bottom, right = aligned.box
    step = max(bottom - top, right - left) / COARSE_SIDE
    factor = int(max(1.0, step) * aligned.ratio)
    if factor < 2:
        return aligned
    tele = aligned.tele
    size = max(1, tele.width // factor), max(1, tele.height // factor)
    small = cv2.resize(tele.pixels, size, interpolation=cv2.INTER_AREA)
    fx, fy = size[0] / tele.width, size[1] / tele.height
    shrink = np.array([[fx, 0, 0.5 * fx - 0.5], [0, fy, 0.5 * fy - 0.5], [0, 0, 1]])
    return replace(
        aligned,
        tele=replace(tele, pixels=small),
        homography=shrink @ aligned.homography,
        fit=replace(aligned.fit, density=aligned.fit.density * fx),
    )


def coarse(aligned: AlignedPair) -> tuple[AlignedPair, Evidence, Floats, Floats]:
    """`aligned` with flow found on a small picture of the footprint.

    Returns also the evidence and the colours (h, w, 3) of wide and untoned tele that it saw after
    the flow, for whoever fits the tone.
    """
    top, left, bottom, right = aligned.box
    height, width = bottom - top, right - left
    factor = min(1.0, COARSE_SIDE / max(height, width))
    size = (max(8, round(width * factor)), max(8, round(height * factor)))
    part = aligned.wide.pixels[top:bottom, left:right]
    small = cv2.resize(part, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    wide = small / np.float32(aligned.wide.max_value)
    rows = top + (np.arange(size[1]) + 0.5) * height / size[1] - 0.5
    columns = left + (np.arange(size[0]) + 0.5) * width / size[0] - 0.5
    tele, valid = aligned.tele_at(rows, columns)
    evidence = compare(wide, tele, valid)
    scale = np.array([width / size[0], height / size[1]], np.float32)
    moved = _composed(aligned.displacement, rows, columns, evidence.flow * scale)
    # Vertices on the box's corners, where the picture's outermost pixels lie half a step inside.
    finer = replace(aligned, displacement=Grid(_smoothed(moved, evidence), aligned.box))
    raw, _ = finer.tele_at(rows, columns, toned=False)
    return finer, evidence, wide, raw


def fine(aligned: AlignedPair) -> tuple[AlignedPair, float]:
    """`aligned` with displacement and confidence at every SPACING wide pixels.

    Memory is one tile and the fields. Returns also the median residual, 0..255.
    """
    top, left, bottom, right = aligned.box
    shape = (-(-(bottom - top) // SPACING) + 1, -(-(right - left) // SPACING) + 1)
    displacement = np.zeros((*shape, 2), np.float32)
    confidence = np.zeros((*shape, 1), np.float32)
    vertex_rows = np.linspace(top, bottom - 1, shape[0])
    vertex_columns = np.linspace(left, right - 1, shape[1])

    def refine(corner: tuple[int, int]) -> Floats:
        y, x = corner
        tile = y, x, min(y + _TILE, bottom), min(x + _TILE, right)
        first, last = np.searchsorted(vertex_rows, (tile[0] - 0.5, tile[2] - 0.5))
        begin, end = np.searchsorted(vertex_columns, (tile[1] - 0.5, tile[3] - 0.5))
        if first == last or begin == end:
            return np.zeros(0, np.float32)
        place = slice(first, last), slice(begin, end)
        displacement[place], confidence[..., 0][place], residual = _fine_tile(
            aligned, tile, vertex_rows[place[0]], vertex_columns[place[1]]
        )
        return residual

    corners = [(y, x) for y in range(top, bottom, _TILE) for x in range(left, right, _TILE)]
    # Much of a tile's work runs on one core: as many tiles at once as there are cores.
    with ThreadPoolExecutor(THREADS) as pool:
        residuals = list(pool.map(refine, corners))
    # A sure pixel beside an unsure one is at the edge of what moved or is hidden.
    smooth = cv2.GaussianBlur(cv2.erode(confidence[..., 0], np.ones((3, 3))), (0, 0), 1.5)
    smooth = np.clip(smooth, 0, 1)  # running sums leave values like -1e-17
    return (
        replace(
            aligned,
            displacement=Grid(displacement, aligned.box),
            confidence=Grid(smooth[..., None], aligned.box),
        ),
        float(np.median(np.concatenate(residuals))) if any(map(len, residuals)) else 255.0,
    )


def _fine_tile(
    aligned: AlignedPair,
    tile: tuple[int, int, int, int],
    vertex_rows: npt.NDArray[np.float64],
    vertex_columns: npt.NDArray[np.float64],
) -> tuple[Floats, Floats, Floats]:
    top, left = tile[0] - _MARGIN, tile[1] - _MARGIN
    height, width = tile[2] - tile[0] + 2 * _MARGIN, tile[3] - tile[1] + 2 * _MARGIN
    rows, columns = (
        np.arange(top, top + height, dtype=float),
        np.arange(left, left + width, dtype=float),
    )
    wide = aligned.wide.window(top, left, height, width)
    tele, valid = aligned.tele_at(rows, columns)
    evidence = compare(wide, tele, valid)
    x, y = np.meshgrid(
        (vertex_columns - left).astype(np.float32), (vertex_rows - top).astype(np.float32)
    )
    flow = cv2.remap(cv2.blur(evidence.flow, (SPACING, SPACING)), x, y, cv2.INTER_LINEAR)
    sure = cv2.remap(
        cv2.blur(evidence.confidence, (SPACING + 1, SPACING + 1)), x, y, cv2.INTER_LINEAR
    )
    moved = _composed(aligned.displacement, vertex_rows, vertex_columns, flow)
    inside = evidence.valid[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN] > 0.99
    residual = evidence.residual[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN][inside]
    return moved, sure, residual[:: max(1, residual.size // 20_000)]


def _composed(
    displacement: Grid,
    rows: npt.NDArray[np.float64],
    columns: npt.NDArray[np.float64],
    flow: Floats,
) -> Floats:
    """The displacement of p when p sees what lay at p + flow(p): flow + displacement(p + flow).

    The displacement is smooth beside the flow, so that it is read at p and corrected to first
    order by its own slope.
    """
    here = displacement.at(rows, columns)
    step_y = float(rows[1] - rows[0]) if len(rows) > 1 else 1.0
    step_x = float(columns[1] - columns[0]) if len(columns) > 1 else 1.0
    dy = np.gradient(here, step_y, axis=0) if len(rows) > 1 else np.zeros_like(here)
    dx = np.gradient(here, step_x, axis=1) if len(columns) > 1 else np.zeros_like(here)
    result: Floats = (here + flow + dx * flow[..., :1] + dy * flow[..., 1:]).astype(np.float32)
    return result


def compare(wide: Floats, tele: Floats, valid: Floats) -> Evidence:
    """Flow from wide to tele colours, (h, w, 3) 0..1 each, and how far it can be trusted."""
    first, second = _luma(wide), _luma(tele)
    flow = _dis().calc(first, second, None)
    back = _dis().calc(second, first, None)
    y, x = np.mgrid[0 : flow.shape[0], 0 : flow.shape[1]].astype(np.float32)
    x, y = x + flow[..., 0], y + flow[..., 1]
    returned = flow + cv2.remap(back, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    valid = cv2.remap(valid, x, y, cv2.INTER_LINEAR, borderValue=0)
    moved = cv2.remap(
        second.astype(np.float32), x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    target = first.astype(np.float32)
    residual = np.abs(moved - target)
    round_trip = np.exp(-(returned[..., 0] ** 2 + returned[..., 1] ** 2))
    mean = cv2.blur(target, (9, 9))
    contrast = np.sqrt(np.maximum(cv2.blur(target * target, (9, 9)) - mean * mean, 0))
    photometric = 1 / (1 + (cv2.blur(residual, (5, 5)) / (6 + 0.5 * contrast)) ** 4)
    # Out of focus: the tele has less than half of the wide photo's energy in the finest band.
    energy = [
        cv2.blur((g - cv2.GaussianBlur(g, (0, 0), 1.0)) ** 2, (9, 9)) for g in (target, moved)
    ]
    focus = np.clip(2 * (energy[1] + 4) / (energy[0] + 4), 0, 1)
    confidence = (round_trip * photometric * focus * (valid > 0.99)).astype(np.float32)
    return Evidence(flow, confidence, residual, valid)


def _fine_energy(luma: Floats) -> Floats:
    energy: Floats = cv2.blur((luma - cv2.GaussianBlur(luma, (0, 0), 1.0)) ** 2, (9, 9))
    return energy


def _dis() -> Any:
    """DIS down to full resolution with a dense grid of patches: accuracy over speed."""
    dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    dis.setFinestScale(0)
    dis.setPatchSize(6)
    dis.setPatchStride(3)
    return dis


def _luma(colours: Floats) -> Luma:
    grey = cv2.cvtColor(colours, cv2.COLOR_RGB2GRAY)
    scaled: Luma = np.clip(np.rint(grey * 255), 0, 255).astype(np.uint8)
    return scaled


def _smoothed(moved: Floats, evidence: Evidence) -> Floats:
    """The coarse field, where it is not to be trusted filled in from where it is."""
    weight = evidence.confidence + 1e-3
    sigma = 3.0
    total = cv2.GaussianBlur(weight, (0, 0), sigma)
    filled = cv2.GaussianBlur(moved * weight[..., None], (0, 0), sigma) / total[..., None]
    mix = evidence.confidence[..., None]
    result: Floats = mix * moved + (1 - mix) * filled
    return result
