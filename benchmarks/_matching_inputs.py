"""Features that the matching benchmark searches in, and the oracle that it is held against."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks._pairs import data_pairs, resized, rgb8, sample, with_pixels
from dualsr_cli.matching import gradient_features
from dualsr_cli.photos import Photo, read_photo

SIZES = ((896, 448), (1008, 756), (2016, 1512))  # of the wide photo
CHANNELS = 16
PATCH = 3


@dataclass(frozen=True, eq=False)
class Features:
    """query (1, C, h / 2, w / 2) of a wide photo, key (1, C, h / 4, w / 4) of the tele's view.

    images: what they are of, (1, 3, h, w) and (1, 3, h / 2, w / 2), 0..1, if of anything.
    """

    name: str
    query: torch.Tensor
    key: torch.Tensor
    images: tuple[torch.Tensor, ...] = ()

    @property
    def queries(self) -> int:
        return self.query[0, 0].numel()

    @property
    def keys(self) -> int:
        return self.key[0, 0].numel()

    def to(self, device: torch.device) -> Features:
        images = tuple(image.to(device) for image in self.images)
        return Features(self.name, self.query.to(device), self.key.to(device), images)


def random_features(size: tuple[int, int], channels: int = CHANNELS) -> Features:
    generator = torch.Generator().manual_seed(0)
    width, height = size
    query = torch.randn(1, channels, height // 2, width // 2, generator=generator)
    key = torch.randn(1, channels, height // 4, width // 4, generator=generator)
    return Features("random", query, key)


def pair_features(name: str, size: tuple[int, int], wide: Photo, tele: Photo) -> Features:
    """Of two photos: the wide one brought to `size`, the tele to half of it, as zoom 2 has it."""
    width, height = size
    images = _image(wide, (width, height)), _image(tele, (width // 2, height // 2))
    return Features(name, *map(gradient_features, images), images)


def pairs(data: Path | None) -> list[tuple[str, Photo, Photo]]:
    """Photos of one scene by two lenses or from two places, the tele with half the view."""
    if data is None:
        return [(name, *sample(name)) for name in ("facade", "city", "statue")]
    found = [(pair.name, pair.wide, pair.tele) for pair in data_pairs(data)]
    return [pair for pair in found if pair[0].startswith("berlin")] or found[:3]


def enlarged(photo: Path, size: tuple[int, int]) -> tuple[Photo, Photo]:
    """A photo as a wide one of `size` and its middle as a tele: shifted, blurred, noisy."""
    wide = read_photo(photo)
    pixels = resized(rgb8(wide), size)
    width, height = size
    middle = pixels[height // 4 : height * 3 // 4, width // 4 : width * 3 // 4].astype(np.float32)
    moved = 0.6 * middle + 0.4 * np.roll(middle, (1, 1), (0, 1))
    noise = np.random.default_rng(0).normal(0, 2.5, middle.shape)
    tele = np.clip(np.rint(moved + noise), 0, 255).astype(np.uint8)
    return with_pixels(wide, pixels), with_pixels(wide, tele)


def some(count: int, all_of: int) -> torch.Tensor:
    """`count` places at random, in order."""
    generator = torch.Generator().manual_seed(1)
    return torch.randperm(all_of, generator=generator)[:count].sort().values


def mask_of(places: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
    """(1, h, w) bool, True at these places."""
    mask = torch.zeros(1, features.shape[2] * features.shape[3], dtype=torch.bool)
    mask[0, places] = True
    return mask.view(1, *features.shape[2:]).to(features.device)


class Oracle:
    """Similarities in float64, from patches that PyTorch's own unfold makes."""

    def __init__(self, features: Features, places: torch.Tensor) -> None:
        self._queries = _unfolded(features.query)[places]
        self._keys = _unfolded(features.key)
        parts = [(part @ self._keys.t()).max(dim=1) for part in torch.split(self._queries, 256)]
        best, index = zip(*parts, strict=True)
        self.best, self.index = torch.cat(best), torch.cat(index)

    def similarity(self, index: torch.Tensor) -> torch.Tensor:
        """Of each query to the key that was found for it."""
        return (self._queries * self._keys[index]).sum(dim=1)


def _unfolded(features: torch.Tensor) -> torch.Tensor:
    padded = F.pad(features.double(), (PATCH // 2,) * 4, mode="reflect")
    return F.normalize(F.unfold(padded, PATCH)[0].t(), dim=1)


def _image(photo: Photo, size: tuple[int, int]) -> torch.Tensor:
    pixels = torch.from_numpy(resized(rgb8(photo), size).astype(np.float32) / 255)
    return pixels.permute(2, 0, 1)[None]
