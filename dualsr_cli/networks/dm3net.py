"""DM3Net: Dual-Camera Super-Resolution via Domain Modulation and Multi-scale Matching (2025).

Reference features are laid where patches match at three scales, and what comes of them is
reconstructed under an embedding of the domain that the reference stands for.

Neither code nor weights were published. The text names the parts, not their widths; it gives the
sum, 27.42 M parameters (table 11). Here they are 26,817,061, 2.2 % fewer, all of them at work:

| part | parameters | where its widths come from |
|---|---|---|
| lr_encoder | 1,935,968 | KeDuSR's LR branch, the baseline: 24 blocks of 64; with attention (3.2) |
| ref_encoder | 1,935,968 | "LR encoder and Ref encoder share a similar architecture" (3.2) |
| upsample | 147,712 | KeDuSR's, of 64 features |
| flow | 990,162 | RAFT, "small version" (3.2) |
| matching_encoder | 2,390,128 | VGG19 to the third scale, 2,325,568; 3 convolutions to 16 |
| fusion_head | 221,440 | "four convolution and ReLU layers" (3.3): 3 x 64 to 64 features |
| prior_ref, prior_truth | 2 x 4,472,784 | DiffIR's extractor (3.4), 128 features, 512 pooled |
| dmir | 10,250,115 | 24 blocks of 64, as in the encoders, and an MLP of 512 for each |

What the text leaves open was chosen thus:
- Layers of VGG19: the last before each of its first three pools, as in KeDuSR, brought to 16
  channels at each scale, as there. The paper's times (table 1) suit such features: the raw 64
  channels of the first scale alone would take 4 times as long.
- An MLP for each block. One hidden layer for all of them would leave the sum at 20.5 M.
- AdaIN, which 3.5 takes its modulation from, normalises where the reference's and the LR's
  features come together; within the blocks gamma and beta alone act. So one set of means and
  variances is all that the reconstruction has to know of the whole image.
- Key Pruning is for inference, whose time and memory table 1 reports; training searches all keys.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import nn

from dualsr_cli.matching import Correspondence, prune_keys, reassemble, search
from dualsr_cli.networks._dm3net_modulation import DMIR, GROUPS, PriorExtractor, Statistics
from dualsr_cli.networks.blocks import PixelShuffle, conv3x3, pad_to, warp
from dualsr_cli.networks.contract import Inputs, Outputs
from dualsr_cli.networks.kedusr import LREncoder, similarity, upsampled_flow
from dualsr_cli.networks.vgg import VGG, pretrained_vgg, vgg_layers

_SCALES = (1, 2, 4)  # LR pixels for each place of the matching features
_UP = 2  # result pixels for each LR pixel
_CELL = _SCALES[-1]  # LR pixels that all scales have whole places for
_PATCH = 3  # of matching features
_COMBINED = 2 * _CELL  # LR pixels around a place that what is combined there depends on
_BAND = 1 << 18  # LR pixels that are combined at once: their features have 512 MiB
_FLOW_CELL, _FLOW_LEAST = 8, 128  # RAFT's stride, and the least side that its pyramid takes


@dataclass(frozen=True)
class DM3NetConfig:
    """features: channels. blocks: residual blocks in each of the three groups of the encoders and
    of the reconstruction. vgg: what the matching encoder starts from, "vgg19" or "vgg16";
    matching_features: channels that patches are matched by at each scale. prior_features: channels
    of the prior extractors, whose embedding has 4 times as many; prior_blocks: their residual
    blocks. flow_updates: RAFT's. prune: whether inference prunes keys, one sample in `interval`
    along both axes, those that are more alike than `threshold` (3.3).
    """

    features: int = 64
    blocks: int = 8
    vgg: str = "vgg19"
    matching_features: int = 16
    prior_features: int = 128
    prior_blocks: int = 6
    flow_updates: int = 12
    prune: bool = True
    interval: int = 16
    threshold: float = 0.7

    def __post_init__(self) -> None:
        vgg_layers(self.vgg)
        if self.interval < 1:
            raise ValueError(f"an interval of {self.interval} keys cannot be sampled")

    @classmethod
    def compact(cls) -> DM3NetConfig:
        """What two processor cores can train and run; RAFT keeps its widths."""
        return cls(
            features=32,
            blocks=2,
            vgg="vgg16",
            matching_features=8,
            prior_features=24,
            prior_blocks=2,
            flow_updates=6,
        )


@dataclass(frozen=True, eq=False)
class Encoded:
    """What is made once for an image, or the part of it that a tile needs.

    features: (B, F, H, W), the LR's. found, confidence: for each scale 1 / s of `_SCALES` the
    matches and their similarities (B, 1, H / s, W / s). value: (B, F, 2 * h, 2 * w), the aligned
    reference's features. embedding: (B, E), of the LR's centre and the reference. flow: (B, 2,
    2 * h, 2 * w), x and y in pixels of the reference. H, W, h and w are multiples of 4.
    """

    features: torch.Tensor
    found: tuple[Correspondence, ...]
    confidence: tuple[torch.Tensor, ...]
    value: torch.Tensor
    embedding: torch.Tensor
    flow: torch.Tensor

    def crop(self, top: int, left: int, bottom: int, right: int) -> Encoded:
        """The part between these LR rows and columns; ValueError if they are no multiples of 4."""
        if any(edge % _CELL for edge in (top, left, bottom, right)):
            raise ValueError(f"{top, left, bottom, right} are not multiples of {_CELL} pixels")
        found, confidence = [], []
        for scale, matches, alike in zip(_SCALES, self.found, self.confidence, strict=True):
            rows = slice(top // scale, bottom // scale)
            columns = slice(left // scale, right // scale)
            found.append(
                replace(
                    matches,
                    index=matches.index[:, rows, columns],
                    similarity=matches.similarity[:, rows, columns],
                )
            )
            confidence.append(alike[:, :, rows, columns])
        return replace(
            self,
            features=self.features[:, :, top:bottom, left:right],
            found=tuple(found),
            confidence=tuple(confidence),
        )


class DM3Net(nn.Module):
    """Twice the resolution from the LR and a reference of its centre.

    Gives beside the result "confidence" (B, 1, H, W) of the matches at full scale, the reference's
    "flow" (B, 2, 2 * h, 2 * w) and "embedding" (B, E). In training with a truth it also gives
    "embedding_truth", of the LR and the truth, which the domain-aware loss brings "embedding" near
    to, and "sr_truth", the result under it, to be supervised as well (3.5).

    Once for an image: `encode` and `statistics`. Tile by tile: `combine` of what `Encoded.crop`
    gives, and `reconstruct`; `margin` LR pixels around a tile take part in it.
    """

    def __init__(self, config: DM3NetConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or DM3NetConfig()
        features = config.features
        self.lr_encoder = LREncoder(features, config.blocks, attend=True)
        self.ref_encoder = LREncoder(features, config.blocks, attend=True)
        self.upsample = PixelShuffle(features, features)
        self.flow = Flow(config.flow_updates)
        self.matching_encoder = MatchingEncoder(config.vgg, config.matching_features)
        self.fusion_head = FusionHead(features)
        self.prior_ref = PriorExtractor(config.prior_features, config.prior_blocks)
        self.prior_truth = PriorExtractor(config.prior_features, config.prior_blocks)
        self.dmir = DMIR(features, config.blocks, self.prior_ref.width)

    @property
    def margin(self) -> int:
        """LR pixels around a tile that its result depends on, a multiple of 4."""
        # Result pixels: the convolutions one after the other, then half of the largest window
        # that is laid beside its place and of the largest place that a confidence is read from.
        convolutions = 1 + GROUPS * (2 * self.config.blocks + 1) + 2 + 4
        pixels = convolutions + 2 * _UP * _CELL
        return -(-pixels // (_UP * _CELL)) * _CELL

    def forward(self, inputs: Inputs) -> Outputs:
        return self.restore(inputs.lr, inputs.lr_center(), inputs.ref, inputs.hr)

    def restore(
        self,
        lr: torch.Tensor,
        lr_center: torch.Tensor,
        ref: torch.Tensor,
        hr: torch.Tensor | None = None,
    ) -> Outputs:
        """As `forward`; but the centre may be any part of the photo that the reference shows.

        lr: (B, 3, H, W); lr_center: (B, 3, h, w); ref: (B, 3, 2 * h, 2 * w); hr, which only
        training looks at: (B, 3, 2 * H, 2 * W); RGB, 0..1. Raises ValueError for other shapes.
        """
        height, width = lr.shape[2:]
        encoded = self.encode(lr, lr_center, ref)
        features = self.combine(encoded)
        statistics = Statistics.of([features])

        def result(embedding: torch.Tensor) -> torch.Tensor:
            sr = self.reconstruct(features, embedding, statistics)
            return sr[:, :, : _UP * height, : _UP * width]

        maps = {
            "confidence": encoded.confidence[0][:, :, :height, :width],
            "flow": encoded.flow[:, :, : ref.shape[2], : ref.shape[3]],
            "embedding": encoded.embedding,
        }
        if self.training and hr is not None:
            maps["embedding_truth"] = self.prior_truth(lr, hr)  # eq. 5
            maps["sr_truth"] = result(maps["embedding_truth"])
        return Outputs(result(encoded.embedding), maps)

    def encode(self, lr: torch.Tensor, lr_center: torch.Tensor, ref: torch.Tensor) -> Encoded:
        """All that looks at the whole image: features, alignment, matches and the embedding."""
        if ref.shape != (*lr_center.shape[:2], *(_UP * side for side in lr_center.shape[2:])):
            raise ValueError(f"ref {tuple(ref.shape)} is not twice {tuple(lr_center.shape)}")
        embedding = self.prior_ref(lr_center, ref)  # eq. 6
        size = lr_center.shape[2], lr_center.shape[3]
        lr, lr_center, ref = pad_to(lr, _CELL), pad_to(lr_center, _CELL), pad_to(ref, _UP * _CELL)
        flow = upsampled_flow(self.flow, lr_center, ref)
        # Places as half-precision numbers would be whole pixels off.
        ref_features = self.ref_encoder(ref)
        value = warp(ref_features.float(), flow).to(ref_features.dtype)  # eq. 1
        found, confidence = [], []
        queries, keys = self.matching_encoder(lr), self.matching_encoder(lr_center)  # eq. 2
        for scale, query, key in zip(_SCALES, queries, keys, strict=True):
            matches = search(query, key, patch=_PATCH, key_mask=self._key_mask(key, size, scale))
            found.append(matches)  # eq. 3
            confidence.append(similarity(query.float(), key.float(), matches))  # eq. 4
        return Encoded(self.lr_encoder(lr), tuple(found), tuple(confidence), value, embedding, flow)

    def combine(self, encoded: Encoded) -> torch.Tensor:
        """(B, 2 * F, 2 * H, 2 * W): what matching brings from the reference, and the LR's own."""
        warped = []
        for scale, found, confidence in zip(
            _SCALES, encoded.found, encoded.confidence, strict=True
        ):
            up = _UP * scale
            stitched = reassemble(encoded.value, found, patch=_PATCH, scale=up)
            weight = F.interpolate(confidence, scale_factor=up, mode="bilinear")
            warped.append(stitched * weight.to(stitched.dtype))
        return torch.cat([self.fusion_head(warped), self.upsample(encoded.features)], dim=1)

    def statistics(self, encoded: Encoded) -> Statistics:
        """Of what `combine` gives for the whole image, which is made in bands of rows."""
        height, width = encoded.features.shape[2:]
        rows = max(1, _BAND // (width * _CELL)) * _CELL

        def bands() -> Iterator[torch.Tensor]:
            for top in range(0, height, rows):
                bottom = min(height, top + rows)
                first, last = max(0, top - _COMBINED), min(height, bottom + _COMBINED)
                features = self.combine(encoded.crop(first, 0, last, width))
                yield features[:, :, _UP * (top - first) : _UP * (bottom - first)]

        return Statistics.of(bands())

    def reconstruct(
        self, features: torch.Tensor, embedding: torch.Tensor, statistics: Statistics
    ) -> torch.Tensor:
        """What `combine` gives for an image or a tile -> (B, 3, 2 * H, 2 * W)."""
        sr: torch.Tensor = self.dmir(features, embedding, statistics)
        return sr

    def _key_mask(
        self, key: torch.Tensor, size: tuple[int, int], scale: int
    ) -> torch.Tensor | None:
        """The keys (B, Hk, Wk) that take part: not pruned, and not of pixels added at the edge.

        size: the centre's, before it was padded to multiples of 4.
        """
        rows, columns = (
            torch.arange(places, device=key.device) * scale < side
            for places, side in zip(key.shape[2:], size, strict=True)
        )
        mask = (rows[:, None] & columns).expand(len(key), -1, -1)
        if self.config.prune and not self.training:
            interval, threshold = self.config.interval, self.config.threshold
            mask = mask & prune_keys(key, patch=_PATCH, interval=interval, threshold=threshold)
        return mask


class Flow(nn.Module):
    """RAFT-small on images of any size; it is trained with the rest (3.2)."""

    def __init__(self, updates: int) -> None:
        super().__init__()
        from torchvision.models.optical_flow import raft_small

        self.updates = updates
        self.raft: nn.Module = raft_small(weights=None)

    def forward(self, image: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        """Two images (B, 3, H, W), 0..1 -> the flow (B, 2, H, W) from `image` to `other`.

        x and y in pixels, float32: `other` at a place plus its flow looks like `image` there.
        """
        height, width = image.shape[2:]
        bottom, right = (
            max(_FLOW_LEAST, side + -side % _FLOW_CELL) - side for side in (height, width)
        )
        pair = [
            F.pad(values.float() * 2 - 1, (0, right, 0, bottom), mode="replicate")
            for values in (image, other)
        ]
        # It counts places in float32, whatever its weights are kept in.
        weights = {name: value.float() for name, value in self.raft.named_parameters()}
        with torch.autocast(image.device.type, enabled=False):
            flows: list[torch.Tensor] = torch.func.functional_call(
                self.raft, weights, tuple(pair), {"num_flow_updates": self.updates}
            )
        # It would keep all correlations of its last pair.
        self.raft.get_submodule("corr_block").corr_pyramid = []  # type: ignore[assignment]
        return flows[-1][:, :, :height, :width]


class MatchingEncoder(nn.Module):
    """Features that patches are matched by at 1, 1/2 and 1/4, of VGG; all of it is trained."""

    def __init__(self, architecture: str, features: int) -> None:
        super().__init__()
        names = vgg_layers(architecture)
        self.architecture = architecture
        self.layers = tuple(names[names.index(f"pool{block}") - 1] for block in (1, 2, 3))
        self.vgg = VGG(architecture, self.layers)
        self.maps = nn.ModuleList(conv3x3(channels, features) for channels in (64, 128, 256))

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        """(B, 3, H, W), 0..1, sides multiples of 4 -> (B, features, H / s, W / s), s in 1, 2, 4."""
        found = self.vgg(image)
        return [conv(found[layer]) for conv, layer in zip(self.maps, self.layers, strict=True)]

    def start_from_imagenet(self) -> None:
        """Take over layers that were trained on ImageNet. Raises InputError where none lie."""
        trained = pretrained_vgg(self.architecture, self.layers)
        self.vgg.load_state_dict(trained.state_dict())


class FusionHead(nn.Module):
    """Four convolutions with ReLU: what three scales bring -> (B, features, H, W) (3.3)."""

    def __init__(self, features: int) -> None:
        super().__init__()
        widths = (len(_SCALES) * features, features, features, features)
        self.convs = nn.ModuleList(conv3x3(width, features) for width in widths)

    def forward(self, warped: list[torch.Tensor]) -> torch.Tensor:
        values = torch.cat(warped, dim=1)
        for conv in self.convs:
            values = conv(values).relu_()
        return values
