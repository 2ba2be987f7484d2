"""The tokens that end a response."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from aloll_cli.text.chat import chat_end

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def end_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The tokens that end a response: the tokenizer's EOS, the published ones, and the one of the chat template."""
    return _with_published(model.generation_config.eos_token_id if model.generation_config else None, tokenizer)


def saved_end_tokens(path: str | Path, tokenizer: PreTrainedTokenizerBase, **options: Any) -> list[int]:
    """The same of a model that is not loaded.

    Args:
        path: a folder or hub name.
        tokenizer: its tokenizer.
        options: keyword arguments for ``from_pretrained``.
    """
    from transformers import AutoConfig, GenerationConfig

    try:
        published = GenerationConfig.from_pretrained(path, **options).eos_token_id
    except OSError:  # it has none, and transformers takes that of the model's configuration
        published = getattr(AutoConfig.from_pretrained(path, **options), "eos_token_id", None)
    return _with_published(published, tokenizer)


def _with_published(published: int | list[int] | None, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    more = published if isinstance(published, list) else [published]
    return list(dict.fromkeys(token for token in [tokenizer.eos_token_id, *more, chat_end(tokenizer)] if token is not None))
