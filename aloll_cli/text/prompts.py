"""Plain-text prompts as token ids, truncated to a limit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from aloll_cli.text.encoded import Prompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PartDict = dict[str, Any]  # the fields of tasks.base.Part


class Plain:
    """BOS and the parts one after another. Over-long prompts lose tokens from the left of each part, in drop order."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, limit: int) -> None:
        self._eos, self._limit = int(tokenizer.eos_token_id), limit
        opening = list(tokenizer("x", add_special_tokens=True)["input_ids"][:1])
        self._bos = opening if opening == [tokenizer.bos_token_id] else []  # may be EOS, as OPT's

    def texts(self, parts: Sequence[PartDict]) -> list[str]:
        """The texts to tokenize, without control tokens."""
        return [part["prefix"] + part["text"] for part in parts]

    def prompt(self, parts: Sequence[PartDict], ids: list[list[int]], typed: bool) -> Prompt:
        """The prompt, truncated to the limit.

        Args:
            parts: the parts.
            ids: the token ids of their texts.
            typed: whether a text contains the name of a control token.
        """
        ids = [tokens + [self._eos] * part["eos"] for part, tokens in zip(parts, ids, strict=True)]
        excess = sum(map(len, ids)) - (self._limit - len(self._bos))
        ids, cut = _shortened(parts, ids, excess)
        whole = self._bos + [token for tokens in ids for token in tokens]
        return Prompt(whole or [self._eos], cut, self._eos, typed=typed)  # a model needs at least one token


def is_chat(parts: Sequence[PartDict]) -> bool:
    """Whether a prompt consists of chat turns, and not of plain text."""
    return bool(parts) and all(part["role"] is not None for part in parts)


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


def smaller_chats(turns: Sequence[PartDict]) -> list[list[int]]:
    """Places of the turns of ever smaller chats, without the oldest turns; a system turn and the last turn stay.

    None starts with the assistant, which some templates reject, as long as there is another turn to drop.
    """
    kept = list(range(len(turns)))
    free = [i for i in kept[:-1] if turns[i]["role"] != "system" and turns[i]["drop"] is not None]
    free.sort(key=lambda i: (turns[i]["drop"], i))
    found = []
    while free:
        kept.remove(free.pop(0))
        if not free or not _starts_with_assistant([turns[i] for i in kept]):
            found.append(list(kept))
    return found


def _starts_with_assistant(turns: Sequence[PartDict]) -> bool:
    return next((turn["role"] for turn in turns if turn["role"] != "system"), None) == "assistant"
