"""What a cell of a reward column is worth: a number, true or false, or a label to which the user gives a worth."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from typing import Any

from aloll_cli.errors import UserError
from aloll_cli.tasks.base import BadRow, number

BOOLEANS = {"true": 1.0, "false": 0.0}
MISSING = ("nan", "none", "null", "n/a", "na", "nil", "inf", "-inf", "infinity", "-infinity")  # no label, in small letters


def labels_of(given: Any) -> dict[str, float]:
    """What labels are worth, as given: {label: number}, or a list of "label: number", or None.

    Raises:
        UserError: it is given otherwise.
    """
    if given is None:
        return {}
    pairs = [str(item).rpartition(":")[::2] for item in given] if isinstance(given, list) else given
    try:
        return {_text(label): number(worth, "labels") for label, worth in (pairs.items() if isinstance(pairs, dict) else pairs)}
    except (BadRow, TypeError, ValueError):
        what = "task.labels: expected what each text is worth, as {text: number}."
        raise UserError(what, "task.labels={up: 1, down: 0}, or task.labels=['up: 1','down: 0']") from None


def worth(value: Any, name: str, labels: Mapping[str, float]) -> float | None:
    """The reward that a cell holds; None if it is empty.

    Args:
        value: the cell: a number, a boolean or text.
        name: its column.
        labels: what labels are worth; they win over numbers and booleans.

    Raises:
        BadRow: it is none of these.
    """
    if value is None:
        return None
    text = _text(value)
    if text in labels:
        return labels[text]
    if isinstance(value, bool | str) and text in BOOLEANS:
        return BOOLEANS[text]
    try:
        return number(value, name)
    except BadRow as error:
        if not isinstance(value, str) or not text or text.lower() in MISSING:
            raise
        known = f" or one of {', '.join(labels)}" if labels else ""
        if any(map(str.isdigit, text)):
            hint = "Write numbers like 0.5, or leave such rows out: task.on_bad_row=skip"
        else:
            hint = f"Say what such texts are worth, such as {_override(text)}, or leave them out: task.on_bad_row=skip"
        raise BadRow(str(error).replace("expected a number", f"expected a number{known}"), hint) from None


def _text(value: Any) -> str:
    """A label or a cell as text: without white space around it, booleans in one spelling."""
    text = f"{value:g}" if isinstance(value, float) else str(value).strip()
    return text.lower() if text.lower() in BOOLEANS else text


def _override(text: str) -> str:
    """The override that gives a text a worth, quoted for a shell."""
    if re.fullmatch(r"[A-Za-z]\w*", text):
        return f'"task.labels={{{text}: 1}}"'
    override = "task.labels=['{}: 1']".format(text.replace("\\", "\\\\").replace("'", "\\'"))
    return f'"{override}"' if set(text).isdisjoint('"$`!\\') else shlex.quote(override)
