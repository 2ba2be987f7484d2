"""Graceful shutdown: a signal or the end of max_hours takes effect at the next point from which work can be resumed."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
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
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# Linux tells a worker of its parent's death once for each of the parent's threads, timeout(1) tells a command and then its
# group, a batch queue a job and its step, and a lost terminal its jobs, as their shell then does:
# SIGTERM or SIGHUP again within so many seconds is the same request
SAME = 1.0
REPEATED = (signal.SIGTERM, signal.SIGHUP)

Handler = Callable[[int, FrameType | None], object]

_counted = float("-inf")  # when the last of REPEATED that counts came


def handled_by(handler: Handler) -> dict[signal.Signals, Any]:
    """Let a function handle SIGNALS; returns what handled them before. SIGHUP stays ignored where it is, as nohup has it."""

    def handle(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            _leave_terminal()
        handler(number, frame)

    ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return {number: signal.signal(number, handle) for number in SIGNALS if not (ignored and number == signal.SIGHUP)}


def handled_as(before: dict[signal.Signals, Any]) -> None:
    """Let signals be handled as they were before."""
    for number, handler in before.items():
        signal.signal(number, handler)


def _leave_terminal() -> None:
    """Let stdout and stderr go nowhere where they are a terminal that has gone: writing there would fail."""
    poll = select.poll()
    for stream in (1, 2):
        poll.register(stream, 0)
    for stream, event in poll.poll(0):
        if event & select.POLLHUP:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, stream)
            os.close(null)


def is_repeated(number: int) -> bool:
    """Whether a signal is a SIGTERM or SIGHUP that came within SAME seconds of one that counts; otherwise it counts itself."""
    global _counted
    if number not in REPEATED:
        return False
    repeated = time.monotonic() < _counted + SAME
    _counted = _counted if repeated else time.monotonic()
    return repeated


class Stopper:
    """Handles SIGINT, SIGTERM and SIGHUP while it is entered: the first asks to stop, the second stops immediately.

    The end of ``max_hours``, or of what a batch queue allows, asks to stop, too.

    SIGTERM or SIGHUP that comes several times within SAME seconds counts once.
    """

    def __init__(self, max_hours: float | None) -> None:
        ends = [] if max_hours is None else [STARTED + 3600 * max_hours]
        if DEADLINE in os.environ:
            ends.append(time.monotonic() + float(os.environ[DEADLINE]) - time.time())
        self._deadline = min(ends, default=None)
        self._signal: int | None = None

    def __enter__(self) -> Stopper:
        self._previous = handled_by(self._note)
        return self

    def __exit__(self, *error: object) -> None:
        handled_as(self._previous)

    def _note(self, number: int, frame: FrameType | None) -> None:
        repeated = is_repeated(number)
        if self._signal is not None:
            if repeated:
                return
            raise Interrupted.by(number)
        self._signal = number
        if os.environ.get("RANK", "0") == "0":
            # not through a console, which the signal may have interrupted in the middle of a line
            with suppress(OSError):
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
    """Within this context SIGNALS are only noted, for a process that waits for others: those received so far."""
    received: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)

    previous = handled_by(note)
    try:
        yield received
    finally:
        handled_as(previous)


@contextmanager
def interruptible() -> Iterator[None]:
    """Within this context SIGTERM, SIGHUP and Ctrl-C stop immediately, except inside a Stopper; to be used once, for a process.

    SIGTERM or SIGHUP that comes several times within SAME seconds counts once, also while the process tidies up after it.
    """

    def leave(number: int, frame: FrameType | None) -> None:
        if not is_repeated(number):
            raise Interrupted.by(number)

    def end(number: int, frame: FrameType | None) -> None:
        if not is_repeated(number):
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    previous = handled_by(leave)
    try:
        yield
    except Interrupted:
        previous |= {number: end for number in previous.keys() & set(REPEATED)}
        raise
    finally:
        handled_as(previous)
