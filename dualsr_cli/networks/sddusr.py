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
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import nn

from dualsr_cli.matching import Correspondence, Values, search, straight_through
from dualsr_cli.networks._pooled import channels_last, encode_by_windows
from dualsr_cli.networks._rows import by_rows, cut_rows, gather, height_of
from dualsr_cli.networks._sddusr_parts import (
    Dictionaries,
    Fusion,
    MaskGenerator,
    TokenDictionaries,
)
from dualsr_cli.networks._windows import (
    assembled,
    cut,
    grown,
    overlap,
    reduced,
    scaled,
    within,
)
from dualsr_cli.networks.blocks import PixelShuffle, ResidualGroup, conv3x3, enlarged, pad_to
from dualsr_cli.networks.contract import Inputs, Memory, Network, Outputs, Window
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
_UP = 2  # result pixels for each LR pixel
_CELL = _SCALE // _UP  # LR pixels for each place of the matching features
_ENTERED = 8
"""LR pixels around a place that what enters the fusion depends on: its convolution sees 1 pixel of
the result, the embedding of the confidence 4, after bicubic upsampling from 2 places of 4 pixels on
each side."""
_PADDING = "zeros"
_DIVISOR = "constant"


@dataclass(frozen=True)
class SDDuSRConfig:
    """features: channels, a multiple of `groups`. lr_blocks: residual blocks in each of the LR
    encoder's three groups; blocks: in the encoders of LRC and Ref. fusion_blocks: CBAM blocks.
    tokens: N of each dictionary; 0: there is no token dictionary learning (table 2).
    matching_features: channels that patches are matched by; mask_features: inner channels of the
    mask generator. groups: of channels, whose taps the alignment moves together. flow_widths:
    channels inside of SpyNet's levels. skip: whether the LR's bicubic enlargement is added to the
    result, so that little training goes a long way; the paper has none. sparse: whether places rich
    in detail alone are matched, or all (tables 2 and 3); the mask generator is there in any case,
    so that one network can do both. Raises ValueError for what no network can be built of.
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
    skip: bool = False
    sparse: bool = True

    def __post_init__(self) -> None:
        blocks = self.lr_blocks, self.blocks, self.fusion_blocks
        widths = self.features, self.matching_features, self.mask_features, *self.flow_widths
        if min(*blocks, *widths, self.groups, self.tokens + 1) < 1:
            raise ValueError("features, blocks and the like are 1 or more, tokens 0 or more")
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
            skip=True,
        )


@dataclass(frozen=True, eq=False)
class Encoded:
    """What is made once for an image, for inference.

    lr: (B, 3, H, W), H and W made even. features: F^LR before its upsampling (B, F, H, W). fused:
    what the fusion's blocks make of the whole image (B, F, 2 * H, 2 * W). confidence: C of eq. 5
    and mask: Mask^LR, both (B, 1, H / 2, W / 2). center_mask: Mask^LRC (B, 1, H, W), in its box.
    """

    lr: torch.Tensor
    features: torch.Tensor
    fused: torch.Tensor
    confidence: torch.Tensor
    mask: torch.Tensor
    center_mask: torch.Tensor


class SDDuSR(Network[Encoded]):
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
    - "confidence", of the mask's size: C of eq. 5, 0 where nothing was matched.
    - At inference "center_mask" (B, 1, H, W): Mask^LRC, laid where the reference's box is.

    A block of the fusion attends to statistics of the whole image, so that `encode` does all of
    them and leaves little to `render`.
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
        self.dictionaries: TokenDictionaries | None = None
        if config.tokens:
            self.dictionaries = TokenDictionaries(config.tokens, features)
        self.fusion = Fusion(3 if config.tokens else 2, features, config.fusion_blocks)
        self.tail = conv3x3(features, 3)

    @property
    def scale(self) -> int:
        return _UP

    @property
    def margin(self) -> int:
        # A convolution of features and the last one, and the bicubic enlargement.
        return 2

    @property
    def memory(self) -> Memory:
        # Peak resident memory of a process, of LR 256 x 256 and 384 x 384 in windows of 64, 192 and
        # 384 pixels, with references of 32 x 32 pixels and of all of it; the differences, as some
        # 0.2 GiB are there in any case. The fusion holds two maps of the result's size.
        features = self.config.features
        return Memory(image=9 * features + 4, reference=4 * features, window=30 * features)

    def forward(self, inputs: Inputs) -> Outputs:
        if self.training:
            return self._learn(inputs)
        height, width = inputs.lr.shape[2:]
        return self.render(self.encode(inputs), (0, 0, height, width))

    def _learn(self, inputs: Inputs) -> Outputs:
        """Training phase: all is matched, and the mask multiplies what was found (eq. 2-5)."""
        lr, center, ref = self._padded(inputs)
        query, key = self.matching_encoder(lr), self.matching_encoder(center)
        value, dictionaries = self._reference(center, ref, None)
        mask = _everywhere(query).to(query.dtype)
        if self.config.sparse:
            mask = self.mask_generator.sample(query)
        warped, found = straight_through(
            query,
            key,
            value,
            mask,
            patch=_PATCH,
            scale=_SCALE,
            padding=_PADDING,
            normalise=_DIVISOR,
        )
        confidence = found.similarity[:, None]
        features = self.upsample(self.lr_encoder(lr))
        parts = self._parts(features, warped, confidence, dictionaries)
        sr = self._finished(self.fusion(parts), features, lr)
        height, width = inputs.lr.shape[2:]
        maps = {"mask": mask[:, None], "confidence": confidence}
        return Outputs(sr[:, :, : _UP * height, : _UP * width], maps)

    @torch.no_grad()
    def encode(self, inputs: Inputs, tile: int | None = None) -> Encoded:
        encoded = self._entered(*self._padded(inputs), inputs.box, tile)
        encoded = replace(encoded, lr=pad_to(inputs.lr, _CELL))
        # Nothing else of what led to it is held any more: here the most memory is needed.
        self.fusion.refine(encoded.fused, None if tile is None else _UP * tile)
        return encoded

    @torch.no_grad()
    def render(self, encoded: Encoded, window: Window) -> Outputs:
        near = grown(window, self.margin, encoded.lr.shape[2:])
        features = self.upsample(cut(encoded.features, near))
        fused = self.fusion.leave(cut(encoded.fused, scaled(near, _UP)))
        sr = self._finished(fused, features, cut(encoded.lr, near))
        sr = cut(sr, scaled(within(window, near), _UP))
        cells = reduced(window, _CELL)
        maps = {
            "mask": cut(encoded.mask, cells),
            "confidence": cut(encoded.confidence, cells),
            "center_mask": cut(encoded.center_mask, window),
        }
        return Outputs(sr, {name: values.to(sr.dtype) for name, values in maps.items()})

    def _padded(self, inputs: Inputs) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """LR, its centre and the reference, cut into whole places. Raises ValueError."""
        center, ref = inputs.lr_center(), inputs.ref
        if ref.shape != (*center.shape[:2], *(_UP * side for side in center.shape[2:])):
            raise ValueError(f"ref {tuple(ref.shape)} is not twice {tuple(center.shape)}")
        return (
            channels_last(pad_to(inputs.rounded_lr(), _CELL)),
            channels_last(pad_to(center, _CELL)),
            channels_last(pad_to(ref, _SCALE)),
        )

    def _entered(
        self,
        lr: torch.Tensor,
        center: torch.Tensor,
        ref: torch.Tensor,
        box: torch.Tensor,
        tile: int | None,
    ) -> Encoded:
        """All that `encode` gives, but with what enters the fusion's blocks as `fused`."""
        value, dictionaries = self._reference(center, ref, tile)
        laid = Values(value, patch=_PATCH, scale=_SCALE, padding=_PADDING, normalise=_DIVISOR)
        del value  # it lies in `laid` from here on
        found, mask, center_mask = self._match(lr, center, tile)
        features = encode_by_windows(self.lr_encoder, lr, tile)

        def entered(window: Window) -> list[torch.Tensor]:
            near = grown(window, _ENTERED, lr.shape[2:])
            index, similarity = (
                cut(values, reduced(near, _CELL)) for values in (found.index, found.similarity)
            )
            warped = laid.reassemble(replace(found, index=index, similarity=similarity))
            confidence = similarity[:, None].to(warped.dtype)
            up = self.upsample(cut(features, near))
            made = self.fusion.enter(self._parts(up, warped, confidence, dictionaries))
            return [channels_last(cut(made, scaled(within(window, near), _UP)))]

        (fused,) = assembled(lr.shape[2:], tile, entered)
        placed = _placed(center_mask, box.tolist(), lr.shape[2:])
        return Encoded(lr, features, fused, found.similarity[:, None], mask[:, None], placed)

    def _reference(
        self, center: torch.Tensor, ref: torch.Tensor, tile: int | None
    ) -> tuple[torch.Tensor, Dictionaries | None]:
        """F_align^Ref (B, F, 2 * h, 2 * w) and the dictionaries, updated; h and w are even."""
        height, width = ref.shape[2:]
        area = None if tile is None else tile**2
        flow = upsampled_flow(lambda *images: self.spynet(*images, area), center, ref)
        lrc = _encoded(self.lrc_encoder, center, height, tile)
        side = None if tile is None else _UP * tile
        # Of single features side by side: those are what the alignment samples.
        features = _encoded(self.ref_encoder, ref, height, side, torch.contiguous_format)
        if tile is None:
            value = self.align(features, lrc, flow)
        else:
            bands = cut_rows(lrc, height_of((_UP * tile) ** 2, width))
            value = gather(self.align.by_rows(features, flow), bands, height)
        if self.dictionaries is None:
            return value, None
        return value, self.dictionaries.update(lrc, value)

    def _match(
        self, lr: torch.Tensor, center: torch.Tensor, tile: int | None
    ) -> tuple[Correspondence, torch.Tensor, torch.Tensor]:
        """Inference phase of SFM: matches and both masks, of LR and of its centre."""
        query, key = (
            _encoded(self.matching_encoder, image, image.shape[2] // _CELL, tile)
            for image in (lr, center)
        )
        chosen = self.mask_generator.choose if self.config.sparse else _everywhere
        own, other = chosen(query), chosen(key)
        found = search(query, key, patch=_PATCH, padding=_PADDING, query_mask=own, key_mask=other)
        return found, own, other

    def _parts(
        self,
        features: torch.Tensor,
        warped: torch.Tensor,
        confidence: torch.Tensor,
        dictionaries: Dictionaries | None,
    ) -> torch.Tensor:
        """concat(F^LR, h(C) F^Warp, F^Dict) of eq. 1, (B, 3 * F, 2 * H, 2 * W), F^Dict as far as
        there are dictionaries.

        features, warped: (B, F, 2 * H, 2 * W); confidence: (B, 1, H / 2, W / 2).
        """
        confidence = F.interpolate(confidence, scale_factor=_SCALE, mode="bicubic")
        weighted = channels_last(self.confidence(confidence) * warped)
        parts = [features, weighted]
        if self.dictionaries is not None and dictionaries is not None:
            parts.append(self.dictionaries.learn(features, dictionaries))
        return torch.cat(parts, dim=1)

    def _finished(
        self, fused: torch.Tensor, features: torch.Tensor, lr: torch.Tensor
    ) -> torch.Tensor:
        """F^SR and F^LR (B, F, 2 * H, 2 * W), and the LR (B, 3, H, W) -> (B, 3, 2 * H, 2 * W)."""
        sr: torch.Tensor = self.tail(fused + features)
        return sr + enlarged(lr) if self.config.skip else sr


def _everywhere(features: torch.Tensor) -> torch.Tensor:
    """(B, C, h, w) -> (B, h, w) bool: a mask that leaves nothing out."""
    return torch.ones_like(features[:, 0], dtype=torch.bool)


def _placed(mask: torch.Tensor, boxes: list[Window], size: Sequence[int]) -> torch.Tensor:
    """Masks (B, h / 2, w / 2) in their boxes of an image, False beside them: (B, 1, H, W)."""
    placed = mask.new_zeros(len(mask), 1, *size)
    fine = mask.repeat_interleave(_CELL, 1).repeat_interleave(_CELL, 2)
    for n, box in enumerate(boxes):
        if shared := overlap(box, (0, 0, *size)):
            cut(placed[n], shared).copy_(cut(fine[n], within(shared, box)))
    return placed


def _encoded(
    encoder: nn.Module,
    image: torch.Tensor,
    height: int,
    tile: int | None,
    layout: torch.memory_format = torch.channels_last,
) -> torch.Tensor:
    """The features (B, F, height, ...) of an image, as many pixels at once as a tile has."""
    if tile is None:
        features: torch.Tensor = encoder(image)
        return features
    bands = cut_rows(image, height_of(tile**2, image.shape[3]))
    return gather(by_rows(encoder), bands, height, layout)
