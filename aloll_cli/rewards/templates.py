"""Templates of what a classifier reads, filled in with a row's texts, and their tokens."""

from __future__ import annotations

import re
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from aloll_cli.errors import UserError
from aloll_cli.rewards.base import Row
from aloll_cli.rewards.reading import chat_of
from aloll_cli.rewards.text_models import Encoded
from aloll_cli.tasks.base import BadRow
from aloll_cli.text.encoded import Hides, RenderedText
from aloll_cli.text.rendering import Rendering
from aloll_cli.text.template import Template
from aloll_cli.text.tokens import Pieces, RenderedTokens
from aloll_cli.text.written import control_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CHAT = "{chat}"  # prompt and response as the model's chat template writes them
FIELD = re.compile(r"\{(prompt|response|sentence|knowledge|dialogue)\}")


class Piece(NamedTuple):
    """A piece of a filled-in template: of the template itself, or what somebody said."""

    text: str
    is_said: bool


def filled(template: str, row: Row, separator: str) -> list[Piece]:
    """A template filled in with a row's texts: {knowledge}: the prompt's system turns, {dialogue}: its other turns.

    A {response} right behind {prompt} follows it as in running text, with what stands between them.

    Raises:
        UserError: the row has no {knowledge}.
    """
    pieces, end = [], 0
    for found in FIELD.finditer(template):
        pieces.append(Piece(template[end : found.start()], False))
        follows = found[1] == "response" and template[: found.start()].endswith("{prompt}")
        pieces += [Piece(row.text, True)] if follows else _said(found[1], row, separator)
        end = found.end()
    return [*pieces, Piece(template[end:], False)]


def _said(name: str, row: Row, separator: str) -> list[Piece]:
    if name in ("prompt", "response", "sentence"):
        return [Piece(str(getattr(row, name)), True)]
    told = name == "knowledge"
    texts = [turn["content"] for turn in row.turns if (turn["role"] == "system") == told and turn["content"]]
    if told and not texts:
        raise UserError(
            f"example {row.id} has no system turn for {{knowledge}}.", "Choose a reward without {knowledge}, or another task."
        )
    between = Piece(" " if told else separator, False)
    return [piece for text in texts for piece in (between, Piece(text, True))][1:]


def as_text(pieces: Sequence[Piece]) -> str:
    """The text of the pieces."""
    return "".join(piece.text for piece in pieces)


@dataclass(frozen=True)
class _Frame:
    """The control tokens that a tokenizer puts around one text or two, and the kinds of all tokens (``token_type_ids``).

    Attributes:
        around: (n + 1,) token ids before, between and after n texts.
        kinds: (n + 1,) their kinds.
        kind: (n,) the kind of each text's tokens.
    """

    around: list[list[int]]
    kinds: list[list[int]]
    kind: list[int]


class TemplateTokens:
    """Tokenizes filled-in templates as the tokenizer itself does, but what somebody said never becomes a control token."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, templates: Sequence[str], limit: int | None) -> None:
        """``templates`` are what may hold control tokens that the model knows; ``limit`` is the longest input, in tokens."""
        self._tokenizer, self._limit = tokenizer, limit
        written = [token.content for token in tokenizer.added_tokens_decoder.values() if token.content.strip()]
        self._control = control_tokens(tokenizer, [name for name in written if any(name in text for text in templates)])
        # of its own, since calls of the tokenizer leave their truncation in it
        self._pieces = Pieces(deepcopy(tokenizer), self._control.ids)
        self._rendered = RenderedTokens(self._pieces, self._control)
        self._ids = {*self._control.ids.values()} - {tokenizer.unk_token_id}

    def encode(self, texts: Sequence[Sequence[Piece]], pairs: Sequence[Sequence[Piece]] | None) -> Encoded:
        """The tokens of N texts or pairs of texts, with those that the tokenizer puts around them, cut to the longest input."""
        given = [(text,) for text in texts] if pairs is None else list(zip(texts, pairs, strict=True))
        inputs = dict(self._tokenized(given, truncation=self._limit is not None, max_length=self._limit))
        whole = {i: None for i, ids in enumerate(inputs["input_ids"]) if len(ids) == self._limit}
        cut = [0] * len(given)
        if whole:
            lengths = map(len, self._tokenized([given[i] for i in whole])["input_ids"])
            for i, length in zip(whole, lengths, strict=True):
                cut[i] = length - len(inputs["input_ids"][i])
        for i, parts in enumerate(given):
            if self._is_doubtful(parts, inputs["input_ids"][i]):
                row, cut[i] = self._spelled(parts)
                for name, values in inputs.items():
                    values[i] = row[name]
        return Encoded(inputs, cut)

    def _tokenized(self, given: Sequence[Sequence[Sequence[Piece]]], **options: object) -> dict[str, list[list[int]]]:
        columns = [list(map(as_text, column)) for column in zip(*given, strict=True)]
        found: dict[str, list[list[int]]] = self._tokenizer(*columns, verbose=False, **options)
        return found

    def _is_doubtful(self, parts: Sequence[Sequence[Piece]], ids: list[int]) -> bool:
        """Whether what somebody said may have become a control token: by its name, or by what normalization makes of it."""
        pieces = [piece for part in parts for piece in part]
        if any(self._control.typed(piece.text) for piece in pieces if piece.is_said):
            return True
        if not self._pieces.normalizes:
            return False
        written = sum(len(self._control.name.findall(piece.text)) for piece in pieces if not piece.is_said)
        return sum(token in self._ids for token in ids) > written + sum(map(len, self._frame(len(parts)).around))

    def _spelled(self, parts: Sequence[Sequence[Piece]]) -> tuple[dict[str, list[int]], int]:
        """The inputs of one row, in which names of control tokens are text, and how many tokens were cut."""
        hidden = ["".join(self._control.hidden(text, True) if said else text for text, said in part) for part in parts]
        ids = self._rendered.ids([RenderedText(text, Hides.ends) for text in hidden])
        frame = self._frame(len(parts))
        kept = self._kept(ids, sum(map(len, frame.around)))
        tokens, kinds = list(frame.around[0]), list(frame.kinds[0])
        for text, kind, around, others in zip(kept, frame.kind, frame.around[1:], frame.kinds[1:], strict=True):
            tokens += [*text, *around]
            kinds += [*[kind] * len(text), *others]
        cut = sum(map(len, ids)) - sum(map(len, kept))
        return {"input_ids": tokens, "token_type_ids": kinds, "attention_mask": [1] * len(tokens)}, cut

    def _kept(self, ids: list[list[int]], around: int) -> list[list[int]]:
        """The texts' tokens that fit beside so many others; of a pair, the longer one is cut first, as the tokenizer does."""
        room = sum(map(len, ids)) if self._limit is None else self._limit - around
        if sum(map(len, ids)) <= room:
            return ids
        longest = [room] if len(ids) == 1 else _shared(len(ids[0]), len(ids[1]), room)
        return [_cut(text, most, self._tokenizer) for text, most in zip(ids, longest, strict=True)]

    @cache  # noqa: B019 - it lives as long as its reward
    def _frame(self, count: int) -> _Frame:
        """What stands around one text or two."""
        whole = self._tokenizer(*["x"] * count, return_token_type_ids=True)
        (text,) = self._pieces.ids(["x"], [False])
        ids, kinds = whole["input_ids"], whole["token_type_ids"]
        around, others, kind, end = [], [], [], 0
        for _ in range(count):
            start = next(i for i in range(end, len(ids)) if ids[i : i + len(text)] == text)
            around.append(ids[end:start])
            others.append(kinds[end:start])
            kind.append(kinds[start])
            end = start + len(text)
        return _Frame([*around, ids[end:]], [*others, kinds[end:]], kind)


class ChatTokens:
    """Tokenizes whole chats with their last response as the tokenizer's chat template writes them."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, limit: int | None) -> None:
        """``limit`` is the longest chat, in tokens; longer ones are cut at the tokenizer's ``truncation_side``."""
        control = control_tokens(tokenizer)
        self._tokenizer, self._limit = tokenizer, limit
        self._rendering = Rendering(Template(tokenizer, thinking=True), control)
        self._rendered = RenderedTokens(Pieces(deepcopy(tokenizer), control.ids), control)

    def encode(self, rows: Sequence[Row]) -> Encoded:
        """The tokens of N chats. Raises UserError if the template rejects one."""
        chats = [
            (*((turn["role"], turn["content"]) for turn in turns), ("assistant", response))
            for turns, response in map(chat_of, rows)
        ]
        texts: list[RenderedText] = []
        for row, text in zip(rows, self._rendering.texts(chats, [Hides.nothing] * len(chats), opened=False), strict=True):
            if isinstance(text, BadRow):
                raise UserError(f"example {row.id}: {text}.", "Another model for the reward, or reward.text without {chat}")
            texts.append(text)
        whole = self._rendered.ids(texts)
        ids = whole if self._limit is None else [_cut(tokens, self._limit, self._tokenizer) for tokens in whole]
        cut = [len(tokens) - len(kept) for tokens, kept in zip(whole, ids, strict=True)]
        return Encoded({"input_ids": ids, "attention_mask": [[1] * len(tokens) for tokens in ids]}, cut)


def _cut(ids: list[int], most: int, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """At most so many token ids, cut at the tokenizer's ``truncation_side``."""
    return ids[max(0, len(ids) - most) :] if tokenizer.truncation_side == "left" else ids[:most]


def _shared(first: int, second: int, room: int) -> list[int]:
    """The room of two texts that do not fit: what the shorter one leaves, or half each (``longest_first``)."""
    short = min(first, second)
    if 2 * short >= room:
        return [room // 2, room - room // 2] if first <= second else [room - room // 2, room // 2]
    return [short, room - short] if first <= second else [room - short, short]
