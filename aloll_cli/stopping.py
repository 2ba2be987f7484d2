"""Leaving in order: a signal or the end of the allotted time is noticed where work can be left, between two updates or blocks."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupted(BaseException):
    """Work stopped; the same command goes on. Like KeyboardInterrupt no Exception: it ends a whole sweep."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code, reason)
        self.code, self.reason = code, reason

    @classmethod
    def by(cls, number: int) -> Interrupted:
        """A signal, with the exit code that shells give it."""
        return cls(128 + number, signal.Signals(number).name)


TIME_IS_UP = 75  # a worker's exit code: stopped at max_hours
STARTED = time.monotonic()  # of this process: max_hours counts everything, not one stage alone
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopper:
    """Remembers that somebody asked to stop, while it is entered. The first signal is remembered, the second stops at once."""

    def __init__(self, max_hours: float | None) -> None:
        self._deadline = None if max_hours is None else STARTED + 3600 * max_hours
        self._signal: int | None = None

    def __enter__(self) -> Stopper:
        self._previous = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._signal is not None:
            raise Interrupted.by(number)
        self._signal = number
        if os.environ.get("RANK", "0") == "0":
            # not through a console: the signal may have come in the middle of one of its lines
            os.write(2, b"\nstopping where work can be left; once more stops at once\n")

    @property
    def requested(self) -> bool:
        """Whether to stop now."""
        return self._signal is not None or (self._deadline is not None and time.monotonic() > self._deadline)

    def interruption(self) -> Interrupted:
        """Why, with the process's exit code."""
        return Interrupted(0, "max_hours is over") if self._signal is None else Interrupted.by(self._signal)

    def check(self) -> None:
        """Raises Interrupted where somebody asked to stop."""
        if self.requested:
            raise self.interruption()


@contextmanager
def interruptible() -> Iterator[None]:
    """SIGTERM ends what is done here at once, as Ctrl-C does; a Stopper inside is more patient."""

    def leave(number: int, frame: FrameType | None) -> None:
        raise Interrupted.by(number)

    previous = {number: signal.signal(number, leave) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
