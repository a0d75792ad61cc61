"""Keeping a library from making this process a real-time one.

SVT-AV1, where it runs as root (as in most containers), puts its threads and the one that opens it
under SCHED_FIFO at the highest priority and leaves them there. What these threads and processes
start then inherits that, and nothing else on the machine runs beside them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_THREADS = Path("/proc/self/task")


@contextmanager
def scheduling_kept() -> Iterator[None]:
    """This thread, and those that begin meanwhile, are afterwards scheduled as it was before.

    Does nothing where threads are not in /proc.
    """
    if not _THREADS.is_dir():
        yield
        return
    before = set(os.listdir(_THREADS))
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, parameters)
        for thread in set(os.listdir(_THREADS)) - before:
            with suppress(OSError):  # it has ended
                os.sched_setscheduler(int(thread), policy, parameters)
