"""What losses share: their type, and the images that they look at."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import nn

from dualsr_cli.errors import UsageError
from dualsr_cli.networks import Inputs, Outputs


class Loss(nn.Module, ABC):
    """A number, the mean over the samples, of what a network made of inputs."""

    @abstractmethod
    def forward(self, outputs: Outputs, inputs: Inputs) -> torch.Tensor: ...

    def __call__(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        value: torch.Tensor = super().__call__(*args, **kwargs)
        return value


def image_of(outputs: Outputs, name: str) -> torch.Tensor:
    """The result, or a map of that name. Raises UsageError where there is none."""
    if not name:
        return outputs.sr
    if name not in outputs.maps:
        raise UsageError(
            f"a loss of the recipe needs {name!r}, which this network does not give: take another"
        )
    return outputs.maps[name]


def truth_of(inputs: Inputs) -> torch.Tensor:
    """hr. Raises UsageError where there is none."""
    if inputs.hr is None:
        raise UsageError(
            "a loss of the recipe needs the truth, which data of this kind has not: take triplets"
        )
    return inputs.hr
