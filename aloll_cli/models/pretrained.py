"""Any causal language model of transformers, by hub name or folder."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aloll_cli.errors import UserError
from aloll_cli.files import read_json
from aloll_cli.models.adapters import attach, base_of, merged
from aloll_cli.models.base import Dtype, Head, Model, Placement
from aloll_cli.models.ends import end_tokens
from aloll_cli.schema import OPERATIONAL
from aloll_cli.store.hub import ADAPTER, adapter_folder, content_of, expanded, loading, revision_options

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class Quantization(Enum):
    """How the frozen weights of linear layers are stored while an adapter is trained."""

    nf4 = "4 bits per weight, by bitsandbytes (Dettmers et al. 2023)"


@dataclass(kw_only=True)
class Pretrained(Model):
    """Any causal language model of transformers, by hub name or local folder, optionally with an adapter."""

    path: str = field(metadata=OPERATIONAL)  # the recipe contains hashes of its files instead
    revision: str | None = field(metadata=OPERATIONAL)
    adapter: str | None = field(metadata=OPERATIONAL)
    adapter_revision: str | None = field(metadata=OPERATIONAL)
    quantization: Quantization | None
    double_quantization: bool
    trust_remote_code: bool

    def __post_init__(self) -> None:
        if not self.path:
            raise UserError("model.path is empty.", "Set model.path=FOLDER, or a hub name.")
        self.path = expanded(self.path)
        self.adapter = None if self.adapter is None else expanded(self.adapter)

    @property
    def label(self) -> str:
        return Path(self.path).name.lower()

    @property
    def trusts_code(self) -> bool:
        return self.trust_remote_code

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
            tokenizer.pad_token = tokenizer.eos_token  # padding is always masked
        return tokenizer

    def initial(self, tokenizer: PreTrainedTokenizerBase, seed: int, place: Placement) -> PreTrainedModel:
        from transformers import AutoModelForCausalLM

        options = self._hub_options() | place.options | self._quantized(place)
        with loading(self.path, "a causal language model"):
            loader: Any = AutoModelForCausalLM
            model, found = loader.from_pretrained(self.path, use_safetensors=True, output_loading_info=True, **options)
        check_complete(found["missing_keys"], self.path)
        if self.quantization is None and getattr(model, "is_quantized", False):
            raise UserError(
                f"{self.path} is stored quantized, which cannot be trained.",
                "Set model.path to the original model, and model.quantization=nf4.",
            )
        check_embedding(model, tokenizer, self.path)
        parts: Iterable[Any] = model.modules()
        for part in parts:
            # on some CPUs bitsandbytes would round the scales to bf16 permanently in the first forward pass without gradients
            if hasattr(part, "support_avx512bf16_for_cpu"):
                part.support_avx512bf16_for_cpu = False
        return with_plain_decoding(model, tokenizer)

    def scoring(self, tokenizer: PreTrainedTokenizerBase, seed: int, place: Placement) -> PreTrainedModel:
        import torch
        from transformers import AutoModelForSequenceClassification

        loader: Any = AutoModelForSequenceClassification
        options = self._hub_options() | place.options | {"num_labels": 1, "ignore_mismatched_sizes": True}
        with loading(self.path, "a text model"), torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            loaded = loader.from_pretrained(self.path, use_safetensors=True, output_loading_info=True, **options)
        model: PreTrainedModel
        model, found = loaded
        body = f"{model.base_model_prefix}."
        check_complete([name for name in found["missing_keys"] if name.startswith(body) and ".pooler." not in name], self.path)
        check_embedding(model, tokenizer, self.path)
        return model

    def text_tokenizer(self) -> PreTrainedTokenizerBase:
        """The model's own tokenizer; an encoder's, which has a separator instead, ends texts with that."""
        from transformers import AutoTokenizer

        with loading(self.path, "a text model"):
            tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(self.path, **self._hub_options())
        for end, instead in (("bos_token", tokenizer.cls_token), ("eos_token", tokenizer.sep_token)):
            if getattr(tokenizer, end) is None and instead is not None:
                setattr(tokenizer, end, instead)
        if tokenizer.eos_token_id is None:
            raise UserError(f"the tokenizer of {self.path} has no token that ends a text.", "Choose another model.")
        return tokenizer

    def empty(self, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
        import torch
        from transformers import AutoConfig, AutoModelForCausalLM

        with loading(self.path, "a causal language model"):
            config = AutoConfig.from_pretrained(self.path, **self._hub_options())
        with torch.device("meta"):
            model: PreTrainedModel = AutoModelForCausalLM.from_config(config, trust_remote_code=self.trust_remote_code)
        return model

    @property
    def has_adapter(self) -> bool:
        return self.adapter is not None

    def is_at(self, path: str) -> bool:
        """Whether a folder or hub name, which must exist, is this model, its adapter apart."""
        return path == self.path or content_of(path, None) == content_of(self.path, self.revision)

    def check_merge(self) -> None:
        import torch

        folder = None if self.adapter is None else adapter_folder(self.adapter, self.adapter_revision)
        if folder is not None and read_json(folder / ADAPTER).get("lora_bias"):  # merges only where the layers have a bias
            place = Placement(torch.device("cpu"), Dtype.float32, None)
            merged(self.initial(self.tokenizer([]), 0, place), folder)

    def doubt(self) -> str | None:
        return None if self.adapter is None else self._doubt_of_base() or self._doubt_of_tokenizer()

    def _doubt_of_tokenizer(self) -> str | None:
        """A warning if an adapter comes with another tokenizer or chat template than the base model's, which is used."""
        from transformers import AutoTokenizer

        assert self.adapter is not None
        folder = adapter_folder(self.adapter, self.adapter_revision)
        if not (folder / "tokenizer_config.json").exists():
            return None
        try:
            with loading(self.adapter, "an adapter"):
                other = AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False)
        except UserError:  # it is not used anyway
            return None
        own = self.tokenizer([])
        if own.chat_template == other.chat_template and own.get_vocab() == other.get_vocab():
            return None
        what = "tokenizer" if own.get_vocab() != other.get_vocab() else "chat template"
        return f"{self.adapter} comes with another {what} than model.path={self.path}, whose {what} is used"

    def _doubt_of_base(self) -> str | None:
        """A warning if an adapter may be one of another base model."""
        assert self.adapter is not None
        try:
            base = base_of(adapter_folder(self.adapter, self.adapter_revision))
        except UserError:  # peft can save an adapter without the name of its base
            base = None
        if base is not None and (base == self.path or (not _is_gone(base) and self.is_at(base))):
            return None
        of = f"was trained on {base}" if base is not None else "does not name its base model"
        return f"{self.adapter} {of}; make sure that model.path={self.path} is that model"

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


def check_complete(missing: Iterable[str], name: str) -> None:
    """Raises UserError for weights that a model needs and its files lack: transformers would draw them at random."""
    if lacks := sorted(missing):
        shown = f"{', '.join(lacks[:3])}{', …' if len(lacks) > 3 else ''}"
        raise UserError(
            f"{name} has no weights for {len(lacks):,} of its parts ({shown}), which would be random.",
            "It must be a complete causal language model, as written by save_pretrained: copy all its files, or convert a model "
            "without a language-model head first.",
        )


def check_embedding(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    """Raises UserError if the model may read a token that its embedding has no row for.

    Control tokens without a row are accepted if nothing writes them: Gemma 3's tokenizer has some for images.
    """
    embedding: Any = model.get_input_embeddings()
    rows = int(embedding.weight.shape[0])
    missing = {number: token for number, token in tokenizer.added_tokens_decoder.items() if number >= rows}
    written = {tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token, tokenizer.unk_token}
    template = str(tokenizer.chat_template or "")
    used = [t.content for t in missing.values() if not t.special or t.content in written or t.content in template]
    if len(tokenizer) - len(missing) > rows or used:
        shown = f" ({', '.join(used[:3])}{', …' if len(used) > 3 else ''})" if used else ""
        raise UserError(
            f"the tokenizer of {name} has {len(tokenizer):,} tokens{shown}, but the model's embedding has only {rows:,} rows.",
            f"Resize it with transformers: model.resize_token_embeddings({len(tokenizer)}), and save the model; "
            "or remove the added tokens.",
        )


def saved(folder: str, like: Model) -> Pretrained:
    """A model from any saved folder, complete or an adapter that names its base model, with the dtype of another model.

    Where the adapter's base is not there any more, or is the other model by its content, that other model is its base.
    """
    base = base_of(Path(folder).expanduser())
    of_a_base = like if base is not None and isinstance(like, Pretrained) else None
    is_like = base is not None and of_a_base is not None and (_is_gone(base) or of_a_base.is_at(base))
    return Pretrained(
        head=Head.full,
        dtype=like.dtype,
        path=like.address if is_like else folder if base is None else base,
        revision=of_a_base.revision if of_a_base and is_like else None,
        adapter=None if base is None else folder,
        adapter_revision=None,
        quantization=of_a_base.quantization if of_a_base else None,
        double_quantization=of_a_base.double_quantization if of_a_base else False,
        trust_remote_code=of_a_base.trust_remote_code if of_a_base else False,
    )


def _is_gone(path: str) -> bool:
    """Whether a model is neither a folder nor on the hub, as far as that can be told."""
    try:
        content_of(path, None)
    except UserError:
        return True
    return False


def with_plain_decoding(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """The model without its published decoding options, such as top_k: only ``generation=`` applies.

    The end tokens stay: the published ones, the tokenizer's EOS, and the one of the chat template.
    """
    from transformers import GenerationConfig

    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id, eos_token_id=end_tokens(model, tokenizer), pad_token_id=tokenizer.pad_token_id
    )
    return model
