"""The prompt of a row in a public form: text, turns or an instruction, perhaps with a system text and earlier turns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aloll_cli.tasks.base import BadRow, expected, shown, text_field
from aloll_cli.tasks.column_names import listed
from aloll_cli.tasks.turns import decoded, is_filled, openai, spoken

if TYPE_CHECKING:
    from aloll_cli.tasks.column_names import Columns

Row = dict[str, Any]

CONVERSATIONS = ("conversations", "conversation")  # columns of ShareGPT's turns
INPUTS = ("input", "context")  # columns of what an instruction is about; the first that says something is read


def prompt_of(row: Row, names: Columns) -> tuple[Row, tuple[str, ...]]:
    """The columns of a row's prompt, a text or turns, and which columns of the row were read for it.

    Raises:
        BadRow: there is none, or there are two.
    """
    if (own := _own_prompt(row, names)) is not None:
        return with_system(own, row, names), ("system",)
    if (name := conversation_column(row, names)) is not None:
        return conversation(row, name, names)
    if row.get("instruction") is not None:
        return instruction(row, names)
    hint = f"Name it: {names.override(row, 'prompt')}. For the rows of HH-RLHF: task=hha"
    raise BadRow(f"field \"{names.prompt}\" is missing; the row has the fields '{listed(row)}'", hint)


def turns_in(row: Row, name: str, must: bool = False) -> Any:
    """A column's value; turns have OpenAI's form, also where they are stored as JSON text (``must``: it can be nothing else)."""
    return openai(decoded(row.get(name), name, must), name)


def chat_in(row: Row, name: str) -> list[Any] | None:
    """The turns in a column; None if it is null or blank. Raises BadRow for anything else."""
    found = turns_in(row, name, must=True)
    if found is not None and not isinstance(found, list):
        raise BadRow(expected("a list of turns", found, name))
    return found


def _own_prompt(row: Row, names: Columns) -> Row | None:
    """The columns of a prompt, from those of task=local; None where it has neither. Raises BadRow where it has two prompts."""
    prompt, chat = turns_in(row, names.prompt), chat_in(row, names.messages)
    if chat is not None and is_filled(prompt):
        if isinstance(prompt, list) and _repeats(chat, names.messages, prompt, names.prompt):
            return {names.messages: prompt, names.prompt: None}
        raise BadRow(f'fields "{names.prompt}" and "{names.messages}" are both set; expected one of them')
    if chat is not None or isinstance(prompt, list):
        return {names.messages: prompt if chat is None else chat, names.prompt: None}
    return None if prompt is None else {names.prompt: prompt}


def _repeats(chat: list[Any], its_name: str, prompt: list[Any], name: str) -> bool:
    """Whether a chat consists of the turns of a prompt, and perhaps a response to it."""
    mine, theirs = spoken(prompt, name), spoken(chat, its_name)
    return theirs[: len(mine)] == mine and [role for role, _ in theirs[len(mine) :]] in ([], ["assistant"])


def conversation_column(row: Row, names: Columns) -> str | None:
    """The column of ShareGPT's turns. An id or the like is no chat where the prompt stands elsewhere."""
    there = [name for name in CONVERSATIONS if is_filled(row.get(name)) or row.get(name) == []]
    is_elsewhere = any(row.get(name) is not None for name in (names.prompt, names.messages, "instruction"))
    others = [] if is_elsewhere else there
    return next((name for name in [*filter(lambda name: looks_like_turns(row[name]), there), *others]), None)


def looks_like_turns(value: Any) -> bool:
    """Whether a value is a list, perhaps as JSON text, and no id or the like."""
    return isinstance(value, list) or (isinstance(value, str) and value.lstrip().startswith("["))


def conversation(row: Row, name: str, names: Columns) -> tuple[Row, tuple[str, ...]]:
    """The column of a chat, from that of ShareGPT's turns, and which columns were read for it."""
    return with_system({names.messages: chat_in(row, name)}, row, names), (name, "system")


def instruction(row: Row, names: Columns) -> tuple[Row, tuple[str, ...]]:
    """The column of a prompt, from those of Alpaca, and which columns were read for it.

    It has turns where the row has a history of [question, answer], or a system text.
    """
    about = input_column(row)
    given = [text_field(row, name) for name in ("instruction", about) if row.get(name) or name == "instruction"]
    text, history = "\n\n".join(part for part in given if part.strip()), row.get("history")
    read = ("instruction", about, "history", "system")
    if history is None:
        return with_system({names.prompt: text}, row, names), read
    if not all(isinstance(pair, list) and len(pair) == 2 for pair in history or ()):
        raise BadRow(expected("a list of [question, answer]", history, "history"))
    earlier = [
        {"role": role, "content": said} for pair in history or () for role, said in zip(("user", "assistant"), pair, strict=True)
    ]
    chat = {names.messages: [*earlier, {"role": "user", "content": text}], names.prompt: None}
    return with_system(chat, row, names), read


def input_column(row: Row) -> str:
    """The column of what an instruction is about."""
    return next((name for name in INPUTS if is_filled(row.get(name))), INPUTS[0])


def with_system(prompt: Row, row: Row, names: Columns) -> Row:
    """The columns of a prompt with the text of the column ``system`` as first turn. A text becomes a turn of the user.

    Raises:
        BadRow: the first turn is another system text.
    """
    system = row.get("system")
    if system is None or "system" in names.named:
        return prompt
    turns = prompt.get(names.messages)
    if turns is None:
        turns = [of_user(text_field(prompt, names.prompt))]
    first = turns[0] if turns and isinstance(turns[0], dict) else {}
    is_opened = first.get("role") == "system"
    if is_opened and system and str(system).strip() != spoken([first], names.messages)[0][1].strip():
        raise BadRow(
            f'field "system" and the first turn are different system texts; expected one of them, got {shown(system)} and '
            f"{shown(first['content'])}"
        )
    opening = [{"role": "system", "content": system}] if system and not is_opened else []
    return {names.messages: [*opening, *turns], names.prompt: None}


def of_user(text: Any) -> Row:
    """A turn of the user."""
    return {"role": "user", "content": text}
