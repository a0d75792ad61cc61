"""DCSR: dual-camera super-resolution with aligned attention (Wang et al., ICCV 2021).

Every LR patch takes over its most similar reference patch (aligned attention, section 3.1: a search
by cosine, then a small affine transform of each patch that was found), first features from coarse
to fine, in the end the reference's high band, each as far as the confidence map allows (adaptive
fusion, section 3.2). Names of parameters are those of the published checkpoints, whose 194 tensors
serve both of its modes, "4K" and "8K".
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from dualsr_cli.matching import Correspondence, coarse_boxes, search
from dualsr_cli.networks._windows import assembled, cut, grown, reduced, scaled, within
from dualsr_cli.networks.blocks import (
    SLOPE,
    ResidualBlock,
    ResidualGroup,
    cosines,
    enlarged,
    lrelu,
    pad_to,
)
from dualsr_cli.networks.contract import Inputs, Memory, Network, Outputs, Window
from dualsr_cli.networks.vgg import normalisation

FUSIONS = ("adaptive", "soft", "sum")
"""Reference's features and LR's: h of both, weighed by g(C) (eq. 3), or by C; or their sum."""

_MATCH_CHANNELS = 16
_REACH = 2  # places around one that its matching features depend on
_KEYS = 128
"""Side of the squares in which keys are made: always the same, as queries' are. In others features
are rounded otherwise, and of patches that are equally like a query another one would be found."""


@dataclass(frozen=True)
class DCSRConfig:
    """What a DCSR is built from; the defaults are the published one.

    scale: 2 (CameraFusion), or 4 (CUFED5), of which the paper draws one more level than was
    released. n_feats: channels of all features. blocks: residual blocks of the input encoder and of
    the first decoder; the other decoders and the reference encoders have half as many, even.
    match_feats: channels of the matching encoder's first block (VGG19's has 64).

    match_half: match at half of LR's resolution, the published "8K" mode: a fourth of the queries
    and of the keys, patches of twice the side. Otherwise LR is upsampled x2 first ("4K").

    tile: the side, in LR pixels, of the squares of LR that search one window of the reference; even
    with match_half. reach: how far that window goes beyond the square it belongs to, in LR pixels.

    skip: whether LR, enlarged bicubically, is added to the result, as it is not in the published
    network. fusion: one of FUSIONS (table 4). align: whether patches that were found are
    transformed (figure 7); high_band: whether the reference's high band is fused too (figure 8).
    Raises ValueError for what cannot be.
    """

    scale: int = 2
    n_feats: int = 64
    blocks: int = 8
    match_feats: int = 64
    match_half: bool = False
    tile: int = 128
    reach: int = 32
    skip: bool = False
    fusion: str = FUSIONS[0]
    align: bool = True
    high_band: bool = True

    def __post_init__(self) -> None:
        if self.fusion not in FUSIONS:
            raise ValueError(f"a fusion {self.fusion!r} is unknown: take one of {FUSIONS}")
        if self.scale not in (2, 4):
            raise ValueError(f"a scale of {self.scale} is unknown: take 2 or 4")
        if self.n_feats < 2 or self.match_feats < 1 or self.blocks < 2 or self.blocks % 2:
            raise ValueError(
                f"{self.n_feats} and {self.match_feats} channels with {self.blocks} blocks: take "
                "2 channels or more and an even number of blocks"
            )
        if self.tile < 8 or self.reach < 0 or (self.tile % 2 and self.match_half):
            raise ValueError(f"no search in tiles of {self.tile}, {self.reach} pixels around them")

    @classmethod
    def compact(cls, scale: int = 2) -> DCSRConfig:
        """The same architecture with a skip, small enough for two processor cores."""
        return cls(scale, n_feats=24, blocks=2, match_feats=16, skip=True)

    @property
    def step(self) -> int:
        """LR pixels from one place of the matching features to the next."""
        return 2 if self.match_half else 1

    @property
    def factors(self) -> tuple[int, ...]:
        """How much finer than LR each level is at which features are fused, coarse to fine."""
        return (1, 2, 4)[: self.scale.bit_length()]


@dataclass(frozen=True, eq=False)
class Reference:
    """What matches take over: each place's own cell of pixels, as channels (see `_cells`).

    A level's cell has its factor times `step` pixels along each axis. features: (B, n * cell^2, Hk,
    Wk) for each level, coarse to fine; guides: the image alike, (B, 3 * cell^2, Hk, Wk) for each
    level but the first; high_band: I^Ref - I^Ref down up, as the last of them.
    """

    features: tuple[torch.Tensor, ...]
    guides: tuple[torch.Tensor, ...]
    high_band: torch.Tensor


@dataclass(frozen=True, eq=False)
class Encoded:
    """What is made once for an image: lr (B, 3, ...), its sides multiples of `step`; its matches.

    size: (H, W) of LR as it came.
    """

    lr: torch.Tensor
    found: Correspondence
    reference: Reference
    size: tuple[int, int]


class DCSR(Network[Encoded]):
    """The network. `forward` is the way to use it; its steps can be taken one by one."""

    def __init__(self, config: DCSRConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or DCSRConfig()
        n_feats, blocks, step = config.n_feats, config.blocks, config.step
        self.feature_match = FeatureMatching(config.match_feats, config.match_half)
        self.input_encoder = InputEncoder(blocks, n_feats)
        levels = len(config.factors)
        for level in range(1, levels + 1):
            # The reference's levels are numbered from the finest on, those of the result from the
            # coarsest on: `fusion1` takes what `ref_encoder2` made, where there are two.
            channels, stride = (3, 1) if level == 1 else (n_feats, 2)
            encoder = nn.Sequential(
                _activated(channels, n_feats, 3, stride), _activated(n_feats, n_feats, 3)
            )
            fusion = nn.Sequential(
                _activated(2 * n_feats, n_feats, 5), _activated(n_feats, n_feats, 3)
            )
            self.add_module(f"ref_encoder{level}", encoder)
            self.add_module(f"res{level}", ResidualGroup(blocks // 2, n_feats))
            if config.fusion != "sum":
                self.add_module(f"fusion{level}", fusion)
            self.add_module(
                f"decoder{level}", ResidualGroup(blocks if level == 1 else blocks // 2, n_feats)
            )
            if config.fusion == "adaptive":
                self.add_module(f"alpha{level}", _embedding(1, 16, n_feats))
        self.decoder_tail = nn.Sequential(
            _convolution(n_feats, n_feats // 2, 3),
            nn.LeakyReLU(SLOPE, inplace=True),
            _convolution(n_feats // 2, 3, 3),
        )
        # aa1 is that of the image; aa2, of the coarsest level, aligns nothing and has no weights.
        if config.high_band:
            self.add_module(f"alpha{levels + 1}", _embedding(4, 32, 3))
            self.aa1 = AlignedAttention(config.scale * step, config.align)
        for level, factor in enumerate(config.factors[1:], 2):
            self.add_module(f"aa{level + 1}", AlignedAttention(factor * step, config.align))

    @property
    def scale(self) -> int:
        return self.config.scale

    @property
    def margin(self) -> int:
        """A multiple of 2, so that places of the matching features lie in a window or beside it."""
        blocks = self.config.blocks
        reach = (2 * blocks + 2) + 3 + (2 * blocks + 1) + 2 / self.config.scale
        for factor in self.config.factors[1:]:
            reach += (blocks + 1 + 3 + 4) / factor
        return 2 * math.ceil(reach / 2)

    @property
    def memory(self) -> Memory:
        """From the peaks of processes that encoded photos and rendered windows of two sizes."""
        n_feats, scale = self.config.n_feats, self.config.scale
        held = sum(factor**2 for factor in self.config.factors)
        return Memory(
            image=24,  # LR, enlarged for the matching, and the matches
            reference=held * (n_feats + 3) + 3 * scale**2 + 40,  # also keys and what they are of
            window=scale**2 * (9 * n_feats + 50),
        )

    def forward(self, inputs: Inputs) -> Outputs:
        """Any size. Outputs.maps: "confidence" (B, 1, H', W'), the similarity of what was matched.

        H' and W' are LR's, with `match_half` ceil(H / 2) and ceil(W / 2). The confidence alone
        carries gradients to the matching features, as published. Raises ValueError for a reference
        that does not have `scale` times the size of its box.
        """
        encoded = self.encode(inputs)
        return self.render(encoded, (0, 0, *encoded.size))

    def encode(self, inputs: Inputs, tile: int | None = None) -> Encoded:
        """The matches and what they may take over."""
        scale, step = self.config.scale, self.config.step
        height, width = inputs.lr_center().shape[2:]
        if inputs.ref.shape[2:] != (scale * height, scale * width):
            raise ValueError(
                f"ref {tuple(inputs.ref.shape)} is not {scale} x its box of {height} x {width}"
            )
        lr, ref = pad_to(inputs.rounded_lr(), step), pad_to(inputs.ref, scale * step)
        found = self.match(lr, ref, inputs.box)
        height, width = inputs.lr.shape[2:]
        return Encoded(
            pad_to(inputs.lr, step), found, self.encode_reference(ref, tile), (height, width)
        )

    def render(self, encoded: Encoded, window: Window) -> Outputs:
        """The contract's; maps: the window's "confidence", as of `forward`."""
        scale, step = self.config.scale, self.config.step
        seen = grown(window, self.margin, encoded.lr.shape[2:])
        found, places = encoded.found, reduced(seen, step)
        part = Correspondence(
            cut(found.index, places), cut(found.similarity, places), found.key_size
        )
        sr = self.restore(cut(encoded.lr, seen), part, encoded.reference)
        confidence = cut(found.similarity[:, None], reduced(window, step))
        return Outputs(cut(sr, scaled(within(window, seen), scale)), {"confidence": confidence})

    def encode_reference(self, ref: torch.Tensor, tile: int | None = None) -> Reference:
        """All that matches may take from ref (B, 3, ...), sides multiples of scale * step."""
        config = self.config
        scale, step, factors = config.scale, config.step, config.factors
        size = [side // scale for side in ref.shape[2:]]
        # The encoder of a level sees blocks + 3 of its own pixels to each side.
        pixels = (config.blocks + 3) * (2 ** len(factors) - 1)
        reach = 2 * math.ceil(pixels / scale / 2)

        def parts(window: Window) -> list[torch.Tensor]:
            seen = grown(window, reach, size)
            values = image = cut(ref, scaled(seen, scale))
            maps: list[tuple[int, torch.Tensor]] = []
            for level, factor in enumerate(reversed(factors), 1):
                values = self.get_submodule(f"ref_encoder{level}")(values)
                values = self.get_submodule(f"res{level}")(values)
                maps.insert(0, (factor, values))
            maps += [(factor, F.avg_pool2d(image, scale // factor)) for factor in factors[1:]]
            maps.append((scale, image - enlarged(F.avg_pool2d(image, scale), scale)))
            own = within(window, seen)
            return [_cells(cut(map, scaled(own, factor)), factor * step) for factor, map in maps]

        *made, high_band = assembled(size, tile, parts)
        return Reference(tuple(made[: len(factors)]), tuple(made[len(factors) :]), high_band)

    def match(self, lr: torch.Tensor, ref: torch.Tensor, box: torch.Tensor) -> Correspondence:
        """The search, square by square, of eq. 1: index map P and confidence map C.

        lr: (B, 3, H, W), sides multiples of `step`; ref: (B, 3, h, w), those of scale * step; box:
        (B, 4), as of `Inputs`. Returns (B, H / step, W / step) of indices into the matching
        features of the reference.

        A square of `config.tile` searches a window of the reference: that around its own place
        where it lies in the box or less than a square from it, or else that which coarse patch
        selection finds.
        """
        config = self.config
        key = self.key(ref)
        prepared = self.feature_match.prepare(lr)
        size = [side // 2 for side in prepared.shape[2:]]
        side = config.tile // config.step
        keys = self._key_windows(lr, ref, key.shape[2:], box)
        rows = []
        for row, top in enumerate(range(0, size[0], side)):
            columns = []
            for column, left in enumerate(range(0, size[1], side)):
                square = (top, left, min(top + side, size[0]), min(left + side, size[1]))
                one_more = grown(square, 1, size)  # what the patches themselves reach
                query = self._matching_features(prepared, one_more)
                found = [
                    _search_window(
                        query[n : n + 1],
                        within(square, one_more),
                        key[n : n + 1],
                        keys[n][row][column],
                    )
                    for n in range(len(lr))
                ]
                columns.append([torch.cat(maps) for maps in zip(*found, strict=True)])
            rows.append([torch.cat(maps, dim=2) for maps in zip(*columns, strict=True)])
        index, similarity = (torch.cat(maps, dim=1) for maps in zip(*rows, strict=True))
        return Correspondence(index, similarity, (key.shape[2], key.shape[3]))

    def key(self, ref: torch.Tensor) -> torch.Tensor:
        """The reference's matching features (B, 16, h / (scale * step), w / (scale * step))."""
        prepared = self.feature_match.prepare(F.avg_pool2d(ref, self.config.scale))
        size = [side // 2 for side in prepared.shape[2:]]
        (key,) = assembled(size, _KEYS, lambda window: [self._matching_features(prepared, window)])
        return key

    def restore(
        self, lr: torch.Tensor, found: Correspondence, reference: Reference
    ) -> torch.Tensor:
        """Fusion from coarse to fine: (B, 3, s * H, s * W).

        lr (B, 3, H, W) and found (B, H / step, W / step): the whole image or a window of both,
        which starts at a multiple of `step` and has `margin` around what is wanted of it, save
        where the image ends. Within the margin a window's result is not the image's.
        """
        config = self.config
        precise, lr = lr, lr.to(reference.high_band.dtype)
        features = self.input_encoder(lr)
        confidence = enlarged(found.similarity[:, None].to(lr.dtype), config.step)
        query = guide = lr
        for level, factor in enumerate(config.factors, 1):
            values, cell = reference.features[level - 1], factor * config.step
            if level == 1:
                warped = _matched(values, found, cell)
            else:
                features, confidence = enlarged(features, 2), enlarged(confidence, 2)
                query = enlarged(lr, factor)
                guide = _matched(reference.guides[level - 2], found, cell)
                warped = self.get_submodule(f"aa{level + 1}")(values, found, query, guide)
            features = self._fused(level, features, warped, confidence)
            features = self.get_submodule(f"decoder{level}")(features)
        result: torch.Tensor = self.decoder_tail(features)
        if config.high_band:
            high_band = self.aa1(reference.high_band, found, query, guide)
            embedding = self.get_submodule(f"alpha{len(config.factors) + 1}")
            gate = embedding(torch.cat([confidence, high_band], dim=1))
            result = result + high_band * gate  # (4)
        return result + enlarged(precise, config.scale) if config.skip else result

    def _fused(
        self,
        level: int,
        features: torch.Tensor,
        warped: torch.Tensor,
        confidence: torch.Tensor,
    ) -> torch.Tensor:
        """F^fused of a level: LR's and the reference's features (B, n, H, W) as one."""
        if self.config.fusion == "sum":
            return features + warped
        fused = self.get_submodule(f"fusion{level}")(torch.cat([warped, features], dim=1))
        gate = confidence
        if self.config.fusion == "adaptive":
            gate = self.get_submodule(f"alpha{level}")(confidence)
        result: torch.Tensor = gate * fused + features  # (3)
        return result

    def _matching_features(self, prepared: torch.Tensor, window: Window) -> torch.Tensor:
        """Those of some places of an image that is prepared: (B, 16, h, w)."""
        seen = grown(window, _REACH, [side // 2 for side in prepared.shape[2:]])
        features = self.feature_match.features(cut(prepared, scaled(seen, 2)))
        return cut(features, within(window, seen))

    def _key_windows(
        self, lr: torch.Tensor, ref: torch.Tensor, size: torch.Size, box: torch.Tensor
    ) -> list[list[list[Window]]]:
        """The window of the key map, of this size, for each image, row and column of squares."""
        config = self.config
        tile, step, scale = config.tile, config.step, config.scale
        starts = [range(0, side, tile) for side in lr.shape[2:]]
        boxes = box.tolist()
        # For each image and axis: which squares lie in the box, or less than a square from it. None
        # do where it is empty, that of a reference of which no one knows the place (CUFED5).
        near = [
            [
                [low < high and low - 2 * tile < start < high + tile for start in axis]
                for low, high, axis in zip(corners[:2], corners[2:], starts, strict=True)
            ]
            for corners in boxes
        ]
        coarse: list[list[list[list[int]]]] = []
        if not all(all(axis) for axes in near for axis in axes):
            factors = {"query_factor": 8, "key_factor": 8 * scale}
            coarse = coarse_boxes(lr, ref, (tile, tile), **factors).tolist()
        sides = [min(side, -(-(tile + 2 * config.reach) // step)) for side in size]

        def window(n: int, row: int, column: int) -> Window:
            if near[n][0][row] and near[n][1][column]:
                place = [starts[0][row] - boxes[n][0], starts[1][column] - boxes[n][1]]
            else:
                place = [start // scale for start in coarse[n][row][column][:2]]
            top, left = (
                max(0, min((start - config.reach) // step, whole - side))
                for start, whole, side in zip(place, size, sides, strict=True)
            )
            return top, left, top + sides[0], left + sides[1]

        rows, columns = map(range, map(len, starts))
        return [
            [[window(n, row, column) for column in columns] for row in rows]
            for n in range(len(boxes))
        ]


class FeatureMatching(nn.Module):
    """The shared encoder of LR and Ref for the search: VGG19 up to relu2_1, then 16 channels.

    Features have half the resolution of what they are made from, which is LR, or LR upsampled. They
    are as precise as their weights, with autocast too: rounded features find other patches.
    """

    def __init__(self, width: int, half: bool) -> None:
        super().__init__()
        self._half = half
        self.feature_extract = nn.Sequential(
            _convolution(3, width, 3),
            nn.ReLU(inplace=True),
            _convolution(width, width, 3),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            _convolution(width, 2 * width, 3),
            nn.ReLU(inplace=True),
        )
        self.feature_extract.add_module("map", _activated(2 * width, _MATCH_CHANNELS, 1))
        self.sub_mean = normalisation()

    def prepare(self, image: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) normalised and, unless matching at half resolution, (B, 3, 2H, 2W).

        The upsampling aligns the image's corners, so that it has to be done for all of an image.
        """
        with _own_precision(image):
            values: torch.Tensor = self.sub_mean(image.to(self.sub_mean.weight.dtype))
            if self._half:
                return values
            return F.interpolate(values, scale_factor=2, mode="bicubic", align_corners=True)

    def features(self, prepared: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W), sides even -> (B, 16, H / 2, W / 2)."""
        with _own_precision(prepared):
            values: torch.Tensor = self.feature_extract(prepared)
        return values


class AlignedAttention(nn.Module):
    """Coarse warp by the index map, then with `align` each patch is transformed (section 3.1)."""

    def __init__(self, cell: int, align: bool) -> None:
        super().__init__()
        self._cell = cell
        self.align = LocalTransformer(cell) if align else None

    def forward(
        self,
        value: torch.Tensor,
        found: Correspondence,
        query: torch.Tensor,
        matched_ref: torch.Tensor,
    ) -> torch.Tensor:
        """value (B, C * cell^2, Hk, Wk), see `_cells` -> (B, C, cell * Hq, cell * Wq).

        query: I^LR upsampled; matched_ref: the reference image warped like the value; both (B, 3)
        of the result's size.
        """
        matched = _matched(value, found, self._cell)
        if self.align is None:
            return matched
        aligned: torch.Tensor = self.align(matched, query, matched_ref)
        return aligned


class LocalTransformer(nn.Module):
    """The local spatial transformer T of eq. 2: three numbers for each patch of cell x cell.

    They stretch its rows and its columns and turn it, about its middle; 1, 1, 1 leaves it alone.
    """

    def __init__(self, cell: int) -> None:
        super().__init__()
        self._cell = cell
        self.conv1 = nn.Sequential(
            _convolution(3, 32, 5),
            nn.LeakyReLU(SLOPE, inplace=True),
            ResidualBlock(32),
            nn.LeakyReLU(SLOPE, inplace=True),
        )
        self.p_conv = nn.Sequential(
            _convolution(64, 32, 5, stride=cell),
            nn.LeakyReLU(SLOPE, inplace=True),
            ResidualBlock(32),
            nn.LeakyReLU(SLOPE, inplace=True),
            _convolution(32, 3, 1),
        )

    def forward(
        self, matched: torch.Tensor, query: torch.Tensor, matched_ref: torch.Tensor
    ) -> torch.Tensor:
        """matched (B, C, cell * h, cell * w), aligned; the images (B, 3) have the same size."""
        images = torch.cat([self.conv1(matched_ref), self.conv1(query)], dim=1)
        affine = (self.p_conv(images) + 1).clamp(-3, 3)  # (B, 3, h, w)
        return transform_patches(matched, affine, self._cell)


def transform_patches(maps: torch.Tensor, affine: torch.Tensor, cell: int) -> torch.Tensor:
    """Each patch of maps (B, C, cell * h, cell * w) read through its own transform, bilinearly.

    affine (B, 3, h, w): factors of a pixel's distance from its patch's middle, along the rows and
    along the columns, and 1 + the angle to turn it by, in units of 60 degrees. Beyond the map lies
    one mirrored pixel; what reads that pixel's outer edge or further counts it twice, along each
    axis: so the published code has it, and its weights have learned it.
    """
    maps = F.pad(maps.float(), (1, 1, 1, 1), mode="reflect")
    batch, _, height, width = affine.shape
    down, right, angle = affine.float().permute(0, 2, 3, 1)[..., None, None].unbind(3)
    offset = torch.arange(cell, device=maps.device) - (cell - 1) / 2
    y, x = down * offset[:, None], right * offset  # (B, h, w, cell, 1) and (B, h, w, 1, cell)
    angle = (angle - 1) * 1.0472  # the published digits of pi / 3
    sine, cosine = angle.sin(), angle.cos()
    middle = 1 + (cell - 1) / 2
    rows = torch.arange(height, device=maps.device)[:, None, None, None] * cell + middle
    columns = torch.arange(width, device=maps.device)[:, None, None] * cell + middle
    y, x = rows + y * cosine - x * sine, columns + y * sine + x * cosine
    size = batch, cell * height, cell * width
    y, x = (axis.transpose(2, 3).reshape(size) for axis in (y, x))
    last_y, last_x = maps.shape[2] - 1, maps.shape[3] - 1
    grid = torch.stack([x * (2 / last_x) - 1, y * (2 / last_y) - 1], dim=3)
    sampled = F.grid_sample(maps, grid, padding_mode="border", align_corners=True)
    twice = 1 + ((y < 0) | (y >= last_y)).float()
    twice = twice * (1 + ((x < 0) | (x >= last_x)).float())
    return (sampled * twice[:, None]).to(affine.dtype)


class InputEncoder(ResidualGroup):
    """The encoder of LR: a convolution and LeakyReLU, then residual blocks."""

    def __init__(self, blocks: int, channels: int) -> None:
        super().__init__(blocks, channels)
        self.conv_head = _convolution(3, channels, 3)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) -> (B, C, H, W)."""
        return super().forward(lrelu(self.conv_head(values)))


def _search_window(
    query: torch.Tensor, queries: Window, key: torch.Tensor, keys: Window
) -> tuple[torch.Tensor, torch.Tensor]:
    """Some places of a query map among some of a key map, both (1, C, H, W).

    Returns index (1, h, w) into all of the key map, -1 where there is none, and similarity.
    """
    around = grown(keys, 1, key.shape[2:])  # what the patches reach
    near = cut(key, around)
    own, other = _only(query, queries), _only(near, within(keys, around))
    found = search(query, near, query_mask=own, key_mask=other)
    similarity = found.similarity
    if torch.is_grad_enabled() and (query.requires_grad or key.requires_grad):
        similarity = cosines(query.float(), near.float(), found.index)
    rows, columns = found.places()
    index = (rows + around[0]) * key.shape[3] + columns + around[1]
    index = torch.where(found.index < 0, -1, index)
    return cut(index, queries), cut(similarity, queries)


def _only(maps: torch.Tensor, window: Window) -> torch.Tensor:
    """(1, H, W) bool: the places of a window."""
    mask = torch.zeros(1, *maps.shape[2:], dtype=torch.bool, device=maps.device)
    cut(mask, window).fill_(True)
    return mask


def _cells(maps: torch.Tensor, cell: int) -> torch.Tensor:
    """(B, C, cell * H, cell * W) -> (B, C * cell^2, H, W), a cell's pixels together in memory."""
    return F.pixel_unshuffle(maps, cell).contiguous(memory_format=torch.channels_last)


def _matched(cells: torch.Tensor, found: Correspondence, cell: int) -> torch.Tensor:
    """F^Ref_matched: the cells (B, C * cell^2, Hk, Wk) that were found, side by side.

    Returns (B, C, cell * Hq, cell * Wq). Cells do not overlap, so that a match is one copy.
    """
    batch, height, width = found.index.shape
    index = found.index.flatten(1)
    places = cells.permute(0, 2, 3, 1).flatten(1, 2)  # (B, Hk * Wk, C * cell^2), as it lies
    rows = zip(places, index.clamp(min=0), strict=True)
    matched = torch.stack([own.index_select(0, wanted) for own, wanted in rows])
    matched = matched.masked_fill((index < 0)[:, :, None], 0)
    return F.pixel_shuffle(matched.view(batch, height, width, -1).permute(0, 3, 1, 2), cell)


def _own_precision(maps: torch.Tensor) -> torch.autocast:
    return torch.autocast(maps.device.type, enabled=False)


def _convolution(channels: int, result: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels, result, kernel, stride, padding=kernel // 2)


def _activated(channels: int, result: int, kernel: int, stride: int = 1) -> nn.Sequential:
    convolution = _convolution(channels, result, kernel, stride)
    return nn.Sequential(convolution, nn.LeakyReLU(SLOPE, inplace=True))


def _embedding(channels: int, width: int, result: int) -> nn.Sequential:
    """g of eq. 3 and 4: the confidence of the neighbours is taken into account."""
    return nn.Sequential(_activated(channels, width, 7), _activated(width, result, 3))
