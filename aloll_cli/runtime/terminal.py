"""Terminal output: results on stdout, everything else on stderr."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn
from rich.segment import Segment
from rich.table import Column

from aloll_cli.files import open_to_append
from aloll_cli.runtime.options import Verbosity
from aloll_cli.visible import on_terminal

LINE_EVERY = 15.0  # seconds between two progress lines if stderr is not a terminal
WIDE = 110  # columns from which on the progress bar is long


class _Console(Console):
    """Shows control characters, which names and texts of others may contain, as escapes."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(on_terminal(segment.text), segment.style)


class _Results(_Console):
    """Goes on silently if the reader of a pipe has closed it."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _Notes(_Console):
    """Goes on silently if stderr cannot be written, for example to a full disk; the log file has every line."""

    def print(self, *objects: Any, **options: Any) -> None:
        with suppress(OSError):
            super().print(*objects, **options)


results = _Results(highlight=False, soft_wrap=True)
notes = _Notes(stderr=True, highlight=False, soft_wrap=True)


@contextmanager
def without_results() -> Iterator[None]:
    """Within this context nothing is printed to stdout."""
    before, results.quiet = results.quiet, True
    try:
        yield
    finally:
        results.quiet = before


class Log:
    """Logs lines to the terminal and, with a time stamp, to a file."""

    def __init__(self, file: Path | None = None, verbosity: Verbosity = Verbosity.normal, muted: bool = False) -> None:
        """Open a log.

        Args:
            file: receives every line, regardless of verbosity; None for no file.
            verbosity: which lines are shown.
            muted: show nothing, because another process logs the same.
        """
        self._file, self._muted = file, muted
        self._shows_info = not muted and verbosity is not Verbosity.quiet
        self._shows_details = not muted and verbosity is Verbosity.verbose
        self._meter: Meter | None = None

    def say(self, line: str) -> None:
        """Log a line that is shown at normal verbosity."""
        self._write(line)
        if self._shows_info:
            notes.print(escape(line))

    def warn(self, line: str) -> None:
        """Log a warning, which is always shown."""
        self._write(f"warning: {line}")
        if not self._muted:
            notes.print(f"[yellow]warning:[/yellow] {escape(line)}")

    def detail(self, line: str) -> None:
        """Log a line that is shown at verbosity=verbose only."""
        self._write(line)
        if self._shows_details:
            notes.print(f"[dim]{escape(line)}[/dim]")

    def _write(self, line: str) -> None:
        if self._file is not None:
            with open_to_append(self._file) as stream:
                stream.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}\n")

    @contextmanager
    def progress(self, label: str, total: int, done: int = 0) -> Iterator[Meter]:
        """A progress bar on a terminal; elsewhere a plain line every LINE_EVERY seconds."""
        with self._meter_for(label, total, done) as self._meter:
            yield self._meter

    def advance(self, count: int) -> None:
        """Advance the current progress bar."""
        assert self._meter is not None
        self._meter.advance(count)

    @contextmanager
    def _meter_for(self, label: str, total: int, done: int) -> Iterator[Meter]:
        if not self._shows_info:
            yield Meter(label, total, done)
        elif notes.is_terminal and not notes.is_dumb_terminal:
            columns = (
                TextColumn("{task.description}"), BarColumn(bar_width=40 if notes.width >= WIDE else 10),
                TextColumn("{task.fields[figures]}", table_column=Column(no_wrap=True)),
            )  # fmt: skip
            with Progress(*columns, console=notes, transient=True) as bars:
                yield _Bar(label, total, done, bars)
        else:
            yield _Lines(label, total, done)


class Meter:
    """Counts what is done and estimates the time left; the base class shows nothing."""

    def __init__(self, label: str, total: int, done: int) -> None:
        self.label, self.total, self.done, self._started_at = label, total, done, done
        self._figures: dict[str, float] = {}
        self._start = time.monotonic()

    def advance(self, count: int = 1, **figures: float) -> None:
        """Count some more, with metrics to show next to the count."""
        self.done += count
        self._figures |= figures
        self.show()

    def show(self) -> None:
        pass

    def state(self) -> str:
        """``120/400  2.5/s  1:52 left  loss 31.2``."""
        rate = (self.done - self._started_at) / max(time.monotonic() - self._start, 1e-9)
        left = _clock((self.total - self.done) / rate) if rate else "?"
        figures = "".join(f"  {name} {value:.4g}" for name, value in self._figures.items())
        return f"{self.done}/{self.total}  {rate:.3g}/s  {left} left{figures}"


def _clock(seconds: float) -> str:
    """``1:52``, or ``3:01:52`` from an hour on."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


class _Bar(Meter):
    def __init__(self, label: str, total: int, done: int, bars: Progress) -> None:
        super().__init__(label, total, done)
        self._bars = bars
        self._task = bars.add_task(escape(label), total=total, completed=done, figures=f"{done}/{total}")

    def show(self) -> None:
        self._bars.update(self._task, completed=self.done, figures=self.state())


class _Lines(Meter):
    def __init__(self, label: str, total: int, done: int) -> None:
        super().__init__(label, total, done)
        self._said = self._start

    def show(self) -> None:
        now = time.monotonic()
        if now - self._said < LINE_EVERY or self.done >= self.total:
            return
        self._said = now
        notes.print(escape(f"  {self.label} {self.state()}"))
