"""Logged responses as training data: single ones, or groups of them; and the artifacts that each needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aloll_cli.artifacts.doubts import doubt_samples, doubt_values
from aloll_cli.artifacts.examples import Examples
from aloll_cli.artifacts.response_weights import ResponseWeights, check_varies
from aloll_cli.artifacts.rewards import Rewards, load_rewards
from aloll_cli.artifacts.training_data import Loaded, LoggedData
from aloll_cli.errors import UserError
from aloll_cli.schema import identity, name_of
from aloll_cli.store.store import Artifact, Job, Store
from aloll_cli.store.tables import read_numbers
from aloll_cli.text.examples import ExampleTable
from aloll_cli.training.sampling import All, Draws, Sampling
from aloll_cli.values.joint import Joint
from aloll_cli.values.monte_carlo import MonteCarlo
from aloll_cli.variants.base import Groupwise, Logged, Regression, Signal

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from aloll_cli.arrays import BoolArray, FloatArray, IntArray
    from aloll_cli.artifacts.as_seen import Pairs
    from aloll_cli.artifacts.values import ValuesArtifact
    from aloll_cli.training.joint_values import JointValues


STATES = 1024  # prompts whose states are in memory at a time
CLOSE = 0.05  # relative error of a temperature that is typed with some digits
MAX_GROUP = 256  # responses per prompt, for methods that compare them with each other


class LoggedResponses(LoggedData):
    """Logged responses, sampled by weight."""

    def __init__(self, weights: ResponseWeights, sampling: Sampling, weight_loss: bool = True) -> None:
        """Without ``weight_loss`` the weights only affect sampling, and all responses of non-zero weight have loss weight 1."""
        super().__init__(weights.examples)
        self.weights, self.sampling, self.weight_loss = weights, sampling, weight_loss

    def signals(self) -> dict[str, Artifact]:
        return self.weights.inputs()

    def drawing(self) -> dict[str, Any]:
        drawn = {"unit": "response", "sampling": identity(self.sampling), "clamp": self.weights.clamp}
        # an epoch is over all that can be drawn, which once left out responses of weight 0 here
        every = isinstance(self.sampling, All) and self.weights.signal is not Signal.none
        return drawn | ({"epoch": "all"} if every else {})

    def identity(self) -> dict[str, Any]:
        return self.drawing() | {"weight_loss": self.weight_loss}

    def check_input(self, needed: Artifact, store: Store) -> None:
        rewards = self.weights.rewards
        if rewards is not None and needed.fingerprint == rewards.fingerprint:
            self.weights.check_rewards(load_rewards(store.path(rewards)))

    def warning(self, loaded: Loaded) -> str | None:
        return self.weights.check_rewards(loaded.rewards) if self.weights.rewards is not None else None

    def load(self, job: Job) -> Loaded:
        examples = self._train(job)
        rewards, weights = self.weights.load(job)
        kept = weights != 0  # weights are negative only if clamp=false
        which = "positive weight" if self.weights.clamp else "non-zero advantage"
        if not kept.any():
            raise UserError(f"no response has a {which}, so there is no training data.", self.weights.signal.remedy)
        told = [f"{which}: {kept.sum():,} of {len(examples):,} responses ({kept.mean():.1%})"]
        if self.examples.task.noise:
            told.append(f"noise: {noise_shares(examples.noise, weights)}")
        frequencies = self.sampling.frequencies(weights)
        return Loaded(
            examples=examples,
            weights=weights if self.weight_loss else kept.astype(weights.dtype),
            rewards=rewards,
            frequencies=frequencies,
            kept_units=int((frequencies > 0).sum()),
            units=None,
            told=tuple(told),
        )


class EveryResponse(LoggedData):
    """All logged responses, sampled equally often, with the targets of a regression."""

    def __init__(
        self,
        examples: Examples,
        variant: Regression,
        rewards: Rewards,
        values: ValuesArtifact | None,
        samples: Rewards | None,
    ) -> None:
        """``samples`` are rewards of the samples of π_ref for each training prompt."""
        super().__init__(examples)
        self.variant, self.rewards, self.values, self.samples = variant, rewards, values, samples

    def signals(self) -> dict[str, Artifact]:
        named = {"values": self.values, "samples": self.samples}
        return {"rewards": self.rewards} | {role: artifact for role, artifact in named.items() if artifact}

    def drawing(self) -> dict[str, Any]:
        return {"unit": "response", "sampling": "all"}

    def check_input(self, needed: Artifact, store: Store) -> None:
        if needed.fingerprint == self.rewards.fingerprint:
            rewards = load_rewards(store.path(self.rewards))
            check_varies(rewards, "train")
            self._check_temperature(rewards)

    def _check_temperature(self, rewards: FloatArray) -> None:
        """Raises UserError where V(x) would be that of another temperature than the method's own."""
        values = self.values.values if self.values else None
        if not isinstance(values, MonteCarlo) or not values.is_soft:
            return
        needed = self.variant.soft_temperature(rewards)
        if needed is not None and abs(values.beta - needed) > CLOSE * needed:
            name = f"variant={name_of(self.variant)}"
            raise UserError(
                f"values.beta={values.beta:g}: V(x) of {name} with these options and rewards has the temperature {needed:.3g}.",
                f"values.beta={needed:.3g}, or values=joint, which learns this V(x)",
            )

    def load(self, job: Job) -> Loaded:
        import numpy as np

        from aloll_cli.artifacts.values import load_values
        from aloll_cli.rewards.variation import varies
        from aloll_cli.training.contracts import checked_targets

        examples, rewards = self._train(job), load_rewards(job.path(self.rewards))
        prompts = examples.groups[0]
        values = load_values(job.path(self.values), "train") if self.values else None
        samples = load_rewards(job.path(self.samples)).reshape(prompts.max() + 1, -1)[prompts] if self.samples else None
        logged = Logged(rewards, values, samples)
        targets = checked_targets(self.variant, logged)
        doubts = (
            self.variant.doubt(logged),
            doubt_values(self.variant, self.values),
            doubt_samples(self.variant, self.values, self.samples),
        )
        for warning in filter(None, doubts):
            job.log.warn(warning)
        if not varies(targets):
            what = f"all responses have the same target, {targets[0]:g}, so there is nothing to learn."
            raise UserError(what, "Choose another reward or values, or supervised fine-tuning: variant=nll")
        told = [f"targets of {len(examples):,} responses: {percentiles(targets)}"]
        if (aims := self.variant.optimal_log_ratios(targets)) is not None:
            told.append(f"log-ratios that the targets aim at: {percentiles(aims)} nats")
        if self.examples.task.noise:
            told.append(f"noise: {examples.noise.mean():.1%} of all responses")
        return Loaded(
            examples=examples,
            weights=targets,
            rewards=rewards,
            frequencies=np.ones(len(examples)),
            kept_units=len(examples),
            units=None,
            told=tuple(told),
        )

    def joint_values(
        self, job: Job, loaded: Loaded, draws: Draws, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel
    ) -> JointValues | None:
        """Learned from the states of the prompts that are drawn, which the initial policy computes once."""
        if self.values is None or not isinstance(self.values.values, Joint):
            return None
        import numpy as np
        import torch

        from aloll_cli.models.value_head import pooled, prompt_states
        from aloll_cli.training.joint_values import JointValues

        prompts, first = loaded.examples.groups
        drawn, place = np.unique(prompts[loaded.drawn(draws)]), np.zeros(len(first), dtype=np.int64)
        place[drawn] = np.arange(len(drawn))
        pad, features = int(tokenizer.pad_token_id), []
        for chosen in np.array_split(drawn, -(-len(drawn) // STATES)):
            ids = list(map(np.array, loaded.examples.at(first[chosen], ["prompt_ids"]).column("prompt_ids").to_pylist()))
            with self.values.numbers.computing(job.world.device):
                states = prompt_states(model.eval(), ids, pad, job.runtime.scoring_batch_tokens)
            features += [pooled(state).flatten() for state in states]
        width = features[0].shape[0]
        job.log.say(f"  V(x) is learned together with the policy, from {width:,} numbers of each of {len(drawn):,} prompts")
        if width >= len(drawn):
            job.log.warn(
                f"V(x) is learned from {width:,} numbers of each prompt and there are {len(drawn):,} prompts, so that it can fit "
                "the rewards of each by itself, and advantages shrink with every pass: values=soft, or more prompts"
            )
        return JointValues(self.variant, torch.stack(features), place[prompts], loaded.weights, self.values.values.lr)


class RankedGroups(LoggedData):
    """Groups of all logged responses to a prompt, ranked by reward, for prompts with two that differ in reward and in tokens."""

    shares_prompts = True

    def __init__(self, examples: Examples, variant: Groupwise, rewards: Rewards) -> None:
        super().__init__(examples)
        self.variant, self.rewards = variant, rewards

    def signals(self) -> dict[str, Artifact]:
        return {"rewards": self.rewards}

    def drawing(self) -> dict[str, Any]:
        return {"unit": "group"}

    def check_input(self, needed: Artifact, store: Store) -> None:
        if needed.fingerprint == self.rewards.fingerprint:
            self._ranked(store)

    def load(self, job: Job) -> Loaded:
        import numpy as np

        (members, offsets, used), pairs = self._ranked(job.store)
        examples, rewards = self._train(job), load_rewards(job.path(self.rewards))
        best, worst = members[offsets[:-1][used]], members[offsets[1:][used] - 1]
        difference = float(np.median(rewards[best] - rewards[worst]))
        told = [f"prompts with responses to compare: {used.sum():,} of {len(used):,} ({used.mean():.1%})", pairs.told]
        told.append(f"best and worst response to a prompt: rewards differ by {difference:.3g} (median)")
        if (margin := self.variant.optimal_margin(difference)) is not None:
            told[-1] += f", which aims at log-ratios {margin:.3g} nats apart"
        return Loaded(
            examples=examples,
            weights=np.ones(len(examples)),
            rewards=rewards,
            frequencies=used.astype(np.float64),  # all equally often
            kept_units=int(used.sum()),
            units=(members, offsets),
            told=tuple(told),
        )

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
            cut = read_numbers(folder, "truncated")
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


def percentiles(values: FloatArray) -> str:
    """Three percentiles of (N,) values, as text."""
    import numpy as np

    low, middle, high = np.percentile(values, [5, 50, 95])
    return f"5th/50th/95th percentile {low:.3f}/{middle:.3f}/{high:.3f}"


def noise_shares(noise: BoolArray, weights: FloatArray) -> str:
    """The share of noise in all responses, in those of weight 0, and in the others, as text."""
    parts = {"all responses": noise, "the unused ones": noise[weights == 0], "the used ones": noise[weights != 0]}
    return ", ".join(f"{part.mean():.1%} of {what}" for what, part in parts.items() if len(part))
