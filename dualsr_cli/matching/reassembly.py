"""Reassembly: the reference's details laid where the search says that they belong.

Every query takes the value window of its key, and the windows overlap and are averaged: what the
papers write as unfold, gather, fold and a division. Here the unfolded map (kernel^2 / scale^2
values for each value pixel) is never held. The output is cut into cells of scale x scale
pixels; a cell's part of a neighbour's window is a whole cell of the value map (or a part of one),
so that each neighbour costs one gather of whole cells, all channels side by side.

| paper | arguments |
|---|---|
| TTSR, SDDuSR (eq. 5) | patch 3, padding "zeros", normalise "constant" |
| KeDuSR | scale 4, kernel 9, key_margin 2, query_margin 4, normalise "constant" |
| DCSR | patch 1: windows of one cell, which do not overlap |

KeDuSR reads windows that start 2 pixels before a key's cell and lays them 4 pixels before the
query's, so that all it takes over lies 2 pixels too far up and left; its weights have learned it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from dualsr_cli.matching.correspondence import Correspondence

_GATHERED = 1 << 20  # elements gathered at once: 4 MiB, which stay in a processor's cache
_LAUNCHED = 1 << 24  # the same on other devices, where few and large steps are quick
_COPIED = 1 << 24  # elements of a map copied at once: 64 MiB, or else one channel

NORMALISES = ("count", "constant")


@dataclass(frozen=True)
class Overlap:
    """How windows of `kernel` pixels are read around keys and laid around queries.

    All in value pixels. A key's window starts `key_margin` before the key's cell of `scale`
    pixels; it is laid so that it starts `query_margin` before the query's cell.
    """

    scale: int
    kernel: int
    key_margin: int
    query_margin: int
    padding: str
    normalise: str

    @classmethod
    def of(
        cls,
        patch: int,
        scale: int,
        kernel: int | None,
        key_margin: int | None,
        query_margin: int | None,
        padding: str,
        normalise: str,
    ) -> Overlap:
        """With what was left out filled in. Raises ValueError for what cannot be."""
        kernel = scale * patch if kernel is None else kernel
        key_margin = scale * (patch // 2) if key_margin is None else key_margin
        query_margin = key_margin if query_margin is None else query_margin
        if patch < 1 or patch % 2 == 0:
            raise ValueError(f"a patch of {patch} has no centre: take an odd size")
        if scale < 1 or kernel < scale:
            raise ValueError(f"a kernel of {kernel} at scale {scale} leaves pixels out")
        if not (0 <= key_margin <= kernel - scale and 0 <= query_margin <= kernel - scale):
            raise ValueError(
                f"margins of {key_margin} and {query_margin} pixels: a kernel of {kernel} at "
                f"scale {scale} holds its own cell with margins from 0 to {kernel - scale}"
            )
        for word, known in ((padding, ("reflect", "zeros")), (normalise, NORMALISES)):
            if word not in known:
                raise ValueError(f"{word!r} is unknown: take one of {', '.join(known)}")
        return cls(scale, kernel, key_margin, query_margin, padding, normalise)

    @property
    def constant(self) -> float:
        """How many windows lie on an output pixel, on average: exact where scale | kernel."""
        return (self.kernel / self.scale) ** 2

    def neighbours(self) -> list[tuple[int, slice]]:
        """Along one axis: which queries' windows reach a cell, and which of its pixels.

        Offset d stands for the query d cells further on, whose window holds pixel y of this cell
        at its own pixel y - scale * d + query_margin.
        """
        found = []
        for offset in range(-self.after, self.before + 1):
            start = self.scale * offset - self.query_margin
            found.append((offset, slice(max(0, start), min(self.scale, start + self.kernel))))
        return found

    @property
    def before(self) -> int:
        """How many cells before its own a window starts where it is laid."""
        return -(-self.query_margin // self.scale)

    @property
    def after(self) -> int:
        """How many cells after its own a window ends where it is laid."""
        return -(-(self.kernel - self.scale - self.query_margin) // self.scale)

    def pad(self, value: torch.Tensor) -> torch.Tensor:
        """A value map (B, C, H, W) with what the windows of its border keys reach beyond it."""
        after = self.kernel - self.scale - self.key_margin
        return extend(value, self.key_margin, after, self.padding)


def extend(maps: torch.Tensor, before: int, after: int, padding: str) -> torch.Tensor:
    """Maps (B, C, H, W) with `before` and `after` more rows and columns, as `padding` says.

    "reflect" repeats the border itself along an axis that is too short to be mirrored.
    """
    for axis, ends in ((2, (0, 0, before, after)), (3, (before, after, 0, 0))):
        mode = "constant"
        if padding == "reflect":
            mode = "reflect" if max(before, after) < maps.shape[axis] else "replicate"
        maps = F.pad(maps, ends, mode=mode)
    return maps


def reassemble(
    value: torch.Tensor,
    correspondence: Correspondence,
    *,
    patch: int = 3,
    scale: int = 2,
    kernel: int | None = None,
    key_margin: int | None = None,
    query_margin: int | None = None,
    padding: str = "reflect",
    normalise: str = "count",
    weight: torch.Tensor | None = None,
) -> torch.Tensor:
    """The value windows of the queries' keys, overlapped and averaged.

    value: (B, Cv, scale * Hk, scale * Wk), any floating type; the sums are made in float32 at
    least. Returns (B, Cv, scale * Hq, scale * Wq) of the same type: 0 where nothing contributes.

    kernel: the window's side in value pixels, by default scale * patch. key_margin: pixels by
    which the window starts before its key's cell of scale x scale, by default scale * (patch //
    2). query_margin: the same where it is laid, by default key_margin. padding: what windows
    find beyond the value map, "reflect" or "zeros".

    normalise: "count" divides each pixel by the number of windows that bring it a pixel of the
    value map, mirrored or not: right at borders, beside queries that have no key, and beside keys
    at the border of a map padded with zeros. "constant" divides by (kernel / scale)^2 everywhere.
    weight: (B, Hq, Wq), a factor for each query's window; the divisor knows nothing of it.

    Gradients flow to value and weight. Raises ValueError for shapes that do not fit.
    """
    overlap = Overlap.of(patch, scale, kernel, key_margin, query_margin, padding, normalise)
    index = correspondence.index
    keys = correspondence.key_size
    if value.ndim != 4:
        raise ValueError(f"value {tuple(value.shape)} is not (B, C, H, W)")
    _check(len(value), tuple(value.shape[2:]), index, keys, scale, weight)
    apply: Callable[..., torch.Tensor] = _OverlapAdd.apply
    return apply(value, weight, index, keys, overlap, divisor(index, keys, overlap))


class Values:
    """A value map that is laid out once and reassembled from many times, window by window.

    `reassemble` does with it what the function of that name does, for any part of a map of queries,
    without gradients. Takes what the function takes, and a copy of the value map in memory.
    """

    def __init__(
        self,
        value: torch.Tensor,
        *,
        patch: int = 3,
        scale: int = 2,
        kernel: int | None = None,
        key_margin: int | None = None,
        query_margin: int | None = None,
        padding: str = "reflect",
        normalise: str = "count",
    ) -> None:
        self._overlap = Overlap.of(
            patch, scale, kernel, key_margin, query_margin, padding, normalise
        )
        self._size = tuple(value.shape[2:])
        with torch.no_grad():
            laid = _laid_out(value.detach(), self._overlap)
            self._laid = _Laid(laid.shape, laid.dtype, list(laid.pieces))

    def reassemble(
        self, correspondence: Correspondence, weight: torch.Tensor | None = None
    ) -> torch.Tensor:
        """(B, Cv, scale * Hq, scale * Wq). Raises ValueError for shapes that do not fit."""
        overlap, index, keys = self._overlap, correspondence.index, correspondence.key_size
        _check(self._laid.shape[0], self._size, index, keys, overlap.scale, weight)
        divide = divisor(index, keys, overlap)
        with torch.no_grad():
            return _overlap_add(self._laid, weight, index, keys, overlap, divide)


def _check(
    batch: int,
    size: tuple[int, ...],
    index: torch.Tensor,
    keys: tuple[int, int],
    scale: int,
    weight: torch.Tensor | None,
) -> None:
    if index.ndim != 3 or batch != index.shape[0]:
        raise ValueError(f"index {tuple(index.shape)} is not (B, H, W) with the same B: {batch}")
    if size != (scale * keys[0], scale * keys[1]):
        raise ValueError(f"a value map of {size} is not {scale} x the keys' {keys}")
    if weight is not None and weight.shape != index.shape:
        raise ValueError(f"weight is {tuple(weight.shape)}, not {tuple(index.shape)}")


def divisor(
    index: torch.Tensor, key_size: tuple[int, int], overlap: Overlap
) -> torch.Tensor | float:
    """What the sum of windows is divided by: (B, 1, H, W) float32, at least 1, or a number."""
    if overlap.normalise == "constant":
        return overlap.constant
    ones = torch.ones(1, 1, *(overlap.scale * side for side in key_size), device=index.device)
    with torch.no_grad():
        ones = ones.expand(len(index), -1, -1, -1)
        return _overlap_add(_laid_out(ones, overlap), None, index, key_size, overlap, 1).clamp_(
            min=1
        )


class _OverlapAdd(torch.autograd.Function):
    """The sum of windows over `divide`, and its adjoints, block by block."""

    @staticmethod
    def forward(
        ctx: Any,
        value: torch.Tensor,
        weight: torch.Tensor | None,
        index: torch.Tensor,
        key_size: tuple[int, int],
        overlap: Overlap,
        divide: torch.Tensor | float,
    ) -> torch.Tensor:
        ctx.save_for_backward(value, weight, index)
        ctx.key_size, ctx.overlap, ctx.divide = key_size, overlap, divide
        return _overlap_add(_laid_out(value, overlap), weight, index, key_size, overlap, divide)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        value, weight, index = ctx.saved_tensors
        overlap: Overlap = ctx.overlap
        work = _working_type(value)
        gradient = gradient.to(work) / ctx.divide
        to_value = torch.zeros_like(value) if ctx.needs_input_grad[0] else None
        to_weight = None
        if weight is not None and ctx.needs_input_grad[1]:
            to_weight = torch.zeros_like(weight, dtype=work)
        for n, channels in _parts(value):
            with torch.enable_grad():  # the padding's adjoint is torch's own
                part = value[n, channels].detach().to(work).requires_grad_()
                cells = padded_cells_of(part, overlap)
            to_cells = torch.zeros_like(cells)
            arriving = cells_of(gradient[n, channels], overlap.scale).contiguous()
            for step in _steps(index[n], ctx.key_size, overlap, arriving.shape[2:].numel()):
                laid = arriving.new_zeros(*step.places.shape, *arriving.shape[2:])
                inside = (..., *step.pixels, slice(None))
                laid[inside] = arriving[step.output][inside]
                laid = laid.flatten(2)
                if to_weight is not None:
                    windows = cells.detach()[step.places]
                    to_weight[n][step.queries] += (windows * laid).sum(dim=2)
                if to_value is not None:
                    if weight is not None:
                        laid = laid * weight[n][step.queries].to(work)[..., None]
                    to_cells.index_add_(0, step.places.flatten(), laid.flatten(0, 1))
            if to_value is not None:
                (to_part,) = torch.autograd.grad(cells, part, to_cells)
                to_value[n, channels] = to_part.to(value.dtype)
        if to_weight is not None:
            to_weight = to_weight.to(weight.dtype)
        return to_value, to_weight, None, None, None, None


@dataclass(frozen=True, eq=False)
class _Piece:
    """Some channels of image n of a value map, as `padded_cells_of` has them."""

    n: int
    channels: slice
    cells: torch.Tensor


@dataclass(frozen=True, eq=False)
class _Laid:
    """A value map (B, channels, ...) as pieces, made one by one or held."""

    shape: tuple[int, int]
    dtype: torch.dtype
    pieces: Iterable[_Piece]


def _laid_out(value: torch.Tensor, overlap: Overlap) -> _Laid:
    pieces = (
        _Piece(n, channels, padded_cells_of(value[n, channels], overlap))
        for n, channels in _parts(value)
    )
    return _Laid((value.shape[0], value.shape[1]), value.dtype, pieces)


def _overlap_add(
    laid: _Laid,
    weight: torch.Tensor | None,
    index: torch.Tensor,
    key_size: tuple[int, int],
    overlap: Overlap,
    divide: torch.Tensor | float,
) -> torch.Tensor:
    scale = overlap.scale
    work = torch.promote_types(laid.dtype, torch.float32)
    height, width = index.shape[1:]
    # Channels side by side, as they are gathered.
    output = torch.empty(
        (laid.shape[0], scale * height, scale * width, laid.shape[1]),
        dtype=laid.dtype,
        device=index.device,
    )
    for piece in laid.pieces:
        n, channels, cells = piece.n, piece.channels, piece.cells
        count = channels.stop - channels.start
        target = output[n].view(height, scale, width, scale, -1)[..., channels]
        rows, total = slice(0, 0), cells
        for step in _steps(index[n], key_size, overlap, cells.shape[1]):
            if step.rows != rows:
                _write(target, rows, total, divide, n)
                rows = step.rows
                size = rows.stop - rows.start, width, scale, scale, count
                total = cells.new_zeros(size, dtype=work)
            windows = cells.index_select(0, step.places.flatten()).to(work)
            windows = windows.view(*step.places.shape, scale, scale, count)
            if weight is not None:
                windows *= weight[n][step.queries].to(work)[..., None, None, None]
            inside = (..., *step.pixels, slice(None))
            total[step.within][inside] += windows[inside]
        _write(target, rows, total, divide, n)
    return output.permute(0, 3, 1, 2)


def _write(
    target: torch.Tensor, rows: slice, total: torch.Tensor, divide: torch.Tensor | float, n: int
) -> None:
    """Finished cells `total` (rows, W, s, s, C) divided and put into target (H, s, W, s, C)."""
    if rows.stop == rows.start:
        return
    scale = target.shape[1]
    if isinstance(divide, torch.Tensor):
        lines = divide[n, 0, rows.start * scale : rows.stop * scale]
        cells = lines.view(rows.stop - rows.start, scale, -1, scale).transpose(1, 2)
        total /= cells[..., None]
    else:
        total /= divide
    target[rows] = total.transpose(1, 2).to(target.dtype)


@dataclass(frozen=True)
class _Step:
    """One neighbour's contribution to a band of output cells.

    rows: the band. within: which of its cells, counted from the band's first row; output: the
    same counted from the map's; queries: whose windows; pixels: which of a cell's. places: the
    cells of the value map to be gathered, (rows, columns).
    """

    rows: slice
    within: tuple[slice, slice]
    output: tuple[slice, slice]
    queries: tuple[slice, slice]
    pixels: tuple[slice, slice]
    places: torch.Tensor


def _steps(
    index: torch.Tensor, key_size: tuple[int, int], overlap: Overlap, cell: int
) -> Iterator[_Step]:
    """All contributions to one image's output, band after band; `cell` elements a cell."""
    height, width = index.shape
    before, after = overlap.before, overlap.after
    columns = key_size[1] + before + after
    last = (key_size[0] + before + after) * columns  # the cell of zeros
    most = _GATHERED if index.device.type == "cpu" else _LAUNCHED
    band = max(1, most // max(1, width * cell))
    axis = overlap.neighbours()
    for start in range(0, height, band):
        stop = min(height, start + band)
        for down, pixel_rows in axis:
            top, bottom = max(start, -down), min(stop, height - down)
            if bottom <= top:
                continue
            keys = index[top + down : bottom + down]
            rows = torch.div(keys, key_size[1], rounding_mode="floor")
            # Row and column of the key's own cell on the padded grid of cells.
            places = (rows + before) * columns + keys - rows * key_size[1] + before
            places = torch.where(keys < 0, last, places)
            for right, pixel_columns in axis:
                left, end = max(0, -right), min(width, width - right)
                if end <= left:
                    continue
                chosen = places[:, left + right : end + right]
                moved = chosen - (down * columns + right)
                yield _Step(
                    slice(start, stop),
                    (slice(top - start, bottom - start), slice(left, end)),
                    (slice(top, bottom), slice(left, end)),
                    (slice(top + down, bottom + down), slice(left + right, end + right)),
                    (pixel_rows, pixel_columns),
                    torch.where(chosen == last, last, moved),
                )


def _parts(value: torch.Tensor) -> Iterator[tuple[int, slice]]:
    """Images and groups of channels that are worked on one after the other."""
    channels = value.shape[1]
    group = max(1, _COPIED // max(1, value.shape[2:].numel()))
    for n in range(len(value)):
        for first in range(0, channels, group):
            yield n, slice(first, min(channels, first + group))


def padded_cells_of(value: torch.Tensor, overlap: Overlap) -> torch.Tensor:
    """The padded value map (C, H, W) as cells (n + 1, scale * scale * C); the last one is zeros.

    Pixel y of cell a lies at a key's row + query_margin - key_margin, so that windows are cut
    into whole cells where they are laid.
    """
    scale = overlap.scale
    padded = overlap.pad(value[None])
    first = scale * overlap.before - overlap.query_margin
    rest = scale * overlap.after - (overlap.kernel - scale - overlap.query_margin)
    cells = cells_of(F.pad(padded, (first, rest, first, rest))[0], scale)
    return F.pad(cells.flatten(2).flatten(0, 1), (0, 0, 0, 1))


def cells_of(maps: torch.Tensor, scale: int) -> torch.Tensor:
    """(C, scale * H, scale * W) as (H, W, scale, scale, C)."""
    channels, height, width = maps.shape
    split = maps.reshape(channels, height // scale, scale, width // scale, scale)
    return split.permute(1, 3, 2, 4, 0)


def _working_type(value: torch.Tensor) -> torch.dtype:
    return torch.float64 if value.dtype == torch.float64 else torch.float32
