"""Prompts that somebody types or has in a file: a text or a chat each, in the form of a task's own prompts."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from aloll_cli.errors import UserError
from aloll_cli.tasks.base import BadRow, Part, Task, Turn, text_field
from aloll_cli.tasks.column_names import STANDARD
from aloll_cli.tasks.forms import question
from aloll_cli.tasks.readers import SUFFIXES, json_row, rows_of
from aloll_cli.tasks.turns import chat_parts

STDIN = "-"
FORMS = (
    'Write a prompt per line, or rows such as {"prompt": "Hi"} or {"messages": [{"role": "user", "content": "Hi"}]}, '
    "or other rows that task=local reads"
)

Parts = Sequence[Part]


def asked_in(name: str, task: Task) -> list[Parts]:
    """The prompts in a file, or on stdin (``-``): rows that task=local reads, or plain text with a prompt on each line.

    Rows need no response; the last turn of a chat is left out where it is one.

    Raises:
        UserError: it cannot be read, a row has no prompt, or there is none.
    """
    found = [_parts(place, row, task) for place, row in _rows(name)]
    if not found:
        raise UserError(f"prompts={name}: there are no prompts in it.", FORMS)
    return found


def conversation(messages: Any, task: Task) -> Parts:
    """A chat that ends with a turn of the user, with the task's own speaker tags if it has some. Raises BadRow."""
    parts = chat_parts(messages)
    return task.conversation([Turn(role=str(part.role), content=part.text) for part in parts[:-1]]) or parts


def _parts(place: str, row: dict[str, Any] | str, task: Task) -> Parts:
    if isinstance(row, str):
        return task.asked(row)
    names = task.prompt_columns
    if row.get(names.prompt) is None and row.get(names.messages) is None:
        names = STANDARD  # as generate itself writes them
    try:
        read = question(row, names)
        messages = read.get(names.messages)
        return task.asked(text_field(read, names.prompt)) if messages is None else conversation(messages, task)
    except BadRow as error:
        raise UserError(f"{place}: {error}.", FORMS) from None


def _rows(name: str) -> Iterator[tuple[str, dict[str, Any] | str]]:
    """The place of each prompt, for messages, and its row or text."""
    if name == STDIN:
        yield from _lines("stdin", sys.stdin.buffer)
        return
    file = Path(name).expanduser()
    if not file.is_file():
        raise UserError(f"prompts={name}: there is no such file.", "prompts=FILE, prompts=- for stdin, or prompt='a text'")
    if file.name.endswith(SUFFIXES):
        yield from rows_of(file)
    else:
        with file.open("rb") as lines:
            yield from _lines(str(file), lines)


def _lines(name: str, lines: Iterable[bytes]) -> Iterator[tuple[str, dict[str, Any] | str]]:
    """Rows of JSON Lines, if the first line that is not blank looks like that; else a prompt on each line."""
    is_json = None
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        place = f"{name}, line {number}"
        is_json = line.lstrip().startswith(b"{") if is_json is None else is_json
        if is_json:
            yield place, json_row(line, place, first=number == 1)
            continue
        try:
            yield place, line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise UserError(f"{place}: byte {error.start} is not UTF-8.", "Save the file as UTF-8.") from None
