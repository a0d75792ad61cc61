"""Mesh homography: a smooth displacement beside the global homography, from the same features.

AWnet (section 5.2.1) aligns its two cameras by a mesh-based homography before it estimates flow:
one homography cannot follow a scene that is not flat. Here each vertex of a coarse mesh over the
footprint gets a displacement that the matched features around it ask for (bilinear weights inside
a cell, as in Liu et al., Content-Preserving Warps, 2009), tied to its neighbours' by second
differences and solved robustly.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dualsr_cli.alignment._homography import Matches, apply

_SMOOTHNESS = 4.0
_ROBUST = 2.0  # wide pixels; a feature that the mesh misses by more counts less


def fit(
    matches: Matches, box: tuple[int, int, int, int], cells: int = 8
) -> npt.NDArray[np.float32]:
    """Displacements in wide pixels at (cells + 1, cells + 1) vertices over `box`, (.., .., 2).

    wide point p -> tele point homography(p + displacement(p)).
    """
    top, left, bottom, right = box
    side = cells + 1
    if len(matches.wide) < 20:
        return np.zeros((side, side, 2), np.float32)
    target = apply(np.linalg.inv(matches.homography), matches.tele) - matches.wide
    u = (matches.wide[:, 0] - left) / max(right - left, 1) * cells
    v = (matches.wide[:, 1] - top) / max(bottom - top, 1) * cells
    within = (u >= 0) & (u <= cells) & (v >= 0) & (v <= cells)
    u, v, target = u[within], v[within], target[within]
    column, row = np.minimum(u.astype(int), cells - 1), np.minimum(v.astype(int), cells - 1)
    u, v = u - column, v - row
    data = np.zeros((len(u), side * side))
    index = np.arange(len(u))
    for down, right_, weight in (
        (0, 0, (1 - u) * (1 - v)), (0, 1, u * (1 - v)), (1, 0, (1 - u) * v), (1, 1, u * v),
    ):  # fmt: skip
        data[index, (row + down) * side + column + right_] = weight
    smooth = _second_differences(side)
    tie = smooth.T @ smooth * (_SMOOTHNESS * max(len(u), 1) / (side * side))
    solution = np.zeros((side * side, 2))
    for _ in range(5):
        residual = np.linalg.norm(data @ solution - target, axis=1)
        weight = 1 / np.sqrt(1 + (residual / _ROBUST) ** 2)
        weighted = data * (weight * weight)[:, None]
        solution = np.linalg.solve(weighted.T @ data + tie, weighted.T @ target)
    return solution.reshape(side, side, 2).astype(np.float32)


def _second_differences(side: int) -> npt.NDArray[np.float64]:
    """Rows that are zero for a plane, and a weak pull to zero for vertices without features."""
    vertex = np.arange(side * side).reshape(side, side)
    rows = []
    for before, at, after in (
        (vertex[:, :-2], vertex[:, 1:-1], vertex[:, 2:]),
        (vertex[:-2], vertex[1:-1], vertex[2:]),
    ):
        block = np.zeros((at.size, side * side))
        index = np.arange(at.size)
        block[index, before.ravel()] = block[index, after.ravel()] = 1
        block[index, at.ravel()] = -2
        rows.append(block)
    return np.vstack([*rows, 0.05 * np.eye(side * side)])
