"""DualSR: our own network, made for photos on a laptop.

It works where pixels are few: on cells of 2 x 2 LR pixels, whose image and reference are laid into
channels, and shuffles up once at the end. What the papers do best, it does at little cost:

- domain modulation (DM3Net 3.4, SelfDZSR's modulator): a vector from LR's centre and the reference
  together, which tells how this wide lens blurs and how this tele looks, modulates every block;
- alignment by the network itself (KeDuSR, AWnet): a small flow on top of the alignment that the
  reference comes with, estimated once and applied to the reference at full resolution;
- a base that undoes the blur of this wide lens, as far as the reference tells of it (DM3Net's and
  SelfDZSR's degradation, in closed form), so that the network draws only what is left;
- fusion by a mask (AWnet's equation 7, DCSR's adaptive fusion): detail is taken from the
  reference, not only offered to convolutions, as far as a mask says. What the mask is made of are
  also the correlation and the contrast of the two photos in the finest bands that both show.

sr = drawn + S enlarged(lr - reduced(drawn)), drawn = base + M (ref' - base) + residual, where base
is LR so enlarged that reducing nearly gives it back or, in weights for blurred photos, a linear
estimate for its lens, ref' the reference after the flow, M the mask, 0 wherever the reference shows
nothing. S, the share of a last step of back-projection, says how far the result shall be what LR
shows: all of it where LR was merely reduced, little where LR's lens blurred it.

At inference the reference also tells how far to believe what is drawn where it shows nothing: the
result there is the mixture of what is drawn, of linear estimates for several lenses, and of LR's
bicubic enlargement that, in the centre drawn without the reference, comes nearest to what the
reference shows where the two agree. Where LR is sharp at its pixels there is no blur to misjudge,
and a bad reference shall not cost what LR itself tells: weights for such photos do without it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from itertools import product

import torch
import torch.nn.functional as F
from torch import nn

from dualsr_cli.networks._dualsr_agreement import MAPS, STATISTICS, bands, maps, statistics, totals
from dualsr_cli.networks._dualsr_lenses import RADIUS, estimated, estimates, products, shares
from dualsr_cli.networks._windows import cut, grown, overlap, reduced, scaled, within
from dualsr_cli.networks.blocks import conv3x3, pad_to, warp
from dualsr_cli.networks.contract import CELL, Inputs, Memory, Network, Outputs, Window, windows

_CELL = 2  # LR pixels along the side of a cell
_SLOPE = 0.1
_FURTHEST = 4.0  # pixels of the result by which the flow may move the reference
_STEPS = 2  # of the enlargement's back-projection
_SAMPLES, _SQUARE = 4, 256  # along each side of the centre; LR pixels
_ENLARGING = 2 + 4 * (_STEPS + 1)  # LR pixels that the enlargement and the last step look at
# LR pixels, within the reference's edge, over which its light goes over into what lies beside it,
# and over which what is taken from it ends. Light that differs is seen as a line, detail is not.
_LIGHT_FADES, _MASK_FADES = 4, 1
PARTS = ("domain", "flow", "mask", "agreement", "share", "lenses")
"""What can be left out, to measure what it is worth."""
_OTHER_LIGHT = 0.05  # of 0..1: a reference that differs by more shows something else
_LIGHT = 8  # pixels of the result around each whose mean is its light, which lenses do not change


@dataclass(frozen=True)
class DualSRConfig:
    """features: channels. blocks: residual blocks before the flow is known, and after it. domain:
    channels of the vector that modulates. scales: those that there are heads for; scale: the one
    that is used. doubts: whether the reference tells how far to believe what is drawn beside it.
    lenses: whether base undoes the lens that the reference tells of. without: of PARTS, those that
    do nothing: the vector is zero, the reference is not moved, its detail is offered to
    convolutions alone, they do not see how well it agrees with LR, there is no last step of
    back-projection, or base undoes no lens.
    """

    features: int = 64
    blocks: tuple[int, int] = (3, 6)
    domain: int = 32
    scales: tuple[int, ...] = (2, 3, 4)
    scale: int = 2
    doubts: bool = True
    lenses: bool = False
    without: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if unknown := {*self.without} - {*PARTS}:
            raise ValueError(f"without {min(unknown)}: what can be left out is {', '.join(PARTS)}")
        if self.scale not in self.scales:
            raise ValueError(f"no head for a scale of {self.scale}: there are {self.scales}")
        if len(self.blocks) != 2 or min(self.blocks) < 0 or self.features < 1:
            raise ValueError(f"{self.blocks} blocks of {self.features} features cannot be built")

    @classmethod
    def compact(cls) -> DualSRConfig:
        """For two processor cores."""
        return cls(features=48, blocks=(2, 5), domain=24)


@dataclass(frozen=True, eq=False)
class Encoded:
    """lr (B, 3, H, W); reference (B, 4, s * h, s * w): its colours, and how surely it lies there;
    boxes: as in `Inputs`; vector (B, domain). belief (B, 1, 1, 1): the share of what is drawn, see
    above; beside (B, s^2, 7, 7): the filters of LR that make the rest; 1 and 0 in training and for
    weights that do without it. base: (B, s^2, 7, 7): those that make base, if it undoes a lens.
    """

    lr: torch.Tensor
    reference: torch.Tensor
    boxes: list[Window]
    vector: torch.Tensor
    belief: torch.Tensor
    beside: torch.Tensor
    base: torch.Tensor | None


class DualSR(Network[Encoded]):
    """Gives beside the result "weight" (B, 1, s * H, s * W), the mask M, and "flow" (B, 2, s * H,
    s * W), x and y in pixels of the result.
    """

    def __init__(self, config: DualSRConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or DualSRConfig()
        features, (before, after) = config.features, config.blocks
        self.lr_head = conv3x3(3 * _CELL**2, features)
        self.ref_heads = _per_scale(config, lambda cell: conv3x3(4 * cell**2, features))
        self.moved_heads = _per_scale(config, lambda cell: conv3x3(4 * cell**2, features))
        self.domain = Domain(config)
        self.before = nn.ModuleList(Block(features, config.domain) for _ in range(before))
        self.flow = conv3x3(features, 2)
        self.after = nn.ModuleList(Block(features, config.domain) for _ in range(after))
        self.join = conv3x3(features, features)
        self.agreement = conv3x3(MAPS, features)
        self.share = conv3x3(features, _CELL**2)  # for each pixel of LR
        # For each pixel of the result three colours and the mask.
        self.tails = _per_scale(config, lambda cell: conv3x3(features, 4 * cell**2))
        assert self.share.bias is not None
        with torch.no_grad():  # training begins near the enlarged photo
            for tail in (self.flow, self.share, *self.tails.values()):
                for parameter in tail.parameters():
                    parameter.mul_(0.1)
            self.share.bias.fill_(-2.0)  # with little of the last step
            self.agreement.weight.mul_(0.1)

    @property
    def scale(self) -> int:
        return self.config.scale

    @property
    def margin(self) -> int:
        cells = 1 + 2 * sum(self.config.blocks) + 3  # one convolution of three cells after another
        beyond = -(-int(_FURTHEST + 1) // self.scale)
        return -(-(_CELL * cells + beyond + _ENLARGING) // CELL) * CELL

    @property
    def memory(self) -> Memory:
        image = 3.0
        reference = 4.0 * self.scale**2
        # Per cell: four maps of features; per pixel of the result: colours and masks.
        images = 36 if self.config.lenses else 24
        window = 5 * self.config.features / _CELL**2 + images * self.scale**2
        return Memory(image, reference, window)

    def forward(self, inputs: Inputs) -> Outputs:
        return self.render(self.encode(inputs), (0, 0, *inputs.lr.shape[2:]))

    def encode(self, inputs: Inputs, tile: int | None = None) -> Encoded:
        encoded = self._encoded(inputs, tile)
        if self.training or not self.config.doubts:
            return encoded
        lenses = estimates(self.scale).to(encoded.vector.device)
        sums = self._drawn_alone(encoded, tile, lenses)
        mixed = torch.stack([shares(each, free=True) for each in sums])
        beside = _mixture(lenses, mixed[:, 1:], 1 - mixed.sum(1), self.scale)
        return replace(encoded, belief=mixed[:, :1, None, None], beside=beside)

    def _encoded(self, inputs: Inputs, tile: int | None) -> Encoded:
        """All of it but for the belief."""
        center = inputs.lr_center()
        size = [self.scale * side for side in center.shape[2:]]
        if list(inputs.ref.shape[2:]) != size:
            raise ValueError(f"ref {tuple(inputs.ref.shape)} is not {self.scale} x its box")
        sure = inputs.confidence
        if sure is None:
            sure = torch.ones_like(inputs.ref[:, :1])
        elif list(sure.shape[2:]) != size:
            raise ValueError(f"confidence {tuple(sure.shape)} is not of ref's {size}")
        reference = torch.cat([inputs.ref, sure], dim=1)
        vector = self.domain(center, reference, tile)
        if "domain" in self.config.without:
            vector = torch.zeros_like(vector)
        belief = vector.new_ones(len(vector), 1, 1, 1, dtype=torch.float32)
        side = 2 * RADIUS + 1
        beside = belief.new_zeros(len(vector), self.scale**2, side, side)
        undoes = self.config.lenses and "lenses" not in self.config.without
        base = self._undoing(center, reference, tile) if undoes else None
        return Encoded(inputs.lr, reference, inputs.box.tolist(), vector, belief, beside, base)

    @torch.no_grad()
    def _undoing(
        self, center: torch.Tensor, reference: torch.Tensor, tile: int | None
    ) -> torch.Tensor:
        """(B, s^2, 7, 7): the mixture of estimates that, of LR's centre (B, 3, h, w), comes nearest
        to the reference (B, 4, s * h, s * w); the first where that shows nothing.
        """
        lenses = estimates(self.scale).to(center.device)
        plain_filters = _plain_filters(self.scale, center.device)
        count = len(lenses) + 1
        sums = center.new_zeros(len(center), count, count, dtype=torch.float32)
        height, width = center.shape[2:]
        for window in _sampled(height, width, tile):
            seen = grown(window, CELL, (height, width))
            lr, ref = cut(center, seen), cut(reference, scaled(seen, self.scale)).float()
            beyond = _finer((ref[:, :3] - _bicubic(lr.float(), self.scale)) * (ref[:, 3:] > 0))
            inner = scaled(within(window, seen), self.scale)
            weight = torch.zeros_like(ref[:, 3:])
            cut(weight, inner).copy_(cut(_telling(lr, ref, self.scale), inner))
            sums += products(lr, lenses - plain_filters, beyond[:, None], weight)
        mixed = torch.stack([shares(each) for each in sums])
        return _mixture(lenses, mixed, 1 - mixed.sum(1), self.scale)

    @torch.no_grad()
    def nearness(self, inputs: Inputs) -> float:
        """How near what is drawn where nothing of the reference is known comes to the reference.

        Of a batch of one, at inference: the share, 0..1, of what LR's bicubic enlargement lacks
        that is drawn, if as much of it is taken as is best; where the reference has LR's light. It
        tells which weights a pair is for.
        Raises ValueError for a reference that does not fit its box.
        """
        encoded = self._encoded(inputs, None)
        sums = self._drawn_alone(encoded, None, estimates(self.scale)[:0])[0]
        added, both, missing = (float(sums[n, k]) for n, k in ((0, 0), (0, 1), (1, 1)))
        if not added > 0 or not missing > 0:
            return 0.0
        taken = min(max(both / added, 0.0), 1.0)
        return taken * (2 * both - taken * added) / missing

    def _drawn_alone(
        self, encoded: Encoded, tile: int | None, lenses: torch.Tensor
    ) -> torch.Tensor:
        """(B, L + 2, L + 2) float32: products in the reference's centre, weighed by `_telling`, or
        without lenses by how surely the reference lies there, where its light is LR's: noise, too,
        shall count, but no bar and no writing.

        Of what lies beyond LR's bicubic enlargement in what is drawn where nothing of the reference
        is known, in the estimates for lenses (L, s^2, 7, 7), and in the reference, whose light does
        not count.
        """
        count, filters = len(lenses) + 2, lenses - _plain_filters(self.scale, lenses.device)
        sums = encoded.lr.new_zeros(len(encoded.lr), count, count, dtype=torch.float32)
        height, width = encoded.lr.shape[2:]
        for n, box in enumerate(encoded.boxes):
            lens = None if encoded.base is None else encoded.base[n : n + 1]
            own = encoded.vector[n : n + 1], encoded.belief[:1], encoded.beside[:1], lens
            top, left, bottom, right = overlap(box, (0, 0, height, width)) or (0, 0, 0, 0)
            for part in _sampled(bottom - top, right - left, tile):
                window = part[0] + top, part[1] + left, part[2] + top, part[3] + left
                around = grown(window, self.margin, encoded.lr.shape[2:])
                lr = pad_to(cut(encoded.lr[n : n + 1], around), _CELL)
                nothing = lr.new_zeros(1, 4, self.scale * lr.shape[2], self.scale * lr.shape[3])
                drawn, _ = self._restore(lr, nothing, *own)
                plain = _bicubic(lr.float(), self.scale)
                inside = scaled(within(window, around), self.scale)
                seen = scaled(within(window, box), self.scale)
                shown = cut(encoded.reference[n : n + 1], seen).float()
                drawn, plain = cut(drawn, inside).float(), cut(plain, inside)
                images = [image - plain for image in (drawn, shown[:, :3])]
                inner = cut(lr, within(window, around))
                if len(lenses):
                    weight = _telling(inner, shown, self.scale)
                else:
                    light = _mean(images[1], _LIGHT).abs().amax(1, keepdim=True)
                    weight = shown[:, 3:] * (light < _OTHER_LIGHT)
                finer = torch.stack([_finer(image) for image in images], 1)
                sums[n] += products(inner, filters, finer, weight)[0]
        return sums

    def render(self, encoded: Encoded, window: Window) -> Outputs:
        around = grown(window, self.margin, encoded.lr.shape[2:])
        lr = pad_to(cut(encoded.lr, around), _CELL)
        reference = self._placed(encoded, around, lr)
        told = encoded.vector, encoded.belief, encoded.beside, encoded.base
        sr, maps = self._restore(lr, reference, *told)
        inside = scaled(within(window, around), self.scale)
        return Outputs(
            cut(sr, inside), {name: cut(values, inside) for name, values in maps.items()}
        )

    def _placed(self, encoded: Encoded, around: Window, lr: torch.Tensor) -> torch.Tensor:
        """The reference in the frame of a window, 0 beside its box: (B, 4, s * h, s * w)."""
        scale = self.scale
        frame = lr.new_zeros(len(lr), 4, scale * lr.shape[2], scale * lr.shape[3])
        for n, box in enumerate(encoded.boxes):
            if shared := overlap(box, around):
                there = cut(encoded.reference[n], scaled(within(shared, box), scale))
                cut(frame[n], scaled(within(shared, around), scale)).copy_(there)
        return frame

    def _restore(
        self,
        lr: torch.Tensor,
        reference: torch.Tensor,
        vector: torch.Tensor,
        belief: torch.Tensor,
        beside: torch.Tensor,
        undoing: torch.Tensor | None,
    ) -> tuple[torch.Tensor, Mapping[str, torch.Tensor]]:
        """LR (B, 3, h, w) with even sides, the reference (B, 4, s * h, s * w) in its frame."""
        scale, head = self.scale, str(self.scale)
        cell = _CELL * scale
        same, dtype = _enlarged(lr, scale), self.lr_head.weight.dtype
        base = same if undoing is None else estimated(lr, undoing).to(lr.dtype)
        shown = reference[:, 3:] > 0
        tells = self.training or bool(shown.any())
        if tells and not self.training:
            reference = _toned(reference, lr, scale)
        detail = _beyond(reference, base)
        features = self.lr_head(F.pixel_unshuffle(lr, _CELL).to(dtype))
        features = features + self.ref_heads[head](F.pixel_unshuffle(detail, cell).to(dtype))
        for block in self.before:
            features = block(features, vector)
        without = self.config.without
        flow = _FURTHEST * torch.tanh(self.flow(features)) * ("flow" not in without)
        flow = F.interpolate(flow, scale_factor=cell, mode="bilinear")
        if tells:
            reference = _moved(reference, base, flow)
            detail = _beyond(reference, base)
        beyond = detail if base is same else _beyond(reference, same)
        agreeing = maps(bands(lr, beyond.detach(), scale)).to(features.dtype)
        moved = F.pixel_unshuffle(detail, cell).to(dtype)
        features = self.join(features) + self.moved_heads[head](moved)
        if "agreement" not in without:
            features = features + self.agreement(agreeing)
        for block in self.after:
            features = block(features, vector)
        found = F.pixel_shuffle(self.tails[head](features), cell)
        mask = found[:, 3:].sigmoid() * (detail[:, 3:] > 0) * ("mask" not in without)
        if not self.training:
            mask = mask * _spread(shown, scale, _MASK_FADES)
        drawn = base + found[:, :3] + mask * detail[:, :3]
        share = F.pixel_shuffle(self.share(features), _CELL).sigmoid()
        sr = drawn if "share" in without else _projected(drawn, lr, share)
        if not self.training and bool((belief < 1).any()):
            mixed = belief * sr.float() + estimated(lr, beside)
            within = _spread(shown, scale, _LIGHT_FADES)
            sr = (mixed + within * (sr.float() - mixed)).to(sr.dtype)
        return sr, {"weight": mask, "flow": flow}


class Domain(nn.Module):
    """What LR's centre and the reference tell of the two lenses: a vector (B, domain).

    Of the mean of what a few convolutions make of both, and of how well they agree, over the centre
    or, where that is large, over squares spread over it.
    """

    def __init__(self, config: DualSRConfig) -> None:
        super().__init__()
        self.scale = config.scale
        width = config.domain
        self.lr_head = conv3x3(3 * _CELL**2, width)
        self.ref_heads = _per_scale(config, lambda cell: conv3x3(4 * cell**2, width))
        self.body = nn.Sequential(
            nn.LeakyReLU(_SLOPE), conv3x3(width, width), nn.LeakyReLU(_SLOPE), conv3x3(width, width)
        )
        self.tail = nn.Sequential(
            nn.Linear(width + STATISTICS, width), nn.LeakyReLU(_SLOPE), nn.Linear(width, width)
        )

    def forward(
        self, center: torch.Tensor, reference: torch.Tensor, tile: int | None
    ) -> torch.Tensor:
        """center (B, 3, h, w), reference (B, 4, s * h, s * w)."""
        scale = self.scale
        total = center.new_zeros(len(center), self.lr_head.out_channels, dtype=torch.float32)
        count = 0
        sums = center.new_zeros(len(center), 2, 8, dtype=torch.float32)
        height, width = (side // _CELL * _CELL for side in center.shape[2:])
        if not height or not width:
            nothing: torch.Tensor = self.tail(
                torch.cat([total, sums[:, 0, :STATISTICS]], 1).to(center.dtype)
            )
            return nothing
        for window in _sampled(height, width, tile):
            seen = grown(window, 2 * CELL, (height, width))
            lr, ref = cut(center, seen), cut(reference, scaled(seen, scale))
            base = _enlarged(lr, scale)
            values = self.lr_head(F.pixel_unshuffle(lr, _CELL))
            detail = _beyond(ref, base)
            cells = F.pixel_unshuffle(detail, _CELL * scale)
            values = self.body(values + self.ref_heads[str(scale)](cells))
            inner = reduced(within(window, seen), _CELL)
            part = cut(values, inner).float()
            total = total + part.sum(dim=(2, 3))
            sums = sums + totals(bands(lr, detail, scale), inner)
            count += part.shape[2] * part.shape[3]
        known = torch.cat([total / count, statistics(sums)], dim=1)
        result: torch.Tensor = self.tail(known.to(center.dtype))
        return result


class Block(nn.Module):
    """x + conv(lrelu(conv(x (1 + gamma)))), gamma from the vector: (B, features, H, W)."""

    def __init__(self, features: int, domain: int) -> None:
        super().__init__()
        self.conv1 = conv3x3(features, features)
        self.conv2 = conv3x3(features, features)
        self.gamma = nn.Linear(domain, features)
        with torch.no_grad():
            self.conv2.weight.mul_(0.1)
            self.gamma.weight.mul_(0.1)
            self.gamma.bias.zero_()

    def forward(self, x: torch.Tensor, vector: torch.Tensor) -> torch.Tensor:
        gamma = self.gamma(vector)[:, :, None, None]
        added: torch.Tensor = self.conv2(F.leaky_relu(self.conv1(x + gamma * x), _SLOPE))
        return x + added


def _sampled(height: int, width: int, tile: int | None) -> Iterator[Window]:
    """Windows of at most `tile` pixels a side that cover at most _SAMPLES x _SAMPLES squares."""

    def spans(side: int) -> list[tuple[int, int]]:
        if side <= _SAMPLES * _SQUARE:
            return [(start, min(side, start + _SQUARE)) for start in range(0, side, _SQUARE)]
        step = (side - _SQUARE) / (_SAMPLES - 1)
        starts = [int(step * n) // CELL * CELL for n in range(_SAMPLES)]
        return [(start, start + _SQUARE) for start in starts]

    for (top, bottom), (left, right) in product(spans(height), spans(width)):
        for part in windows(bottom - top, right - left, tile):
            yield top + part[0], left + part[1], top + part[2], left + part[3]


def _per_scale(config: DualSRConfig, head: Callable[[int], nn.Conv2d]) -> nn.ModuleDict:
    """A head for each scale, given the pixels of its result along a cell's side."""
    return nn.ModuleDict({str(scale): head(_CELL * scale) for scale in config.scales})


def _enlarged(lr: torch.Tensor, scale: int) -> torch.Tensor:
    """(B, 3, s * H, s * W): bicubic, then steps of back-projection (Irani and Peleg, 1991), by the
    antialiased bicubic filter that photos are mostly reduced by.
    """
    base = _bicubic(lr.float(), scale)
    for _ in range(_STEPS):
        base = _projected(base, lr)
    return base.to(lr.dtype)


def _projected(
    drawn: torch.Tensor, lr: torch.Tensor, share: torch.Tensor | float = 1.0
) -> torch.Tensor:
    """A step of back-projection: (B, 3, s * H, s * W), of whose difference from LR (B, 3, H, W),
    reduced, a share (B, 1, H, W), 0..1, is taken away.
    """
    precise = drawn.float()  # half precision has no antialiased filter everywhere
    small = F.interpolate(precise, lr.shape[2:], mode="bicubic", antialias=True)
    missing = _bicubic((lr - small) * share, drawn.shape[2] // lr.shape[2])
    return (precise + missing).to(drawn.dtype)


def _telling(lr: torch.Tensor, reference: torch.Tensor, scale: int) -> torch.Tensor:
    """(B, 1, s * h, s * w): how far the reference (B, 4, s * h, s * w) tells of LR (B, 3, h, w).

    How surely it lies there, times the square of how well the two agree about there, 0..1: what is
    hidden, moved or another scene's tells nothing of the lens.
    """
    height, width = (side // _CELL * _CELL for side in lr.shape[2:])
    weight = torch.zeros_like(reference[:, 3:])
    if height and width:
        whole = (0, 0, height, width)
        even, ref = cut(lr, whole), cut(reference, scaled(whole, scale))
        agreeing = maps(bands(even, _beyond(ref, _enlarged(even, scale)), scale))[:, :1]
        agreeing = F.interpolate(agreeing.clamp(min=0).square(), scale_factor=_CELL * scale)
        cut(weight, scaled(whole, scale)).copy_(agreeing * ref[:, 3:])
    return weight


def _finer(image: torch.Tensor) -> torch.Tensor:
    """Without its light, the mean around each pixel: (B, C, H, W)."""
    return image - _mean(image, _LIGHT)


def _mean(image: torch.Tensor, radius: int) -> torch.Tensor:
    """Of the square around each pixel, as far as there is one: down, then across, is faster."""
    down = F.avg_pool2d(image, (2 * radius + 1, 1), 1, (radius, 0), count_include_pad=False)
    return F.avg_pool2d(down, (1, 2 * radius + 1), 1, (0, radius), count_include_pad=False)


def _spread(shown: torch.Tensor, scale: int, far: int) -> torch.Tensor:
    """(B, 1, s * H, s * W) of 0 and 1 as 0..1, its edges over `far` LR pixels within what is 1."""
    low = F.avg_pool2d(shown.float(), scale)
    side = 2 * far + 1
    for length, pad in (((side, 1), (far, 0)), ((1, side), (0, far))):
        low = -F.max_pool2d(-low, length, 1, pad)  # the least around: the edge moves inwards
    # In double precision the same on any number of threads.
    spread = F.interpolate(_mean(low, far).double(), scale_factor=scale, mode="bilinear")
    return spread.float()


def _toned(reference: torch.Tensor, lr: torch.Tensor, scale: int) -> torch.Tensor:
    """The reference (B, 4, s * H, s * W), at the edges of what it shows in the light of LR.

    What is left of its own tone would end there in a line.
    """
    shown = (reference[:, 3:] > 0).float()
    colours, there = (F.avg_pool2d(each, scale) for each in (shown * reference[:, :3], shown))
    unlike, shares = (_mean(each, _LIGHT // scale) for each in (colours - lr * there, there))
    light = _bicubic(unlike / shares.clamp(min=1e-3), scale)
    given = (1 - _spread(shown, scale, _LIGHT_FADES)) * shown * light
    return torch.cat([(reference[:, :3] - given).to(reference.dtype), reference[:, 3:]], 1)


def _bicubic(image: torch.Tensor, scale: int) -> torch.Tensor:
    """(B, C, H, W) float32 -> (B, C, s * H, s * W), as `F.interpolate`'s, in half of its time.

    At a whole scale the s^2 pixels that one becomes are filters of the same 5 x 5. Unlike that, it
    gives the same on any number of threads.
    """
    batch, _, height, width = image.shape
    around = F.pad(image, (2, 2, 2, 2), mode="replicate").flatten(0, 1)[:, None]
    with torch.autocast(image.device.type, enabled=False):  # of half precision nothing is lost here
        made = F.conv2d(around, _cubic_filters(scale).to(image.device))
    return F.pixel_shuffle(made.reshape(batch, -1, height, width), scale)


def _mixture(
    lenses: torch.Tensor, shares: torch.Tensor, rest: torch.Tensor, scale: int
) -> torch.Tensor:
    """(B, s^2, 7, 7): of filters (L, s^2, 7, 7) by shares (B, L), and of bicubic by rest (B,)."""
    plain = rest[:, None, None, None] * _plain_filters(scale, lenses.device)
    return torch.einsum("bl,lpyx->bpyx", shares, lenses) + plain


def _plain_filters(scale: int, device: torch.device) -> torch.Tensor:
    """(s^2, 7, 7): `_bicubic`, among the estimates."""
    around = (RADIUS - 2,) * 4
    return F.pad(_cubic_filters(scale)[:, 0], around).to(device)


@cache
@torch.inference_mode(False)  # training uses it, too
def _cubic_filters(scale: int) -> torch.Tensor:
    """(s^2, 1, 5, 5): Keys' cubic convolution with a = -0.75, row by row of the new pixels."""
    places = (torch.arange(scale, dtype=torch.float64) + 0.5) / scale - 0.5
    x = (torch.arange(-2, 3) - places[:, None]).abs()  # (s, 5), in old pixels
    near = (1.25 * x - 2.25) * x**2 + 1
    far = -0.75 * (((x - 5) * x + 8) * x - 4)
    line = torch.where(x <= 1, near, torch.where(x < 2, far, torch.zeros_like(x)))
    return torch.einsum("ky,lx->klyx", line, line).reshape(scale**2, 1, 5, 5).float()


def _beyond(reference: torch.Tensor, base: torch.Tensor) -> torch.Tensor:
    """(B, 4, H, W): what the reference has that base has not, and how surely; 0 beside it."""
    sure = reference[:, 3:]
    return torch.cat([(reference[:, :3] - base) * (sure > 0), sure], dim=1)


def _moved(reference: torch.Tensor, base: torch.Tensor, flow: torch.Tensor) -> torch.Tensor:
    """The reference where the flow points to; its edge does not mix with the nothing beside it."""
    sure = reference[:, 3:]
    colours = torch.where(sure > 0, reference[:, :3], base)
    return warp(torch.cat([colours, sure], dim=1), flow, "border")
