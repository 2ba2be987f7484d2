"""Rendering of prompts as token ids, truncated to a limit: as plain text, or with a chat template."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aloll_cli.errors import UserError
from aloll_cli.text.chat import ChatTemplate, chat_end

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PartDict = dict[str, Any]  # the fields of tasks.base.Part


@dataclass(frozen=True)
class Prompt:
    """A prompt as the model reads it.

    Attributes:
        ids: its token ids.
        cut: how many were cut off.
        end: the end token of responses.
        templated: whether a chat template was used.
        replaces_space: whether the template stands for a tag without a space behind it, so that a response loses its own.
    """

    ids: list[int]
    cut: int
    end: int
    templated: bool
    replaces_space: bool = False


class Rendering(ABC):
    """A way to render a prompt."""

    @abstractmethod
    def texts(self, parts: Sequence[PartDict]) -> list[str]:
        """The texts to tokenize, without control tokens."""

    @abstractmethod
    def prompt(self, parts: Sequence[PartDict], ids: list[list[int]]) -> Prompt:
        """The prompt, given the token ids of those texts, truncated to the limit."""


class Plain(Rendering):
    """BOS and the parts one after another. Over-long prompts lose tokens from the left of each part, in drop order."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, limit: int) -> None:
        self._eos, self._limit = int(tokenizer.eos_token_id), limit
        opening = tokenizer("", add_special_tokens=True)["input_ids"]
        self._bos = [tokenizer.bos_token_id] if tokenizer.bos_token_id in opening and tokenizer.bos_token_id != self._eos else []

    def texts(self, parts: Sequence[PartDict]) -> list[str]:
        return [part["prefix"] + part["text"] for part in parts]

    def prompt(self, parts: Sequence[PartDict], ids: list[list[int]]) -> Prompt:
        ids = [tokens + [self._eos] * part["eos"] for part, tokens in zip(parts, ids, strict=True)]
        excess = sum(map(len, ids)) - (self._limit - len(self._bos))
        ids, cut = _shortened(parts, ids, excess)
        whole = self._bos + [token for tokens in ids for token in tokens]
        return Prompt(whole or [self._eos], cut, self._eos, templated=False)  # a model needs at least one token


class Templated(Rendering):
    """A chat template. Over-long chats drop their oldest turns, then tokens from the left of the turns that must stay."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, limit: int, thinking: bool) -> None:
        self._template, self._limit = ChatTemplate(tokenizer, thinking), limit
        end = chat_end(tokenizer)
        self._end = int(tokenizer.eos_token_id) if end is None else end

    def texts(self, parts: Sequence[PartDict]) -> list[str]:
        turns = _turns(parts)
        return self._template.shown(_roles(turns), [turn["text"] for turn in turns])

    def prompt(self, parts: Sequence[PartDict], ids: list[list[int]]) -> Prompt:
        turns = _turns(parts)
        whole = self._length(turns, ids)
        turns, ids = self._without_oldest(turns, ids)
        ids, _ = _shortened(turns, ids, self._length(turns, ids) - self._limit)
        length = self._length(turns, ids)
        if length > self._limit:
            raise UserError(
                f"task.max_prompt_tokens={self._limit}: the model's chat template alone takes {length} tokens.",
                "Set task.max_prompt_tokens=512, or task.chat=plain.",
            )
        tokens = self._template.skeleton(_roles(turns)).filled_ids(ids)
        tag = parts[-1]["prefix"] if not parts[-1]["text"] else ""
        return Prompt(tokens, whole - length, self._end, templated=True, replaces_space=bool(tag) and not tag[-1].isspace())

    def _without_oldest(self, turns: list[PartDict], ids: list[list[int]]) -> tuple[list[PartDict], list[list[int]]]:
        """Drop turns, never the last one, until the rest fits and does not start with the assistant."""
        kept = list(range(len(turns)))
        droppable = [i for i in _drop_order(turns) if turns[i]["drop"] is not None and i != kept[-1]]

        def left() -> tuple[list[PartDict], list[list[int]]]:
            return [turns[i] for i in kept], [ids[i] for i in kept]

        while droppable and self._length(*left()) > self._limit:
            kept.remove(droppable.pop(0))
            while droppable and _starts_with_assistant(left()[0]):
                kept.remove(droppable.pop(0))
        return left()

    def _length(self, turns: list[PartDict], ids: list[list[int]]) -> int:
        return sum(map(len, self._template.skeleton(_roles(turns)).ids)) + sum(map(len, ids))


def is_chat(parts: Sequence[PartDict]) -> bool:
    """Whether a prompt consists of chat turns, and not of plain text."""
    return bool(parts) and all(part["role"] is not None for part in parts)


def _turns(parts: Sequence[PartDict]) -> list[PartDict]:
    """The turns of a chat without the empty last one of the assistant, which the template adds itself."""
    opens = parts[-1]["role"] == "assistant" and not parts[-1]["text"]
    return list(parts[:-1] if opens else parts)


def _roles(turns: Sequence[PartDict]) -> tuple[str, ...]:
    return tuple(turn["role"] for turn in turns)


def _starts_with_assistant(turns: Sequence[PartDict]) -> bool:
    """Whether the first turn is the assistant's, which some templates reject."""
    return next((turn["role"] for turn in turns if turn["role"] != "system"), None) == "assistant"


def _drop_order(parts: Sequence[PartDict]) -> list[int]:
    """The order in which parts are dropped or truncated: by ``drop``, then oldest first; those that must stay come last."""
    return sorted(range(len(parts)), key=lambda i: (parts[i]["drop"] is None, parts[i]["drop"] or 0, i))


def _shortened(parts: Sequence[PartDict], ids: list[list[int]], excess: int) -> tuple[list[list[int]], int]:
    """The parts' token ids after cutting ``excess`` tokens from the left, and how many were cut."""
    ids, cut = list(ids), 0
    if excess <= 0:
        return ids, cut
    for i in _drop_order(parts):
        if excess <= cut:
            break
        gone = len(ids[i]) if parts[i]["whole"] else min(excess - cut, len(ids[i]))
        ids[i], cut = ids[i][gone:], cut + gone
    return ids, cut
