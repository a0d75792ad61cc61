"""Which fast frames are restored together, and by which sharp frames."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dualsr_cli.errors import DualsrError
from dualsr_cli.reconstruction import Group, Link, plan_groups


def times(count: int, rate: int, start: Fraction = Fraction(0)) -> list[Fraction]:
    return [start + Fraction(n, rate) for n in range(count)]


def frames(groups: Sequence[Group]) -> list[int]:
    return [n for group in groups for n in range(group.start, group.stop)]


def test_a_group_of_eight_has_its_sharp_frame_in_the_middle() -> None:
    """Section 3.2: m frames from t - ceil(m / 2) + 1 to t + floor(m / 2)."""
    groups = plan_groups(times(25, 240), times(4, 30))
    assert [(g.start, g.stop) for g in groups] == [(0, 5), (5, 13), (13, 21), (21, 25)]
    assert [g.links for g in groups] == [(Link(n, 8 * n),) for n in range(4)]
    assert [len(group) for group in groups] == [5, 8, 8, 4]


def test_with_several_references_a_group_lies_between_two_sharp_frames() -> None:
    groups = plan_groups(times(20, 240), times(3, 30), several=True)
    assert [(g.start, g.stop) for g in groups] == [(0, 8), (8, 16), (16, 20)]
    assert groups[0].links == (Link(0, 0), Link(1, 7))
    assert groups[2].links == (Link(2, 16),)


def test_the_offset_is_what_the_fast_clock_is_ahead() -> None:
    late = times(4, 30, Fraction(5))
    assert plan_groups(times(25, 240), late, offset=Fraction(-5)) == plan_groups(
        times(25, 240), times(4, 30)
    )


@pytest.mark.parametrize("several", [False, True])
def test_frames_outside_the_sharp_clips_time_have_the_nearest(several: bool) -> None:
    groups = plan_groups(times(64, 240), times(2, 30, Fraction(1, 10)), several=several)
    assert frames(groups) == list(range(64))
    assert {link.sharp for link in groups[0].links} == {0}
    assert {link.sharp for link in groups[-1].links} == {1}


@pytest.mark.parametrize("several", [False, True])
def test_sharp_frames_without_fast_frames_are_left_out(several: bool) -> None:
    groups = plan_groups(times(3, 240), times(9, 30), several=several)
    assert frames(groups) == [0, 1, 2]
    assert groups[0].links[0] == Link(0, 0)


def test_one_frame_is_a_clip() -> None:
    one = [Fraction(7)]
    assert plan_groups(one, one) == (Group(0, 1, (Link(0, 0),)),)
    assert frames(plan_groups(times(5, 240), one)) == list(range(5))
    assert frames(plan_groups(one, times(5, 30), several=True)) == [0]


def test_long_groups_come_in_parts_that_begin_where_the_sharp_frame_is_nearest() -> None:
    groups = plan_groups(times(100, 240), [Fraction(50, 240)], most=30)
    assert [len(group) for group in groups] == [25, 25, 25, 25]
    assert [group.links[0].anchor for group in groups] == [24, 49, 50, 75]


@pytest.mark.parametrize(
    ("fast", "sharp"),
    [([], [Fraction(0)]), ([Fraction(0)], []), (times(9, 240), times(3, 30, Fraction(4)))],
)
def test_clips_without_a_common_moment_are_refused(
    fast: list[Fraction], sharp: list[Fraction]
) -> None:
    with pytest.raises(DualsrError, match=r"^[^\n]+: (record|choose)"):
        plan_groups(fast, sharp)


uneven = st.lists(st.integers(1, 40), min_size=1, max_size=40)


@settings(max_examples=60, deadline=None)
@given(uneven, uneven, st.integers(-50, 50), st.booleans(), st.integers(1, 9))
def test_each_frame_is_in_one_group_whatever_the_rates(
    fast: list[int], sharp: list[int], shift: int, several: bool, most: int
) -> None:
    def clock(steps: list[int], start: int) -> list[Fraction]:
        return [Fraction(start + sum(steps[:n]), 240) for n in range(len(steps))]

    first, second = clock(fast, 0), clock(sharp, shift)
    try:
        groups = plan_groups(first, second, several=several, most=most)
    except DualsrError:
        assert first[-1] < second[0] or second[-1] < first[0]
        return
    assert frames(groups) == list(range(len(first)))
    for group in groups:
        assert 1 <= len(group) <= most
        for link in group.links:
            assert group.start <= link.anchor < group.stop
            distance = [abs(first[n] - second[link.sharp]) for n in range(group.start, group.stop)]
            assert abs(first[link.anchor] - second[link.sharp]) == min(distance)
        if not several:
            nearest = min(abs(second[n] - first[group.start]) for n in range(len(second)))
            assert abs(second[group.links[0].sharp] - first[group.start]) == nearest
