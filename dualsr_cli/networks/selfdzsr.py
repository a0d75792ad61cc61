"""SelfDZSR (Zhang et al., ECCV 2022): learned from a wide and a tele photo alone.

In training LR, Ref and the truth lie slightly askew. A degradation network makes a pseudo-LR that
lies on the truth; LR's and Ref's features are bent onto it. At inference LR takes its place, and
nothing bends LR any more. Equations, sections and figures are those of the paper.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from dualsr_cli.networks._corners import needed, stretched
from dualsr_cli.networks._selfdzsr_adastn import (
    ALIGNMENTS,
    AdaSTN,
    DeformableConv,
    read_by,
    taps_at,
)
from dualsr_cli.networks._selfdzsr_degradation import (
    DegradationNetwork,
    MeanShift,
    SpaceToDepth,
)
from dualsr_cli.networks._selfdzsr_student import CELL, LEAST, Student, match, tap_offsets
from dualsr_cli.networks._windows import (
    assembled,
    cut,
    grown,
    holds,
    moved,
    overlap,
    reduced,
    scaled,
    within,
)
from dualsr_cli.networks.blocks import conv3x3
from dualsr_cli.networks.contract import Inputs, Memory, Network, Outputs, Window, windows

_STRIDE = 16  # of the encoder that makes the modulating vector
_MARGIN = 2 * CELL  # pixels: what lies nearer to LR's border has no match for some of its taps
_FUSED = AdaSTN.RADIUS + 2  # pixels of LR around a place that its fused features are made from


@dataclass(frozen=True)
class SelfDZSRConfig:
    """The published network at scale 2; scale 4 is its other one.

    features, blocks: of the restoration. student: widths of the matching features' three blocks.
    identity_drop: the chance with which an AdaSTN leaves a sample in place in training (p of 3.2;
    0.45 for CameraFusion). paste: lay Ref's own features over the matched ones within the box, at
    inference; paste_chance: the same in training, for each sample. degradation: whether the
    degradation network is there, which training alone needs. skip: whether LR (in training the
    pseudo-LR), enlarged bicubically, is added to the result, as it is not in the published network.
    alignment: one of ALIGNMENTS, of LR in training (table 5, for the AdaSTNs of 3.2). pseudo_lr:
    what training aligns with the pseudo-LR, of "lr" and "ref"; LR takes its place for what is not
    named (table 4), so that with neither there need be no degradation network, nor a truth. Raises
    ValueError.
    """

    scale: int = 2
    features: int = 64
    blocks: int = 16
    student: tuple[int, int, int] = (64, 128, 256)
    identity_drop: float = 0.3
    paste: bool = True
    paste_chance: float = 0.3
    degradation: bool = True
    skip: bool = False
    alignment: str = "adastn"
    pseudo_lr: tuple[str, ...] = ("lr", "ref")

    def __post_init__(self) -> None:
        if self.alignment not in ALIGNMENTS:
            raise ValueError(f"alignment is one of {', '.join(ALIGNMENTS)}, not {self.alignment!r}")
        if not {*self.pseudo_lr} <= {"lr", "ref"}:
            raise ValueError(f"lr and ref can be aligned with the pseudo-LR, not {self.pseudo_lr}")
        if self.scale not in (2, 4):
            raise ValueError(f"scale {self.scale}: SelfDZSR has 2 and 4")
        if self.features < 16 or self.features % 16:
            raise ValueError(f"{self.features} features: take a multiple of 16")

    @classmethod
    def compact(cls, scale: int = 2) -> SelfDZSRConfig:
        """The same architecture with a skip, small enough for two processor cores."""
        return cls(scale=scale, features=32, blocks=6, student=(16, 32, 64), skip=True)


@dataclass(frozen=True, eq=False)
class Scene:
    """An image and its matches; H' and W' are LR's sides with a margin around it.

    lr: (B, 3, H', W'). ref: (B, 3, s h, s w), as it is pasted. features: (B, C, ...), what matches
    take from Ref, at its own resolution. flow: (B, 2, H' / 4, W' / 4), where they lie, see `match`;
    similarity: (B, 1, ...) alike. box: (B, 4), where Ref lies in lr.
    """

    lr: torch.Tensor
    ref: torch.Tensor
    features: torch.Tensor
    flow: torch.Tensor
    similarity: torch.Tensor
    box: torch.Tensor


@dataclass(frozen=True, eq=False)
class Encoded:
    """What is made once an image. vector: (B, C, 1, 1), which modulates the blocks.

    size: (H, W) of LR without the margin.
    """

    scene: Scene
    vector: torch.Tensor
    size: tuple[int, int]


class SelfDZSR(Network[Encoded]):
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

    @property
    def scale(self) -> int:
        return self.config.scale

    @property
    def margin(self) -> int:
        """Two pixels for each block, one before and one after them; upsampling and tail see less
        than 2. What `ref_ada` bends to a window from further away is beside that.
        """
        return 2 * self.config.blocks + 4 + _FUSED

    @property
    def memory(self) -> Memory:
        """From the peaks of processes that encoded photos and rendered windows of two sizes."""
        width, keys, scale = self.config.features, self.config.student[2], self.config.scale
        matched = keys / CELL**2
        return Memory(
            image=matched + 8,
            reference=scale**2 * (max(width, matched) + 3),
            window=max((5 * scale**2 / 2 + 9) * width, 6 * keys),
        )

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
        return self.render(encoded, (0, 0, *encoded.size))

    def encode(self, inputs: Inputs, tile: int | None = None) -> Encoded:
        """The matches, what they take from Ref, and the vector that modulates (figure 4).

        LR's features fused with Ref's are not held: `render` makes them anew, which is a tenth of
        its work.
        """
        self._check_sizes(inputs)
        lr, ref = _extended(inputs.lr), _filled(inputs.ref)
        flow, similarity = self.match(lr.to(ref.dtype), ref, tile)
        features = self.refsr.extract(ref, tile)
        scene = Scene(lr, inputs.ref, features, flow, similarity, inputs.box + _MARGIN)
        height, width = inputs.lr.shape[2:]

        def fused(window: Window) -> torch.Tensor:
            return self.fuse(scene, moved(window, _MARGIN, _MARGIN))[0]

        vector = self.refsr.modulation(inputs.lr_center(), inputs.ref, (height, width), fused, tile)
        return Encoded(scene, vector, (height, width))

    def match(
        self, lr: torch.Tensor, ref: torch.Tensor, tile: int | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """LR and Ref (B, 3, H, W), sides multiples of 4 -> flow and similarity as of `match`."""
        with torch.no_grad():
            return match(self.student.query(lr, tile), self.student.key(ref, tile))

    def fuse(self, scene: Scene, window: Window) -> tuple[torch.Tensor, torch.Tensor]:
        """LR's features and the warped Ref's as one, and LR's alone: both (B, C, h, w).

        window: of scene.lr.
        """
        size, refsr = scene.lr.shape[2:], self.refsr
        bent = grown(window, 1, size)
        seen = grown(bent, AdaSTN.RADIUS, size)
        around = grown(seen, 1, size)
        aligned, guide = refsr.align(cut(scene.lr, around).to(scene.ref.dtype))
        warped = self._warped(scene, seen)
        taps = refsr.ref_ada.taps(warped, cut(guide, within(seen, around)))
        taps = cut(taps, within(bent, seen))
        read = read_by(taps, bent, size)
        if not holds(seen, read):  # a tap may lie anywhere
            seen, warped = read, self._warped(scene, read)
        warped = refsr.ref_ada.bend(warped, taps, within(bent, seen)[:2])
        fused = refsr.join(cut(aligned, within(bent, around)), warped)
        return cut(fused, within(window, bent)), cut(aligned, within(window, around))

    def render(self, encoded: Encoded, window: Window) -> Outputs:
        """The contract's; maps: "confidence" (B, 1, ceil(h / 4), ceil(w / 4)), -1..1."""
        scene, scale = encoded.scene, self.config.scale
        own = moved(window, _MARGIN, _MARGIN)
        seen = grown(own, self.margin - _FUSED, scene.lr.shape[2:])
        fused, aligned = self.fuse(scene, seen)
        sr = self.refsr.restore(aligned, fused, encoded.vector, cut(scene.lr, seen))
        confidence = cut(scene.similarity, reduced(own, CELL))
        return Outputs(cut(sr, scaled(within(own, seen), scale)), {"confidence": confidence})

    def _warped(self, scene: Scene, window: Window) -> torch.Tensor:
        """Ref's features where the matches lay them, in a window of scene.lr: (B, C, h, w)."""
        warped = self.refsr.warp(scene.features, scene.flow, window)
        if self.config.paste:
            self.refsr.paste(warped, scene.ref, scene.box, window)
        return warped

    def _check_sizes(self, inputs: Inputs) -> None:
        shown = [self.config.scale * side for side in inputs.lr_center().shape[2:]]
        if list(inputs.ref.shape[2:]) != shown:
            raise ValueError(f"ref {tuple(inputs.ref.shape)} is not {self.config.scale} x its box")

    def _learn(self, inputs: Inputs, noise: torch.Tensor | None) -> Outputs:
        """Figure 3: everything is bent onto the pseudo-LR."""
        self._check_sizes(inputs)
        lr, refsr, batch, chosen = inputs.lr, self.refsr, len(inputs.lr), self.config.pseudo_lr
        if any(side < LEAST or side % CELL for side in lr.shape[2:]):
            raise ValueError(
                f"lr {tuple(lr.shape)}: training takes multiples of {CELL}, 12 or more"
            )
        maps: dict[str, torch.Tensor] = {}
        pseudo = lr
        if self.degradation is not None and inputs.hr is not None:
            maps["pseudo_lr"] = self.degradation(inputs.hr, lr)
            maps["centroid"] = self.degradation.centroid_loss()
            pseudo = maps["pseudo_lr"].detach()
            if noise is not None:
                pseudo = pseudo + noise
            pseudo = pseudo.clamp(0, 1)
        elif chosen:
            raise ValueError("SelfDZSR learns from hr, with its degradation network")
        target, match_target = (pseudo if name in chosen else lr for name in ("lr", "ref"))
        ref = _filled(inputs.ref)
        flow, similarity = self.match(match_target, ref)
        dropped = torch.rand(3, batch, device=lr.device) < self.config.identity_drop
        pasted = torch.rand(batch, device=lr.device) < self.config.paste_chance
        aligned, guide = refsr.align(lr, target, dropped)
        if match_target is not target:
            guide = refsr.head(match_target)
        whole = (0, 0, *lr.shape[2:])
        warped = refsr.warp(refsr.extract(ref), flow, whole)
        refsr.paste(warped, inputs.ref, inputs.box, whole, pasted)
        fused = refsr.join(aligned, refsr.ref_ada(warped, guide))
        vector = refsr.modulation(
            inputs.lr_center(), inputs.ref, lr.shape[2:], lambda window: cut(fused, window)
        )
        maps["confidence"] = similarity
        return Outputs(refsr.restore(aligned, fused, vector, target), maps)


class RefSR(nn.Module):
    """The network proper (figures 3 and 4), without what it matches by. Names: the checkpoint's."""

    def __init__(self, config: SelfDZSRConfig) -> None:
        super().__init__()
        self.width = width = config.features
        self.scale = scale = config.scale
        self.blocks, self.skip = config.blocks, config.skip
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
        alignment = ALIGNMENTS[config.alignment]
        self.ada1 = alignment(width)
        self.ada2 = alignment(width)
        self.ada3 = alignment(width)
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
        last, mean = conv3x3(width, 3), MeanShift(sign=1)
        self.tail = nn.Sequential(last, mean)
        if config.skip:  # training begins near the enlarged LR
            assert last.bias is not None and mean.bias is not None
            with torch.no_grad():
                last.weight.mul_(0.1)
                last.bias.copy_(-mean.bias)

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

    def extract(self, ref: torch.Tensor, tile: int | None = None) -> torch.Tensor:
        """Ref (B, 3, H, W) -> what matches take from it, (B, C, H, W)."""
        size = ref.shape[2:]

        def features(window: Window) -> tuple[torch.Tensor]:
            seen = grown(window, 5, size)  # five convolutions
            return (cut(self.ref_extractor(cut(ref, seen)), within(window, seen)),)

        return assembled(size, tile, features)[0]

    def warp(self, features: torch.Tensor, flow: torch.Tensor, window: Window) -> torch.Tensor:
        """Ref's features (B, C, ...), laid by the matches on a window of LR: (B, C, h, w).

        flow: (B, 2, H / 4, W / 4), as of `match`.
        """
        warped: torch.Tensor = self.deform_conv(
            features, taps_at(tap_offsets(flow, window)), window[:2]
        )
        return warped

    def paste(
        self,
        warped: torch.Tensor,
        ref: torch.Tensor,
        box: torch.Tensor,
        window: Window,
        pasted: torch.Tensor | None = None,
    ) -> None:
        """Lay Ref's own features over the warped ones (B, C, h, w) of a window, within the box.

        ref: (B, 3, s h', s w'); box: (B, 4) as in `Inputs`. pasted: (B,) bool, in which samples;
        None: in all.
        """
        for n, own in enumerate(box.tolist()):
            shared = overlap(window, own)
            if shared is None or (pasted is not None and not bool(pasted[n])):
                continue
            inner = within(shared, own)
            seen = grown(inner, 1, (own[2] - own[0], own[3] - own[1]))
            cells = self.ref_head(cut(ref[n : n + 1], scaled(seen, self.scale)))
            cut(warped[n], within(shared, window)).copy_(cut(cells[0], within(inner, seen)))

    def join(self, aligned: torch.Tensor, warped: torch.Tensor) -> torch.Tensor:
        """LR's features and Ref's, bent by `ref_ada`, as one: all (B, C, H, W)."""
        fused: torch.Tensor = self.concat_fea(torch.cat([aligned, warped], dim=1))
        return fused

    def modulation(
        self,
        center: torch.Tensor,
        ref: torch.Tensor,
        size: Sequence[int],
        fused: Callable[[Window], torch.Tensor],
        tile: int | None = None,
    ) -> torch.Tensor:
        """The vector (B, C, 1, 1) that modulates the blocks, a mean over all of Ref (suppl. C).

        center: (B, 3, h, w), LR's part that Ref (B, 3, s h, s w) shows. size: (H, W) of LR. fused:
        gives a window of LR's and Ref's features as one.
        """
        whole = ref.shape[2:]
        side = None
        if tile is not None:  # with no more of LR at once than that, strides aside
            side = min(tile, *(tile * own // of for own, of in zip(whole, size, strict=True)))
            side = max(_STRIDE, side // _STRIDE * _STRIDE)
        precise = torch.promote_types(center.dtype, torch.float32)
        total = center.new_zeros(len(ref), self.width, 1, 1, dtype=precise)
        for window in windows(whole[0], whole[1], side):
            seen = grown(window, 2 * _STRIDE, whole)  # the radius is 17
            source = needed(size, whole, seen)
            values = self.predictor(
                stretched(center, center.shape[2:], whole, seen),
                cut(ref, seen),
                stretched(fused(source), size, whole, seen, source[:2]),
            )
            values = cut(values, reduced(within(window, seen), _STRIDE))
            total = total + values.sum(dim=(2, 3), keepdim=True, dtype=precise)
        places = -(-whole[0] // _STRIDE) * -(-whole[1] // _STRIDE)
        return (total / places).to(center.dtype)

    def restore(
        self,
        aligned: torch.Tensor,
        fused: torch.Tensor,
        vector: torch.Tensor,
        target: torch.Tensor,
    ) -> torch.Tensor:
        """The restoration module (3.4): features (B, C, H, W) -> sr (B, 3, s H, s W).

        target: (B, 3, H, W), what the features lie on, for the skip.
        """
        features = fused
        for n in range(self.blocks):
            features = self.get_submodule(f"block{n}")(features, vector)
        sr: torch.Tensor = self.tail(self.up(self.body_lastconv(features) + aligned))
        if self.skip:
            sr = sr + F.interpolate(target, scale_factor=self.scale, mode="bicubic")
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
        """All of Ref's size (B, ..., H, W) -> (B, C, ceil(H / 16), ceil(W / 16))."""
        pair = self.head(torch.cat([self.mean(center), self.mean(ref)], dim=1))
        values: torch.Tensor = self.predictor(torch.cat([pair, fused], dim=1))
        return values


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


def _filled(ref: torch.Tensor) -> torch.Tensor:
    """Ref with its last rows and columns repeated up to whole cells of the matching."""
    height, width = (max(LEAST, side + -side % CELL) for side in ref.shape[2:])
    added = (0, width - ref.shape[3], 0, height - ref.shape[2])
    return F.pad(ref, added, mode="replicate") if any(added) else ref


def _extended(lr: torch.Tensor) -> torch.Tensor:
    """LR with a margin of mirrored pixels, up to whole cells of the matching."""
    for axis in (2, 3):
        side = lr.shape[axis]
        before, after = _MARGIN, _MARGIN + -side % CELL
        mode = "reflect" if after < side else "replicate"  # too short to be mirrored
        ends = (0, 0, before, after) if axis == 2 else (before, after, 0, 0)
        lr = F.pad(lr, ends, mode=mode)
    return lr
