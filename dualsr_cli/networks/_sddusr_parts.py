"""What SDDuSR adds to its trunk: mask generator, token dictionaries, fusion by CBAM blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import nn

from dualsr_cli.networks._pooled import Pooled
from dualsr_cli.networks._windows import cut, grown, within
from dualsr_cli.networks.contract import windows

_PLACES = 1 << 14  # of a map that are scored at a time: 8 MiB with 128 tokens


class MaskGenerator(nn.Module):
    """F_M -> where matching is worth its while (3.2): 1 at high frequencies, 0 at low ones.

    The paper names its models, DynamicViT and CAMixer, and no layers. As in DynamicViT's
    predictor half of the features see their place and half the mean over the map, since "rich in
    detail" is meant relative to the image; a 3x3 convolution in place of its first linear layer,
    since a frequency needs neighbours. Two numbers a place decide, as in both.
    """

    def __init__(self, features: int, hidden: int) -> None:
        super().__init__()
        self.enter = nn.Sequential(nn.Conv2d(features, hidden, 3, padding=1), nn.LeakyReLU(0.1))
        self.decide = nn.Sequential(
            nn.Conv2d(hidden, hidden // 2, 1), nn.LeakyReLU(0.1), nn.Conv2d(hidden // 2, 2, 1)
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(B, C, h, w), a whole map -> (B, 2, h, w): for and against a match, before a softmax."""
        place, context = self.enter(features).chunk(2, dim=1)
        context = context.mean(dim=(2, 3), keepdim=True).expand_as(place)
        scores: torch.Tensor = self.decide(torch.cat((place, context), dim=1))
        return scores.float()

    def sample(self, features: torch.Tensor) -> torch.Tensor:
        """In training: (B, h, w), 0 or 1 by Gumbel-softmax, with the gradient of its softmax."""
        sampled: torch.Tensor = F.gumbel_softmax(self(features), tau=1.0, hard=True, dim=1)
        return sampled[:, 0]

    def choose(self, features: torch.Tensor) -> torch.Tensor:
        """At inference: (B, h, w) bool, the likelier of the two."""
        scores: torch.Tensor = self(features)
        return scores[:, 0] > scores[:, 1]


@dataclass(frozen=True, eq=False)
class Dictionaries:
    """D^LRC and D^Ref of each image after the updating phase, both (B, N, d)."""

    lrc: torch.Tensor
    ref: torch.Tensor


class TokenDictionaries(nn.Module):
    """Token dictionary learning, section 3.3: what the Ref has, abstracted into N tokens.

    Two dictionaries of N x d are learned and updated from each image; the update is that image's
    own, nothing of it persists. The softmaxes have no divisor, as in eq. 6 and 10.

    The fully connected layers stand where they cost least. Q K^T = (Q W) F^T for K = F W^T, and
    A (F W^T + b) = (A F) W^T + b as each row of A sums to 1: so no map of keys or values is made,
    only their products with N tokens. Keys have no bias: it would add the same to all scores of a
    softmax.
    """

    def __init__(self, tokens: int, features: int) -> None:
        super().__init__()
        self.lrc = nn.Parameter(torch.randn(tokens, features))
        self.ref = nn.Parameter(torch.randn(tokens, features))
        self.keep = nn.Parameter(torch.zeros(()))  # s is its sigmoid: 0.5 at first
        self.query_up = nn.Linear(features, features)
        self.key_up = nn.Linear(features, features, bias=False)
        self.value_up_lrc = nn.Linear(features, features)
        self.value_up_ref = nn.Linear(features, features)
        self.query = nn.Linear(features, features)
        self.key = nn.Linear(features, features, bias=False)
        self.value = nn.Linear(features, features)

    def update(self, lrc: torch.Tensor, ref: torch.Tensor) -> Dictionaries:
        """Updating phase (eq. 6-9), once an image: F^LRC and F_align^Ref, both (B, d, H, W)."""
        query = self.query_up(self.lrc) @ self.key_up.weight  # (N, d)
        in_lrc, in_ref = _attended(query, lrc.flatten(2), ref.flatten(2))
        keep = self.keep.sigmoid()
        return Dictionaries(
            keep * self.lrc + (1 - keep) * self.value_up_lrc(in_lrc),
            keep * self.ref + (1 - keep) * self.value_up_ref(in_ref),
        )

    def learn(self, lr: torch.Tensor, dictionaries: Dictionaries) -> torch.Tensor:
        """Learning phase (eq. 10-11): F^LR (B, d, H, W), any part -> F^Dict of the same shape."""
        key = self.key(dictionaries.lrc)  # (B, N, d)
        value = self.value(dictionaries.ref)
        query = (key @ self.query.weight).transpose(1, 2)  # (B, d, N): K_L W, as in `update`
        bias = (key @ self.query.bias[:, None]).transpose(1, 2)  # (B, 1, N)
        found = []
        for places in torch.split(lr.flatten(2).transpose(1, 2), _PLACES, dim=1):
            scores = torch.baddbmm(bias, places, query)  # (B, places of this part, N)
            found.append(scores.softmax(dim=2) @ value)
        return torch.cat(found, dim=1).transpose(1, 2).view(lr.shape)


def _attended(
    query: torch.Tensor, lrc: torch.Tensor, ref: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """softmax(query lrc) lrc^T and softmax(query lrc) ref^T, both (B, N, d); maps (B, d, places).

    The softmax runs over all places of an image, some at a time, with a running maximum and sum,
    in float32 at least: millions of small shares make one sum.
    """
    work = torch.promote_types(lrc.dtype, torch.float32)
    with torch.autocast(lrc.device.type, enabled=False):
        query = query.to(work)
        highest = query.new_full((len(lrc), len(query), 1), -torch.inf)
        total = torch.zeros_like(highest)
        sums = query.new_zeros(len(lrc), len(query), 2 * lrc.shape[1])
        for start in range(0, lrc.shape[2], _PLACES):
            part = (..., slice(start, start + _PLACES))
            places = torch.cat((lrc[part], ref[part]), dim=1).to(work)  # (B, 2 * d, places)
            scores = query @ places[:, : lrc.shape[1]]  # (B, N, places)
            top = torch.maximum(highest, scores.detach().amax(dim=2, keepdim=True))
            shares, shrink = (scores - top).exp(), (highest - top).exp()
            total = total * shrink + shares.sum(dim=2, keepdim=True)
            sums = sums * shrink + shares @ places.transpose(1, 2)
            highest = top
        in_lrc, in_ref = (sums / total).to(lrc.dtype).chunk(2, dim=2)
    return in_lrc, in_ref


class CBAMBlock(nn.Module):
    """A residual block with channel, then spatial attention (Woo et al., 2018)."""

    def __init__(self, features: int, reduction: int = 16) -> None:
        super().__init__()
        hidden = max(4, features // reduction)  # of one rectifier nothing may be left
        self.body = nn.Sequential(
            nn.Conv2d(features, features, 3, padding=1),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(features, features, 3, padding=1),
        )
        self.channel = nn.Sequential(
            nn.Conv2d(features, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, features, 1)
        )
        self.spatial = nn.Conv2d(2, 1, 7, padding=3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W), a whole image -> the same."""
        detail: torch.Tensor = self.body(x)
        mean = detail.mean(dim=(2, 3), keepdim=True)
        return x + self.attend(detail, self.gate(mean, detail.amax(dim=(2, 3), keepdim=True)))

    def gate(self, mean: torch.Tensor, highest: torch.Tensor) -> torch.Tensor:
        """Channel attention of `body`'s mean and maximum over the image, all (B, C, 1, 1)."""
        gate: torch.Tensor = (self.channel(mean) + self.channel(highest)).sigmoid()
        return gate

    def attend(self, detail: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:
        """What the block adds, from `body`'s result (B, C, H, W) or a part with 3 pixels around."""
        detail = detail * gate
        seen = torch.cat((detail.amax(dim=1, keepdim=True), detail.mean(dim=1, keepdim=True)), 1)
        where: torch.Tensor = self.spatial(seen).sigmoid()
        return detail * where


class Fusion(nn.Module):
    """F^SR of eq. 1: F^LR, h(C) F^Warp and F^Dict side by side, made one by CBAM blocks."""

    def __init__(self, parts: int, features: int, blocks: int) -> None:
        super().__init__()
        self.enter = nn.Sequential(
            nn.Conv2d(parts * features, features, 3, padding=1), nn.LeakyReLU(0.2, inplace=True)
        )
        self.blocks = nn.ModuleList(CBAMBlock(features) for _ in range(blocks))
        self.leave = nn.Conv2d(features, features, 3, padding=1)

    def forward(self, parts: torch.Tensor) -> torch.Tensor:
        """(B, parts * features, H, W), a whole image -> (B, features, H, W)."""
        x = self.enter(parts)
        for block in self.blocks:
            x = block(x)
        fused: torch.Tensor = self.leave(x)
        return fused

    def refine(self, x: torch.Tensor, tile: int | None) -> None:
        """What the blocks make of all that has entered, (B, features, H, W), in its place.

        tile: the side of the windows that are worked on. A block wants the mean and maximum over
        the image, so that each half of it goes over all windows, and one more map like x is held.
        """
        detail = torch.empty_like(x)
        size = x.shape[2:]
        places = windows(size[0], size[1], tile)
        for block in cast(Sequence[CBAMBlock], self.blocks):
            pooled = Pooled()
            for window in places:
                near = grown(window, 2, size)  # what two convolutions see
                seen = cut(block.body(cut(x, near)), within(window, near))
                cut(detail, window).copy_(seen)
                pooled.add(seen)
            gate = block.gate(*pooled.found())
            for window in places:
                near = grown(window, 3, size)  # what the spatial attention sees
                added = block.attend(cut(detail, near), gate)
                cut(x, window).add_(cut(added, within(window, near)))
