"""Every option of the command line, as one tree of dataclasses."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from enum import Enum
from typing import Any

from aloll_cli.adapters import Adapter, Given, Lora
from aloll_cli.config import COUNT, OPERATIONAL, SEED, discover, name_of, numbers
from aloll_cli.decoding import Beam, Generation, Greedy, Sample
from aloll_cli.errors import UserError
from aloll_cli.models import Attention, Dtype, Model, Pretrained, Scratch
from aloll_cli.optimizers import Adamw
from aloll_cli.rewards.base import Reward
from aloll_cli.sampling import All, Priority, Sampling, Uniform
from aloll_cli.tasks.base import Task
from aloll_cli.tracking import Off, Tracking, Wandb
from aloll_cli.values import Constant, Data, Group, Head, MonteCarlo, Values
from aloll_cli.variants.base import Online, Pointwise, Reduction, Signal, Variant

EPOCHS = numbers("(0, 1000000]", 1.0)


@dataclass(kw_only=True)
class Reference:
    """Where π_ref comes from."""


@dataclass(kw_only=True)
class Trained(Reference):
    """The model fine-tuned by NLL on the task's training split, the checkpoint with the lowest validation NLL."""

    seed: int = field(metadata=SEED)
    updates: int | None = field(metadata=COUNT)
    epochs: float | None = field(metadata=EPOCHS)
    batch_size: int = field(metadata=COUNT)
    eval_every: int = field(metadata=COUNT)
    optimizer: Adamw

    def __post_init__(self) -> None:
        check_length(self.updates, self.epochs, "reference.")


@dataclass(kw_only=True)
class AsLoaded(Reference):
    """The model as it is loaded."""


class Select(Enum):
    """Which policy a run leaves."""

    best = "the best of its evaluations"
    last = "the one after the last update"


class Split(Enum):
    """Which prompts evaluate answers."""

    validation = "those that checkpoints are chosen on"
    test = "those that nothing else has seen"


class References(Enum):
    """Which logged responses to a prompt its answers are held against, by BLEU and ROUGE."""

    best = "the one with the highest stored reward; the first of a row where none is stored"
    all = "every one"


class Upstream(Enum):
    """What a stage does about artifacts it needs and that are missing."""

    make = "make them"
    require = "refuse, and say which stage makes them"


class Format(Enum):
    """How inspect and compare print what they find."""

    page = "for a person"
    json = "for a program: one object"


class Busy(Enum):
    """What a stage does about an artifact that another process is making."""

    wait = "wait for it"
    refuse = "say who it is, and leave"


class Verbosity(Enum):
    """How much is said on stderr."""

    quiet = "warnings and errors"
    normal = "what is made and how far it is"
    verbose = "versions, times, memory and what libraries say, too"


@dataclass(kw_only=True)
class Runtime:
    """Options that cannot change a result by more than rounding."""

    processes: int = field(metadata=OPERATIONAL | numbers("[1, 1024]"))
    threads: int | None = field(metadata=OPERATIONAL | numbers("[1, 4096]"))
    micro_batch_size: int = field(metadata=OPERATIONAL | COUNT)
    gradient_checkpointing: bool = field(metadata=OPERATIONAL)
    attn: Attention | None = field(metadata=OPERATIONAL)
    scoring_batch_tokens: int = field(metadata=OPERATIONAL | COUNT)
    checkpoint_every: int = field(metadata=OPERATIONAL | COUNT)
    keep_checkpoints: int = field(metadata=OPERATIONAL | COUNT)
    max_hours: float | None = field(metadata=OPERATIONAL | numbers("(0, inf)", 8.0))
    upstream: Upstream = field(metadata=OPERATIONAL)
    busy: Busy = field(metadata=OPERATIONAL)
    verbosity: Verbosity = field(metadata=OPERATIONAL)
    tracking: Tracking = field(metadata=OPERATIONAL)


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
    best_of: Any = field(metadata=OPERATIONAL)  # the name of an option, or a list of several
    to: str | None = field(metadata=OPERATIONAL)
    merge: bool = field(metadata=OPERATIONAL)
    ask: bool = field(metadata=OPERATIONAL)
    format: Format = field(metadata=OPERATIONAL)
    output_dir: str = field(metadata=OPERATIONAL)

    def __post_init__(self) -> None:
        check_length(self.updates, self.epochs)
        sizes = {"batch_size": self.batch_size}
        if isinstance(self.reference, Trained):
            sizes["reference.batch_size"] = self.reference.batch_size
        for name, size in sizes.items():
            if size < self.processes:
                raise UserError(f"{name}={size} leaves some of processes={self.processes} without a row.", "processes=1")
        if isinstance(self.reference, AsLoaded) and self.model.from_scratch:
            raise UserError(
                "reference=pretrained needs a model that was trained before.", "reference=trained, or model=pretrained"
            )
        check_attention(self.attn, self.model)
        check_adapter(self.model, self.adapter)
        needed = self.task.max_prompt_tokens + self.task.max_response_tokens + 1
        if self.model.limit is not None and needed > self.model.limit:
            raise UserError(*too_long(needed, self.model.limit, self.task.max_response_tokens))
        self.values.check(self.reward.range)
        if self.values.sampled_on and not self.reward.scores_text:
            raise UserError(
                f"values={name_of(self.values)} needs rewards of new text; reward={name_of(self.reward)} has only stored ones.",
                "values=data (or group, constant), or a reward that scores text, such as reward=fitted",
            )
        if self.task.noise and not self.reward.scores_text:
            raise UserError(
                "task.noise replaces responses, and what is stored about a response belongs to its own prompt; "
                f"reward={name_of(self.reward)} has nothing else.",
                "task.noise=0, or a reward that scores text, such as reward=fitted",
            )
        self.variant.check(self.reward.range, self.batch_size)
        check_weighting(self)
        if isinstance(self.variant, Online) and not self.reward.scores_text:
            raise UserError(
                f"variant={name_of(self.variant)} draws new text; reward={name_of(self.reward)} has only stored ones.",
                "A variant that learns from logged text, such as variant=seq; or reward=fitted",
            )

    @property
    def options_chosen(self) -> list[str]:
        """The options whose values validation chooses before runs are compared."""
        named = [] if self.best_of is None else self.best_of if isinstance(self.best_of, list) else [self.best_of]
        return [str(option) for option in named]

    @property
    def runtime(self) -> Runtime:
        """The operational options alone."""
        return Runtime(**{f.name: getattr(self, f.name) for f in fields(Runtime)})


def too_long(needed: int, limit: int, response: int) -> tuple[str, str]:
    """What is wrong, and what to type, where a model reads fewer tokens than prompt and response may take."""
    fits = (
        f"task.max_prompt_tokens={limit - response - 1}"
        if response < limit - 1
        else "task.max_prompt_tokens=… task.max_response_tokens=…"
    )
    return f"prompt and response may take {needed} tokens with the end-of-sequence token, and the model reads {limit}.", fits


def check_attention(attn: Attention | None, model: Model) -> None:
    """Raises UserError where the implementation of attention does not take the model's numbers."""
    if attn is Attention.flash_attention_2 and model.dtype is Dtype.float32:
        raise UserError("attn=flash_attention_2 computes in 16 bits only.", "model.dtype=bfloat16")


def check_adapter(model: Model, adapter: Adapter | None) -> None:
    """Raises UserError where model and adapter do not go together."""
    given = model.has_adapter
    if isinstance(adapter, Given) and not given:
        raise UserError(
            "adapter=pretrained needs an adapter to begin with.", "model.adapter=FOLDER, or adapter=lora for a new one"
        )
    if given and not isinstance(adapter, Given):
        raise UserError("model.adapter is trained further as it is, or not at all.", "adapter=pretrained")
    if isinstance(model, Pretrained) and model.quantization is not None and adapter is None:
        raise UserError(
            f"model.quantization={model.quantization.name}: weights of 4 bits cannot be trained themselves.", "adapter=lora"
        )


def check_weighting(settings: Settings) -> None:
    """Raises UserError where options of what a response counts say two things, or the variant has no use for them."""
    variant, name = settings.variant, f"variant={name_of(settings.variant)}"
    signal = variant.signal if isinstance(variant, Pointwise) else None
    if not settings.clamp and signal is not Signal.advantage:
        raise UserError(f"clamp=false is about negative advantages, and {name} weights by none.", "clamp=true")
    if not settings.clamp and not isinstance(settings.sampling, All):
        raise UserError(
            f"clamp=false keeps negative advantages, and sampling={name_of(settings.sampling)} draws none of them.",
            "sampling=all",
        )
    if not settings.weight_loss and signal in (None, Signal.none):
        raise UserError(f"weight_loss=false takes the weights off a response's loss, and {name} has none.", "weight_loss=true")
    if not settings.clamp and not settings.weight_loss:
        raise UserError("clamp=false is about the weights of the loss, and weight_loss=false takes them away.", "clamp=true")
    if signal is None and settings.sampling != Priority(exponent=1.0):  # the default
        raise UserError(
            f"sampling= says how often a response is drawn, and {name} takes none one by one.",
            "sampling=priority sampling.exponent=1",
        )
    if settings.reduction is Reduction.mean and signal is None:
        raise UserError(
            f"reduction=mean is for methods that take responses one by one, and {name} has a reduction of its own.",
            "reduction=sum",
        )


def check_length(updates: int | None, epochs: float | None, prefix: str = "") -> None:
    """Exactly one of updates and epochs says how long training is."""
    if (updates is None) == (epochs is None):
        raise UserError(
            f"exactly one of {prefix}updates and {prefix}epochs must be set.", f"{prefix}updates=400 {prefix}epochs=null"
        )


GROUPS: dict[str, dict[str, type]] = {
    "task": discover("aloll_cli.tasks", Task),  # type: ignore[type-abstract]
    "reward": discover("aloll_cli.rewards", Reward),  # type: ignore[type-abstract]
    "variant": discover("aloll_cli.variants", Variant),  # type: ignore[type-abstract]
    "model": {"scratch": Scratch, "pretrained": Pretrained},
    "adapter": {"lora": Lora, "pretrained": Given},
    "reference": {"trained": Trained, "pretrained": AsLoaded},
    "values": {"head": Head, "data": Data, "group": Group, "monte_carlo": MonteCarlo, "constant": Constant},
    "sampling": {"priority": Priority, "uniform": Uniform, "all": All},
    "optimizer": {"adamw": Adamw},
    "generation": {"greedy": Greedy, "beam": Beam, "sample": Sample},
    "tracking": {"off": Off, "wandb": Wandb},
}
