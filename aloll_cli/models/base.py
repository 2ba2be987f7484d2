"""The contract of models: built from scratch, or any causal language model by name or folder."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
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
    """How log-probs are computed from the language-model head during training."""

    full = "logits of all response positions at once"
    chunked = "logits of a few positions at a time: less memory, same gradients; plain linear heads only"


class Dtype(Enum):
    """The number format that a model computes in."""

    float32 = "32 bits"
    bfloat16 = "16 bits with the range of 32; trainable weights are kept in 32"


@dataclass(frozen=True)
class Placement:
    """Device, number format and attention implementation of a model.

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
        """As keyword arguments of ``from_pretrained``. Raises UserError if the attention implementation is not available."""
        import torch
        from transformers.utils.import_utils import is_flash_attn_2_available

        if self.attn is Attention.flash_attention_2 and not is_flash_attn_2_available():
            raise UserError("attn=flash_attention_2: flash-attn is not installed, or finds no GPU.", "attn=sdpa")
        return {"dtype": getattr(torch, self.dtype.name)} | ({"attn_implementation": self.attn.name} if self.attn else {})


@dataclass(frozen=True)
class Numbers:
    """The numbers that a policy is trained in, and that π_ref is evaluated in for it, so that importance ratios start at 1.

    Attributes:
        dtype: of all matrix products.
        in_full: whether all weights are in fp32, because they are trained, and only the products in ``dtype``.
        attn: the implementation of attention; None lets transformers choose.
    """

    dtype: Dtype
    in_full: bool
    attn: Attention | None

    @property
    def of_weights(self) -> Dtype:
        """The number format in which the weights are loaded."""
        return Dtype.float32 if self.in_full else self.dtype

    def identity(self) -> dict[str, Any]:
        """Their part of a recipe: nothing in 32 bits, where they move results by about 1e-6, and not by a percent."""
        if self.dtype is Dtype.float32:
            return {}
        return {"numbers": {"weights": "float32" if self.in_full else self.dtype.name, "attn": self.attn and self.attn.name}}

    def computing(self, device: torch.device, cached: bool = True) -> AbstractContextManager[Any]:
        """The context in which a model computes in them, once its weights were loaded accordingly.

        Args:
            device: of the model.
            cached: whether weights that are cast to ``dtype`` stay in memory until the context ends.
        """
        import torch

        if self.dtype is Dtype.float32:
            return nullcontext()
        return torch.autocast(device.type, getattr(torch, self.dtype.name), cache_enabled=cached)


@dataclass(kw_only=True)
class Model(ABC):
    """A causal language model before fine-tuning."""

    dtype: Dtype
    head: Head = field(metadata=OPERATIONAL)

    @property
    @abstractmethod
    def label(self) -> str:
        """A short name, used in folder names."""

    @property
    def limit(self) -> int | None:
        """The context length in tokens, or None if it is only known after loading."""
        return None

    @property
    def trusts_code(self) -> bool:
        """Whether code that comes with the model may run."""
        return False

    @property
    def is_exact(self) -> bool:
        """Whether recomputed log-probs agree to about 1e-6: in fp32 throughout."""
        return self.dtype is Dtype.float32

    @property
    def address(self) -> str:
        """Its folder or hub name."""
        raise AssertionError("a model from scratch has no address: adapters are added to the trained reference")

    @abstractmethod
    def content(self) -> dict[str, Any]:
        """What identifies the weights and the tokenizer besides the options: file hashes, or a resolved revision."""

    @property
    def from_scratch(self) -> bool:
        """Whether its weights are randomly initialized and its tokenizer is trained on the raw train split."""
        return False

    @abstractmethod
    def tokenizer_identity(self) -> dict[str, Any]:
        """The part of the model's identity that determines its tokenizer."""

    @abstractmethod
    def tokenizer(self, texts: Iterable[str]) -> PreTrainedTokenizerBase:
        """The tokenizer; ``texts`` of the raw train split are read only if it is trained."""

    @abstractmethod
    def initial(self, tokenizer: PreTrainedTokenizerBase, seed: int, place: Placement) -> PreTrainedModel:
        """The initial model; the seed matters only for random initialization."""

    @abstractmethod
    def scoring(self, tokenizer: PreTrainedTokenizerBase, seed: int, place: Placement) -> PreTrainedModel:
        """The same network as a sequence classifier with one label, to be trained as one.

        Its head is drawn from the seed, and so is the rest of a model from scratch.
        """

    @abstractmethod
    def empty(self, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
        """The model without weights, for its sizes; nothing but its configuration is read."""

    @property
    def has_adapter(self) -> bool:
        """Whether it comes with an adapter (``model.adapter``)."""
        return False

    def attach_adapter(self, model: PreTrainedModel) -> None:  # noqa: B027  most have none
        """Load the adapter that the model comes with."""

    def check_merge(self) -> None:  # noqa: B027
        """Raises UserError if the adapter that the model comes with could not be merged into it."""

    def doubt(self) -> str | None:
        """A reason to doubt that the model and the adapter that it comes with belong together; None if there is none."""
        return None
