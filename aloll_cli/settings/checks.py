"""Options that contradict each other."""

from __future__ import annotations

from aloll_cli.errors import UserError
from aloll_cli.models.adapters import Adapter, Given
from aloll_cli.models.base import Dtype, Model
from aloll_cli.models.pretrained import Pretrained
from aloll_cli.runtime.options import Attention
from aloll_cli.schema import name_of
from aloll_cli.training.sampling import All, Priority, Sampling
from aloll_cli.variants.base import Pointwise, Reduction, Signal, Variant


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


def check_weighting(variant: Variant, sampling: Sampling, clamp: bool, weight_loss: bool, reduction: Reduction) -> None:
    """Raises UserError where options of what a response counts say two things, or the variant has no use for them."""
    name = f"variant={name_of(variant)}"
    signal = variant.signal if isinstance(variant, Pointwise) else None
    if not clamp and signal is not Signal.advantage:
        raise UserError(f"clamp=false is about negative advantages, and {name} weights by none.", "clamp=true")
    if not clamp and not isinstance(sampling, All):
        raise UserError(
            f"clamp=false keeps negative advantages, and sampling={name_of(sampling)} draws none of them.",
            "sampling=all",
        )
    if not weight_loss and signal in (None, Signal.none):
        raise UserError(f"weight_loss=false takes the weights off a response's loss, and {name} has none.", "weight_loss=true")
    if not clamp and not weight_loss:
        raise UserError("clamp=false is about the weights of the loss, and weight_loss=false takes them away.", "clamp=true")
    if signal is None and sampling != Priority(exponent=1.0):  # the default
        raise UserError(
            f"sampling= says how often a response is drawn, and {name} takes none one by one.",
            "sampling=priority sampling.exponent=1",
        )
    if reduction is Reduction.mean and signal is None:
        raise UserError(
            f"reduction=mean is for methods that take responses one by one, and {name} has a reduction of its own.",
            "reduction=sum",
        )
