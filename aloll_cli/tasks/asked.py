"""The prompt of a row in a public form: text, turns or an instruction, perhaps with a system text and earlier turns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aloll_cli.tasks.base import BadRow, expected, text_field
from aloll_cli.tasks.column_names import listed

if TYPE_CHECKING:
    from aloll_cli.tasks.column_names import Columns

Row = dict[str, Any]

CONVERSATIONS = ("conversations", "conversation")  # columns of ShareGPT's turns
OF_CONVERSATION = (*CONVERSATIONS, "system")
OF_INSTRUCTION = ("instruction", "input", "history", "system")


def prompt_of(row: Row, names: Columns) -> tuple[Row, tuple[str, ...]]:
    """The columns of a row's prompt, a text or turns, and which columns of the row were read for it.

    Raises:
        BadRow: there is none.
    """
    if row.get(names.prompt) is not None:
        return with_system(asked(row[names.prompt], names), row, names), ("system",)
    if row.get(names.messages) is not None:
        return with_system({names.messages: row[names.messages]}, row, names), ("system",)
    if any(row.get(name) is not None for name in CONVERSATIONS):
        return conversation(row, names), OF_CONVERSATION
    if row.get("instruction") is not None:
        return instruction(row, names), OF_INSTRUCTION
    hint = f"Name it: {names.override(row, 'prompt')}. For the rows of HH-RLHF: task=hha"
    raise BadRow(f"field \"{names.prompt}\" is missing; the row has the fields '{listed(row)}'", hint)


def asked(prompt: Any, names: Columns) -> Row:
    """The column of a prompt: turns, or text."""
    return {names.messages: prompt, names.prompt: None} if isinstance(prompt, list) else {names.prompt: prompt}


def conversation(row: Row, names: Columns) -> Row:
    """The column of a chat, from those of ShareGPT."""
    name = next(name for name in CONVERSATIONS if row.get(name) is not None)
    if not isinstance(row[name], list):
        raise BadRow(expected("a list of turns", row[name], name))
    return with_system({names.messages: row[name]}, row, names)


def instruction(row: Row, names: Columns) -> Row:
    """The column of a prompt, from those of Alpaca; turns where the row has a history of [question, answer], or a system text."""
    given = [text_field(row, name) for name in ("instruction", "input") if row.get(name) or name == "instruction"]
    text, history = "\n\n".join(part for part in given if part.strip()), row.get("history")
    if "history" not in row:
        return with_system({names.prompt: text}, row, names)
    if not all(isinstance(pair, list) and len(pair) == 2 for pair in history or ()):
        raise BadRow(expected("a list of [question, answer]", history, "history"))
    earlier = [
        {"role": role, "content": said} for pair in history or () for role, said in zip(("user", "assistant"), pair, strict=True)
    ]
    chat = {names.messages: [*earlier, {"role": "user", "content": text}], names.prompt: None}
    return with_system(chat, row, names)


def with_system(prompt: Row, row: Row, names: Columns) -> Row:
    """The columns of a prompt with the text of the column ``system`` as first turn. A text becomes a turn of the user.

    Raises:
        BadRow: the first turn is another system text.
    """
    if "system" not in row or "system" in names.named:
        return prompt
    system, turns = row["system"], prompt.get(names.messages)
    if turns is None:
        turns = [{"role": "user", "content": prompt[names.prompt]}]
    first = turns[0] if turns and isinstance(turns[0], dict) else {}
    if first.get("role") == "system" and system and first.get("content") != system:
        raise BadRow('field "system" and the first turn are different system texts; expected one of them')
    opening = [{"role": "system", "content": system}] if system and first.get("role") != "system" else []
    return {names.messages: [*opening, *turns], names.prompt: None}
