"""How much arithmetic searches stand for, which no counter of PyTorch's operations sees."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar


class Counted:
    """operations: of the products that searches stand for, a multiply-add being two of them."""

    def __init__(self) -> None:
        self.operations = 0


_counting: ContextVar[Counted | None] = ContextVar("counting", default=None)


@contextmanager
def counted_searches() -> Iterator[Counted]:
    """Counts what `search` stands for inside: 2 x queries x keys x numbers of a patch.

    That is the papers' formula, of the queries and keys that masks leave. What is really done is
    less on a processor (see `_rows`). Searches of PyTorch's own operations, on GPUs without Triton,
    are left out: PyTorch's counters see them.
    """
    counted = Counted()
    token = _counting.set(counted)
    try:
        yield counted
    finally:
        _counting.reset(token)


def count(queries: int, keys: int, numbers: int) -> None:
    """Tell of a search; nobody may be counting."""
    counted = _counting.get()
    if counted is not None:
        counted.operations += 2 * queries * keys * numbers
