"""The architectures: which there are, and how each is built."""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from dualsr_cli.errors import InputError, UsageError
from dualsr_cli.networks.checkpoints import check_weights
from dualsr_cli.networks.zoo import Model


@dataclass(frozen=True)
class Architecture:
    """What is known of a network before it is built.

    title: as its paper writes it; paper: that one's title. module, network, config: the file in
    this room, and the names there of the network and of its hyper-parameters, whose defaults are
    the published ones. scales: those whose weights differ in shape; none where they do not know it.
    """

    title: str
    paper: str
    module: str
    network: str
    config: str
    scales: tuple[int, ...] = ()


ARCHITECTURES = {
    "awnet": Architecture(
        "AWnet",
        "A Dual Camera System for High Spatiotemporal Resolution Video Acquisition",
        "awnet",
        "AWnet",
        "AWnetConfig",
    ),
    "dcsr": Architecture(
        "DCSR",
        "Dual-Camera Super-Resolution with Aligned Attention Modules, ICCV 2021",
        "dcsr",
        "DCSR",
        "DCSRConfig",
        scales=(2, 4),
    ),
    "dm3net": Architecture(
        "DM3Net",
        "Dual-Camera Super-Resolution via Domain Modulation and Multi-scale Matching",
        "dm3net",
        "DM3Net",
        "DM3NetConfig",
    ),
    "kedusr": Architecture(
        "KeDuSR",
        "Real-World Dual-Lens Super-Resolution via Kernel-Free Matching, AAAI 2024",
        "kedusr",
        "KeDuSR",
        "KeDuSRConfig",
    ),
    "sddusr": Architecture(
        "SDDuSR",
        "Sparse Feature Matching and Token Dictionary Learning for Dual-Lens Super-Resolution",
        "sddusr",
        "SDDuSR",
        "SDDuSRConfig",
    ),
    "selfdzsr": Architecture(
        "SelfDZSR",
        "Self-Supervised Learning for Real-World Super-Resolution from Dual Zoomed Observations, "
        "ECCV 2022",
        "selfdzsr",
        "SelfDZSR",
        "SelfDZSRConfig",
        scales=(2, 4),
    ),
}


def architecture(name: str) -> Architecture:
    """The row of the table. Raises UsageError."""
    if name not in ARCHITECTURES:
        raise UsageError(
            f"there is no architecture {name[:100]!r}: choose among {', '.join(ARCHITECTURES)}"
        )
    return ARCHITECTURES[name]


def configuration(name: str, settings: Mapping[str, Any]) -> Any:
    """The published hyper-parameters of an architecture, with some replaced. Raises UsageError."""
    row = architecture(name)
    default = getattr(_module(row), row.config)()
    if unknown := sorted(settings.keys() - {field.name for field in fields(default)}):
        raise UsageError(f"{row.title} has no {', '.join(unknown)} to be set: leave it out")
    try:
        return replace(default, **settings)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{row.title} cannot be built ({error}): correct its settings") from error


def build(name: str, settings: Mapping[str, Any]) -> nn.Module:
    """A network with weights as it starts training. Raises UsageError."""
    row = architecture(name)
    network: nn.Module = getattr(_module(row), row.network)(configuration(name, settings))
    return network


def fitting(name: str, tensors: Mapping[str, torch.Tensor], path: Path) -> dict[str, Any]:
    """The settings with which published weights, read from `path`, fit an architecture.

    Raises UsageError, or InputError where they fit none of its scales: with the complaint of the
    first.
    """
    row = architecture(name)
    complaint: InputError | None = None
    choices: list[dict[str, Any]] = [{"scale": scale} for scale in row.scales] or [{}]
    for settings in choices:
        try:
            check_weights(build(name, settings), tensors, path)
        except InputError as error:
            complaint = complaint or error
        else:
            return settings
    assert complaint is not None
    raise complaint


def count_parameters(model: Model) -> int:
    """How many numbers a model's weights hold, by the table of names in its file.

    Counters and fixed tables of a network, which its file holds as well, count among them. Raises
    InputError.
    """
    try:
        with safe_open(model.weights, framework="pt") as file:
            return sum(math.prod(file.get_slice(name).get_shape()) for name in list(file.keys()))
    except (OSError, SafetensorError) as error:
        raise InputError(model.weights, "cannot be read as safetensors: add it again") from error


def _module(row: Architecture) -> Any:
    return importlib.import_module(f"dualsr_cli.networks.{row.module}")
