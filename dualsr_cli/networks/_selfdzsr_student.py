"""SelfDZSR's Student: the features by which Ref is matched to LR, and the match itself.

C2-Matching's distillation teaches it beforehand (paper 3.3); SelfDZSR's own training leaves it be.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from dualsr_cli.matching import search
from dualsr_cli.networks._corners import needed, stretched
from dualsr_cli.networks._windows import assembled, cut, grown, reduced
from dualsr_cli.networks.contract import Window
from dualsr_cli.networks.vgg import MEAN, STD

CELL = 4  # pixels of an image to one place of its matching features, along each axis
LEAST = 3 * CELL  # pixels of a side that a patch of 3 x 3 places fits in

_REACH = 5  # pixels: the radius of five 3x3 convolutions


class Student(nn.Module):
    """Two branches of VGG16's convolutions up to conv3_1, without its pools.

    widths: the features of VGG16's first three blocks; (64, 128, 256) is the published one. The
    names are the checkpoint's: `image1` is LR (the pseudo-LR, in training), `image2` is Ref.
    """

    def __init__(self, widths: Sequence[int] = (64, 128, 256)) -> None:
        super().__init__()
        self.feature_extraction_image1 = _Branch(widths)
        self.feature_extraction_image2 = _Branch(widths)

    def forward(self, lr: torch.Tensor, ref: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Two images (B, 3, H, W), RGB, 0..1 -> their features (B, C, H // 4, W // 4)."""
        return self.query(lr), self.key(ref)

    def query(self, lr: torch.Tensor, tile: int | None = None) -> torch.Tensor:
        """The features of LR, made for squares of `tile` pixels at a time, or all at once."""
        features: torch.Tensor = self.feature_extraction_image1(lr, tile)
        return features

    def key(self, ref: torch.Tensor, tile: int | None = None) -> torch.Tensor:
        """The features of Ref, whose sides need not be those of LR."""
        features: torch.Tensor = self.feature_extraction_image2(ref, tile)
        return features


class _Branch(nn.Module):
    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        first, second, third = widths
        self.model = nn.Sequential()
        channels = 3
        for name, width in (
            ("1_1", first),
            ("1_2", first),
            ("2_1", second),
            ("2_2", second),
            ("3_1", third),
        ):
            self.model.add_module(f"conv{name}", nn.Conv2d(channels, width, 3, padding=1))
            if name != "3_1":
                self.model.add_module(f"relu{name}", nn.ReLU(inplace=True))
            channels = width
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1))

    def forward(self, image: torch.Tensor, tile: int | None = None) -> torch.Tensor:
        """(B, 3, H, W) -> (B, C, H // 4, W // 4): all features, drawn together bilinearly.

        Without pools the features have the image's own size, of which a window alone is held.
        """
        image = (image - self.mean) / self.std
        size = image.shape[2:]
        places = size[0] // CELL, size[1] // CELL

        def features(window: Window) -> tuple[torch.Tensor]:
            own = reduced(window, CELL)
            seen = grown(needed(size, places, own), _REACH, size)
            return (stretched(self.model(cut(image, seen)), size, places, own, seen[:2]),)

        return assembled((CELL * places[0], CELL * places[1]), tile, features)[0]


def match(query: torch.Tensor, key: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Where Ref has what LR shows.

    query: (B, C, h, w) of LR, key: (B, C, h', w') of Ref, 3 places at least along each axis; both
    may be overwritten. Returns the flow (B, 2, h, w), how many places down and right of its own a
    query's key lies, and the similarity (B, 1, h, w) of the matches.

    As published, features are normalised at each place and then as patches of 3 x 3, patches that
    reach beyond a map take no part, and a query without a match has the flow 0.
    """
    height, width = query.shape[2:]
    with torch.no_grad():
        query, key = query.float(), key.float()
        for features in (query, key):
            F.normalize(features, dim=1, out=features)
        own, other = _inner(query), _inner(key)
        found = search(query, key, padding="zeros", query_mask=own, key_mask=other)
        rows, columns = found.places()
        rows = rows - torch.arange(height, device=rows.device)[:, None]
        columns = columns - torch.arange(width, device=columns.device)
        flow = torch.stack([rows, columns], dim=1)
        flow = flow.masked_fill((found.index < 0)[:, None], 0).float()
    return flow, found.similarity[:, None]


def tap_offsets(flow: torch.Tensor, window: Window) -> torch.Tensor:
    """How far the nine taps of a 3x3 convolution over LR's pixels are moved, to read the matches.

    flow: (B, 2, h, w), as of `match`; window: of the 4 h x 4 w pixels of LR. Returns (B, 18, ...),
    y and x of each tap in turn, in pixels: tap t of pixel q reads Ref at q + t + offset.
    """
    size = flow.shape[2:]
    pixels = CELL * size[0], CELL * size[1]
    own = needed(size, pixels, window)
    # The published order: the tap that lies t from a place takes the flow of the place -t from it,
    # so that nine matches have a say in each pixel.
    around = cut(F.pad(flow, (1, 1, 1, 1)), (own[0], own[1], own[2] + 2, own[3] + 2))
    height, width = own[2] - own[0], own[3] - own[1]
    taps = [
        around[:, :, 2 - down : 2 - down + height, 2 - right : 2 - right + width]
        for down in range(3)
        for right in range(3)
    ]
    return stretched(torch.cat(taps, dim=1), size, pixels, window, own[:2]) * CELL


def _inner(features: torch.Tensor) -> torch.Tensor:
    """Places (B, H, W) whose 3 x 3 patch lies inside the map."""
    batch, _, height, width = features.shape
    inner = torch.zeros(batch, height, width, dtype=torch.bool, device=features.device)
    inner[:, 1:-1, 1:-1] = True
    return inner
