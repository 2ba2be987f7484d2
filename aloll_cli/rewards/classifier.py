"""Any sequence classifier of transformers as a reward: sentiment, toxicity, acceptability, a reward model.

``aloll run reward=classifier reward.path=FOLDER reward.label_name=POSITIVE``
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aloll_cli.config import COUNT, OPERATIONAL
from aloll_cli.errors import UserError
from aloll_cli.hub import content_of, expanded, loading, revision_options
from aloll_cli.packing import by_tokens
from aloll_cli.rewards.base import Reward, Row, Scorer

if TYPE_CHECKING:
    import torch

    from aloll_cli.arrays import FloatArray

FIELD = re.compile(r"\{(prompt|response)\}")


class Activation(Enum):
    """What becomes of the logits."""

    softmax = "the label's probability among all labels"
    sigmoid = "σ of the label's logit"
    none = "the label's logit as it is, unbounded"


class Side(Enum):
    """Which end of a text that is too long gives way."""

    left = "its beginning"
    right = "its end"


class Dtype(Enum):
    """In which numbers the classifier computes."""

    float32 = "32 bits"
    bfloat16 = "16 bits with the range of 32"
    float16 = "16 bits"


@dataclass(kw_only=True)
class Classifier(Reward):
    """One label's score of a text, or of two texts, by a sequence classifier."""

    path: str = field(metadata=OPERATIONAL)  # its content is what counts
    revision: str | None = field(metadata=OPERATIONAL)
    label_name: str
    activation: Activation
    text: str
    pair: str | None
    max_tokens: int | None = field(metadata=COUNT)
    truncation_side: Side
    dtype: Dtype
    batch_tokens: int = field(metadata=OPERATIONAL | COUNT)
    trust_remote_code: bool

    def __post_init__(self) -> None:
        if not self.path:
            raise UserError("reward.path is empty.", "reward.path=FOLDER, or a name on the hub")
        self.path = expanded(self.path)
        if not FIELD.search(self.text + (self.pair or "")):
            raise UserError("reward.text names neither {prompt} nor {response}.", "reward.text='\"{response}\"'")

    @property
    def label(self) -> str:
        return f"{Path(self.path).name.lower()}_{self.label_name.lower()}"

    @property
    def range(self) -> tuple[float, float]:
        return (float("-inf"), float("inf")) if self.activation is Activation.none else (0.0, 1.0)

    def content(self) -> dict[str, Any]:
        return content_of(self.path, self.revision)

    def scorer(self, state: Path | None) -> Scorer:
        return _ClassifierScorer(self)


class _ClassifierScorer(Scorer):
    def __init__(self, reward: Classifier) -> None:
        import torch
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        self._reward = reward
        options = revision_options(reward.path, reward.revision) | {"trust_remote_code": reward.trust_remote_code}
        with loading(reward.path, "a sequence classifier"):
            self._tokenizer = AutoTokenizer.from_pretrained(reward.path, truncation_side=reward.truncation_side.name, **options)
            model = AutoModelForSequenceClassification.from_pretrained(
                reward.path, dtype=getattr(torch, reward.dtype.name), **options
            )
        self._model: Any = model.to("cuda" if torch.cuda.is_available() else "cpu").eval()
        self._label = _index_of(reward.label_name, model.config)
        limits = [reward.max_tokens, _positions(model), self._tokenizer.model_max_length]
        self._limit = min(limit for limit in limits if limit is not None)

    def score(self, rows: Sequence[Row]) -> FloatArray:
        import numpy as np
        import torch

        texts = [_filled(self._reward.text, row) for row in rows]
        pairs = None if self._reward.pair is None else [_filled(self._reward.pair, row) for row in rows]
        encoded = self._tokenizer(texts, pairs, truncation=True, max_length=self._limit)
        scores = np.empty(len(rows))
        for chosen in by_tokens([len(ids) for ids in encoded["input_ids"]], self._reward.batch_tokens):
            batch = {name: [values[i] for i in chosen] for name, values in encoded.items()}
            with torch.inference_mode():
                scores[chosen] = self._scores(batch).cpu().numpy()
        return scores

    def _scores(self, batch: dict[str, list[list[int]]]) -> torch.Tensor:
        """(B,) float64 scores of encoded texts, padded on the right."""
        import torch

        pad = {"input_ids": self._pad_for(batch["input_ids"])}
        width = max(map(len, batch["input_ids"]))
        inputs = {
            name: torch.tensor([row + [pad.get(name, 0)] * (width - len(row)) for row in rows], device=self._model.device)
            for name, rows in batch.items()
        }
        logits: torch.Tensor = self._model(**inputs).logits.double()
        if self._reward.activation is Activation.softmax:
            logits = logits.softmax(dim=-1)
        elif self._reward.activation is Activation.sigmoid:
            logits = logits.sigmoid()
        return logits[:, self._label]

    def _pad_for(self, rows: list[list[int]]) -> int:
        """The id to pad with.

        A decoder's head reads the last token that is not padding, by its id: an id that none of these rows holds makes that
        the last real token, also where the model has no padding token or pads with the one that ends texts.
        """
        if not hasattr(self._model, "score"):
            return int(self._tokenizer.pad_token_id)
        taken = {token for row in rows for token in row}
        self._model.config.pad_token_id = next(i for i in range(len(taken) + 1) if i not in taken)
        return int(self._model.config.pad_token_id)


def _index_of(name: str, config: Any) -> int:
    """A label by its name or its number."""
    names = {str(label).lower(): int(index) for index, label in config.id2label.items()}
    index = names.get(name.lower(), int(name) if name.isdigit() else None)
    if index is None or index >= config.num_labels:
        shown = ", ".join(f"{i} {label}" for i, label in sorted(config.id2label.items()))
        raise UserError(f"reward.label_name={name}: the classifier has no such label.", f"Its labels: {shown}.")
    return index


def _positions(model: Any) -> int | None:
    """How many tokens the model has positions for; RoBERTa and its kin count theirs from behind the padding's id."""
    positions = getattr(model.config, "max_position_embeddings", None)
    offset = getattr(getattr(model.base_model, "embeddings", None), "padding_idx", None)
    return positions if positions is None or offset is None else positions - offset - 1


def _filled(template: str, row: Row) -> str:
    return FIELD.sub(lambda found: str(getattr(row, found[1])), template)
