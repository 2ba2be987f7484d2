"""A Python function of your own as a reward.

``aloll run reward=function reward.path=my.py reward.function=score``, with in my.py::

    def score(rows):
        return [1.0 if "thank" in row["response"] else 0.0 for row in rows]

A row is a dict: "id", "prompt" (the whole text), "response", "turns" (the prompt as [{"role": …, "content": …}, …]) and
"stored" (the stored reward, or None). The function returns one finite number per row, in the order of the rows; it must depend on
the row alone, not on the other rows of the call.
"""

from __future__ import annotations

import hashlib
import importlib.util
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from aloll_cli.errors import UserError
from aloll_cli.rewards.base import Reward, Row, Scorer, check_name
from aloll_cli.rewards.repeated import NOISE, difference
from aloll_cli.schema import COUNT, OPERATIONAL, numbers
from aloll_cli.user_code import real_numbers, shown_traceback, summary, within

if TYPE_CHECKING:
    from aloll_cli.arrays import FloatArray

FIELDS = ("id", "prompt", "response", "turns", "stored")
KEPT = "Blocks scored so far are kept: the same command resumes there. A changed file scores all rows again."
IMPORTS = "Correct the file. Its imports must be installed, or be in a folder on PYTHONPATH."


@dataclass(kw_only=True)
class Function(Reward):
    """The scores of a function in a Python file. The file's content is part of the recipe, what it imports is not."""

    path: str = field(metadata=OPERATIONAL)
    function: str
    lo: float = field(metadata=numbers("[-inf, inf]", 0.0))  # range of its scores; -.inf and .inf if unbounded
    hi: float = field(metadata=numbers("[-inf, inf]", 1.0))
    rows: int = field(metadata=OPERATIONAL | COUNT)  # per call, at most
    timeout: float | None = field(metadata=OPERATIONAL | numbers("(0, inf)", 60.0))  # seconds per call, at most

    def __post_init__(self) -> None:
        check_name(self.function, "Rename the function: reward.function=score")
        if not self.lo < self.hi:
            raise UserError(f"reward.lo={self.lo} must be less than reward.hi={self.hi}.", "reward.lo=0 reward.hi=1")

    @property
    def label(self) -> str:
        return self.function

    @property
    def range(self) -> tuple[float, float]:
        return self.lo, self.hi

    @property
    def file(self) -> Path:
        """The file of the function. Raises UserError if it does not exist or is not a Python file."""
        file = Path(self.path).expanduser().resolve()
        if not file.exists():
            raise UserError(f"reward.path={self.path}: no such file.", "reward.path=FILE.py reward.function=NAME")
        if file.suffix != ".py" or not file.is_file():
            raise UserError(f"reward.path={self.path} is not a Python file.", "reward.path=FILE.py reward.function=NAME")
        return file

    def content(self) -> dict[str, Any]:
        return {"sha256": hashlib.sha256(self.file.read_bytes()).hexdigest()}

    @property
    def read_from(self) -> str:
        return self.path

    def scorer(self, state: Path | None) -> Scorer:
        return _FunctionScorer(self)


class _FunctionScorer(Scorer):
    def __init__(self, reward: Function) -> None:
        self._reward = reward
        file = self._file = reward.file
        spec = importlib.util.spec_from_file_location(f"reward_{file.stem}", file)
        assert spec is not None
        module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)  # dataclasses look their module up there
        with _blamed_on(file, "cannot be imported", IMPORTS), redirect_stdout(sys.stderr):
            exec(compile(file.read_bytes(), str(file), "exec", dont_inherit=True), vars(module))  # no .pyc, which may be stale
        self._function: Callable[[list[dict[str, Any]]], Any] = getattr(module, reward.function, None)  # type: ignore[assignment]
        if not callable(self._function):
            there = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
            raise UserError(
                f"{reward.path} has no function {reward.function}.", f"Functions in the file: {', '.join(there) or 'none'}."
            )

    def score(self, rows: Sequence[Row]) -> FloatArray:
        import numpy as np

        step = self._reward.rows
        return np.concatenate([self._call(rows[start : start + step]) for start in range(0, len(rows), step)])

    def doubt(self, rows: Sequence[Row], scores: FloatArray) -> str | None:
        found = difference(self.score, rows, scores)
        if found is None:
            return None
        name = f"{Path(self._reward.path).name}: {self._reward.function}"
        if found.size > NOISE:
            what = f"{name} gives a row a score that depends on more than the row: {found.told}."
            raise UserError(
                what, "Return the same number for the same row, whatever the other rows are, and draw none at random."
            )
        return f"{name} does not give a row quite the same score again: {found.told}"

    def _call(self, rows: Sequence[Row]) -> FloatArray:
        reward = self._reward
        name, which = f"{Path(reward.path).name}: {reward.function}", shown(rows)
        given = [{field: getattr(row, field) for field in FIELDS} for row in rows]
        with (
            _blamed_on(self._file, f"{reward.function} raised for {which}", KEPT),
            _at_most(reward.timeout, f"{name} took more than reward.timeout={reward.timeout} seconds for {which}."),
            redirect_stdout(sys.stderr),  # stdout carries results
        ):
            returned = self._function(given)
        try:
            scores = real_numbers(returned)
        except TypeError as error:
            what = f"{name} returned {_short(returned)} for {which}: {error}."
            raise UserError(what, f"Expected a list of {numbered(len(rows))}. {KEPT}") from None
        if scores.shape != (len(rows),):
            many = numbered(len(scores)) if scores.ndim == 1 else _short(returned)
            raise UserError(f"{name} returned {many} for {which}.", f"Expected {numbered(len(rows))}. {KEPT}")
        return scores


def numbered(count: int) -> str:
    """``1 number``, ``2 numbers``."""
    return f"{count} number{'s' * (count != 1)}"


def shown(rows: Sequence[Row]) -> str:
    """Rows by their ids: ``rows train-0-0, train-1-0`` or, if there are many, the first and the last."""
    names = [row.id for row in rows]
    if len(names) == 1:
        return f"row {names[0]}"
    return f"rows {', '.join(names)}" if len(names) <= 4 else f"{len(names)} rows, {names[0]} to {names[-1]}"


class _TooLong(BaseException):
    """Not an Exception, so that a function that catches all exceptions does not catch it."""


@contextmanager
def _at_most(seconds: float | None, what: str) -> Iterator[None]:
    """Raises UserError if the block takes longer."""
    if seconds is None:
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise _TooLong

    previous = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds, 1)  # again every second, for functions that catch everything
    try:
        yield
    except _TooLong:
        raise UserError(what, f"reward.timeout={2 * seconds:g}, or fewer rows per call: reward.rows=16. {KEPT}") from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


@contextmanager
def _blamed_on(file: Path, what: str, hint: str) -> Iterator[None]:
    """Turns an exception of the user's code into a UserError with its traceback, starting at the user's file."""
    try:
        yield
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        trace = within(error, lambda frame: frame.f_code.co_filename == str(file))
        raise UserError(f"{file.name}: {what}: {summary(error)}", hint, shown_traceback(error, trace)) from None


def _short(value: object) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:59]}…"
