"""Options that contradict each other, grouped by the artifact they decide: a stage is checked for what it makes, and no more."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib.util import find_spec
from numbers import Real
from typing import TYPE_CHECKING

from aloll_cli.errors import UserError
from aloll_cli.models.adapters import Adapter, Given
from aloll_cli.models.base import Dtype, Model
from aloll_cli.models.optimizers import Adamw
from aloll_cli.models.pretrained import Pretrained
from aloll_cli.runtime.options import Attention, Strategy
from aloll_cli.schema import name_of
from aloll_cli.settings.reference import AsLoaded, Trained, check_length
from aloll_cli.training.sampling import All, Priority, Sampling
from aloll_cli.user_code import plugin_errors
from aloll_cli.values.joint import Joint
from aloll_cli.values.monte_carlo import MonteCarlo
from aloll_cli.variants.base import Online, Pointwise, Reduction, Regression, Signal, Variant

if TYPE_CHECKING:
    from aloll_cli.rewards.base import Reward
    from aloll_cli.settings.root import Settings


@plugin_errors()
def check(settings: Settings, artifacts: Iterable[str]) -> None:
    """Raises UserError where the options contradict each other that decide some artifacts (attributes of Pipeline)."""
    for found in dict.fromkeys(check for artifact in artifacts for check in CHECKS[artifact]):
        found(settings)


def check_texts(settings: Settings) -> None:
    """Raises UserError where prompt and response do not fit into the model."""
    task, limit = settings.task, settings.model.limit
    needed = task.max_prompt_tokens + task.max_response_tokens + 1
    if limit is not None and needed > limit:
        raise UserError(*too_long(needed, limit, task.max_response_tokens))


def check_rewards(settings: Settings) -> None:
    """Raises UserError where the reward has no range, or cannot score the task's responses."""
    for reward in filter(None, (settings.reward, settings.test_reward)):
        _check_range(reward)
    if settings.task.noise and not settings.reward.scores_text:
        raise UserError(
            "task.noise pairs responses with other prompts and has to score these pairs, but "
            f"reward={name_of(settings.reward)} has stored rewards only.",
            "task.noise=0, or a reward that scores text, such as reward=fitted",
        )


def _check_range(reward: Reward) -> None:
    """Raises UserError where a reward's range is not two numbers, the lower one first."""
    found = reward.range
    if not isinstance(found, tuple) or [isinstance(end, Real) for end in found] != [True, True] or not found[0] <= found[1]:
        what = f"range of reward={name_of(reward)} is {found}; expected two numbers (lo, hi)."
        raise UserError(what, "0.0, 1.0 or, if it is unbounded, -math.inf, math.inf")


def check_reference(settings: Settings) -> None:
    """Raises UserError where model, adapter and reference do not go together."""
    reference = settings.reference
    if isinstance(reference, Trained):
        check_length(reference.updates, reference.epochs, "reference.")
        _check_batch("reference.batch_size", reference.batch_size, settings.processes)
        _check_optimizer(settings.strategy, "reference.optimizer", reference.optimizer)
    if isinstance(reference, AsLoaded) and settings.model.from_scratch:
        raise UserError(
            "reference=pretrained needs a pretrained model, but this one starts from scratch.",
            "reference=trained, or model=pretrained",
        )
    check_attention(settings.attn, settings.model)
    check_strategy(settings.strategy, settings.model)
    check_adapter(settings.model, settings.adapter)


def check_values(settings: Settings) -> None:
    """Raises UserError where V(x) cannot be estimated from such rewards, or no reward can exceed it."""
    values, reward = settings.baseline, settings.reward
    values.check(reward.range)
    if values.sampled_on and not reward.scores_text:
        raise UserError(
            f"values={name_of(values)} needs rewards of new text; reward={name_of(reward)} has stored ones only.",
            "values=data (or ridge, group, constant), or a reward that scores text, such as reward=fitted",
        )


def check_policy(settings: Settings) -> None:
    """Raises UserError where the method, its rewards and its batches do not go together."""
    variant, reward = settings.variant, settings.reward
    check_length(settings.updates, settings.epochs)
    _check_batch("batch_size", settings.batch_size, settings.processes)
    _check_optimizer(settings.strategy, "optimizer", settings.optimizer)
    check_samples(settings)
    if settings.needs_values:
        check_values(settings)
    variant.check(reward.range, settings.batch_size)
    check_weighting(variant, settings.sampling, settings.clamp, settings.weight_loss, settings.reduction)
    check_joint(settings)
    check_rounds(settings)
    check_select(settings)
    if isinstance(variant, Online) and not reward.scores_text:
        raise UserError(
            f"variant={name_of(variant)} needs rewards of new text; reward={name_of(reward)} has stored ones only.",
            "A variant that learns from logged responses, such as variant=seq, or reward=fitted",
        )


def check_joint(settings: Settings) -> None:
    """Raises UserError where V(x) is to be learned together with the policy, and the method cannot do that."""
    variant = settings.variant
    learns = isinstance(variant, Regression) and variant.learns_values
    if isinstance(settings.values, Joint) and variant.needs_values and not learns:
        raise UserError(
            f"values=joint is learned together with the policy, which variant={name_of(variant)} with these options cannot do.",
            "variant=dro variant.per_token=false, or values=data",
        )


def check_samples(settings: Settings) -> None:
    """Raises UserError where the method needs rewards of π_ref's samples for the training prompts, and there are none."""
    variant, values = settings.variant, settings.values
    if not isinstance(variant, Regression) or not variant.needs_samples:
        return
    if not settings.reward.scores_text:
        raise UserError(
            f"variant={name_of(variant)} needs rewards of new text; reward={name_of(settings.reward)} has stored ones only.",
            "A reward that scores text, such as reward=fitted, or variant=dro",
        )
    if values.sampled_on != "train":
        raise UserError(
            f"variant={name_of(variant)} needs samples of the reference for each training prompt, "
            f"and values={name_of(values)} has none.",
            "values=quantiles",
        )


def check_rounds(settings: Settings) -> None:
    """Raises UserError where later rounds could not learn from the policy's own responses, or where there are none to do so."""
    if settings.rounds == 1:
        if settings.round_prompts is not None:
            raise UserError(f"round_prompts={settings.round_prompts} is for later rounds, and there is one.", "Add rounds=2.")
        return
    if not settings.reward.scores_text:
        raise UserError(
            f"rounds={settings.rounds} needs rewards of new text; reward={name_of(settings.reward)} has stored ones only.",
            "rounds=1, or a reward that scores text, such as reward=fitted",
        )
    variant, values = settings.variant, settings.values
    if isinstance(variant, Regression) and variant.standardizes and isinstance(values, MonteCarlo) and values.is_soft:
        raise UserError(
            f"rounds={settings.rounds}: the temperature of V(x) of variant={name_of(variant)} is in standard deviations of the "
            f"rewards, which are others in every round, and values.beta={values.beta:g} is one number.",
            "values=joint, which learns this V(x), or rounds=1",
        )
    if isinstance(variant, Online):
        what = f"rounds={settings.rounds}: variant={name_of(variant)} generates its own responses in every step."
        raise UserError(what, "rounds=1, or a variant that learns from logged responses, such as variant=seq")


def check_select(settings: Settings) -> None:
    """Raises UserError where checkpoints are to be compared by figures of responses, and no reward scores these."""
    given = settings.select.given
    if given and not settings.reward.scores_text:
        names = ", ".join(f"select.{name}" for name in given)
        reward = f"reward={name_of(settings.reward)}"
        raise UserError(
            f"{names}: checkpoints are compared by responses of the policy, which {reward} cannot score.",
            "select=best alone, or a reward that scores text, such as reward=fitted",
        )


def check_metrics(settings: Settings) -> None:
    """Raises UserError where the tokenizer of the metrics is not installed."""
    module, extra = MECAB.get(settings.words.name, (None, ""))
    if module is not None and find_spec(module) is None:
        raise UserError(
            f"words={settings.words.name} needs a package that is not installed.", f"pip install 'sacrebleu[{extra}]'"
        )


MECAB = {"ja-mecab": ("MeCab", "ja"), "ko-mecab": ("mecab_ko", "ko")}  # module and extra of sacrebleu

_DATA: tuple[Callable[[Settings], None], ...] = (check_texts,)
_SCORED = (*_DATA, check_rewards)
CHECKS = {
    "examples": _DATA,
    "rewards": _SCORED,
    "reference": (*_DATA, check_reference),
    "values": (*_SCORED, check_reference, check_values),
    "policy": (*_SCORED, check_reference, check_policy),
    "metrics": (*_SCORED, check_reference, check_policy, check_metrics),
}


def too_long(needed: int, limit: int, response: int) -> tuple[str, str]:
    """Message and hint of the error for a model whose context is shorter than prompt and response may be."""
    fits = (
        f"task.max_prompt_tokens={limit - response - 1}"
        if response < limit - 1
        else f"task.max_prompt_tokens={limit // 2} task.max_response_tokens={limit - limit // 2 - 1}"
    )
    return f"prompt, response and end-of-sequence token may take {needed} tokens, but the model reads at most {limit}.", fits


def check_attention(attn: Attention | None, model: Model) -> None:
    """Raises UserError if the attention implementation does not support the model's number format."""
    if attn is Attention.flash_attention_2 and model.dtype is Dtype.float32:
        raise UserError("attn=flash_attention_2 supports 16 bits only.", "model.dtype=bfloat16")


def check_adapter(model: Model, adapter: Adapter | None) -> None:
    """Raises UserError if model and adapter do not fit together."""
    given = model.has_adapter
    if isinstance(adapter, Given) and not given:
        raise UserError(
            "adapter=pretrained needs an adapter to start from.", "model.adapter=FOLDER, or adapter=lora for a new one"
        )
    if given and not isinstance(adapter, Given):
        raise UserError("model.adapter is set, but is only trained with adapter=pretrained.", "adapter=pretrained")
    if isinstance(model, Pretrained) and model.quantization is not None and adapter is None:
        raise UserError(
            f"model.quantization={model.quantization.name}: 4-bit weights cannot be trained, only an adapter.", "adapter=lora"
        )


def check_weighting(variant: Variant, sampling: Sampling, clamp: bool, weight_loss: bool, reduction: Reduction) -> None:
    """Raises UserError if options about the weight of a response contradict each other, or the variant does not use them."""
    name = f"variant={name_of(variant)}"
    signal = variant.signal if isinstance(variant, Pointwise) else None
    if not clamp and isinstance(variant, Regression):
        raise UserError(f"clamp=false keeps negative advantages, as {name} does always.", "clamp=true")
    if not clamp and signal is not Signal.advantage:
        raise UserError(f"clamp=false keeps negative advantages, but {name} does not use advantages as weights.", "clamp=true")
    if not clamp and not isinstance(sampling, All):
        raise UserError(
            f"clamp=false keeps negative advantages, but sampling={name_of(sampling)} never draws those responses.",
            "sampling=all",
        )
    if not weight_loss and signal in (None, Signal.none):
        raise UserError(f"weight_loss=false removes the weights of the loss, but {name} has none.", "weight_loss=true")
    if not clamp and not weight_loss:
        raise UserError("clamp=false changes the weights of the loss, but weight_loss=false removes them.", "clamp=true")
    if signal is None and sampling != Priority(exponent=1.0):  # the default
        raise UserError(
            f"sampling= says how often single responses are drawn, but {name} "
            + ("draws all of them equally often." if isinstance(variant, Regression) else "does not draw single responses."),
            "sampling=priority sampling.exponent=1",
        )
    if reduction is Reduction.mean and signal is None:
        raise UserError(
            f"reduction=mean is for methods that learn from single responses; {name} has its own reduction.",
            "reduction=sum",
        )


def _check_batch(name: str, size: int, processes: int) -> None:
    if size < processes:
        raise UserError(
            f"{name}={size} is less than processes={processes}: some processes would have no responses.", "processes=1"
        )


def check_strategy(strategy: Strategy, model: Model) -> None:
    """Raises UserError where processes cannot share a model."""
    if strategy is Strategy.fsdp and isinstance(model, Pretrained) and model.quantization is not None:
        what = f"strategy=fsdp: layers in {model.quantization.name} cannot be shared between processes."
        raise UserError(what, "model.quantization=null, or strategy=ddp")


def _check_optimizer(strategy: Strategy, name: str, optimizer: Adamw) -> None:
    """Raises UserError where processes cannot share an optimizer's states."""
    used = [option for option, on in (("eight_bit", optimizer.eight_bit), ("paged", optimizer.paged)) if on]
    if strategy is Strategy.fsdp and used:
        what = f"{name}.{used[0]}=true: bitsandbytes' optimizers do not share their states between processes."
        raise UserError(what, f"{name}.{used[0]}=false, or strategy=ddp")
