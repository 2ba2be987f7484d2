"""Rewards computed by a saved text model: loading its weights, batching, and cutting over-long inputs."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aloll_cli.errors import UserError
from aloll_cli.rewards.base import Reward, Row, Scorer
from aloll_cli.runtime.device import uses_gpu
from aloll_cli.schema import COUNT, HUGE, OPERATIONAL
from aloll_cli.store.hub import content_of, expanded, loading, revision_options
from aloll_cli.text.packing import by_tokens

if TYPE_CHECKING:
    import torch

    from aloll_cli.arrays import FloatArray, IntArray


class Dtype(Enum):
    """The number format that the model computes in."""

    float32 = "32 bits"
    bfloat16 = "16 bits, with the range of float32"
    float16 = "16 bits"


@dataclass(kw_only=True)
class TextModel(Reward):
    """A reward computed by a saved model from text."""

    path: str = field(metadata=OPERATIONAL)  # the recipe holds its content, not its path
    revision: str | None = field(metadata=OPERATIONAL)
    max_tokens: int | None = field(metadata=COUNT)
    dtype: Dtype
    batch_tokens: int = field(metadata=OPERATIONAL | COUNT)

    def __post_init__(self) -> None:
        if not self.path:
            raise UserError("reward.path is empty.", "reward.path=FOLDER, or a name on the hub")
        self.path = expanded(self.path)

    @property
    def downloads(self) -> bool:
        return not Path(self.path).is_dir()

    def content(self) -> dict[str, Any]:
        return content_of(self.path, self.revision)

    @property
    def read_from(self) -> str:
        return self.path

    def hub_options(self) -> dict[str, Any]:
        """Options of ``from_pretrained`` in addition to the path."""
        return revision_options(self.path, self.revision) | {"trust_remote_code": False}

    def load(self, architecture: Any, what: str, **options: Any) -> Any:
        """Load the model on its device, in evaluation mode.

        Args:
            architecture: a class of transformers with ``from_pretrained``.
            what: kind of model, for error messages.
            options: passed to ``from_pretrained``.

        Raises:
            UserError: it cannot be loaded, has only pickled weights, or lacks some weights, such as the head.
        """
        import torch

        from aloll_cli.models.saving import in_memory

        with loading(self.path, what):
            model, found = architecture.from_pretrained(
                self.path, dtype=getattr(torch, self.dtype.name), use_safetensors=True, output_loading_info=True, **options
            )
        if found["missing_keys"]:
            # transformers would initialize them at random
            raise UserError(
                f"{self.path} has no weights for {type(model).__name__}: {', '.join(sorted(found['missing_keys'])[:3])}.",
                f"Choose {what} that was trained as one.",
            )
        return in_memory(model.to("cuda" if uses_gpu() else "cpu").eval())

    def limit(self, *limits: int | None) -> int | None:
        """The maximal input length, in tokens: the minimum of max_tokens and the limits of model and tokenizer.

        None if there is none, as of models without positions: their tokenizers have 10³⁰ as their limit.
        """
        return min((limit for limit in (self.max_tokens, *limits) if limit is not None and limit < HUGE), default=None)


@dataclass(frozen=True)
class Encoded:
    """Tokenized rows.

    Attributes:
        inputs: N lists per name, all of a row's length: ``input_ids``, ``attention_mask`` and other inputs of the model.
        cut: (N,) number of tokens cut from each row.
    """

    inputs: dict[str, list[list[int]]]
    cut: list[int]


class TextModelScorer(Scorer):
    """Scores in batches of about ``batch_tokens`` tokens; batches and order change scores by rounding only."""

    def __init__(self, model: Any, batch_tokens: int) -> None:
        self._model, self._batch_tokens = model, batch_tokens

    @abstractmethod
    def encode(self, rows: Sequence[Row]) -> Encoded:
        """The tokens of each row, cut to the maximal length."""

    @abstractmethod
    def scores(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        """(B, T) inputs padded on the right → (B,) float64 scores."""

    def pad_for(self, rows: list[list[int]]) -> int:
        """The padding id for these rows."""
        return 0

    def score(self, rows: Sequence[Row]) -> FloatArray:
        import numpy as np
        import torch

        inputs = self.encode(rows).inputs
        scores = np.empty(len(rows))
        for chosen in by_tokens([len(ids) for ids in inputs["input_ids"]], self._batch_tokens):
            batch = {name: [values[i] for i in chosen] for name, values in inputs.items()}
            with torch.inference_mode():
                scores[chosen] = self.scores(self._padded(batch)).cpu().numpy()
        return scores

    def cut(self, rows: Sequence[Row]) -> IntArray | None:
        import numpy as np

        return np.array(self.encode(rows).cut, dtype=np.int64)

    def _padded(self, batch: dict[str, list[list[int]]]) -> dict[str, torch.Tensor]:
        import torch

        pad = {"input_ids": self.pad_for(batch["input_ids"])}
        width = max(map(len, batch["input_ids"]))
        return {
            name: torch.tensor([row + [pad.get(name, 0)] * (width - len(row)) for row in rows], device=self._model.device)
            for name, rows in batch.items()
        }
