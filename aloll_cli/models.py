"""The models: made from a configuration, or any causal language model by name or folder."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aloll_cli.config import COUNT, OPERATIONAL, numbers
from aloll_cli.errors import UserError
from aloll_cli.hub import content_of, loading, revision_options

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

BOS, EOS, PAD = "<s>", "</s>", "<pad>"


class Head(Enum):
    """How the language-model head's log-probs are computed while training."""

    full = "logits of every response position at once"
    chunked = "logits of a few positions at a time: less memory, the same gradients; plain linear heads only"


@dataclass(kw_only=True)
class Model(ABC):
    """A causal language model before any fine-tuning of ours."""

    head: Head = field(metadata=OPERATIONAL)

    @property
    @abstractmethod
    def label(self) -> str:
        """A short name for folders."""

    @property
    def limit(self) -> int | None:
        """How many tokens the model reads at most, or None where only its loading tells."""
        return None

    @abstractmethod
    def content(self) -> dict[str, Any]:
        """What identifies the weights and the tokenizer beyond the options: file hashes, a resolved revision."""

    @property
    def trains_tokenizer(self) -> bool:
        """Whether the tokenizer is trained on the raw train split."""
        return False

    @abstractmethod
    def tokenizer_identity(self) -> dict[str, Any]:
        """The part of the model's identity that decides its tokenizer."""

    @abstractmethod
    def tokenizer(self, texts: Iterable[str]) -> PreTrainedTokenizerBase:
        """The tokenizer; texts are the raw train split's, read only where it is trained."""

    @abstractmethod
    def initial(self, tokenizer: PreTrainedTokenizerBase, seed: int) -> PreTrainedModel:
        """The model in fp32; the seed matters only where weights are drawn."""


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
    def trains_tokenizer(self) -> bool:
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

    def initial(self, tokenizer: PreTrainedTokenizerBase, seed: int) -> PreTrainedModel:
        import torch
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
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return LlamaForCausalLM(config)


@dataclass(kw_only=True)
class Pretrained(Model):
    """Any causal language model of transformers, by its name on the hub or as a local folder."""

    path: str
    revision: str | None
    trust_remote_code: bool

    def __post_init__(self) -> None:
        if not self.path:
            raise UserError("model.path is empty.", "model.path=FOLDER, or a name on the hub")
        self.path = str(Path(self.path).expanduser()) if self.path.startswith("~") else self.path

    @property
    def label(self) -> str:
        return Path(self.path).name.lower()

    def content(self) -> dict[str, Any]:
        return content_of(self.path, self.revision)

    def tokenizer_identity(self) -> dict[str, Any]:
        return {"kind": "the model's own"} | self.content()

    def tokenizer(self, texts: Iterable[str]) -> PreTrainedTokenizerBase:
        from transformers import AutoTokenizer

        with loading(self.path, "a causal language model"):
            tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(self.path, **self._hub_options())
        if tokenizer.eos_token_id is None:
            raise UserError(f"the tokenizer of {self.path} has no end-of-sequence token.", "Choose another model.path.")
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token  # padding is masked wherever it occurs
        return tokenizer

    def initial(self, tokenizer: PreTrainedTokenizerBase, seed: int) -> PreTrainedModel:
        import torch
        from transformers import AutoModelForCausalLM

        with loading(self.path, "a causal language model"):
            # fp32 master weights: transformers would load the stored type otherwise
            model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(self.path, dtype=torch.float32, **self._hub_options())
        return with_plain_decoding(model, tokenizer)

    def _hub_options(self) -> dict[str, Any]:
        return revision_options(self.path, self.revision) | {"trust_remote_code": self.trust_remote_code}


def with_plain_decoding(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """The model without the decoding options it was published with: answers are draws from π, as ``generation=`` says."""
    from transformers import GenerationConfig

    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id, eos_token_id=end_tokens(model, tokenizer), pad_token_id=tokenizer.pad_token_id
    )
    return model


def end_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The tokens that end a response: the tokenizer's end of sequence, and those that the model was published with."""
    published: int | list[int] | None = model.generation_config.eos_token_id if model.generation_config else None
    more = [] if published is None else [published] if isinstance(published, int) else published
    return list(dict.fromkeys([int(tokenizer.eos_token_id), *more]))


def load_policy(directory: Path) -> PreTrainedModel:
    """A saved policy, in fp32."""
    import torch
    from transformers import AutoModelForCausalLM

    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    return model


def load_tokenizer(directory: Path) -> PreTrainedTokenizerBase:
    """A saved tokenizer."""
    from transformers import AutoTokenizer

    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(directory)
    return tokenizer
