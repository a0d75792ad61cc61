"""Ctrl-C and SIGTERM as a wish that a run looks at, not as an end in the middle of something."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_POLL = 0.25  # seconds


class Stop:
    """Whether an end was asked for, by Ctrl-C or SIGTERM; the second time ends at once."""

    def __init__(self) -> None:
        self.asked = False
        self._at_once = False

    @contextmanager
    def signals(self, at_once: bool = False) -> Iterator[Stop]:
        """Listen to signals meanwhile. at_once: already the first raises KeyboardInterrupt."""
        self._at_once = at_once
        if threading.current_thread() is not threading.main_thread():
            yield self  # signals are the main thread's
            return
        numbers = (signal.SIGINT, signal.SIGTERM)
        before = [signal.signal(number, self._hear) for number in numbers]
        try:
            yield self
        finally:
            for number, handler in zip(numbers, before, strict=True):
                signal.signal(number, handler)

    def sleep(self, seconds: float) -> None:
        """Wait, but not on after a stop was asked for."""
        end = time.monotonic() + seconds
        while not self.asked and time.monotonic() < end:
            time.sleep(min(_POLL, seconds))

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self.asked or self._at_once:
            raise KeyboardInterrupt
        self.asked = True
