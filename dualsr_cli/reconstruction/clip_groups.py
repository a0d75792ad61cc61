"""Which frames of a fast clip are restored together, and by which sharp frames.

After section 3.2 of AWnet's paper: a group of pictures is the fast frames around one sharp frame,
which is their reference; or (section 3.2.4) those between two sharp frames, which both are. Groups
do not depend on each other, so that a clip can be gone on with at any of them.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

from dualsr_cli.errors import DualsrError

MOST = 16
"""Fast frames of a group, at most, whose alignments are held at once."""


@dataclass(frozen=True)
class Link:
    """A sharp frame of a group, and the fast frame (counted in the clip) that it is laid on first:
    that of the group which is nearest in time.
    """

    sharp: int
    anchor: int


@dataclass(frozen=True)
class Group:
    """The fast frames start..stop of a clip, with one reference or two, the earlier one first."""

    start: int
    stop: int
    links: tuple[Link, ...]

    def __len__(self) -> int:
        return self.stop - self.start


def plan_groups(
    fast: Sequence[Fraction],
    sharp: Sequence[Fraction],
    *,
    offset: Fraction = Fraction(0),
    several: bool = False,
    most: int = MOST,
) -> tuple[Group, ...]:
    """All groups of a clip, in order; together they hold each fast frame once.

    fast, sharp: times of the frames in seconds, rising. offset: what the sharp clip shows at t the
    fast one shows at t + offset. several: the sharp frames before and after a fast frame are its
    references, not only the nearest. Frames outside the sharp clip's time have the nearest
    reference alone. Raises DualsrError where a clip has no frame, or none of the one lies in the
    time of the other.
    """
    if not fast or not sharp:
        raise DualsrError("there is no frame in one of the clips: record it again")
    shown = [time + offset for time in sharp]
    _check_overlap(fast, shown)
    borders = _between(fast, shown) if several else _around(fast, shown)
    groups = []
    for start, stop, references in borders:
        for first, last in _parts(start, stop, most):
            links = tuple(
                Link(number, _nearest(fast, shown[number], first, last)) for number in references
            )
            groups.append(Group(first, last, links))
    return tuple(groups)


def _check_overlap(fast: Sequence[Fraction], sharp: Sequence[Fraction]) -> None:
    """A frame lasts until the next one; the last as long as the one before, a lone one for ever."""
    if min(len(fast), len(sharp)) == 1:
        return
    ends = [times[-1] + (times[-1] - times[-2]) for times in (fast, sharp)]
    if fast[0] >= ends[1] or sharp[0] >= ends[0]:
        raise DualsrError(
            f"the clips have no moment in common (one is from {float(fast[0]):.2f} s to "
            f"{float(fast[-1]):.2f} s, the other from {float(sharp[0]):.2f} s to "
            f"{float(sharp[-1]):.2f} s): choose clips that were filmed together"
        )


def _around(
    fast: Sequence[Fraction], sharp: Sequence[Fraction]
) -> Iterator[tuple[int, int, tuple[int, ...]]]:
    """The frames nearest to each sharp frame, as far as there are any."""
    start = 0
    for number in range(len(sharp)):
        stop = len(fast)
        if number + 1 < len(sharp):
            stop = bisect_right(fast, (sharp[number] + sharp[number + 1]) / 2, start)
        if stop > start:
            yield start, stop, (number,)
        start = stop


def _between(
    fast: Sequence[Fraction], sharp: Sequence[Fraction]
) -> Iterator[tuple[int, int, tuple[int, ...]]]:
    """The frames from each sharp frame to the next one, as far as there are any."""
    first = bisect_left(fast, sharp[0])
    if first:
        yield 0, first, (0,)
    start = first
    for number in range(len(sharp)):
        last = number + 1 == len(sharp)
        stop = len(fast) if last else bisect_left(fast, sharp[number + 1], start)
        if stop > start:
            yield start, stop, (number,) if last else (number, number + 1)
        start = stop


def _parts(start: int, stop: int, most: int) -> Iterator[tuple[int, int]]:
    """start..stop in as few parts of at most `most` as will do, about equally long."""
    count = -(-(stop - start) // most)
    for part in range(count):
        yield (
            start + (stop - start) * part // count,
            start + (stop - start) * (part + 1) // count,
        )


def _nearest(times: Sequence[Fraction], time: Fraction, start: int, stop: int) -> int:
    """The frame of start..stop nearest to a time; of two as near the earlier one."""
    after = bisect_left(times, time, start, stop)
    return min(
        range(max(start, after - 1), min(stop, after + 1)), key=lambda n: abs(times[n] - time)
    )
