"""What is to be said of all rows of task=local: their forms, the columns that are not read, and scores against preferences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aloll_cli.errors import UserError
from aloll_cli.tasks.base import BadRow, Dropped, Record
from aloll_cli.tasks.column_names import Columns, listed
from aloll_cli.tasks.forms import standard
from aloll_cli.tasks.labels import is_empty
from aloll_cli.tasks.reading import Reading

if TYPE_CHECKING:
    from aloll_cli.tasks.base import Task

MOST = 1000  # names of columns, and shapes of rows, that are remembered
EMPTY = '""'  # the name of a column without one
OWN = "the columns of task=local"  # a row of no public form


@dataclass(frozen=True)
class HowRead:
    """How rows of one shape are read.

    Attributes:
        form: what they are read as, for people.
        unread: the columns that are not read although they say something.
        scores: of a pair, the columns of its rewards; empty where they are 1 and 0.
    """

    form: str = OWN
    unread: tuple[str, ...] = ()
    scores: tuple[str, ...] = ()


@dataclass
class Preferences:
    """How many pairs have scores, and in how many these contradict which response is called chosen."""

    scored: int = 0
    inverted: int = 0
    equal: int = 0

    def add(self, chosen: float, rejected: float) -> None:
        self.scored += 1
        self.inverted += chosen < rejected
        self.equal += chosen == rejected


class LocalReading(Reading):
    """Reads rows of one's own."""

    def __init__(self, task: Task, columns: Columns) -> None:
        super().__init__(task)
        self._columns = columns
        self._known: dict[Any, HowRead] = {}  # by the shape of rows
        self._rows = 0
        self._forms: Counter[str] = Counter()
        self._unread: Counter[str] = Counter()
        self._pairs: dict[tuple[str, tuple[str, ...]], Preferences] = {}  # by split and the columns of the scores

    def records(self, row: dict[str, Any], split: str) -> Sequence[Record]:
        found = super().records(row, split)
        how = self._how(row)
        self._rows += 1
        self._forms[how.form] += 1
        self._unread.update(column for column in how.unread if column in self._unread or len(self._unread) < MOST)
        if how.scores and isinstance(found, list) and len(found) == 2:
            chosen, rejected = (record.reward for record in found)
            if chosen is not None and rejected is not None:
                self._pairs.setdefault((split, how.scores), Preferences()).add(chosen, rejected)
        return found

    def told(self) -> list[str]:
        lines = [f"rows are read as {form}{self._share(count)}" for form, count in self._forms.most_common()]
        if lines == [f"rows are read as {OWN}"]:
            lines = []
        if self._unread:
            names = (f"{column or EMPTY}{self._share(count)}" for column, count in self._unread.items())
            lines.append(f"columns that are not read: {listed(names)}")
        return lines + [
            f"{split}: by {' and '.join(columns)}, chosen is below rejected in {found.inverted:,} of {found.scored:,} pairs, "
            f"and equal in {found.equal:,}, which say nothing of which response is better"
            for (split, columns), found in self._pairs.items()
            if found.inverted or found.equal
        ]

    def warnings(self, place: Callable[[str], str]) -> list[str]:
        warnings = []
        for (split, columns), found in self._pairs.items():
            scores, share = " and ".join(columns), f"{found.inverted:,} of {found.scored:,} rows"
            is_named = set(columns) <= set(self._columns.rewards)  # and not found by us
            if 2 * found.inverted > found.scored and not is_named:
                raise UserError(
                    f"{place(split)}: the scores say the reverse of chosen and rejected in {share} ({scores}).",
                    "If less is better, or they are swapped, drop or rename these columns to use 1 and 0. To train on them as "
                    f'they are, write them as one column "{self._columns.rewards[0]}": [of chosen, of rejected].',
                )
            if found.inverted:
                warnings.append(
                    f"{place(split)}: by {scores}, rejected is better than chosen in {share}; training follows these numbers"
                )
        return warnings

    def _share(self, count: int) -> str:
        return "" if count == self._rows else f" ({count:,} of {self._rows:,} rows)"

    def _how(self, row: dict[str, Any]) -> HowRead:
        """How a row is read, which its shape says: which columns it has, and of what kind their cells are."""
        shape = tuple((name, _kind(cell)) for name, cell in row.items())
        if (known := self._known.get(shape)) is not None:
            return known
        found = HowRead()
        with suppress(BadRow, Dropped):  # a task that derives from Local may have changed the row before it was read
            read, form = standard(row, self._columns)
            unread = tuple(column for column in read if column not in self._columns.named and not is_empty(read[column]))
            found = HowRead(unread=unread)
            if form is not None:
                unread += form.unread(row, self._columns)
                found = HowRead(form.told(row, self._columns), unread, form.scores(row, self._columns))
        if len(self._known) < MOST:
            self._known[shape] = found
        return found


def _kind(cell: Any) -> Any:
    """What of a cell decides how its row is read: its type, whether it has several turns, whether it is blank or may be JSON."""
    if isinstance(cell, list):
        return list, len(cell) > 1
    if isinstance(cell, str):
        first = cell.lstrip()[:1]
        return str, first if first in ("", "[") else "text"
    return type(cell)
