"""Pairs of whole chats: which turns they share, and what a prompt beside them adds."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from aloll_cli.tasks.asked import CONVERSATIONS, chat_in, instruction, looks_like_turns, of_user, turns_in, with_system
from aloll_cli.tasks.base import BadRow, shown
from aloll_cli.tasks.turns import is_filled, spoken

if TYPE_CHECKING:
    from aloll_cli.tasks.column_names import Columns

Row = dict[str, Any]

HINT = 'Drop "{}" to learn from the chats alone, or leave such rows out: task.on_bad_row=skip'


def are_whole_chats(sides: Mapping[str, Any]) -> bool:
    """Whether the responses of a pair are chats with their prompts."""
    return all(isinstance(side, list) and len(side) > 1 for side in sides.values())


def _check_shared(sides: Mapping[str, list[Any]]) -> None:
    """Raises BadRow unless the chats of a pair say the same in all turns but the last one of each."""
    first, second = sides
    chosen, rejected = (spoken(side[:-1], name) for name, side in sides.items())
    same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(chosen, rejected, strict=False)))
    if same < max(len(chosen), len(rejected)):
        raise BadRow(f'fields "{first}" and "{second}": expected chats that differ in their last turn only')


def before_chats(chats: dict[str, list[Any]], row: Row, names: Columns) -> tuple[Row, tuple[str, ...]]:
    """The columns of the prompt of a pair of whole chats, and which columns of the row were read for it.

    It is the turns that both chats begin with. A prompt of the row's own must repeat them, or goes before them.

    Args:
        chats: the two, by their columns.
        row: the row.
        names: its columns.

    Raises:
        BadRow: the chats differ before their last turn, or the row has another prompt.
    """
    _check_shared(chats)
    column, chosen = next(iter(chats.items()))
    turns = chosen[:-1]
    ends = [spoken(chat, name)[-1] for name, chat in chats.items()]
    given, read = _given_prompts(row, names)
    for name, prompt in given.items():
        turns = _joined({name: prompt, column: turns}, ends)
    return with_system({names.messages: turns, names.prompt: None}, row, names), read


def _given_prompts(row: Row, names: Columns) -> tuple[dict[str, list[Any]], tuple[str, ...]]:
    """The prompts that stand beside whole chats, as turns by their columns, and which columns of the row were read for them."""
    own = {names.prompt: turns_in(row, names.prompt), names.messages: chat_in(row, names.messages)}
    found = {name: value if isinstance(value, list) else [of_user(value)] for name, value in own.items() if is_filled(value)}
    if found:
        return found, ("system",)
    for column in CONVERSATIONS:
        if looks_like_turns(row.get(column)):
            return {column: chat_in(row, column) or []}, (column, "system")
    if row.get("instruction") is None:
        return {}, ("system",)
    prompt, read = instruction(row, names)
    turns = prompt.get(names.messages)
    return {"instruction": [of_user(prompt[names.prompt])] if turns is None else turns}, read


def _joined(both: dict[str, list[Any]], ends: list[tuple[str, str]]) -> list[Any]:
    """The turns of a prompt and of the chats beside it, as one chat.

    Args:
        both: by their columns, the prompt's turns and those that the chats share.
        ends: role and text of the last turn of each chat; the prompt may repeat a whole chat.

    Raises:
        BadRow: the prompt neither repeats a part of the chats nor can stand before them.
    """
    (prompt, given), (chats, turns) = both.items()
    mine, theirs = ([(role, text.strip()) for role, text in spoken(value, name)] for name, value in both.items())
    my_system, system = (list(takewhile(lambda turn: turn[0] == "system", side)) for side in (mine, theirs))
    if my_system and system and my_system != system:
        raise _different(both, my_system[0][1], system[0][1])
    asked, shared = mine[len(my_system) :], theirs[len(system) :]
    opening = turns[: len(system)] or given[: len(my_system)]
    is_beginning = any(asked == [*shared, (role, text.strip())][: len(asked)] for role, text in ends)
    is_question = len(asked) == 1 and asked[0][0] == "user" and asked[0] in shared
    goes_before = bool(asked and shared) and asked[-1][0] == "user" and shared[0][0] == "assistant"
    if is_beginning or (is_question and not goes_before):
        return [*opening, *turns[len(system) :]]
    if is_question:
        raise BadRow(
            f'fields "{prompt}" and "{chats}": {shown(asked[0][1])} may repeat the same turn of the chats, or go before '
            "them: they begin with a turn of the assistant",
            HINT.format(prompt),
        )
    if goes_before:
        return [*opening, *given[len(my_system) :], *turns[len(system) :]]
    raise _different(both, (asked or mine)[-1][1], (shared or theirs)[0][1])


def _different(both: dict[str, list[Any]], mine: str, theirs: str) -> BadRow:
    prompt, chats = both
    return BadRow(
        f'field "{prompt}" does not match the chats in "{chats}": it says {shown(mine)}, and they begin with {shown(theirs)}',
        "Expected the turns that the chats share, a question in them, or what was said before them. " + HINT.format(prompt),
    )
