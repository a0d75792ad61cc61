"""The features that need no weights: what they keep, what they pass over, and that they match."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dualsr_cli.matching import gradient_features, search


def picture(path: Path, factor: int, part: tuple[int, int, int, int] | None = None) -> torch.Tensor:
    with Image.open(path) as image:
        small = (image.crop(part) if part else image).reduce(factor)
    pixels = np.asarray(small.convert("RGB"), np.float32) / 255
    return torch.from_numpy(pixels).permute(2, 0, 1)[None]


@pytest.mark.parametrize("size", [(40, 60), (41, 61), (1, 1), (2, 5)])
def test_half_the_size_and_16_channels(size: tuple[int, int]) -> None:
    features = gradient_features(torch.rand(2, 3, *size))
    assert features.shape == (2, 16, -(-size[0] // 2), -(-size[1] // 2))
    assert features.dtype == torch.float32


def test_brightness_changes_nothing_and_contrast_no_direction(sample_pairs: Path) -> None:
    image = picture(sample_pairs / "city" / "wide.png", 4)
    features = gradient_features(image)
    assert torch.allclose(gradient_features(image + 0.3), features, atol=1e-6)
    assert torch.allclose(gradient_features(image * 0.5), 0.5 * features, atol=1e-6)
    # As a reference: central differences of the luma, blurred by SciPy.
    from scipy.ndimage import gaussian_filter

    luma = (image[0] * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(0).double().numpy()
    smooth = gaussian_filter(luma, 1.4, mode="nearest", radius=5)
    across = np.gradient(smooth, axis=1) * 1.4
    for channel, expected in ((0, across[::2, ::2]), (3, across[1::2, 1::2])):
        rows, columns = expected.shape
        difference = features[0, channel, :rows, :columns].numpy() - expected
        assert np.abs(difference[1:-1, 1:-1]).max() < 1e-5


def test_a_fainter_noisy_photo_of_the_middle_is_found_there(sample_pairs: Path) -> None:
    wide = picture(sample_pairs / "city" / "wide.png", 2)
    top = wide.shape[2] // 8  # of the features, which are half as large
    key = wide[..., 2 * top : 6 * top, :]
    key = 0.8 * (key + 0.01 * torch.randn(key.shape, generator=torch.Generator().manual_seed(0)))
    rows, columns = search(gradient_features(wide), gradient_features(key)).places()
    middle = np.s_[0, top : 3 * top]
    off = torch.maximum(
        (rows[middle] - torch.arange(2 * top)[:, None]).abs(),
        (columns[middle] - torch.arange(rows.shape[2])).abs(),
    )
    assert (off <= 1).float().mean() > 0.9


def test_what_is_no_picture_is_refused() -> None:
    with pytest.raises(ValueError, match="is not \\(B, 3, H, W\\)"):
        gradient_features(torch.rand(1, 1, 8, 8))
