"""Training: recipes, sources of samples, losses and the loop."""

from dualsr_cli.training._batches import Source
from dualsr_cli.training._start import build_network
from dualsr_cli.training.flow_data import FlowInputs, SyntheticFlow
from dualsr_cli.training.loop import PRECISIONS, Options, Progress, Trained, train
from dualsr_cli.training.losses import LOSSES, build_loss
from dualsr_cli.training.recipe import (
    Data,
    Recipe,
    Schedule,
    Stage,
    Term,
    find_recipe,
    list_recipes,
    read_recipe,
)

__all__ = [
    "LOSSES",
    "PRECISIONS",
    "Data",
    "FlowInputs",
    "Options",
    "Progress",
    "Recipe",
    "Schedule",
    "Source",
    "Stage",
    "SyntheticFlow",
    "Term",
    "Trained",
    "build_loss",
    "build_network",
    "find_recipe",
    "list_recipes",
    "read_recipe",
    "train",
]
