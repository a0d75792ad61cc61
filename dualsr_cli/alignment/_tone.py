"""Colour and tone of the tele photo in the wide photo's terms: one matrix, then local gains."""

from __future__ import annotations

import cv2
import numpy as np

from dualsr_cli.alignment.aligned_pair import Box, Floats, Grid, Tone

_CELLS = 8


def fit(wide: Floats, tele: Floats, weight: Floats, box: Box) -> Tone:
    """The tone from tele to wide colours, both (h, w, 3) 0..1 over `box`, with weights (h, w).

    Least squares on blurred colours (misalignment by a pixel or two must not matter), reweighted
    against what moved; clipped pixels are left out, for they tell nothing of the curve.
    """
    blur = max(1.0, max(wide.shape) / 200)
    a, b = cv2.GaussianBlur(tele, (0, 0), blur), cv2.GaussianBlur(wide, (0, 0), blur)
    clipped = (np.maximum(a, b).max(axis=-1) > 0.98) | (np.maximum(a, b).max(axis=-1) < 0.01)
    usable = np.where(clipped, 0, weight).astype(np.float32)
    identity = Tone.identity(box)
    if usable.sum() < 200:
        return identity
    matrix, offset = _global(a, b, usable)
    return Tone(matrix, offset, _local(a @ matrix + offset, b, usable, box))


def _global(tele: Floats, wide: Floats, weight: Floats) -> tuple[Floats, Floats]:
    kept = weight > 0
    source = np.column_stack([tele[kept], np.ones(int(kept.sum()), np.float32)]).astype(np.float64)
    target = wide[kept].astype(np.float64)
    strength = weight[kept].astype(np.float64)
    prior = np.vstack([np.eye(3), np.zeros((1, 3))])  # where colours are few: leave them alone
    pull = 1e-3 * strength.sum() * np.diag([1.0, 1.0, 1.0, 0.1])
    solution = prior
    for _ in range(4):
        error = np.abs(source @ solution - target).mean(axis=1)
        robust = strength / (1 + (error / 0.03) ** 2)
        weighted = source * robust[:, None]
        solution = np.linalg.solve(source.T @ weighted + pull, weighted.T @ target + pull @ prior)
    return solution[:3].astype(np.float32), solution[3].astype(np.float32)


def _local(tele: Floats, wide: Floats, weight: Floats, box: Box) -> Grid:
    """Gain and offset that bring local mean and contrast together, tied to (1, 0)."""
    sigma = max(wide.shape[:2]) / _CELLS
    moments = np.concatenate([tele, wide, tele * tele, tele * wide], axis=-1) * weight[..., None]
    stack = np.concatenate([moments, weight[..., None]], axis=-1)
    # The moments vary slowly: reduced first, blurred then.
    size = (min(64, wide.shape[1]), min(64, wide.shape[0]))
    blur = sigma * max(size) / max(wide.shape[:2])
    channels = [
        cv2.GaussianBlur(cv2.resize(channel, size, interpolation=cv2.INTER_AREA), (0, 0), blur)
        for channel in np.ascontiguousarray(np.moveaxis(stack, -1, 0))
    ]
    mean = np.stack(channels[:-1], axis=-1) / (channels[-1][..., None] + 1e-3)
    t, w, tt, tw = (mean[..., 3 * i : 3 * i + 3] for i in range(4))
    variance, covariance = tt - t * t, tw - t * w
    prior = 0.02**2  # below this contrast the local gain is not to be trusted
    gain = np.clip((covariance + prior) / (variance + prior), 0.6, 1.6)
    values = np.concatenate([gain, w - gain * t], axis=-1)
    side = _CELLS + 1
    vertices = [cv2.resize(values[..., c], (side, side)) for c in range(6)]
    return Grid(np.stack(vertices, axis=-1).astype(np.float32), box)
