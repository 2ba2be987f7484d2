"""Training data of policies from logged responses: single ones, or groups of them; and the artifacts that each needs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aloll_cli.artifacts.examples import Examples
from aloll_cli.artifacts.response_weights import ResponseWeights, check_varies
from aloll_cli.artifacts.rewards import Rewards, load_rewards
from aloll_cli.errors import UserError
from aloll_cli.schema import identity
from aloll_cli.store.store import Artifact, Job, Store
from aloll_cli.store.tables import read_blocks
from aloll_cli.text.examples import ExampleTable
from aloll_cli.training.sampling import Sampling
from aloll_cli.variants.base import Logged, Regression

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from aloll_cli.arrays import BoolArray, FloatArray, IntArray
    from aloll_cli.artifacts.as_seen import Pairs
    from aloll_cli.artifacts.reference_logps import LogpTable, ReferenceLogps
    from aloll_cli.artifacts.values import ValuesArtifact
    from aloll_cli.training.sources import Source


MAX_GROUP = 256  # responses per prompt, for methods that compare them with each other


@dataclass(frozen=True)
class BatchOptions:
    """Units per step, and the seed of their sampling."""

    batch_size: int
    seed: int


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

    def check_input(self, needed: Artifact, store: Store) -> None:  # noqa: B027  rollouts are scored during training
        """Look at an input as soon as it is there. Raises UserError if nothing can be learned from it."""

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

    def check_input(self, needed: Artifact, store: Store) -> None:
        rewards = self.weights.rewards
        if rewards is not None and needed.fingerprint == rewards.fingerprint:
            self.weights.check_rewards(load_rewards(store.path(rewards)))

    def open(self, job: Job, batches: BatchOptions, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> Source:
        from aloll_cli.training.sampling import BatchSampler
        from aloll_cli.training.sources import LoggedUnits, Rows, one_by_one

        examples = self._train(job)
        rewards, weights = self.weights.load(job)
        if self.weights.rewards is not None and (warning := self.weights.check_rewards(rewards)):
            job.log.warn(warning)
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


class EveryResponse(TrainingData):
    """All logged responses, sampled equally often, with the targets of a regression."""

    def __init__(
        self,
        examples: Examples,
        variant: Regression,
        rewards: Rewards,
        values: ValuesArtifact | None,
        samples: Rewards | None,
        reference_logps: ReferenceLogps | None,
    ) -> None:
        """``samples`` are rewards of the samples of π_ref for each training prompt."""
        super().__init__(examples)
        self.variant, self.rewards, self.values, self.samples = variant, rewards, values, samples
        self.reference_logps = reference_logps

    def inputs(self) -> dict[str, Artifact]:
        named = {"values": self.values, "samples": self.samples, "reference_logps": self.reference_logps}
        return {"rewards": self.rewards} | {role: artifact for role, artifact in named.items() if artifact}

    def identity(self) -> dict[str, Any]:
        return {"unit": "response", "sampling": "all"}

    def check_input(self, needed: Artifact, store: Store) -> None:
        if needed.fingerprint == self.rewards.fingerprint:
            check_varies(load_rewards(store.path(self.rewards)), "train")

    def open(self, job: Job, batches: BatchOptions, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> Source:
        import numpy as np

        from aloll_cli.artifacts.values import load_values
        from aloll_cli.rewards.variation import varies
        from aloll_cli.training.contracts import checked_targets
        from aloll_cli.training.sampling import BatchSampler
        from aloll_cli.training.sources import LoggedUnits, Rows, one_by_one

        examples, rewards = self._train(job), load_rewards(job.path(self.rewards))
        prompts = examples.groups[0]
        values = load_values(job.path(self.values), "train") if self.values else None
        samples = load_rewards(job.path(self.samples)).reshape(prompts.max() + 1, -1)[prompts] if self.samples else None
        targets = checked_targets(self.variant, Logged(rewards, values, samples))
        if not varies(targets):
            what = f"all responses have the same target, {targets[0]:g}, so there is nothing to learn."
            raise UserError(what, "Choose another reward or values, or supervised fine-tuning: variant=nll")
        low, middle, high = np.percentile(targets, [5, 50, 95])
        job.log.say(f"  targets of {len(examples):,} responses: 5th/50th/95th percentile {low:.3f}/{middle:.3f}/{high:.3f}")
        if self.examples.task.noise:
            job.log.say(f"  noise: {examples.noise.mean():.1%} of all responses")
        rows = Rows(examples, targets, rewards, _table(job, self.reference_logps))
        sampler = BatchSampler(np.ones(len(examples)), batches.batch_size, batches.seed)
        return LoggedUnits(rows, len(examples), 1.0, *one_by_one(len(examples)), sampler)


class RankedGroups(TrainingData):
    """Groups of all logged responses to a prompt, ranked by reward, for prompts with two that differ in reward and in tokens."""

    def __init__(self, examples: Examples, rewards: Rewards, reference_logps: ReferenceLogps | None) -> None:
        super().__init__(examples)
        self.rewards, self.reference_logps = rewards, reference_logps

    def inputs(self) -> dict[str, Artifact]:
        return {"rewards": self.rewards} | _named("reference_logps", self.reference_logps)

    def identity(self) -> dict[str, Any]:
        return {"unit": "group"}

    def check_input(self, needed: Artifact, store: Store) -> None:
        if needed.fingerprint == self.rewards.fingerprint:
            self._ranked(store)

    def open(self, job: Job, batches: BatchOptions, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> Source:
        import numpy as np

        from aloll_cli.training.sampling import BatchSampler
        from aloll_cli.training.sources import LoggedUnits, Rows

        (members, offsets, used), pairs = self._ranked(job.store)
        job.log.say(f"  prompts with responses to compare: {used.sum():,} of {len(used):,} ({used.mean():.1%})")
        job.log.say(f"  {pairs.told}")
        examples, rewards = self._train(job), load_rewards(job.path(self.rewards))
        sampler = BatchSampler(used.astype(np.float64), batches.batch_size, batches.seed)  # all equally often
        rows = Rows(examples, np.ones(len(examples)), rewards, _table(job, self.reference_logps))
        return LoggedUnits(rows, int(used.sum()), float(used.mean()), members, offsets, sampler)

    def _ranked(self, store: Store) -> tuple[tuple[IntArray, IntArray, BoolArray], Pairs]:
        """The responses ranked by prompt (training/sources.py), and how many pairs they make. Raises UserError without any."""
        import numpy as np

        from aloll_cli.artifacts.as_seen import column_hashes, count_pairs
        from aloll_cli.training.sources import ranked

        folder = store.path(self.examples) / "train"
        groups, texts = ExampleTable(folder).groups[0], column_hashes(folder, "response_ids")
        rewards = load_rewards(store.path(self.rewards)).astype(np.float32)
        found, pairs = ranked(groups, rewards, texts), count_pairs(groups, rewards, texts)
        _, offsets, used = found
        if not used.any():
            cut = read_blocks(folder, ["truncated"]).column("truncated").to_numpy()
            more = "Set task.responses=all, or choose"
            if pairs.same:
                more = (
                    f"Raise task.max_response_tokens={self.examples.task.max_response_tokens}, or choose"
                    if cut.any()
                    else "Choose"
                )
            raise UserError(
                f"no prompt has two responses that can be compared: {pairs.told}.",
                f"{more} a method that needs no comparisons: variant=seq",
            )
        largest = int(np.diff(offsets)[used].max())
        if largest > MAX_GROUP:
            raise UserError(
                f"a prompt has {largest} responses; methods that compare the responses to a prompt take {MAX_GROUP} at most.",
                "Choose a method that needs no comparisons: variant=seq",
            )
        return found, pairs


def noise_shares(noise: BoolArray, weights: FloatArray) -> str:
    """The share of noise in all responses, in those of weight 0, and in the others, as text."""
    parts = {"all responses": noise, "the unused ones": noise[weights == 0], "the used ones": noise[weights != 0]}
    return ", ".join(f"{part.mean():.1%} of {what}" for what, part in parts.items() if len(part))


def _named(role: str, artifact: Artifact | None) -> dict[str, Artifact]:
    return {role: artifact} if artifact else {}


def _table(job: Job, reference_logps: ReferenceLogps | None) -> LogpTable | None:
    from aloll_cli.artifacts.reference_logps import LogpTable

    return LogpTable(job.path(reference_logps)) if reference_logps else None
