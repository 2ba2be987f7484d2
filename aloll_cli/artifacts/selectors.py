"""What chooses the best checkpoint of a run."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aloll_cli.artifacts.examples import Examples
from aloll_cli.artifacts.rewards import ScoredBy
from aloll_cli.artifacts.training_data import ResponseWeights, answering
from aloll_cli.models.decoding import Generation
from aloll_cli.schema import identity
from aloll_cli.store.store import Artifact, Job
from aloll_cli.text.examples import ExampleTable

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from aloll_cli.training.evaluators import Evaluator


class CheckpointSelector:
    """What a run's evaluations measure."""

    def inputs(self) -> dict[str, Artifact]:
        """What it needs beside the examples."""
        return {}

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """What decides its verdicts."""

    @abstractmethod
    def open(self, job: Job, examples: Examples, tokenizer: PreTrainedTokenizerBase) -> Evaluator:
        """Load what it needs."""


@dataclass
class SelectByLikelihood(CheckpointSelector):
    """Validation log-likelihood: of every response alike, or weighted by its advantage (for rewards that cannot score text)."""

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
        label = "log-likelihood" if self.weights is None else "advantage-weighted log-likelihood"
        return Likelihood(table, weights, int(tokenizer.pad_token_id), job.runtime.scoring_batch_tokens, label)


@dataclass
class SelectByReward(CheckpointSelector):
    """Mean reward of the policy's own answers to a fixed sample of validation prompts."""

    scored_by: ScoredBy
    generation: Generation
    prompts: int

    def inputs(self) -> dict[str, Artifact]:
        return self.scored_by.inputs()

    def identity(self) -> dict[str, Any]:
        return self.scored_by.identity() | {"generation": identity(self.generation), "prompts": self.prompts}

    def open(self, job: Job, examples: Examples, tokenizer: PreTrainedTokenizerBase) -> Evaluator:
        from aloll_cli.training.evaluators import GeneratedReward

        answers = answering(job, examples, "validation", tokenizer, self.generation, self.scored_by)
        return GeneratedReward(answers, self.prompts)
