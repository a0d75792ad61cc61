"""VGG16's features of a photo: the same from tiles as whole, and truly the key's components."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dualsr_cli.networks import pretrained_vgg
from dualsr_cli.reconstruction import _vgg_features
from dualsr_cli.reconstruction._vgg_features import vgg_features


@pytest.fixture(scope="module")
def photo(sample_pairs: Path) -> torch.Tensor:
    with Image.open(sample_pairs / "facade" / "wide.jpg") as image:
        pixels = np.asarray(image.convert("RGB").crop((300, 300, 591, 569)), np.float32) / 255
    return torch.from_numpy(pixels).permute(2, 0, 1)[None].contiguous()


def reference(key: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
    """relu2_2 of the whole image by the components of the whole key's, from NumPy's SVD."""
    network = pretrained_vgg("vgg16", ["relu2_2"])
    with torch.no_grad():
        known, values = (network(x)["relu2_2"][0].double().numpy() for x in (key, image))
    known = known.reshape(128, -1).T
    mean = known.mean(0)
    components = np.linalg.svd(known - mean, full_matrices=False)[2][:16]
    signs = np.sign([row[np.abs(row).argmax()] for row in components])
    reduced = (signs[:, None] * components) @ (values.reshape(128, -1) - mean[:, None])
    return torch.from_numpy(reduced.reshape(1, 16, *values.shape[1:])).float()


@pytest.mark.parametrize("tile", [64, 256])
def test_tiles_give_what_the_whole_photo_gives(
    photo: torch.Tensor, monkeypatch: pytest.MonkeyPatch, tile: int
) -> None:
    monkeypatch.setattr(_vgg_features, "_TILE", tile)
    monkeypatch.setattr(_vgg_features, "_LEARNED_FROM", 1000)  # all of the key
    key = photo[..., 40:201, 30:231].contiguous()
    found, expected = vgg_features(key)(photo), reference(key, photo)
    assert found.shape == expected.shape == (1, 16, 135, 146)
    assert (found - expected).abs().max() < 1e-3 * expected.abs().max()


def test_part_of_a_large_key_is_enough(
    photo: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is learned from every other tile spans nearly what all of the key does."""
    monkeypatch.setattr(_vgg_features, "_TILE", 64)
    found = vgg_features(photo)(photo)[0].flatten(1)
    whole = reference(photo, photo)[0].flatten(1)
    assert 0.97 * whole.var(1).sum() < found.var(1).sum() <= 1.001 * whole.var(1).sum()


def test_any_size_and_the_same_each_time(photo: torch.Tensor) -> None:
    describe = vgg_features(photo[..., :1, :1])
    assert describe(photo[..., :1, :1]).shape == (1, 16, 1, 1)
    assert describe(photo[..., :3, :5]).shape == (1, 16, 2, 3)
    assert torch.equal(vgg_features(photo)(photo), vgg_features(photo)(photo))
