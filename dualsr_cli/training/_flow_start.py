"""Where the training of SpyNet and PWC-Net starts: levels that already add to each other's flow."""

from __future__ import annotations

import math

import torch
from torch import nn

from dualsr_cli.errors import UsageError

_LEAST = (12, 6, 4, 4)  # channels of a level's inner convolutions that the start takes
_FINE, _COARSE = 0.8, 1.6  # pixels: the Gaussians whose difference the images are seen through
_WINDOW = 2.0  # pixels: the Gaussian that evidence is gathered by
_BY_CHANCE = 0.02  # of what is drawn for the last layers of PWC-Net's decoders
_FROM_ABOVE = 0.3  # likewise, for the features that a level hands on
_PER_OFFSET = 0.02  # 20 pixels: the flow, for a likeness of 1, per pixel of a level
_SIGNS = ((1, 1), (-1, -1), (1, -1), (-1, 1))  # of I_x and I_t


def start_from_volumes(network: nn.Module) -> None:
    """Set a PWC-Net's decoders so that each level adds to the flow above it; the rest by chance.

    A level adds up the offsets of its cost volume, weighed by the likeness there: about the
    direction, once the features are learned by `Matching`. The flow above it is enlarged
    bilinearly and passed on. What else a flow is made of is drawn small: in its unit of 20 pixels
    a thousand numbers drawn by chance would bury that. Raises UsageError for another network.
    """
    if not hasattr(network, "predict_flow2"):
        raise UsageError("only PWC-Net starts from cost volumes: leave that start out")
    side = math.isqrt(network.get_parameter("conv6_0.0.weight").shape[1])  # of the offsets
    offsets = torch.arange(side) - float(side // 2)
    line = torch.tensor([0.25, 0.75, 0.75, 0.25])  # of a bilinear enlargement by 2
    with torch.no_grad():
        network.get_parameter("dc_conv7.weight").mul_(_BY_CHANCE)
        for level in range(6, 1, -1):
            weight = network.get_parameter(f"predict_flow{level}.weight").mul_(_BY_CHANCE)
            layers = [f"conv{level}_{number}.0.bias" for number in range(5)]
            first = sum(len(network.get_parameter(layer)) for layer in layers)
            volume = weight[:, first : first + side**2].view(2, side, side, 3, 3)
            volume[0] += _PER_OFFSET / 9 * offsets[:, None, None]
            volume[1] += _PER_OFFSET / 9 * offsets[:, None, None, None]
            enlarge = network.get_parameter(f"deconv{level}.weight").zero_()
            for axis in range(2):
                enlarge[axis, axis] = line[:, None] * line
                if level < 6:
                    weight[axis, axis - 4, 1, 1] += 1  # last come flow and two features from above
            if level > 2:
                network.get_parameter(f"upfeat{level}.weight").mul_(_FROM_ABOVE)


def start_from_gradients(network: nn.Module) -> None:
    """Set all levels of a SpyNet to a rough gradient method; the rest of them is drawn by chance.

    As in Lucas and Kanade (1981) a movement is told by the image's derivative along an axis (I_x)
    and the change between the images (I_t): with rectifiers, |I_x + I_t| - |I_x - I_t| =
    2 sign(I_x I_t) min(|I_x|, |I_t|), summed over a window. From random weights alone a level finds
    no such product for thousands of steps. Raises UsageError for levels of fewer channels.
    """
    if not isinstance(levels := getattr(network, "basic_module", None), nn.ModuleList):
        raise UsageError("only SpyNet starts from gradients: leave that start out")
    for level in levels:
        convolutions = [module for module in level.modules() if isinstance(module, nn.Conv2d)]
        widths = [module.out_channels for module in convolutions[:-1]]
        if len(widths) != len(_LEAST) or any(
            width < least for width, least in zip(widths, _LEAST, strict=True)
        ):
            raise UsageError(f"a start from gradients takes widths of {_LEAST} or more")
        with torch.no_grad():
            _set_level(*convolutions)


def _set_level(
    derive: nn.Conv2d, gather: nn.Conv2d, third: nn.Conv2d, fourth: nn.Conv2d, last: nn.Conv2d
) -> None:
    for convolution in (derive, gather, third, fourth, last):
        nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
        assert convolution.bias is not None
        nn.init.zeros_(convolution.bias)
    along_x, change = _filters()
    derivatives = (along_x, along_x.T)
    derive.weight[: _LEAST[0]] = 0
    for axis, derivative in enumerate(derivatives):
        for place, (sign, other) in enumerate(_SIGNS, 4 * axis):
            derive.weight[place, :3] = (sign * derivative - 2 * other * change) / 3
            derive.weight[place, 3:6] = (sign * derivative + 2 * other * change) / 3
        for place, sign in enumerate((1, -1), 8 + 2 * axis):  # of I_x alone
            derive.weight[place, :6] = sign * derivative / 3
    window = 3 * _gaussian(_WINDOW)
    gather.weight[: _LEAST[1]] = 0
    for axis in range(2):
        for place, sign in enumerate((1, -1), 2 * axis):
            # I_t has the sign of -u I_x.
            gather.weight[place, 4 * axis : 4 * axis + 2] = -sign * window
            gather.weight[place, 4 * axis + 2 : 4 * axis + 4] = sign * window
        gather.weight[4 + axis, 8 + 2 * axis : 10 + 2 * axis] = window
    for convolution in (third, fourth):  # hand the evidence on, positive and negative by itself
        convolution.weight[:4] = 0
        for place in range(4):
            convolution.weight[place, place, 3, 3] = 1
    last.weight.mul_(0.01)
    for axis in range(2):
        last.weight[axis, 2 * axis, 3, 3] = 0.3
        last.weight[axis, 2 * axis + 1, 3, 3] = -0.3


def _filters() -> tuple[torch.Tensor, torch.Tensor]:
    """7 x 7: the derivative along x of a difference of Gaussians, and that difference.

    Neither sees how bright an image is as a whole.
    """
    x = torch.arange(-3.0, 4.0)
    fine, coarse = _gaussian(_FINE), _gaussian(_COARSE)
    derivative = x / _FINE**2 * fine - x / _COARSE**2 * coarse
    scale = 0.6 / (fine - coarse).norm()
    return scale * derivative, scale * (fine - coarse)


def _gaussian(sigma: float) -> torch.Tensor:
    """7 x 7, of sum 1."""
    x = torch.arange(-3.0, 4.0)
    line = torch.exp(-(x**2) / (2 * sigma**2))
    line = line / line.sum()
    return line[:, None] * line
