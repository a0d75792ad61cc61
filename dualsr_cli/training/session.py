"""From what a person asks for to a model of their own: a recipe trained in a folder, and kept."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

import dualsr_cli
from dualsr_cli.benchmark import machine_facts
from dualsr_cli.errors import InputError, UsageError
from dualsr_cli.files import atomic_writer, input_file
from dualsr_cli.jobs import Stop
from dualsr_cli.networks import (
    Model,
    add_model,
    check_new_name,
    find_model,
    new_name,
    read_weights,
)
from dualsr_cli.training.checkpointing import checkpoints
from dualsr_cli.training.loop import Options, Progress, Trained, train
from dualsr_cli.training.recipe import Data, Recipe
from dualsr_cli.training.sources import TrainingData, Wanted, open_data
from dualsr_cli.training.validation import measure

_BEGUN = "training.json"  # what a folder's training was begun with
_MOST_BYTES = 1 << 20  # of that file


@dataclass(frozen=True)
class Order:
    """What to train, on what, and what to call it.

    wanted: the place, or the places, that samples come from. folder: where checkpoints and logs go,
    and what a training that was stopped goes on from. name: of the model, "" for one made of recipe
    and data. start: see `build_network`.
    """

    recipe: Recipe
    wanted: Sequence[Wanted]
    folder: Path
    name: str = ""
    licence: str = "LicenseRef-unknown"
    start: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Finished:
    """model: what was kept for other commands; None of a part of a network, which is no model by
    itself, and on other processes than the first. validation: the last that was measured.
    """

    trained: Trained
    data: TrainingData
    model: Model | None
    validation: Mapping[str, float]


def is_first_process() -> bool:
    """Whether this is the process that talks and writes, of those that torchrun started."""
    return os.environ.get("RANK", "0") == "0"


def run_session(
    order: Order,
    options: Options,
    *,
    opened: Callable[[TrainingData], None] = lambda data: None,
    preparing: Callable[[str, int, int], None] = lambda stage, done, total: None,
    on_progress: Callable[[Progress], None] | None = None,
) -> Finished:
    """Train by an order, or go on with what lies in its folder, and keep the model.

    opened: told of the data before training begins. preparing: of files as they are read and
    aligned. Ctrl-C and SIGTERM end a training with a checkpoint of its last iteration and
    KeyboardInterrupt, the second time at once. Raises UsageError where the folder holds another
    training, and all that `open_data`, `train` and `add_model` raise.
    """
    paths = [path for each in order.wanted for path in (each.data, each.validate)]
    for path in filter(None, paths):
        if order.folder.resolve().is_relative_to(path.resolve()):  # its pictures are no data
            raise UsageError(f"{order.folder} lies in {path}: let -o name a folder outside of it")
    name = _name(order, options)
    data = open_data(order.recipe, order.wanted, order.folder / "data", options.seed, preparing)
    if is_first_process():
        _write_begun(order, options, name)
    opened(data)

    def measured(network: torch.nn.Module) -> dict[str, float]:
        return measure(network, data.held_out, data.origins)

    with Stop().signals() as stop:
        trained = train(
            order.recipe,
            data.source,
            order.folder,
            options,
            start=order.start,
            validate=measured if data.held_out else None,
            on_progress=on_progress,
            stop=lambda: stop.asked,
        )
    validation = _last_validation(order.folder) if data.held_out else {}
    model = None
    if not order.recipe.part and is_first_process():
        model = _kept(order, options, name, Finished(trained, data, None, validation))
    return Finished(trained, data, model, validation)


# --- the folder


def _begun(order: Order, options: Options) -> dict[str, Any]:
    """What must be the same where a training goes on."""
    told = {
        "data": [
            {
                key: os.path.abspath(value) if isinstance(value, Path) else value
                for key, value in dataclasses.asdict(each).items()
            }
            for each in order.wanted
        ],
        "recipe": dataclasses.asdict(order.recipe),
        "start": dict(order.start),
        "seed": options.seed,
    }
    as_read: dict[str, Any] = json.loads(json.dumps(told))  # tuples are lists there
    return as_read


def _name(order: Order, options: Options) -> str:
    """What the model is to be called. Raises UsageError where the folder was begun with others."""
    if not checkpoints(order.folder / "checkpoints"):  # whatever was begun there came to nothing
        if order.name:
            check_new_name(order.name)
            return order.name
        return new_name(order.recipe.name, *(each.name for each in order.wanted))
    before = _read_begun(order.folder)
    name = str(before.pop("name", ""))
    now = _begun(order, options)
    different = [key for key in now if before.get(key) != now[key]]
    if order.name and order.name != name:
        different.append("name")
    if different:
        raise UsageError(
            f"{order.folder} holds a training that was begun with another {different[0]}: give "
            "the same options to go on with it, or another folder"
        )
    return name


def _read_begun(folder: Path) -> dict[str, Any]:
    path = folder / _BEGUN
    with input_file(path) as file:
        data = file.read(_MOST_BYTES)
    try:
        told = json.loads(data)
    except ValueError as error:
        raise InputError(path, "is damaged: train in another folder") from error
    if not isinstance(told, dict):
        raise InputError(path, "is no record of a training: train in another folder")
    with suppress(KeyError, TypeError):  # an earlier version's recipes did not say all
        for stage in told["recipe"]["stages"]:
            stage["data"] = json.loads(json.dumps(dataclasses.asdict(Data()))) | stage["data"]
    return told


def _write_begun(order: Order, options: Options, name: str) -> None:
    text = json.dumps({"name": name, **_begun(order, options)}, indent=1)
    with atomic_writer(order.folder / _BEGUN) as file:
        file.write(text.encode() + b"\n")


def _last_validation(folder: Path) -> dict[str, float]:
    try:
        with open(folder / "validation.csv", encoding="utf-8", newline="") as file:
            *_, last = csv.DictReader(file)
        return {name: float(value) for name, value in last.items() if name != "step"}
    except (OSError, TypeError, ValueError):  # nothing was measured yet
        return {}


# --- the model


def _kept(order: Order, options: Options, name: str, finished: Finished) -> Model:
    """The trained network among a person's own models; the one that is there if it is the same."""
    weights = finished.trained.weights
    recipe = order.recipe
    tensors = read_weights(weights)
    with suppress(UsageError):
        there = find_model(name)
        kept = read_weights(there.weights)
        if tensors.keys() == kept.keys() and all(
            torch.equal(values, kept[key]) for key, values in tensors.items()
        ):
            return there
        name = new_name(name)  # somebody took it meanwhile
    return add_model(
        name,
        recipe.architecture,
        recipe.settings,
        tensors,
        licence=order.licence,
        source=f"trained by the recipe {recipe.name} on {_of(order)}",
        card=_card(order, options, finished),
    )


def _of(order: Order) -> str:
    """The data by its names, on one line."""
    name = ", ".join(each.name for each in order.wanted)
    return "".join(letter if letter.isprintable() else "?" for letter in name) or "its data"


def _card(order: Order, options: Options, finished: Finished) -> str:
    """What a reader must know of how a model came about, as Markdown tables."""
    recipe, trained = order.recipe, finished.trained
    batch, patch = recipe.stages[-1].batch, recipe.stages[-1].data.patch
    facts = {
        "Data": f"{finished.data.told}; {_of(order)}",
        "Recipe": f"{recipe.name}: {recipe.source}",
        "Stages": ", ".join(f"{stage.name} ({stage.iterations})" for stage in recipe.stages),
        "Iterations": str(trained.iterations),
        "Batch": f"{batch} patches of {patch[0]} x {patch[1]} pixels",
        "Started from": ", ".join(f"{part}: {file}" for part, file in _started(order)) or "nothing",
        "Seed": str(options.seed),
        "Time": f"{trained.seconds / 3600:.2f} h",
        "Precision": options.precision,
        **machine_facts(options.device),
    }
    rows = [f"| {name} | {_cell(value)} |" for name, value in facts.items()]
    card = ["## Training", "", "| | |", "|---|---|", *rows, ""]
    if finished.validation:
        measured = [f"| {name} | {value:.4g} |" for name, value in finished.validation.items()]
        card += [
            "## Measured",
            "",
            f"On {len(finished.data.held_out)} held-out parts of photos, 8-bit RGB; gain: dB of "
            "PSNR over bicubic enlargement.",
            "",
            "| | |",
            "|---|---|",
            *measured,
            "",
        ]
    return "\n".join([*card, f"Made by dualsr {dualsr_cli.__version__}.", ""])


def _started(order: Order) -> list[tuple[str, str]]:
    """What parts started from; of files the names alone."""
    start = dict(order.recipe.start) | dict(order.start)
    return [(part, Path(source).name) for part, source in start.items()]


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
