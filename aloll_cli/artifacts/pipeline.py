"""The pipeline: which artifacts a configuration consists of, and which are built from which.

    data ── tokenizer ── examples ─┬─ reference ─┬─ samples ── their rewards ── values ─┐
                                   └─ rewards    └─ reference log-probs ────────────────┴─ policy ── generations ── metrics

Nothing is built here: artifacts are recipes, and the store builds those that are missing.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from aloll_cli.artifacts.data import Data
from aloll_cli.artifacts.examples import Examples
from aloll_cli.artifacts.generation_logps import GenerationLogps
from aloll_cli.artifacts.generations import Generations
from aloll_cli.artifacts.likelihoods import Likelihoods
from aloll_cli.artifacts.logged_data import EveryResponse, LoggedResponses, RankedGroups
from aloll_cli.artifacts.metrics import Metrics, Side
from aloll_cli.artifacts.mismatched_logps import MismatchedLogps
from aloll_cli.artifacts.mixed_rewards import scored_by
from aloll_cli.artifacts.policy import TrainedPolicy, TrainedReference, TrainingRecipe
from aloll_cli.artifacts.policy_source import LoadedPolicy, PolicySource
from aloll_cli.artifacts.reference_logps import DrawnLogps, ReferenceLogps
from aloll_cli.artifacts.response_weights import ResponseWeights
from aloll_cli.artifacts.rewards import Rewards, ScoredBy
from aloll_cli.artifacts.rollout_data import OnlineResponses
from aloll_cli.artifacts.rounds import Pool, RoundPolicy, own_responses
from aloll_cli.artifacts.selectors import CheckpointSelector, SelectByLikelihood, SelectByReward
from aloll_cli.artifacts.tokenizer import Tokenizer
from aloll_cli.artifacts.training_data import LoggedData, TrainingData
from aloll_cli.artifacts.values import ValuesArtifact
from aloll_cli.errors import UserError
from aloll_cli.models.base import Numbers
from aloll_cli.models.pretrained import saved
from aloll_cli.schema import name_of
from aloll_cli.settings.reference import Trained
from aloll_cli.settings.root import Settings
from aloll_cli.tasks.base import SPLITS
from aloll_cli.training.sampling import All
from aloll_cli.variants.base import Groupwise, Online, Pointwise, Regression, Signal
from aloll_cli.variants.nll import Nll


class Pipeline:
    """The artifacts of one configuration."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.number = 1  # of the round
        self.data = Data(settings.task)
        self.tokenizer = Tokenizer(settings.model, self.data)
        self.examples: Examples = Examples(settings.task, self.data, self.tokenizer)
        self.scored_by = scored_by(settings.reward, self.data)

    @cached_property
    def reference(self) -> PolicySource:
        """π_ref: the model as loaded, or fine-tuned with NLL and selected by validation NLL."""
        s = self.settings
        if not isinstance(s.reference, Trained):
            return LoadedPolicy(s.model, self.tokenizer)
        r = s.reference
        training = TrainingRecipe(
            variant=Nll(), optimizer=r.optimizer, seed=r.seed, updates=r.updates, epochs=r.epochs,
            batch_size=r.batch_size, eval_every=r.eval_every, select_best=True,
            adapter=None if s.model.from_scratch else s.adapter,
        )  # fmt: skip
        start = LoadedPolicy(s.model, self.tokenizer, r.seed)
        data = LoggedResponses(self.weights(Signal.none, "train"), All())
        return TrainedReference("reference", "train-reference", start, data, training, SelectByLikelihood())

    def rewards(self, split: str = "train") -> Rewards:
        """Rewards of the logged responses of a split."""
        return self.scored_by.rewards(self.examples, split)

    @cached_property
    def samples(self) -> Generations | None:
        """Samples of π_ref that V(x) is estimated from, or None if the method needs none."""
        values = self.settings.baseline
        if values.sampled_on is None:
            return None
        generation = self.settings.generation
        return Generations(self.reference, self.examples, values.sampled_on, values.sampling(generation), generation.servers)

    @property
    def numbers(self) -> Numbers:
        """The numbers that the policy is trained in."""
        return Numbers(self.settings.model.dtype, self.settings.adapter is None, self.settings.attn)

    @cached_property
    def sample_rewards(self) -> Rewards | None:
        """Rewards of these samples."""
        return self.scored_by.rewards(self.samples, "responses") if self.samples else None

    @cached_property
    def values(self) -> ValuesArtifact:
        """V(x)."""
        s = self.settings
        by_split = s.baseline.reads_each_split and not s.reward.scores_text
        others = {split: self.rewards(split) for split in SPLITS[1:]} if by_split else {}
        return ValuesArtifact(
            s.baseline, self.reference, self.examples, self.rewards(), self.sample_rewards, self.numbers, others
        )

    @cached_property
    def every_reference_logps(self) -> ReferenceLogps:
        """ln π_ref of every token of all training responses, for runs that draw most of them."""
        return ReferenceLogps(self.reference, self.examples, self.numbers)

    @property
    def reference_logps(self) -> DrawnLogps | None:
        """ln π_ref of every token of the responses that training draws, or None if the variant needs none."""
        data = self.training_data
        return data.reference_logps if isinstance(data, LoggedData) else None

    def weights(self, signal: Signal, split: str) -> ResponseWeights:
        """1, R or A⁺ of a split's logged responses."""
        rewards = None if signal is Signal.none else self.rewards(split)
        return ResponseWeights(signal, self.examples, split, rewards, self.values if signal is Signal.advantage else None)

    @cached_property
    def selector(self) -> CheckpointSelector:
        """What the best checkpoint of a run is selected by."""
        s = self.settings
        if s.reward.scores_text:
            return SelectByReward(self.scored_by, s.generation, s.eval_prompts, s.select)
        return SelectByLikelihood(self.weights(Signal.advantage, "validation"))

    @cached_property
    def policy(self) -> TrainedPolicy:
        """The policy that ``aloll train`` builds: that of the last round."""
        line: Pipeline = self
        for _ in range(1, self.settings.rounds):
            line = NextRound(line)
        return line.trained

    @cached_property
    def trained(self) -> TrainedPolicy:
        """The policy of this round."""
        return TrainedPolicy("policy", "train", self.reference, self.training_data, self.training, self.selector)

    @property
    def training(self) -> TrainingRecipe:
        """The training options of this policy."""
        s = self.settings
        return TrainingRecipe(
            variant=s.variant, optimizer=s.optimizer, adapter=s.adapter, seed=s.seed, updates=s.updates,
            epochs=s.epochs, batch_size=s.batch_size, eval_every=s.eval_every, select_best=s.select.keeps_best,
            reduction=s.reduction, early_stop=s.early_stop,
        )  # fmt: skip

    @cached_property
    def training_data(self) -> TrainingData:
        """The training data that the variant needs."""
        s = self.settings
        if isinstance(s.variant, Online):
            values = self.values if s.variant.needs_values else None
            return OnlineResponses(self.examples, s.variant, self.scored_by, values, self.reference)
        data = self.logged_data
        if s.variant.needs_behaviour:
            data.reference_logps = DrawnLogps(self.every_reference_logps, data, self.training.draws)
        if isinstance(s.variant, Regression) and s.variant.needs_mismatched:
            data.mismatched_logps = MismatchedLogps(self.every_reference_logps, data, self.training.draws)
        return data

    @property
    def logged_data(self) -> LoggedData:
        """The logged responses that the variant learns from, in the units in which it takes them."""
        s = self.settings
        if isinstance(s.variant, Groupwise):
            return RankedGroups(self.examples, s.variant, self.rewards())
        if isinstance(s.variant, Regression):
            values = self.values if s.variant.needs_values else None
            samples = self.sample_rewards if s.variant.needs_samples else None
            return EveryResponse(self.examples, s.variant, self.rewards(), values, samples)
        assert isinstance(s.variant, Pointwise)
        weights = replace(self.weights(s.variant.signal, "train"), clamp=s.clamp)
        return LoggedResponses(weights, s.sampling, s.weight_loss)

    @cached_property
    def about(self) -> dict[str, Any]:
        """The description of an evaluation, as in metrics.json and model cards."""
        s, test = self.settings, self.test_scored_by
        return {
            "task": name_of(s.task), "variant": name_of(s.variant), "seed": s.seed, "split": s.split.name,
            "reward": s.reward.label, "test_reward": test.reward.label if test else None,
        }  # fmt: skip

    @cached_property
    def metrics(self) -> Metrics:
        """The evaluation of the trained policy, or of any saved model (``policy=FOLDER``)."""
        s, about = self.settings, self.about
        policy: PolicySource = self.policy
        examples = self.examples
        if s.policy is not None:
            policy, examples = self.saved_policy(s.policy)
            about = about | {"variant": policy.name, "seed": None}
        weights = None if s.reward.scores_text else self.weights(Signal.advantage, s.split.name)
        sides = self.side(policy, examples), self.side(self.reference, self.examples)
        return Metrics(about, self.data, *sides, weights, s.references, s.words, s.resamples)

    def side(self, policy: PolicySource, examples: Examples) -> Side:
        """The responses of a policy, with rewards and log-probs."""
        s = self.settings
        generations = Generations(policy, examples, s.split.name, s.generation, s.generation.servers)
        by_role = {"reward": self.scored_by if s.reward.scores_text else None, "test_reward": self.test_scored_by}
        rewards = {role: by.rewards(generations, "responses") for role, by in by_role.items() if by}
        likelihoods = Likelihoods(policy, examples, s.split.name)
        under_itself = GenerationLogps(policy, examples.tokenizer, generations)
        under_reference = GenerationLogps(self.reference, self.tokenizer, generations)
        return Side(generations, rewards, likelihoods, under_itself, under_reference)

    @cached_property
    def test_scored_by(self) -> ScoredBy | None:
        """The second reward, which is not used in training: ``test_reward``, or the held-out counterpart of the reward."""
        reward = self.settings.test_reward or self.settings.reward.held_out()
        return scored_by(reward, self.data) if reward and reward.scores_text else None

    def tried(self, policy: str | None) -> tuple[PolicySource, Examples]:
        """The policy of this configuration (None), its ``reference``, or a saved model, with examples in its own tokens."""
        if policy is None:
            return self.policy, self.examples
        return (self.reference, self.examples) if policy == "reference" else self.saved_policy(policy)

    def saved_policy(self, folder: str) -> tuple[PolicySource, Examples]:
        """A model from any saved folder, with examples that are tokenized by its own tokenizer."""
        if not Path(folder).expanduser().is_dir():
            raise UserError(f"policy={folder}: there is no such folder.", "policy=FOLDER with a saved model: outputs/…/policy")
        model = saved(folder, self.settings.model)
        tokenizer = Tokenizer(model, self.data)
        return LoadedPolicy(model, tokenizer), Examples(self.settings.task, self.data, tokenizer)


class NextRound(Pipeline):
    """A later round: the policy of the one before is π_ref, and its responses to the training prompts are learned from, too."""

    def __init__(self, before: Pipeline) -> None:
        """Begin where a round ends."""
        super().__init__(before.settings)
        self.number = before.number + 1
        self._start = RoundPolicy(before.trained)
        so_far = before.examples.samples if isinstance(before.examples, Pool) else []
        new = own_responses(self._start, self.examples, self.settings, before.number)
        self.examples = Pool(self.examples, [*so_far, new])

    @cached_property
    def reference(self) -> PolicySource:
        return self._start

    @cached_property
    def trained(self) -> TrainedPolicy:
        found = super().trained
        found.name += f"-round-{self.number}"
        return found
