"""SelfDZSR (Zhang et al., ECCV 2022): learned from a wide and a tele photo alone.

In training LR, Ref and the truth lie slightly askew. A degradation network makes a pseudo-LR that
lies on the truth; LR's and Ref's features are bent onto it. At inference LR takes its place, and
nothing bends LR any more. Equations, sections and figures are those of the paper.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from dualsr_cli.networks._selfdzsr_adastn import AdaSTN, DeformableConv, taps_at
from dualsr_cli.networks._selfdzsr_degradation import (
    DegradationNetwork,
    MeanShift,
    SpaceToDepth,
)
from dualsr_cli.networks._selfdzsr_student import (
    CELL,
    LEAST,
    Student,
    corner_aligned,
    match,
)
from dualsr_cli.networks.blocks import conv3x3
from dualsr_cli.networks.contract import Inputs, Outputs

_HELD = 1 << 18  # pixels of a band that is worked on at once: 128 MiB of twice 64 features
_STRIDE = 16  # of the encoder that makes the modulating vector
_MARGIN = 2 * CELL  # pixels: what lies nearer to LR's border has no match for some of its taps
Window = tuple[int, int, int, int]
"""Top, left, bottom, right in pixels of LR."""


@dataclass(frozen=True)
class SelfDZSRConfig:
    """The published network at scale 2; scale 4 is its other one.

    features, blocks: of the restoration. student: widths of the matching features' three blocks.
    identity_drop: the chance with which an AdaSTN leaves a sample in place in training (p of 3.2;
    0.45 for CameraFusion). paste: lay Ref's own features over the matched ones within the box, at
    inference; paste_chance: the same in training, for each sample. degradation: whether the
    degradation network is there, which training alone needs. Raises ValueError.
    """

    scale: int = 2
    features: int = 64
    blocks: int = 16
    student: tuple[int, int, int] = (64, 128, 256)
    identity_drop: float = 0.3
    paste: bool = True
    paste_chance: float = 0.3
    degradation: bool = True

    def __post_init__(self) -> None:
        if self.scale not in (2, 4):
            raise ValueError(f"scale {self.scale}: SelfDZSR has 2 and 4")
        if self.features < 16 or self.features % 16:
            raise ValueError(f"{self.features} features: take a multiple of 16")

    @classmethod
    def compact(cls, scale: int = 2) -> SelfDZSRConfig:
        """The same architecture, small enough for two processor cores."""
        return cls(scale=scale, features=32, blocks=6, student=(16, 32, 64))


@dataclass(frozen=True, eq=False)
class Reference:
    """What is made of Ref once an image.

    features: (B, C, H, W) for the matches, at Ref's own resolution; cells: (B, C, h, w) the same
    at LR's, to be pasted, or None; keys: (B, K, H / 4, W / 4), matching features.
    """

    features: torch.Tensor
    cells: torch.Tensor | None
    keys: torch.Tensor


@dataclass(frozen=True, eq=False)
class Encoded:
    """All that is made once an image; H' and W' are LR's sides with the margin around it.

    lr: (B, 3, H', W'). fused: LR's and the warped Ref's features (B, C, H', W'). vector: (B, C, 1,
    1), which modulates the blocks. confidence: (B, 1, ceil(H / 4), ceil(W / 4)). size: (H, W).
    """

    lr: torch.Tensor
    fused: torch.Tensor
    vector: torch.Tensor
    confidence: torch.Tensor
    size: tuple[int, int]


class SelfDZSR(nn.Module):
    """Student, RefSR and, for training, the degradation network.

    The published files hold the three one by one: KernelGen (`degradation`), Student (`student`)
    and RefSR (`refsr`), each loaded into the module of that name.
    """

    def __init__(self, config: SelfDZSRConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or SelfDZSRConfig()
        self.refsr = RefSR(config)
        # Trained beforehand, and no gradient could pass a search (paper 3.3).
        self.student = Student(config.student).requires_grad_(False)
        self.degradation: DegradationNetwork | None = None
        if config.degradation:
            self.degradation = DegradationNetwork(config.scale, config.features)

    def forward(self, inputs: Inputs, noise: torch.Tensor | None = None) -> Outputs:
        """sr of any LR and Ref; maps: "confidence" (B, 1, ceil(H / 4), ceil(W / 4)), -1..1.

        In training LR's sides are multiples of 4, from 12 on, and hr is needed; noise (B, 3, H, W)
        is added to the pseudo-LR (n of eq. 4). Further maps then are "pseudo_lr" (B, 3, H, W),
        before the noise, which is to be like LR, and "centroid", the centroid loss (eq. 9) as a
        number. Gradients of sr do not reach the degradation network. Raises ValueError.
        """
        if self.training:
            return self._learn(inputs, noise)
        encoded = self.encode(inputs)
        sr = self.render(encoded, (0, 0, *encoded.size))
        return Outputs(sr, {"confidence": encoded.confidence})

    def encode(self, inputs: Inputs) -> Encoded:
        """Once an image (figure 4): all that sees more of it than the surroundings of a pixel.

        Raises ValueError for a Ref that is not `scale` times as large as its box.
        """
        self._check_sizes(inputs)
        height, width = inputs.lr.shape[2:]
        lr = _extended(inputs.lr)
        reference = self.encode_reference(inputs.ref)
        offsets, confidence = self.match(lr, reference)
        aligned, guide = self.refsr.align(lr)
        box = inputs.box + _MARGIN if self.config.paste else None
        fused = self.refsr.fuse(aligned, guide, offsets, reference, box)
        inner = fused[:, :, _MARGIN : _MARGIN + height, _MARGIN : _MARGIN + width]
        vector = self.refsr.modulation(inputs.lr_center(), inputs.ref, inner)
        first = _MARGIN // CELL
        confidence = confidence[
            :, :, first : first - (-height // CELL), first : first - (-width // CELL)
        ]
        return Encoded(lr, fused, vector, confidence, (height, width))

    @property
    def margin(self) -> int:
        """Pixels of LR around a window that its result depends on, beside what is global.

        Two for each block, one before and one after them; upsampling and tail see less than 2.
        """
        return 2 * self.config.blocks + 4

    def render(self, encoded: Encoded, window: Window) -> torch.Tensor:
        """The result of a window of LR, (B, 3, s * height, s * width)."""
        scale = self.config.scale
        top, left = (max(0, side + _MARGIN - self.margin) for side in window[:2])
        bottom, right = (
            min(most, side + _MARGIN + self.margin)
            for side, most in zip(window[2:], encoded.lr.shape[2:], strict=True)
        )
        aligned, _ = self.refsr.align(encoded.lr[:, :, top:bottom, left:right])
        fused = encoded.fused[:, :, top:bottom, left:right]
        sr = self.refsr.restore(aligned, fused, encoded.vector)
        rows = slice(scale * (window[0] + _MARGIN - top), scale * (window[2] + _MARGIN - top))
        columns = slice(scale * (window[1] + _MARGIN - left), scale * (window[3] + _MARGIN - left))
        return sr[:, :, rows, columns]

    def encode_reference(self, ref: torch.Tensor) -> Reference:
        """Once an image: Ref (B, 3, H, W), RGB, 0..1, of any size."""
        # The matching has whole cells, so up to three rows and columns are repeated.
        height, width = (max(LEAST, side + -side % CELL) for side in ref.shape[2:])
        added = (0, width - ref.shape[3], 0, height - ref.shape[2])
        padded = F.pad(ref, added, mode="replicate")
        with torch.no_grad():
            keys = self.student.key(padded)
        cells = self.refsr.ref_head(ref) if self.training or self.config.paste else None
        return Reference(self.refsr.ref_extractor(padded), cells, keys)

    def match(self, lr: torch.Tensor, reference: Reference) -> tuple[torch.Tensor, torch.Tensor]:
        """Once an image: LR (B, 3, H, W), sides multiples of 4 -> offsets (B, 18, H, W) of taps.

        And the matches' similarity (B, 1, H / 4, W / 4).
        """
        with torch.no_grad():
            return match(self.student.query(lr), reference.keys)

    def _check_sizes(self, inputs: Inputs) -> None:
        top, left, bottom, right = (self.config.scale * side for side in inputs.box[0].tolist())
        if inputs.ref.shape[2:] != (bottom - top, right - left):
            raise ValueError(f"ref {tuple(inputs.ref.shape)} is not {self.config.scale} x its box")

    def _learn(self, inputs: Inputs, noise: torch.Tensor | None) -> Outputs:
        """Figure 3: everything is bent onto the pseudo-LR."""
        self._check_sizes(inputs)
        if inputs.hr is None or self.degradation is None:
            raise ValueError("SelfDZSR learns from hr, with its degradation network")
        lr, refsr, batch = inputs.lr, self.refsr, len(inputs.lr)
        if any(side < LEAST or side % CELL for side in lr.shape[2:]):
            raise ValueError(
                f"lr {tuple(lr.shape)}: training takes multiples of {CELL}, 12 or more"
            )
        pseudo = self.degradation(inputs.hr, lr)
        target = pseudo.detach()
        if noise is not None:
            target = target + noise
        target = target.clamp(0, 1)
        reference = self.encode_reference(inputs.ref)
        offsets, confidence = self.match(target, reference)
        dropped = torch.rand(3, batch, device=lr.device) < self.config.identity_drop
        pasted = torch.rand(batch, device=lr.device) < self.config.paste_chance
        aligned, guide = refsr.align(lr, target, dropped)
        fused = refsr.fuse(aligned, guide, offsets, reference, inputs.box, pasted)
        vector = refsr.modulation(inputs.lr_center(), inputs.ref, fused)
        maps = {
            "confidence": confidence,
            "pseudo_lr": pseudo,
            "centroid": self.degradation.centroid_loss(),
        }
        return Outputs(refsr.restore(aligned, fused, vector), maps)


class RefSR(nn.Module):
    """The network proper (figures 3 and 4), without what it matches by. Names: the checkpoint's."""

    def __init__(self, config: SelfDZSRConfig) -> None:
        super().__init__()
        width, scale = config.features, config.scale
        self.blocks = config.blocks
        self.ref_extractor = nn.Sequential(
            MeanShift(),
            nn.Sequential(conv3x3(3, width), nn.ReLU(inplace=True)),
            nn.Sequential(
                conv3x3(width, width),
                nn.ReLU(inplace=True),
                conv3x3(width, width),
                nn.ReLU(inplace=True),
                conv3x3(width, width),
                nn.ReLU(inplace=True),
                conv3x3(width, width),
            ),
        )
        self.ref_head = nn.Sequential(
            MeanShift(), SpaceToDepth(scale), conv3x3(3 * scale * scale, width)
        )
        self.head = nn.Sequential(MeanShift(), conv3x3(3, width))
        self.ada1 = AdaSTN(width)
        self.ada2 = AdaSTN(width)
        self.ada3 = AdaSTN(width)
        self.deform_conv = DeformableConv(width, bias=True)
        self.ref_ada = AdaSTN(width)
        self.predictor = _Modulator(width)
        self.concat_fea = nn.Sequential(conv3x3(2 * width, width), nn.LeakyReLU(0.1, inplace=True))
        for n in range(config.blocks):
            self.add_module(f"block{n}", _ResBlock(width))
        self.body_lastconv = conv3x3(width, width)
        self.up = nn.Sequential(
            *(
                nn.Sequential(conv3x3(width, 4 * width), nn.PixelShuffle(2))
                for _ in range(scale // 2)  # 2: one, 4: two
            )
        )
        self.tail = nn.Sequential(conv3x3(width, 3), MeanShift(sign=1))

    def align(
        self,
        lr: torch.Tensor,
        target: torch.Tensor | None = None,
        dropped: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """LR's features, bent onto those of the target, and the target's: both (B, C, H, W).

        target: the pseudo-LR; None at inference: LR itself, and nothing is bent. dropped: (3, B)
        bool, which AdaSTNs leave which sample in place.
        """
        features = self.head(lr)
        stages = (self.ada1, self.ada2, self.ada3)
        if target is None:
            guide = features
            for stage in stages:
                features = stage.in_place(features)
            return features, guide
        guide = self.head(target)
        for n, stage in enumerate(stages):
            features = stage(features, guide, None if dropped is None else dropped[n])
        return features, guide

    def fuse(
        self,
        aligned: torch.Tensor,
        guide: torch.Tensor,
        offsets: torch.Tensor,
        reference: Reference,
        box: torch.Tensor | None,
        pasted: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """LR's features and Ref's, warped by the matches, as one: (B, C, H, W).

        box: (B, 4) as in `Inputs`, where Ref's own features are pasted over the warped ones, or
        None: nowhere; pasted: (B,) bool, in which samples; None: in all.
        """
        warped = self.deform_conv(reference.features, taps_at(offsets))
        if box is not None and reference.cells is not None:
            warped = warped.clone()
            for n, (top, left, bottom, right) in enumerate(box.tolist()):
                if pasted is None or pasted[n]:
                    warped[n, :, top:bottom, left:right] = reference.cells[n]
        warped = self.ref_ada(warped, guide)
        fused: torch.Tensor = self.concat_fea(torch.cat([aligned, warped], dim=1))
        return fused

    def modulation(
        self, center: torch.Tensor, ref: torch.Tensor, fused: torch.Tensor
    ) -> torch.Tensor:
        """The vector (B, C, 1, 1) that modulates the blocks, from the whole image (suppl. C).

        center: (B, 3, h, w), LR's part that Ref (B, 3, s h, s w) shows.
        """
        vector: torch.Tensor = self.predictor(center, ref, fused)
        return vector

    def restore(
        self, aligned: torch.Tensor, fused: torch.Tensor, vector: torch.Tensor
    ) -> torch.Tensor:
        """The restoration module (3.4): features (B, C, H, W) -> sr (B, 3, s H, s W)."""
        features = fused
        for n in range(self.blocks):
            features = self.get_submodule(f"block{n}")(features, vector)
        sr: torch.Tensor = self.tail(self.up(self.body_lastconv(features) + aligned))
        return sr


class _Modulator(nn.Module):
    """The encoder of the vector that modulates (suppl. C, figure A): colours, as far as it goes."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mean = MeanShift()
        self.head = nn.Sequential(nn.Sequential(conv3x3(6, width), nn.ReLU(inplace=True)))
        self.predictor = nn.Sequential(
            nn.Sequential(conv3x3(2 * width, width), nn.ReLU(inplace=True)),
            *(
                nn.Sequential(
                    nn.Conv2d(width, width, 3, stride=2, padding=1), nn.ReLU(inplace=True)
                )
                for _ in range(4)
            ),
        )

    def forward(self, center: torch.Tensor, ref: torch.Tensor, fused: torch.Tensor) -> torch.Tensor:
        """The mean over all of Ref, made for a band of its rows at a time."""
        height, width = ref.shape[2:]
        above = 2 * _STRIDE  # rows beside a band that count: the radius is 17
        total: torch.Tensor | float = 0.0
        for start in range(0, height, step := max(1, _HELD // (_STRIDE * width)) * _STRIDE):
            stop = min(height, start + step)
            first, last = max(0, start - above), min(height, stop + above)
            middle = _stretched(center, (height, width), first, last)
            pair = self.head(torch.cat([self.mean(middle), self.mean(ref[:, :, first:last])], 1))
            stretched = _stretched(fused, (height, width), first, last)
            values = self.predictor(torch.cat([pair, stretched], dim=1))
            values = values[:, :, (start - first) // _STRIDE : -((first - stop) // _STRIDE)]
            total = total + values.sum(dim=(2, 3), keepdim=True)
        assert isinstance(total, torch.Tensor)
        return total / (-(-height // _STRIDE) * -(-width // _STRIDE))


def _stretched(image: torch.Tensor, size: tuple[int, int], first: int, last: int) -> torch.Tensor:
    """Some rows of an image (B, C, h, w) stretched to a size, corners on corners."""
    above, below, share = (
        part[first:last].to(image.device) for part in corner_aligned(image.shape[2], size[0])
    )
    lines = torch.lerp(image[:, :, above], image[:, :, below], share[:, None].to(image.dtype))
    return F.interpolate(lines, (last - first, size[1]), mode="bilinear", align_corners=True)


class _ResBlock(nn.Module):
    """EDSR's residual block, whose input is modulated but not its skip."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.res = nn.Sequential(
            conv3x3(width, width), nn.ReLU(inplace=True), conv3x3(width, width)
        )
        self.mlp = nn.Sequential(
            nn.Sequential(nn.Conv2d(width, width // 16, 1), nn.ReLU(inplace=True)),
            nn.Conv2d(width // 16, width, 1),
        )

    def forward(self, features: torch.Tensor, vector: torch.Tensor) -> torch.Tensor:
        modulated = self.mlp(vector) * features + features
        result: torch.Tensor = features + self.res(modulated)
        return result


def _extended(lr: torch.Tensor) -> torch.Tensor:
    """LR with a margin of mirrored pixels, up to whole cells of the matching."""
    for axis in (2, 3):
        side = lr.shape[axis]
        before, after = _MARGIN, _MARGIN + -side % CELL
        mode = "reflect" if after < side else "replicate"  # too short to be mirrored
        ends = (0, 0, before, after) if axis == 2 else (before, after, 0, 0)
        lr = F.pad(lr, ends, mode=mode)
    return lr
