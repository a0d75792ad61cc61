"""VGG16 and VGG19 (Simonyan and Zisserman, 2015) as features: the layers that are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from dualsr_cli.networks.checkpoints import load_into, read_weights
from dualsr_cli.networks.zoo import PUBLISHED, find_model, published_weights

_WIDTHS = (64, 128, 256, 512, 512)  # channels of each block
_DEPTHS = {"vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}  # convolutions of each block
MEAN = (0.485, 0.456, 0.406)  # of ImageNet's R, G and B
STD = (0.229, 0.224, 0.225)
_SHIPPED = "vgg16"


def vgg_layers(architecture: str) -> tuple[str, ...]:
    """The names of all layers, "conv1_1", "relu1_1", ... "pool5"; each has torchvision's number.

    Raises ValueError for an architecture other than "vgg16" and "vgg19".
    """
    if architecture not in _DEPTHS:
        raise ValueError(f"{architecture!r} is unknown: take one of {', '.join(_DEPTHS)}")
    names = []
    for block, depth in enumerate(_DEPTHS[architecture], 1):
        for number in range(1, depth + 1):
            names += [f"conv{block}_{number}", f"relu{block}_{number}"]
        names.append(f"pool{block}")
    return tuple(names)


def normalisation() -> nn.Conv2d:
    """A 1 x 1 convolution that takes ImageNet's mean off RGB in 0..1 and divides by its deviation.

    It is not trained, but the published checkpoints hold it among their weights.
    """
    conv = nn.Conv2d(3, 3, 1).requires_grad_(False)
    mean, std = torch.tensor(MEAN), torch.tensor(STD)
    conv.load_state_dict({"weight": torch.diag(1 / std)[:, :, None, None], "bias": -mean / std})
    return conv


class VGG(nn.Module):
    """Some layers of VGG16 or VGG19, built up to the deepest of them; not trained.

    Its parameters have torchvision's names. Raises ValueError for unknown or no layers.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, architecture: str, layers: Sequence[str]) -> None:
        super().__init__()
        names = vgg_layers(architecture)
        if not layers or not set(layers) <= set(names):
            raise ValueError(f"{tuple(layers)} are not layers of {architecture}")
        self.layers = tuple(layers)
        self.features = nn.Sequential()
        channels = 3
        for name in names[: max(map(names.index, layers)) + 1]:
            if name.startswith("conv"):
                width = _WIDTHS[int(name[4]) - 1]
                self.features.append(nn.Conv2d(channels, width, 3, padding=1))
                channels = width
            elif name.startswith("relu"):
                asked = name.replace("relu", "conv") in layers
                self.features.append(nn.ReLU(inplace=not asked))
            else:
                # Of an odd side the last row or column counts; torchvision drops it.
                self.features.append(nn.MaxPool2d(2, ceil_mode=True))
        self._names = names[: len(self.features)]
        self.register_buffer("mean", torch.tensor(MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(STD)[:, None, None], persistent=False)

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        """(B, 3, H, W) RGB, 0..1 -> (B, C, ceil(H / 2^n), ceil(W / 2^n)) by name, n pools before.

        Any size from 1 x 1 on. Gradients flow to the image. Raises ValueError for other shapes.
        """
        if image.ndim != 4 or image.shape[1] != 3 or 0 in image.shape:
            raise ValueError(f"an image of shape {tuple(image.shape)} is not (B, 3, H, W)")
        found = {}
        values = (image - self.mean) / self.std
        for name, layer in zip(self._names, self.features, strict=True):
            values = layer(values)
            if name in self.layers:
                found[name] = values
        return found


def pretrained_vgg(
    architecture: str,
    layers: Sequence[str],
    *,
    weights: Path | None = None,
    download: bool = False,
    trainable: bool = False,
) -> VGG:
    """A `VGG` that was trained on ImageNet.

    The weights are those of the file `weights`, with torchvision's names; else the shipped ones
    where they reach deep enough (VGG16 to relu3_3); else those in torchvision's cache, which are
    downloaded only with `download`. trainable: whether its parameters take gradients.

    Raises ValueError for unknown layers, InputError for weights that are not there or not right.
    """
    network = VGG(architecture, layers)
    sha256 = None
    if weights is None:
        weights, sha256 = _known_weights(architecture, len(network.features), download)
    own = network.state_dict()
    tensors = read_weights(weights, sha256)
    load_into(network, {name: tensor for name, tensor in tensors.items() if name in own}, weights)
    return network.requires_grad_(trainable)


def _known_weights(architecture: str, depth: int, download: bool) -> tuple[Path, str]:
    """The file that holds the first `depth` layers, and its SHA-256."""
    if architecture == _SHIPPED:
        model = find_model(_SHIPPED)
        last = model.settings.get("last")
        if last in vgg_layers(architecture)[depth - 1 :]:
            return model.weights, model.sha256
    return published_weights(architecture, download), PUBLISHED[architecture].sha256
