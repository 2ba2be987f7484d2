"""Prompts of a step with responses to other prompts, whose log-ratios estimate the policy's KL to the reference (variant=kto)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from aloll_cli.errors import UserError
from aloll_cli.training.batches import Tokens, batch_logps
from aloll_cli.training.sampling import philox

if TYPE_CHECKING:
    from aloll_cli.arrays import FloatArray, IntArray
    from aloll_cli.models.logprobs import ResponseLogps
    from aloll_cli.runtime.world import World
    from aloll_cli.training.sources import Logps

PARTNERS = 1  # the stream of random numbers that partners are drawn from; those of the rows themselves come from stream 0


@dataclass(frozen=True)
class MismatchedPairs:
    """The mismatched pairs of all steps of a run, B per step, in order: (x_i, y_j) of prompts i ≠ j.

    Attributes:
        examples: the tokens of the training responses.
        prompts: (M,) the row whose prompt a pair has.
        responses: (M,) the row whose response it has.
    """

    examples: Tokens
    prompts: IntArray
    responses: IntArray

    def __len__(self) -> int:
        return len(self.prompts)

    def prompt_ids(self, row: int) -> IntArray:
        return self.examples.prompt_ids(int(self.prompts[row]))

    def response_ids(self, row: int) -> IntArray:
        return self.examples.response_ids(int(self.responses[row]))


def mismatched_pairs(
    tokens_of: Callable[[IntArray], Tokens], groups: IntArray, drawn: list[IntArray], seed: int
) -> MismatchedPairs:
    """Pairs every row that a run draws with a response to another prompt, a function of the seed and the step.

    Args:
        tokens_of: rows of the N training responses, ascending → their tokens.
        groups: (N,) index of the prompt of each.
        drawn: (B,) the rows of each step.
        seed: of the run.

    Raises:
        UserError: all responses are to one prompt.
    """
    if groups.max() == groups.min():
        raise UserError(
            "all training responses are to one prompt, so none can be paired with a response to another prompt.",
            "A method that needs no such pairs: variant=dro",
        )
    members, sizes = np.argsort(groups, kind="stable"), np.bincount(groups)
    starts = np.cumsum(sizes) - sizes
    partners = []
    for step, rows in enumerate(drawn):
        own, start = sizes[groups[rows]], starts[groups[rows]]
        place = philox(seed, step, PARTNERS).integers(0, len(groups) - own)  # among the responses to other prompts
        partners.append(members[np.where(place >= start, place + own, place)])
    prompts, responses = np.concatenate(drawn), np.concatenate(partners)
    return MismatchedPairs(tokens_of(np.union1d(prompts, responses)), prompts, responses)


@dataclass(frozen=True)
class Mismatched:
    """The mismatched pairs of a run and their log-probs under π_ref.

    Attributes:
        pairs: those of all steps.
        reference: ln π_ref of the response's tokens of each pair.
        per_step: number of pairs per step.
        pad: the padding token id.
        batch_tokens: tokens per forward pass, padding included.
    """

    pairs: MismatchedPairs
    reference: Logps
    per_step: int
    pad: int
    batch_tokens: int

    def log_ratios(self, update: int, module: ResponseLogps, world: World) -> FloatArray:
        """(B,) h = ln π(y_j | x_i) − ln π_ref(y_j | x_i) of all pairs of a step; every process must call this."""
        mine = list(range(update * self.per_step, (update + 1) * self.per_step))[world.rank :: world.size]
        logps = batch_logps(module, self.pairs, mine, self.pad, self.batch_tokens)
        ratios = [float((row - self.reference.row(i)).sum(dtype=np.float64)) for i, row in zip(mine, logps, strict=True)]
        every = sorted(pair for part in world.gather(list(zip(mine, ratios, strict=True))) for pair in part)
        return np.array([ratio for _, ratio in every])
