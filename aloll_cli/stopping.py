"""Leaving in order: a signal or the end of the allotted time is noticed between two updates."""

from __future__ import annotations

import signal
import time
from types import FrameType


class Interrupted(BaseException):
    """Work stopped in order; the same command goes on. Like KeyboardInterrupt no Exception: it ends a whole sweep."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code, reason)
        self.code, self.reason = code, reason


TIME_IS_UP = 75  # a worker's exit code: stopped at max_hours
STARTED = time.monotonic()  # of this process: max_hours counts everything, not one training alone


class Stopper:
    """Remembers that somebody asked to stop. The first Ctrl-C is remembered, the second one interrupts at once."""

    def __init__(self, max_hours: float | None) -> None:
        self._deadline = None if max_hours is None else STARTED + 3600 * max_hours
        self._signal: int | None = None
        self._previous = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._signal is not None:
            self.restore()
            raise KeyboardInterrupt
        self._signal = number

    @property
    def requested(self) -> bool:
        """Whether to stop now."""
        return self._signal is not None or (self._deadline is not None and time.monotonic() > self._deadline)

    def interruption(self) -> Interrupted:
        """Why, with the process's exit code."""
        if self._signal is None:
            return Interrupted(0, "max_hours is over")
        return Interrupted(128 + self._signal, signal.Signals(self._signal).name)

    def restore(self) -> None:
        """Give the signals back."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)
