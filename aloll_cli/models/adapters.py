"""Adapters: a few small trainable matrices, while the model's own weights are frozen."""

from __future__ import annotations

import json
import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from aloll_cli.errors import UserError
from aloll_cli.files import read_json, write_json
from aloll_cli.schema import COUNT, numbers
from aloll_cli.store.hub import ADAPTER, adapter_folder, loading

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel


PREFIX = "base_model.model."  # of the names of weights in peft's files
SHARING = ("VERA", "RANDLORA", "VBLORA")  # kinds of adapters whose layers share weights


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

    def prepare(self, model: PreTrainedModel, seed: int) -> None:
        super().prepare(model, seed)
        check_saving(model)

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
    from peft import PeftConfig

    folder = str(adapter_folder(path, revision))
    misfit = UserError(f"{path} is not an adapter for this {type(model).__name__}.", "Set model.path to its base model.")
    with loading(path, "a peft adapter for this model"):
        config = PeftConfig.from_pretrained(folder)
        _check_kind(config, path, model)
        config.inference_mode = False
        try:
            model.add_adapter(config)
            _train_in_fp32(model)  # before loading the weights, which would be rounded to the model's dtype
            left_out = _load_weights(model, folder)
        except (RuntimeError, ValueError, KeyError) as error:  # shapes differ; layers are missing
            raise misfit from error
    if left_out:
        raise UserError(misfit.args[0], f"{misfit.args[1]} Unknown or missing: {left_out[0]}.")
    _check_ties(model)
    if str(config.peft_type.value) != "LORA" or config.bias != "none":
        _check_types(model, path)


def _check_types(model: PreTrainedModel, path: str) -> None:
    """Raises UserError if a layer cannot compute with weights that the adapter keeps in another precision than the model's."""
    import torch

    try:
        with torch.no_grad():
            model(input_ids=torch.ones(1, 2, dtype=torch.long, device=model.device), use_cache=False)
    except RuntimeError as error:
        raise UserError(f"{path} changes layers as a whole, which is supported in fp32 only.", "model.dtype=float32") from error


def _check_kind(config: Any, path: str, model: PreTrainedModel) -> None:
    """Raises UserError where an adapter does more than to change layers, or changes whole ones in 16 bits."""
    import torch

    kind, other = str(config.peft_type.value), "Choose another adapter, or adapter=lora for a new one."
    if config.is_prompt_learning:
        raise UserError(f"{path} ({kind}) adds virtual tokens to prompts, and does not adapt layers.", other)
    if kind in SHARING:
        raise UserError(f"{path} ({kind}) keeps weights that layers share, which peft loads in a model of its own only.", other)
    if getattr(config, "alora_invocation_tokens", None):
        raise UserError(f"{path} is an aLoRA, which acts behind its invocation tokens only; that is not supported.", other)
    if getattr(config, "modules_to_save", None) and model.dtype != torch.float32:
        raise UserError(
            f"{path} contains full layers ({', '.join(config.modules_to_save)}), which are supported in fp32 only.",
            "model.dtype=float32",
        )


def adapter_weights(model: PreTrainedModel) -> dict[str, Tensor]:
    """The weights of a model's adapter, as peft names them."""
    from peft import get_peft_model_state_dict

    found: dict[str, Tensor] = get_peft_model_state_dict(model)
    return found


def save_adapter(model: PreTrainedModel, folder: Path, weights: Mapping[str, Tensor] | None = None) -> None:
    """Save a model's adapter in peft's format, deterministically down to the bytes.

    Args:
        model: the model.
        folder: where.
        weights: those of the adapter, where the model's own are not whole; None: the model's.
    """
    from safetensors.torch import save_file

    (name,) = model.active_adapters()
    config: Any = model.peft_config[name]
    folder.mkdir(parents=True, exist_ok=True)
    config.save_pretrained(folder)
    # peft writes sets of names in hash order, which changes from run to run; the order of a list may mean something
    written = read_json(folder / ADAPTER)
    sets = {key for key in written if isinstance(getattr(config, key, None), set)}
    write_json(folder / ADAPTER, {key: sorted(value) if key in sets else value for key, value in written.items()})
    # copies, because transformers would leave out the second name of tied weights, which peft reads
    found = adapter_weights(model) if weights is None else weights
    copies = {f"{PREFIX}{name}": weight.detach().cpu().clone() for name, weight in found.items()}
    save_file(copies, folder / "adapter_model.safetensors", metadata={"format": "pt"})


def _load_weights(model: PreTrainedModel, folder: str) -> list[str]:
    """Load a saved adapter's weights into a model that has one of this shape; returns the names that do not fit."""
    from peft import load_peft_weights, set_peft_model_state_dict

    weights = load_peft_weights(folder, device="cpu")
    found: Any = set_peft_model_state_dict(model, {name.removeprefix(PREFIX): weight for name, weight in weights.items()})
    trained = {name for name, weight in model.named_parameters() if weight.requires_grad}
    return [*found.unexpected_keys, *(trained & set(found.missing_keys))]


def check_saving(model: PreTrainedModel) -> None:
    """Raises UserError unless the adapter of a model, saved and loaded again, is the same: before it is trained for nothing."""
    trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    kept = {name: weight.detach().clone() for name, weight in trained.items()}
    try:
        with TemporaryDirectory() as folder:
            save_adapter(model, Path(folder))
            for weight in trained.values():
                weight.data.fill_(math.nan)
            lost = _load_weights(model, folder)
        lost += [name for name, weight in trained.items() if not bool((weight == kept[name]).all())]
    except (RuntimeError, ValueError, KeyError) as error:
        lost = [str(error)]
    finally:
        for name, weight in trained.items():
            weight.data.copy_(kept[name])
    if lost:
        what = f"model.adapter: peft cannot load what it saves of this adapter ({lost[0]})"
        raise UserError(f"{what}, so it would be trained for nothing.", "Choose another adapter, or adapter=lora for a new one.")


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
    """The model with a saved adapter merged into its weights. Raises UserError where peft cannot merge it."""
    from peft import PeftModel
    from transformers.pytorch_utils import Conv1D

    if any(getattr(part, "source_cls", None) is Conv1D for part in model.modules()):
        raise UserError(f"the 4-bit layers of {type(model).__name__} cannot be converted back to full precision.", "merge=false")
    with warnings.catch_warnings(), loading(str(folder), "a peft adapter for this model"):
        warnings.simplefilter("ignore", FutureWarning)  # peft uses a deprecated name of transformers
        plain: Any = PeftModel.from_pretrained(model, str(folder))
    if getattr(plain.peft_config["default"], "layer_replication", None):
        _separate(plain.base_model.model)
    try:
        merged: PreTrainedModel = plain.merge_and_unload()
    except (RuntimeError, ValueError, NotImplementedError) as error:
        raise UserError(f"peft cannot merge this adapter into {type(model).__name__}: {error}", "merge=false") from error
    return merged


def _separate(model: PreTrainedModel) -> None:
    """Give layers that an adapter repeats (``layer_replication``) weights of their own; each gets its own product B·A."""
    from torch import nn

    ends: set[int] = {id(weight) for weight in model.get_input_embeddings().parameters()}
    seen: set[int] = set()
    parts: Iterable[nn.Module] = model.modules()
    for part in parts:
        for name, weight in list(part.named_parameters(recurse=False)):
            if id(weight) in seen - ends:
                setattr(part, name, nn.Parameter(weight.detach().clone(), requires_grad=False))
            seen.add(id(weight))


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
        raise UserError(what, "adapter.targets=null, or a model.adapter of other layers")
