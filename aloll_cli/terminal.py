"""What a person sees: results on stdout, everything else on stderr."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

LINE_EVERY = 15.0  # seconds between progress lines where there is no terminal

results = Console(highlight=False, soft_wrap=True)
notes = Console(stderr=True, highlight=False, soft_wrap=True)


class Log:
    """Says a line on the terminal and, where a file was given, keeps it there with the time."""

    def __init__(self, file: Path | None = None, quiet: bool = False) -> None:
        self._file, self._quiet = file, quiet

    def say(self, line: str) -> None:
        """One line of news."""
        self.keep(line)
        if not self._quiet:
            notes.print(escape(line))

    def warn(self, line: str) -> None:
        """Something that the user should look at."""
        self.keep(f"warning: {line}")
        if not self._quiet:
            notes.print(f"[yellow]warning:[/yellow] {escape(line)}")

    def keep(self, line: str) -> None:
        """A line for the file only."""
        if self._file is not None:
            with self._file.open("a") as stream:
                stream.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}\n")

    @contextmanager
    def progress(self, label: str, total: int, done: int = 0) -> Iterator[Meter]:
        """A live bar on a terminal; elsewhere a plain line now and then."""
        if self._quiet:
            yield Meter(label, total, done)
        elif notes.is_terminal:
            with Progress(
                TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[figures]}"),
                TimeElapsedColumn(), TimeRemainingColumn(), console=notes, transient=True,
            ) as bars:  # fmt: skip
                yield _Bar(label, total, done, bars)
        else:
            yield _Lines(label, total, done)


class Meter:
    """Counts what is done; the base class shows nothing."""

    def __init__(self, label: str, total: int, done: int) -> None:
        self.label, self.total, self.done, self.started_at = label, total, done, done
        self.figures = ""
        self.start = time.monotonic()

    def advance(self, count: int = 1, **figures: float) -> None:
        """Count some more, with running figures to show beside."""
        self.done += count
        if figures:
            self.figures = "  ".join(f"{name} {value:.4g}" for name, value in figures.items())
        self.show()

    def show(self) -> None:
        pass


class _Bar(Meter):
    def __init__(self, label: str, total: int, done: int, bars: Progress) -> None:
        super().__init__(label, total, done)
        self._bars = bars
        self._task = bars.add_task(label, total=total, completed=done, figures="")

    def show(self) -> None:
        self._bars.update(self._task, completed=self.done, figures=self.figures)


class _Lines(Meter):
    def __init__(self, label: str, total: int, done: int) -> None:
        super().__init__(label, total, done)
        self._said = self.start

    def show(self) -> None:
        now = time.monotonic()
        if now - self._said < LINE_EVERY or self.done >= self.total:
            return
        self._said = now
        rate = (self.done - self.started_at) / (now - self.start)
        left = (self.total - self.done) / rate if rate else float("inf")
        notes.print(escape(f"  {self.label} {self.done}/{self.total}  {rate:.1f}/s  {left:.0f} s left  {self.figures}"))
