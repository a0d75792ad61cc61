"""AlignedPair -> Photo's pixels: the wide photo enlarged, tile by tile, with the tele's detail.

What is held beside the input is the output's pixels and one tile; a tile's result does not depend
on the tiling, for its window has the margin that the operators need.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from dualsr_cli.alignment import AlignedPair, Box, Floats
from dualsr_cli.errors import AlignmentError, UsageError
from dualsr_cli.photos import Photo
from dualsr_cli.reconstruction import _resampling as resampling
from dualsr_cli.reconstruction import detail_transfer as detail
from dualsr_cli.reconstruction import patch_transfer as patch
from dualsr_cli.reconstruction.canvas import Canvas, Reconstruction, outputs_in

Progress = Callable[[str, int, int], None]

TILE = 256  # wide pixels
TILE_THREADS = min(os.cpu_count() or 1, 8)
MAX_DEFAULT_SCALE = 4.0
MAX_DEFAULT_PIXELS = 200_000_000
MAX_SCALE = 16.0
_SAMPLES = 4  # windows down and across that the agreement is measured in


def check_scale(scale: float) -> None:
    """Raise UsageError for a scale out of range."""
    if not 1 <= scale <= MAX_SCALE:
        raise UsageError(f"--scale {scale:g} is not between 1 and {MAX_SCALE:g}")


def default_scale(wide: Photo, aligned: AlignedPair | None) -> float:
    """The pair's ratio, at most 4 and at most 200 megapixels of output; 2 without a tele photo."""
    ratio = 2.0 if aligned is None else min(aligned.ratio, MAX_DEFAULT_SCALE)
    room = float((MAX_DEFAULT_PIXELS / (wide.width * wide.height)) ** 0.5)
    # A ratio within 2 % of a whole number is that number: lenses are sold so, and it is faster.
    if abs(ratio - round(ratio)) < 0.02 * ratio:
        ratio = float(round(ratio))
    return max(1.0, min(ratio, room))


def measure(aligned: AlignedPair, scale: float = 2.0, device: str = "cpu") -> detail.Agreement:
    """What the pair's common bands say, from windows spread over the footprint.

    `scale` is that of the result: noise is measured in the detail that would be added.

    Raises AlignmentError where the tele photo has nothing true to give: "does-not-fit" (what it
    shows disagrees with the wide photo), "blurred" (no finer than the wide photo).
    """
    where = torch.device(device)

    def look(core: Box) -> tuple[npt.NDArray[np.float64], Floats]:
        with torch.inference_mode():
            window = _window(aligned, core, max(scale, 1.5), where)
            if window is None:
                return np.zeros((2, 2, 4)), np.zeros(0, np.float32)
            return detail.moments(window), detail.energies(window)

    with tile_pool() as pool:
        sums, energies = zip(*pool.map(look, _samples(aligned.box)), strict=True)
    found = detail.agreement(np.sum(sums, axis=0), np.concatenate(energies), scale)
    wide, tele = aligned.wide.path.name, aligned.tele.path.name
    if found.tele_blurred:
        raise AlignmentError(
            "blurred",
            f"{tele} is less sharp than {wide} itself (blurred or out of focus): choose a sharper "
            "tele photo",
        )
    if max(found.correlation) < 0.15:
        raise AlignmentError(
            "does-not-fit",
            f"{tele} does not fit {wide} finely enough (their details correlate by only "
            f"{max(found.correlation):.2f}): choose the tele photo that was taken with it",
        )
    return found


def learn(
    aligned: AlignedPair, agreement: detail.Agreement, scale: float, device: str = "cpu"
) -> patch.Patches | None:
    """Patches of the footprint with their detail; None where no detail was taken."""
    where = torch.device(device)
    factor = patch.factor_of(scale)
    cores = _samples(aligned.box)

    def keys(numbered: tuple[int, Box]) -> tuple[torch.Tensor, torch.Tensor] | None:
        seed, core = numbered
        with torch.inference_mode():
            window = _window(aligned, core, float(factor), where)
            if window is None:
                return None
            taken, share = detail.transfer(window, agreement)
            usable = (window.valid > 0.99) & (share > 0.05)
            return patch.sample(window.wide, taken, usable, patch.KEYS // len(cores), seed)

    with tile_pool() as pool:
        found = [part for part in pool.map(keys, enumerate(cores)) if part is not None]
    if sum(len(part[0]) for part in found) == 0:
        return None
    with torch.inference_mode():
        return patch.Patches(
            torch.cat([part[0] for part in found]), torch.cat([part[1] for part in found]), factor
        )


def _samples(box: Box) -> list[Box]:
    """At most _SAMPLES x _SAMPLES tiles spread evenly over a box."""
    top, left, bottom, right = box
    height, width = min(TILE, bottom - top), min(TILE, right - left)
    down = np.linspace(top, bottom - height, min(_SAMPLES, max(1, (bottom - top) // height)))
    across = np.linspace(left, right - width, min(_SAMPLES, max(1, (right - left) // width)))
    return [(round(y), round(x), round(y) + height, round(x) + width) for y in down for x in across]


def reconstruct(
    wide: Photo,
    aligned: AlignedPair | None,
    scale: float,
    *,
    agreement: detail.Agreement | None = None,
    box: Box | None = None,
    device: str = "cpu",
    progress: Progress = lambda stage, done, total: None,
) -> Reconstruction:
    """The wide photo (or `box` of it) at `scale`, 1..16, with detail where a tele is aligned.

    `agreement` is what `measure` gave for the pair. Each output pixel's centre lies at
    (x + 0.5) / scale - 0.5 of the wide photo. Raises UsageError for a scale out of range.
    """
    check_scale(scale)
    box = box or (0, 0, wide.height, wide.width)
    if aligned is not None and agreement is None:
        agreement = measure(aligned, scale, device)
    patches = None
    if aligned is not None and agreement is not None:
        patches = learn(aligned, agreement, scale, device)
    source = _Source(wide, aligned, agreement, patches, scale, torch.device(device))
    canvas = Canvas(wide, box, scale)
    tiles = list(_tiles(box))
    progress("upscale", 0, len(tiles))

    def make(core: Box) -> None:
        with torch.inference_mode():
            result, rows, columns, shares = _tile(source, core)
            top, bottom = outputs_in(core[0], core[2], scale)
            left, right = outputs_in(core[1], core[3], scale)
            part = result[:, top - rows.first : bottom - rows.first]
            canvas.put(core, part[:, :, left - columns.first : right - columns.first])
        if shares:
            canvas.tell(core, *shares)

    with tile_pool() as pool:
        for done, _ in enumerate(pool.map(make, tiles), 1):
            progress("upscale", done, len(tiles))
    return canvas.finished()


def tile_pool() -> ThreadPoolExecutor:
    """A thread a core, each of which runs its torch operations on one core alone.

    A tile's operations are too small to be shared out well; whole tiles are shared out instead.
    """
    return ThreadPoolExecutor(TILE_THREADS, initializer=lambda: torch.set_num_threads(1))


@dataclass(frozen=True, eq=False)
class _Source:
    """What every tile is made from."""

    wide: Photo
    aligned: AlignedPair | None
    agreement: detail.Agreement | None
    patches: patch.Patches | None
    scale: float
    device: torch.device


def _tile(
    source: _Source, core: Box
) -> tuple[torch.Tensor, resampling.Axis, resampling.Axis, tuple[()] | tuple[Floats, Floats]]:
    """The window around a tile at the output's resolution and its axes.

    Then the shares (h, w), of the tile alone, of detail from the tele and from matched patches.
    """
    rows, columns = _axes(core, source.scale, source.device)
    wide = _wide_window(source.wide, core, source.device)
    result = resampling.enlarge(wide, rows, columns)
    if source.aligned is None or source.agreement is None:
        return result, rows, columns, ()
    valid = share = torch.zeros_like(wide[0])
    window = _window(source.aligned, core, source.scale, source.device)
    if window is not None:
        taken, share = detail.transfer(window, source.agreement)
        result += taken
        valid = window.valid
    matched = torch.zeros_like(share)
    if source.patches is not None and bool((valid < 1).any()):
        start = _extent(core)[:2]
        found, matched = patch.transfer(wide, source.patches, rows, columns, valid < 1, start)
        result += detail.spread(1 - valid, rows, columns) * found
        matched = matched * (1 - valid)
    # Shares vary over the picture, so that a little of the detail shows in the reduction.
    reduced = resampling.reduce(result, rows, columns)
    result += resampling.enlarge(wide - reduced, rows, columns)
    margin = resampling.MARGIN
    inside = (slice(margin, -margin), slice(margin, -margin))
    direct, other = (part[inside].clamp(0, 1).cpu().numpy() for part in (share, matched))
    return result, rows, columns, (direct, other)


def _window(
    aligned: AlignedPair, core: Box, scale: float, device: torch.device
) -> detail.Window | None:
    """The wide and tele photo in and around a tile; None where the tele shows nothing of it."""
    top, left, height, width = _extent(core)
    valid = detail.faded(aligned, top, left, height, width)
    if not valid.any():
        return None
    rows, columns = _axes(core, scale, device)
    tele, _ = aligned.tele_at(_positions(rows), _positions(columns))
    return detail.Window(
        _wide_window(aligned.wide, core, device),
        torch.from_numpy(np.ascontiguousarray(tele.transpose(2, 0, 1))).to(device),
        torch.from_numpy(valid).to(device),
        rows,
        columns,
    )


def _wide_window(wide: Photo, core: Box, device: torch.device) -> torch.Tensor:
    window = wide.window(*_extent(core))
    return torch.from_numpy(np.ascontiguousarray(window.transpose(2, 0, 1))).to(device)


def _extent(core: Box) -> tuple[int, int, int, int]:
    """A tile with its margin: top, left, height, width."""
    margin = resampling.MARGIN
    top, left, bottom, right = core
    return top - margin, left - margin, bottom - top + 2 * margin, right - left + 2 * margin


def _axes(core: Box, scale: float, device: torch.device) -> tuple[resampling.Axis, resampling.Axis]:
    top, left, height, width = _extent(core)
    return (
        resampling.axis(top, height, scale, device),
        resampling.axis(left, width, scale, device),
    )


def _positions(axis: resampling.Axis) -> npt.NDArray[np.float64]:
    """Where an axis's outputs lie, in wide pixels."""
    outputs = np.arange(axis.enlarge.outputs, dtype=np.float64)
    return (axis.first + outputs + 0.5) / axis.scale - 0.5


def _tiles(box: Box) -> Iterator[Box]:
    top, left, bottom, right = box
    for y in range(top, bottom, TILE):
        for x in range(left, right, TILE):
            yield y, x, min(y + TILE, bottom), min(x + TILE, right)
