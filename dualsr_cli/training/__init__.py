"""Training: recipes, sources of samples, losses and the loop."""

from dualsr_cli.training._batches import Source
from dualsr_cli.training._start import build_network
from dualsr_cli.training.flow_data import FlowInputs, SyntheticFlow
from dualsr_cli.training.loop import PRECISIONS, Options, Progress, Trained, train
from dualsr_cli.training.losses import LOSSES, build_loss
from dualsr_cli.training.own_pairs import half_size, real, telephoto
from dualsr_cli.training.patches import Patches, Triplet, cut
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
from dualsr_cli.training.simulator import (
    CameraSettings,
    PairSettings,
    Photographs,
    Simulated,
    SimulatedPair,
    Simulator,
    SimulatorSettings,
    ViewSettings,
    load_photographs,
    simulate_pair,
    simulated,
)

__all__ = [
    "LOSSES",
    "PRECISIONS",
    "CameraSettings",
    "Data",
    "FlowInputs",
    "Options",
    "PairSettings",
    "Patches",
    "Photographs",
    "Progress",
    "Recipe",
    "Schedule",
    "Simulated",
    "SimulatedPair",
    "Simulator",
    "SimulatorSettings",
    "Source",
    "Stage",
    "SyntheticFlow",
    "Term",
    "Trained",
    "Triplet",
    "ViewSettings",
    "build_loss",
    "build_network",
    "cut",
    "find_recipe",
    "half_size",
    "list_recipes",
    "load_photographs",
    "read_recipe",
    "real",
    "simulate_pair",
    "simulated",
    "telephoto",
    "train",
]
