"""Batches of examples as tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor

from aloll_cli.models.dropout import RowDropout
from aloll_cli.text.encoding import left_padded, right_padded
from aloll_cli.text.packing import by_tokens

if TYPE_CHECKING:
    from aloll_cli.arrays import Float32Array, IntArray
    from aloll_cli.models.logprobs import ResponseLogps


class Tokens(Protocol):
    """Prompts and responses by row."""

    def prompt_ids(self, row: int) -> IntArray:
        """Token ids of a row's prompt."""

    def response_ids(self, row: int) -> IntArray:
        """Token ids of a row's response, at least one token."""


@dataclass(frozen=True)
class TokenBatch:
    """(B, P) prompts padded on the left and (B, T) responses padded on the right, with masks that are 1 at real tokens."""

    prompt_ids: Tensor
    prompt_mask: Tensor
    response_ids: Tensor
    response_mask: Tensor

    def logps(self, module: Any) -> Tensor:
        """(B, T) log-probs under a ResponseLogps module, wrapped or not."""
        logps: Tensor = module(self.prompt_ids, self.prompt_mask, self.response_ids, self.response_mask)
        return logps


def token_batch(examples: Tokens, rows: Sequence[int], pad: int, device: Any) -> TokenBatch:
    """The tokens of some rows."""
    prompts = left_padded([examples.prompt_ids(i) for i in rows], pad, device)
    responses = right_padded([examples.response_ids(i) for i in rows], pad, device)
    return TokenBatch(*prompts, *responses)


def padded(rows: Sequence[Float32Array], device: Any) -> Tensor:
    """(B, T) fp32: rows of different lengths, padded with 0 on the right."""
    width = max(len(row) for row in rows)
    array = np.zeros((len(rows), width), dtype=np.float32)
    for i, row in enumerate(rows):
        array[i, : len(row)] = row
    return torch.from_numpy(array).to(device)


Masks = Callable[[list["IntArray"]], AbstractContextManager[Any]]  # units of a micro-batch → the context of its dropout


def row_masks(
    module: ResponseLogps, lengths: Callable[[IntArray], IntArray], step: str, units: list[IntArray], order: IntArray
) -> Masks:
    """The dropout of one micro-batch after the other; a row is known by the step and by its place in it.

    Args:
        module: the policy.
        lengths: (n,) rows → (n,) their tokens, prompt and response together.
        step: the seed and the training step.
        units: (U,) the rows of each unit of the step, in the order in which they were drawn.
        order: the units of this process, in the order of its micro-batches.
    """
    starts, left = np.cumsum([0, *map(len, units)]), iter(order)

    def masks(chosen: list[IntArray]) -> AbstractContextManager[Any]:
        first = [starts[next(left)] for _ in chosen]
        keys = [f"{step} {start + i}" for start, unit in zip(first, chosen, strict=True) for i in range(len(unit))]
        return RowDropout(module, keys, lengths(np.concatenate(chosen)).tolist())

    return masks


def no_masks(chosen: list[IntArray]) -> AbstractContextManager[Any]:
    """No dropout."""
    return nullcontext()


@torch.inference_mode()
def batch_logps(module: ResponseLogps, examples: Tokens, rows: Sequence[int], pad: int, batch_tokens: int) -> list[Float32Array]:
    """Per-token log-probs of the response of each row, in order; sorted by length within the call to save padding."""
    lengths = [len(examples.prompt_ids(row)) + len(examples.response_ids(row)) for row in rows]
    logps: dict[int, Float32Array] = {}
    for chosen in by_tokens(lengths, batch_tokens):
        batch = token_batch(examples, [rows[i] for i in chosen], pad, module.model.device).logps(module).cpu().numpy()
        for i, values in zip(chosen, batch, strict=True):
            logps[int(i)] = values[: len(examples.response_ids(rows[i]))].copy()
    return [logps[i] for i in range(len(rows))]
