"""Artifacts that a language model can be loaded from, and models that are used as loaded."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterable
from functools import cached_property
from typing import TYPE_CHECKING, Any

from aloll_cli.artifacts.examples import Examples
from aloll_cli.artifacts.tokenizer import Tokenizer
from aloll_cli.errors import UserError
from aloll_cli.files import write_json
from aloll_cli.models.base import Dtype, Model, Placement
from aloll_cli.models.saving import in_memory
from aloll_cli.runtime.determinism import use_deterministic_algorithms
from aloll_cli.schema import identity, plain
from aloll_cli.settings.checks import too_long
from aloll_cli.store.outside import unchanged
from aloll_cli.store.store import Artifact, Job, upstream

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class PolicySource(Artifact):
    """An artifact that a language model can be loaded from."""

    model: Model  # the model that it was fine-tuned from, or is

    @property
    def has_adapter(self) -> bool:
        """Whether the model has an adapter."""
        return self.model.has_adapter

    @abstractmethod
    def load(self, job: Job, in_full: bool = False) -> PreTrainedModel:
        """The model in eval mode, on this process's device.

        Args:
            job: the build that it is loaded for.
            in_full: load all weights in fp32, because they will be trained.
        """

    @abstractmethod
    def load_base(self, job: Job) -> PreTrainedModel:
        """The base model for adapters that are trained from this policy."""

    @abstractmethod
    def address(self, job: Job) -> str:
        """The folder or hub name of that base model."""

    def loaded_from(self) -> list[Artifact]:
        """The artifacts besides this one that loading it reads."""
        return []

    def stopped_early(self, job: Job) -> dict[str, int] | None:
        """After how many steps of how many its training stopped early, and its patience; None if it did not."""
        return None

    def place(self, job: Job, in_full: bool = False) -> Placement:
        """Device, dtype and attention implementation for loading."""
        if job.runtime.deterministic:
            use_deterministic_algorithms()
        return Placement(job.world.device, Dtype.float32 if in_full else self.model.dtype, job.runtime.attn)


class LoadedPolicy(PolicySource):
    """A model as loaded from the hub or a folder, or from scratch; its weights are not copied."""

    kind, stage = "base-model", "train-reference"

    def __init__(self, model: Model, tokenizer: Tokenizer, seed: int = 0) -> None:
        self.model, self.tokenizer, self.seed = model, tokenizer, seed
        self.name = model.label

    def identity(self) -> dict[str, Any]:
        drawn = {"seed": self.seed} if self.model.from_scratch else {}
        return {"model": identity(self.model), "content": self.content} | drawn

    @cached_property
    def content(self) -> dict[str, Any]:
        """The content of the model's files in the recipe."""
        return self.model.content()

    def inputs(self) -> dict[str, Artifact]:
        return {"tokenizer": self.tokenizer}

    def make(self, job: Job) -> None:
        if job.world.is_main:
            if doubt := self.model.doubt():
                job.log.warn(doubt)
            write_json(job.directory / "model.json", plain(self.model))

    def load(self, job: Job, in_full: bool = False) -> PreTrainedModel:
        with unchanged(self._place, self.content, self.model.content):
            model = self._initial(job, in_full)
            self.model.attach_adapter(model)
            return in_memory(placed(model, job))

    def load_base(self, job: Job) -> PreTrainedModel:
        with unchanged(self._place, self.content, self.model.content):
            return in_memory(placed(self._initial(job), job))

    def loaded_from(self) -> list[Artifact]:
        return [*upstream(self.tokenizer), self.tokenizer]

    def address(self, job: Job) -> str:
        return self.model.address

    @property
    def _place(self) -> str:
        return self.name if self.model.from_scratch else self.model.address

    def _initial(self, job: Job, in_full: bool = False) -> PreTrainedModel:
        return self.model.initial(self.tokenizer.load(job), self.seed, self.place(job, in_full))


def placed(model: PreTrainedModel, job: Job) -> PreTrainedModel:
    """The model on this process's device, in eval mode."""
    from torch import nn

    nn.Module.to(model, job.world.device)
    nn.Module.eval(model)
    return model


def check_context(model: PreTrainedModel, examples: Examples) -> None:
    """Raises UserError if prompt and response together may exceed the context of the model."""
    context = getattr(model.config, "max_position_embeddings", None)
    needed = examples.task.max_prompt_tokens + examples.task.max_response_tokens + 1
    if context is not None and needed > context:
        raise UserError(*too_long(needed, context, examples.task.max_response_tokens))


def trainable_parameters(model: PreTrainedModel) -> str:
    """``trainable parameters: 8,704 of 31,840 (27.3%)``."""
    weights: Iterable[Any] = model.parameters()
    # quant_state holds the original shape of a quantized weight
    sizes = [(math.prod((getattr(p, "quant_state", None) or p).shape), p.requires_grad) for p in weights]
    trainable, total = sum(size for size, trains in sizes if trains), sum(size for size, _ in sizes)
    share = f"{trainable:,} of {total:,} ({trainable / total:.1%})" if trainable < total else f"{total:,} (100%)"
    return f"trainable parameters: {share}"
