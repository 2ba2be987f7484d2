"""What a run is judged by while it trains, and what its best policy is chosen by: a score, higher is better."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from aloll_cli.batches import batch_logps
from aloll_cli.errors import UserError
from aloll_cli.generation import respond
from aloll_cli.metrics import distinct, words
from aloll_cli.packing import longest_first
from aloll_cli.rewards.base import Reward, Row, Scorer
from aloll_cli.scoring import checked_scores, using

if TYPE_CHECKING:
    from collections.abc import Callable

    from transformers import PreTrainedTokenizerBase

    from aloll_cli.arrays import FloatArray
    from aloll_cli.artifacts.examples import ExampleTable
    from aloll_cli.decoding import Generation
    from aloll_cli.logprobs import ResponseLogps
    from aloll_cli.world import World


class Evaluator(ABC):
    """Judges a policy on validation data."""

    label: str  # what the score is called

    @abstractmethod
    def evaluate(self, module: ResponseLogps, update: int, world: World) -> dict[str, Any]:
        """A record with "score" and whatever else is worth keeping, from a module in eval mode; every process calls it."""

    def collapse(self, first: dict[str, Any], record: dict[str, Any]) -> str | None:
        """What looks like collapse when a record is held against the one before training, in plain words."""
        return None


@dataclass
class Likelihood(Evaluator):
    """Weighted mean log-likelihood per token of the logged validation responses: weights 1 (NLL) or A⁺."""

    examples: ExampleTable
    weights: FloatArray
    pad: int
    batch_tokens: int
    label: str

    def evaluate(self, module: ResponseLogps, update: int, world: World) -> dict[str, Any]:
        rows = np.flatnonzero(self.weights > 0)
        lengths = self.examples.response_lengths()
        if not len(rows):
            raise UserError("no validation response has a positive advantage, to judge the policy by.", "values=constant")
        mine = rows[longest_first(lengths[rows])][world.rank :: world.size]
        logps = batch_logps(module, self.examples, mine.tolist(), self.pad, self.batch_tokens)
        total = float(sum(row.sum(dtype=np.float64) * self.weights[i] for i, row in zip(mine, logps, strict=True)))
        return {"score": world.sum(total) / float((self.weights[rows] * lengths[rows]).sum())}


@dataclass
class GeneratedReward(Evaluator):
    """Mean reward of the policy's own answers to a fixed sample of validation prompts."""

    examples: ExampleTable
    prompts: int
    tokenizer: PreTrainedTokenizerBase
    generation: Generation
    max_tokens: int
    stop: list[str]
    batch_tokens: int
    reward: Reward
    load_scorer: Callable[[], Scorer]
    label: str = "reward"

    def sample(self) -> list[int]:
        """The rows whose prompts are answered: the same ones at every evaluation, drawn by the prompts' hashes."""
        _, first = self.examples.groups
        names = self.examples.table.column("group").to_pylist()
        return sorted(sorted((int(i) for i in first), key=lambda i: names[i])[: self.prompts])

    def evaluate(self, module: ResponseLogps, update: int, world: World) -> dict[str, Any]:
        rows = [self.examples.table.slice(i, 1).to_pylist()[0] for i in self.sample()]
        mine = [(name, row) for row in rows for name in self.generation.names(row["group"])][world.rank :: world.size]
        responses = respond(
            module.model, self.tokenizer, [np.array(row["prompt_ids"]) for _, row in mine], [name for name, _ in mine],
            self.generation, step=update, max_tokens=self.max_tokens, stop=self.stop, batch_tokens=self.batch_tokens,
        )  # fmt: skip
        scored = [
            Row(name, row["group"], row["prompt"], r.text, turns=row["turns"])
            for (name, row), r in zip(mine, responses, strict=True)
        ]
        scores, error = np.zeros(0), None
        try:
            if scored:
                # a policy may compute in 16 bits; a reward says itself what it computes in
                with torch.autocast(module.model.device.type, enabled=False):
                    scores = using(self.load_scorer, lambda scorer: checked_scores(self.reward, scorer, scored))
        except UserError as found:
            error = found
        world.agree(error)
        gathered = world.gather(
            list(zip((row.id for row in scored), (row.response for row in scored), scores.tolist(), strict=True))
        )
        answers = sorted(answer for part in gathered for answer in part)
        texts = [text for _, text, _ in answers]
        lengths = [len(text.split()) for text in texts]
        return {
            "score": float(np.mean([score for *_, score in answers])),
            "length": float(np.mean(lengths)),
            "empty": float(np.mean([length == 0 for length in lengths])),
            "distinct_1": distinct(texts, 1),
            "responses": texts,
        }

    def collapse(self, first: dict[str, Any], record: dict[str, Any]) -> str | None:
        count = min(len(words(texts)) for texts in (first["responses"], record["responses"]))
        before, after = (distinct(texts, 1, first_words=count) for texts in (first["responses"], record["responses"]))
        if after < before / 2:
            return f"the responses repeat themselves: distinct-1 fell from {before:.3f} to {after:.3f} at equal numbers of words"
        if record["empty"] > max(0.2, 2 * first["empty"]):
            return f"{record['empty']:.0%} of the responses are empty"
        return None
