"""The models: made from a configuration, or any causal language model by name or folder."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aloll_cli.adapters import attach, base_of, has_adapter, save_adapter
from aloll_cli.chat import chat_end
from aloll_cli.config import COUNT, OPERATIONAL, numbers
from aloll_cli.errors import UserError
from aloll_cli.hub import ADAPTER, content_of, expanded, loading, revision_options

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

BOS, EOS, PAD = "<s>", "</s>", "<pad>"


class Head(Enum):
    """How the language-model head's log-probs are computed while training."""

    full = "logits of every response position at once"
    chunked = "logits of a few positions at a time: less memory, the same gradients; plain linear heads only"


class Dtype(Enum):
    """In which numbers a model computes."""

    float32 = "32 bits"
    bfloat16 = "16 bits with the range of 32; weights that train are kept in 32"


class Attention(Enum):
    """Who computes attention."""

    sdpa = "PyTorch"
    flash_attention_2 = "the package flash-attn, on a GPU"
    eager = "plain matrix products"


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


@dataclass(kw_only=True)
class Scratch(Model):
    """A Llama from scratch with a byte-level BPE tokenizer of its own, trained on the train split."""

    vocab_size: int = field(metadata=numbers("[300, 2147483647]", 1024))  # 256 bytes and some
    hidden_size: int = field(metadata=COUNT)
    intermediate_size: int = field(metadata=COUNT)
    layers: int = field(metadata=COUNT)
    heads: int = field(metadata=COUNT)
    context: int = field(metadata=COUNT)
    tie_embeddings: bool

    def __post_init__(self) -> None:
        if self.hidden_size % (2 * self.heads):
            raise UserError(
                f"model.hidden_size={self.hidden_size} is not a multiple of 2 × model.heads={self.heads}.", "model.heads=4"
            )

    @property
    def label(self) -> str:
        return f"llama{self.layers}x{self.hidden_size}"

    @property
    def limit(self) -> int | None:
        return self.context

    def content(self) -> dict[str, Any]:
        return {}

    @property
    def from_scratch(self) -> bool:
        return True

    def tokenizer_identity(self) -> dict[str, Any]:
        return {"kind": "byte-level BPE", "vocab_size": self.vocab_size}

    def tokenizer(self, texts: Iterable[str]) -> PreTrainedTokenizerBase:
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
        from transformers import PreTrainedTokenizerFast

        bpe = Tokenizer(models.BPE())
        bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        bpe.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=self.vocab_size,
            special_tokens=[PAD, BOS, EOS],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        bpe.train_from_iterator(texts, trainer)
        bpe.post_processor = processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, bpe.token_to_id(BOS))])
        return PreTrainedTokenizerFast(
            tokenizer_object=bpe, bos_token=BOS, eos_token=EOS, pad_token=PAD, clean_up_tokenization_spaces=False
        )

    def initial(self, tokenizer: PreTrainedTokenizerBase, seed: int, place: Placement) -> PreTrainedModel:
        import torch
        from torch import nn
        from transformers import LlamaConfig, LlamaForCausalLM

        config = LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=self.hidden_size,
            intermediate_size=self.intermediate_size,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            max_position_embeddings=self.context,
            tie_word_embeddings=self.tie_embeddings,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            **place.options,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = LlamaForCausalLM(config)
        nn.Module.to(model, place.options["dtype"])
        return model


class Quantization(Enum):
    """How the weights of linear layers are stored while only an adapter trains."""

    nf4 = "4 bits each, by bitsandbytes (Dettmers et al. 2023)"


@dataclass(kw_only=True)
class Pretrained(Model):
    """Any causal language model of transformers, by its name on the hub or as a local folder; perhaps with an adapter."""

    path: str = field(metadata=OPERATIONAL)  # its content is what counts
    revision: str | None = field(metadata=OPERATIONAL)
    adapter: str | None = field(metadata=OPERATIONAL)
    adapter_revision: str | None = field(metadata=OPERATIONAL)
    quantization: Quantization | None
    double_quantization: bool
    trust_remote_code: bool

    def __post_init__(self) -> None:
        if not self.path:
            raise UserError("model.path is empty.", "model.path=FOLDER, or a name on the hub")
        self.path = expanded(self.path)
        self.adapter = None if self.adapter is None else expanded(self.adapter)

    @property
    def label(self) -> str:
        return Path(self.path).name.lower()

    @property
    def is_exact(self) -> bool:
        return super().is_exact and self.quantization is None

    @property
    def address(self) -> str:
        return self.path

    def content(self) -> dict[str, Any]:
        adapter = {} if self.adapter is None else {"adapter": content_of(self.adapter, self.adapter_revision, ADAPTER)}
        return content_of(self.path, self.revision) | adapter

    def tokenizer_identity(self) -> dict[str, Any]:
        return {"kind": "the model's own"} | content_of(self.path, self.revision)

    def tokenizer(self, texts: Iterable[str]) -> PreTrainedTokenizerBase:
        from transformers import AutoTokenizer

        with loading(self.path, "a causal language model"):
            tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(self.path, **self._hub_options())
        if tokenizer.eos_token_id is None:
            raise UserError(f"the tokenizer of {self.path} has no end-of-sequence token.", "Choose another model.path.")
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token  # padding is masked wherever it occurs
        return tokenizer

    def initial(self, tokenizer: PreTrainedTokenizerBase, seed: int, place: Placement) -> PreTrainedModel:
        from transformers import AutoModelForCausalLM

        options = self._hub_options() | place.options | self._quantized(place)
        with loading(self.path, "a causal language model"):
            model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(self.path, use_safetensors=True, **options)
        if self.quantization is None and getattr(model, "is_quantized", False):
            raise UserError(
                f"{self.path} is stored in few bits, which cannot be trained.",
                "The model it was made from, with model.quantization=nf4",
            )
        parts: Iterable[Any] = model.modules()
        for part in parts:
            # on some CPUs bitsandbytes would round the scales to bf16 for good when it first answers without gradients
            if hasattr(part, "support_avx512bf16_for_cpu"):
                part.support_avx512bf16_for_cpu = False
        return with_plain_decoding(model, tokenizer)

    @property
    def has_adapter(self) -> bool:
        return self.adapter is not None

    def attach_adapter(self, model: PreTrainedModel) -> None:
        if self.adapter is not None:
            attach(model, self.adapter, self.adapter_revision)

    def _quantized(self, place: Placement) -> dict[str, Any]:
        from transformers import BitsAndBytesConfig

        if self.quantization is None:
            return {}
        config = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type=self.quantization.name,
            bnb_4bit_use_double_quant=self.double_quantization,
            bnb_4bit_compute_dtype=place.options["dtype"],
        )
        return {"quantization_config": config, "device_map": {"": place.device}}

    def _hub_options(self) -> dict[str, Any]:
        return revision_options(self.path, self.revision) | {"trust_remote_code": self.trust_remote_code}


def saved(folder: str, like: Model) -> Pretrained:
    """A model saved by anybody, whole or as an adapter with the name of its base, which computes like another model."""
    base = base_of(Path(folder).expanduser())
    of_a_base = like if base is not None and isinstance(like, Pretrained) else None
    return Pretrained(
        head=Head.full,
        dtype=like.dtype,
        path=folder if base is None else base,
        revision=of_a_base.revision if of_a_base and of_a_base.path == base else None,
        adapter=None if base is None else folder,
        adapter_revision=None,
        quantization=of_a_base.quantization if of_a_base else None,
        double_quantization=of_a_base.double_quantization if of_a_base else False,
        trust_remote_code=of_a_base.trust_remote_code if of_a_base else False,
    )


def with_plain_decoding(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """The model without the decoding options it was published with: answers are draws from π, as ``generation=`` says.

    What ends an answer stays: the published tokens, the tokenizer's EOS, and what its chat template puts behind an answer.
    """
    from transformers import GenerationConfig

    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id, eos_token_id=end_tokens(model, tokenizer), pad_token_id=tokenizer.pad_token_id
    )
    return model


def end_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """What ends a response: the tokenizer's EOS, the published tokens, and what the chat template puts behind an answer."""
    published: int | list[int] | None = model.generation_config.eos_token_id if model.generation_config else None
    more = published if isinstance(published, list) else [published]
    return list(dict.fromkeys(token for token in [tokenizer.eos_token_id, *more, chat_end(tokenizer)] if token is not None))


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
