"""A fast clip at a sharp clip's resolution, group by group."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

import numpy as np
import numpy.typing as npt

from dualsr_cli.alignment import Floats, Reference, Rig, begin, find_rig, follow
from dualsr_cli.errors import DualsrError
from dualsr_cli.reconstruction._resampling import first_output
from dualsr_cli.reconstruction.clip_groups import Group, Link, plan_groups
from dualsr_cli.reconstruction.clip_network import Neighbour, restore_frame
from dualsr_cli.reconstruction.clip_transfer import Known, judge, noise_of, transfer
from dualsr_cli.reconstruction.reconstruct import check_scale, tile_pool
from dualsr_cli.reconstruction.restore import Restorer, references_of

Pixels = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]

_PAIRS = 3  # of frames, that the cameras' geometry is found from


class Frame(Protocol):
    """pixels: (h, w, 3) RGB, uint8 or uint16 over its full range. time: seconds."""

    @property
    def pixels(self) -> Pixels: ...

    @property
    def time(self) -> Fraction: ...


@dataclass(frozen=True, eq=False)
class Footage:
    """A clip: what it is called, the times of its frames, and frames start..stop of it in order."""

    name: str
    times: Sequence[Fraction]
    frames: Callable[[int, int], Iterable[Frame]]


@dataclass(frozen=True, eq=False)
class ClipPlan:
    """How a clip is restored: its groups, how the cameras stand, and the result's size."""

    groups: tuple[Group, ...]
    rig: Rig
    scale: float
    width: int
    height: int


@dataclass(frozen=True, eq=False)
class RestoredFrame:
    """A frame of the result: pixels (H, W, 3) in the fast clip's depth, time as the fast frame's.

    references: how many sharp frames it could be laid on.
    """

    pixels: Pixels
    time: Fraction
    references: int


def plan_clip(
    fast: Footage,
    sharp: Footage,
    *,
    offset: Fraction = Fraction(0),
    several: bool = False,
    scale: float | None = None,
) -> ClipPlan:
    groups = plan_groups(fast.times, sharp.times, offset=offset, several=several)
    rig = find_rig(_pairs(groups, fast, sharp), fast.name, sharp.name)
    if scale is None:
        scale = _scale(rig.density)
    check_scale(scale)
    width, height = (first_output(side, scale) for side in (rig.width, rig.height))
    return ClipPlan(groups, rig, scale, width, height)


def _scale(density: float) -> float:
    return float(round(density)) if abs(density - round(density)) < 0.05 * density else density


def _pairs(
    groups: Sequence[Group], fast: Footage, sharp: Footage
) -> Iterator[tuple[Pixels, Pixels]]:
    for number in sorted({round(n) for n in np.linspace(0, len(groups) - 1, _PAIRS)}):
        link = groups[number].links[0]
        yield _one(fast, link.anchor), _one(sharp, link.sharp)


def _one(clip: Footage, number: int) -> Pixels:
    for frame in clip.frames(number, number + 1):
        return frame.pixels
    raise DualsrError(f"{clip.name} lacks frame {number}: copy it again")


def restore_group(
    plan: ClipPlan,
    group: Group,
    fast: Footage,
    sharp: Footage,
    restorer: Restorer | None = None,
    *,
    memory: int | None = None,
) -> Iterator[RestoredFrame]:
    """The group's frames in order, by `restorer` or, without it, by detail transfer.

    They depend on nothing but the clips, the plan and the group. memory: as for `restore`. Raises
    what reading the clips raises, DualsrError for frames that are not there.
    """
    frames = list(fast.frames(group.start, group.stop))
    if len(frames) < len(group):
        raise DualsrError(f"{fast.name} lacks frame {group.start + len(frames)}: copy it again")
    with tile_pool() as pool:
        chains = [_chain(plan, group, link, frames, sharp) for link in group.links]
        found = [chain for chain in chains if chain is not None]
        made = (
            _transferred(plan.scale, frames, found, pool)
            if restorer is None or not found
            else _by_network(plan.scale, frames, found, pool, restorer, memory)
        )
        for frame, pixels in zip(frames, made, strict=True):
            yield RestoredFrame(pixels, frame.time, len(found))


@dataclass(frozen=True, eq=False)
class _Chain:
    """A reference, and what is known of it on each frame of a group."""

    reference: Reference
    anchor: int
    known: Sequence[Known]
    noise: float


def _chain(
    plan: ClipPlan, group: Group, link: Link, frames: Sequence[Frame], sharp: Footage
) -> _Chain | None:
    """None where the sharp frame shows something else."""
    anchor = link.anchor - group.start
    begun = begin(frames[anchor].pixels, _one(sharp, link.sharp), plan.rig)
    if begun is None:
        return None
    reference, laid = begun
    known = {anchor: judge(_floats(frames[anchor].pixels), laid)}
    for numbers, step in _outwards(anchor, len(frames)):
        for number in numbers:
            pixels, last = frames[number].pixels, known[number + step]
            known[number] = judge(_floats(pixels), follow(pixels, reference, last.points), last)
    ordered = [known[number] for number in range(len(frames))]
    return _Chain(reference, anchor, ordered, noise_of(known[anchor]))


def _outwards(anchor: int, count: int) -> tuple[tuple[range, int], tuple[range, int]]:
    """The frames before and after an anchor, each with the way to its neighbour nearer to it."""
    return (range(anchor - 1, -1, -1), 1), (range(anchor + 1, count), -1)


def _transferred(
    scale: float, frames: Sequence[Frame], chains: Sequence[_Chain], pool: ThreadPoolExecutor
) -> Iterator[Pixels]:
    references = [chain.reference for chain in chains]
    noise = min((chain.noise for chain in chains), default=0.0)
    for number, frame in enumerate(frames):
        known = [chain.known[number] for chain in chains]
        picture = _floats(frame.pixels)
        yield transfer(picture, known, references, scale, noise, frame.pixels.dtype, pool)


def _by_network(
    scale: float,
    frames: Sequence[Frame],
    chains: Sequence[_Chain],
    pool: ThreadPoolExecutor,
    restorer: Restorer,
    memory: int | None,
) -> Iterator[Pixels]:
    """One reference: from its anchor outwards, so that a frame's neighbour is there before it.
    Several: in order, for each frame has them all.
    """
    taken = references_of(restorer)
    used = [chains[number % len(chains)] for number in range(taken)]
    references = [chain.reference for chain in used]

    def made(number: int, neighbour: Neighbour | None = None) -> Pixels:
        return restore_frame(
            _floats(frames[number].pixels), [chain.known[number] for chain in used], references,
            restorer, scale, frames[number].pixels.dtype, pool, neighbour, memory,
        )  # fmt: skip

    if taken > 1:
        yield from map(made, range(len(frames)))
        return
    chain = used[0]
    centre = made(chain.anchor)
    (before, _), (after, _) = _outwards(chain.anchor, len(frames))
    waiting, last = [centre], centre
    for number in before:
        last = made(number, Neighbour(last, chain.known[number].motion))
        waiting.append(last)
    while waiting:
        yield waiting.pop()
    last = centre
    for number in after:
        last = made(number, Neighbour(last, chain.known[number].motion))
        yield last


def _floats(pixels: Pixels) -> Floats:
    white = np.float32(np.iinfo(pixels.dtype).max)
    result: Floats = np.multiply(pixels, 1 / white, dtype=np.float32)
    return result
