"""The value head V(x): attention pooling over the frozen reference's last-layer hidden states of a prompt (Baheti et al. 2024).

The hidden states are constant, so the language model runs once per prompt and the head is trained on the stored states.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from aloll_cli.text.encoding import right_padded
from aloll_cli.text.packing import by_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from aloll_cli.arrays import FloatArray, IntArray


ATTENTION_HEADS = 8


class ValueHead(nn.Module):
    """One learned query attends over the prompt's states; V = lo + (hi − lo)·σ(linear), or linear where unbounded."""

    shift: Tensor
    scale: Tensor

    def __init__(self, hidden: int, lo: float, hi: float, dropout: float) -> None:
        super().__init__()
        heads = next(n for n in range(ATTENTION_HEADS, 0, -1) if hidden % n == 0)
        self.query = nn.Parameter(torch.randn(1, 1, hidden) / hidden**0.5)
        self.attention = nn.MultiheadAttention(hidden, heads, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(hidden, 1)
        # an unbounded reward is standardized with these
        self.register_buffer("shift", torch.tensor(0.0))
        self.register_buffer("scale", torch.tensor(1.0))
        self._is_bounded = bool(np.isfinite(lo) and np.isfinite(hi))
        self._lo, self._hi = (lo, hi) if self._is_bounded else (0.0, 1.0)

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """(B, P, H) states and (B, P) mask, 1 where real → (B,) values."""
        states = self.dropout(states)
        query = self.query.expand(len(states), -1, -1)
        pooled, _ = self.attention(query, states, states, key_padding_mask=mask == 0, need_weights=False)
        score = self.linear(self.dropout(pooled[:, 0]))[:, 0]
        bounded = self._lo + (self._hi - self._lo) * score.sigmoid()
        values: Tensor = bounded if self._is_bounded else self.shift + self.scale * score
        return values

    @torch.no_grad()
    def start_at(self, targets: Tensor, weights: Tensor) -> None:
        """Initialize the head so that it predicts the weighted mean of the targets, whatever the prompt."""
        mean = (targets * weights).sum() / weights.sum()
        self.linear.weight.zero_()
        if self._is_bounded:
            share = ((mean - self._lo) / (self._hi - self._lo)).clamp(1e-3, 1 - 1e-3)
            self.linear.bias.fill_(share.logit())
        else:
            self.linear.bias.zero_()
            self.shift.copy_(mean)
            self.scale.copy_(targets.std(correction=0).clamp(min=1e-6))


@torch.inference_mode()
def prompt_states(model: PreTrainedModel, prompts: Sequence[IntArray], pad: int, batch_tokens: int) -> list[Tensor]:
    """Last-layer hidden states of each prompt, (P_i, H) fp32 on the CPU, from a model in eval mode.

    Prompts are sorted by length to save padding.
    """
    states: dict[int, Tensor] = {}
    for chosen in by_tokens([len(prompt) for prompt in prompts], batch_tokens):
        ids, _ = right_padded([prompts[i] for i in chosen], pad, model.device)  # causal attention never reaches the padding
        output = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
        for row, i in enumerate(chosen):
            states[int(i)] = output[row, : len(prompts[i])].float().cpu().clone()
    return [states[i] for i in range(len(prompts))]


def pooled(states: Tensor) -> Tensor:
    """(P, H) states of a prompt → (2, H) their mean over the positions, and the last one."""
    return torch.stack([states.mean(dim=0), states[-1]])


def padded_states(states: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """(B, P, H) states padded on the right with 0, and (B, P) mask."""
    padded = nn.utils.rnn.pad_sequence(list(states), batch_first=True)
    mask = nn.utils.rnn.pad_sequence([torch.ones(len(s), dtype=torch.long) for s in states], batch_first=True)
    return padded, mask


@torch.inference_mode()
def predict(head: ValueHead, states: Sequence[Tensor], batch_size: int = 256) -> FloatArray:
    """(N,) values of N prompts, dropout off."""
    head.eval()
    chunks = [head(*padded_states(states[i : i + batch_size])) for i in range(0, len(states), batch_size)]
    return torch.cat(chunks).double().numpy()


@dataclass(frozen=True)
class Fit:
    """Cross-fitted heads and their error on held-out prompts.

    Attributes:
        heads: one per fold, fitted without the prompts of that fold.
        folds: (N,) the fold of each prompt.
        epoch: the number of epochs with the lowest held-out error; 0: the heads predict the mean.
        error, constant_error: held-out MSE of the heads, and of predicting the mean of the training folds.
    """

    heads: list[ValueHead]
    folds: IntArray
    epoch: int
    error: float
    constant_error: float


@dataclass(frozen=True)
class HeadOptions:
    """How a head is trained."""

    lo: float
    hi: float
    lr: float
    epochs: int
    batch_size: int
    dropout: float
    weight_decay: float
    seed: int


def train_head(
    states: Sequence[Tensor],
    targets: Tensor,
    weights: Tensor,
    options: HeadOptions,
    epochs: int,
    after_epoch: Callable[[int, ValueHead], None] = lambda epoch, head: None,
) -> ValueHead:
    """Train a head by weighted squared error.

    Args:
        states: N prompts' states, (P_i, H).
        targets, weights: (N,) mean reward of each prompt's responses, and their number.
        after_epoch: called with the number of each epoch (0 before the first) and the current head.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        head = ValueHead(states[0].shape[1], options.lo, options.hi, options.dropout)
        head.start_at(targets, weights)
        optimizer = torch.optim.AdamW(head.parameters(), lr=options.lr, weight_decay=options.weight_decay)
        after_epoch(0, head)
        for epoch in range(1, epochs + 1):
            head.train()
            for chosen in torch.split(torch.randperm(len(states)), options.batch_size):
                values = head(*padded_states([states[i] for i in chosen.tolist()]))
                loss = ((values - targets[chosen]).square() * weights[chosen]).sum() / weights[chosen].sum()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            after_epoch(epoch, head)
    return head.eval()


def cross_fit(states: Sequence[Tensor], targets: FloatArray, weights: FloatArray, options: HeadOptions, k: int) -> Fit:
    """Fit k heads, each without one fold of the prompts, for the number of epochs with the lowest held-out error."""
    y, w = (torch.tensor(a, dtype=torch.float32) for a in (targets, weights))
    folds = np.random.default_rng(options.seed).permutation(len(states)) % k
    curve = np.zeros(options.epochs + 1)
    constant = 0.0
    for fold in range(k):
        seen, unseen = np.flatnonzero(folds != fold).tolist(), np.flatnonzero(folds == fold).tolist()
        held_out = [states[i] for i in unseen]

        def record(epoch: int, head: ValueHead, held_out: list[Tensor] = held_out, unseen: list[int] = unseen) -> None:
            curve[epoch] += float((weights[unseen] * (predict(head, held_out) - targets[unseen]) ** 2).sum())

        train_head([states[i] for i in seen], y[seen], w[seen], options, options.epochs, record)
        mean = np.average(targets[seen], weights=weights[seen])
        constant += float((weights[unseen] * (mean - targets[unseen]) ** 2).sum())
    epoch, total = int(curve.argmin()), float(weights.sum())
    # trained again, because copies of the heads of every epoch would not fit into memory for wide models
    heads = [
        train_head([states[i] for i in np.flatnonzero(folds != f).tolist()], y[folds != f], w[folds != f], options, epoch)
        for f in range(k)
    ]
    return Fit(heads, folds, epoch, float(curve[epoch]) / total, constant / total)
