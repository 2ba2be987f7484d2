"""The repetition penalty of generation, without the padding before a prompt."""

from __future__ import annotations

import torch
from transformers import LogitsProcessor


class RepetitionPenalty(LogitsProcessor):
    """Makes tokens less likely that a row has already, prompt included (Keskar et al. 2019).

    Positive logits are divided by the penalty, negative ones multiplied with it.
    """

    def __init__(self, penalty: float, begins: torch.Tensor) -> None:
        """``begins``: (B,) the position of each row's first token behind the padding."""
        self._penalty, self._begins = penalty, begins[:, None]

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """(B, L) tokens so far and (B, V) logits → (B, V)."""
        is_padding = torch.arange(input_ids.shape[1], device=input_ids.device) < self._begins
        tokens = torch.where(is_padding, input_ids[:, -1:], input_ids)
        chosen = scores.gather(1, tokens)
        penalized = torch.where(chosen < 0, chosen * self._penalty, chosen / self._penalty)
        return scores.scatter(1, tokens, penalized)  # type: ignore[return-value]
