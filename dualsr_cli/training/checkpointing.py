"""Checkpoints: all that a training needs to go on, in folders that are whole or not there."""

from __future__ import annotations

import io
import os
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from dualsr_cli.errors import InputError
from dualsr_cli.files import atomic_writer, fsync_folder, output_error
from dualsr_cli.networks import read_weights

Tensors = Mapping[str, torch.Tensor]

_WEIGHTS, _AVERAGED, _STATE = "weights.safetensors", "averaged.safetensors", "state.pt"
_DIGITS = 9  # of a folder's name, so that names sort as their numbers


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """After `step` iterations. averaged: the EMA's weights, if there are. state: plain values and
    tensors, such as an optimiser's.
    """

    step: int
    weights: Tensors
    averaged: Tensors | None
    state: dict[str, Any]


def save(folder: Path, checkpoint: Checkpoint, keep: int) -> Path:
    """Write a checkpoint below `folder` and drop all but the last `keep`. Raises OutputError.

    It is made under another name and renamed: who is killed meanwhile finds the one before. One of
    the same step is left as it is.
    """
    target = folder / f"{checkpoint.step:0{_DIGITS}}"
    if target.exists():
        return target
    staging = folder / f".{target.name}.{secrets.token_hex(4)}.part"
    state = io.BytesIO()
    torch.save(checkpoint.state, state)
    try:
        write_weights(staging / _WEIGHTS, checkpoint.weights)
        if checkpoint.averaged is not None:
            write_weights(staging / _AVERAGED, checkpoint.averaged)
        with atomic_writer(staging / _STATE) as file:
            file.write(state.getvalue())
        os.rename(staging, target)
        fsync_folder(folder)
        for old in (*checkpoints(folder)[:-keep], *folder.glob(".*.part")):
            shutil.rmtree(old)
    except OSError as error:
        raise output_error(target, error) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return target


def checkpoints(folder: Path) -> list[Path]:
    """Those below `folder`, the oldest first."""
    return sorted(path for path in folder.glob("[0-9]" * _DIGITS) if path.is_dir())


def load(path: Path) -> Checkpoint:
    """Read a checkpoint; nothing of it is run. Raises InputError."""
    averaged = path / _AVERAGED
    file = path / _STATE
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # PyTorch promises no type, and damage finds every one
        raise InputError(
            path, "is no whole checkpoint: delete that folder and go on from the one before"
        ) from error
    if not isinstance(state, dict):
        raise InputError(file, "holds no training's state: delete that folder")
    return Checkpoint(
        int(path.name),
        read_weights(path / _WEIGHTS),
        read_weights(averaged) if averaged.exists() else None,
        state,
    )


def write_weights(path: Path, weights: Tensors) -> None:
    """Tensors as safetensors, whole or not at all. Raises OutputError."""
    from safetensors.torch import save as packed

    data = packed({name: value.detach().cpu().contiguous() for name, value in weights.items()})
    with atomic_writer(path) as file:
        file.write(data)
