"""Public forms of rows, and how each becomes the one that task=local reads: a prompt or a chat, responses, rewards.

A form is told by its columns. Its reader returns the row with ``prompt`` or ``messages``, ``response`` and ``reward``, under the
names that ``task.columns`` gives them, instead of its own columns; whatever else a row has stays. A column that is null is none:
in a table, a row has the columns of all other rows, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aloll_cli.tasks.asked import (
    CONVERSATIONS,
    conversation,
    conversation_column,
    input_column,
    instruction,
    prompt_of,
    turns_in,
)
from aloll_cli.tasks.base import BadRow, expected
from aloll_cli.tasks.form import Form, response_in, said_by_assistant, without
from aloll_cli.tasks.labels import is_empty
from aloll_cli.tasks.turns import MEDIA, NO_MEDIA, is_filled
from aloll_cli.tasks.whole_chats import are_whole_chats, before_chats

if TYPE_CHECKING:
    from aloll_cli.tasks.column_names import Columns

Row = dict[str, Any]

SCORES = (  # of a pair, the preferred response first
    ("score_chosen", "score_rejected"), ("chosen_score", "rejected_score"), ("reward_chosen", "reward_rejected"),
    ("chosen_reward", "rejected_reward"), ("rating_chosen", "rating_rejected"), ("chosen_rating", "rejected_rating"),
)  # fmt: skip


class Conversations(Form):
    """ShareGPT: ``{"conversations": [{"from": "human", "value": "Hi!"}, {"from": "gpt", "value": "Hello."}]}``

    The column may be called conversation, and its turns may have OpenAI's form. A column ``system`` is the first turn.
    """

    what = "ShareGPT (conversations with from and value)"
    columns = CONVERSATIONS

    def fits(self, row: Row, names: Columns) -> bool:
        return conversation_column(row, names) is not None

    def read(self, row: Row, names: Columns) -> Row:
        prompt, read = conversation(row, self._column(row, names), names)
        if is_filled(row.get(names.prompt)):
            raise BadRow(f'fields "{names.prompt}" and "{read[0]}" are both set; expected one of them')
        return without(row, names, *read) | ({names.prompt: None} if names.prompt in row else {}) | prompt

    def sources(self, row: Row, names: Columns) -> Row:
        return {names.messages: self._column(row, names)}

    def _column(self, row: Row, names: Columns) -> str:
        found = conversation_column(row, names)
        assert found is not None
        return found


class Pair(Form):
    """A preference: ``{"prompt": "Hi!", "chosen": "Hello.", "rejected": "What?"}``

    The prompt is a text or turns; the responses are texts, turns of the assistant, or whole chats that share all turns but the
    last: ``{"chosen": [turns], "rejected": [turns]}``. A prompt beside whole chats repeats their turns or goes before them.
    A column ``system`` is the first turn.
    The preferred response has reward 1 and the other one 0, unless the row has scores of both, such as score_chosen.
    """

    columns = ("chosen", "rejected")

    def read(self, row: Row, names: Columns) -> Row:
        _refuse_half_a_rating(row, names)
        sides = {name: turns_in(row, name) for name in self.columns}
        chats = are_whole_chats(sides)
        prompt, asking = before_chats(sides, row, names) if chats else prompt_of(row, names)
        responses = [said_by_assistant(side[-1:] if chats else side, name, len(side)) for name, side in sides.items()]
        read = (*self.columns, *_scores(row, names), *asking)
        return without(row, names, *read) | prompt | {names.response: responses} | _rewards(row, names)

    def told(self, row: Row, names: Columns) -> str:
        what = "pairs of whole chats" if are_whole_chats({name: turns_in(row, name) for name in self.columns}) else "pairs"
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
        if row.get(names.messages) is not None:
            raise BadRow(f'fields "input" and "{names.messages}" are both set; expected one of them')
        return super().read(without(row, names, "input") | {names.messages: given.get("messages")}, names)


class Completion(Form):
    """A prompt with its completion, and perhaps a boolean label: ``{"prompt": "Hi!", "completion": "Hello.", "label": true}``"""

    what = "completions (prompt and completion)"
    columns = ("completion",)

    def read(self, row: Row, names: Columns) -> Row:
        rated = {names.rewards[0]: row["label"]} if _is_rated(row, names) else {}
        response = {names.response: response_in(row, "completion")}
        prompt, asking = prompt_of(row, names)
        return without(row, names, "completion", *asking, *(["label"] if rated else [])) | prompt | response | rated

    def sources(self, row: Row, names: Columns) -> Row:
        return {names.response: "completion"} | ({names.rewards[0]: "label"} if _is_rated(row, names) else {})

    def told(self, row: Row, names: Columns) -> str:
        return f"{self.what} with label as reward" if _is_rated(row, names) else self.what


class Instruction(Form):
    """Alpaca: ``{"instruction": "Translate to French.", "input": "Hello.", "output": "Bonjour."}``; the input may be empty.

    The input may be called context, and the output response, as Dolly has them.
    Where there is a column ``system`` or ``history``, with [question, answer] of earlier turns, it is a chat.
    """

    columns = ("instruction", "output")

    def fits(self, row: Row, names: Columns) -> bool:
        return all(row.get(column) is not None for column in ("instruction", self._response(row, names)))

    def read(self, row: Row, names: Columns) -> Row:
        response = self._response(row, names)
        if response == "response" and row.get("output") is not None:
            raise BadRow('fields "output" and "response" are both set; expected one of them')
        prompt, read = instruction(row, names)
        return without(row, names, response, *read) | prompt | {names.response: response_in(row, response)}

    def told(self, row: Row, names: Columns) -> str:
        return f"Alpaca (instruction, {input_column(row)} and {self._response(row, names)})"

    def sources(self, row: Row, names: Columns) -> Row:
        return {names.response: self._response(row, names)}

    def unread(self, row: Row, names: Columns) -> tuple[str, ...]:
        return (names.prompt,) if row.get(names.prompt) is not None and names.prompt != "instruction" else ()

    def _response(self, row: Row, names: Columns) -> str:
        return "output" if row.get(names.response) is None else names.response


FORMS: tuple[Form, ...] = (Pair(), PreferredOutput(), Conversations(), Completion(), Instruction())


def standard(row: Row, names: Columns) -> tuple[Row, Form | None]:
    """A row with the columns of task=local, and the public form that it was read from; None where it has them already.

    Raises:
        BadRow: it has a public form, but something in it is missing or of the wrong kind.
    """
    row = _checked(row, names)
    form = _form_of(row, names)
    if form is not None:
        return form.read(row, names), form
    if row.get(names.prompt) is not None or row.get(names.messages) is not None:
        prompt, read = prompt_of(row, names)
        row = without(row, names, *read) | prompt
    return (row | {names.response: response_in(row, names.response)} if names.response in row else row), None


def question(row: Row, names: Columns) -> Row:
    """The column of a row's prompt, read as in ``standard``, where the row need not have a response. Raises BadRow."""
    row = _checked(row, names)
    form = _form_of(row, names)
    read = form.read(row, names) if isinstance(form, Pair) else prompt_of(row, names)[0]
    turns = read.get(names.messages)
    if turns and row.get(names.response) is None and isinstance(turns[-1], dict) and turns[-1].get("role") == "assistant":
        return read | {names.messages: turns[:-1]}  # the response, as task=local reads it
    return read


def _checked(row: Row, names: Columns) -> Row:
    """The row, blank turns as null. Raises BadRow for images and the like beside the text."""
    media = (name for name in MEDIA if name not in names.named and is_filled(row.get(name)))
    if (name := next(media, None)) is not None:
        raise BadRow(f'field "{name}" is set, which is not read', NO_MEDIA.format(name))
    chat = row.get(names.messages)
    return row | {names.messages: None} if isinstance(chat, str) and not chat.strip() else row


def _form_of(row: Row, names: Columns) -> Form | None:
    """The public form of a row. A chat beside a pair is its prompt, or repeats one of its whole chats."""
    found = next((form for form in FORMS if form.fits(row, names)), None)
    response = row.get(names.response)
    if response is not None and isinstance(found, Pair):
        _refuse_half_a_pair(row, names, found)
    if response is None and found is None:
        _refuse_one_side(row)
    is_instructed = isinstance(found, Instruction) and row.get(names.prompt) is None
    own = (response is not None and not is_instructed) or (row.get(names.messages) is not None and not isinstance(found, Pair))
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


def _refuse_half_a_rating(row: Row, names: Columns) -> None:
    """Raises BadRow where only one response of a pair is rated."""
    own = [[(name, cell) for cell in row[name]] for name in names.rewards if isinstance(row.get(name), list)]
    scores = [[(name, row[name]) for name in pair] for pair in SCORES if {*pair} <= row.keys()]
    is_scored = _has_rewards(row, names) or _scores(row, names)
    for cells in own if is_scored else scores:
        missing = [(name, cell) for name, cell in cells if is_empty(cell)]
        if 0 < len(missing) < len(cells):
            name, cell = missing[0]
            both = " and ".join(dict.fromkeys(name for name, _ in cells))
            hint = f"Drop {both} to use the rewards 1 and 0, or leave such rows out: task.on_bad_row=skip"
            raise BadRow(expected("a number, as for the other response of the pair", cell, name), hint)


def _is_rated(row: Row, names: Columns) -> bool:
    """Whether the label of a completion is its reward."""
    return not is_empty(row.get("label")) and not _has_rewards(row, names)


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
    found = (pair for pair in SCORES if not any(is_empty(row.get(name)) for name in pair))
    return () if _has_rewards(row, names) else next(found, ())


def _has_rewards(row: Row, names: Columns) -> bool:
    return any(not is_empty(row.get(name)) for name in names.rewards)
