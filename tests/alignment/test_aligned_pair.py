"""Reading the transforms: grids, windows of the tele photo, validity."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import RegularGridInterpolator

from dualsr_cli.alignment import AlignedPair, Fit, Grid, Tone

from .conftest import Pixels, photo

BOX = (10, 20, 90, 140)  # top, left, bottom, right
FIT = Fit(100, 2.5, 0.0, 1.0, 0.0, 0.0, 1.0)


@pytest.fixture(scope="module")
def pair(scene: Pixels) -> AlignedPair:
    """A wide photo of 160 x 120 pixels with a tele of 300 x 200 laid on it by hand."""
    wide, tele = photo(scene[:120, :160], "wide.png"), photo(scene[300:500, :300], "tele.png")
    homography = np.array([[2.5, 0.1, -49.5], [-0.1, 2.5, -22.5], [1e-5, -2e-5, 1.0]])
    rng = np.random.default_rng(1)
    return AlignedPair(
        wide,
        tele,
        homography,
        BOX,
        Grid(rng.normal(0, 0.8, (5, 7, 2)).astype(np.float32), BOX),
        Tone.identity(BOX),
        Grid(np.ones((2, 2, 1), np.float32), BOX),
        FIT,
    )


@settings(deadline=None, max_examples=60)
@given(
    shape=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    rows=st.lists(st.floats(-30, 150), min_size=1, max_size=5),
    columns=st.lists(st.floats(-30, 200), min_size=1, max_size=5),
)
def test_a_grid_is_bilinear_and_goes_on_as_at_its_edge(
    shape: tuple[int, int], rows: list[float], columns: list[float]
) -> None:
    values = np.random.default_rng(0).normal(size=(*shape, 3)).astype(np.float32)
    top, left, bottom, right = BOX
    got = Grid(values, BOX).at(np.array(rows), np.array(columns))
    # The reference wants two vertices at least; one alone is the same everywhere.
    full = np.broadcast_to(values, (max(shape[0], 2), max(shape[1], 2), 3))
    reference = RegularGridInterpolator(
        (np.linspace(top, bottom - 1, full.shape[0]), np.linspace(left, right - 1, full.shape[1])),
        full,
    )
    y, x = np.meshgrid(
        np.clip(rows, top, bottom - 1), np.clip(columns, left, right - 1), indexing="ij"
    )
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, reference(np.stack([y, x], -1)), atol=1e-4)


@pytest.mark.parametrize("step", [1.0, 1 / 2.5, 0.25, 3.0])
def test_a_window_is_a_part_of_a_larger_one(pair: AlignedPair, step: float) -> None:
    rows, columns = np.arange(20, 80, step), np.arange(30, 130, step)
    colours, valid = pair.tele_at(rows, columns)
    part_colours, part_valid = pair.tele_at(rows[5:17], columns[3:30])
    np.testing.assert_allclose(part_colours, colours[5:17, 3:30], atol=2e-4)
    np.testing.assert_array_equal(part_valid, valid[5:17, 3:30])


def test_the_tele_is_read_where_the_transforms_say(pair: AlignedPair) -> None:
    """Against one bicubic look-up per pixel (Keys, a = -0.75 as OpenCV has it)."""
    rows, columns = np.array([30.0, 30.3, 30.6]), np.array([50.0, 50.3, 50.6, 50.9])
    colours, valid = pair.tele_at(rows, columns)
    assert valid.min() == 1

    def weight(x: float) -> float:
        x, a = abs(x), -0.75
        if x < 1:
            return (a + 2) * x**3 - (a + 3) * x**2 + 1
        return a * (x**3 - 5 * x**2 + 8 * x - 4) if x < 2 else 0.0

    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            dx, dy = pair.displacement.at(np.array([row]), np.array([column]))[0, 0]
            x, y, z = pair.homography @ [column + dx, row + dy, 1]
            x, y = x / z, y / z
            expected = sum(
                weight(x - u) * weight(y - v) * pair.tele.pixels[v, u].astype(float)
                for v in range(int(y) - 1, int(y) + 3)
                for u in range(int(x) - 1, int(x) + 3)
            )
            # OpenCV rounds positions to 1/32 pixel.
            np.testing.assert_allclose(colours[i, j] * 255, expected, atol=4)


def test_reading_at_wide_pixels_takes_the_mean_over_each(pair: AlignedPair) -> None:
    """Stripes of one tele pixel are grey at the wide photo's resolution, not moiré."""
    stripes = np.zeros_like(pair.tele.pixels)
    stripes[:, ::2] = 255
    still = replace(pair, tele=photo(stripes), displacement=Grid(np.zeros((2, 2, 2), "f4"), BOX))
    colours, _ = still.tele_at(np.arange(30.0, 80), np.arange(40.0, 120))
    assert np.abs(colours - 0.5).max() < 0.3
    assert np.abs(colours.mean() - 0.5) < 0.01


def test_valid_is_what_the_tele_shows(pair: AlignedPair) -> None:
    rows, columns = np.arange(0.0, 120), np.arange(0.0, 160)
    valid = pair.valid_at(rows, columns)
    y, x = np.meshgrid(rows, columns, indexing="ij")
    moved = np.stack([x, y], -1) + pair.displacement.at(rows, columns)
    points = np.concatenate([moved, np.ones((120, 160, 1))], -1) @ pair.homography.T
    points = points[..., :2] / points[..., 2:]
    inside = ((points >= 0) & (points <= [299, 199])).all(-1)
    assert 0.2 < inside.mean() < 0.9
    assert (valid == inside).mean() > 0.9999
    assert set(np.unique(valid)) <= {0, 1}


def test_the_corners_are_the_tele_photos(pair: AlignedPair) -> None:
    points = np.concatenate([pair.corners(), np.ones((4, 1))], 1) @ pair.homography.T
    expected = [[-0.5, -0.5], [299.5, -0.5], [299.5, 199.5], [-0.5, 199.5]]
    np.testing.assert_allclose(points[:, :2] / points[:, 2:], expected, atol=1e-6)


def test_the_footprint_stays_in_the_wide_photo(pair: AlignedPair) -> None:
    shifted = replace(
        pair, homography=pair.homography @ np.array([[1, 0, 60], [0, 1, 0], [0, 0, 1]])
    )
    top, left, bottom, right = shifted.footprint_box()
    assert 0 <= top < bottom <= 120
    assert 0 <= left < right <= 160
    assert left == 0


def test_tone_is_matrix_then_local_gain(pair: AlignedPair) -> None:
    rng = np.random.default_rng(2)
    matrix = rng.uniform(0, 0.6, (3, 3)).astype(np.float32)
    offset = np.array([0.1, -0.05, 0.02], np.float32)
    local = Grid(rng.uniform(0.8, 1.2, (3, 3, 6)).astype(np.float32), BOX)
    toned = replace(pair, tone=Tone(matrix, offset, local))
    rows, columns = np.arange(30.0, 50), np.arange(40.0, 70)
    raw, _ = toned.tele_at(rows, columns, toned=False)
    got, _ = toned.tele_at(rows, columns)
    gains = local.at(rows, columns)
    np.testing.assert_allclose(
        got, (raw @ matrix + offset) * gains[..., :3] + gains[..., 3:], atol=1e-5
    )


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("columns", [range(160), range(20, 90), range(100, 160), range(100, 101)])
def test_beyond_a_tilted_photos_horizon_nothing_is_seen(
    pair: AlignedPair, columns: range, sign: float
) -> None:
    # The denominator is 0 at column 100, in the middle of a pixel, and negative to its right.
    tilted = sign * np.array([[4.5, 0.1, -49.5], [-0.1, 2.5, -22.5], [-0.01, 0, 1.0]])
    still = replace(pair.displacement, values=np.zeros((2, 2, 2), np.float32))
    pair = replace(pair, homography=tilted, displacement=still, box=(10, 12, 90, 60))
    x, y = np.meshgrid(np.array(columns, float), np.arange(120.0))
    depth = 1 - 0.01 * x
    with np.errstate(divide="ignore", invalid="ignore"):
        u, v = (4.5 * x + 0.1 * y - 49.5) / depth, (-0.1 * x + 2.5 * y - 22.5) / depth
    seen = (depth > 0) & (u >= 0) & (v >= 0) & (u <= 299) & (v <= 199)
    valid = pair.valid_at(np.arange(120.0), np.array(columns, float))
    assert (valid != seen).mean() < 0.01
    colours, _ = pair.tele_at(np.arange(120.0), np.array(columns, float))
    assert np.isfinite(colours).all()
    inside = pair.tele_at(np.arange(120.0), np.array(columns, float), toned=False)[1] > 0.99
    assert not (inside & (depth <= 0)).any()
