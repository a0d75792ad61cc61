"""The architectures: which there are, and how each is built."""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from dualsr_cli.errors import InputError, UsageError
from dualsr_cli.networks.checkpoints import check_weights
from dualsr_cli.networks.contract import Network
from dualsr_cli.networks.zoo import Model


@dataclass(frozen=True)
class Architecture:
    """What is known of a network before it is built.

    title: as its paper writes it; paper: that one's title. module, network, config: the file in
    this room, and the names there of the network and of its hyper-parameters, whose defaults are
    the published ones and whose `compact()` are those for two processor cores. scales: that it has,
    the usual one first; where there are several, their weights differ in shape; none where its
    weights know no scale. parts: where its weights are published as several files, the module that
    each of them holds and what its paper calls it; deployed: settings for what is published so.

    What else can be asked of a network it tells when it is built (see `Network`): its scale, and
    the margin and memory of a window. All take photos of any size, and at inference LR, a reference
    and its box; AWnet as many references as its settings say.
    """

    title: str
    paper: str
    module: str
    network: str
    config: str
    scales: tuple[int, ...] = (2,)
    parts: Mapping[str, str] = field(default_factory=dict)
    deployed: Mapping[str, Any] = field(default_factory=dict)


ARCHITECTURES = {
    "awnet": Architecture(
        "AWnet",
        "A Dual Camera System for High Spatiotemporal Resolution Video Acquisition",
        "awnet",
        "AWnet",
        "AWnetConfig",
        scales=(),
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
    "dualsr": Architecture(
        "DualSR",
        "this project's own: domain modulation, a small flow and a mask, in cells of LR pixels",
        "dualsr",
        "DualSR",
        "DualSRConfig",
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
        parts={"refsr": "RefSR", "student": "Student"},
        deployed={"degradation": False},
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
    """The hyper-parameters of an architecture: the published ones, or with `compact: true` the
    compact ones, of which the other settings replace some. Raises UsageError.
    """
    row = architecture(name)
    kind = getattr(_module(row), row.config)
    replaced = dict(settings)
    compact = replaced.pop("compact", False)
    if not isinstance(compact, bool):
        raise UsageError(f"{row.title} is compact or not: set compact to true or false")
    default = kind.compact() if compact else kind()
    if unknown := sorted(replaced.keys() - {field.name for field in fields(default)}):
        raise UsageError(f"{row.title} has no {', '.join(unknown)} to be set: leave it out")
    try:
        return replace(default, **replaced)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{row.title} cannot be built ({error}): correct its settings") from error


def build(name: str, settings: Mapping[str, Any]) -> Network[Any]:
    """A network with weights as it starts training. Settings: see `configuration`.

    Raises UsageError.
    """
    row = architecture(name)
    network: Network[Any] = getattr(_module(row), row.network)(configuration(name, settings))
    return network


def fitting(
    name: str, files: Sequence[tuple[Path, Mapping[str, torch.Tensor]]]
) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """The settings with which published weights fit an architecture, and the weights by its names.

    files: one, or as many as there are parts, in any order, with what was read from them. Raises
    UsageError for parts that are missing or there twice, and InputError where they fit none of the
    network's scales: with the shortest complaint, that of the scale that they fit best.
    """
    row = architecture(name)
    scales = [{"scale": scale} for scale in row.scales] if len(row.scales) > 1 else [{}]
    choices = [{**row.deployed, **scale} for scale in scales]
    parts = _parts(row, build(name, choices[0]), files)
    complaints: list[InputError] = []
    for settings in choices:
        network = build(name, settings)
        try:
            for part, (path, tensors) in parts.items():
                check_weights(network.get_submodule(part), tensors, path)
        except InputError as error:
            complaints.append(error)
        else:
            return settings, {
                f"{part}.{key}" if part else key: tensor
                for part, (_, tensors) in parts.items()
                for key, tensor in tensors.items()
            }
    raise min(complaints, key=lambda complaint: len(str(complaint)))


def _parts(
    row: Architecture,
    network: nn.Module,
    files: Sequence[tuple[Path, Mapping[str, torch.Tensor]]],
) -> dict[str, tuple[Path, Mapping[str, torch.Tensor]]]:
    """Which module of a network each file holds, by most of its names; "" is all of it."""
    names = {part: network.get_submodule(part).state_dict().keys() for part in row.parts}
    titles = " and ".join(f"the {title}" for title in row.parts.values())
    found: dict[str, tuple[Path, Mapping[str, torch.Tensor]]] = {}
    for path, tensors in files:
        part = next((part for part in names if 2 * len(names[part] & tensors) > len(tensors)), None)
        if part is None and len(files) == 1:
            return {"": (path, tensors)}
        if part is None and not row.parts:
            raise UsageError(f"{row.title} is one file: add one at a time")
        if part is None:
            raise InputError(path, f"is not what {row.title} restores with, {titles}: leave it out")
        if part in found:
            raise UsageError(f"the {row.parts[part]} is there twice: give {titles}")
        found[part] = path, tensors
    if missing := [title for part, title in row.parts.items() if part not in found]:
        raise UsageError(f"the {' and the '.join(missing)} is missing: give {titles} together")
    return found


def scale_of(model: Model) -> int:
    """Pixels of a network's result for each of the photo's, along both axes. Raises UsageError."""
    config = configuration(model.architecture, model.settings)
    if hasattr(config, "scale"):
        return int(config.scale)
    return architecture(model.architecture).scales[0]


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
