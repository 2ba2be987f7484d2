"""Checkpoint selection: what evaluations during training measure."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aloll_cli.artifacts.examples import Examples
from aloll_cli.artifacts.policy_source import PolicySource
from aloll_cli.artifacts.response_weights import ResponseWeights
from aloll_cli.artifacts.rewards import ScoredBy
from aloll_cli.artifacts.rollout_data import open_responder
from aloll_cli.models.adapters import has_adapter
from aloll_cli.models.base import Head
from aloll_cli.models.decoding import Generation, decoding_identity
from aloll_cli.store.store import Artifact, Job
from aloll_cli.store.tables import open_blocks
from aloll_cli.text.examples import ExampleTable
from aloll_cli.training.selection import MOST_READ

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from aloll_cli.training.evaluators import Evaluator
    from aloll_cli.training.rollouts import ReferenceOf
    from aloll_cli.training.selection import Select


class CheckpointSelector:
    """A criterion by which the best checkpoint is selected."""

    def inputs(self) -> dict[str, Artifact]:
        """The artifacts it needs besides the examples."""
        return {}

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """The options that affect its scores."""

    @abstractmethod
    def open(
        self, job: Job, examples: Examples, tokenizer: PreTrainedTokenizerBase, start: PolicySource, model: PreTrainedModel
    ) -> Evaluator:
        """Load its inputs.

        Args:
            job: the build that they are loaded for.
            examples: of the policy.
            tokenizer: of the policy.
            start: π_ref, which training starts from.
            model: the same, loaded: the policy before training.
        """


@dataclass
class SelectByLikelihood(CheckpointSelector):
    """Validation log-likelihood, unweighted, or weighted by advantage (for rewards that cannot score text)."""

    weights: ResponseWeights | None = None

    def inputs(self) -> dict[str, Artifact]:
        return self.weights.inputs() if self.weights else {}

    def identity(self) -> dict[str, Any]:
        return {"by": "likelihood" if self.weights is None else "advantage-weighted likelihood", "responses": MOST_READ}

    def open(
        self, job: Job, examples: Examples, tokenizer: PreTrainedTokenizerBase, start: PolicySource, model: PreTrainedModel
    ) -> Evaluator:
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
    select: Select

    def inputs(self) -> dict[str, Artifact]:
        return self.scored_by.inputs()

    def identity(self) -> dict[str, Any]:
        given = {"select": self.select.given} if self.select.given else {}
        return self.scored_by.identity() | decoding_identity(self.generation) | {"prompts": self.prompts} | given

    def open(
        self, job: Job, examples: Examples, tokenizer: PreTrainedTokenizerBase, start: PolicySource, model: PreTrainedModel
    ) -> Evaluator:
        from aloll_cli.metrics.words import by_script, letter_shares
        from aloll_cli.training.evaluators import GeneratedReward

        responder = open_responder(job, examples, "validation", tokenizer, self.generation, self.scored_by)
        logged = (
            batch.column("response").to_pylist() for batch in open_blocks(responder.examples.directory, ["response"]).batches()
        )
        select = self.select if self.select.given else None
        reference = self._reference(job, start, model) if self.select.needs_kl else None
        words, pad = by_script(letter_shares(logged)), int(tokenizer.pad_token_id)
        return GeneratedReward(responder, self.prompts, words, select, reference, pad)

    def _reference(self, job: Job, start: PolicySource, model: PreTrainedModel) -> ReferenceOf:
        """π_ref for the KL: the initial weights of an adapter, or a second model that is in memory during evaluations only."""
        from aloll_cli.models.logprobs import ResponseLogps
        from aloll_cli.training.rollouts import InitialWeights

        if has_adapter(model):
            return InitialWeights(model)

        @contextmanager
        def loaded(policy: ResponseLogps) -> Iterator[ResponseLogps]:
            # in the policy's numbers: all weights are trained, so both have them in fp32
            yield ResponseLogps(start.load(job, in_full=True), start.model.head is Head.chunked)

        return loaded
