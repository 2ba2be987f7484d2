"""Answers of a policy that is being trained, with their rewards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from aloll_cli.errors import UserError
from aloll_cli.models.generation import Response, respond
from aloll_cli.rewards.base import Reward, Row, Scorer
from aloll_cli.rewards.scoring import checked_scores, using

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from aloll_cli.arrays import FloatArray
    from aloll_cli.models.decoding import Generation
    from aloll_cli.models.logprobs import ResponseLogps
    from aloll_cli.runtime.world import World
    from aloll_cli.text.examples import ExampleTable


@dataclass(frozen=True)
class Responder:
    """How prompts are answered, and who scores the answers; the scorer is in memory while it scores only."""

    examples: ExampleTable
    tokenizer: PreTrainedTokenizerBase
    generation: Generation
    max_tokens: int
    stop: list[str]
    batch_tokens: int
    reward: Reward
    load_scorer: Callable[[], Scorer]

    def answer(
        self, module: ResponseLogps, prompts: Sequence[tuple[str, int]], step: int, world: World
    ) -> tuple[list[Response], FloatArray]:
        """One response to each of this process's prompts, and (N,) rewards.

        Args:
            module: the policy, in eval mode.
            prompts: (N,) names, which seed the responses together with the step, and rows of examples.
            step: the update.
            world: every process calls this, and any one's error is everyone's.
        """
        rows = [self.examples.table.slice(row, 1).to_pylist()[0] for _, row in prompts]
        names = [name for name, _ in prompts]
        responses = respond(
            module.model, self.tokenizer, [np.array(row["prompt_ids"]) for row in rows], names,
            self.generation, step=step, max_tokens=self.max_tokens, stop=self.stop, batch_tokens=self.batch_tokens,
        )  # fmt: skip
        answered = [
            Row(name, row["group"], row["prompt"], response.text, turns=row["turns"])
            for name, row, response in zip(names, rows, responses, strict=True)
        ]
        scores, error = np.zeros(0), None
        try:
            if answered:
                # a policy may compute in 16 bits; a reward says itself what it computes in
                with torch.autocast(module.model.device.type, enabled=False):
                    scores = using(self.load_scorer, lambda scorer: checked_scores(self.reward, scorer, answered))
        except UserError as found:
            error = found
        world.agree(error)
        return responses, scores
