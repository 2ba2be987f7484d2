"""Saving and loading of policies and tokenizers in the format of transformers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from aloll_cli.models.adapters import has_adapter, save_adapter
from aloll_cli.models.base import Placement

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def load_policy(directory: Path, place: Placement) -> PreTrainedModel:
    """Load a policy that was saved with all its weights."""
    from transformers import AutoModelForCausalLM

    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(directory, **place.options)
    return model


def save_policy(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Save a policy, or only its adapter if it has one, in the format of transformers."""
    if has_adapter(model):
        save_adapter(model, folder)
    else:
        model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def load_tokenizer(directory: Path) -> PreTrainedTokenizerBase:
    """Load a tokenizer."""
    from transformers import AutoTokenizer

    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(directory)
    return tokenizer
