"""Rewards that a saved model reads off a text: where its weights come from, what it is given at a time, what is cut."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aloll_cli.errors import UserError
from aloll_cli.rewards.base import Reward, Row, Scorer
from aloll_cli.schema import COUNT, OPERATIONAL
from aloll_cli.store.hub import content_of, expanded, loading, revision_options
from aloll_cli.text.packing import by_tokens

if TYPE_CHECKING:
    import torch

    from aloll_cli.arrays import FloatArray, IntArray


class Dtype(Enum):
    """In which numbers the model computes."""

    float32 = "32 bits"
    bfloat16 = "16 bits with the range of 32"
    float16 = "16 bits"


@dataclass(kw_only=True)
class TextModel(Reward):
    """A saved model that reads text and gives a number."""

    path: str = field(metadata=OPERATIONAL)  # its content is what counts
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

    def hub_options(self) -> dict[str, Any]:
        """What ``from_pretrained`` is told beside the path."""
        return revision_options(self.path, self.revision)

    def load(self, architecture: Any, what: str, **options: Any) -> Any:
        """The model on its device, dropout off.

        Args:
            architecture: a class of transformers with ``from_pretrained``.
            what: what it is, for messages.
            options: for ``from_pretrained``.

        Raises:
            UserError: it cannot be loaded, has pickled weights only, or lacks some, its head perhaps.
        """
        import torch

        with loading(self.path, what):
            model, found = architecture.from_pretrained(
                self.path, dtype=getattr(torch, self.dtype.name), use_safetensors=True, output_loading_info=True, **options
            )
        if found["missing_keys"]:
            # transformers would draw them at random, and the reward with them
            raise UserError(
                f"{self.path} lacks weights of {type(model).__name__}: {', '.join(sorted(found['missing_keys'])[:3])}.",
                f"It must be {what}, trained as one.",
            )
        return model.to("cuda" if torch.cuda.is_available() else "cpu").eval()

    def limit(self, *limits: int | None) -> int:
        """How many tokens of a text are read: the fewest of what was asked for and what model and tokenizer can."""
        return min(limit for limit in (self.max_tokens, *limits) if limit is not None)


@dataclass(frozen=True)
class Encoded:
    """Rows as a model reads them.

    Attributes:
        inputs: N lists a name, of one length a row: ``input_ids``, ``attention_mask`` and what else the model wants.
        cut: (N,) tokens that did not fit.
    """

    inputs: dict[str, list[list[int]]]
    cut: list[int]


class TextModelScorer(Scorer):
    """Scores in batches of so many tokens; neither batch nor order moves a score by more than rounding."""

    def __init__(self, model: Any, batch_tokens: int) -> None:
        self._model, self._batch_tokens = model, batch_tokens

    @abstractmethod
    def encode(self, rows: Sequence[Row]) -> Encoded:
        """Tokens of each row, cut to what the model reads."""

    @abstractmethod
    def scores(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        """(B, T) inputs padded on the right → (B,) float64 scores."""

    def pad_for(self, rows: list[list[int]]) -> int:
        """The id to pad the rows' ids with."""
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
