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

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
import torch.nn.functional as F
from torch import nn

from dualsr_cli.matching import Correspondence, Values, prune_keys, reassemble, search
from dualsr_cli.networks._dm3net_modulation import (
    DMIR,
    GROUPS,
    PlainReconstruction,
    PriorExtractor,
    Statistics,
)
from dualsr_cli.networks._pooled import channels_last, encode_by_windows
from dualsr_cli.networks._windows import assembled, cut, grown, reduced, scaled, within
from dualsr_cli.networks.blocks import PixelShuffle, conv3x3, enlarged, pad_to, warp
from dualsr_cli.networks.contract import Inputs, Memory, Network, Outputs, Window, windows
from dualsr_cli.networks.kedusr import LREncoder, similarity, upsampled_flow
from dualsr_cli.networks.vgg import VGG, pretrained_vgg, vgg_layers

_SCALES = (1, 2, 4)  # LR pixels for each place of the matching features
_UP = 2  # result pixels for each LR pixel
_CELL = _SCALES[-1]  # LR pixels that all scales have whole places for
_PATCH = 3  # of matching features
_COMBINED = 2 * _CELL  # LR pixels around a place that what is combined there depends on
_MATCHED = 28  # the same of the matching features: VGG19's convolutions, and one more
_WARPED = 16  # channels that are warped at once, as half-precision ones are copied
_FLOW_CELL, _FLOW_LEAST = 8, 128  # RAFT's stride, and the least side that its pyramid takes
_FLOW_MOST = 640 * 1024  # pixels: its correlations grow with their square, here to 0.6 GiB


@dataclass(frozen=True)
class DM3NetConfig:
    """features: channels. blocks: residual blocks in each of the three groups of the encoders and
    of the reconstruction. vgg: what the matching encoder starts from, "vgg19" or "vgg16";
    matching_features: channels that patches are matched by at each scale. prior_features: channels
    of the prior extractors, whose embedding has 4 times as many; prior_blocks: their residual
    blocks. flow_updates: RAFT's. prune: whether inference prunes keys, one sample in `interval`
    along both axes, those that are more alike than `threshold` (3.3). skip: whether the LR's
    bicubic enlargement is added to the result, so that little training goes a long way; the paper
    has none. scales: those that are matched, as LR pixels for each place of the matching features,
    fine to coarse (table 5). modulate: whether embeddings modulate the reconstruction (table 6).
    Raises ValueError for what no network can be built of.
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
    skip: bool = False
    scales: tuple[int, ...] = _SCALES
    modulate: bool = True

    def __post_init__(self) -> None:
        vgg_layers(self.vgg)
        if self.interval < 1:
            raise ValueError(f"an interval of {self.interval} keys cannot be sampled")
        if not self.scales or self.scales != tuple(s for s in _SCALES if s in self.scales):
            raise ValueError(f"the scales are some of {_SCALES} in this order, not {self.scales}")

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
            skip=True,
        )


@dataclass(frozen=True, eq=False)
class Encoded:
    """What is made once for an image, for inference.

    lr: (B, 3, H, W), H and W made multiples of 4. features: (B, F, H, W), the LR's. found: for each
    scale 1 / s the matches (B, H / s, W / s). values: for each scale the aligned reference's
    features (B, F, 2 * h, 2 * w), laid out. embedding: (B, E), of the LR's centre and the
    reference; statistics: of what the reconstruction takes; None where nothing is modulated.
    """

    lr: torch.Tensor
    features: torch.Tensor
    found: tuple[Correspondence, ...]
    values: tuple[Values, ...]
    embedding: torch.Tensor | None
    statistics: Statistics | None


class DM3Net(Network[Encoded]):
    """Twice the resolution from the LR and a reference of its centre.

    Gives beside the result "confidence" (B, 1, H, W) of the matches at the finest scale, which is
    usually the full one. In training it also gives "embedding" (B, E), and with a truth
    "embedding_truth", of the LR and the truth, which the domain-aware loss brings "embedding" near
    to, and "sr_truth", the result under it, to be supervised as well (3.5).
    """

    def __init__(self, config: DM3NetConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or DM3NetConfig()
        features = config.features
        self.lr_encoder = LREncoder(features, config.blocks, attend=True)
        self.ref_encoder = LREncoder(features, config.blocks, attend=True)
        self.upsample = PixelShuffle(features, features)
        self.flow = Flow(config.flow_updates)
        self.matching_encoder = MatchingEncoder(config.vgg, config.matching_features, config.scales)
        self.fusion_head = FusionHead(features, len(config.scales))
        self.dmir: DMIR | PlainReconstruction
        if config.modulate:
            self.prior_ref = PriorExtractor(config.prior_features, config.prior_blocks)
            self.prior_truth = PriorExtractor(config.prior_features, config.prior_blocks)
            self.dmir = DMIR(features, config.blocks, self.prior_ref.width)
        else:
            self.dmir = PlainReconstruction(features, config.blocks)

    @property
    def scale(self) -> int:
        return _UP

    @property
    def margin(self) -> int:
        """A multiple of 4, as whole places of all scales are cut out."""
        # Result pixels: the convolutions one after the other, then half of the largest window
        # that is laid beside its place and of the largest place that a confidence is read from.
        convolutions = 1 + GROUPS * (2 * self.config.blocks + 1) + 2 + 4
        pixels = convolutions + 2 * _UP * _CELL
        return -(-pixels // (_UP * _CELL)) * _CELL

    @property
    def memory(self) -> Memory:
        # For a while three maps of the LR's encoder are held, and later four of the reference's
        # features with one of the LR's: as they are, and laid out for three scales. Of a window:
        # peaks of processes that encoded photos and rendered windows of two sizes.
        features = self.config.features
        return Memory(image=3 * features + 9, reference=14 * features, window=22 * features)

    def forward(self, inputs: Inputs) -> Outputs:
        if self.training:
            return self._learn(inputs)
        height, width = inputs.lr.shape[2:]
        return self.render(self.encode(inputs), (0, 0, height, width))

    def _learn(self, inputs: Inputs) -> Outputs:
        lr_center = inputs.lr_center()
        lr, center, ref = self._padded(inputs.lr, lr_center, inputs.ref)
        value = warp(self.ref_encoder(ref), upsampled_flow(self.flow, center, ref))  # eq. 1
        queries, keys = self.matching_encoder(lr), self.matching_encoder(center)  # eq. 2
        found = self._search(queries, keys, lr_center, prune=False)
        confidence = [
            similarity(query.float(), key.float(), matches)  # eq. 4
            for query, key, matches in zip(queries, keys, found, strict=True)
        ]

        def stitched(number: int) -> torch.Tensor:
            return reassemble(
                value, found[number], patch=_PATCH, scale=_UP * self.config.scales[number]
            )

        features = self._combine(self.lr_encoder(lr), stitched, confidence)
        statistics = Statistics.of([features]) if self.config.modulate else None
        height, width = inputs.lr.shape[2:]

        def result(embedding: torch.Tensor | None) -> torch.Tensor:
            sr = self._reconstruct(features, lr, embedding, statistics)
            return sr[:, :, : _UP * height, : _UP * width]

        places = reduced((0, 0, height, width), self.config.scales[0])
        maps = {"confidence": cut(confidence[0], places)}
        if not self.config.modulate:
            return Outputs(result(None), maps)
        embedding = maps["embedding"] = self.prior_ref(lr_center, inputs.ref)  # eq. 6
        if inputs.hr is not None:
            maps["embedding_truth"] = self.prior_truth(inputs.lr, inputs.hr)  # eq. 5
            maps["sr_truth"] = result(maps["embedding_truth"])
        return Outputs(result(embedding), maps)

    @torch.no_grad()
    def encode(self, inputs: Inputs, tile: int | None = None) -> Encoded:
        lr_center = inputs.lr_center()
        lr, center, ref = self._padded(inputs.rounded_lr(), lr_center, inputs.ref)
        embedding = statistics = None
        if self.config.modulate:
            embedding = self.prior_ref(lr_center, inputs.ref, tile)  # eq. 6
        value = self._aligned(center, ref, tile)
        found = self._match(lr, center, lr_center, tile)
        features = encode_by_windows(self.lr_encoder, lr, tile)
        scales = self.config.scales
        values = tuple(Values(value, patch=_PATCH, scale=_UP * scale) for scale in scales)
        del value  # it lies in `values` from here on

        def combined() -> Iterator[torch.Tensor]:
            for window in windows(lr.shape[2], lr.shape[3], tile):
                near = grown(window, _COMBINED, lr.shape[2:])
                made = self._combine_part(features, values, found, near)
                yield cut(made, scaled(within(window, near), _UP))

        if self.config.modulate:
            statistics = Statistics.of(combined())
        precise = pad_to(inputs.lr, _CELL)
        return Encoded(precise, features, found, values, embedding, statistics)

    @torch.no_grad()
    def render(self, encoded: Encoded, window: Window) -> Outputs:
        near = grown(window, self.margin, encoded.lr.shape[2:])
        features = self._combine_part(encoded.features, encoded.values, encoded.found, near)
        sr = self._reconstruct(
            features, cut(encoded.lr, near), encoded.embedding, encoded.statistics
        )
        sr = cut(sr, scaled(within(window, near), _UP))
        places = reduced(window, self.config.scales[0])
        confidence = cut(encoded.found[0].similarity[:, None], places)
        return Outputs(sr, {"confidence": confidence.to(sr.dtype)})

    def _padded(
        self, lr: torch.Tensor, lr_center: torch.Tensor, ref: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The images with sides that all scales have whole places for. Raises ValueError."""
        if ref.shape != (*lr_center.shape[:2], *(_UP * side for side in lr_center.shape[2:])):
            raise ValueError(f"ref {tuple(ref.shape)} is not twice {tuple(lr_center.shape)}")
        return (
            channels_last(pad_to(lr, _CELL)),
            channels_last(pad_to(lr_center, _CELL)),
            channels_last(pad_to(ref, _UP * _CELL)),
        )

    def _aligned(self, center: torch.Tensor, ref: torch.Tensor, tile: int | None) -> torch.Tensor:
        """The reference's features laid as the centre shows it (eq. 1), (B, F, 2 * h, 2 * w)."""
        flow = upsampled_flow(self.flow, center, ref)
        features = encode_by_windows(self.ref_encoder, ref, None if tile is None else _UP * tile)
        for some in torch.split(features, _WARPED, dim=1):
            some.copy_(warp(some, flow))
        return features

    def _match(
        self, lr: torch.Tensor, center: torch.Tensor, lr_center: torch.Tensor, tile: int | None
    ) -> tuple[Correspondence, ...]:
        queries, keys = (self._matching_features(image, tile) for image in (lr, center))
        return self._search(queries, keys, lr_center, prune=self.config.prune)

    def _matching_features(self, image: torch.Tensor, tile: int | None) -> list[torch.Tensor]:
        """(B, C, H / s, W / s) for each scale of an image with sides that are multiples of 4."""

        def make(window: Window) -> list[torch.Tensor]:
            near = grown(window, _MATCHED, image.shape[2:])
            maps = self.matching_encoder(cut(image, near))
            inside = within(window, near)
            return [
                cut(values, reduced(inside, scale))
                for scale, values in zip(self.config.scales, maps, strict=True)
            ]

        return assembled(image.shape[2:], tile, make)

    def _search(
        self,
        queries: Sequence[torch.Tensor],
        keys: Sequence[torch.Tensor],
        lr_center: torch.Tensor,
        *,
        prune: bool,
    ) -> tuple[Correspondence, ...]:
        """The matches at each scale (eq. 3). lr_center: as it is, without pixels added to it."""
        found = []
        for scale, query, key in zip(self.config.scales, queries, keys, strict=True):
            rows, columns = (
                torch.arange(places, device=key.device) * scale < side
                for places, side in zip(key.shape[2:], lr_center.shape[2:], strict=True)
            )
            mask = (rows[:, None] & columns).expand(len(key), -1, -1)
            if prune:
                interval, threshold = self.config.interval, self.config.threshold
                mask = mask & prune_keys(key, patch=_PATCH, interval=interval, threshold=threshold)
            found.append(search(query, key, patch=_PATCH, key_mask=mask))
        return tuple(found)

    def _combine_part(
        self,
        features: torch.Tensor,
        values: Sequence[Values],
        found: Sequence[Correspondence],
        window: Window,
    ) -> torch.Tensor:
        """`_combine` for a window of the LR with edges at multiples of 4."""
        parts = []
        for scale, matches in zip(self.config.scales, found, strict=True):
            cells = reduced(window, scale)
            index, similarity = (cut(maps, cells) for maps in (matches.index, matches.similarity))
            parts.append(replace(matches, index=index, similarity=similarity))
        confidence = [matches.similarity[:, None] for matches in parts]
        return self._combine(
            cut(features, window),
            lambda number: values[number].reassemble(parts[number]),
            confidence,
        )

    def _combine(
        self,
        features: torch.Tensor,
        stitched: Callable[[int], torch.Tensor],
        confidence: Sequence[torch.Tensor],
    ) -> torch.Tensor:
        """(B, 2 * F, 2 * H, 2 * W): what matching brings from the reference, and the LR's own.

        features: (B, F, H, W); stitched: gives (B, F, 2 * H, 2 * W) for the number of a scale;
        confidence: for each scale (B, 1, H / s, W / s).
        """

        def warped(number: int) -> torch.Tensor:
            values = channels_last(stitched(number))
            up = _UP * self.config.scales[number]
            weight = F.interpolate(confidence[number], scale_factor=up, mode="bilinear")
            return values * weight.to(values.dtype)

        fused = self.fusion_head(warped)
        return torch.cat([fused, channels_last(self.upsample(features))], dim=1)

    def _reconstruct(
        self,
        features: torch.Tensor,
        lr: torch.Tensor,
        embedding: torch.Tensor | None,
        statistics: Statistics | None,
    ) -> torch.Tensor:
        """What was combined for an image or a window, and its LR -> (B, 3, 2 * H, 2 * W)."""
        sr: torch.Tensor = self.dmir(features, embedding, statistics)
        return sr + enlarged(lr) if self.config.skip else sr


class Flow(nn.Module):
    """RAFT-small on images of any size; it is trained with the rest (3.2)."""

    def __init__(self, updates: int) -> None:
        super().__init__()
        from torchvision.models.optical_flow import raft_small

        self.updates = updates
        self.raft: nn.Module = raft_small(weights=None)

    def forward(self, image: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        """Two images (B, 3, H, W), 0..1 -> the flow (B, 2, H, W) from `image` to `other`.

        x and y in pixels, float32: `other` at a place plus its flow looks like `image` there. It is
        estimated "at a coarse scale" (3.2): that of the images, or a coarser one of large images.
        """
        whole = height, width = image.shape[2], image.shape[3]
        if height * width > _FLOW_MOST:
            shrink = math.sqrt(_FLOW_MOST / (height * width))
            height, width = max(1, int(height * shrink)), max(1, int(width * shrink))
            image, other = (
                F.interpolate(values.float(), (height, width), mode="bilinear", antialias=True)
                for values in (image, other)
            )
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
        flow = flows[-1][:, :, :height, :width]
        if whole == (height, width):
            return flow
        flow = F.interpolate(flow, whole, mode="bilinear")
        return flow * flow.new_tensor([whole[1] / width, whole[0] / height])[:, None, None]


class MatchingEncoder(nn.Module):
    """Features that patches are matched by at some of 1, 1/2 and 1/4, of VGG; all is trained."""

    def __init__(self, architecture: str, features: int, scales: Sequence[int]) -> None:
        super().__init__()
        names = vgg_layers(architecture)
        self.architecture = architecture
        pools = [f"pool{scale.bit_length()}" for scale in scales]  # a scale ends before its pool
        self.layers = tuple(names[names.index(pool) - 1] for pool in pools)
        self.vgg = VGG(architecture, self.layers)
        # VGG has 64 channels at full scale, and twice as many at each half of it.
        self.maps = nn.ModuleList(conv3x3(64 * scale, features) for scale in scales)

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        """(B, 3, H, W), 0..1, sides multiples of 4 -> (B, features, H / s, W / s) each."""
        found = self.vgg(image)
        return [conv(found[layer]) for conv, layer in zip(self.maps, self.layers, strict=True)]

    def start_from_imagenet(self) -> None:
        """Take over layers that were trained on ImageNet. Raises InputError where none lie."""
        trained = pretrained_vgg(self.architecture, self.layers)
        self.vgg.load_state_dict(trained.state_dict())


class FusionHead(nn.Module):
    """Four convolutions with ReLU: what the scales bring -> (B, features, H, W) (3.3)."""

    def __init__(self, features: int, scales: int) -> None:
        super().__init__()
        self.scales = scales
        widths = (scales * features, features, features, features)
        self.convs = nn.ModuleList(conv3x3(width, features) for width in widths)

    def forward(self, warped: Callable[[int], torch.Tensor]) -> torch.Tensor:
        """warped: gives (B, features, H, W) for the number of a scale; one at a time is held."""
        enter, *others = cast(Sequence[nn.Conv2d], self.convs)
        # A convolution of maps side by side is the sum of theirs.
        first, *kernels = enter.weight.chunk(self.scales, dim=1)
        values = F.conv2d(warped(0), first, enter.bias, padding=1)
        for number, kernel in enumerate(kernels, 1):
            values.add_(F.conv2d(warped(number), kernel, padding=1))
        values.relu_()
        for conv in others:
            values = conv(values).relu_()
        return values
