"""KeDuSR (Yue, Cui, Li and Yang, Real-world dual-lens super-resolution via kernel-free matching,
AAAI 2024): the trunk of DM3Net and SDDuSR.

The LR's patches (query) are matched with those of the LR's centre (key), which the reference shows
too; the reference's features (value), aligned to the centre, are laid where the matches say, and
their high band is fused with the LR's own features.

Names of parts are those of the published checkpoints, misspellings included.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypedDict

import torch
import torch.nn.functional as F
from torch import nn

from dualsr_cli.matching import Correspondence, Values, reassemble, search
from dualsr_cli.networks._rows import (
    Band,
    Held,
    Step,
    by_rows,
    chain,
    cut_rows,
    gather,
    height_of,
    pointwise,
    residual,
)
from dualsr_cli.networks._windows import cut, grown, reduced, scaled, within
from dualsr_cli.networks.blocks import (
    SLOPE,
    AttentionBlock,
    AttentionGroup,
    PixelShuffle,
    ResidualGroup,
    conv3x3,
    cosines,
    enlarged,
    pad_to,
    warp,
)
from dualsr_cli.networks.contract import Inputs, Memory, Network, Outputs, Window
from dualsr_cli.networks.spynet import SpyNet
from dualsr_cli.networks.vgg import VGG, normalisation, pretrained_vgg

_FURTHEST = 15.0  # pixels by which the alignment's taps may leave the flow
_HELD = 1 << 20  # sampled values of the deformable convolution at once: 4 MiB, in a cache
_PATCH = 3  # of matching features
_SCALE = 4  # value pixels for each place of the matching features


class _Windows(TypedDict):
    patch: int
    scale: int
    kernel: int
    key_margin: int
    query_margin: int
    normalise: str


_WINDOWS: _Windows = {
    "patch": _PATCH,
    "scale": _SCALE,
    "kernel": 9,
    "key_margin": 2,
    "query_margin": 4,
    "normalise": "constant",
}
"""How the value's windows are read and laid, see `dualsr_cli.matching.reassembly`."""
_DETAIL_FROM = 6
"""LR pixels around a place that its detail depends on, even: a place of the matching features that
windows are laid from, and two that means and confidences are interpolated from."""
_AREAS = {"cpu": 1 << 13}
_AREA = 1 << 18
"""LR pixels that are worked on at once, by kind of device; on a processor what its caches hold."""
_LAID = 2  # times as many: each time that windows are laid costs a copy of the value

CHANNEL_ORDERS = ("bgr", "rgb")


@dataclass(frozen=True)
class KeDuSRConfig:
    """features: channels, a multiple of `groups`. lr_blocks: residual blocks in each of the LR
    branch's three groups; blocks: in each encoder and the decoder. matching_features: channels
    that patches are matched by. groups: of channels, whose taps the alignment moves together.
    flow_widths: channels inside of SpyNet's levels. channel_order: "bgr" for published weights,
    which have never seen another, or "rgb". skip: whether the LR's bicubic enlargement is added to
    the result, so that little training goes a long way; the published network has none.
    """

    features: int = 64
    lr_blocks: int = 8
    blocks: int = 4
    matching_features: int = 16
    groups: int = 8
    flow_widths: tuple[int, ...] = (32, 64, 32, 16)
    channel_order: str = "bgr"
    skip: bool = False

    def __post_init__(self) -> None:
        if self.channel_order not in CHANNEL_ORDERS:
            raise ValueError(f"{self.channel_order!r} is not one of {', '.join(CHANNEL_ORDERS)}")

    @classmethod
    def compact(cls) -> KeDuSRConfig:
        """What two processor cores can train and run."""
        return cls(
            features=24,
            lr_blocks=2,
            blocks=2,
            flow_widths=(16, 32, 16, 8),
            channel_order="rgb",
            skip=True,
        )


@dataclass(frozen=True, eq=False)
class Reference:
    """What is made of the reference once for an image.

    key: (B, C, h / 2, w / 2), matching features of the LR's centre, (h, w) made even. value:
    (B, F, 2 * h, 2 * w), the reference's features, aligned to the centre; at inference laid out.
    flow: (B, 2, 2 * h, 2 * w), x and y in pixels of the value, from the centre to the reference.
    """

    key: torch.Tensor
    value: torch.Tensor | Values
    flow: torch.Tensor


@dataclass(frozen=True, eq=False)
class Encoded:
    """All that is made once for an image at inference.

    lr: (B, 3, H, W), whose sides were made even. features: (B, F, H, W) of it, before they are
    enlarged. found: index map and confidence map (B, H / 2, W / 2). pooled: (B, 2 * F, 1, 1), the
    means that the fusion's channel attention looks at. area: LR pixels that are worked on at once.
    """

    lr: torch.Tensor
    features: torch.Tensor
    found: Correspondence
    reference: Reference
    pooled: torch.Tensor
    area: int


class KeDuSR(Network[Encoded]):
    """Twice the resolution from the LR and a reference of its centre.

    Gives beside the result "confidence" (B, 1, ceil(H / 2), ceil(W / 2)) and, of whole images, the
    reference's "flow" (B, 2, 2 * h, 2 * w).
    """

    def __init__(self, config: KeDuSRConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or KeDuSRConfig()
        features = config.features

        self.SISR = LREncoder(features, config.lr_blocks, attend=False)
        self.upsample = PixelShuffle(features, features)

        self.lr_nearby_head = nn.Sequential(conv3x3(3, features))
        self.lr_nearby_encoder = ResidualGroup(config.blocks, features)
        self.upsample_lr_nearby = PixelShuffle(features, features)
        self.ref_head = nn.Sequential(conv3x3(3, features))
        self.ref_encoder = ResidualGroup(config.blocks, features)

        self.spynet = SpyNet(config.flow_widths)
        self.Ref_align = FlowGuidedAlignment(features, config.groups)

        self.feature_match = MatchingEncoder(config.matching_features)
        self.alpha = nn.Parameter(torch.ones(1))
        self.alphaConf2X = confidence_embedding(features)

        self.AdaFuison = AttentionBlock(2 * features, attend=True, gate=True)
        self.fusion_tail = nn.Sequential(conv3x3(2 * features, features), nn.LeakyReLU(SLOPE, True))
        self.decoder = ResidualGroup(config.blocks, features)
        self.decoder_tail = nn.Sequential(
            conv3x3(features, features // 2), nn.LeakyReLU(SLOPE, True), conv3x3(features // 2, 3)
        )

    @property
    def scale(self) -> int:
        return 2

    @property
    def margin(self) -> int:
        return self._decoded_from + _DETAIL_FROM

    @property
    def memory(self) -> Memory:
        features, matching = self.config.features, self.config.matching_features / 4
        # On a processor windows are gone through in bands, which are a part of them.
        working = 10 if self.alpha.device.type == "cpu" else 48
        return Memory(
            image=features + matching + 3,
            reference=4 * features + matching + 8,
            window=working * features,
        )

    def forward(self, inputs: Inputs) -> Outputs:
        if self.training:
            return self._learn(inputs)
        encoded = self.encode(inputs)
        whole = self.render(encoded, (0, 0, *inputs.lr.shape[2:]))
        return Outputs(whole.sr, {**whole.maps, "flow": _flow_of(encoded.reference, inputs)})

    def _learn(self, inputs: Inputs) -> Outputs:
        """On whole maps, whose gradients are wanted."""
        height, width = inputs.lr.shape[2:]
        reference = self.encode_reference(inputs.lr_center(), inputs.ref)
        lr = pad_to(inputs.lr, 2)
        found, confidence = self.match(lr, reference)
        features = self.encode_lr(lr)
        sr = self._finished(self.decode(self.detail(found, confidence, reference), features), lr)
        maps = {"confidence": confidence, "flow": _flow_of(reference, inputs)}
        return Outputs(sr[:, :, : 2 * height, : 2 * width], maps)

    def encode_reference(self, lr_center: torch.Tensor, ref: torch.Tensor) -> Reference:
        """lr_center: (B, 3, h, w); ref: (B, 3, 2 * h, 2 * w). Raises ValueError for others."""
        lr_center, ref = self._prepared(lr_center, ref)
        center_features = self.lr_nearby_encoder(
            self.upsample_lr_nearby(self.lr_nearby_head(lr_center))
        )
        flow = upsampled_flow(self.spynet, lr_center, ref)
        value = self.Ref_align(self.ref_encoder(self.ref_head(ref)), center_features, flow)
        return Reference(self.feature_match(lr_center), value, flow)

    def encode_lr(self, lr: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) -> (B, F, 2 * H, 2 * W)."""
        features: torch.Tensor = self.upsample(self.SISR(self._ordered(lr)))
        return features

    def match(self, lr: torch.Tensor, reference: Reference) -> tuple[Correspondence, torch.Tensor]:
        """Index map and confidence map (B, 1, H / 2, W / 2) of an LR with even sides."""
        query = self.feature_match(self._ordered(lr))
        found = search(query, reference.key, patch=_PATCH)
        return found, similarity(query, reference.key, found)

    def detail(
        self, found: Correspondence, confidence: torch.Tensor, reference: Reference
    ) -> torch.Tensor:
        """What the reference gives to each pixel of the result: (B, F, 2 * H, 2 * W)."""
        high = high_band(transfer(reference.value, found))
        confidence = F.interpolate(confidence, scale_factor=_SCALE, mode="bicubic")
        first, second = self.alphaConf2X[:2], self.alphaConf2X[2:]
        # One channel has no layout that the first could hand on.
        embedded: torch.Tensor = second(
            first(confidence).contiguous(memory_format=torch.channels_last)
        )
        if torch.is_grad_enabled():
            return 2 * self.alpha * high * embedded
        return high.mul_(embedded).mul_(2 * self.alpha)

    def decode(self, detail: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """The result (B, 3, 2 * H, 2 * W)."""
        fused = self.fusion_tail(self.AdaFuison(torch.cat([detail, features], dim=1)))
        return self._ordered(self.decoder_tail(self.decoder(fused) + features))

    def encode(self, inputs: Inputs, tile: int | None = None) -> Encoded:
        area = _AREAS.get(inputs.lr.device.type, _AREA)
        if tile is not None:
            area = min(area, tile**2)
        # The reference first: for a while two maps of its features are held.
        reference = self._reference_by_rows(inputs, area)
        lr = self._ordered(pad_to(inputs.rounded_lr(), 2))
        height, width = lr.shape[2:]
        rows = height_of(area, width)
        query = gather(by_rows(self.feature_match), cut_rows(lr, rows), height // 2)
        found = search(query, reference.key, patch=_PATCH)
        features = gather(by_rows(self.SISR), cut_rows(lr, rows), height)
        parts = self._parts(features, found, reference, (0, 0, height, width), area)
        gated = self.AdaFuison.gated_by_rows()
        total = features.new_zeros(len(lr), 2 * self.config.features, 1, 1, dtype=torch.float64)
        for band in map(gated, parts):
            if band is not None:
                total += band.rows.sum(dim=(2, 3), keepdim=True)
        pooled = (total / (4 * height * width)).to(features.dtype)
        return Encoded(pad_to(inputs.lr, 2), features, found, reference, pooled, area)

    def render(self, encoded: Encoded, window: Window) -> Outputs:
        features, found = encoded.features, encoded.found
        around = _around(window, self._decoded_from, features)
        parts = self._parts(features, found, encoded.reference, around, encoded.area)
        rows = 2 * (around[2] - around[0])
        sr = self._ordered(gather(self._decoded_by_rows(encoded.pooled), parts, rows))
        sr = self._finished(sr, cut(encoded.lr, around))
        confidence = cut(found.similarity[:, None], reduced(window, 2))
        return Outputs(
            cut(sr, scaled(within(window, around), 2)), {"confidence": confidence.to(sr.dtype)}
        )

    def _reference_by_rows(self, inputs: Inputs, area: int) -> Reference:
        """As `encode_reference`."""
        lr_center, ref = self._prepared(inputs.lr_center(), inputs.ref)
        height, width = lr_center.shape[2:]
        rows = height_of(area, width)
        flow = upsampled_flow(lambda *images: self.spynet(*images, area), lr_center, ref)
        key = gather(by_rows(self.feature_match), cut_rows(lr_center, rows), height // 2)
        encoder = by_rows(self.ref_head, self.ref_encoder)
        # Of single features side by side: those are what the alignment samples.
        features = gather(encoder, cut_rows(ref, rows), 2 * height, torch.contiguous_format)
        center = by_rows(self.lr_nearby_head, self.upsample_lr_nearby, self.lr_nearby_encoder)
        align = chain(center, self.Ref_align.by_rows(features, flow))
        value = gather(align, cut_rows(lr_center, rows // 2), 2 * height)
        return Reference(key, Values(value, **_WINDOWS), flow)

    def _parts(
        self,
        features: torch.Tensor,
        found: Correspondence,
        reference: Reference,
        window: Window,
        area: int,
    ) -> Iterator[Band]:
        """What the fusion takes, detail and LR features (B, 2 * F, n, 2 * w), of a window.

        Its sides are even, as all windows' here.
        """
        top, left, bottom, right = window
        laid = height_of(_LAID * area, right - left)
        rows = height_of(area, 2 * (right - left))
        for first in range(top, bottom, laid):
            piece = first, left, min(first + laid, bottom), right
            around = _around(piece, _DETAIL_FROM, features)
            cells = reduced(around, 2)
            part = Correspondence(
                cut(found.index, cells), cut(found.similarity, cells), found.key_size
            )
            confidence = part.similarity[:, None].to(features.dtype)
            detail = self.detail(part, confidence, reference)
            detail = cut(detail, scaled(within(piece, around), 2))
            near = _around(piece, 2, features)
            enlarged = self.upsample(cut(features, near))
            enlarged = cut(enlarged, scaled(within(piece, near), 2))
            for start in range(0, detail.shape[2], rows):
                both = detail[:, :, start : start + rows], enlarged[:, :, start : start + rows]
                last = piece[2] == bottom and start + rows >= detail.shape[2]
                yield Band(torch.cat(both, dim=1), last)

    def _finished(self, sr: torch.Tensor, lr: torch.Tensor) -> torch.Tensor:
        return sr + enlarged(lr) if self.config.skip else sr

    def _decoded_by_rows(self, pooled: torch.Tensor) -> Step:
        """As `decode`, of what `_parts` gives."""
        features = Held()

        def keep(band: Band) -> Band:
            features.keep(Band(band.rows[:, self.config.features :], band.last))
            return band

        return chain(
            keep,
            self.AdaFuison.by_rows(pooled),
            by_rows(self.fusion_tail, self.decoder),
            features.add,
            by_rows(self.decoder_tail),
        )

    @property
    def _decoded_from(self) -> int:
        """LR pixels by which a result depends on what the fusion takes around it, even."""
        # The gate and two convolutions of the fusion, its tail, the decoder and its tail.
        return 2 * -(-(3 + 2 + 1 + 2 * self.config.blocks + 1 + 2) // 4)

    def _prepared(
        self, lr_center: torch.Tensor, ref: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if ref.shape != (*lr_center.shape[:2], *(2 * side for side in lr_center.shape[2:])):
            raise ValueError(f"ref {tuple(ref.shape)} is not twice {tuple(lr_center.shape)}")
        return self._ordered(pad_to(lr_center, 2)), self._ordered(pad_to(ref, 4))

    def _ordered(self, image: torch.Tensor) -> torch.Tensor:
        """RGB <-> the order of channels that the weights know; laid out for quick convolutions."""
        if self.config.channel_order == "bgr":
            image = image.flip(1)
        return image.contiguous(memory_format=torch.channels_last)


def _flow_of(reference: Reference, inputs: Inputs) -> torch.Tensor:
    return reference.flow[:, :, : inputs.ref.shape[2], : inputs.ref.shape[3]]


def _around(window: Window, margin: int, features: torch.Tensor) -> Window:
    """The window with its margin inside a map, whose sides are even, and with even sides."""
    return scaled(reduced(grown(window, margin, features.shape[2:]), 2), 2)


class LREncoder(nn.Module):
    """The LR branch: (B, 3, H, W) -> (B, features, H, W); three groups of `blocks` blocks."""

    def __init__(self, features: int, blocks: int, *, attend: bool) -> None:
        super().__init__()
        self.head = conv3x3(3, features)
        self.body1 = AttentionGroup(blocks, features, attend=attend)
        self.body2 = AttentionGroup(blocks, features, attend=attend)
        self.body3 = AttentionGroup(blocks, features, attend=attend)
        self.tail = conv3x3(features, features)

    def forward(self, lr: torch.Tensor) -> torch.Tensor:
        shallow: torch.Tensor = self.head(lr)
        deep: torch.Tensor = self.tail(self.body3(self.body2(self.body1(shallow))))
        return shallow + deep

    def by_rows(self) -> Step:
        """Where channel attention is off."""
        body = by_rows(self.body1, self.body2, self.body3, self.tail)
        return chain(by_rows(self.head), residual(body))


def upsampled_flow(
    spynet: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    lr_center: torch.Tensor,
    ref: torch.Tensor,
) -> torch.Tensor:
    """The flow from the LR's centre (B, 3, h, w) to the reference (B, 3, 2 * h, 2 * w).

    It is found at the centre's resolution; returned at the reference's, (B, 2, 2 * h, 2 * w), x
    and y in its pixels.
    """
    flow = spynet(lr_center, F.avg_pool2d(ref, 2))
    return 2 * F.interpolate(flow, scale_factor=2, mode="bilinear", align_corners=True)


class FlowGuidedAlignment(nn.Module):
    """The reference's features aligned to the centre's by a deformable convolution.

    Its taps lie where the flow points to, moved by up to 15 pixels that it estimates itself.
    groups: of channels with taps of their own.
    """

    def __init__(self, features: int, groups: int = 8) -> None:
        super().__init__()
        self.offset_conv1 = conv3x3(2 * features + 2, features)
        self.offset_conv2 = conv3x3(features, features)
        self.dcnpack = _DeformableConv(features, groups)

    def forward(self, ref: torch.Tensor, center: torch.Tensor, flow: torch.Tensor) -> torch.Tensor:
        """Features (B, F, H, W) of both, flow (B, 2, H, W) in pixels -> (B, F, H, W)."""
        guide = torch.cat([warp(ref, flow), center, flow], dim=1)
        for conv in (self.offset_conv1, self.offset_conv2):
            guide = F.leaky_relu(conv(guide), 0.1, inplace=True)
        return F.leaky_relu(self.dcnpack(ref, guide, flow), 0.1, inplace=True)

    def by_rows(self, ref: torch.Tensor, flow: torch.Tensor) -> Step:
        """Takes the centre's features; the reference's and the flow are there as a whole."""
        rectify = pointwise(lambda values: F.leaky_relu(values, 0.1, inplace=True))
        seen = 0

        def guide(band: Band) -> Band:
            nonlocal seen
            part = flow[:, :, seen : seen + band.rows.shape[2]]
            warped = warp(ref, part, top=seen)
            seen += band.rows.shape[2]
            parts = torch.cat([warped, band.rows, part], dim=1)
            return Band(parts.contiguous(memory_format=torch.channels_last), band.last)

        convs = [by_rows(self.offset_conv1), rectify, by_rows(self.offset_conv2), rectify]
        return chain(guide, *convs, self.dcnpack.by_rows(ref, flow), rectify)


class _DeformableConv(nn.Module):
    """A modulated deformable 3x3 convolution whose taps start from a flow.

    torchvision's operator does the same, in twice the time on a processor: the taps of a band of
    rows are sampled at once here, and only a band of them and of their places is held.
    """

    def __init__(self, features: int, groups: int) -> None:
        super().__init__()
        self.groups = groups
        conv = conv3x3(features, features)
        self.weight, self.bias = conv.weight, conv.bias
        # For each group and tap y and x, then for each group and tap a weight.
        self.conv_offset = conv3x3(features, groups * 9 * 3)
        # Training starts from taps that follow the flow alone.
        for parameter in self.conv_offset.parameters():
            nn.init.zeros_(parameter)

    def forward(
        self, values: torch.Tensor, guide: torch.Tensor, flow: torch.Tensor
    ) -> torch.Tensor:
        """values, guide: (B, F, H, W); flow: (B, 2, H, W) -> (B, F, H, W)."""
        values = self._sampled(values)
        guide = F.pad(guide, (0, 0, 1, 1))
        rows, bands = self._height(values), []
        for top in range(0, values.shape[2], rows):
            near = guide[:, :, top : top + rows + 2]
            found = F.conv2d(near, self.conv_offset.weight, self.conv_offset.bias, padding=(0, 1))
            bands.append(self._band(values, found, flow[:, :, top : top + rows], top))
        return torch.cat(bands, dim=2)

    def by_rows(self, values: torch.Tensor, flow: torch.Tensor) -> Step:
        """Takes the guide; the rest is there as a whole."""
        values = self._sampled(values)
        height, seen = self._height(values), 0

        def sample(band: Band) -> Band:
            nonlocal seen
            parts = []
            for part in torch.split(band.rows, height, dim=2):
                rows = part.shape[2]
                parts.append(self._band(values, part, flow[:, :, seen : seen + rows], seen))
                seen += rows
            return Band(torch.cat(parts, dim=2), band.last)

        return chain(by_rows(self.conv_offset), sample)

    def _sampled(self, values: torch.Tensor) -> torch.Tensor:
        """For all bands, which sample groups of channels, at places that need precision."""
        return values.contiguous().to(torch.promote_types(values.dtype, torch.float32))

    def _height(self, values: torch.Tensor) -> int:
        """Rows of a band."""
        return max(1, _HELD // (9 * values[:, :, 0].numel()))

    def _band(
        self, values: torch.Tensor, found: torch.Tensor, flow: torch.Tensor, top: int
    ) -> torch.Tensor:
        """Some rows of the result from `top` on; found: what `conv_offset` gives for them."""
        batch, channels, height, width = values.shape
        rows = flow.shape[2]
        groups = self.groups
        moves = _FURTHEST * torch.tanh(found[:, : groups * 18])
        flow = flow.flip(1).to(values.dtype)
        moves = moves.reshape(batch, groups, 9, 2, rows, width) + flow[:, None, None]
        mask = found[:, groups * 18 :].sigmoid().reshape(batch * groups, 1, 9 * rows, width)

        tap = torch.arange(9, device=flow.device)[:, None, None]
        y = torch.arange(top, top + rows, device=flow.device)[:, None] + tap // 3 - 1
        x = torch.arange(width, device=flow.device) + tap % 3 - 1
        # Places as grid_sample counts them, with -1 and 1 at the outer edges of the map.
        places = [
            (2 * (moves[:, :, :, 1] + x) + 1) / width - 1,
            (2 * (moves[:, :, :, 0] + y) + 1) / height - 1,
        ]
        grid = torch.stack(places, dim=5).reshape(batch * groups, 9 * rows, width, 2)
        groups_of = values.view(batch * groups, channels // groups, height, width)
        taps = F.grid_sample(groups_of, grid, align_corners=False) * mask
        taps = taps.to(found.dtype).reshape(batch, channels * 9, rows, width)
        return F.conv2d(taps, self.weight.flatten(1)[:, :, None, None], self.bias)


class MatchingEncoder(nn.Module):
    """What patches are matched by: VGG16 to relu2_2, brought to few channels; all of it trained.

    `sub_mean`, which normalises pixels, is not trained but lies in checkpoints.
    """

    def __init__(self, features: int = 16) -> None:
        super().__init__()
        self.sub_mean = normalisation()
        self.feature_extract = VGG("vgg16", ["relu2_2"]).features
        self.feature_extract.add_module("map", nn.Sequential(conv3x3(128, features)))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W), 0..1, even sides -> (B, features, H / 2, W / 2)."""
        features: torch.Tensor = self.feature_extract(self.sub_mean(image))
        return features

    def by_rows(self) -> Step:
        return by_rows(self.sub_mean, self.feature_extract)

    def start_from_vgg16(self) -> None:
        """Take over the layers that were trained on ImageNet, from where training starts."""
        trained: Mapping[str, torch.Tensor] = pretrained_vgg(
            "vgg16", ["relu2_2"]
        ).features.state_dict()
        with torch.no_grad():
            for name, value in trained.items():
                self.feature_extract.get_parameter(name).copy_(value)


def similarity(query: torch.Tensor, key: torch.Tensor, found: Correspondence) -> torch.Tensor:
    """The confidence map (B, 1, Hq, Wq): cosines of patches with their keys, of a hard maximum.

    Gradients flow to query (B, C, Hq, Wq) and key (B, C, Hk, Wk) where they are wanted.
    """
    if not (torch.is_grad_enabled() and (query.requires_grad or key.requires_grad)):
        return found.similarity[:, None].to(query.dtype)
    return cosines(query, key, found.index)[:, None]


def transfer(value: torch.Tensor | Values, found: Correspondence) -> torch.Tensor:
    """The value's windows of 9 x 9 pixels laid where they match, every 4 pixels, and summed.

    (B, F, 4 * Hk, 4 * Wk) -> (B, F, 4 * Hq, 4 * Wq). The sum is divided by (9 / 4)^2, although
    that many windows lie on a pixel only on average.
    """
    if isinstance(value, Values):
        return value.reassemble(found)
    return reassemble(value, found, **_WINDOWS)


def high_band(values: torch.Tensor) -> torch.Tensor:
    """What values (B, F, H, W), sides multiples of 4, have beyond means of 4 x 4 pixels."""
    means = F.avg_pool2d(values, _SCALE)
    return values - F.interpolate(means, scale_factor=_SCALE, mode="bicubic")


def confidence_embedding(features: int) -> nn.Sequential:
    """(B, 1, H, W) -> (B, features, H, W): a factor for each channel of what is transferred."""
    return nn.Sequential(
        nn.Conv2d(1, features // 4, 7, padding=3),
        nn.LeakyReLU(SLOPE, True),
        conv3x3(features // 4, features),
        nn.LeakyReLU(SLOPE, True),
    )
