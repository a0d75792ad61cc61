"""What a network starts from: a recipe's architecture, and weights that were trained before."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import nn

from dualsr_cli.errors import UsageError
from dualsr_cli.networks import (
    build,
    find_model,
    load_into,
    pretrained_vgg,
    read_weights,
    vgg_layers,
)
from dualsr_cli.training._flow_start import start_from_gradients, start_from_volumes
from dualsr_cli.training.recipe import ALL, Recipe

_BACKBONES = ("vgg16", "vgg19")
_FLOW_STARTS = {"gradients": start_from_gradients, "cost-volumes": start_from_volumes}
_FILES = (".safetensors", ".pth", ".pt", ".ckpt")


def build_network(recipe: Recipe, start: Mapping[str, str] | None = None) -> nn.Module:
    """The network of a recipe as it starts training; its weights depend on PyTorch's seed.

    start: as the recipe's own `start`, and before it; "all" is the whole network. A part takes
    weights of its own, or those that a network's weights have under its name. Raises UsageError,
    InputError.
    """
    network = _part(build(recipe.architecture, recipe.settings), recipe.part)
    for name, source in (dict(recipe.start) | dict(start or {})).items():
        part = _part(network, name)
        if source in _FLOW_STARTS:
            _FLOW_STARTS[source](part)
        elif source in _BACKBONES:
            _take_convolutions(part, name, source)
        else:
            path = Path(source) if source.endswith(_FILES) else find_model(source).weights
            weights, prefix = read_weights(path), f"{name}."
            own = {
                key.removeprefix(prefix): values
                for key, values in weights.items()
                if key.startswith(prefix)
            }
            load_into(part, own or weights, path)
    return network


def copy_parts(network: nn.Module, copies: Mapping[str, str]) -> None:
    """Give each of the parts named first the weights of the other. Raises UsageError."""
    for name, source in copies.items():
        try:
            _part(network, name).load_state_dict(_part(network, source).state_dict())
        except RuntimeError as error:
            raise UsageError(f"the parts {name!r} and {source!r} have other shapes") from error


def _part(network: nn.Module, name: str) -> nn.Module:
    try:
        return network if name == ALL else network.get_submodule(name)
    except AttributeError as error:
        parts = ", ".join([ALL, *(child for child, _ in network.named_children())])
        raise UsageError(f"the network has no part {name!r}: choose among {parts}") from error


def _take_convolutions(part: nn.Module, name: str, backbone: str) -> None:
    """Copy a backbone's convolutions in their order, as far as their shapes are the part's."""
    own = [module for module in part.modules() if isinstance(module, nn.Conv2d)]
    names = [layer for layer in vgg_layers(backbone) if layer.startswith("conv")]
    # Only the layers that fit are asked for: the deeper ones may not lie on this machine.
    widths = [(module.in_channels, module.out_channels, module.kernel_size) for module in own]
    channels, fitting = 3, 0
    for layer, width in zip(names, widths, strict=False):
        out = 64 * 2 ** min(3, int(layer[4]) - 1)
        if width != (channels, out, (3, 3)):
            break
        channels, fitting = out, fitting + 1
    if not fitting:
        raise UsageError(
            f"the part {name!r} has no convolutions like those of {backbone}: leave that start out"
        )
    trained = pretrained_vgg(backbone, [names[fitting - 1]])
    theirs = [module for module in trained.modules() if isinstance(module, nn.Conv2d)]
    for module, convolution in zip(own, theirs, strict=False):
        module.load_state_dict(convolution.state_dict())
