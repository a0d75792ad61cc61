"""The last few values that were made: each once, though several threads want it."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from concurrent.futures import Future
from threading import Lock
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Recent(Generic[Value]):
    """Holds `size` values by their keys; what could not be made is tried again."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._lock = Lock()
        self._values: dict[Hashable, Future[Value]] = {}  # the one made last at the end

    def get(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """The value of a key, by `make` if it is not there; raises what that raises."""
        with self._lock:
            there = self._values.get(key)
            value = there or Future[Value]()
            if there is None:
                self._values[key] = value
                for oldest in list(self._values)[: -self._size]:
                    del self._values[oldest]
        if there is None:
            try:
                value.set_result(make())
            except BaseException as error:
                with self._lock:
                    if self._values.get(key) is value:
                        del self._values[key]
                value.set_exception(error)
        return value.result()
