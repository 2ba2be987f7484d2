"""A small randomly initialized Llama, with a tokenizer trained on the data."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aloll_cli.errors import UserError
from aloll_cli.models.base import Model, Placement
from aloll_cli.schema import COUNT, numbers
from aloll_cli.text.words import without_long_words

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


BOS, EOS, PAD = "<s>", "</s>", "<pad>"


@dataclass(kw_only=True)
class Scratch(Model):
    """A Llama from scratch, with a byte-level BPE tokenizer trained on the train split."""

    vocab_size: int = field(metadata=numbers("[300, 2147483647]", 1024))  # 256 bytes, special tokens and merges
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
        bpe.train_from_iterator((piece for text in texts for piece in without_long_words(text)), trainer)
        bpe.post_processor = processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, bpe.token_to_id(BOS))])
        return PreTrainedTokenizerFast(
            tokenizer_object=bpe, bos_token=BOS, eos_token=EOS, pad_token=PAD, clean_up_tokenization_spaces=False
        )

    def initial(self, tokenizer: PreTrainedTokenizerBase, seed: int, place: Placement) -> PreTrainedModel:
        from transformers import LlamaForCausalLM

        return self._drawn(LlamaForCausalLM, tokenizer, seed, place)

    def scoring(self, tokenizer: PreTrainedTokenizerBase, seed: int, place: Placement) -> PreTrainedModel:
        from transformers import LlamaForSequenceClassification

        return self._drawn(LlamaForSequenceClassification, tokenizer, seed, place, num_labels=1)

    def _drawn(
        self, architecture: Any, tokenizer: PreTrainedTokenizerBase, seed: int, place: Placement, **options: Any
    ) -> PreTrainedModel:
        """A model with random weights; ``options`` are further ones of its configuration."""
        import torch
        from torch import nn
        from transformers import LlamaConfig

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
            **options,
            **place.options,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model: PreTrainedModel = architecture(config)
        nn.Module.to(model, place.options["dtype"])
        return model

    def empty(self, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
        import torch

        meta = torch.device("meta")
        with meta:
            return self.initial(tokenizer, 0, Placement(meta, self.dtype, None))
