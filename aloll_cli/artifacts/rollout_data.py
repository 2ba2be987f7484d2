"""Training data of online methods: responses that the policy generates during training; and the artifacts that they need."""

from __future__ import annotations

from contextlib import nullcontext
from functools import cache
from typing import TYPE_CHECKING, Any

from aloll_cli.artifacts.examples import Examples
from aloll_cli.artifacts.policy_source import PolicySource
from aloll_cli.artifacts.rewards import ScoredBy
from aloll_cli.artifacts.training_data import TrainingData
from aloll_cli.models.adapters import has_adapter
from aloll_cli.models.base import Head
from aloll_cli.models.decoding import Generation, Sample
from aloll_cli.store.store import Artifact, Job
from aloll_cli.text.examples import ExampleTable
from aloll_cli.training.sampling import Draws
from aloll_cli.variants.base import Online

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from aloll_cli.artifacts.values import ValuesArtifact
    from aloll_cli.training.responding import Responder
    from aloll_cli.training.rollouts import ReferenceOf
    from aloll_cli.training.sources import Source


class OnlineResponses(TrainingData):
    """Responses that the policy generates during training for prompts of the train split."""

    def __init__(
        self, examples: Examples, variant: Online, scored_by: ScoredBy, values: ValuesArtifact | None, reference: PolicySource
    ) -> None:
        super().__init__(examples)
        self.variant, self.scored_by, self.values, self.reference = variant, scored_by, values, reference

    def inputs(self) -> dict[str, Artifact]:
        return self.scored_by.inputs() | ({"values": self.values} if self.values else {})

    def identity(self) -> dict[str, Any]:
        return {"unit": "rollout", "prefill": "shared"} | self.scored_by.identity()

    def open(self, job: Job, draws: Draws, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> Source:
        import numpy as np

        from aloll_cli.artifacts.values import load_values
        from aloll_cli.training.rollouts import Rollouts

        prompts = self._train(job).groups[0]
        values = load_values(job.path(self.values), "train") if self.values else np.zeros(len(prompts))
        by_prompt = np.bincount(prompts, values) / np.bincount(prompts)  # values=group differ within a prompt
        plain = Sample(samples=1, seed=draws.seed, top_p=1.0, temperature=1.0, repetition_penalty=1.0)
        return Rollouts(
            responder=open_responder(job, self.examples, "train", tokenizer, plain, self.scored_by),
            variant=self.variant,
            values=by_prompt,
            reference=self._reference(job, model),
            batch_size=draws.batch_size,
            pad=int(tokenizer.pad_token_id),
            seed=draws.seed,
        )

    def _reference(self, job: Job, model: PreTrainedModel) -> ReferenceOf:
        from aloll_cli.models.logprobs import ResponseLogps
        from aloll_cli.training.rollouts import InitialWeights

        if has_adapter(model):
            job.log.say("  reference policy: the same model with its initial adapter weights")
            return InitialWeights(model)
        job.log.say("  reference policy: a second model in memory")
        # in the policy's numbers: all weights are trained, so both have them in fp32
        second = nullcontext(ResponseLogps(self.reference.load(job, in_full=True), self.reference.model.head is Head.chunked))
        return lambda policy: second


def open_responder(
    job: Job, examples: Examples, split: str, tokenizer: PreTrainedTokenizerBase, generation: Generation, scored_by: ScoredBy
) -> Responder:
    """Generation and scoring of responses to a split's prompts during training."""
    from aloll_cli.training.responding import Responder

    return Responder(
        examples=ExampleTable(job.path(examples) / split),
        task=examples.task,
        tokenizer=tokenizer,
        generation=generation,
        max_tokens=examples.task.max_response_tokens,
        stop=examples.task.stop,
        batch_tokens=job.runtime.scoring_batch_tokens,
        reward=scored_by.reward,
        load_scorer=lambda: scored_by.scorer(job),
        batching=job.runtime.generation_batching,
        tell=cache(job.log.say),
    )
