"""Policies and tokenizers as folders that transformers opens."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from aloll_cli.models.adapters import has_adapter, save_adapter
from aloll_cli.models.base import Placement

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def load_policy(directory: Path, place: Placement) -> PreTrainedModel:
    """A policy that was saved whole."""
    from transformers import AutoModelForCausalLM

    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(directory, **place.options)
    return model


def save_policy(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write a policy whole, or its adapter where it has one, as transformers opens it."""
    if has_adapter(model):
        save_adapter(model, folder)
    else:
        model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def load_tokenizer(directory: Path) -> PreTrainedTokenizerBase:
    """A saved tokenizer."""
    from transformers import AutoTokenizer

    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(directory)
    return tokenizer
