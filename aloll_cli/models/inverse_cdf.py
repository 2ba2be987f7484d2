"""Sampling with random numbers that depend on the row and not on its batch."""

from __future__ import annotations

import hashlib
from copy import copy

import numpy as np
import torch
from transformers import LogitsProcessor

RANKED = 1024  # most likely tokens that are sorted first; a sample is hardly ever another token


class InverseCdf(LogitsProcessor):
    """Inverse-CDF sampling: keeps, for each row, the token at which its CDF passes the row's uniform random number.

    Tokens are sorted by probability, so that two policies that use the same random numbers tend to pick the same tokens. The CDF
    is that of the nucleus: the fewest most likely tokens with a total probability of ``top_p`` (Holtzman et al. 2020).
    """

    def __init__(self, seed: int, stream: str, ids: list[str], top_p: float = 1.0) -> None:
        self._rows = [np.random.Generator(np.random.Philox(key=_row_key(seed, stream, name))) for name in ids]
        self._top_p = top_p

    def of_rows(self, rows: list[int]) -> InverseCdf:
        """The same for some of the rows, whose next random numbers are these rows' own."""
        chosen = copy(self)
        chosen._rows = [self._rows[row] for row in rows]
        return chosen

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """(B, L) tokens so far and (B, V) logits → (B, V), 0 for the token to take and −∞ elsewhere."""
        probabilities = scores.double().softmax(dim=-1)
        uniform = torch.tensor([row.random() for row in self._rows], dtype=torch.float64, device=scores.device)[:, None]
        taken, is_certain = self._take(probabilities, uniform, min(RANKED, scores.shape[-1]))
        if not is_certain.all():
            others = (~is_certain).nonzero()[:, 0]
            taken[others], _ = self._take(probabilities[others], uniform[others], scores.shape[-1])
        return torch.full_like(scores, float("-inf")).scatter_(1, taken, 0.0)  # type: ignore[return-value]

    def _take(self, probabilities: torch.Tensor, uniform: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, 1) sampled tokens for the numbers (B, 1), and (B,) whether the ``count`` most likely tokens were enough."""
        ranked, tokens = _most_likely(probabilities, count)
        cumulative, last = _cumulative(ranked), count - 1
        nucleus = torch.searchsorted(cumulative, torch.full_like(uniform, self._top_p))  # index of its last token
        mass = cumulative.gather(1, nucleus.clamp(max=last)) if self._top_p < 1 else torch.ones_like(uniform)
        place = torch.searchsorted(cumulative, uniform * mass, right=True)
        needed = torch.maximum(nucleus, place) if self._top_p < 1 else place
        # tokens as likely as the last sorted one may be missing, so that ties with it are not certain
        certain = (ranked > ranked[:, -1:]).sum(dim=-1, keepdim=True)
        return tokens.gather(1, place.clamp(max=last)), (needed < certain)[:, 0]


def _most_likely(probabilities: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(B, count) the highest probabilities of each row, descending, and their tokens; ties by token id."""
    if count == probabilities.shape[-1]:
        return probabilities.sort(dim=-1, descending=True, stable=True)
    tokens = probabilities.topk(count, dim=-1, sorted=False).indices.sort(dim=-1).values
    ranked, order = probabilities.gather(1, tokens).sort(dim=-1, descending=True, stable=True)
    return ranked, tokens.gather(1, order)


def _cumulative(ranked: torch.Tensor) -> torch.Tensor:
    """(B, count) cumulative sums; on the CPU where they must be deterministic, because a GPU adds in any order."""
    if torch.are_deterministic_algorithms_enabled():
        return ranked.cpu().cumsum(dim=-1).to(ranked.device)
    return ranked.cumsum(dim=-1)


def _row_key(seed: int, stream: str, name: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}/{stream}/{name}".encode()).digest()[:16])
