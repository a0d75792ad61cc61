"""Who goes with whom: the best set of pairs among things that lie in a row."""

from __future__ import annotations

from collections.abc import Callable, Sequence

_OPEN, _STATES = 64, 64  # beyond these the search is no longer exhaustive, but still deterministic

_Chain = tuple["_Chain", int, int] | None  # the pairs of one state, the latest first


def best_pairs(
    row: Sequence[int],
    near: Callable[[int, int], bool],
    worth: Callable[[int, int], int],
) -> list[tuple[int, int]]:
    """The pairs (earlier, later), each item in at most one, whose total worth is the greatest.

    `worth` is asked for near items only; 0 or less: no pair. `near` must hold for all between two
    items where it holds for these.

    One pass along the row. A state is the set of earlier items that are near and still free; for
    each state the best way there is kept. The states are few since a time window holds few items,
    and where it holds many (long bursts) the best _STATES are followed, with the last _OPEN items.
    """
    states: dict[tuple[int, ...], tuple[int, _Chain]] = {(): (0, None)}
    for item in row:
        reached: dict[tuple[int, ...], tuple[int, _Chain]] = {}
        values: dict[int, int] = {}
        for free, (total, chain) in states.items():
            while free and not near(free[0], item):
                free = free[1:]
            ways: list[tuple[tuple[int, ...], int, _Chain]] = [
                ((*free, item)[-_OPEN:], total, chain)
            ]
            for at, other in enumerate(free):
                if other not in values:
                    values[other] = worth(other, item)
                if (value := values[other]) > 0:
                    rest = free[:at] + free[at + 1 :]
                    ways.append((rest, total + value, (chain, other, item)))
            for state, value, pairs in ways:
                if state not in reached or value > reached[state][0]:
                    reached[state] = value, pairs
        if len(reached) > _STATES:
            best = sorted(reached.items(), key=lambda entry: -entry[1][0])
            reached = dict(best[:_STATES])
        states = reached
    _, chain = max(states.values(), key=lambda entry: entry[0])
    found: list[tuple[int, int]] = []
    while chain:
        chain, first, second = chain
        found.append((first, second))
    return found[::-1]
