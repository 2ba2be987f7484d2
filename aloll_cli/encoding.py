"""From text to tokens: the only place that cuts, pads and appends the end-of-sequence token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

    from aloll_cli.arrays import IntArray

    PartDict = dict[str, Any]


@dataclass(frozen=True)
class Prompt:
    """Token ids of a prompt, and how many were cut off to fit."""

    ids: list[int]
    cut: int


@dataclass(frozen=True)
class EncodedResponse:
    """Token ids of a response, with EOS where it was not cut; the text that those ids stand for."""

    ids: list[int]
    text: str
    truncated: bool


class Encoder:
    """Prompt and response are tokenised apart; text never becomes a control token."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, max_prompt_tokens: int, max_response_tokens: int) -> None:
        self._tokenizer = tokenizer
        self._max_prompt, self._max_response = max_prompt_tokens, max_response_tokens
        self._eos = int(tokenizer.eos_token_id)
        opening = tokenizer("", add_special_tokens=True)["input_ids"]
        self._bos = [tokenizer.bos_token_id] if tokenizer.bos_token_id in opening and tokenizer.bos_token_id != self._eos else []

    def prompts(self, prompts: Sequence[Sequence[PartDict]]) -> list[Prompt]:
        """Encode prompts, each a list of parts (fields of tasks.base.Part), cut to the limit."""
        texts = [part["text"] for parts in prompts for part in parts]
        ids = iter(self._ids(texts))
        return [self._prompt(parts, [next(ids) for _ in parts]) for parts in prompts]

    def responses(self, texts: Sequence[str]) -> list[EncodedResponse]:
        """Encode responses: cut on the right, or whole with EOS."""
        encoded = []
        for text, ids in zip(texts, self._ids(texts), strict=True):
            truncated = len(ids) > self._max_response
            kept = ids[: self._max_response]
            encoded.append(
                EncodedResponse(kept, str(self._tokenizer.decode(kept)), True) if truncated
                else EncodedResponse([*kept, self._eos], text, False)
            )  # fmt: skip
        return encoded

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        if not texts:
            return []
        encoded: list[list[int]] = self._tokenizer(list(texts), add_special_tokens=False, split_special_tokens=True)["input_ids"]
        return encoded

    def _prompt(self, parts: Sequence[PartDict], ids: list[list[int]]) -> Prompt:
        ids = [tokens + [self._eos] * part["eos"] for part, tokens in zip(parts, ids, strict=True)]
        excess = sum(map(len, ids)) - (self._max_prompt - len(self._bos))
        cut = 0
        giving = sorted((i for i, part in enumerate(parts) if part["drop"] is not None), key=lambda i: (parts[i]["drop"], i))
        for i in [*giving, *(i for i, part in enumerate(parts) if part["drop"] is None)]:
            if excess <= 0:
                break
            gone = len(ids[i]) if parts[i]["whole"] else min(excess, len(ids[i]))
            ids[i] = ids[i][gone:]
            excess, cut = excess - gone, cut + gone
        whole = self._bos + [token for tokens in ids for token in tokens]
        return Prompt(whole or [self._eos], cut)  # a model needs one token to start from


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
