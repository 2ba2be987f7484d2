"""Evaluations during training: a validation score, higher is better, by which the best checkpoint is selected."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from aloll_cli.errors import UserError
from aloll_cli.metrics.text import different, distinct, lengths, words
from aloll_cli.metrics.words import ENGLISH, TextTokenizer
from aloll_cli.tasks.selection import limited
from aloll_cli.text.examples import prompt_keys
from aloll_cli.text.packing import longest_first
from aloll_cli.training.batches import batch_logps
from aloll_cli.training.responding import Responder
from aloll_cli.training.rollouts import ReferenceOf, RolloutResponses, flattened
from aloll_cli.training.selection import MOST_READ, Select

if TYPE_CHECKING:
    from aloll_cli.arrays import FloatArray, IntArray
    from aloll_cli.models.logprobs import ResponseLogps
    from aloll_cli.runtime.world import World
    from aloll_cli.text.examples import ExampleTable
    from aloll_cli.text.token_file import StoredTokens


class Evaluator(ABC):
    """Evaluates a policy on validation data."""

    label: str  # name of the score

    @property
    def may_refuse(self) -> bool:
        """Whether no checkpoint may be chosen, so that the initial policy has to be kept."""
        return False

    @abstractmethod
    def evaluate(self, module: ResponseLogps, seed: int, world: World) -> dict[str, Any]:
        """Evaluate a checkpoint, with the same random numbers for every checkpoint of a run.

        Args:
            module: the policy, in eval mode.
            seed: of the run. Runs with other seeds are evaluated with other random numbers.
            world: every process must call this.

        Returns:
            A record with "score", "scores" (one per prompt, whose mean is the score up to rounding), and other metrics; with
            "objective" if checkpoints are compared by something else than the score (selection.py).
        """

    def describe(self, record: dict[str, Any]) -> str:
        """The metrics of a record besides its score, as text."""
        return ""

    def collapse(self, first: dict[str, Any], record: dict[str, Any]) -> str | None:
        """A sign of collapse in a record compared with ``first``, that of the initial policy; None if there is none."""
        return None


@dataclass
class Likelihood(Evaluator):
    """Weighted mean log-likelihood per token of the logged validation responses, with weights 1 (NLL) or A⁺.

    Of more than MOST_READ responses those to a fixed subset of the prompts are read, the same at every evaluation.
    """

    examples: ExampleTable
    weights: FloatArray
    pad: int
    batch_tokens: int
    label: str

    @cached_property
    def rows(self) -> IntArray:
        """The responses that are read, ascending."""
        rows = np.flatnonzero(self.weights > 0)
        if not len(rows):
            raise UserError(
                "no validation response has a positive advantage, so checkpoints cannot be compared.", "values=constant"
            )
        return rows if len(rows) <= MOST_READ else rows[limited(prompt_keys(self.examples.directory)[rows], MOST_READ)]

    @cached_property
    def tokens(self) -> StoredTokens:
        """Their token ids."""
        return self.examples.tokens(self.rows)

    def evaluate(self, module: ResponseLogps, seed: int, world: World) -> dict[str, Any]:
        rows, lengths = self.rows, self.tokens.response_lengths(self.rows)
        mine = rows[longest_first(lengths)][world.rank :: world.size]
        logps = batch_logps(module, self.tokens, mine.tolist(), self.pad, self.batch_tokens)
        weighted = [float(row.sum(dtype=np.float64) * self.weights[i]) for i, row in zip(mine, logps, strict=True)]
        tokens = float((self.weights[rows] * lengths).sum())
        every = [pair for part in world.gather(list(zip(mine.tolist(), weighted, strict=True))) for pair in part]
        found, sums = (np.array(values) for values in zip(*sorted(every), strict=True))
        _, prompts = np.unique(self.examples.groups[0][found], return_inverse=True)
        by_prompt = np.bincount(prompts, sums)
        return {"score": world.sum(sum(weighted)) / tokens, "scores": (by_prompt * len(by_prompt) / tokens).tolist()}


@dataclass
class GeneratedReward(Evaluator):
    """Mean reward of responses that the policy generates for a fixed subset of the validation prompts.

    Attributes:
        responder: generates and scores.
        prompts: how many prompts at most.
        words: what counts as a word in the figures of the responses.
        select: how checkpoints are compared, if not by the reward alone.
        reference: policy module → a context with the module of π_ref; None: the KL to it is not estimated.
        pad: the padding token id.
    """

    responder: Responder
    prompts: int
    words: TextTokenizer = ENGLISH
    select: Select | None = None
    reference: ReferenceOf | None = None
    pad: int = 0
    label: str = "reward"

    @property
    def may_refuse(self) -> bool:
        return self.select is not None and self.select.may_refuse

    def sample(self) -> list[int]:
        """Rows of the prompts of that subset, the same at every evaluation: those with the smallest hashes."""
        first, names = self.responder.examples.groups[1], self.responder.examples.prompt_names
        chosen = sorted(range(len(first)), key=names.__getitem__)[: self.prompts]
        return sorted(int(first[i]) for i in chosen)

    def evaluate(self, module: ResponseLogps, seed: int, world: World) -> dict[str, Any]:
        rows, names = self.sample(), self.responder.generation.names
        groups = self.responder.examples.at(rows, ["group"]).column("group").to_pylist()
        asked = [(name, row) for row, group in zip(rows, groups, strict=True) for name in names(group)]
        mine = [asked[i] for i in world.share(len(asked), together=self.responder.generation.samples_per_prompt)]
        responses, scores = self.responder.respond(module, mine, f"evaluation of seed {seed}", world)
        ratios = self._log_ratios(module, [row for _, row in mine], [response.ids for response in responses])
        own = zip([name for name, _ in mine], responses, scores.tolist(), ratios, strict=True)
        gathered = world.gather([(name, found.text, score, len(found.ids), ratio) for name, found, score, ratio in own])
        every = sorted(scored for part in gathered for scored in part)
        texts = [text for _, text, *_ in every]
        counts = lengths(texts, self.words)
        by_name = {name: score for name, _, score, *_ in every}
        prompt_of = {name: place // self.responder.generation.samples_per_prompt for place, (name, _) in enumerate(asked)}
        told_apart = sorted({(prompt_of[name], text.strip()) for name, text, *_ in every})
        by_prompt = np.reshape([by_name[name] for name, _ in asked], (-1, self.responder.generation.samples_per_prompt))
        record: dict[str, Any] = {
            "score": float(np.mean([score for _, _, score, *_ in every])),
            "scores": by_prompt.mean(axis=1).tolist(),
            "length": float(np.mean(counts)),
            "empty": float(np.mean([not text.strip() for text in texts])),
            "distinct_1": distinct(texts, 1, tokenizer=self.words),
            "repeated": 1 - different([text for _, text in told_apart]),  # the same one twice for one prompt is no repetition
        }
        if self.reference is not None:
            tokens, log_ratios = np.array([row[3:] for row in every]).T
            record |= {"kl": float(log_ratios.mean()), "kl_per_token": float(log_ratios.sum() / tokens.sum())}
        if self.select is not None:
            record["objective"] = self.select.objective(record)
        return record | {"responses": texts}

    def describe(self, record: dict[str, Any]) -> str:
        length, empty = f"{record['length']:.1f} {self.words.unit} per response", f"{record['empty']:.1%} empty"
        said = f"{length}  {empty}  distinct-1 {record['distinct_1']:.3f}"
        if "kl" in record:
            said += f"  KL {record['kl']:.2f} nats ({record['kl_per_token']:.3f} per token)"
        return f"{said}  beyond a bound of select" if record.get("objective", 0.0) is None else said

    def _log_ratios(self, module: ResponseLogps, rows: list[int], tokens: list[list[int]]) -> list[float]:
        """ln π − ln π_ref of this process's responses, whose mean estimates the KL; zeros if it is not asked for."""
        if self.reference is None:
            return [0.0] * len(rows)
        responses = RolloutResponses(self.responder.examples, np.array(rows, dtype=np.int64), *flattened(tokens))
        own = batch_logps(module, responses, range(len(rows)), self.pad, self.responder.batch_tokens)
        with self.reference(module) as reference:
            under = batch_logps(reference, responses, range(len(rows)), self.pad, self.responder.batch_tokens)
        return [float((mine - theirs).sum(dtype=np.float64)) for mine, theirs in zip(own, under, strict=True)]

    def collapse(self, first: dict[str, Any], record: dict[str, Any]) -> str | None:
        sides = (first["responses"], record["responses"])
        count = min(len(words(texts, self.words)) for texts in sides)
        before, after = (distinct(texts, 1, count, self.words) for texts in sides)
        if after < before / 2:
            what = f"distinct-1 fell from {before:.3f} to {after:.3f} at equal numbers of {self.words.unit}"
            return f"responses are repetitive: {what}"
        before, after = first["repeated"], record["repeated"]
        if 1 - after < 0.75 * (1 - before):
            return f"many prompts get the same response: {after:.0%} of responses are duplicates, initially {before:.0%}"
        if record["empty"] > max(0.2, 2 * first["empty"]):
            return f"{record['empty']:.0%} of the responses are empty"
        return None
