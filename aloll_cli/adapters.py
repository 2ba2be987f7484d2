"""Adapters: a few small matrices that train, while the model's own weights stay as they are."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aloll_cli.config import COUNT, numbers
from aloll_cli.errors import UserError
from aloll_cli.files import read_json, write_json
from aloll_cli.hub import ADAPTER, adapter_folder, loading

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(kw_only=True)
class Adapter(ABC):
    """What is trained in place of a model's own weights."""

    def prepare(self, model: PreTrainedModel, seed: int) -> None:
        """Put a new adapter on a model, unless it came with one, which is trained further."""
        if not has_adapter(model):
            self.add(model, seed)
        _train_in_fp32(model)

    @abstractmethod
    def add(self, model: PreTrainedModel, seed: int) -> None:
        """Put a new adapter on a model; the seed draws its weights."""


@dataclass(kw_only=True)
class Lora(Adapter):
    """LoRA: W + alpha / r · B·A beside each chosen matrix W, with A drawn and B zero at the start (Hu et al. 2021)."""

    r: int = field(metadata=COUNT)
    alpha: float = field(metadata=numbers("(0, 65536]", 16.0))
    dropout: float = field(metadata=numbers("[0, 1)", 0.05))
    targets: list[str] | None

    def __post_init__(self) -> None:
        if self.targets == []:
            raise UserError("adapter.targets is empty: there would be nothing to train.", "adapter.targets=null")

    def add(self, model: PreTrainedModel, seed: int) -> None:
        import torch
        from peft import LoraConfig

        config = LoraConfig(
            r=self.r,
            lora_alpha=self.alpha,  # type: ignore[arg-type]  # a factor; peft only says int
            lora_dropout=self.dropout,
            target_modules=self.targets or "all-linear",
            task_type="CAUSAL_LM",
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            try:
                model.add_adapter(config)
            except ValueError as error:
                if self.targets is None:
                    raise
                known = sorted({name.rpartition(".")[2] for name, part in model.named_modules() if hasattr(part, "weight")})
                raise UserError(
                    f"adapter.targets={self.targets}: {type(model).__name__} has no such layers, or none that can be adapted.",
                    f"Its layers: {', '.join(known)}.",
                ) from error


@dataclass(kw_only=True)
class Given(Adapter):
    """The adapter that ``model.adapter`` names, trained further; as it was at the start it is π_ref's."""

    def add(self, model: PreTrainedModel, seed: int) -> None:
        raise AssertionError("settings.py lets no model without an adapter through")


def has_adapter(model: PreTrainedModel) -> bool:
    """Whether an adapter is on a model."""
    return bool(getattr(model, "_hf_peft_config_loaded", False))


def attach(model: PreTrainedModel, path: str, revision: str | None = None) -> None:
    """Put a saved adapter on a model, by folder or hub name.

    Raises:
        UserError: it cannot be had, or does not fit the model.
    """
    folder = adapter_folder(path, revision)
    with loading(path, "an adapter of peft for this model"):
        model.load_adapter(str(folder), is_trainable=True)
    _train_in_fp32(model)


def save_adapter(model: PreTrainedModel, folder: Path) -> None:
    """Write a model's adapter as peft and ``AutoModelForCausalLM.from_pretrained`` open it, always with the same bytes."""
    model.save_pretrained(folder)
    config = read_json(folder / ADAPTER)
    # peft writes sets of names, in the order of their hashes
    write_json(folder / ADAPTER, {key: sorted(value) if isinstance(value, list) else value for key, value in config.items()})


def base_of(folder: Path) -> str | None:
    """The model that the adapter in a folder belongs to, where the folder holds an adapter."""
    file = folder / ADAPTER
    return json.loads(file.read_text(encoding="utf-8")).get("base_model_name_or_path") if file.exists() else None


def merged(model: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """A plain model with a saved adapter added to its weights."""
    from peft import PeftModel

    plain: Any = PeftModel.from_pretrained(model, str(folder))
    merged: PreTrainedModel = plain.merge_and_unload()
    return merged


def _train_in_fp32(model: PreTrainedModel) -> None:
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
