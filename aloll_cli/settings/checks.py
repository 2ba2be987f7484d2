"""Checks for options that contradict each other."""

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
            f"sampling= says how often single responses are drawn, but {name} does not draw single responses.",
            "sampling=priority sampling.exponent=1",
        )
    if reduction is Reduction.mean and signal is None:
        raise UserError(
            f"reduction=mean is for methods that learn from single responses; {name} has its own reduction.",
            "reduction=sum",
        )
