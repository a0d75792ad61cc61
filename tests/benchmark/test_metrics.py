"""PSNR, SSIM and LPIPS against scikit-image and against the lpips package itself."""

from __future__ import annotations

import copy
import os
import socket
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import lpips
import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from dualsr_cli.benchmark import (
    levels,
    lpips_layers,
    lpips_map,
    lpips_value,
    luma,
    metrics,
    psnr,
    squared_error,
    ssim_map,
)
from dualsr_cli.networks import find_model, read_weights

Pixels = npt.NDArray[np.uint8]


def pictures(height: int, width: int, seed: int = 0) -> tuple[Pixels, Pixels]:
    """A smooth picture, and the same with noise and another contrast."""
    random = np.random.default_rng(seed)
    smooth = cv2.GaussianBlur(random.uniform(-600, 855, (height, width, 3)), (0, 0), 3)
    noisy = 0.9 * smooth + 9 + random.normal(0, 8, smooth.shape)
    truth, result = (np.clip(np.rint(p), 0, 255).astype(np.uint8) for p in (smooth, noisy))
    return result, truth


@pytest.mark.parametrize("sample_covariance", [False, True])
@pytest.mark.parametrize("size", [(11, 11), (79, 42), (150, 75)])  # windows in one band and more
def test_psnr_and_ssim_are_scikit_images(size: tuple[int, int], sample_covariance: bool) -> None:
    result, truth = pictures(*size)
    found = psnr(squared_error(result, truth).mean())
    assert found == pytest.approx(peak_signal_noise_ratio(truth, result), abs=1e-9)
    similarity = ssim_map(result, truth, sample_covariance=sample_covariance)
    expected, whole = structural_similarity(
        truth, result, win_size=11, data_range=255, channel_axis=2, gaussian_weights=True,
        use_sample_covariance=sample_covariance, full=True,
    )  # fmt: skip
    assert similarity.mean() == pytest.approx(expected, abs=1e-9)
    np.testing.assert_allclose(similarity, whole[5:-5, 5:-5].mean(2), atol=1e-9)
    one = ssim_map(result[..., 1], truth[..., 1], sample_covariance=sample_covariance)
    np.testing.assert_allclose(one, whole[5:-5, 5:-5, 1], atol=1e-9)


def test_ssim_of_numbers_beyond_white_and_between_levels() -> None:
    truth = np.random.default_rng(1).uniform(0, 255, (40, 50))
    result = truth * 1.1 - 9
    expected = structural_similarity(
        truth, result, win_size=11, data_range=255, gaussian_weights=True,
        use_sample_covariance=False,
    )  # fmt: skip
    assert ssim_map(result, truth).mean() == pytest.approx(expected, abs=1e-9)


def test_equal_images_and_unequal_sizes() -> None:
    _, truth = pictures(20, 30)
    assert psnr(squared_error(truth, truth).mean()) == np.inf
    np.testing.assert_allclose(ssim_map(truth, truth), 1)
    assert lpips_value(lpips_layers(*pictures(31, 31)[1:] * 2)) == 0
    for metric in (squared_error, ssim_map, lpips_layers):
        with pytest.raises(ValueError, match="the truth"):
            metric(truth[1:], truth)
    with pytest.raises(ValueError, match="window"):
        ssim_map(truth[:10], truth[:10])
    for wrong in (truth[:, :, 0], truth):  # one channel, or too small
        with pytest.raises(ValueError, match="RGB"):
            lpips_layers(wrong, wrong)


def test_levels() -> None:
    whole = np.array([[[0, 7, 255]]], np.uint8)
    assert levels(whole) is whole
    np.testing.assert_allclose(levels(np.uint16([0, 257 * 7, 65535])), [0, 7, 255])
    given = np.array([-0.1, 2.5, 3.5, 3.9, 300]) / 255
    np.testing.assert_allclose(levels(given), [-0.1, 2.5, 3.5, 3.9, 300])
    assert levels(given.astype(np.float32)).dtype == np.float32
    rounded: dict[metrics.Rounding, list[int]] = {
        "half-even": [0, 2, 4, 4, 255],
        "half-up": [0, 3, 4, 4, 255],
        "down": [0, 2, 3, 3, 255],
    }
    for rounding, expected in rounded.items():
        found = levels(given, rounding)
        assert (found.dtype, found.tolist()) == (np.uint8, expected)
    for wrong in (np.array([0.5, np.nan]), np.array([np.inf]), np.array([1, 2])):
        with pytest.raises(ValueError):
            levels(wrong)


def test_luma_is_that_of_bt_601() -> None:
    image = np.random.default_rng(0).integers(0, 256, (6, 7, 3), dtype=np.uint8)
    expected = image @ np.array([65.481, 128.553, 24.966]) / 255 + 16  # MATLAB's, of ITU's table
    np.testing.assert_allclose(luma(image), expected, atol=0.2)
    np.testing.assert_allclose(luma(image), image @ [65.738, 129.057, 25.064] / 256 + 16)


@pytest.fixture(scope="module", autouse=True)
def no_network() -> Iterator[None]:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("tried to reach a network")

    metrics.load_lpips.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.hub, "load_state_dict_from_url", refuse)
        patch.setattr(torch.hub, "download_url_to_file", refuse)
        patch.setattr(socket.socket, "connect", refuse)
        yield


@pytest.fixture(scope="module")
def package() -> Any:
    """The lpips package as its README uses it, but for where the backbone comes from."""
    from lpips import LPIPS

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = LPIPS(net="alex", pnet_rand=True, verbose=False)
    model = find_model("alexnet")
    weights = read_weights(model.weights, model.sha256)
    layers = {0: "slice1.0", 3: "slice2.3", 6: "slice3.6", 8: "slice4.8", 10: "slice5.10"}
    assert len(weights) == 2 * len(layers)
    for number, place in layers.items():
        layer = network.net.get_submodule(place)
        layer.weight.data.copy_(weights[f"features.{number}.weight"])
        layer.bias.data.copy_(weights[f"features.{number}.bias"])
    return network


@pytest.mark.parametrize("size", [(31, 33), (64, 64), (150, 101)])
def test_lpips_is_the_packages(size: tuple[int, int], package: Any) -> None:
    result, truth = pictures(*size)
    layers = lpips_layers(result, truth)
    pair = lpips.im2tensor(result), lpips.im2tensor(truth)
    with torch.inference_mode(), pytest.MonkeyPatch.context() as patch:
        plain = package(*pair).item()
        patch.setattr(package, "spatial", True)
        spatial = package(*pair)[0, 0].numpy()
    assert lpips_value(layers) == pytest.approx(plain, abs=1e-6)
    np.testing.assert_allclose(lpips_map(layers, size), spatial, atol=1e-6)
    assert plain > 0.01


def test_rounding_the_weights_costs_little(sample_pairs: Path, package: Any) -> None:
    """Weights anywhere between those that round to the stored ones give nearly this distance."""
    with Image.open(sample_pairs / "facade" / "wide.jpg") as photo:
        part = photo.convert("RGB").crop((300, 300, 492, 460))
    small = part.resize((96, 80), Image.Resampling.BICUBIC)
    pair = np.asarray(small.resize(part.size, Image.Resampling.BICUBIC)), np.asarray(part)
    exact = copy.deepcopy(package)
    generator = torch.Generator().manual_seed(0)
    stored = read_weights(find_model("alexnet").weights)
    assert {name: t.dtype.itemsize for name, t in stored.items() if t.ndim > 1} == {
        f"features.{number}.weight": size
        for number, size in ((0, 4), (3, 4), (6, 2), (8, 2), (10, 2))
    }
    with torch.no_grad():
        for name, parameter in exact.net.named_parameters():
            rounded = stored["features." + name.partition(".")[2]]
            if rounded.dtype == torch.float16:
                step = (
                    torch.nextafter(rounded.abs(), torch.tensor(torch.inf).half()) - rounded.abs()
                )
                parameter += step * (torch.rand(parameter.shape, generator=generator) - 0.5)
        expected = exact(*(lpips.im2tensor(image) for image in pair)).item()
    assert expected > 0.05
    assert lpips_value(lpips_layers(*pair)) == pytest.approx(expected, abs=2e-5)


def test_lpips_of_the_packages_examples() -> None:
    """0.722 and 0.138, as its README has them.

    Its pictures are not passed on here: LPIPS_EXAMPLES names the folder `imgs` of its repository.
    """
    folder = os.environ.get("LPIPS_EXAMPLES")
    if not folder:
        pytest.skip("LPIPS_EXAMPLES names no folder with the package's example pictures")
    reference, first, second = (
        np.asarray(Image.open(Path(folder) / f"ex_{name}.png").convert("RGB"))
        for name in ("ref", "p0", "p1")
    )
    assert f"{lpips_value(lpips_layers(first, reference)):.3f}" == "0.722"
    assert f"{lpips_value(lpips_layers(second, reference)):.3f}" == "0.138"
