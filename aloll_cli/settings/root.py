"""All options of the command line, as one tree of dataclasses."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from aloll_cli.errors import UserError
from aloll_cli.models.adapters import Adapter
from aloll_cli.models.base import Model
from aloll_cli.models.decoding import Generation
from aloll_cli.rewards.base import Reward
from aloll_cli.runtime.options import Runtime
from aloll_cli.schema import COUNT, OPERATIONAL, SEED, name_of
from aloll_cli.settings.checks import check_adapter, check_attention, check_weighting, too_long
from aloll_cli.settings.choices import Format, References, Select, Split
from aloll_cli.settings.reference import EPOCHS, AsLoaded, Reference, Trained, check_length
from aloll_cli.tasks.base import Task
from aloll_cli.training.optimizers import Adamw
from aloll_cli.training.sampling import Sampling
from aloll_cli.values.base import Values
from aloll_cli.variants.base import Online, Reduction, Variant


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
    eval_every: int = field(metadata=COUNT)
    eval_prompts: int = field(metadata=COUNT)
    select: Select
    split: Split
    references: References
    resamples: int = field(metadata=COUNT)
    policy: str | None
    runs: list[str] = field(metadata=OPERATIONAL)
    against: str | None = field(metadata=OPERATIONAL)
    best_of: Any = field(metadata=OPERATIONAL)  # the name of an option, or a list of names
    to: str | None = field(metadata=OPERATIONAL)
    merge: bool = field(metadata=OPERATIONAL)
    ask: bool = field(metadata=OPERATIONAL)
    format: Format = field(metadata=OPERATIONAL)
    output_dir: str = field(metadata=OPERATIONAL)
    plugins: list[str] = field(metadata=OPERATIONAL)  # the code of their entries is part of every recipe that uses it

    def __post_init__(self) -> None:
        check_length(self.updates, self.epochs)
        sizes = {"batch_size": self.batch_size}
        if isinstance(self.reference, Trained):
            sizes["reference.batch_size"] = self.reference.batch_size
        for name, size in sizes.items():
            if size < self.processes:
                raise UserError(
                    f"{name}={size} is less than processes={self.processes}: some processes would have no responses.",
                    "processes=1",
                )
        if isinstance(self.reference, AsLoaded) and self.model.from_scratch:
            raise UserError(
                "reference=pretrained needs a pretrained model, but this one starts from scratch.",
                "reference=trained, or model=pretrained",
            )
        check_attention(self.attn, self.model)
        check_adapter(self.model, self.adapter)
        needed = self.task.max_prompt_tokens + self.task.max_response_tokens + 1
        if self.model.limit is not None and needed > self.model.limit:
            raise UserError(*too_long(needed, self.model.limit, self.task.max_response_tokens))
        self.values.check(self.reward.range)
        if self.values.sampled_on and not self.reward.scores_text:
            raise UserError(
                f"values={name_of(self.values)} needs rewards of new text; reward={name_of(self.reward)} has stored ones only.",
                "values=data (or group, constant), or a reward that scores text, such as reward=fitted",
            )
        if self.task.noise and not self.reward.scores_text:
            raise UserError(
                "task.noise pairs responses with other prompts and has to score these pairs, but "
                f"reward={name_of(self.reward)} has stored rewards only.",
                "task.noise=0, or a reward that scores text, such as reward=fitted",
            )
        self.variant.check(self.reward.range, self.batch_size)
        check_weighting(self.variant, self.sampling, self.clamp, self.weight_loss, self.reduction)
        if isinstance(self.variant, Online) and not self.reward.scores_text:
            raise UserError(
                f"variant={name_of(self.variant)} needs rewards of new text; reward={name_of(self.reward)} has stored ones only.",
                "A variant that learns from logged responses, such as variant=seq, or reward=fitted",
            )

    @property
    def options_chosen(self) -> list[str]:
        """The options in ``best_of``, whose values are selected by validation score before runs are compared."""
        named = [] if self.best_of is None else self.best_of if isinstance(self.best_of, list) else [self.best_of]
        return [str(option) for option in named]

    @property
    def runtime(self) -> Runtime:
        """The operational options alone."""
        return Runtime(**{f.name: getattr(self, f.name) for f in fields(Runtime)})
