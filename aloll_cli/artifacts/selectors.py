"""Checkpoint selection: what evaluations during training measure."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aloll_cli.artifacts.examples import Examples
from aloll_cli.artifacts.response_weights import ResponseWeights
from aloll_cli.artifacts.rewards import ScoredBy
from aloll_cli.artifacts.rollout_data import open_responder
from aloll_cli.models.decoding import Generation, decoding_identity
from aloll_cli.store.store import Artifact, Job
from aloll_cli.text.examples import ExampleTable

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from aloll_cli.training.evaluators import Evaluator


class CheckpointSelector:
    """A criterion by which the best checkpoint is selected."""

    def inputs(self) -> dict[str, Artifact]:
        """The artifacts it needs besides the examples."""
        return {}

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """The options that affect its scores."""

    @abstractmethod
    def open(self, job: Job, examples: Examples, tokenizer: PreTrainedTokenizerBase) -> Evaluator:
        """Load its inputs."""


@dataclass
class SelectByLikelihood(CheckpointSelector):
    """Validation log-likelihood, unweighted, or weighted by advantage (for rewards that cannot score text)."""

    weights: ResponseWeights | None = None

    def inputs(self) -> dict[str, Artifact]:
        return self.weights.inputs() if self.weights else {}

    def identity(self) -> dict[str, Any]:
        return {"by": "likelihood" if self.weights is None else "advantage-weighted likelihood"}

    def open(self, job: Job, examples: Examples, tokenizer: PreTrainedTokenizerBase) -> Evaluator:
        import numpy as np

        from aloll_cli.training.evaluators import Likelihood

        table = ExampleTable(job.path(examples) / "validation")
        weights = np.ones(len(table)) if self.weights is None else self.weights.load(job)[1]
        label = "log-likelihood per token" if self.weights is None else "advantage-weighted log-likelihood per token"
        return Likelihood(table, weights, int(tokenizer.pad_token_id), job.runtime.scoring_batch_tokens, label)


@dataclass
class SelectByReward(CheckpointSelector):
    """Mean reward of responses that the policy generates for a fixed subset of the validation prompts."""

    scored_by: ScoredBy
    generation: Generation
    prompts: int

    def inputs(self) -> dict[str, Artifact]:
        return self.scored_by.inputs()

    def identity(self) -> dict[str, Any]:
        return self.scored_by.identity() | decoding_identity(self.generation) | {"prompts": self.prompts}

    def open(self, job: Job, examples: Examples, tokenizer: PreTrainedTokenizerBase) -> Evaluator:
        from aloll_cli.metrics.words import by_script, letter_shares
        from aloll_cli.training.evaluators import GeneratedReward

        responder = open_responder(job, examples, "validation", tokenizer, self.generation, self.scored_by)
        logged = responder.examples.table.column("response").to_pylist()
        return GeneratedReward(responder, self.prompts, by_script(letter_shares([logged])))
