"""The table of architectures: whatever stands there can be built, kept and found again."""

from __future__ import annotations

from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from dualsr_cli.errors import InputError, UsageError
from dualsr_cli.networks import ARCHITECTURES, Inputs, Model, Network, build, fitting, scale_of
from dualsr_cli.networks.registry import configuration


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_network_is_built_and_its_own_weights_fit_it(name: str) -> None:
    row = ARCHITECTURES[name]
    for scale in row.scales if len(row.scales) > 1 else (None,):
        settings = {**row.deployed, **({} if scale is None else {"scale": scale})}
        network = build(name, settings)
        assert isinstance(network, Network)
        assert type(network).__name__ == row.title
        found, tensors = fitting(name, [(Path("own.pth"), network.state_dict())])
        assert found == settings
        assert tensors.keys() == network.state_dict().keys()


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_settings_are_data(name: str) -> None:
    config = configuration(name, {})
    assert is_dataclass(config)
    assert asdict(config).keys() == {field.name for field in fields(config)}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_model_tells_its_scale_and_needs(name: str) -> None:
    """The compact one by a word; the larger the network, the more it needs."""
    network, compact = build(name, {}), build(name, {"compact": True})
    for one, settings in ((network, {}), (compact, {"compact": True})):
        assert one.scale == scale_of(model(name, settings))
        assert one.margin > 0
        assert min(one.memory.image, one.memory.window) > 0 and one.memory.reference >= 0
    assert compact.memory.window < network.memory.window
    if "scale" in {field.name for field in fields(configuration(name, {}))}:
        assert scale_of(model(name, {"compact": True, "scale": 2})) == 2


@torch.no_grad()
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_half_precision_takes_nothing_from_the_wide_photo(name: str) -> None:
    """Where a network adds nothing to it: eight bits are more than bfloat16 has."""
    network = build(name, {"compact": True}).eval()
    for values in network.parameters():
        values.zero_()
    scale, generator = network.scale, torch.Generator().manual_seed(1)
    lr = torch.randint(0, 256, (1, 3, 32, 40), generator=generator) / 255
    ref = torch.randint(0, 129, (1, 3, 16 * scale, 16 * scale), generator=generator) / 128
    inputs = Inputs(lr, ref, torch.tensor([[8, 8, 24, 24]]))
    expected = network(inputs).sr
    found = network.bfloat16()(inputs.to("cpu", torch.bfloat16)).sr
    assert (expected - found).abs().max() < 1e-5
    assert expected.std() > 0.1


def model(architecture: str, settings: dict[str, Any]) -> Model:
    return Model("x", Path("x"), False, "network", architecture, settings, "MIT", "x", "0" * 64)


def test_what_cannot_be_built_is_told() -> None:
    with pytest.raises(UsageError, match="no architecture 'edsr': choose among awnet, dcsr"):
        build("edsr", {})
    with pytest.raises(UsageError, match="KeDuSR has no depth to be set"):
        build("kedusr", {"depth": 3})
    with pytest.raises(UsageError, match="KeDuSR is compact or not: set compact to true or false"):
        build("kedusr", {"compact": "yes"})
    with pytest.raises(UsageError, match=r"DCSR cannot be built \(a scale of 3 is unknown"):
        build("dcsr", {"scale": 3})


def test_weights_in_several_files_are_joined() -> None:
    deployed = build("selfdzsr", {"scale": 4, "degradation": False})
    refsr, student = (deployed.get_submodule(part).state_dict() for part in ("refsr", "student"))
    one, two = (Path("RefSR.pth"), refsr), (Path("Student.pth"), student)
    for files in ([one, two], [two, one]):
        settings, tensors = fitting("selfdzsr", files)
        assert settings == {"degradation": False, "scale": 4}
        build("selfdzsr", settings).load_state_dict(tensors)
    with pytest.raises(UsageError, match="the Student is missing: give the RefSR and the Student"):
        fitting("selfdzsr", [one])
    with pytest.raises(UsageError, match="the Student is there twice"):
        fitting("selfdzsr", [two, one, two])
    kernel_gen = build("selfdzsr", {}).get_submodule("degradation").state_dict()
    with pytest.raises(InputError, match=r"K\.pth is not what SelfDZSR restores with, the RefSR"):
        fitting("selfdzsr", [one, two, (Path("K.pth"), kernel_gen)])
    lacking = {name: value for name, value in student.items() if "conv3_1.bias" not in name}
    with pytest.raises(InputError, match=r"Student\.pth does not fit Student: it lacks"):
        fitting("selfdzsr", [one, (Path("Student.pth"), lacking)])
    with pytest.raises(UsageError, match="KeDuSR is one file: add one at a time"):
        fitting("kedusr", [one, two])
