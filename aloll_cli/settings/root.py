"""All options of the command line, as one tree of dataclasses."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from aloll_cli.judging.base import Judge
from aloll_cli.judging.rubric import Rubric
from aloll_cli.models.adapters import Adapter
from aloll_cli.models.base import Model
from aloll_cli.models.decoding import Generation
from aloll_cli.models.optimizers import Adamw
from aloll_cli.rewards.base import Reward
from aloll_cli.runtime.options import Runtime
from aloll_cli.schema import COUNT, OPERATIONAL, SEED, numbers
from aloll_cli.settings.choices import Format, References, Sort, Split, Words
from aloll_cli.settings.reference import EPOCHS, Reference
from aloll_cli.tasks.base import Task
from aloll_cli.training.sampling import Sampling
from aloll_cli.training.selection import Select
from aloll_cli.values.base import Values
from aloll_cli.values.group import Group
from aloll_cli.variants.base import Groupwise, Reduction, Variant


@dataclass(kw_only=True)
class Settings(Runtime):
    """The root of the configuration."""

    task: Task
    model: Model
    adapter: Adapter | None
    reference: Reference
    reward: Reward
    test_reward: Reward | None
    values: Values
    variant: Variant
    sampling: Sampling
    weight_loss: bool
    clamp: bool
    reduction: Reduction
    optimizer: Adamw
    generation: Generation
    seed: int = field(metadata=SEED)
    updates: int | None = field(metadata=COUNT)
    epochs: float | None = field(metadata=EPOCHS)
    batch_size: int = field(metadata=COUNT)
    rounds: int = field(metadata=numbers("[1, 100]", 2))
    round_prompts: int | None = field(metadata=COUNT)
    eval_every: int = field(metadata=COUNT)
    eval_prompts: int = field(metadata=COUNT)
    early_stop: int | None = field(metadata=COUNT)
    select: Select
    split: Split
    references: References
    words: Words
    resamples: int = field(metadata=COUNT)
    policy: str | None
    judge: Judge = field(metadata=OPERATIONAL)  # of the recipes of judgements alone
    rubric: Rubric = field(metadata=OPERATIONAL)
    votes: list[str] = field(metadata=OPERATIONAL)
    prompt: Any = field(metadata=OPERATIONAL)  # a text, or a list of texts
    prompts: str | None = field(metadata=OPERATIONAL)
    first: int | None = field(metadata=OPERATIONAL | COUNT)
    samples: int | None = field(metadata=COUNT)
    max_tokens: int | None = field(metadata=OPERATIONAL | COUNT)
    score: bool = field(metadata=OPERATIONAL)
    side_by_side: bool = field(metadata=OPERATIONAL)
    runs: list[str] = field(metadata=OPERATIONAL)
    against: str | None = field(metadata=OPERATIONAL)
    best_of: Any = field(metadata=OPERATIONAL)  # the name of an option, or a list of names
    to: str | None = field(metadata=OPERATIONAL)
    push: str | None = field(metadata=OPERATIONAL)
    figures: str | None = field(metadata=OPERATIONAL)
    merge: bool = field(metadata=OPERATIONAL)
    ask: bool = field(metadata=OPERATIONAL)
    repair: bool = field(metadata=OPERATIONAL)
    estimate: bool = field(metadata=OPERATIONAL)
    format: Format = field(metadata=OPERATIONAL)
    where: list[str] = field(metadata=OPERATIONAL)
    sort: Sort = field(metadata=OPERATIONAL)
    run: str | None = field(metadata=OPERATIONAL)  # its options were read before this configuration was composed
    output_dir: str = field(metadata=OPERATIONAL)
    plugins: list[str] = field(metadata=OPERATIONAL)  # the code of their entries is part of every recipe that uses it

    @property
    def baseline(self) -> Values:
        """V(x) as this configuration can estimate it.

        Methods that compare the responses to a prompt do not train on V(x). Under a reward with stored ratings only, V(x) still
        weights the likelihood by which their checkpoints are selected; where ``values`` would have to score generated
        responses, the mean reward of the prompt's other responses takes its place there.
        """
        if isinstance(self.variant, Groupwise) and self.values.sampled_on and not self.reward.scores_text:
            return Group()
        return self.values

    @property
    def needs_values(self) -> bool:
        """Whether training or checkpoint selection reads V(x)."""
        return self.variant.needs_values or not self.reward.scores_text

    @property
    def options_chosen(self) -> list[str]:
        """The options in ``best_of``, whose values are selected by validation score before runs are compared."""
        named = [] if self.best_of is None else self.best_of if isinstance(self.best_of, list) else [self.best_of]
        return [str(option) for option in named]

    @property
    def runtime(self) -> Runtime:
        """The operational options alone."""
        return Runtime(**{f.name: getattr(self, f.name) for f in fields(Runtime)})
