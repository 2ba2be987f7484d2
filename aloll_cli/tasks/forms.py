"""Public forms of rows, and how each becomes the one that task=local reads: a prompt or a chat, responses, rewards.

A form is told by its columns. Its reader returns the row with ``prompt`` or ``messages``, ``response`` and ``reward``, under the
names that ``task.columns`` gives them; whatever else a row has stays.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from itertools import takewhile
from typing import TYPE_CHECKING, Any, ClassVar

from aloll_cli.tasks.base import BadRow, expected, shown

if TYPE_CHECKING:
    from aloll_cli.tasks.local import Columns

Row = dict[str, Any]

SPEAKERS = {  # of ShareGPT and its kin
    "human": "user", "user": "user", "gpt": "assistant", "chatgpt": "assistant", "assistant": "assistant", "model": "assistant",
    "bot": "assistant", "bing": "assistant", "bard": "assistant", "system": "system",
}  # fmt: skip
SCORES = (  # of a pair, the preferred response first
    ("score_chosen", "score_rejected"), ("chosen_score", "rejected_score"), ("reward_chosen", "reward_rejected"),
    ("chosen_reward", "rejected_reward"), ("rating_chosen", "rating_rejected"), ("chosen_rating", "rejected_rating"),
)  # fmt: skip


class Form(ABC):
    """A form of rows."""

    what: ClassVar[str]  # its name for people, with its columns
    columns: ClassVar[tuple[str, ...]]  # that a row of the form has

    def fits(self, row: Row) -> bool:
        """Whether a row has the form."""
        return all(column in row for column in self.columns)

    @abstractmethod
    def read(self, row: Row, names: Columns) -> Row:
        """The row with the columns of task=local. Raises BadRow."""


class Conversations(Form):
    """ShareGPT: ``{"conversations": [{"from": "human", "value": "Hi!"}, {"from": "gpt", "value": "Hello."}]}``"""

    what = "ShareGPT (conversations with from and value)"
    columns = ("conversations",)

    def read(self, row: Row, names: Columns) -> Row:
        turns = row[self.columns[0]]
        if not isinstance(turns, list):
            raise BadRow(expected("a list of turns", turns, self.columns[0]))
        return row | {names.messages: [self._turn(turn, place) for place, turn in enumerate(turns, start=1)]}

    def _turn(self, turn: Any, place: int) -> Any:
        if not isinstance(turn, dict) or "from" not in turn:
            return turn  # turns of OpenAI's form under ShareGPT's name
        if (speaker := str(turn["from"]).lower()) not in SPEAKERS:
            what = f'field "{self.columns[0]}", turn {place}: expected "from" to be one of {", ".join(SPEAKERS)}'
            raise BadRow(f"{what}, got {shown(turn['from'])}")
        return {"role": SPEAKERS[speaker], "content": turn.get("value")}


class Conversation(Conversations):
    """ShareGPT with the column in the singular."""

    columns = ("conversation",)


class Pair(Form):
    """A preference: ``{"prompt": "Hi!", "chosen": "Hello.", "rejected": "What?"}``; the prompt and the responses may be chats.

    The preferred response has reward 1 and the other one 0, unless the row has scores of both, such as score_chosen.
    """

    what = "pairs (prompt, chosen, rejected)"
    columns = ("prompt", "chosen", "rejected")

    def read(self, row: Row, names: Columns) -> Row:
        prompt = row["prompt"]
        turns = {side: row[side] for side in ("chosen", "rejected")}
        if all(isinstance(side, list) and len(side) > 1 for side in turns.values()):
            return WholePair().read(row, names)  # both chats begin with the prompt
        responses = [_said(side, name) for name, side in turns.items()]
        return _without(row, names, "chosen", "rejected") | _asked(prompt, names) | _rewarded(row, names, responses)


class WholePair(Form):
    """A preference of whole chats that differ in their last turn: ``{"chosen": [turns], "rejected": [turns]}``"""

    what = "pairs of whole chats (chosen, rejected)"
    columns = ("chosen", "rejected")

    def read(self, row: Row, names: Columns) -> Row:
        chosen, rejected = row["chosen"], row["rejected"]
        if not isinstance(chosen, list) or not isinstance(rejected, list):
            hint = 'Add a column "prompt" with what both answer. For the rows of HH-RLHF: task=hha.'
            raise BadRow('fields "chosen" and "rejected" are texts without a "prompt"; expected one, or two chats', hint)
        shared = [mine for mine, _ in takewhile(lambda pair: pair[0] == pair[1], zip(chosen, rejected, strict=False))]
        if len(shared) == len(chosen) == len(rejected):
            shared = shared[:-1]  # the same response twice
        if not shared or len(chosen) != len(shared) + 1 or len(rejected) != len(shared) + 1:
            raise BadRow('fields "chosen" and "rejected": expected chats that differ in their last turn only')
        responses = [_said(side[-1:], name) for name, side in (("chosen", chosen), ("rejected", rejected))]
        asked = _asked(shared, names)
        return _without(row, names, "chosen", "rejected") | asked | _rewarded(row, names, responses)


class Completion(Form):
    """A prompt with its completion, and perhaps a boolean label: ``{"prompt": "Hi!", "completion": "Hello.", "label": true}``"""

    what = "completions (prompt, completion, perhaps label)"
    columns = ("prompt", "completion")

    def read(self, row: Row, names: Columns) -> Row:
        reward = names.rewards[0]
        rated = {reward: row["label"]} if "label" in row and reward not in row else {}
        response = {names.response: _said(row["completion"], "completion")}
        return _without(row, names, "completion") | _asked(row["prompt"], names) | response | rated


FORMS: tuple[Form, ...] = (Conversations(), Conversation(), Pair(), WholePair(), Completion())


def standard(row: Row, names: Columns) -> tuple[Row, Form | None]:
    """A row with the columns of task=local, and the public form that it was read from; None where it has them already.

    Raises:
        BadRow: it has a public form, but something in it is missing or of the wrong kind.
    """
    if names.response in row or names.messages in row:
        _refuse_half_a_pair(row, names)
        return (row | _asked(row[names.prompt], names) if isinstance(row.get(names.prompt), list) else row), None
    form = next((form for form in FORMS if form.fits(row)), None)
    return (row, None) if form is None else (form.read(row, names), form)


def _refuse_half_a_pair(row: Mapping[str, Any], names: Columns) -> None:
    """Raises BadRow where the response is half of a pair."""
    pair = {"chosen": "rejected", "rejected": "chosen"}
    other = pair.get(names.response)
    if other is not None and other in row:
        raise BadRow(
            f'the rows are pairs, and task.columns.response={names.response} would leave out their "{other}"',
            f"Leave out task.columns.response to read both responses of each pair, or drop the column {other}.",
        )


def _asked(prompt: Any, names: Columns) -> Row:
    """The column of a prompt: turns, or text."""
    return {names.messages: prompt, names.prompt: None} if isinstance(prompt, list) else {names.prompt: prompt}


def _said(value: Any, name: str) -> Any:
    """A response: text, or a chat of one turn of the assistant."""
    if not isinstance(value, list):
        return value
    if len(value) != 1 or not isinstance(value[0], dict) or value[0].get("role") != "assistant":
        raise BadRow(expected("text, or one turn of the assistant", value, name))
    return value[0].get("content")


def _rewarded(row: Row, names: Columns, responses: list[Any]) -> Row:
    """Responses of a pair, preferred first, with their rewards."""
    reward = names.rewards[0]
    found = {names.response: responses}
    if any(name in row for name in names.rewards):
        return found
    scores = next(([row[mine], row[other]] for mine, other in SCORES if mine in row and other in row), [1, 0])
    return found | {reward: scores}


def _without(row: Row, names: Columns, *columns: str) -> Row:
    return {column: value for column, value in row.items() if column not in columns or column in names.named}
