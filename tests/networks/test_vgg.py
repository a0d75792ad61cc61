"""VGG16 and VGG19 against plain convolutions and torchvision's own; odd sizes; gradients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file

from dualsr_cli.errors import InputError
from dualsr_cli.networks import VGG, find_model, pretrained_vgg, vgg_layers

MEAN, STD = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
LAYERS = ("relu1_2", "relu2_1", "relu2_2", "relu3_1", "relu3_3")


@pytest.fixture(scope="module")
def image(sample_pairs: Path) -> torch.Tensor:
    with Image.open(sample_pairs / "facade" / "wide.jpg") as photo:
        pixels = np.asarray(photo.convert("RGB").crop((300, 300, 396, 364)), np.float32) / 255
    return torch.from_numpy(pixels).permute(2, 0, 1)[None]


@pytest.fixture(scope="module")
def network() -> VGG:
    return pretrained_vgg("vgg16", LAYERS)


def plain_vgg16(image: torch.Tensor) -> dict[str, torch.Tensor]:
    """The layers as the paper's table has them; odd sides continue with their last row or column.

    The largest of a window does not change where a value of it is repeated.
    """
    weights = {
        name: value.float() for name, value in load_file(find_model("vgg16").weights).items()
    }
    values = (image - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    found = {}
    for number, name in (
        (0, "1_1"), (2, "1_2"), (5, "2_1"), (7, "2_2"), (10, "3_1"), (12, "3_2"), (14, "3_3"),
    ):  # fmt: skip
        if name in ("2_1", "3_1"):
            odd = (0, values.shape[3] % 2, 0, values.shape[2] % 2)
            values = F.max_pool2d(F.pad(values, odd, mode="replicate"), 2)
        start = f"features.{number}"
        values = F.conv2d(values, weights[f"{start}.weight"], weights[f"{start}.bias"], padding=1)
        found[f"conv{name}"] = values
        values = values.relu()
        found[f"relu{name}"] = values
    return found


@pytest.mark.parametrize("size", [(64, 96), (33, 51), (5, 2), (1, 1), (1, 40)])
def test_layers_are_those_of_plain_convolutions(
    network: VGG, image: torch.Tensor, size: tuple[int, int]
) -> None:
    part = image[..., : size[0], : size[1]]
    part = torch.cat([part, part.flip(3)])
    found, expected = network(part), plain_vgg16(part)
    assert list(found) == list(LAYERS)
    for name, values in found.items():
        pools = int(name[4]) - 1
        assert values.shape[2:] == tuple(-(-side // 2**pools) for side in size)
        assert torch.allclose(values, expected[name], atol=1e-4)
    both = pretrained_vgg("vgg16", ["conv3_1", "relu3_1"])(part)
    assert torch.allclose(both["conv3_1"], expected["conv3_1"], atol=1e-4)
    assert torch.equal(both["relu3_1"], both["conv3_1"].relu())


@pytest.mark.parametrize("architecture", ["vgg16", "vgg19"])
def test_all_layers_are_torchvisions(architecture: str) -> None:
    torchvision: Any = pytest.importorskip("torchvision")
    code = {"vgg16": "D", "vgg19": "E"}[architecture]
    theirs = torchvision.models.vgg.make_layers(torchvision.models.vgg.cfgs[code])
    names = vgg_layers(architecture)
    ours = VGG(architecture, names).eval()
    ours.features.load_state_dict(theirs.state_dict())
    image = torch.rand(1, 3, 64, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = ours(image)
        values = (image - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
        assert len(theirs) == len(names)
        for name, layer in zip(names, theirs, strict=True):
            values = layer(values.clone())
            assert torch.allclose(found[name], values, atol=1e-5), name


def test_only_what_is_asked_for_is_built_and_returned() -> None:
    network = VGG("vgg19", ["relu2_1", "conv1_2"])
    assert list(network.state_dict()) == [
        f"features.{number}.{kind}" for number in (0, 2, 5) for kind in ("weight", "bias")
    ]
    assert list(network(torch.rand(1, 3, 8, 8))) == ["conv1_2", "relu2_1"]
    assert vgg_layers("vgg16")[15] == "relu3_3"
    assert vgg_layers("vgg19")[34] == "conv5_4"
    for layers in ([], ["relu9_1"]):
        with pytest.raises(ValueError, match="are not layers of vgg16"):
            VGG("vgg16", layers)
    with pytest.raises(ValueError, match="'vgg11' is unknown: take one of vgg16, vgg19"):
        VGG("vgg11", ["relu1_1"])
    with pytest.raises(ValueError, match=r"\(1, 1, 8, 8\) is not \(B, 3, H, W\)"):
        network(torch.rand(1, 1, 8, 8))


def test_gradients_flow_to_the_image_and_to_weights_where_asked(image: torch.Tensor) -> None:
    for trainable in (False, True):
        network = pretrained_vgg("vgg16", ["conv2_2", "relu2_2"], trainable=trainable)
        part = image[..., :16, :16].clone().requires_grad_()
        network(part)["relu2_2"].sum().backward()
        assert part.grad is not None
        assert part.grad.abs().min() > 0
        for parameter in network.parameters():
            assert parameter.requires_grad == trainable
            assert (parameter.grad is not None) == trainable


def test_rounding_the_weights_costs_little(image: torch.Tensor) -> None:
    """Weights anywhere between those that round to the stored ones give nearly these features."""
    exact = pretrained_vgg("vgg16", LAYERS)
    moved = pretrained_vgg("vgg16", LAYERS)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in moved.parameters():
            stored = parameter.half()
            step = torch.nextafter(stored.abs(), torch.tensor(torch.inf).half()) - stored.abs()
            parameter += step * (torch.rand(parameter.shape, generator=generator) - 0.5)
        found, expected = moved(image), exact(image)
    for name in LAYERS:
        assert (found[name] - expected[name]).norm() < 0.001 * expected[name].norm()


def test_layers_that_are_not_shipped_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(InputError, match=r"vgg16-397923af\.pth does not exist: get https"):
        pretrained_vgg("vgg16", ["conv4_1"])
    with pytest.raises(InputError, match=r"vgg19-dcbb9e9d\.pth does not exist: .* \(575 MB\)"):
        pretrained_vgg("vgg19", ["relu1_1"])
    # Another file in their place is not taken.
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    torch.save(
        VGG("vgg19", ["relu1_1"]).state_dict(), tmp_path / "hub/checkpoints/vgg19-dcbb9e9d.pth"
    )
    with pytest.raises(InputError, match=r"is not the file that it should be"):
        pretrained_vgg("vgg19", ["relu1_1"])


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    whole = VGG("vgg19", ["relu2_2"])
    save_file(
        {**whole.state_dict(), "classifier.0.weight": torch.ones(2)}, tmp_path / "w.safetensors"
    )
    network = pretrained_vgg("vgg19", ["relu1_2"], weights=tmp_path / "w.safetensors")
    assert list(network.state_dict()) == [
        f"features.{n}.{k}" for n in (0, 2) for k in ("weight", "bias")
    ]
    for name, value in network.state_dict().items():
        assert torch.equal(value, whole.state_dict()[name])
    with pytest.raises(InputError, match=r"does not fit VGG: it lacks features.10.weight"):
        pretrained_vgg("vgg19", ["relu3_1"], weights=tmp_path / "w.safetensors")
