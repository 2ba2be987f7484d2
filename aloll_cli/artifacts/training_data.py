"""Training data of policies: logged responses, groups of them, or rollouts; and the artifacts that each needs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aloll_cli.artifacts.examples import Examples
from aloll_cli.artifacts.policy_source import PolicySource
from aloll_cli.artifacts.rewards import Rewards, ScoredBy, load_rewards
from aloll_cli.errors import UserError
from aloll_cli.models.adapters import has_adapter
from aloll_cli.models.base import Head
from aloll_cli.models.decoding import Generation, Sample
from aloll_cli.schema import identity
from aloll_cli.store.store import Artifact, Job
from aloll_cli.text.examples import ExampleTable
from aloll_cli.training.sampling import Sampling
from aloll_cli.variants.base import Online, Signal

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from aloll_cli.arrays import BoolArray, FloatArray
    from aloll_cli.artifacts.reference_logps import LogpTable, ReferenceLogps
    from aloll_cli.artifacts.values import ValuesArtifact
    from aloll_cli.training.responding import Responder
    from aloll_cli.training.rollouts import ReferenceOf
    from aloll_cli.training.sources import Source


MAX_GROUP = 256  # responses per prompt, for methods that compare them with each other


@dataclass(frozen=True)
class BatchOptions:
    """Units per step, and the seed of their sampling."""

    batch_size: int
    seed: int


@dataclass
class ResponseWeights:
    """The weights of a split's responses: 1, R, A⁺ = max(R − V, 0), or A without clamping."""

    signal: Signal
    examples: Examples
    split: str
    rewards: Rewards | None
    values: ValuesArtifact | None
    clamp: bool = True

    def inputs(self) -> dict[str, Artifact]:
        found: dict[str, Artifact | None] = {"rewards": self.rewards, "values": self.values}
        return {role: artifact for role, artifact in found.items() if artifact}

    def load(self, job: Job) -> tuple[FloatArray, FloatArray]:
        """(N,) rewards and (N,) weights."""
        import numpy as np

        from aloll_cli.artifacts.values import load_values

        if self.rewards is None:
            ones = np.ones(len(ExampleTable(job.path(self.examples) / self.split)))
            return np.zeros_like(ones), ones
        rewards = load_rewards(job.path(self.rewards))
        if self.values is None:
            return rewards, rewards
        advantages = rewards - load_values(job.path(self.values), self.split)
        return rewards, np.maximum(advantages, 0) if self.clamp else advantages


class TrainingData(ABC):
    """The training data of a policy."""

    def __init__(self, examples: Examples) -> None:
        self.examples = examples

    @abstractmethod
    def inputs(self) -> dict[str, Artifact]:
        """The artifacts it needs besides the examples."""

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """The options that affect the units, besides the inputs."""

    @abstractmethod
    def open(self, job: Job, batches: BatchOptions, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> Source:
        """Load the data, and log how much of it is used.

        Args:
            job: the build that it is loaded for.
            batches: how units are sampled.
            tokenizer: of the policy.
            model: the initial policy, which is π_ref.

        Raises:
            UserError: no data can be used.
        """

    def _train(self, job: Job) -> ExampleTable:
        return ExampleTable(job.path(self.examples) / "train")


class LoggedResponses(TrainingData):
    """Logged responses, sampled by weight."""

    def __init__(
        self, weights: ResponseWeights, sampling: Sampling, reference_logps: ReferenceLogps | None, weight_loss: bool = True
    ) -> None:
        """Without ``weight_loss`` the weights only affect sampling, and all responses of non-zero weight have loss weight 1."""
        super().__init__(weights.examples)
        self.weights, self.sampling, self.reference_logps, self.weight_loss = weights, sampling, reference_logps, weight_loss

    def inputs(self) -> dict[str, Artifact]:
        return self.weights.inputs() | _named("reference_logps", self.reference_logps)

    def identity(self) -> dict[str, Any]:
        weighting = {"clamp": self.weights.clamp, "weight_loss": self.weight_loss}
        return {"unit": "response", "sampling": identity(self.sampling)} | weighting

    def open(self, job: Job, batches: BatchOptions, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> Source:
        from aloll_cli.training.sampling import BatchSampler
        from aloll_cli.training.sources import LoggedUnits, Rows, one_by_one

        examples = self._train(job)
        rewards, weights = self.weights.load(job)
        frequencies = self.sampling.frequencies(weights)
        kept = weights != 0  # weights are negative only if clamp=false
        which = "positive weight" if self.weights.clamp else "non-zero advantage"
        if not kept.any():
            raise UserError(f"no response has a {which}, so there is no training data.", self.weights.signal.remedy)
        job.log.say(f"  {which}: {kept.sum():,} of {len(examples):,} responses ({kept.mean():.1%})")
        if self.examples.task.noise:
            job.log.say(f"  noise: {noise_shares(examples.noise, weights)}")
        counted = weights if self.weight_loss else kept.astype(weights.dtype)
        rows = Rows(examples, counted, rewards, _table(job, self.reference_logps))
        sampler = BatchSampler(frequencies, batches.batch_size, batches.seed)
        return LoggedUnits(rows, int(kept.sum()), float(kept.mean()), *one_by_one(len(examples)), sampler)


class RankedGroups(TrainingData):
    """Groups of all logged responses to a prompt, ranked by reward, for prompts with responses of different rewards."""

    def __init__(self, examples: Examples, rewards: Rewards, reference_logps: ReferenceLogps | None) -> None:
        super().__init__(examples)
        self.rewards, self.reference_logps = rewards, reference_logps

    def inputs(self) -> dict[str, Artifact]:
        return {"rewards": self.rewards} | _named("reference_logps", self.reference_logps)

    def identity(self) -> dict[str, Any]:
        return {"unit": "group"}

    def open(self, job: Job, batches: BatchOptions, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> Source:
        import numpy as np

        from aloll_cli.training.sampling import BatchSampler
        from aloll_cli.training.sources import LoggedUnits, Rows, ranked

        examples, rewards = self._train(job), load_rewards(job.path(self.rewards))
        members, offsets, used = ranked(examples.groups[0], rewards.astype(np.float32))
        if not used.any():
            raise UserError(
                "no prompt has two responses with different rewards, so none can be compared.",
                "Set task.responses=all, or choose a method that needs no comparisons: variant=seq",
            )
        largest = int(np.diff(offsets)[used].max())
        if largest > MAX_GROUP:
            raise UserError(
                f"a prompt has {largest} responses; methods that compare the responses to a prompt take {MAX_GROUP} at most.",
                "Choose a method that needs no comparisons: variant=seq",
            )
        job.log.say(f"  prompts with responses of different rewards: {used.sum():,} of {len(used):,} ({used.mean():.1%})")
        sampler = BatchSampler(used.astype(np.float64), batches.batch_size, batches.seed)  # all equally often
        rows = Rows(examples, np.ones(len(examples)), rewards, _table(job, self.reference_logps))
        return LoggedUnits(rows, int(used.sum()), float(used.mean()), members, offsets, sampler)


class OnlineResponses(TrainingData):
    """Responses that the policy generates during training for prompts of the train split."""

    def __init__(
        self, examples: Examples, variant: Online, scored_by: ScoredBy, values: ValuesArtifact, reference: PolicySource
    ) -> None:
        super().__init__(examples)
        self.variant, self.scored_by, self.values, self.reference = variant, scored_by, values, reference

    def inputs(self) -> dict[str, Artifact]:
        return self.scored_by.inputs() | {"values": self.values}

    def identity(self) -> dict[str, Any]:
        return {"unit": "rollout"} | self.scored_by.identity()

    def open(self, job: Job, batches: BatchOptions, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> Source:
        import numpy as np

        from aloll_cli.artifacts.values import load_values
        from aloll_cli.training.rollouts import Rollouts

        values, prompts = load_values(job.path(self.values), "train"), self._train(job).groups[0]
        by_prompt = np.bincount(prompts, values) / np.bincount(prompts)  # values=group differ within a prompt
        plain = Sample(samples=1, seed=batches.seed, top_p=1.0, temperature=1.0, repetition_penalty=1.0)
        return Rollouts(
            responder=open_responder(job, self.examples, "train", tokenizer, plain, self.scored_by),
            variant=self.variant,
            values=by_prompt,
            reference=self._reference(job, model),
            batch_size=batches.batch_size,
            pad=int(tokenizer.pad_token_id),
            seed=batches.seed,
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
        tokenizer=tokenizer,
        generation=generation,
        max_tokens=examples.task.max_response_tokens,
        stop=examples.task.stop,
        batch_tokens=job.runtime.scoring_batch_tokens,
        reward=scored_by.reward,
        load_scorer=lambda: scored_by.scorer(job),
    )


def noise_shares(noise: BoolArray, weights: FloatArray) -> str:
    """The share of noise in all responses, in those of weight 0, and in the others, as text."""
    parts = {"all responses": noise, "the unused ones": noise[weights == 0], "the used ones": noise[weights != 0]}
    return ", ".join(f"{part.mean():.1%} of {what}" for what, part in parts.items() if len(part))


def _named(role: str, artifact: Artifact | None) -> dict[str, Artifact]:
    return {role: artifact} if artifact else {}


def _table(job: Job, reference_logps: ReferenceLogps | None) -> LogpTable | None:
    from aloll_cli.artifacts.reference_logps import LogpTable

    return LogpTable(job.path(reference_logps)) if reference_logps else None
