"""What a report says of the machine."""

from __future__ import annotations

import numpy as np
import torch

import dualsr_cli
from dualsr_cli.benchmark.machine_facts import machine_facts


def test_versions_and_machine_are_named_and_stay_the_same() -> None:
    facts = machine_facts()
    assert facts["dualsr"] == dualsr_cli.__version__
    assert facts["torch"] == torch.__version__
    assert facts["numpy"] == np.__version__
    assert facts["Processor"].split()[-1] in ("core", "cores")
    assert list(machine_facts().items()) == list(facts.items())
    assert "GPU" not in facts
