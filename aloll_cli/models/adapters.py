"""Adapters: a few small trainable matrices, while the model's own weights are frozen."""

from __future__ import annotations

import json
import warnings
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aloll_cli.errors import UserError
from aloll_cli.files import read_json, write_json
from aloll_cli.schema import COUNT, numbers
from aloll_cli.store.hub import ADAPTER, adapter_folder, loading

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(kw_only=True)
class Adapter(ABC):
    """A set of parameters that is trained instead of the model's own weights."""

    def prepare(self, model: PreTrainedModel, seed: int) -> None:
        """Add a new adapter to a model, unless it has one already, which is then trained further."""
        if not has_adapter(model):
            self.add(model, seed)
        _train_in_fp32(model)

    @abstractmethod
    def add(self, model: PreTrainedModel, seed: int) -> None:
        """Add a new adapter to a model; its weights are initialized from the seed."""


@dataclass(kw_only=True)
class Lora(Adapter):
    """LoRA: W + alpha / r · B·A for each target matrix W, with random A and B = 0 at the start (Hu et al. 2021)."""

    r: int = field(metadata=COUNT)
    alpha: float = field(metadata=numbers("(0, 65536]", 16.0))
    dropout: float = field(metadata=numbers("[0, 1)", 0.05))
    targets: list[str] | None

    def __post_init__(self) -> None:
        if self.targets == []:
            raise UserError("adapter.targets is empty: there are no parameters to train.", "adapter.targets=null")

    def add(self, model: PreTrainedModel, seed: int) -> None:
        import torch
        from peft import LoraConfig

        for target in self.targets or ():
            if not any(name == target or name.endswith(f".{target}") for name, _ in model.named_modules()):
                raise self._unknown([target], model)
        config = LoraConfig(
            r=self.r,
            lora_alpha=self.alpha,  # type: ignore[arg-type]  # any number works; peft annotates int
            lora_dropout=self.dropout,
            target_modules=self.targets or "all-linear",
            task_type="CAUSAL_LM",
            revision=getattr(model.config, "_commit_hash", None),
        )
        known = self._unknown(self.targets or [], model)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            try:
                model.add_adapter(config)
            except ValueError as error:
                if self.targets is None:
                    raise
                raise known from error
        _check_ties(model)

    def _unknown(self, targets: list[str], model: PreTrainedModel) -> UserError:
        layers = {name.rpartition(".")[2] for name, part in model.named_modules() if getattr(part, "weight", None) is not None}
        what = f"adapter.targets: {type(model).__name__} has no layers named {', '.join(targets)}, or LoRA does not support them."
        return UserError(what, f"Its layers: {', '.join(sorted(layers))}.")


@dataclass(kw_only=True)
class Given(Adapter):
    """The adapter that ``model.adapter`` names, trained further; its initial weights are π_ref's."""

    def add(self, model: PreTrainedModel, seed: int) -> None:
        raise AssertionError("settings/checks.py refuses models without an adapter")


def has_adapter(model: PreTrainedModel) -> bool:
    """Whether a model has an adapter."""
    return bool(getattr(model, "_hf_peft_config_loaded", False))


def attach(model: PreTrainedModel, path: str, revision: str | None = None) -> None:
    """Load a saved adapter into a model, from a folder or hub name, with weights in fp32.

    Raises:
        UserError: the adapter is not available, or does not fit the model.
    """
    import torch
    from peft import PeftConfig, load_peft_weights, set_peft_model_state_dict

    folder = str(adapter_folder(path, revision))
    misfit = UserError(f"{path} is not an adapter for this {type(model).__name__}.", "Set model.path to its base model.")
    with loading(path, "a peft adapter for this model"):
        config = PeftConfig.from_pretrained(folder)
        if getattr(config, "modules_to_save", None) and model.dtype != torch.float32:
            raise UserError(
                f"{path} contains full layers ({', '.join(config.modules_to_save)}), which are supported in fp32 only.",
                "model.dtype=float32",
            )
        config.inference_mode = False
        try:
            model.add_adapter(config)
            _train_in_fp32(model)  # before loading the weights, which would be rounded to the model's dtype
            weights = load_peft_weights(folder, device="cpu")
            found: Any = set_peft_model_state_dict(
                model, {name.removeprefix("base_model.model."): weight for name, weight in weights.items()}
            )
        except (RuntimeError, ValueError) as error:  # shapes differ; layers are missing
            raise misfit from error
    if found.unexpected_keys or any("lora_" in name for name in found.missing_keys):
        raise misfit
    _check_ties(model)


def save_adapter(model: PreTrainedModel, folder: Path) -> None:
    """Save a model's adapter in peft's format, deterministically down to the bytes."""
    model.save_pretrained(folder)
    config = read_json(folder / ADAPTER)
    # peft writes sets of names in hash order, which changes from run to run
    write_json(folder / ADAPTER, {key: sorted(value) if isinstance(value, list) else value for key, value in config.items()})


def base_of(folder: Path) -> str | None:
    """The base model of the adapter in a folder, or None if the folder contains no adapter.

    Raises:
        UserError: the adapter names no base model.
    """
    file = folder / ADAPTER
    if not file.exists():
        return None
    try:
        base = json.loads(file.read_text(encoding="utf-8"))["base_model_name_or_path"]
    except (ValueError, KeyError, TypeError):
        base = None
    if not isinstance(base, str):
        raise UserError(f"{file} has no base_model_name_or_path.", "Save the adapter again with peft.")
    return base


def set_base(folder: Path, base: str) -> None:
    """Set the base model of the adapter in a folder, a folder or hub name."""
    write_json(folder / ADAPTER, read_json(folder / ADAPTER) | {"base_model_name_or_path": base})


def merged(model: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """The model with a saved adapter merged into its weights."""
    from peft import PeftModel
    from transformers.pytorch_utils import Conv1D

    if any(getattr(part, "source_cls", None) is Conv1D for part in model.modules()):
        raise UserError(f"the 4-bit layers of {type(model).__name__} cannot be converted back to full precision.", "merge=false")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft uses a deprecated name of transformers
        plain: Any = PeftModel.from_pretrained(model, str(folder))
    merged: PreTrainedModel = plain.merge_and_unload()
    return merged


def _train_in_fp32(model: PreTrainedModel) -> None:
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


def _check_ties(model: PreTrainedModel) -> None:
    """Raises UserError if an adapter is on tied weights: one on the head would change the embeddings, or vice versa."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    if model.config.get_text_config().tie_word_embeddings and any(isinstance(part, BaseTunerLayer) for part in ends):
        what = f"{type(model).__name__} ties the weights of its head and its embeddings: neither can have an adapter."
        raise UserError(what, "adapter.targets=null")
