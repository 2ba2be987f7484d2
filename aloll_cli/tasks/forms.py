"""Public forms of rows, and how each becomes the one that task=local reads: a prompt or a chat, responses, rewards.

A form is told by its columns. Its reader returns the row with ``prompt`` or ``messages``, ``response`` and ``reward``, under the
names that ``task.columns`` gives them, instead of its own columns; whatever else a row has stays.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from itertools import takewhile
from typing import TYPE_CHECKING, Any, ClassVar

from aloll_cli.tasks.asked import (
    CONVERSATIONS,
    OF_CONVERSATION,
    OF_INSTRUCTION,
    asked,
    conversation,
    instruction,
    prompt_of,
    with_system,
)
from aloll_cli.tasks.base import BadRow, expected
from aloll_cli.tasks.turns import answered, decoded, openai

if TYPE_CHECKING:
    from aloll_cli.tasks.column_names import Columns

Row = dict[str, Any]

SCORES = (  # of a pair, the preferred response first
    ("score_chosen", "score_rejected"), ("chosen_score", "rejected_score"), ("reward_chosen", "reward_rejected"),
    ("chosen_reward", "rejected_reward"), ("rating_chosen", "rating_rejected"), ("chosen_rating", "rejected_rating"),
)  # fmt: skip


class Form(ABC):
    """A form of rows."""

    what: ClassVar[str]  # its name for people, with its columns
    columns: ClassVar[tuple[str, ...]]  # that a row of the form has

    def fits(self, row: Row, names: Columns) -> bool:
        """Whether a row has the form."""
        return all(row.get(column) is not None for column in self.columns)

    @abstractmethod
    def read(self, row: Row, names: Columns) -> Row:
        """The row with the columns of task=local. Raises BadRow."""

    def told(self, row: Row, names: Columns) -> str:
        """What a row is read as, for people."""
        return self.what

    def scores(self, row: Row, names: Columns) -> tuple[str, ...]:
        """The columns that rate the responses of a preference; empty where the row has none, and for other forms."""
        return ()

    def sources(self, row: Row, names: Columns) -> Row:
        """The columns of a row that those of task=local are read from where they have other names, for messages."""
        return {}


class Conversations(Form):
    """ShareGPT: ``{"conversations": [{"from": "human", "value": "Hi!"}, {"from": "gpt", "value": "Hello."}]}``

    The column may be called conversation, and its turns may have OpenAI's form. A column ``system`` is the first turn.
    """

    what = "ShareGPT (conversations with from and value)"
    columns = CONVERSATIONS

    def fits(self, row: Row, names: Columns) -> bool:
        return any(row.get(column) is not None for column in self.columns)

    def read(self, row: Row, names: Columns) -> Row:
        return _without(row, names, *OF_CONVERSATION) | conversation(row, names)

    def sources(self, row: Row, names: Columns) -> Row:
        return {names.messages: next(name for name in CONVERSATIONS if row.get(name) is not None)}


class Pair(Form):
    """A preference: ``{"prompt": "Hi!", "chosen": "Hello.", "rejected": "What?"}``

    The prompt is a text or turns; the responses are texts, turns of the assistant, or whole chats that share all turns but the
    last: ``{"chosen": [turns], "rejected": [turns]}``. A column ``system`` is the first turn.
    The preferred response has reward 1 and the other one 0, unless the row has scores of both, such as score_chosen.
    """

    columns = ("chosen", "rejected")

    def read(self, row: Row, names: Columns) -> Row:
        sides = {name: openai(row[name], name) for name in self.columns}
        chats = _are_whole_chats(sides)
        shared: Row = {names.messages: _shared(sides), names.prompt: None} if chats else {}
        prompt, asking = (with_system(shared, row, names), ("system",)) if chats else prompt_of(row, names)
        responses = [_said(side[-1:] if chats else side, name, len(side)) for name, side in sides.items()]
        read = (*self.columns, *_scores(row, names), *asking)
        return _without(row, names, *read) | prompt | {names.response: responses} | _rewards(row, names)

    def told(self, row: Row, names: Columns) -> str:
        what = "pairs of whole chats" if _are_whole_chats({name: row[name] for name in self.columns}) else "pairs"
        return f"{what} ({' and '.join(self.columns)}) with {_rewards_told(row, names)}"

    def scores(self, row: Row, names: Columns) -> tuple[str, ...]:
        return tuple(names.rewards) if _has_rewards(row, names) else _scores(row, names)


class PreferredOutput(Pair):
    """OpenAI's preferences: ``{"input": {"messages": [turns]}, "preferred_output": [turn], "non_preferred_output": [turn]}``"""

    columns = ("preferred_output", "non_preferred_output")

    def read(self, row: Row, names: Columns) -> Row:
        given = row.get("input")
        if not isinstance(given, dict):
            raise BadRow(expected('an object with "messages"', given, "input"))
        return super().read(_without(row, names, "input") | {names.messages: given.get("messages")}, names)


class Completion(Form):
    """A prompt with its completion, and perhaps a boolean label: ``{"prompt": "Hi!", "completion": "Hello.", "label": true}``"""

    what = "completions (prompt and completion)"
    columns = ("completion",)

    def read(self, row: Row, names: Columns) -> Row:
        rated = {names.rewards[0]: row["label"]} if _is_rated(row, names) else {}
        response = {names.response: _said(openai(row["completion"], "completion"), "completion")}
        prompt, asking = prompt_of(row, names)
        return _without(row, names, "completion", *asking, *(["label"] if rated else [])) | prompt | response | rated

    def sources(self, row: Row, names: Columns) -> Row:
        return {names.response: "completion"} | ({names.rewards[0]: "label"} if _is_rated(row, names) else {})

    def told(self, row: Row, names: Columns) -> str:
        return f"{self.what} with label as reward" if _is_rated(row, names) else self.what


class Instruction(Form):
    """Alpaca: ``{"instruction": "Translate to French.", "input": "Hello.", "output": "Bonjour."}``; the input may be empty.

    Where there is a column ``system`` or ``history``, with [question, answer] of earlier turns, it is a chat.
    """

    what = "Alpaca (instruction, input and output)"
    columns = ("instruction", "output")

    def read(self, row: Row, names: Columns) -> Row:
        return _without(row, names, "output", *OF_INSTRUCTION) | instruction(row, names) | {names.response: row["output"]}

    def sources(self, row: Row, names: Columns) -> Row:
        return {names.response: "output"}


FORMS: tuple[Form, ...] = (Pair(), PreferredOutput(), Conversations(), Completion(), Instruction())


def standard(row: Row, names: Columns) -> tuple[Row, Form | None]:
    """A row with the columns of task=local, and the public form that it was read from; None where it has them already.

    Raises:
        BadRow: it has a public form, but something in it is missing or of the wrong kind.
    """
    row = _with_turns(row, names)
    form = _form_of(row, names)
    if form is not None:
        return form.read(row, names), form
    if isinstance(row.get(names.prompt), list):
        row = row | asked(row[names.prompt], names)
    if isinstance(row.get(names.messages), list):
        row = (
            _without(row, names, "system")
            | with_system({names.messages: row[names.messages]}, row, names)
            | {names.prompt: row.get(names.prompt)}
        )
    return row, None


def _form_of(row: Row, names: Columns) -> Form | None:
    """The public form of a row. A chat beside a pair is its prompt, or repeats one of its whole chats."""
    found = next((form for form in FORMS if form.fits(row, names)), None)
    response = row.get(names.response)
    if response is not None and isinstance(found, Pair):
        _refuse_half_a_pair(row, names, found)
    if response is None and found is None:
        _refuse_one_side(row)
    own = response is not None or (row.get(names.messages) is not None and not isinstance(found, Pair))
    return None if own else found


def _refuse_half_a_pair(row: Row, names: Columns, pair: Pair) -> None:
    """Raises BadRow where a response would hide a pair. A column of another name than "response" was named on purpose."""
    chosen, rejected = pair.columns
    if names.response in pair.columns:
        other = rejected if names.response == chosen else chosen
        raise BadRow(
            f'the rows are pairs, and task.columns.response={names.response} would leave out their "{other}"',
            f"Leave out task.columns.response to read both responses of each pair, or drop the column {other}.",
        )
    if names.response == "response":
        raise BadRow(
            f'fields "response", "{chosen}" and "{rejected}" are all set; expected a response or a pair',
            f"Drop the column response to read the pairs, or {chosen} and {rejected} to read the responses.",
        )


def _refuse_one_side(row: Row) -> None:
    """Raises BadRow where one response of a pair is null."""
    for pair in (Pair.columns, PreferredOutput.columns):
        if {*pair} <= row.keys() and any(row[column] is not None for column in pair):
            name = next(column for column in pair if row[column] is None)
            raise BadRow(expected("text or turns, as in the other response of the pair", None, name))


def _with_turns(row: Row, names: Columns) -> Row:
    """The row with turns of OpenAI's form in the columns of prompts and chats, also where they are stored as JSON text."""
    row = row | {name: decoded(row[name], name, must=True) for name in (names.messages, *CONVERSATIONS) if name in row}
    texts = (names.prompt, names.response, *(column for form in FORMS for column in form.columns if column not in CONVERSATIONS))
    row = row | {name: decoded(row[name], name, must=False) for name in texts if name in row}
    return row | {name: openai(row[name], name) for name in (names.prompt, names.messages, *CONVERSATIONS) if name in row}


def _said(value: Any, name: str, place: int = 1) -> Any:
    """A response: text, a turn of the assistant, or a chat of one such turn, which is at some place of its chat."""
    turns = openai([value], name) if isinstance(value, dict) else value
    if not isinstance(turns, list):
        return turns
    if len(turns) != 1 or not isinstance(turns[0], dict) or turns[0].get("role") != "assistant":
        raise BadRow(expected("text, or one turn of the assistant", value, name))
    return answered(turns[0], place, name)


def _are_whole_chats(sides: Mapping[str, Any]) -> bool:
    return all(isinstance(side, list) and len(side) > 1 for side in sides.values())


def _shared(sides: Mapping[str, list[Any]]) -> list[Any]:
    """The turns that both chats of a pair begin with. Raises BadRow unless they are all but the last one of each."""
    chosen, rejected = sides.values()
    shared = [mine for mine, _ in takewhile(lambda pair: pair[0] == pair[1], zip(chosen[:-1], rejected[:-1], strict=False))]
    if len(chosen) != len(shared) + 1 or len(rejected) != len(shared) + 1:
        first, second = sides
        raise BadRow(f'fields "{first}" and "{second}": expected chats that differ in their last turn only')
    return shared


def _is_rated(row: Row, names: Columns) -> bool:
    """Whether the label of a completion is its reward."""
    return "label" in row and not _has_rewards(row, names)


def _rewards(row: Row, names: Columns) -> Row:
    """The column of the rewards of a pair, the preferred response first; none where the row has rewards already."""
    if _has_rewards(row, names):
        return {}
    return {names.rewards[0]: [row[name] for name in _scores(row, names)] or [1, 0]}


def _rewards_told(row: Row, names: Columns) -> str:
    """Which rewards the responses of a pair get, for people."""
    if _has_rewards(row, names):
        return f"the rewards of {', '.join(names.rewards)}"
    return " and ".join(_scores(row, names)) + " as rewards" if _scores(row, names) else "rewards 1 and 0"


def _scores(row: Row, names: Columns) -> tuple[str, ...]:
    """The columns with the scores of a pair that become its rewards, if there are such."""
    found = (pair for pair in SCORES if all(name in row for name in pair))
    return () if _has_rewards(row, names) else next(found, ())


def _has_rewards(row: Row, names: Columns) -> bool:
    return any(name in row for name in names.rewards)


def _without(row: Row, names: Columns, *columns: str) -> Row:
    """The row without columns that were read; a column of the user's naming stays."""
    return {column: value for column, value in row.items() if column not in columns or column in names.named}
