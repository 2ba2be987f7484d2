"""Graceful shutdown: a signal or the end of max_hours takes effect at the next point from which work can be resumed."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from threading import Thread
from types import FrameType
from typing import Any, TypeVar

T = TypeVar("T")


class Interrupted(BaseException):
    """Work was stopped and can be resumed. Like KeyboardInterrupt not an Exception, so that it ends a whole sweep."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code, reason)
        self.code, self.reason = code, reason

    @classmethod
    def by(cls, number: int) -> Interrupted:
        """The interruption by a signal, with the exit code that shells use for it: 128 + its number."""
        return cls(128 + number, signal.Signals(number).name)


DEADLINE = "ALOLL_DEADLINE"  # environment variable: when a batch queue ends this process, in seconds of time.time()
TIME_IS_UP = 75  # exit code of a worker that stopped at max_hours
STARTED = time.monotonic()  # of this process: max_hours includes start-up and all stages
SIGNALS = (signal.SIGINT, signal.SIGTERM)
# Linux tells a worker of its parent's death once for each of the parent's threads, timeout(1) tells a command and then its
# group, and a batch queue a job and its step: SIGTERM again within so many seconds is the same request
SAME = 1.0


_counted = float("-inf")  # when the last SIGTERM that counts came


def is_repeated(number: int) -> bool:
    """Whether a signal is a SIGTERM that came within SAME seconds of one that counts; otherwise it counts itself."""
    global _counted
    if number != signal.SIGTERM:
        return False
    repeated = time.monotonic() < _counted + SAME
    _counted = _counted if repeated else time.monotonic()
    return repeated


class Stopper:
    """Handles SIGINT and SIGTERM while it is entered: the first asks to stop, the second stops immediately.

    The end of ``max_hours``, or of what a batch queue allows, asks to stop, too.

    SIGTERM that comes several times within SAME seconds counts once.
    """

    def __init__(self, max_hours: float | None) -> None:
        ends = [] if max_hours is None else [STARTED + 3600 * max_hours]
        if DEADLINE in os.environ:
            ends.append(time.monotonic() + float(os.environ[DEADLINE]) - time.time())
        self._deadline = min(ends, default=None)
        self._signal: int | None = None

    def __enter__(self) -> Stopper:
        self._previous = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        repeated = is_repeated(number)
        if self._signal is not None:
            if repeated:
                return
            raise Interrupted.by(number)
        self._signal = number
        if os.environ.get("RANK", "0") == "0":
            # not through a console, which the signal may have interrupted in the middle of a line
            os.write(2, b"\nstopping at the next safe point; a second Ctrl-C or signal stops immediately\n")

    @property
    def requested(self) -> bool:
        """Whether to stop now."""
        return self._signal is not None or (self._deadline is not None and time.monotonic() > self._deadline)

    def interruption(self) -> Interrupted:
        """The exception to raise: the reason, and the exit code of the process."""
        return Interrupted(0, "max_hours reached") if self._signal is None else Interrupted.by(self._signal)

    def check(self) -> None:
        """Raises Interrupted if a stop was requested."""
        if self.requested:
            raise self.interruption()


def interruptibly(work: Callable[[], T], stopper: Stopper) -> T:
    """What ``work`` returns; for work of minutes inside a library, during which Python handles no signal.

    It runs in a thread, which a stop leaves behind: the process ends soon. Raises Interrupted, or what ``work`` raises.
    """
    found: Future[T] = Future()

    def run() -> None:
        try:
            found.set_result(work())
        except BaseException as error:
            found.set_exception(error)

    Thread(target=run, daemon=True).start()
    while True:
        try:
            return found.result(timeout=0.2)
        except TimeoutError:
            if found.done():  # the work's own error
                raise
            stopper.check()


@contextmanager
def noted() -> Iterator[list[int]]:
    """Within this context SIGTERM and Ctrl-C are only noted, for a process that waits for others: those received so far."""
    received: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)

    previous = {number: signal.signal(number, note) for number in SIGNALS}
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def interruptible() -> Iterator[None]:
    """Within this context SIGTERM and Ctrl-C stop immediately, except inside a Stopper; to be used once, for a whole process.

    SIGTERM that comes several times within SAME seconds counts once, also while the process tidies up after it.
    """

    def leave(number: int, frame: FrameType | None) -> None:
        if not is_repeated(number):
            raise Interrupted.by(number)

    def end(number: int, frame: FrameType | None) -> None:
        if not is_repeated(number):
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    previous: dict[signal.Signals, Any] = {number: signal.signal(number, leave) for number in SIGNALS}
    try:
        yield
    except Interrupted:
        previous[signal.SIGTERM] = end
        raise
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
