"""The models: made from a configuration, or any causal language model by name or folder."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

from aloll_cli.errors import UserError
from aloll_cli.runtime.options import Attention
from aloll_cli.schema import OPERATIONAL

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class Head(Enum):
    """How the language-model head's log-probs are computed while training."""

    full = "logits of every response position at once"
    chunked = "logits of a few positions at a time: less memory, the same gradients; plain linear heads only"


class Dtype(Enum):
    """In which numbers a model computes."""

    float32 = "32 bits"
    bfloat16 = "16 bits with the range of 32; weights that train are kept in 32"


@dataclass(frozen=True)
class Placement:
    """Where a model's weights go, and how they compute.

    Attributes:
        device: of this process.
        dtype: of the weights.
        attn: the implementation of attention; None lets transformers choose.
    """

    device: torch.device
    dtype: Dtype
    attn: Attention | None

    @property
    def options(self) -> dict[str, Any]:
        """As ``from_pretrained`` and configurations take them. Raises UserError where attention cannot be had."""
        import torch
        from transformers.utils.import_utils import is_flash_attn_2_available

        if self.attn is Attention.flash_attention_2 and not is_flash_attn_2_available():
            raise UserError("attn=flash_attention_2: flash-attn is not installed, or finds no GPU.", "attn=sdpa")
        return {"dtype": getattr(torch, self.dtype.name)} | ({"attn_implementation": self.attn.name} if self.attn else {})


@dataclass(kw_only=True)
class Model(ABC):
    """A causal language model before any fine-tuning of ours."""

    dtype: Dtype
    head: Head = field(metadata=OPERATIONAL)

    @property
    @abstractmethod
    def label(self) -> str:
        """A short name for folders."""

    @property
    def limit(self) -> int | None:
        """How many tokens the model reads at most, or None where only its loading tells."""
        return None

    @property
    def is_exact(self) -> bool:
        """Whether it computes the same log-probs again to about 1e-6: in 32 bits throughout."""
        return self.dtype is Dtype.float32

    @property
    def address(self) -> str:
        """Its folder, or its name on the hub."""
        raise AssertionError("a model from scratch is trained whole before anything is put on it")

    @abstractmethod
    def content(self) -> dict[str, Any]:
        """What identifies the weights and the tokenizer beyond the options: file hashes, a resolved revision."""

    @property
    def from_scratch(self) -> bool:
        """Whether its weights are drawn here, and its tokenizer is trained on the raw train split."""
        return False

    @abstractmethod
    def tokenizer_identity(self) -> dict[str, Any]:
        """The part of the model's identity that decides its tokenizer."""

    @abstractmethod
    def tokenizer(self, texts: Iterable[str]) -> PreTrainedTokenizerBase:
        """The tokenizer; texts are the raw train split's, read only where it is trained."""

    @abstractmethod
    def initial(self, tokenizer: PreTrainedTokenizerBase, seed: int, place: Placement) -> PreTrainedModel:
        """The model; the seed matters only where weights are drawn."""

    @property
    def has_adapter(self) -> bool:
        """Whether it is published with an adapter on it."""
        return False

    def attach_adapter(self, model: PreTrainedModel) -> None:  # noqa: B027  most have none
        """Put the adapter on the model that it is published with."""
