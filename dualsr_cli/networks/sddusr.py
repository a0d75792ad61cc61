"""SDDuSR: sparse feature matching and token dictionary learning for dual-lens super-resolution
(anonymous, under double-blind review; its code was never released).

KeDuSR's trunk, in which only places rich in detail are matched (SFM, section 3.2), and in which
what warping cannot bring is looked up in dictionaries of the reference (TDL, section 3.3).

What the paper leaves open, and what was taken:

- Widths and numbers of blocks, upsampling, alignment, matching features and the embedding h of
  the confidence are KeDuSR's. The paper's baseline without SFM and TDL has KeDuSR's PSNR. Its
  table 3 counts products of 64 numbers a pair, which no 3x3 patch has; here they have 144.
- F^LRC is brought to the reference's resolution before its blocks, as in KeDuSR, so that A_up of
  eq. 6 fits the places of F_align^Ref in eq. 7.
- Patches are padded with zeros and windows of 12 x 12 reference pixels are summed and divided by
  9, at all places: the same in training, where masked windows are 0, as at inference, where
  there are none. F^Warp is taken whole, as eq. 1 has it, without KeDuSR's high-pass.
- The fusion has 8 CBAM blocks between two convolutions; F^LR is added to it, as in KeDuSR.
- The mask generator's layers: see there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import nn

from dualsr_cli.matching import Correspondence, reassemble, search, straight_through
from dualsr_cli.networks._sddusr_parts import (
    Dictionaries,
    Fusion,
    MaskGenerator,
    TokenDictionaries,
)
from dualsr_cli.networks.blocks import PixelShuffle, ResidualGroup, conv3x3, pad_to
from dualsr_cli.networks.contract import Inputs, Outputs
from dualsr_cli.networks.kedusr import (
    FlowGuidedAlignment,
    LREncoder,
    MatchingEncoder,
    confidence_embedding,
    upsampled_flow,
)
from dualsr_cli.networks.spynet import SpyNet

_PATCH = 3  # of matching features
_SCALE = 4  # reference pixels for each place of the matching features
_PARTS_MARGIN = 6
"""LR pixels by which F^LR, h(C), F^Warp and F^Dict of a place depend on those around it: the
embedding of the confidence sees 4 pixels of the result, after bicubic upsampling from 8."""
_PADDING = "zeros"
_DIVISOR = "constant"

Window = tuple[int, int, int, int]
"""Top, left, bottom, right in pixels of the LR."""


@dataclass(frozen=True)
class SDDuSRConfig:
    """features: channels, a multiple of `groups`. lr_blocks: residual blocks in each of the LR
    encoder's three groups; blocks: in the encoders of LRC and Ref. fusion_blocks: CBAM blocks.
    tokens: N of each dictionary. matching_features: channels that patches are matched by;
    mask_features: inner channels of the mask generator. groups: of channels, whose taps the
    alignment moves together. flow_widths: channels inside of SpyNet's levels. Raises ValueError
    for what no network can be built of.
    """

    features: int = 64
    lr_blocks: int = 8
    blocks: int = 4
    fusion_blocks: int = 8
    tokens: int = 128
    matching_features: int = 16
    mask_features: int = 32
    groups: int = 8
    flow_widths: tuple[int, ...] = (32, 64, 32, 16)

    def __post_init__(self) -> None:
        numbers = [getattr(self, field.name) for field in fields(self)[:-1]]
        if min(*numbers, *self.flow_widths) < 1:
            raise ValueError("features, blocks and the like are 1 or more")
        if self.features % 4 or self.features % self.groups:
            raise ValueError(f"features are a multiple of 4 and of the groups, {self.groups}")
        if self.mask_features % 2:
            raise ValueError("mask_features is even: half of them see the whole image")

    @classmethod
    def compact(cls) -> SDDuSRConfig:
        """What two processor cores can train and run."""
        return cls(
            features=24,
            lr_blocks=2,
            blocks=2,
            fusion_blocks=2,
            tokens=64,
            mask_features=16,
            flow_widths=(16, 32, 16, 8),
        )


@dataclass(frozen=True, eq=False)
class Reference:
    """What is made of the reference once for an image; (h, w) of the LR's centre made even.

    key: F_M^LRC (B, C, h / 2, w / 2). value: F_align^Ref (B, F, 2 * h, 2 * w). flow: (B, 2, 2 * h,
    2 * w), x and y in pixels of the value, from the centre to the reference. dictionaries: updated.
    """

    key: torch.Tensor
    value: torch.Tensor
    flow: torch.Tensor
    dictionaries: Dictionaries


@dataclass(frozen=True, eq=False)
class Encoded:
    """All that is global, made once for an image; (H, W) of the LR made even.

    features: F^LR before its upsampling (B, F, H, W). found: index map M and confidence map C,
    with -1 and 0 where nothing was matched. mask (B, H / 2, W / 2) and center_mask (B, h / 2,
    w / 2), bool: which queries and keys took part.
    """

    features: torch.Tensor
    reference: Reference
    found: Correspondence
    mask: torch.Tensor
    center_mask: torch.Tensor


class SDDuSR(nn.Module):
    """Twice the resolution from the LR and a reference of its centre; any size.

    Parameters of the published configuration, 5,698,286 (the paper states no number):

    | part | what it is | parameters |
    |---|---|---|
    | `lr_encoder` | LR encoder with channel attention | 1,935,968 |
    | `upsample` | initial upsampling of F^LR | 147,712 |
    | `lrc_encoder` | residual blocks of F^LRC | 481,856 |
    | `ref_encoder` | residual blocks of F^Ref | 334,144 |
    | `spynet` | optical flow of the alignment | 1,440,300 |
    | `align` | flow-guided deformable convolution | 273,432 |
    | `matching_encoder` | VGG16 to relu2_2 and a convolution: F_M | 278,620 |
    | `mask_generator` | Mask^LR and Mask^LRC | 5,202 |
    | `confidence` | h of eq. 1 | 10,080 |
    | `dictionaries` | D^LRC, D^Ref, s and the layers of Q, K and V | 45,377 |
    | `fusion` | CBAM blocks | 743,864 |
    | `tail` | the last convolution | 1,731 |

    Gives beside the result

    - "mask" (B, 1, ceil(H / 2), ceil(W / 2)), 0 or 1: Mask^LR. In training a sample of
      Gumbel-softmax, which carries its gradient: the mask loss of section 3.4, weight 1e-3, is

          label = detail_mask(inputs.hr, outputs.maps["mask"].shape[2:])
          F.mse_loss(outputs.maps["mask"][:, 0], label.float())

      with `dualsr_cli.matching.detail_mask`. Without it the network learns to match everywhere.
    - "center_mask" (B, 1, ceil(h / 2), ceil(w / 2)): Mask^LRC; at inference only, since in
      training all keys take part.
    - "confidence", of the mask's size: C of eq. 5, 0 where nothing was matched.
    - "flow" (B, 2, 2 * h, 2 * w) between LRC and Ref.

    `encode` and `gates` are done once for an image and `render` for each window of it; or else
    `encode` and `fuse`, then `finish`.
    """

    def __init__(self, config: SDDuSRConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or SDDuSRConfig()
        features = config.features
        self.lr_encoder = LREncoder(features, config.lr_blocks, attend=True)
        self.upsample = PixelShuffle(features, features)
        self.lrc_encoder = nn.Sequential(
            conv3x3(3, features),
            PixelShuffle(features, features),
            ResidualGroup(config.blocks, features),
        )
        self.ref_encoder = nn.Sequential(
            conv3x3(3, features), ResidualGroup(config.blocks, features)
        )
        self.spynet = SpyNet(config.flow_widths)
        self.align = FlowGuidedAlignment(features, config.groups)
        self.matching_encoder = MatchingEncoder(config.matching_features)
        self.mask_generator = MaskGenerator(config.matching_features, config.mask_features)
        self.confidence = confidence_embedding(features)
        self.dictionaries = TokenDictionaries(config.tokens, features)
        self.fusion = Fusion(features, config.fusion_blocks)
        self.tail = conv3x3(features, 3)

    def forward(self, inputs: Inputs) -> Outputs:
        return self.restore(inputs.lr, inputs.lr_center(), inputs.ref)

    def restore(self, lr: torch.Tensor, lr_center: torch.Tensor, ref: torch.Tensor) -> Outputs:
        """As `forward`; but the centre may be any part of the photo that the reference shows.

        KeDuSR is trained with parts that lie beside the LR patch. lr: (B, 3, H, W); lr_center:
        (B, 3, h, w); ref: (B, 3, 2 * h, 2 * w); RGB, 0..1. Raises ValueError for other shapes.
        """
        return (self._learn if self.training else self._infer)(lr, lr_center, ref)

    def _infer(self, lr: torch.Tensor, lr_center: torch.Tensor, ref: torch.Tensor) -> Outputs:
        encoded = self.encode(lr, lr_center, ref)
        sr = self.render(encoded, (0, 0, *encoded.features.shape[2:]))
        maps = {
            "mask": encoded.mask[:, None].to(sr.dtype),
            "center_mask": encoded.center_mask[:, None].to(sr.dtype),
            "confidence": encoded.found.similarity[:, None].to(sr.dtype),
            "flow": encoded.reference.flow[:, :, : ref.shape[2], : ref.shape[3]],
        }
        return Outputs(sr[:, :, : 2 * lr.shape[2], : 2 * lr.shape[3]], maps)

    def _learn(self, lr: torch.Tensor, lr_center: torch.Tensor, ref: torch.Tensor) -> Outputs:
        """Training phase: all is matched, and the mask multiplies what was found (eq. 2-5)."""
        reference = self.encode_reference(lr_center, ref)
        even = pad_to(lr, 2)
        query = self.matching_encoder(even)
        mask = self.mask_generator.sample(query)
        warped, found = straight_through(
            query,
            reference.key,
            reference.value,
            mask,
            patch=_PATCH,
            scale=_SCALE,
            padding=_PADDING,
            normalise=_DIVISOR,
        )
        confidence = found.similarity[:, None]
        parts = self._parts(self.encode_lr(even), warped, confidence, reference.dictionaries)
        sr = self._finished(self.fusion(parts), parts[:, : self.config.features])
        maps = {
            "mask": mask[:, None],
            "confidence": confidence,
            "flow": reference.flow[:, :, : ref.shape[2], : ref.shape[3]],
        }
        return Outputs(sr[:, :, : 2 * lr.shape[2], : 2 * lr.shape[3]], maps)

    def encode_reference(self, lr_center: torch.Tensor, ref: torch.Tensor) -> Reference:
        """lr_center: (B, 3, h, w); ref: (B, 3, 2 * h, 2 * w). Raises ValueError for others."""
        if ref.shape != (*lr_center.shape[:2], *(2 * side for side in lr_center.shape[2:])):
            raise ValueError(f"ref {tuple(ref.shape)} is not twice {tuple(lr_center.shape)}")
        lr_center, ref = pad_to(lr_center, 2), pad_to(ref, 4)
        lrc = self.lrc_encoder(lr_center)
        flow = upsampled_flow(self.spynet, lr_center, ref)
        value = self.align(self.ref_encoder(ref), lrc, flow)
        return Reference(
            self.matching_encoder(lr_center), value, flow, self.dictionaries.update(lrc, value)
        )

    def encode_lr(self, lr: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W), a whole image -> F^LR before its upsampling (B, F, H, W)."""
        features: torch.Tensor = self.lr_encoder(lr)
        return features

    def encode(self, lr: torch.Tensor, lr_center: torch.Tensor, ref: torch.Tensor) -> Encoded:
        """Inference phase of SFM and all else that is global. Shapes as for `restore`."""
        reference = self.encode_reference(lr_center, ref)
        lr = pad_to(lr, 2)
        query = self.matching_encoder(lr)
        mask = self.mask_generator.choose(query)
        center_mask = self.mask_generator.choose(reference.key)
        found = search(
            query,
            reference.key,
            patch=_PATCH,
            padding=_PADDING,
            query_mask=mask,
            key_mask=center_mask,
        )
        return Encoded(self.encode_lr(lr), reference, found, mask, center_mask)

    @property
    def margin(self) -> int:
        """LR pixels around a window that its result depends on, beside what is global: the
        fusion's, 1 pixel of the last convolution, and those of what the fusion takes.
        """
        return -(-(self.fusion.margin + 1) // 2) + _PARTS_MARGIN

    def gates(self, encoded: Encoded, windows: Sequence[Window]) -> tuple[torch.Tensor, ...]:
        """The fusion's channel attention over the whole image, (B, F, 1, 1) for each block.

        windows: those that `render` will be asked for; together all of encoded.features, none
        overlapping. A block's statistics need the gates of those before it: each goes over all
        windows from the start, so that no map of the result's size is held. Where there is memory
        for two, `fuse` is several times faster.
        """
        gates: list[torch.Tensor] = []
        for number in range(self.config.fusion_blocks):
            pooled = _Pooled()
            for window in windows:
                around = self._around(encoded, window, self.margin)
                parts = self._window_parts(encoded, around)
                seen = self.fusion.before_gate(parts, gates)
                pooled.add(seen[_inside(window, around, 2)])
            gates.append(self.fusion.gate(number, *pooled.found()))
        return tuple(gates)

    def render(
        self, encoded: Encoded, window: Window, gates: Sequence[torch.Tensor] = ()
    ) -> torch.Tensor:
        """The result of a window of encoded.features, (B, 3, 2 * height, 2 * width).

        gates: as `gates` gives them; without them the window has to be the whole image.
        """
        around = self._around(encoded, window, self.margin)
        parts = self._window_parts(encoded, around)
        sr = self._finished(self.fusion(parts, gates), parts[:, : self.config.features])
        return sr[_inside(window, around, 2)]

    def fuse(self, encoded: Encoded, windows: Sequence[Window]) -> torch.Tensor:
        """What the fusion's blocks make of the whole image, (B, F, 2 * H, 2 * W), for `finish`.

        windows: as for `gates`, and only the working memory depends on them. Block after block
        goes over all of them once; two maps of the result's size are held. At inference only.
        """
        batch, features, height, width = encoded.features.shape
        fused = encoded.features.new_empty(batch, features, 2 * height, 2 * width)
        detail = torch.empty_like(fused)
        for window in windows:
            around = self._around(encoded, window, _PARTS_MARGIN + 1)
            entered = self.fusion.enter(self._window_parts(encoded, around))
            fused[_part(window, 2)] = entered[_inside(window, around, 2)]
        for number in range(self.config.fusion_blocks):
            block, pooled = self.fusion.block(number), _Pooled()
            for window in windows:
                around = self._around(encoded, window, 1)  # two convolutions, in the result's
                seen = block.body(fused[_part(around, 2)])[_inside(window, around, 2)]
                detail[_part(window, 2)] = seen
                pooled.add(seen)
            gate = block.gate(*pooled.found())
            for window in windows:
                around = self._around(encoded, window, 2)  # the spatial attention sees 3 pixels
                added = block.attend(detail[_part(around, 2)], gate)
                fused[_part(window, 2)] += added[_inside(window, around, 2)]
        return fused

    def finish(self, encoded: Encoded, fused: torch.Tensor, window: Window) -> torch.Tensor:
        """The result of a window of encoded.features from what `fuse` gave for the image."""
        around = self._around(encoded, window, 2)
        lr = self.upsample(encoded.features[_part(around, 1)])
        left = self.fusion.leave(fused[_part(around, 2)])
        return self._finished(left, lr)[_inside(window, around, 2)]

    def _around(self, encoded: Encoded, window: Window, margin: int) -> Window:
        """The window with its margin inside the image; even, as places of matching are."""
        top, left = (max(0, side - margin) // 2 * 2 for side in window[:2])
        bottom, right = (
            min(most, -(-(side + margin) // 2) * 2)
            for side, most in zip(window[2:], encoded.features.shape[2:], strict=True)
        )
        return top, left, bottom, right

    def _window_parts(self, encoded: Encoded, window: Window) -> torch.Tensor:
        """What the fusion takes for a window with even borders, (B, 3 * F, 2 * h, 2 * w)."""
        top, left, bottom, right = window
        cells = slice(None), slice(top // 2, bottom // 2), slice(left // 2, right // 2)
        found = encoded.found
        part = Correspondence(found.index[cells], found.similarity[cells], found.key_size)
        features = encoded.features[_part(window, 1)]
        reference = encoded.reference
        warped = reassemble(
            reference.value,
            part,
            patch=_PATCH,
            scale=_SCALE,
            padding=_PADDING,
            normalise=_DIVISOR,
        )
        confidence = part.similarity[:, None].to(features.dtype)
        return self._parts(features, warped, confidence, reference.dictionaries)

    def _parts(
        self,
        features: torch.Tensor,
        warped: torch.Tensor,
        confidence: torch.Tensor,
        dictionaries: Dictionaries,
    ) -> torch.Tensor:
        """concat(F^LR, h(C) F^Warp, F^Dict) of eq. 1, (B, 3 * F, 2 * H, 2 * W).

        features: (B, F, H, W); warped: (B, F, 2 * H, 2 * W); confidence: (B, 1, H / 2, W / 2).
        """
        lr = self.upsample(features)
        confidence = F.interpolate(confidence, scale_factor=_SCALE, mode="bicubic")
        looked_up = self.dictionaries.learn(lr, dictionaries)
        return torch.cat((lr, self.confidence(confidence) * warped, looked_up), dim=1)

    def _finished(self, fused: torch.Tensor, lr: torch.Tensor) -> torch.Tensor:
        """F^SR and F^LR (B, F, H, W) -> (B, 3, H, W)."""
        sr: torch.Tensor = self.tail(fused + lr)
        return sr


class _Pooled:
    """Mean and maximum over an image, from its windows."""

    def __init__(self) -> None:
        self._seen: list[tuple[torch.Tensor, torch.Tensor, int]] = []

    def add(self, values: torch.Tensor) -> None:
        """A window's (B, C, H, W)."""
        total = values.sum(dim=(2, 3), keepdim=True)
        highest = values.amax(dim=(2, 3), keepdim=True)
        self._seen.append((total, highest, values.shape[2] * values.shape[3]))

    def found(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Both (B, C, 1, 1)."""
        totals, highest, places = zip(*self._seen, strict=True)
        return torch.stack(totals).sum(dim=0) / sum(places), torch.stack(highest).amax(dim=0)


def _part(window: Window, scale: int) -> tuple[slice, ...]:
    """What to index a map (B, C, scale * H, scale * W) with to have a window of it."""
    top, left, bottom, right = (scale * side for side in window)
    return slice(None), slice(None), slice(top, bottom), slice(left, right)


def _inside(window: Window, around: Window, scale: int) -> tuple[slice, ...]:
    """The same for a map of `around` alone."""
    top, left = around[:2]
    return _part((window[0] - top, window[1] - left, window[2] - top, window[3] - left), scale)
