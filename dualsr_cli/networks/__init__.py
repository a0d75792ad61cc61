"""Networks and their weights: tensors in, tensors out."""

from dualsr_cli.networks.checkpoints import load_into, read_weights
from dualsr_cli.networks.contract import (
    CELL,
    Inputs,
    Memory,
    Network,
    Outputs,
    Window,
    windows,
)
from dualsr_cli.networks.dualsr import DualSR
from dualsr_cli.networks.registry import (
    ARCHITECTURES,
    Architecture,
    build,
    count_parameters,
    fitting,
    scale_of,
)
from dualsr_cli.networks.vgg import VGG, pretrained_vgg, vgg_layers
from dualsr_cli.networks.zoo import (
    Model,
    add_exported,
    add_model,
    check_new_name,
    export_model,
    find_model,
    list_models,
    new_name,
    published_weights,
    read_exported,
)

__all__ = [
    "ARCHITECTURES",
    "CELL",
    "VGG",
    "Architecture",
    "DualSR",
    "Inputs",
    "Memory",
    "Model",
    "Network",
    "Outputs",
    "Window",
    "add_exported",
    "add_model",
    "build",
    "check_new_name",
    "count_parameters",
    "export_model",
    "find_model",
    "fitting",
    "list_models",
    "load_into",
    "new_name",
    "pretrained_vgg",
    "published_weights",
    "read_exported",
    "read_weights",
    "scale_of",
    "vgg_layers",
    "windows",
]
