"""What a cell of a reward column is worth: a number, true or false, or a label to which the user gives a worth."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from typing import Any

from aloll_cli.errors import UserError
from aloll_cli.tasks.base import LEAVE_OUT, BadRow, expected, number
from aloll_cli.tasks.column_names import listed

BOOLEANS = {"true": 1.0, "false": 0.0}
MISSING = ("nan", "none", "null", "n/a", "na", "<na>", "nil")  # what stands for a number that is not known, in small letters
INFINITE = ("inf", "-inf", "infinity", "-infinity")
YAML_WORDS = {"yes": "true", "on": "true", "no": "false", "off": "false"}  # booleans of YAML
EXACT = 2**53  # below it a floating-point number holds every integer
ADD = "Say what it is worth in task.labels, too, or leave such rows out: task.on_bad_row=skip"
QUOTE = (
    "YAML reads yes, no, on and off as true and false. Quote the labels in the YAML file: {'yes': 1, 'no': 0}. "
    "Or leave such rows out: task.on_bad_row=skip"
)
EMPTY = (
    "Where there is no reward, write null or, in CSV, an empty cell: task.unrated=drop leaves such responses out. "
    "Or leave such rows out: task.on_bad_row=skip"
)
EXAMPLE = "task.labels={up: 1, down: 0}, or task.labels=['up: 1','down: 0']"


def labels_of(given: Any) -> dict[str, float]:
    """What labels are worth, as given: {label: number}, or a list of "label: number", or None.

    Raises:
        UserError: it is given otherwise, or one label has two worths.
    """
    if given is None:
        return {}
    pairs = [str(item).rpartition(":")[::2] for item in given] if isinstance(given, list) else given
    found: dict[str, float] = {}
    try:
        for label, given_worth in pairs.items() if isinstance(pairs, dict) else pairs:
            value = number(given_worth, "labels")
            if found.setdefault(_text(label), value) != value:
                raise UserError(f"task.labels: {_text(label)} has two worths, {found[_text(label)]:g} and {value:g}.", EXAMPLE)
    except (BadRow, TypeError, ValueError):
        raise UserError("task.labels: expected what each text is worth, as {text: number}.", EXAMPLE) from None
    return found


def is_empty(cell: Any) -> bool:
    """Whether a cell of rewards holds nothing: it is null or, as in CSV, blank text."""
    return cell is None or (isinstance(cell, str) and not cell.strip())


def worth(value: Any, name: str, labels: Mapping[str, float]) -> float | None:
    """The reward that a cell holds; None if it is empty.

    Args:
        value: the cell: a number, a boolean or text.
        name: its column.
        labels: what labels are worth; they win over numbers and booleans. Numbers are the same label however they are written.
            If a label is a number or a boolean, every cell must be a label.

    Raises:
        BadRow: it is none of these.
    """
    text = _text(value)
    if text in labels and value is not None:
        return labels[text]
    if is_empty(value):
        return None
    is_word = isinstance(value, str) and text.lower() not in (*MISSING, *INFINITE)
    no_word = EMPTY if text.lower() in MISSING else LEAVE_OUT
    if any(map(_is_value, labels)):
        if is_word and YAML_WORDS.get(text.lower()) in labels:
            raise BadRow(expected(f"one of the labels {listed(labels)}", value, name), QUOTE)
        hint = ADD if is_word or _is_value(text) else no_word
        raise BadRow(expected(f"one of the labels {listed(labels)}", value, name), hint)
    if isinstance(value, bool | str) and text in BOOLEANS:
        return BOOLEANS[text]
    try:
        return number(value, name)
    except BadRow as error:
        if not is_word:
            raise BadRow(str(error), no_word) from None
        known = f" or one of {listed(labels)}" if labels else ""
        if any(map(str.isdigit, text)):
            hint = "Write numbers like 0.5, or leave such rows out: task.on_bad_row=skip"
        else:
            hint = f"Say what such texts are worth, such as {_override(text)}, or leave them out: task.on_bad_row=skip"
        raise BadRow(str(error).replace("expected a number", f"expected a number{known}"), hint) from None


def _text(value: Any) -> str:
    """A label or a cell as text: without white space around it, numbers and booleans in one spelling: 1.00 as 1, True as true."""
    text = str(value).strip()
    if text.lower() in BOOLEANS:
        return text.lower()
    found = _finite(value)
    if found is None:
        return text
    return str(int(found)) if found.is_integer() and abs(found) < EXACT else repr(found)


def _is_value(text: str) -> bool:
    """Whether a label or a cell is a number or a boolean, and no word."""
    return text in BOOLEANS or _finite(text) is not None


def _finite(value: Any) -> float | None:
    try:
        return number(value, "")
    except BadRow:
        return None


def _override(text: str) -> str:
    """The override that gives a text a worth, quoted for a shell."""
    if re.fullmatch(r"[A-Za-z]\w*", text):
        return f'"task.labels={{{text}: 1}}"'
    override = "task.labels=['{}: 1']".format(text.replace("\\", "\\\\").replace("'", "\\'"))
    return f'"{override}"' if set(text).isdisjoint('"$`!\\') else shlex.quote(override)
