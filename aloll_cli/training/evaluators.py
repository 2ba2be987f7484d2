"""What a run is judged by while it trains, and what its best policy is chosen by: a score, higher is better."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from aloll_cli.errors import UserError
from aloll_cli.metrics.text import different, distinct, words
from aloll_cli.text.packing import longest_first
from aloll_cli.training.batches import batch_logps
from aloll_cli.training.responding import Responder

if TYPE_CHECKING:
    from aloll_cli.arrays import FloatArray
    from aloll_cli.models.logprobs import ResponseLogps
    from aloll_cli.runtime.world import World
    from aloll_cli.text.examples import ExampleTable


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

    answering: Responder
    prompts: int
    label: str = "reward"

    def sample(self) -> list[int]:
        """The rows whose prompts are answered: the same ones at every evaluation, drawn by the prompts' hashes."""
        first, names = self.answering.examples.groups[1], self.answering.examples.prompt_names
        chosen = sorted(range(len(first)), key=names.__getitem__)[: self.prompts]
        return sorted(int(first[i]) for i in chosen)

    def evaluate(self, module: ResponseLogps, update: int, world: World) -> dict[str, Any]:
        groups = self.answering.examples.table.column("group")
        asked = [(name, row) for row in self.sample() for name in self.answering.generation.names(groups[row].as_py())]
        mine = asked[world.rank :: world.size]
        responses, scores = self.answering.answer(module, mine, update, world)
        gathered = world.gather(
            [(name, response.text, score) for (name, _), response, score in zip(mine, responses, scores.tolist(), strict=True)]
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
        before, after = different(first["responses"]), different(record["responses"])
        if after < 0.75 * before:
            return f"one response answers many prompts: {1 - after:.0%} repeat another, {1 - before:.0%} did before training"
        if record["empty"] > max(0.2, 2 * first["empty"]):
            return f"{record['empty']:.0%} of the responses are empty"
        return None
