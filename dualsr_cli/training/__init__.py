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
    changed,
    find_recipe,
    list_recipes,
    read_recipe,
)
from dualsr_cli.training.session import Finished, Order, is_first_process, run_session
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
from dualsr_cli.training.sources import KINDS, TrainingData, Wanted, open_data
from dualsr_cli.training.validation import held_out_part, measure

__all__ = [
    "KINDS",
    "LOSSES",
    "PRECISIONS",
    "CameraSettings",
    "Data",
    "Finished",
    "FlowInputs",
    "Options",
    "Order",
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
    "TrainingData",
    "Triplet",
    "ViewSettings",
    "Wanted",
    "build_loss",
    "build_network",
    "changed",
    "cut",
    "find_recipe",
    "half_size",
    "held_out_part",
    "is_first_process",
    "list_recipes",
    "load_photographs",
    "measure",
    "open_data",
    "read_recipe",
    "real",
    "run_session",
    "simulate_pair",
    "simulated",
    "telephoto",
    "train",
]
