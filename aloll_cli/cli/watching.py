"""The terminal of a sweep whose jobs run elsewhere: shows what they are doing, says at once which failed, and waits for all."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum

from rich.live import Live
from rich.text import Text

from aloll_cli.cli.queued import LOG, Order, Outcome, last_line, outcome_of
from aloll_cli.errors import UserError
from aloll_cli.runtime.options import Verbosity
from aloll_cli.runtime.terminal import LINE_EVERY, Log, notes
from aloll_cli.stopping import noted
from aloll_cli.watchdog import patient

POLL = 0.5  # seconds between two looks at the folders of jobs
PATIENCE = 30.0  # seconds for a job to end after it has written its outcome
ROWS = 20  # of running jobs, at most, that are shown at a time


class Phase(Enum):
    """Where a job stands."""

    waiting = "waiting"
    running = "running"
    gone = "gone"


@dataclass(frozen=True)
class Status:
    """What a queue says of a job.

    Attributes:
        phase: where it stands.
        detail: why it waits, where it runs, or how it ended.
    """

    phase: Phase
    detail: str = ""


class Queue(ABC):
    """Jobs that a launcher has started, or will start when there is room."""

    grace: float  # seconds until what a job that has gone wrote last is seen here

    @abstractmethod
    def look(self) -> Sequence[Status]:
        """How each job stands."""

    @abstractmethod
    def react(self, received: Sequence[int]) -> None:
        """Do what signals ask for, all that this process has received so far. May raise Interrupted."""

    @abstractmethod
    def lost(self, status: Status) -> UserError:
        """What to say of a job that has gone without an outcome."""

    def close(self) -> None:  # noqa: B027  most leave nothing behind
        """Tidy up once all jobs have an outcome."""


def watch(queue: Queue, orders: Sequence[Order]) -> list[Outcome]:
    """Wait for jobs, and show how they stand.

    Returns:
        What came of each.

    Raises:
        Interrupted: by a signal.
    """
    board = Board(orders)
    found: list[Outcome | None] = [None] * len(orders)
    gone_since: dict[int, float] = {}
    with noted() as received, patient(), board.shown():
        while True:
            queue.react(received)
            statuses, now = queue.look(), time.monotonic()
            for i, (order, status) in enumerate(zip(orders, statuses, strict=True)):
                if status.phase is Phase.gone:
                    gone_since.setdefault(i, now)
                else:
                    gone_since.pop(i, None)
                if found[i] is None:
                    outcome = outcome_of(order.folder)
                    # after a signal, jobs end without an outcome
                    if outcome is None and not received and now - gone_since.get(i, now) > queue.grace:
                        outcome = Outcome(error=queue.lost(status), failed=True)
                    found[i] = outcome
                    board.changed(i, status, outcome)
            board.show(statuses, found)
            ended = [outcome for outcome in found if outcome is not None]
            # a process that has written its outcome has a little left to do
            if len(ended) == len(orders) and (len(gone_since) == len(orders) or board.since_the_last > PATIENCE):
                queue.close()
                return ended
            time.sleep(POLL)


class Board:
    """How the jobs of a sweep stand: a table on a terminal, elsewhere a line every LINE_EVERY seconds."""

    def __init__(self, orders: Sequence[Order]) -> None:
        self._orders = orders
        self._log = Log(None, orders[0].settings.verbosity)
        self._quiet = orders[0].settings.verbosity is Verbosity.quiet
        self._before = [Status(Phase.waiting)] * len(orders)
        self._began: dict[int, float] = {}
        self._live: Live | None = None
        self._said = self._last = time.monotonic()

    @property
    def since_the_last(self) -> float:
        """Seconds since the last job ended."""
        return time.monotonic() - self._last

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Within this context the table is on the terminal."""
        if self._quiet or not notes.is_terminal or notes.is_dumb_terminal:
            yield
            return
        # results go to stdout after it
        with Live(console=notes, transient=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False) as self._live:
            yield

    def changed(self, place: int, status: Status, outcome: Outcome | None) -> None:
        """Say what has become of a job since it was last looked at."""
        name, before = self.name(place), self._before[place]
        if outcome is not None:
            self._last = time.monotonic()
            self._end(name, place, outcome)
        elif before.phase is Phase.waiting and status.phase is Phase.running:
            self._began.setdefault(place, time.monotonic())
            self._log.say(f"started   {name}{f' on {status.detail}' if status.detail else ''}")
        elif before.phase is Phase.running and status.phase is Phase.waiting:
            self._log.say(f"requeued  {name}; it goes on from its last checkpoint")
        self._before[place] = status

    def _end(self, name: str, place: int, outcome: Outcome) -> None:
        order = self._orders[place]
        if outcome.failed:
            error = outcome.error or UserError("a process of the job failed.", f"Its last line: {last_line(order.folder)}")
            log = order.folder / LOG
            said = error.told(f"aloll {order.command.stage} ({name}): ")
            notes.print(Text("\n".join([said, *[f"Its log: {log}"] * log.is_file()])))
        elif outcome.stopped:
            self._log.say(f"stopped   {name}: {outcome.stopped}")
        else:
            began = self._began.get(place)  # a short job may have ended before anybody saw it running
            self._log.say(f"done      {name}" + ("" if began is None else f" after {time.monotonic() - began:.0f} s"))

    def name(self, place: int) -> str:
        """What a job is called."""
        return self._orders[place].words or self._orders[place].command.stage

    def show(self, statuses: Sequence[Status], outcomes: Sequence[Outcome | None]) -> None:
        """Show how all jobs stand."""
        if self._quiet or (self._live is None and time.monotonic() - self._said < LINE_EVERY):
            return
        self._said = time.monotonic()
        lines = list(self._lines(statuses, outcomes))
        if self._live is not None:
            self._live.update(Text("\n".join(lines), no_wrap=True, overflow="ellipsis"), refresh=True)
        elif len(lines) > 1 or None in outcomes:
            for line in lines:
                self._log.say(line)

    def _lines(self, statuses: Sequence[Status], outcomes: Sequence[Outcome | None]) -> Iterator[str]:
        left = [i for i, outcome in enumerate(outcomes) if outcome is None]
        running = [i for i in left if statuses[i].phase is Phase.running]
        waiting = [i for i in left if statuses[i].phase is Phase.waiting]
        reasons = ", ".join(sorted({statuses[i].detail for i in waiting} - {"", "None"}))
        failed = sum(outcome is not None and outcome.failed for outcome in outcomes)
        counts = [f"{len(outcomes) - len(left)} of {len(outcomes)} jobs ended"]
        counts += [f"{failed} failed"] * bool(failed) + [f"{len(running)} running"] * bool(running)
        counts += [f"{len(waiting)} waiting{f' ({reasons})' if reasons else ''}"] * bool(waiting)
        yield ", ".join(counts)
        for i in running[:ROWS]:
            yield f"  {self.name(i)}: {last_line(self._orders[i].folder) or 'starting'}"
