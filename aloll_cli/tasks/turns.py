"""Chat turns, of OpenAI's form or ShareGPT's, as the parts of a prompt."""

from __future__ import annotations

import json
from typing import Any

from aloll_cli.tasks.base import NUMBER, BadRow, Dropped, Part, expected, shown, unicode

TAGS = {"system": "System:\n", "user": "User:\n", "assistant": "Assistant:\n"}  # for plain text, without a chat template
ALIASES = {"developer": "system"}  # OpenAI's later name
SPEAKERS = {  # of ShareGPT and its kin, in small letters
    "human": "user", "user": "user", "gpt": "assistant", "chatgpt": "assistant", "assistant": "assistant", "model": "assistant",
    "bot": "assistant", "bing": "assistant", "bard": "assistant", "ai": "assistant", "prompter": "user", "system": "system",
    "developer": "system", "ipython": "tool",
    "function_call": "tool", "tool_call": "tool", "observation": "tool", "function": "tool", "tool": "tool",
}  # fmt: skip
TOOLS = ("tool", "function")
TEXTS = ("text", "input_text", "output_text")  # types of parts of a turn's content
CONTENT = ("content", "value", "text")  # keys of what a turn says
THOUGHTS = (  # keys of what was thought before it was said
    "reasoning_content", "reasoning", "reasoning_details", "thinking", "thought",
)  # fmt: skip
MARKS = ("weight", "train", "training", "loss", "train_on_turn", "loss_weight")  # keys that say whether a turn is to be learned
MEDIA = ("images", "image", "videos", "video", "audios", "audio")  # keys of turns, and columns, of what is no text
CALLS = ("tool_calls", "function_call")
KNOWN = {"role", "from", *THOUGHTS, *MARKS, *MEDIA, *CALLS}  # all keys with a meaning, but for the one of what a turn says
TRUTHS = {"true": 1.0, "yes": 1.0, "false": 0.0, "no": 0.0, "nan": None, "": None}  # what a mark may be beside a number
NO_TOOLS = "Turns of tools are not read: leave such rows out with task.on_bad_row=skip, or write what they say into the turns."
NO_MEDIA = 'Only text is read: leave such rows out with task.on_bad_row=skip, or drop "{}" to learn from the text alone.'


def chat_parts(messages: Any, name: str = "messages") -> tuple[Part, ...]:
    """The parts of a chat prompt; an over-long one drops its oldest turns, but no system turn.

    Raises:
        BadRow: a turn has another role than system (developer), user and assistant, or other content than text; the last turn is
            not the user's.
    """
    if not isinstance(messages, list) or not messages:
        raise BadRow(expected("a list of turns", messages, name))
    turns = spoken(messages, name)
    if (last := turns[-1][0]) != "user":
        raise BadRow(
            f'field "{name}" ends with a turn of the {last}; expected a turn of the user, and the response in "response"'
        )
    parts = [
        Part(text, role, drop=None if role == "system" else 0, prefix="\n\n" * (i > 0) + TAGS[role])
        for i, (role, text) in enumerate(turns)
    ]
    return (*parts, Part("", "assistant", drop=None, prefix="\n\n" + TAGS["assistant"]))


def openai(turns: Any, name: str) -> Any:
    """Turns with role and content, from those with ``{"from": "human", "value": "Hi!"}``; anything else as it is.

    Raises:
        BadRow: a speaker is unknown.
    """
    if not isinstance(turns, list):
        return turns
    return [_openai(turn, place, name) for place, turn in enumerate(turns, start=1)]


def _openai(turn: Any, place: int, name: str) -> Any:
    if not isinstance(turn, dict):
        return turn
    key = next((key for key in ("role", "from") if turn.get(key) is not None), None)
    if key is None or (key == "role" and turn["role"] in list(TAGS) and turn.get("content") is not None):
        return turn
    speaker = str(turn[key]).strip().lower()
    if key == "from" and speaker not in SPEAKERS:
        known = ", ".join(speaker for speaker, role in SPEAKERS.items() if role != "tool")
        raise BadRow(f'field "{name}", turn {place}: expected "from" to be one of {known}, got {shown(turn["from"])}')
    says = _content_key(turn)
    role = speaker if speaker in TOOLS else SPEAKERS.get(speaker, turn[key])
    others = {name: value for name, value in turn.items() if name not in ("role", "from", says) and value is not None}
    return {"role": role, "content": turn.get(says)} | others


def _content_key(turn: dict[str, Any]) -> str:
    """The key of what a turn says."""
    return next((key for key in CONTENT if turn.get(key) is not None), CONTENT[0])


def decoded(value: Any, name: str, must: bool) -> Any:
    """Turns that are stored as JSON text, as in CSV; any other value as it is.

    Args:
        value: of the column.
        name: of the column.
        must: whether the column holds turns only; blank text counts as none. Elsewhere text is taken for turns only if each has
            a known speaker and says something: other JSON is text, such as that of a response.

    Raises:
        BadRow: the text is no JSON although the column must hold turns, or looks like Python's way to print them.
    """
    if not isinstance(value, str):
        return value
    text = value.strip()
    try:
        found = json.loads(text) if text.startswith("[") else None
    except (ValueError, RecursionError):
        found = None
    if isinstance(found, list) and found and all(_is_turn(turn, must) for turn in found):
        return found
    printed = text.startswith(("[{'role'", "[{'from'", "[{'content'", "[{'value'"))
    if printed or (must and text):
        what = "what Python prints of turns" if printed else shown(value)
        raise BadRow(
            f'field "{name}": expected a list of turns, got {what}',
            "Write the column with json.dumps, or the rows as .jsonl or .parquet. Otherwise: task.on_bad_row=skip",
        )
    return None if must else value


def _is_turn(turn: Any, must: bool) -> bool:
    """Whether a value from JSON is a turn: by its keys where there must be one, elsewhere by its speaker, too."""
    if not isinstance(turn, dict):
        return False
    speakers = [str(turn[key]).strip().lower() for key in ("role", "from") if key in turn]
    is_known = {*speakers} <= SPEAKERS.keys() and any(key in turn for key in (*CONTENT, *CALLS))
    return bool(speakers) and (must or is_known)


def answered(message: Any, place: int, name: str) -> str:
    """The text of the turn that is learned.

    Raises:
        BadRow: it is no text, or has thoughts beside it, which would be lost, or a weight other than 0 and 1.
        Dropped: the row says that it is not to be learned.
    """
    if any(_mark(message, key, place, name) == 0 for key in MARKS):
        raise Dropped("their last turn is marked as not to be trained")
    if thoughts := next((key for key in THOUGHTS if is_filled(message.get(key))), None):
        raise BadRow(
            f'field "{name}", turn {place}: has thoughts in "{thoughts}", which is not read',
            "Write them into the content as the chat template does (<think>…</think>), or drop the field to learn the answer "
            "without them; or leave such rows out: task.on_bad_row=skip",
        )
    return said(message, place, name)


def _mark(message: dict[str, Any], key: str, place: int, name: str) -> float | None:
    """Whether a turn is to be learned by one of its keys, as a number or boolean or their text: 1 or 0; None: it does not say."""
    value = message.get(key)
    text = "" if value is None else str(value).strip().lower()
    found = TRUTHS[text] if text in TRUTHS else float(text) if NUMBER.fullmatch(text) else -1.0
    if found not in (0, 1, None):
        raise BadRow(
            f'field "{name}", turn {place}: expected "{key}" to be 0 or 1, or false or true, got {shown(value)}',
            "Turns have no weights between them: drop the key to learn the turn like others, or leave such rows out: "
            "task.on_bad_row=skip",
        )
    return found


def is_filled(value: Any) -> bool:
    """Whether a value says something: it is neither null, false or blank text nor a list or object of such values."""
    if isinstance(value, list | tuple):
        return any(map(is_filled, value))
    if isinstance(value, dict):
        return any(map(is_filled, value.values()))
    return not (value is None or value is False or (isinstance(value, str) and not value.strip()))


def unread_keys(turns: Any) -> set[str]:
    """The keys of turns that have no meaning here although they say something."""
    found = [turn for turn in turns if isinstance(turn, dict)] if isinstance(turns, list) else []
    return {
        str(key) for turn in found for key, value in turn.items() if key not in {*KNOWN, _content_key(turn)} and is_filled(value)
    }


def spoken(turns: list[Any], name: str) -> list[tuple[str, str]]:
    """Role and text of every turn. Raises BadRow as chat_parts does."""
    return [_turn(message, place, name) for place, message in enumerate(turns, start=1)]


def said(message: Any, place: int, name: str) -> str:
    """The text of a turn. Raises BadRow for calls of tools, images and the like, and for content that is no text."""
    if any(message.get(key) for key in CALLS):
        raise BadRow(f'field "{name}", turn {place}: calls a tool', NO_TOOLS)
    if media := next((key for key in MEDIA if is_filled(message.get(key))), None):
        raise BadRow(f'field "{name}", turn {place}: has "{media}", which is not read', NO_MEDIA.format(media))
    content = message.get("content")
    if isinstance(content, list):
        content = "".join(_part(part, place, name) for part in content)
    if not isinstance(content, str):
        raise BadRow(f'field "{name}", turn {place}: expected "content" to be text, got {shown(content)}')
    return unicode(content, name)


def _part(part: Any, place: int, name: str) -> str:
    """The text of one part of a turn: ``{"type": "text", "text": "Hi!"}``."""
    if not isinstance(part, dict):
        raise BadRow(f'field "{name}", turn {place}: expected {{"type": "text", "text": …}}, got {shown(part)}')
    if part.get("type") not in TEXTS:
        raise BadRow(f'field "{name}", turn {place}: expected parts of the type "text", got the type {shown(part.get("type"))}')
    if not isinstance(part.get("text"), str):
        raise BadRow(f'field "{name}", turn {place}: expected the "text" of a part to be text, got {shown(part.get("text"))}')
    return str(part["text"])


def _turn(message: Any, place: int, name: str) -> tuple[str, str]:
    if not isinstance(message, dict):
        raise BadRow(f'field "{name}", turn {place}: expected {{"role": …, "content": …}}, got {shown(message)}')
    role = message.get("role")
    role = ALIASES.get(str(role), role)
    if role in TOOLS:
        raise BadRow(f'field "{name}", turn {place}: is of the role {shown(role)}', NO_TOOLS)
    if role not in list(TAGS):
        raise BadRow(f'field "{name}", turn {place}: expected "role" to be one of {", ".join(TAGS)}, got {shown(role)}')
    return role, said(message, place, name)
