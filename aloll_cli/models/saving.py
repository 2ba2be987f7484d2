"""Saving and loading of policies and tokenizers in the format of transformers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from aloll_cli.models.adapters import adapter_weights, has_adapter, save_adapter
from aloll_cli.models.base import Placement
from aloll_cli.store.hub import loading

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def load_policy(directory: Path, place: Placement, trusts_code: bool) -> PreTrainedModel:
    """Load a policy that was saved with all its weights.

    Args:
        directory: where it was saved.
        place: where its weights go.
        trusts_code: whether code in the folder may run, as ``model.trust_remote_code`` says.

    Raises:
        UserError: it cannot be loaded, or needs code of its own that may not run.
    """
    from transformers import AutoModelForCausalLM

    with loading(str(directory), "a causal language model"):
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            directory, use_safetensors=True, trust_remote_code=trusts_code, **place.options
        )
    return model


def in_memory(model: PreTrainedModel) -> PreTrainedModel:
    """The model, whose weights on the CPU get memory of their own.

    transformers maps a file of weights into memory: whoever wrote into it later, as cp does, would change the model.
    """
    from torch import nn

    for weight in (*nn.Module.parameters(model), *nn.Module.buffers(model)):
        if weight.device.type == "cpu":
            weight.data = weight.data.clone()
    return model


def policy_weights(model: PreTrainedModel) -> dict[str, Tensor]:
    """What is saved of a policy, by name: all its weights, or those of its adapter if it has one."""
    return adapter_weights(model) if has_adapter(model) else dict(model.state_dict(keep_vars=True))


def save_policy(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path, weights: Mapping[str, Tensor]) -> None:
    """Save a policy, or only its adapter if it has one, in the format of transformers.

    Args:
        model: the policy.
        tokenizer: its tokenizer.
        folder: where.
        weights: those of :func:`policy_weights`, each as a whole.
    """
    if has_adapter(model):
        save_adapter(model, folder, weights)
    else:
        model.save_pretrained(folder, state_dict=dict(weights))
    tokenizer.save_pretrained(folder)


def load_tokenizer(directory: Path, trusts_code: bool = False) -> PreTrainedTokenizerBase:
    """Load a tokenizer; code in the folder runs only where ``trusts_code`` says so. Raises UserError if it cannot be loaded."""
    from transformers import AutoTokenizer

    with loading(str(directory), "a tokenizer"):
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(directory, trust_remote_code=trusts_code)
    return tokenizer
