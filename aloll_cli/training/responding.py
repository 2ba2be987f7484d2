"""Generation and scoring of responses during training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from aloll_cli.errors import UserError
from aloll_cli.models.generation import respond as generate
from aloll_cli.models.responses import Response
from aloll_cli.rewards.base import Reward, Row, Scorer
from aloll_cli.rewards.scoring import checked_scores, using
from aloll_cli.text.encoded import Around

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from aloll_cli.arrays import FloatArray
    from aloll_cli.models.decoding import Generation
    from aloll_cli.models.logprobs import ResponseLogps
    from aloll_cli.runtime.options import Batching
    from aloll_cli.runtime.world import World
    from aloll_cli.tasks.base import Task
    from aloll_cli.text.examples import ExampleTable


COLUMNS = ("group", "prompt", "turns", "prompt_ids", "opening", "closing")  # of the examples, of which a response is generated


@dataclass(frozen=True)
class Responder:
    """Generates responses to prompts and scores them; the scorer is in memory only while it scores."""

    examples: ExampleTable
    task: Task
    tokenizer: PreTrainedTokenizerBase
    generation: Generation
    max_tokens: int
    stop: list[str]
    batch_tokens: int
    reward: Reward
    load_scorer: Callable[[], Scorer]
    batching: Batching
    tell: Callable[[str], None]  # writes a line to the log, once

    def respond(
        self, module: ResponseLogps, prompts: Sequence[tuple[str, int]], stream: str, world: World
    ) -> tuple[list[Response], FloatArray]:
        """Generate one response to each of this process's prompts; returns them and their (N,) rewards.

        Args:
            module: the policy, in eval mode.
            prompts: (N,) ids, which seed the random numbers together with the stream, and rows of examples.
            stream: names a stream of random numbers.
            world: every process must call this; an error of one process is raised in all.
        """
        rows = self.examples.at([row for _, row in prompts], COLUMNS).to_pylist()
        names = [name for name, _ in prompts]
        responses = generate(
            module.model, self.tokenizer, [np.array(row["prompt_ids"]) for row in rows], names,
            self.generation, stream=stream, max_tokens=self.max_tokens, stop=self.stop, batch_tokens=self.batch_tokens,
            around=[Around(row["opening"], row["closing"]) for row in rows],
            batching=self.batching, tell=self.tell,
        )  # fmt: skip
        scored = [
            Row.of(self.task, name, row["group"], row["prompt"], response.text, turns=row["turns"])
            for name, row, response in zip(names, rows, responses, strict=True)
        ]
        scores, error = np.zeros(0), None
        try:
            if scored:
                # the policy may compute in bf16 by autocast; a reward model has its own dtype
                with torch.autocast(module.model.device.type, enabled=False):
                    scores = using(self.load_scorer, lambda scorer: checked_scores(self.reward, scorer, scored))
        except UserError as found:
            error = found
        world.agree(error)
        return responses, scores
