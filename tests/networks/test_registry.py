"""The table of architectures: whatever stands there can be built, kept and found again."""

from __future__ import annotations

from dataclasses import asdict, fields, is_dataclass
from pathlib import Path

import pytest

from dualsr_cli.errors import UsageError
from dualsr_cli.networks import ARCHITECTURES, build, fitting
from dualsr_cli.networks.registry import configuration


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_network_is_built_and_its_own_weights_fit_it(name: str) -> None:
    for scale in ARCHITECTURES[name].scales or (None,):
        settings = {} if scale is None else {"scale": scale}
        network = build(name, settings)
        assert type(network).__name__ == ARCHITECTURES[name].title
        found = fitting(name, network.state_dict(), Path("own.pth"))
        assert (build(name, found).state_dict().keys()) == network.state_dict().keys()


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_settings_are_data(name: str) -> None:
    config = configuration(name, {})
    assert is_dataclass(config)
    assert asdict(config).keys() == {field.name for field in fields(config)}


def test_what_cannot_be_built_is_told() -> None:
    with pytest.raises(UsageError, match="no architecture 'edsr': choose among awnet, dcsr"):
        build("edsr", {})
    with pytest.raises(UsageError, match="KeDuSR has no depth to be set"):
        build("kedusr", {"depth": 3})
    with pytest.raises(UsageError, match=r"DCSR cannot be built \(a scale of 3 is unknown"):
        build("dcsr", {"scale": 3})
