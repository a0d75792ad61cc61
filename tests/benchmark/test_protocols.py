"""Each protocol against the formulas of its paper's programs, computed in another way."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
from skimage.metrics import structural_similarity

from dualsr_cli.benchmark import METRICS, PROTOCOLS, REGIONS, lpips_layers, lpips_value, score
from dualsr_cli.errors import InputError

Numbers = npt.NDArray[Any]

BOX = (31, 40, 78, 102)
TOP, LEFT, BOTTOM, RIGHT = BOX
SIZE = (116, 143)
PIXELS = ("psnr", "ssim")


@pytest.fixture(scope="module")
def images() -> tuple[Numbers, Numbers]:
    """What a network gives, float32 and partly beyond 0..1, and the truth, uint8."""
    random = np.random.default_rng(0)
    smooth = cv2.GaussianBlur(random.uniform(-700, 955, (*SIZE, 3)), (0, 0), 2.5)
    result = smooth / 255 * 1.02 + random.normal(0, 0.04, smooth.shape)
    assert result.min() < 0 and result.max() > 1
    return result.astype(np.float32), np.clip(np.rint(smooth), 0, 255).astype(np.uint8)


def decibels(error: float) -> float:
    return 10 * math.log10(255 * 255 / error)


def wang(x: Numbers, y: Numbers) -> Numbers:
    """The SSIM map of one channel, by windows of two dimensions, term by term."""
    kernel = cv2.getGaussianKernel(11, 1.5)
    window = kernel @ kernel.T

    def mean(values: Numbers) -> Numbers:
        return cv2.filter2D(values, -1, window)[5:-5, 5:-5]

    x, y = x.astype(np.float64), y.astype(np.float64)
    a, b = mean(x), mean(y)
    var_x, var_y, cov = mean(x * x) - a * a, mean(y * y) - b * b, mean(x * y) - a * b
    c, d = 2.55**2, 7.65**2
    similarity: Numbers = (2 * a * b + c) * (2 * cov + d)
    return similarity / ((a * a + b * b + c) * (var_x + var_y + d))


def y_channel(image: Numbers) -> Numbers:
    y: Numbers = 16 + image.astype(np.float64) @ (np.array([65.738, 129.057, 25.064]) / 256)
    return y


def nearest(result: Numbers) -> Numbers:
    eight_bits: Numbers = np.rint(np.clip(result.astype(np.float64) * 255, 0, 255)).astype(np.uint8)
    return eight_bits


def check(found: dict[str, dict[str, float]], expected: dict[str, tuple[float, float]]) -> None:
    assert set(found) == set(expected)
    for region, (psnr, ssim) in expected.items():
        assert found[region]["psnr"] == pytest.approx(psnr, abs=1e-6), region
        assert found[region]["ssim"] == pytest.approx(ssim, abs=1e-6), region


def test_kedusr(images: tuple[Numbers, Numbers]) -> None:
    result, truth = images
    output = result * np.float32(255)
    squares = (output.astype(np.float64) - truth) ** 2
    maps = np.stack([wang(output[..., c], truth[..., c]) for c in range(3)], axis=2)
    area = (BOTTOM - TOP) * (RIGHT - LEFT)

    def cut(values: Numbers) -> tuple[float, float, float]:
        inside = values[TOP:BOTTOM, LEFT:RIGHT]  # of the SSIM map too, which begins 5 pixels later
        rest = values.copy()
        rest[TOP:BOTTOM, LEFT:RIGHT] = 0
        return values.mean(), inside.mean(), rest.sum() / (values.size - 3 * area)

    errors, similarities = cut(squares), cut(maps)
    check(
        score(result, truth, BOX, "kedusr", metrics=PIXELS),
        {r: (decibels(errors[n]), similarities[n]) for n, r in enumerate(REGIONS)},
    )


@pytest.mark.parametrize(("protocol", "shave"), [("dcsr", 2), ("dcsr-x4", 4), ("ttsr", 0)])
def test_on_luma(images: tuple[Numbers, Numbers], protocol: str, shave: int) -> None:
    result, truth = images
    weights = torch.tensor([65.738, 129.057, 25.064], dtype=torch.float64) / 256
    x, y = (torch.from_numpy(image).double() for image in (nearest(result), truth))
    difference = ((x - y) / 255 * weights).sum(2)
    end = -shave or None
    error = difference[shave:end, shave:end].pow(2).mean().item()
    maps = wang(*(y_channel(image)[shave:end, shave:end] for image in (nearest(result), truth)))
    found = score(result, truth, None, protocol, metrics=PIXELS)
    check(found, {"full": (-10 * math.log10(error), maps.mean())})
    # With a box, each pixel and each window's middle is where it is in the image.
    regions = score(result, truth, BOX, protocol, metrics=PIXELS)
    box = difference[TOP:BOTTOM, LEFT:RIGHT]
    assert regions["center"]["psnr"] == pytest.approx(-10 * math.log10(box.pow(2).mean()), abs=1e-6)
    start = shave + 5
    windows = maps[TOP - start : BOTTOM - start, LEFT - start : RIGHT - start]
    assert regions["center"]["ssim"] == pytest.approx(windows.mean(), abs=1e-6)
    area = windows.size / maps.size
    mixed = area * regions["center"]["ssim"] + (1 - area) * regions["corner"]["ssim"]
    assert mixed == pytest.approx(maps.mean(), abs=1e-6)


def test_selfdzsr(images: tuple[Numbers, Numbers]) -> None:
    result, truth = nearest(images[0]), images[1]
    strips = [
        np.s_[:, :LEFT],
        np.s_[:TOP, LEFT:RIGHT],
        np.s_[BOTTOM:, LEFT:RIGHT],
        np.s_[:, RIGHT:],
    ]

    def part(place: Any) -> tuple[float, float, float, int]:
        x, y = result[place], truth[place]
        ssim = structural_similarity(
            x, y, win_size=11, data_range=255, channel_axis=2, gaussian_weights=True
        )
        lpips = lpips_value(lpips_layers(x, y))
        return ((x / 255 - y / 255) ** 2).mean(), ssim, lpips, x.size

    error, ssim, lpips, area = np.array([part(place) for place in strips]).T
    expected = {
        "corner": ((error * area).sum() / area.sum(), ssim.mean(), lpips.mean()),
        "center": part(np.s_[TOP:BOTTOM, LEFT:RIGHT])[:3],
        "full": part(np.s_[:])[:3],
    }
    found = score(images[0], truth, BOX, "selfdzsr")
    assert set(found) == set(expected)
    for region, (squares, *others) in expected.items():
        values = [-10 * math.log10(squares), *others]
        assert [found[region][m] for m in METRICS] == pytest.approx(values, abs=1e-6)


def test_awnet(images: tuple[Numbers, Numbers]) -> None:
    result, truth = images
    cut = np.clip(result.astype(np.float64) * 255, 0, 255).astype(np.uint8)
    error = ((cut.astype(float) - truth) ** 2).mean()
    ssim = np.mean([wang(cut[..., c], truth[..., c]).mean() for c in range(3)])
    check(
        score(result, truth, None, "awnet", metrics=PIXELS),
        {"full": (decibels(error), float(ssim))},
    )


@pytest.mark.parametrize("protocol", ["half-size", "city100"])
def test_ours_cut_a_footprint_by_pixel(images: tuple[Numbers, Numbers], protocol: str) -> None:
    result, truth = images
    mask = np.zeros(SIZE, np.uint8)
    cv2.fillConvexPoly(mask, np.array([[40, 31], [110, 28], [102, 80], [38, 78]], np.int32), 1)
    inside = mask > 0
    squares = (nearest(result).astype(float) - truth) ** 2
    maps = np.stack([wang(nearest(result)[..., c], truth[..., c]) for c in range(3)], axis=2)
    within = inside[5:-5, 5:-5]
    check(
        score(result, truth, inside, protocol, metrics=PIXELS),
        {
            "full": (decibels(squares.mean()), maps.mean()),
            "center": (decibels(squares[inside].mean()), maps[within].mean()),
            "corner": (decibels(squares[~inside].mean()), maps[~within].mean()),
        },
    )
    # What knows boxes only takes the mask's.
    rows, columns = (np.flatnonzero(inside.any(axis)) for axis in (1, 0))
    box = (int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1)
    for known in ("kedusr", "selfdzsr"):
        by_mask, by_box = (score(result, truth, b, known, metrics=PIXELS) for b in (inside, box))
        assert by_mask == by_box


def test_lpips_of_kedusr_is_the_mean_of_its_map_of_the_saved_file(
    images: tuple[Numbers, Numbers],
) -> None:
    result, truth = images
    saved = np.clip(np.floor(result * 255 + 0.5), 0, 255).astype(np.uint8)
    layers = lpips_layers(saved, truth)
    laid = sum(
        torch.nn.functional.interpolate(torch.from_numpy(layer)[None, None], SIZE, mode="bilinear")
        for layer in layers
    )
    assert isinstance(laid, torch.Tensor)
    spatial = laid[0, 0].double().numpy()
    found = score(result, truth, BOX, "kedusr", metrics=["lpips"])
    inside = np.zeros(SIZE, bool)
    inside[TOP:BOTTOM, LEFT:RIGHT] = True
    for region, part in (("full", inside | True), ("center", inside), ("corner", ~inside)):
        assert found[region] == {"lpips": pytest.approx(spatial[part].mean(), abs=1e-6)}
    plain = score(result, truth, None, "half-size", metrics=["lpips"])["full"]["lpips"]
    assert plain == pytest.approx(lpips_value(lpips_layers(nearest(result), truth)), abs=1e-6)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_any_protocol_scores_anything(protocol: str, images: tuple[Numbers, Numbers]) -> None:
    result, truth = (image[:96, :93] for image in images)
    deep = truth.astype(np.uint16) * 257
    assert set(score(result, deep, None, protocol)) == {"full"}
    assert set(score(result, deep, None, protocol)["full"]) == set(METRICS)
    assert set(score(result, truth, (0, 0, 0, 0), protocol)) == {"full"}
    assert set(score(result, truth, np.zeros((96, 93), bool), protocol)) == {"full"}
    whole = score(result, truth, (0, 0, 96, 93), protocol)
    assert "corner" not in whole
    assert whole["center"]["psnr"] == whole["full"]["psnr"]
    edge = score(truth, truth, (0, 0, 12, 93), protocol, metrics=PIXELS)  # too narrow for LPIPS
    assert edge["center"] == {"psnr": math.inf, "ssim": pytest.approx(1)}
    dot = score(result[:1, :1], truth[:1, :1], (0, 0, 1, 1), protocol)
    assert set(dot.get("full", {})) <= {"psnr"}


def test_what_cannot_be_scored(images: tuple[Numbers, Numbers]) -> None:
    result, truth = images
    broken = result.copy()
    broken[3, 4, 1] = np.nan
    wrong: list[tuple[Any, ...]] = [
        (result, truth, None, "psnr"),
        (result[1:], truth, None, "kedusr"),
        (result[..., 0], truth[..., 0], None, "kedusr"),
        (result, truth, (0, 0, SIZE[0] + 1, 9), "kedusr"),
        (result, truth, (9, 0, 3, 9), "kedusr"),
        (result, truth, np.ones((3, 3), bool), "half-size"),
        (broken, truth, None, "kedusr"),
        (broken, truth, None, "dcsr"),
    ]
    for arguments in wrong:
        with pytest.raises(ValueError):
            score(*arguments)
    with pytest.raises(ValueError, match="unknown metrics: mse"):
        score(result, truth, None, "kedusr", metrics=["mse"])


def test_vgg_is_taken_only_where_it_lies(
    images: tuple[Numbers, Numbers], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    place = rf"{re.escape(str(tmp_path))}.*vgg16-397923af\.pth is not there"
    told = rf"{place}.*: get https://\S+/vgg16-397923af\.pth \(553 MB\) and put it there, or leave"
    with pytest.raises(InputError, match=told):
        score(*images, None, "half-size", metrics=["lpips-vgg"])
