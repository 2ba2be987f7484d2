"""Limits of time and memory for code that comes with a model, such as its chat template."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Lock, Thread, get_ident
from typing import TypeVar

T = TypeVar("T")

TICK = 0.1  # seconds between two looks at the clock


class TookTooLong(BaseException):
    """Raised inside a call that exceeds its time. Not an Exception, so that the call cannot catch it by accident."""


class Watch:
    """Ends calls of this thread that take too long, while it is entered; one watching thread serves any number of calls."""

    def __init__(self, seconds: float) -> None:
        """``seconds`` of processor time are the limit of each call; looked at every TICK, and between built-in operations."""
        self._seconds, self._caller = seconds, ctypes.c_ulong(get_ident())
        self._clock = _clock_of(get_ident())
        self._lock, self._left = Lock(), Event()
        self._deadline: float | None = None
        self._interrupted = False

    def __enter__(self) -> Watch:
        Thread(target=self._look, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._left.set()

    def call(self, function: Callable[[], T]) -> T:
        """What the function returns. Raises TookTooLong."""
        self._deadline = self._clock() + self._seconds
        try:
            return function()
        except TookTooLong:
            self._interrupted = False
            raise
        finally:
            with self._lock:
                self._deadline = None
            while self._interrupted:  # the exception is on its way, and must arrive here at the latest
                time.sleep(0)

    def _look(self) -> None:
        while not self._left.wait(TICK):
            with self._lock:
                deadline = self._deadline
                if deadline is not None and self._clock() > deadline:
                    self._interrupted = True
                    ctypes.pythonapi.PyThreadState_SetAsyncExc(self._caller, ctypes.py_object(TookTooLong))
                    return


def _clock_of(thread: int) -> Callable[[], float]:
    """The processor time of a thread in seconds, which does not go on while the machine is busy; or else the time of day."""
    if not hasattr(time, "pthread_getcpuclockid"):
        return time.monotonic
    clock = time.pthread_getcpuclockid(thread)
    return lambda: time.clock_gettime(clock)


@contextmanager
def memory_limit(more: int) -> Iterator[None]:
    """Within this context, allocating ``more`` bytes than now raises MemoryError; no limit without Linux's /proc."""
    size = Path("/proc/self/statm")
    if not size.exists():
        yield
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = int(size.read_text().split()[0]) * resource.getpagesize() + more
    if soft != resource.RLIM_INFINITY and soft < limit:
        yield
        return
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
