"""What `benchmarks.bounds` takes for the best linear filter."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.bounds import best_filtered


def test_the_best_filter_undoes_what_a_filter_did_where_it_is_asked_for() -> None:
    """Of a bilinear enlargement it is that filter; what disturbs the rest does not count."""
    random = np.random.default_rng(0)
    wide = random.integers(0, 256, (40, 60, 3), np.uint8)
    truth = cv2.resize(wide, (120, 80), interpolation=cv2.INTER_LINEAR)
    where = np.zeros((80, 120), bool)
    where[:, :90] = True
    disturbed = truth.copy()
    disturbed[:, 90:] = random.integers(0, 256, (80, 30, 3), np.uint8)
    found = best_filtered(wide, disturbed, where)
    assert np.abs(found.astype(int) - truth).max() <= 1
