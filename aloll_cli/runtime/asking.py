"""Requests to a server: several at a time, retried after bounded waits, and stopped in order."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from queue import Empty, SimpleQueue
from threading import Event, Thread
from typing import TypeVar

from aloll_cli.errors import UserError

I = TypeVar("I")  # noqa: E741  what is asked
T = TypeVar("T")

FIRST_WAIT, LONGEST_WAIT = 1.0, 30.0  # seconds between two tries; a server that asks for more gets LONGEST_WAIT
GRACE = 5.0  # seconds that requests under way have after a stop was requested


class Unanswered(Exception):
    """A request without a usable reply.

    Attributes:
        what: why, as the rest of a sentence about the server.
        again: whether the same request may succeed later.
        wait: seconds that the server asks to wait, or None.
        of_request: whether the server refused what was asked, so that other requests may succeed.
    """

    def __init__(self, what: str, again: bool = True, wait: float | None = None, of_request: bool = False) -> None:
        super().__init__(what)
        self.what, self.again, self.wait, self.of_request = what, again, wait, of_request


def patiently(ask: Callable[[], T], tries: int, closing: Event) -> T:
    """What a request returns, tried again after waits that double from 1 to 30 seconds.

    Args:
        ask: raises Unanswered where it fails.
        tries: at most.
        closing: once it is set, nothing is tried again.

    Raises:
        Unanswered: the last failure.
    """
    for place in range(tries):
        try:
            return ask()
        except Unanswered as failure:
            wait = FIRST_WAIT * 2**place if failure.wait is None else failure.wait
            if not failure.again or place + 1 == tries or closing.wait(min(wait, LONGEST_WAIT)):
                raise
    raise AssertionError("tries is at least 1")


def ask_all(
    items: Sequence[I], ask: Callable[[I, Event], T], concurrency: int, is_stopped: Callable[[], bool] = lambda: False
) -> Iterator[tuple[I, T]]:
    """Ask for every item in threads; yields each item with its reply, as they come.

    After a failure or a stop nothing new is asked; what is under way is waited for, after a stop at most GRACE seconds.

    Args:
        items: what to ask.
        ask: asks one; gets an event that is set once nothing is to be tried again.
        concurrency: requests under way at a time.
        is_stopped: whether a stop was requested. Then the iteration ends early, which is for the caller to notice.

    Raises:
        Whatever ``ask`` raised first.
    """
    closing, todo, done = Event(), SimpleQueue[I](), SimpleQueue[tuple[I, T | None, Exception | None]]()
    for item in items:
        todo.put(item)

    def work() -> None:
        while not closing.is_set():
            try:
                item = todo.get_nowait()
            except Empty:
                return
            try:
                done.put((item, ask(item, closing), None))
            except Exception as error:
                done.put((item, None, error))  # before those that the closing brings about
                closing.set()

    # daemons: a request that never ends does not keep the process from ending
    threads = [Thread(target=work, daemon=True) for _ in range(min(concurrency, len(items)))]
    for thread in threads:
        thread.start()
    failure: Exception | None = None
    deadline: float | None = None
    try:
        while True:
            alive = any(thread.is_alive() for thread in threads)
            try:
                item, reply, error = done.get(timeout=0.1) if alive else done.get_nowait()
            except Empty:
                if not alive or (deadline is not None and time.monotonic() > deadline):
                    break
            else:
                if error is None:
                    yield item, reply  # type: ignore[misc]
                elif failure is None and deadline is None:
                    failure = error
            if deadline is None and is_stopped():
                closing.set()
                deadline = time.monotonic() + GRACE
    finally:
        closing.set()
    if failure is not None:
        raise failure


def gave_up(url: str, failure: Unanswered, tries: int, kept: str) -> UserError:
    """The error to show where a server gave no usable reply.

    Args:
        url: of the server.
        failure: the last one.
        tries: how often it was asked.
        kept: a sentence about what is not lost.
    """
    often = f" (tried {tries} times)" if failure.again and tries > 1 else ""
    return UserError(f"{url} {failure.what}{often}.", kept)
