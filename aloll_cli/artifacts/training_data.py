"""Training data of policies: units of logged responses (logged_data.py) or rollouts (rollout_data.py)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from aloll_cli.artifacts.examples import Examples
from aloll_cli.store.store import Artifact, Job, Store
from aloll_cli.text.examples import ExampleTable
from aloll_cli.training.sampling import Draws

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from aloll_cli.arrays import FloatArray, IntArray
    from aloll_cli.artifacts.mismatched_logps import MismatchedLogps
    from aloll_cli.artifacts.reference_logps import DrawnLogps
    from aloll_cli.training.joint_values import JointValues
    from aloll_cli.training.mismatched import Mismatched
    from aloll_cli.training.sampling import BatchSampler
    from aloll_cli.training.sources import Source


class TrainingData(ABC):
    """The training data of a policy.

    Attributes:
        shares_prompts: whether its units are several responses to one prompt.
    """

    shares_prompts: ClassVar[bool] = False

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
    def open(self, job: Job, draws: Draws, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> Source:
        """Load the data, and log how much of it is used.

        Args:
            job: the build that it is loaded for.
            draws: how units are drawn.
            tokenizer: of the policy.
            model: the initial policy, which is π_ref.

        Raises:
            UserError: no data can be used.
        """

    def _train(self, job: Job) -> ExampleTable:
        return ExampleTable(job.path(self.examples) / "train")


@dataclass(frozen=True)
class Loaded:
    """N logged responses in U units, of which training draws some.

    Attributes:
        examples: the responses.
        weights: (N,) weights or targets of the loss.
        rewards: (N,) R, or zeros if the variant needs none.
        frequencies: (U,) how often a unit is drawn, unnormalized; 0 if never.
        kept_units: the number of units that are used.
        units: members (M,), the rows by unit, and offsets (U + 1,), where each unit begins among them; None: each row is a unit.
        told: lines for the log, on how much of the data is used.
    """

    examples: ExampleTable
    weights: FloatArray
    rewards: FloatArray
    frequencies: FloatArray
    kept_units: int
    units: tuple[IntArray, IntArray] | None
    told: tuple[str, ...]

    def sampler(self, draws: Draws) -> BatchSampler:
        """Samples the units of each step."""
        from aloll_cli.training.sampling import BatchSampler

        return BatchSampler(self.frequencies, draws.batch_size, draws.seed)

    def drawn(self, draws: Draws) -> IntArray:
        """The rows that a run draws, ascending, each once."""
        import numpy as np

        sampler = self.sampler(draws)
        units = np.unique(np.concatenate([sampler.rows(step) for step in range(draws.steps(self.kept_units))]))
        if self.units is None:
            return units
        members, offsets = self.units
        return np.sort(np.concatenate([members[offsets[unit] : offsets[unit + 1]] for unit in units]))


class LoggedData(TrainingData):
    """Logged responses; their log-probs under π_ref are set where the variant needs them."""

    reference_logps: DrawnLogps | None = None
    mismatched_logps: MismatchedLogps | None = None

    @abstractmethod
    def signals(self) -> dict[str, Artifact]:
        """The artifacts that decide what is drawn and learned from it."""

    @abstractmethod
    def drawing(self) -> dict[str, Any]:
        """The options that decide which units are drawn, besides these artifacts."""

    @abstractmethod
    def load(self, job: Job) -> Loaded:
        """The responses and their units. Raises UserError if none can be used."""

    def warning(self, loaded: Loaded) -> str | None:
        """What the user should know about them."""
        return None

    def inputs(self) -> dict[str, Artifact]:
        named = {"reference_logps": self.reference_logps, "mismatched_logps": self.mismatched_logps}
        return self.signals() | {role: artifact for role, artifact in named.items() if artifact}

    def identity(self) -> dict[str, Any]:
        return self.drawing()

    def open(self, job: Job, draws: Draws, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> Source:
        from aloll_cli.artifacts.reference_logps import LogpTable
        from aloll_cli.training.sources import LoggedUnits, Rows

        loaded = self.load(job)
        if warning := self.warning(loaded):
            job.log.warn(warning)
        for line in loaded.told:
            job.log.say(f"  {line}")
        table = LogpTable(job.path(self.reference_logps)) if self.reference_logps else None
        rows = Rows(loaded.examples.tokens(loaded.drawn(draws)), loaded.weights, loaded.rewards, table)
        kept = loaded.kept_units / len(loaded.frequencies)
        mismatched, values = self._mismatched(job, loaded, tokenizer), self.joint_values(job, loaded, draws, tokenizer, model)
        return LoggedUnits(rows, loaded.kept_units, kept, loaded.units, loaded.sampler(draws), mismatched, values)

    def joint_values(
        self, job: Job, loaded: Loaded, draws: Draws, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel
    ) -> JointValues | None:
        """V(x), if it is learned together with the policy."""
        return None

    def _mismatched(self, job: Job, loaded: Loaded, tokenizer: PreTrainedTokenizerBase) -> Mismatched | None:
        """The rows' prompts with responses to other prompts, if the variant needs them."""
        from aloll_cli.artifacts.reference_logps import LogpTable
        from aloll_cli.training.mismatched import Mismatched

        if self.mismatched_logps is None:
            return None
        stored, pad = LogpTable(job.path(self.mismatched_logps)), int(tokenizer.pad_token_id)
        pairs, per_step = self.mismatched_logps.pairs(loaded), self.mismatched_logps.draws.batch_size
        return Mismatched(pairs, stored, per_step, pad, job.runtime.scoring_batch_tokens)
