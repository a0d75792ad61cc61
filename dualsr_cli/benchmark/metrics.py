"""PSNR, SSIM and LPIPS as maps over an image, from which regions are cut, and as one number.

Images are (H, W, 3) RGB or (H, W) of one channel, in levels: 0..255, whole or not, of any number
type, and a network's may go beyond. What is computed from them is float64, in bands of rows, so
that an image of 9 MP takes little more than its maps.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

import cv2
import numpy as np
import numpy.typing as npt

from dualsr_cli.errors import InputError

if TYPE_CHECKING:
    import torch

Array = npt.NDArray[Any]
Map = npt.NDArray[np.float64]
Rounding = Literal["none", "half-even", "half-up", "down"]
Backbone = Literal["alex", "vgg"]

PEAK = 255.0
SSIM_MARGIN = 5  # pixels on each side that have no window of 11 around them
SSIM_SIDE = 2 * SSIM_MARGIN + 1
LPIPS_SIDE = 31  # pixels, the smallest image on which AlexNet's last layers have a place

_TORCHVISION = "https://download.pytorch.org/models"
_C1, _C2 = (0.01 * PEAK) ** 2, (0.03 * PEAK) ** 2
_WINDOW = cv2.getGaussianKernel(SSIM_SIDE, 1.5)
_BAND = 64  # rows
_LUMA = (65.738 / 256, 129.057 / 256, 25.064 / 256)


def levels(image: Array, rounding: Rounding = "none") -> Array:
    """An image in levels. Raises ValueError for NaN and infinity, and for other number types.

    image: uint8 0..255, uint16 0..65535, or floating point 0..1, which may go beyond. rounding:
    "none" keeps what there is; the others clamp to 0..255 and make whole numbers, uint8: by
    rounding halves to even, by rounding halves up, or by dropping what is behind the point.
    """
    if image.dtype == np.uint8:
        return image
    if image.dtype == np.uint16:
        values = image / 257.0
    elif image.dtype.kind == "f":
        values = image * image.dtype.type(PEAK)  # in its own precision, as the papers' code does
        if not np.isfinite(values).all():
            raise ValueError("the image has values that are no numbers")
    else:
        raise ValueError(f"an image of {image.dtype} is neither uint8, uint16 nor floating point")
    if rounding == "none":
        return values
    return _ROUNDINGS[rounding](np.clip(values, 0, PEAK)).astype(np.uint8)


_ROUNDINGS: dict[str, Callable[[Array], Array]] = {
    "half-even": np.rint,
    "half-up": lambda values: np.floor(values + 0.5),
    "down": np.floor,
}


def luma(image: Array) -> Map:
    """(H, W, 3) -> (H, W): Y of BT.601 in 16..235, by the coefficients of TTSR's and DCSR's code.

    MATLAB's rgb2ycbcr divides by 255, not 256, and so gives slightly larger differences.
    """
    red, green, blue = (image[..., n] * weight for n, weight in enumerate(_LUMA))
    luma: Map = red + green + blue + 16.0
    return luma


def squared_error(result: Array, truth: Array) -> Map:
    """(H, W): the squared difference, in levels, by pixel, the mean of its channels.

    Raises ValueError for two sizes.
    """
    _check_sizes(result, truth)
    error = np.empty(truth.shape[:2])
    for band in _bands(len(truth)):
        difference = result[band].astype(np.float64) - truth[band]
        error[band] = _channel_mean(difference * difference)
    return error


def psnr(mean_squared_error: float) -> float:
    """In dB, of a peak of 255 levels; infinite where the error is 0."""
    if mean_squared_error == 0:
        return math.inf
    return 10 * math.log10(PEAK**2 / mean_squared_error)


def ssim_map(result: Array, truth: Array, *, sample_covariance: bool = False) -> Map:
    """(H - 10, W - 10): structural similarity by window, the mean of its channels.

    Wang et al. (2004): 11 x 11 Gaussian windows of sigma 1.5, those that lie whole in the image;
    the place (y, x) has the window of the image's rows y..y+10 and columns x..x+10. By default as
    their MATLAB code has it, and the papers' copies of that; sample_covariance: variances times
    121/120, as scikit-image has it by default.

    Raises ValueError for two sizes, and for a side of fewer than 11 pixels.
    """
    _check_sizes(result, truth)
    height, width = truth.shape[:2]
    if min(height, width) < SSIM_SIDE:
        raise ValueError(f"{height} x {width} pixels have no window of {SSIM_SIDE}")
    unbiased = SSIM_SIDE**2 / (SSIM_SIDE**2 - 1) if sample_covariance else 1.0
    found = np.empty((height - 2 * SSIM_MARGIN, width - 2 * SSIM_MARGIN))
    for band in _bands(len(found)):
        rows = slice(band.start, band.stop + 2 * SSIM_MARGIN)
        x, y = result[rows].astype(np.float64), truth[rows].astype(np.float64)
        mean_x, mean_y = _windows(x), _windows(y)
        squares, product = mean_x**2 + mean_y**2, mean_x * mean_y
        variances = unbiased * (_windows(x * x + y * y) - squares)
        covariance = unbiased * (_windows(x * y) - product)
        similarity = (2 * product + _C1) * (2 * covariance + _C2)
        similarity /= (squares + _C1) * (variances + _C2)
        found[band] = _channel_mean(similarity)
    return found


def lpips_layers(
    result: Array, truth: Array, backbone: Backbone = "alex", device: str = "cpu"
) -> list[npt.NDArray[np.float32]]:
    """The perceptual distance (Zhang et al. 2018, version 0.1) in each of five layers: (h, w) maps.

    The `lpips` package's network on weights that lie here: "alex" on those of models/alexnet;
    "vgg" on VGG16's from torchvision's cache. Layer by layer, so that 9 MP take about 1 GB with
    "alex"; with "vgg" some 14 GB.

    Raises ValueError for anything but two RGB images of one size of at least 31 pixels a side,
    InputError where the weights are not there or not right.
    """
    _check_sizes(result, truth)
    height, width = truth.shape[:2]
    if truth.ndim != 3 or truth.shape[2] != 3 or min(height, width) < LPIPS_SIDE:
        raise ValueError(
            f"LPIPS of {truth.shape}: it takes RGB, {LPIPS_SIDE} pixels or more a side"
        )
    import torch
    from lpips import normalize_tensor

    network = load_lpips(backbone, device)
    found = []
    with torch.inference_mode():
        x, y = (network.scaling_layer(_signed(image, device)) for image in (result, truth))
        for number, linear in enumerate(network.lins, 1):
            slice_ = getattr(network.net, f"slice{number}")
            x, y = slice_(x), slice_(y)  # (1, C, h, w)
            distance = linear((normalize_tensor(x) - normalize_tensor(y)) ** 2)  # (1, 1, h, w)
            found.append(distance[0, 0].cpu().numpy())
    return found


def lpips_value(layers: Sequence[npt.NDArray[np.float32]]) -> float:
    """The plain LPIPS: each layer's mean over its places, summed."""
    return float(sum(layer.mean(dtype=np.float64) for layer in layers))


def lpips_map(layers: Sequence[npt.NDArray[np.float32]], shape: tuple[int, int]) -> Map:
    """(H, W), the image's `shape`: the layers laid over it bilinearly and summed.

    `lpips` has it as `spatial=True`. Its mean is near the plain value, not equal to it.
    """
    import torch

    total = torch.zeros(shape)
    for layer in layers:
        total += torch.nn.functional.interpolate(
            torch.from_numpy(layer)[None, None], size=shape, mode="bilinear", align_corners=False
        )[0, 0]
    laid: Map = total.numpy().astype(np.float64)
    return laid


@cache
def load_lpips(backbone: Backbone, device: str) -> Any:
    """The package's network, built without its download; nothing changes it.

    Raises InputError where the weights are not there or not right.
    """
    from lpips import LPIPS

    tensors = _WEIGHTS[backbone]()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it calls torchvision as that was called in 2021
        network = LPIPS(net=backbone, pnet_rand=True, verbose=False)
    own = network.net.state_dict()  # "slice2.3.weight" is torchvision's "features.3.weight"
    network.net.load_state_dict(
        {name: tensors["features." + name.partition(".")[2]].float() for name in own}
    )
    return network.requires_grad_(False).to(device)


def _alexnet() -> dict[str, torch.Tensor]:
    from dualsr_cli.networks import find_model, read_weights

    model = find_model("alexnet")
    return read_weights(model.weights, model.sha256)


def _vgg16() -> dict[str, torch.Tensor]:
    from dualsr_cli.networks import pretrained_vgg

    try:
        return pretrained_vgg("vgg16", ["relu5_3"]).state_dict()
    except InputError as error:
        if error.path.exists():
            raise
        raise InputError(
            error.path,
            f"is not there, and lpips-vgg needs it: get {_TORCHVISION}/{error.path.name} (553 MB) "
            "and put it there, or leave lpips-vgg out",
        ) from error


_WEIGHTS = {"alex": _alexnet, "vgg": _vgg16}


def _signed(image: Array, device: str) -> torch.Tensor:
    """(H, W, 3) levels -> (1, 3, H, W) in -1..1, float32."""
    import torch

    values = torch.from_numpy(image.transpose(2, 0, 1).astype(np.float32))[None].to(device)
    return values.contiguous().div_(PEAK / 2).sub_(1)


def _check_sizes(result: Array, truth: Array) -> None:
    if result.shape != truth.shape:
        raise ValueError(f"the result is {result.shape}, the truth {truth.shape}")


def _bands(rows: int) -> Iterator[slice]:
    for top in range(0, rows, _BAND):
        yield slice(top, min(top + _BAND, rows))


def _windows(values: Map) -> Map:
    """The weighted mean of each window that lies whole in (h, w) or (h, w, 3)."""
    filtered = cv2.sepFilter2D(values, cv2.CV_64F, _WINDOW, _WINDOW)
    inside: Map = filtered[SSIM_MARGIN:-SSIM_MARGIN, SSIM_MARGIN:-SSIM_MARGIN]
    return inside


def _channel_mean(values: Map) -> Map:
    mean: Map = values.mean(axis=2) if values.ndim == 3 else values
    return mean
