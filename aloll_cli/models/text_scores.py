"""Models that give a text one score: the network of a language model or encoder with a linear head on what it makes of the text.

They are sequence classifiers of transformers with one label. Trained as a whole they are saved as such; trained by an adapter
they are saved as the adapter of the network, and the head beside it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from aloll_cli.foreign import Unreadable, damaged, tensors_of
from aloll_cli.models.adapters import Adapter, attach, has_adapter, save_adapter
from aloll_cli.models.base import Model, Placement
from aloll_cli.models.dropout import InTraining
from aloll_cli.models.saving import in_memory
from aloll_cli.store.hub import loading

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

HEAD = "head.safetensors"


class TextScores(InTraining):
    """(B, T) token ids and mask, padded on the right → (B,) fp32 scores."""

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        with self.dropping():
            scores: Tensor = self.model(input_ids=input_ids, attention_mask=attention_mask).logits[:, 0]
        return scores.float()


def to_train(
    body: Model, adapter: Adapter | None, tokenizer: PreTrainedTokenizerBase, seed: int, place: Placement
) -> PreTrainedModel:
    """A model with a new head; all of it is trained, or the head and a new adapter of the network."""
    model = _without_cache(body.scoring(tokenizer, seed, place))
    if adapter is not None:
        adapter.prepare(_network(model), seed)
        for weight in _head(model).values():
            weight.data = weight.data.float()
    return _placed(model, place)


def save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Save what was trained, and the tokenizer."""
    from safetensors.torch import save_file

    model.config.pad_token_id = tokenizer.pad_token_id  # not the one of the batch that was computed last
    if has_adapter(_network(model)):
        save_adapter(_network(model), folder)
        save_file({name: weight.detach().cpu().contiguous() for name, weight in _head(model).items()}, folder / HEAD)
    else:
        model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def load(
    body: Model, adapter: Adapter | None, tokenizer: PreTrainedTokenizerBase, seed: int, place: Placement, folder: Path
) -> PreTrainedModel:
    """The inverse of :func:`save`, in eval mode; the other arguments are those of :func:`to_train`.

    Raises:
        UserError: a file is damaged, or is of another model.
    """
    from transformers import AutoModelForSequenceClassification

    if adapter is None:
        loader: Any = AutoModelForSequenceClassification
        with loading(str(folder), "a sequence classifier"):
            model, found = loader.from_pretrained(
                folder, use_safetensors=True, output_loading_info=True, trust_remote_code=body.trusts_code, **place.options
            )
        with damaged(folder):
            if missing := found["missing_keys"]:
                raise Unreadable(f"has no weights {min(missing)}")
        return _placed(_without_cache(model), place)
    model = _without_cache(body.scoring(tokenizer, seed, place))
    attach(_network(model), str(folder))
    head = _head(model)
    stored = tensors_of(folder / HEAD, *head)
    with damaged(folder / HEAD):
        for name, weight in head.items():
            if stored[name].shape != tuple(weight.shape):
                raise Unreadable(f"has {name} of shape {stored[name].shape} instead of {tuple(weight.shape)}")
            weight.data = torch.from_numpy(stored[name])
    return _placed(model, place)


def padding_id(model: Any, tokenizer: PreTrainedTokenizerBase, rows: list[list[int]]) -> int:
    """The id to pad rows of token ids with.

    The head of a decoder reads the last token whose id is not the padding id. An id that occurs in none of these rows is
    safe, even if the model has no padding token or pads with its end-of-sequence token.
    """
    if not hasattr(model, "score"):
        return int(tokenizer.pad_token_id)
    taken = {token for row in rows for token in row}
    model.config.pad_token_id = next(i for i in range(len(taken) + 1) if i not in taken)
    return int(model.config.pad_token_id)


def positions(model: Any) -> int | None:
    """The number of positions of a model; RoBERTa and similar models start counting after the padding id."""
    found = getattr(model.config, "max_position_embeddings", None)
    offset = getattr(getattr(model.base_model, "embeddings", None), "padding_idx", None)
    return found if found is None or offset is None else found - offset - 1


def _network(model: Any) -> PreTrainedModel:
    """A model without its head."""
    network: PreTrainedModel = model.base_model
    return network


def _head(model: PreTrainedModel) -> dict[str, nn.Parameter]:
    return {name: weight for name, weight in model.named_parameters() if not name.startswith(f"{model.base_model_prefix}.")}


def _without_cache(model: PreTrainedModel) -> PreTrainedModel:
    model.config.use_cache = False
    return model


def _placed(model: PreTrainedModel, place: Placement) -> PreTrainedModel:
    nn.Module.to(model, place.device)
    nn.Module.eval(model)
    return in_memory(model)
