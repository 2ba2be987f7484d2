"""What people should know about how a row is read, beside its form and its unread columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aloll_cli.tasks.asked import turns_in
from aloll_cli.tasks.column_names import listed
from aloll_cli.tasks.turns import is_filled, unread_keys

if TYPE_CHECKING:
    from aloll_cli.tasks.column_names import Columns

Row = dict[str, Any]


def more_on(row: Row, read: Row, names: Columns) -> list[str]:
    """Lines on the column system, on keys of turns that are not read, and on tools.

    Args:
        row: the row.
        read: the same with the columns of task=local; a column that is in it under another name than theirs was not read.
        names: its columns.
    """
    lines = []
    if row.get("system") is not None and "system" not in read:
        lines.append('the column "system" is the system turn of each prompt')
    columns = [name for name in row if name in names.named or name not in read]
    if unread := sorted({key for name in columns for key in unread_keys(_turns(row, name))}):
        lines.append(f"keys of turns that are not read: {listed(unread)}")
    if any(is_filled(holder.get("tools")) for holder in (row, row.get("input")) if isinstance(holder, dict)):
        lines.append("warning: tools are not read: the model will not see their descriptions in the prompts")
    return lines


def _turns(row: Row, name: str) -> Any:
    """The turns in a column, also in an object with messages; anything that is none of them as it is."""
    value = turns_in(row, name)
    if isinstance(value, dict):
        return turns_in(value, "messages") if "messages" in value else [value]
    return value
