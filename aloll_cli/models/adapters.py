"""Adapters: a few small matrices that train, while the model's own weights stay as they are."""

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

        for target in self.targets or ():
            if not any(name == target or name.endswith(f".{target}") for name, _ in model.named_modules()):
                raise self._unknown([target], model)
        config = LoraConfig(
            r=self.r,
            lora_alpha=self.alpha,  # type: ignore[arg-type]  # a factor; peft only says int
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
        what = f"adapter.targets: {type(model).__name__} has no layers {', '.join(targets)}, or none that can be adapted."
        return UserError(what, f"Its layers: {', '.join(sorted(layers))}.")


@dataclass(kw_only=True)
class Given(Adapter):
    """The adapter that ``model.adapter`` names, trained further; as it was at the start it is π_ref's."""

    def add(self, model: PreTrainedModel, seed: int) -> None:
        raise AssertionError("settings.py lets no model without an adapter through")


def has_adapter(model: PreTrainedModel) -> bool:
    """Whether an adapter is on a model."""
    return bool(getattr(model, "_hf_peft_config_loaded", False))


def attach(model: PreTrainedModel, path: str, revision: str | None = None) -> None:
    """Put a saved adapter on a model, by folder or hub name, its weights in 32 bits as they were saved.

    Raises:
        UserError: it cannot be had, or does not fit the model.
    """
    import torch
    from peft import PeftConfig, load_peft_weights, set_peft_model_state_dict

    folder = str(adapter_folder(path, revision))
    misfit = UserError(f"{path} is no adapter for this {type(model).__name__}.", "Name the model that it was trained on.")
    with loading(path, "an adapter of peft for this model"):
        config = PeftConfig.from_pretrained(folder)
        if getattr(config, "modules_to_save", None) and model.dtype != torch.float32:
            raise UserError(
                f"{path} holds whole layers ({', '.join(config.modules_to_save)}), which compute in 32 bits only.",
                "model.dtype=float32",
            )
        config.inference_mode = False
        try:
            model.add_adapter(config)
            _train_in_fp32(model)  # before the weights come, which would be rounded to the model's type
            weights = load_peft_weights(folder, device="cpu")
            found: Any = set_peft_model_state_dict(
                model, {name.removeprefix("base_model.model."): weight for name, weight in weights.items()}
            )
        except (RuntimeError, ValueError) as error:  # of another size; of other layers
            raise misfit from error
    if found.unexpected_keys or any("lora_" in name for name in found.missing_keys):
        raise misfit
    _check_ties(model)


def save_adapter(model: PreTrainedModel, folder: Path) -> None:
    """Write a model's adapter as peft and ``AutoModelForCausalLM.from_pretrained`` open it, always with the same bytes."""
    model.save_pretrained(folder)
    config = read_json(folder / ADAPTER)
    # peft writes sets of names, in the order of their hashes
    write_json(folder / ADAPTER, {key: sorted(value) if isinstance(value, list) else value for key, value in config.items()})


def base_of(folder: Path) -> str | None:
    """The model that the adapter in a folder belongs to, or None where the folder holds no adapter.

    Raises:
        UserError: the adapter does not say.
    """
    file = folder / ADAPTER
    if not file.exists():
        return None
    try:
        base = json.loads(file.read_text(encoding="utf-8"))["base_model_name_or_path"]
    except (ValueError, KeyError, TypeError):
        base = None
    if not isinstance(base, str):
        raise UserError(f"{file} names no base_model_name_or_path.", "Write the adapter again with peft.")
    return base


def set_base(folder: Path, base: str) -> None:
    """Let the adapter in a folder belong to a model of that name or place."""
    write_json(folder / ADAPTER, read_json(folder / ADAPTER) | {"base_model_name_or_path": base})


def merged(model: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """A plain model with a saved adapter added to its weights."""
    from peft import PeftModel
    from transformers.pytorch_utils import Conv1D

    if any(getattr(part, "source_cls", None) is Conv1D for part in model.modules()):
        raise UserError(f"the 4-bit layers of {type(model).__name__} cannot be turned back into whole ones.", "merge=false")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers by an old name
        plain: Any = PeftModel.from_pretrained(model, str(folder))
    merged: PreTrainedModel = plain.merge_and_unload()
    return merged


def _train_in_fp32(model: PreTrainedModel) -> None:
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


def _check_ties(model: PreTrainedModel) -> None:
    """Raises UserError where an adapter of the head would be one of the embeddings, too, or the other way round."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    if model.config.get_text_config().tie_word_embeddings and any(isinstance(part, BaseTunerLayer) for part in ends):
        what = f"{type(model).__name__} shares the weights of its head and its embeddings: an adapter can be on neither."
        raise UserError(what, "adapter.targets=null")
