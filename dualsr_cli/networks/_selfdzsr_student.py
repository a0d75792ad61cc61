"""SelfDZSR's Student: the features by which Ref is matched to LR, and the match itself.

C2-Matching's distillation teaches it beforehand (paper 3.3); SelfDZSR's own training leaves it be.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from dualsr_cli.matching import search

CELL = 4  # pixels of an image to one place of its matching features, along each axis
LEAST = 3 * CELL  # pixels of a side that a patch of 3 x 3 places fits in

_REACH = 5  # pixels: the radius of five 3x3 convolutions
_HELD = 1 << 18  # pixels of a band that is worked on at once: 256 MiB of its 256 features


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

    def query(self, lr: torch.Tensor) -> torch.Tensor:
        """The features of LR."""
        features: torch.Tensor = self.feature_extraction_image1(lr)
        return features

    def key(self, ref: torch.Tensor) -> torch.Tensor:
        """The features of Ref, whose sides need not be those of LR."""
        features: torch.Tensor = self.feature_extraction_image2(ref)
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
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) -> (B, C, H // 4, W // 4): all features, drawn together bilinearly.

        Without pools the features have the image's own size: they are made for a band of rows at a
        time, of which only what the result's rows need is kept.
        """
        image = (image - self.mean) / self.std
        height, width = image.shape[2:]
        rows, columns = height // CELL, width // CELL
        above, below, share = corner_aligned(height, rows)
        share = share[:, None].to(image)
        found = []
        for band in torch.split(torch.arange(rows), max(1, _HELD // (CELL * width))):
            start = max(0, int(above[band[0]]) - _REACH)
            stop = min(height, int(below[band[-1]]) + 1 + _REACH)
            features = self.model(image[:, :, start:stop])  # (B, C, stop - start, W)
            upper = features[:, :, (above[band] - start).to(image.device)]
            lower = features[:, :, (below[band] - start).to(image.device)]
            lines = torch.lerp(upper, lower, share[band.to(image.device)].to(upper.dtype))
            size = (len(band), columns)
            found.append(F.interpolate(lines, size, mode="bilinear", align_corners=True))
        return torch.cat(found, dim=2)


def corner_aligned(height: int, rows: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Bilinear resizing with corners on corners (align_corners), of rows: (rows,) each.

    The row above each of the result's, the one below it, and the share that the latter has.
    """
    place = torch.arange(rows, dtype=torch.float32) * ((height - 1) / max(1, rows - 1))
    above = place.long().clamp(max=height - 1)
    return above, (above + 1).clamp(max=height - 1), place - above


def match(query: torch.Tensor, key: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Where Ref has what LR shows, for the nine taps of a 3x3 convolution over LR's pixels.

    query: (B, C, h, w) of LR, key: (B, C, h', w') of Ref, 3 places at least along each axis.
    Returns the taps' offsets (B, 18, 4 h, 4 w), y and x of each tap in turn, in pixels: tap t of
    pixel q reads Ref at q + t + offset. And the similarity (B, 1, h, w) of the matches.

    As published, features are normalised at each place and then as patches of 3 x 3, patches that
    reach beyond a map take no part, and a query without a match has the offset 0.
    """
    with torch.no_grad():
        found = search(
            F.normalize(query.float(), dim=1),
            F.normalize(key.float(), dim=1),
            padding="zeros",
            query_mask=_inner(query),
            key_mask=_inner(key),
        )
        height, width = query.shape[2:]
        rows, columns = found.places()
        rows = rows - torch.arange(height, device=rows.device)[:, None]
        columns = columns - torch.arange(width, device=columns.device)
        flow = torch.stack([rows, columns], dim=1)  # (B, 2, h, w), in places
        flow = flow.masked_fill((found.index < 0)[:, None], 0).float()
        # The published order: the tap that lies t from a place takes the flow of the place -t
        # from it, so that nine matches have a say in each pixel.
        flow = F.pad(flow, (1, 1, 1, 1))
        taps = [
            flow[:, :, 2 - down : 2 - down + height, 2 - right : 2 - right + width]
            for down in range(3)
            for right in range(3)
        ]
        offsets = torch.cat(taps, dim=1)
        size = (CELL * height, CELL * width)
        offsets = F.interpolate(offsets, size, mode="bilinear", align_corners=True) * CELL
    return offsets, found.similarity[:, None]


def _inner(features: torch.Tensor) -> torch.Tensor:
    """Places (B, H, W) whose 3 x 3 patch lies inside the map."""
    batch, _, height, width = features.shape
    inner = torch.zeros(batch, height, width, dtype=torch.bool, device=features.device)
    inner[:, 1:-1, 1:-1] = True
    return inner
