"""Encoding of prompts and responses, and padding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from aloll_cli.tasks.base import Chat
from aloll_cli.text.prompts import PartDict, Plain, Prompt, Templated, is_chat
from aloll_cli.text.tokens import Pieces

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

    from aloll_cli.arrays import IntArray


@dataclass(frozen=True)
class EncodedResponse:
    """Token ids of a response, with the end token unless it was truncated; their text; how many tokens were cut off."""

    ids: list[int]
    text: str
    cut: int

    @property
    def truncated(self) -> bool:
        return self.cut > 0


class Encoder:
    """Tokenizes prompts and responses separately; text never becomes a control token."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, max_prompt_tokens: int, max_response_tokens: int, chat: Chat) -> None:
        self._tokenizer, self._pieces, self._max_response = tokenizer, Pieces(tokenizer), max_response_tokens
        self._plain = Plain(tokenizer, max_prompt_tokens)
        through_template = chat is not Chat.plain and tokenizer.chat_template is not None
        thinking = chat is not Chat.without_thinking
        self._templated = Templated(tokenizer, max_prompt_tokens, thinking) if through_template else None

    def prompts(self, prompts: Sequence[Sequence[PartDict]]) -> list[Prompt]:
        """Encode prompts, each a list of parts (fields of tasks.base.Part), truncated to the limit."""
        renderings = [self._templated if self._templated and is_chat(parts) else self._plain for parts in prompts]
        texts = [rendering.texts(parts) for rendering, parts in zip(renderings, prompts, strict=True)]
        # a template starts the chat itself
        within = [
            rendering is not self._plain or i > 0
            for rendering, prompt in zip(renderings, texts, strict=True)
            for i in range(len(prompt))
        ]
        ids = iter(self._pieces.ids([text for prompt in texts for text in prompt], within))
        return [
            rendering.prompt(parts, [next(ids) for _ in prompt])
            for rendering, parts, prompt in zip(renderings, prompts, texts, strict=True)
        ]

    def responses(self, texts: Sequence[str], prompts: Sequence[Prompt]) -> list[EncodedResponse]:
        """Encode the responses to prompts: truncated on the right, or complete with the end token."""
        texts = [text.removeprefix(" ") if prompt.replaces_space else text for text, prompt in zip(texts, prompts, strict=True)]
        encoded = []
        for text, ids, prompt in zip(texts, self._pieces.ids(texts, [True] * len(texts)), prompts, strict=True):
            cut = max(len(ids) - self._max_response, 0)
            kept = ids[: self._max_response]
            encoded.append(
                EncodedResponse(kept, str(self._tokenizer.decode(kept)), cut) if cut
                else EncodedResponse([*kept, prompt.end], text, 0)
            )  # fmt: skip
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
