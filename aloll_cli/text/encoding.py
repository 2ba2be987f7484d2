"""Encoding of prompts and responses, and padding."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from aloll_cli.errors import UserError
from aloll_cli.tasks.base import BadRow
from aloll_cli.tasks.options import Chat
from aloll_cli.text.chat import ChatEncoder
from aloll_cli.text.control import ControlTokens
from aloll_cli.text.encoded import EncodedResponse, Limits, Prompt
from aloll_cli.text.foreign_names import ForeignNames
from aloll_cli.text.prompts import PartDict, Plain, is_chat
from aloll_cli.text.tokens import Pieces
from aloll_cli.text.wrapping import wrapped
from aloll_cli.text.written import control_tokens

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

    from aloll_cli.arrays import IntArray


class Encoder:
    """Tokenizes prompts and responses; text never becomes a control token.

    Plain text is tokenized apart from its response, a chat together with it, as its template renders both.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, max_prompt_tokens: int, max_response_tokens: int, chat: Chat) -> None:
        self._tokenizer, self._limits = tokenizer, Limits(max_prompt_tokens, max_response_tokens)
        self._plain, self.foreign = Plain(tokenizer, max_prompt_tokens), ForeignNames(tokenizer)
        self._thinking = chat is not Chat.without_thinking
        self.uses_template = chat is not Chat.plain and tokenizer.chat_template is not None
        self._wraps = chat is Chat.wrap
        if self._wraps and not self.uses_template:
            raise UserError("task.chat=wrap: the tokenizer of the model has no chat template.", "task.chat=template")

    @cached_property
    def _control(self) -> ControlTokens:
        return control_tokens(self._tokenizer)

    @cached_property
    def _pieces(self) -> Pieces:
        return Pieces(self._tokenizer, self._control.ids)

    @cached_property
    def _chats(self) -> ChatEncoder:
        return ChatEncoder(self._tokenizer, self._limits, self._thinking)

    def prompts(self, prompts: Sequence[Sequence[PartDict]]) -> list[Prompt | BadRow]:
        """Encode prompts, each a list of parts (fields of tasks.base.Part), truncated to the limit.

        Returns:
            For each its tokens, or why the chat template rejects it.
        """
        prompts = [wrapped(parts) for parts in prompts] if self._wraps else prompts
        kinds = [self.uses_template and is_chat(parts) for parts in prompts]
        chats, plain = ([parts for parts, kind in zip(prompts, kinds, strict=True) if kind is wanted] for wanted in (True, False))
        of_chats = iter(self._chats.prompts(chats) if chats else [])
        found = {True: of_chats, False: iter(self._plain_prompts(plain) if plain else [])}
        return [next(found[kind]) for kind in kinds]

    def _plain_prompts(self, prompts: Sequence[Sequence[PartDict]]) -> list[Prompt | BadRow]:
        texts = [self._plain.texts(parts) for parts in prompts]
        within = [i > 0 for prompt in texts for i in range(len(prompt))]
        ids = iter(self._pieces.ids([text for prompt in texts for text in prompt], within))
        return [
            self._plain.prompt(parts, [next(ids) for _ in prompt], any(map(self._control.typed, prompt)))
            for parts, prompt in zip(prompts, texts, strict=True)
        ]

    def responses(self, texts: Sequence[str], prompts: Sequence[Prompt | BadRow]) -> list[EncodedResponse | BadRow]:
        """Encode the responses to prompts: truncated on the right, or complete with the end token.

        Returns:
            For each its tokens, or why the chat template rejects it or its prompt.
        """
        pairs = list(zip(texts, prompts, strict=True))
        chats = [(text, prompt) for text, prompt in pairs if isinstance(prompt, Prompt) and prompt.templated]
        plain = [(text, prompt) for text, prompt in pairs if isinstance(prompt, Prompt) and not prompt.templated]
        of_chats = iter(self._chats.responses(*map(list, zip(*chats, strict=True))) if chats else [])
        of_plain = iter(self._plain_responses(plain) if plain else [])
        return [
            prompt if isinstance(prompt, BadRow) else next(of_chats) if prompt.templated else next(of_plain) for prompt in prompts
        ]

    def _plain_responses(self, pairs: Sequence[tuple[str, Prompt]]) -> list[EncodedResponse]:
        encoded = []
        for (text, prompt), ids in zip(pairs, self._pieces.ids([text for text, _ in pairs], [True] * len(pairs)), strict=True):
            typed = self._control.typed(text)
            if cut := max(len(ids) - self._limits.response, 0):
                kept = ids[: self._limits.response]
                encoded.append(EncodedResponse(kept, str(self._tokenizer.decode(kept)), cut, typed=typed))
            else:
                encoded.append(EncodedResponse([*ids, prompt.end], text, 0, typed=typed))
        return encoded


def left_padded(rows: Sequence[IntArray], pad: int, device: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """(B, P) token ids and their mask, padding on the left."""
    return _padded(rows, pad, device, left=True)


def right_padded(rows: Sequence[IntArray], pad: int, device: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """(B, T) token ids and their mask, padding on the right."""
    return _padded(rows, pad, device, left=False)


def _padded(rows: Sequence[IntArray], pad: int, device: Any, left: bool) -> tuple[torch.Tensor, torch.Tensor]:
    import torch

    width = max(len(row) for row in rows)
    ids = np.full((len(rows), width), pad, dtype=np.int64)
    mask = np.zeros((len(rows), width), dtype=np.int64)
    for i, row in enumerate(rows):
        place = slice(width - len(row), width) if left else slice(0, len(row))
        ids[i, place], mask[i, place] = row, 1
    return torch.from_numpy(ids).to(device), torch.from_numpy(mask).to(device)
