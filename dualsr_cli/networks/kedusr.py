"""KeDuSR (Yue, Cui, Li and Yang, Real-world dual-lens super-resolution via kernel-free matching,
AAAI 2024): the trunk of DM3Net and SDDuSR.

The LR's patches (query) are matched with those of the LR's centre (key), which the reference shows
too; the reference's features (value), aligned to the centre, are laid where the matches say, and
their high band is fused with the LR's own features.

Names of parts are those of the published checkpoints, misspellings included.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from dualsr_cli.matching import Correspondence, reassemble, search
from dualsr_cli.networks.blocks import (
    SLOPE,
    AttentionBlock,
    AttentionGroup,
    PixelShuffle,
    ResidualGroup,
    conv3x3,
    pad_to,
    warp,
)
from dualsr_cli.networks.contract import Inputs, Outputs
from dualsr_cli.networks.spynet import SpyNet
from dualsr_cli.networks.vgg import VGG, pretrained_vgg

_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)
_FURTHEST = 15.0  # pixels by which the alignment's taps may leave the flow
_HELD = 1 << 20  # sampled values of the deformable convolution at once: 4 MiB, in a cache
_PATCH = 3  # of matching features
_SCALE = 4  # value pixels for each place of the matching features

CHANNEL_ORDERS = ("bgr", "rgb")


@dataclass(frozen=True)
class KeDuSRConfig:
    """features: channels, a multiple of `groups`. lr_blocks: residual blocks in each of the LR
    branch's three groups; blocks: in each encoder and the decoder. matching_features: channels
    that patches are matched by. groups: of channels, whose taps the alignment moves together.
    flow_widths: channels inside of SpyNet's levels. channel_order: "bgr" for published weights,
    which have never seen another, or "rgb".
    """

    features: int = 64
    lr_blocks: int = 8
    blocks: int = 4
    matching_features: int = 16
    groups: int = 8
    flow_widths: tuple[int, ...] = (32, 64, 32, 16)
    channel_order: str = "bgr"

    def __post_init__(self) -> None:
        if self.channel_order not in CHANNEL_ORDERS:
            raise ValueError(f"{self.channel_order!r} is not one of {', '.join(CHANNEL_ORDERS)}")

    @property
    def margin(self) -> int:
        """LR pixels around a tile that its result depends on, besides what is pooled; even."""
        branch = 3 + 3 * (2 * self.lr_blocks + 1)  # the LR encoder and the enlargement
        # VGG16 (10 pixels, with its patch), windows (2) and the means that are taken off (4).
        matched = 16
        decoder = -(-(9 + 2 * self.blocks) // 2)  # fusion and decoder, in pixels of the result
        return 2 * -(-(max(branch, matched) + decoder) // 2)

    @classmethod
    def compact(cls) -> KeDuSRConfig:
        """What two processor cores can train and run."""
        return cls(
            features=24, lr_blocks=2, blocks=2, flow_widths=(16, 32, 16, 8), channel_order="rgb"
        )


@dataclass(frozen=True, eq=False)
class Reference:
    """What is made of the reference once for an image.

    key: (B, C, h / 2, w / 2), matching features of the LR's centre, (h, w) made even. value:
    (B, F, 2 * h, 2 * w), the reference's features, aligned to the centre. flow: (B, 2, 2 * h,
    2 * w), x and y in pixels of the value, from the centre to the reference.
    """

    key: torch.Tensor
    value: torch.Tensor
    flow: torch.Tensor


class KeDuSR(nn.Module):
    """Twice the resolution from the LR and a reference of its centre.

    Gives beside the result "confidence" (B, 1, ceil(H / 2), ceil(W / 2)) and the reference's
    "flow" (B, 2, 2 * h, 2 * w).

    `encode_reference` is done once for an image. All else can be done tile by tile, in tiles that
    begin at even places and have the configuration's `margin` around them; the fusion's channel
    attention wants `pool` of the whole image.
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
        self.fusion_tail = nn.Sequential(conv3x3(2 * features, features), nn.LeakyReLU(SLOPE))
        self.decoder = ResidualGroup(config.blocks, features)
        self.decoder_tail = nn.Sequential(
            conv3x3(features, features // 2), nn.LeakyReLU(SLOPE), conv3x3(features // 2, 3)
        )

    def forward(self, inputs: Inputs) -> Outputs:
        return self.restore(inputs.lr, inputs.lr_center(), inputs.ref)

    def restore(self, lr: torch.Tensor, lr_center: torch.Tensor, ref: torch.Tensor) -> Outputs:
        """As `forward`; but the centre may be any part of the photo that the reference shows.

        KeDuSR is trained with parts that lie beside the LR patch. lr: (B, 3, H, W); lr_center:
        (B, 3, h, w); ref: (B, 3, 2 * h, 2 * w); RGB, 0..1.
        """
        height, width = lr.shape[2:]
        reference = self.encode_reference(lr_center, ref)
        lr = pad_to(lr, 2)
        found, confidence = self.match(lr, reference)
        features = self.encode_lr(lr)
        sr = self.decode(self.detail(found, confidence, reference), features)
        maps = {
            "confidence": confidence,
            "flow": reference.flow[:, :, : ref.shape[2], : ref.shape[3]],
        }
        return Outputs(sr[:, :, : 2 * height, : 2 * width], maps)

    def encode_reference(self, lr_center: torch.Tensor, ref: torch.Tensor) -> Reference:
        """lr_center: (B, 3, h, w); ref: (B, 3, 2 * h, 2 * w). Raises ValueError for others."""
        if ref.shape != (*lr_center.shape[:2], *(2 * side for side in lr_center.shape[2:])):
            raise ValueError(f"ref {tuple(ref.shape)} is not twice {tuple(lr_center.shape)}")
        lr_center = pad_to(self._ordered(lr_center), 2)
        ref = pad_to(self._ordered(ref), 4)
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
        embedded: torch.Tensor = self.alphaConf2X(confidence)
        return 2 * self.alpha * high * embedded

    def pool(
        self,
        detail: torch.Tensor,
        features: torch.Tensor,
        inside: tuple[slice, slice] = (slice(None), slice(None)),
    ) -> torch.Tensor:
        """(B, 2 * F, 1, 1): the means that the fusion's channel attention looks at.

        inside: the rows and columns that they are taken of, where these are a tile's with a margin.
        """
        return self.AdaFuison.pool(torch.cat([detail, features], dim=1), inside)

    def decode(
        self, detail: torch.Tensor, features: torch.Tensor, pooled: torch.Tensor | None = None
    ) -> torch.Tensor:
        """The result (B, 3, 2 * H, 2 * W). pooled: that of the image where these are a tile's."""
        fused = self.fusion_tail(self.AdaFuison(torch.cat([detail, features], dim=1), pooled))
        return self._ordered(self.decoder_tail(self.decoder(fused) + features))

    def _ordered(self, image: torch.Tensor) -> torch.Tensor:
        """RGB <-> the order of channels that the weights know; laid out for quick convolutions."""
        if self.config.channel_order == "bgr":
            image = image.flip(1)
        return image.contiguous(memory_format=torch.channels_last)


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


def upsampled_flow(spynet: nn.Module, lr_center: torch.Tensor, ref: torch.Tensor) -> torch.Tensor:
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
        height, width = values.shape[2:]
        # Once for all bands, which sample groups of channels, at places that need precision.
        values = values.contiguous().to(torch.promote_types(values.dtype, torch.float32))
        guide = F.pad(guide, (0, 0, 1, 1))
        rows = max(1, _HELD // (len(values) * width * values.shape[1] * 9))
        bands = [
            self._band(values, guide[:, :, top : top + rows + 2], flow[:, :, top : top + rows], top)
            for top in range(0, height, rows)
        ]
        return torch.cat(bands, dim=2)

    def _band(
        self, values: torch.Tensor, guide: torch.Tensor, flow: torch.Tensor, top: int
    ) -> torch.Tensor:
        """Some rows of the result from `top` on; guide has a row more above and below."""
        batch, channels, height, width = values.shape
        rows = flow.shape[2]
        groups = self.groups
        found = F.conv2d(guide, self.conv_offset.weight, self.conv_offset.bias, padding=(0, 1))
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
        taps = taps.to(guide.dtype).reshape(batch, channels * 9, rows, width)
        return F.conv2d(taps, self.weight.flatten(1)[:, :, None, None], self.bias)


class MatchingEncoder(nn.Module):
    """What patches are matched by: VGG16 to relu2_2, brought to few channels; all of it trained.

    `sub_mean`, which normalises pixels, is not trained but lies in checkpoints.
    """

    def __init__(self, features: int = 16) -> None:
        super().__init__()
        self.sub_mean = nn.Conv2d(3, 3, 1).requires_grad_(False)
        std = torch.tensor(_STD)
        normalise = {
            "weight": torch.diag(1 / std)[:, :, None, None],
            "bias": -torch.tensor(_MEAN) / std,
        }
        self.sub_mean.load_state_dict(normalise)
        self.feature_extract = VGG("vgg16", ["relu2_2"]).features
        self.feature_extract.add_module("map", nn.Sequential(conv3x3(128, features)))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W), 0..1, even sides -> (B, features, H / 2, W / 2)."""
        features: torch.Tensor = self.feature_extract(self.sub_mean(image))
        return features

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
    queries, keys = (
        F.normalize(F.unfold(_bordered(maps), _PATCH), dim=1) for maps in (query, key)
    )  # (B, 9 * C, places)
    index = found.index.flatten(1)[:, None].expand(-1, keys.shape[1], -1)
    cosines = (queries * keys.gather(2, index)).sum(dim=1)
    return cosines.view(found.index.shape)[:, None]


def _bordered(maps: torch.Tensor) -> torch.Tensor:
    """Mirrored as the search does it; an axis of one place is repeated."""
    for axis, ends in ((2, (0, 0, 1, 1)), (3, (1, 1, 0, 0))):
        maps = F.pad(maps, ends, mode="reflect" if maps.shape[axis] > 1 else "replicate")
    return maps


def transfer(value: torch.Tensor, found: Correspondence) -> torch.Tensor:
    """The value's windows of 9 x 9 pixels laid where they match, every 4 pixels, and summed.

    (B, F, 4 * Hk, 4 * Wk) -> (B, F, 4 * Hq, 4 * Wq). The sum is divided by (9 / 4)^2, although
    that many windows lie on a pixel only on average.
    """
    return reassemble(
        value,
        found,
        patch=_PATCH,
        scale=_SCALE,
        kernel=9,
        key_margin=2,
        query_margin=4,
        normalise="constant",
    )


def high_band(values: torch.Tensor) -> torch.Tensor:
    """What values (B, F, H, W), sides multiples of 4, have beyond means of 4 x 4 pixels."""
    means = F.avg_pool2d(values, _SCALE)
    return values - F.interpolate(means, scale_factor=_SCALE, mode="bicubic")


def confidence_embedding(features: int) -> nn.Sequential:
    """(B, 1, H, W) -> (B, features, H, W): a factor for each channel of what is transferred."""
    return nn.Sequential(
        nn.Conv2d(1, features // 4, 7, padding=3),
        nn.LeakyReLU(SLOPE),
        conv3x3(features // 4, features),
        nn.LeakyReLU(SLOPE),
    )
