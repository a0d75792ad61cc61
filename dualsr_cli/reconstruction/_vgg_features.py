"""VGG16's relu2_2 of a whole photo by its principal components, as matching features.

What published systems match by is this layer, reduced to 16 channels by a convolution that they
train. Here the 16 are the principal components of the key's own features, so that nothing has to
be trained. A photo is described tile by tile: the layer's 128 channels are never held for all of
it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache

import torch

from dualsr_cli.networks import VGG, pretrained_vgg

_LAYER = "relu2_2"
_COMPONENTS = 16
_TILE = 256  # image pixels, even as the layer's pitch is; larger ones are slower
_MARGIN = 6  # image pixels around a place's own two that the layer sees, and the next even number
_LEARNED_FROM = 16  # tiles, spread over the key

TILE_BYTES = 160 << 20
"""What a tile in the making takes at most."""


@cache
def load_vgg() -> VGG:
    """The network, read once for a process; nothing changes it. Raises InputError."""
    return pretrained_vgg("vgg16", [_LAYER])


def vgg_features(key: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    """A way to describe images, learned from (1, 3, H, W) RGB, 0..1, that is to be found in.

    What it returns takes such an image to (1, 16, ceil(H / 2), ceil(W / 2)) float32: of each
    place's 128 values, less their mean over the key, the 16 principal components of the key. The
    sign of a component is such that its largest weight is positive.
    """
    tiles = list(_tiles(key))
    mean, components = _learned(key, tiles[:: -(-len(tiles) // _LEARNED_FROM)])

    def describe(image: torch.Tensor) -> torch.Tensor:
        height, width = (-(-side // 2) for side in image.shape[2:])
        described = image.new_empty(1, len(components), height, width)
        for tile in _tiles(image):
            values = _layer(image, tile)  # (128, h, w)
            reduced = components @ (values.flatten(1) - mean)  # (16, h w)
            top, left = tile[0] // 2, tile[1] // 2
            place = described[0, :, top : top + values.shape[1], left : left + values.shape[2]]
            place.copy_(reduced.view(place.shape))
        return described

    return describe


Tile = tuple[int, int, int, int]
"""First row, first column, and the rows and columns behind the last ones."""


def _tiles(image: torch.Tensor) -> Iterator[Tile]:
    height, width = image.shape[2:]
    for top in range(0, height, _TILE):
        for left in range(0, width, _TILE):
            yield top, left, min(height, top + _TILE), min(width, left + _TILE)


@torch.no_grad()
def _layer(image: torch.Tensor, tile: Tile) -> torch.Tensor:
    """(128, h, w), half the tile's size: what the layer of the whole image has there."""
    top, left, bottom, right = tile
    first_row, first_column = max(0, top - _MARGIN), max(0, left - _MARGIN)
    seen = image[..., first_row : bottom + _MARGIN, first_column : right + _MARGIN]
    # Half again as fast on a CPU in this order of memory.
    found = load_vgg()(seen.contiguous(memory_format=torch.channels_last))
    values: torch.Tensor = found[_LAYER][0]
    row, column = (top - first_row) // 2, (left - first_column) // 2
    height, width = (-(-(end - start) // 2) for start, end in ((top, bottom), (left, right)))
    return values[:, row : row + height, column : column + width]


def _learned(key: torch.Tensor, tiles: list[Tile]) -> tuple[torch.Tensor, torch.Tensor]:
    """The features' mean, (128, 1), and their principal components, (16, 128), strongest first."""
    count = 0
    total, products = torch.zeros(1), torch.zeros(1)
    for tile in tiles:
        values = _layer(key, tile).flatten(1).double()
        count += values.shape[1]
        total = total + values.sum(1, keepdim=True)
        products = products + values @ values.T
    mean = total / count
    vectors = torch.linalg.eigh(products / count - mean @ mean.T).eigenvectors
    components = vectors.flip(1)[:, :_COMPONENTS].T
    largest = components.gather(1, components.abs().argmax(1, keepdim=True))
    return mean.float(), (components * largest.sign()).float()
