"""Matching that a network can learn through: SDDuSR's straight-through estimator, section 3.2.

The paper keeps the matrix of all similarities S (eq. 2), its softmax over the keys and the
one-hot matrix of its maxima (eq. 3: one-hot forwards, softmax backwards), and multiplies with it:

    M = onehot(S) + softmax(S) - d(softmax(S)),  d stops gradients     (3)
    C = sum_i S_ij M_ij                                                (4)
    F = fold(P M * mask),  C * mask                                    (5)

Forwards this is a search and a reassembly. Backwards, with sigma the softmax, P_i the value
window of key i, U_j what arrives at query j's window and dC_j what arrives at its confidence,

    dM_ij = mask_j <P_i, U_j> + S_ij dC_j
    dS_ij = onehot_ij dC_j + sigma_ij (dM_ij - sum_l sigma_lj dM_lj)

of which the first term is the gradient of the similarity that was found. The second is made here
for some queries at a time, from the features once more, so that no matrix is ever held.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F

from dualsr_cli.matching.correspondence import Correspondence
from dualsr_cli.matching.reassembly import (
    Overlap,
    cells_of,
    divisor,
    extend,
    padded_cells_of,
    reassemble,
)
from dualsr_cli.matching.search import search

_HELD = 1 << 22  # elements of a block of the matrix: 16 MiB, or else a row of queries


def straight_through(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None = None,
    *,
    patch: int = 3,
    scale: int = 2,
    kernel: int | None = None,
    key_margin: int | None = None,
    query_margin: int | None = None,
    padding: str = "reflect",
    normalise: str = "count",
) -> tuple[torch.Tensor, Correspondence]:
    """Search and reassembly with gradients to the features, the value and the mask.

    query (B, C, Hq, Wq), key (B, C, Hk, Wk), value (B, Cv, scale * Hk, scale * Wk), floating. mask
    (B, Hq, Wq): Mask^LR, 0..1, a factor for each query's window and confidence; every query is
    matched all the same, as in the paper's training phase. padding goes for features and value;
    `reassemble` explains the other arguments.

    Returns F^Warp (B, Cv, scale * Hq, scale * Wq) and the Correspondence whose similarity is
    the confidence map C of eq. 5, times the mask. Gradients are those of the dense formulation; the
    divisor of the overlap counts as a constant. Patches without length, or that hold a NaN or
    infinity, give and take no gradient through the search. Raises ValueError for shapes that do
    not fit.
    """
    overlap = Overlap.of(patch, scale, kernel, key_margin, query_margin, padding, normalise)
    found = search(query.detach(), key.detach(), patch=patch, padding=padding)
    queries, _ = _unit_patches(query, patch, padding)
    keys, usable = _unit_patches(key, patch, padding)
    index = found.index.flatten(1)
    matched = keys.gather(1, index.clamp(min=0)[..., None].expand(-1, -1, keys.shape[2]))
    similarity = (queries * matched).sum(dim=2).masked_fill(index < 0, 0)
    confidence = similarity.view_as(found.index)
    warped = reassemble(
        value,
        found,
        patch=patch,
        scale=scale,
        kernel=kernel,
        key_margin=key_margin,
        query_margin=query_margin,
        padding=padding,
        normalise=normalise,
        weight=mask,
    )
    # Releases of PyTorch type `apply` differently.
    apply: Callable[..., tuple[torch.Tensor, torch.Tensor]] = _SoftmaxGradient.apply
    warped, confidence = apply(
        warped, confidence, queries, keys, usable, value, mask, found, overlap
    )
    if mask is not None:
        confidence = confidence * mask
    return warped, replace(found, similarity=confidence)


class _SoftmaxGradient(torch.autograd.Function):
    """Hands F and C on as they are; backwards it adds what came through the softmax of eq. 3."""

    @staticmethod
    def forward(
        ctx: Any,
        warped: torch.Tensor,
        confidence: torch.Tensor,
        queries: torch.Tensor,
        keys: torch.Tensor,
        usable: torch.Tensor,
        value: torch.Tensor,
        mask: torch.Tensor | None,
        found: Correspondence,
        overlap: Overlap,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        ctx.save_for_backward(queries, keys, usable, value, mask, found.index)
        ctx.key_size, ctx.overlap = found.key_size, overlap
        return warped, confidence

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(
        ctx: Any, to_warped: torch.Tensor, to_confidence: torch.Tensor
    ) -> tuple[torch.Tensor | None, ...]:
        if not any(ctx.needs_input_grad[2:4]):  # features that nobody trains
            return to_warped, to_confidence, *[None] * 7
        queries, keys, usable, value, mask, index = ctx.saved_tensors
        overlap: Overlap = ctx.overlap
        height, width = index.shape[1:]
        arriving = to_warped.to(queries.dtype) / divisor(index, ctx.key_size, overlap)
        weight = (index >= 0).to(queries.dtype)
        if mask is not None:
            weight = weight * mask
        to_queries, to_keys = torch.zeros_like(queries), torch.zeros_like(keys)
        band = max(1, _HELD // (width * keys.shape[1]))
        for n in range(len(queries)):
            windows = _WindowProducts(arriving[n], value[n].to(queries.dtype), overlap)
            for top in range(0, height, band):
                bottom = min(height, top + band)
                block = slice(top * width, bottom * width)
                similarity = queries[n, block] @ keys[n].t()
                gradient = windows.of(top, bottom)
                gradient *= weight[n, top:bottom].flatten()[:, None]
                gradient.addcmul_(similarity, to_confidence[n, top:bottom].flatten()[:, None])
                share = similarity.masked_fill_(~usable[n], -torch.inf).softmax(dim=1)
                share = share.nan_to_num()  # no key at all can be used
                gradient -= (share * gradient).sum(dim=1, keepdim=True)
                gradient *= share
                to_queries[n, block] = gradient @ keys[n]
                to_keys[n] += gradient.t() @ queries[n, block]
        return to_warped, to_confidence, to_queries, to_keys, None, None, None, None, None


class _WindowProducts:
    """<P_i, U_j> of one image: all value windows with what arrives at some queries' windows.

    Windows that lie `d` cells away from their own meet in cells that lie d away from theirs, so
    that the products of windows are sums of shifted products of cells: nothing is unfolded, and
    where windows consist of whole cells, (kernel / scale)^2 products become one.
    """

    def __init__(self, arriving: torch.Tensor, value: torch.Tensor, overlap: Overlap) -> None:
        """arriving: (Cv, scale * Hq, scale * Wq), value: (Cv, scale * Hk, scale * Wk)."""
        self._ends = before, after = overlap.before, overlap.after
        cells = cells_of(arriving, overlap.scale)
        self._width = cells.shape[1]
        self._key_size = value.shape[1] // overlap.scale, value.shape[2] // overlap.scale
        # What is folded beyond the output's border is lost: nothing arrives from there.
        self._arriving = F.pad(cells, (0, 0, 0, 0, 0, 0, before, after, before, after))
        grid = self._key_size[0] + before + after, self._key_size[1] + before + after
        read = padded_cells_of(value, overlap)[:-1]  # without the cell of zeros
        self._read = read.view(*grid, *cells.shape[2:])
        axis = overlap.neighbours()
        self._shifts: dict[tuple[int, int, int, int], list[tuple[int, int]]] = {}
        for down, rows in axis:
            for right, columns in axis:
                pixels = rows.start, rows.stop, columns.start, columns.stop
                self._shifts.setdefault(pixels, []).append((down, right))

    def of(self, top: int, bottom: int) -> torch.Tensor:
        """For the queries of some rows: (rows * Wq, Hk * Wk)."""
        before, after = self._ends
        keys, size = self._key_size, (bottom - top, self._width)
        rows = self._arriving[top : bottom + before + after]
        total = rows.new_zeros(*size, *keys)
        for (up, low, left, end), shifts in self._shifts.items():
            met = rows[:, :, up:low, left:end].flatten(2).flatten(0, 1)
            cells = self._read[:, :, up:low, left:end].flatten(2).flatten(0, 1)
            product = (met @ cells.t()).view(*rows.shape[:2], *self._read.shape[:2])
            for down, right in shifts:
                y, x = before - down, before - right
                total += product[y : y + size[0], x : x + size[1], y : y + keys[0], x : x + keys[1]]
        return total.flatten(2).flatten(0, 1)


def _unit_patches(
    features: torch.Tensor, patch: int, padding: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """All patches at length 1, (B, H * W, C * patch^2), and which can be used, (B, H * W) bool.

    A patch without length stays 0; one that holds a NaN or infinity is 0 and cannot be used.
    Neither lets a gradient through, whereas that of x / |x| would grow without bound.
    """
    if features.dtype != torch.float64:
        features = features.float()
    radius = patch // 2
    patches = F.unfold(extend(features, radius, radius, padding), patch).transpose(1, 2)
    usable = torch.isfinite(patches).all(dim=2)
    patches = patches.masked_fill(~usable[..., None], 0)
    square = patches.square().sum(dim=2, keepdim=True)
    return patches * (square > 0) * square.masked_fill(square == 0, 1).rsqrt(), usable
