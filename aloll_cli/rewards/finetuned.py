"""A neural reward fine-tuned on the stored rewards of the data: a small model from scratch, or any published one.

It is fine-tuned on half of the prompts (artifacts/finetuned_reward.py), its counterpart on the others.
``aloll run task=local task.path=replies.jsonl reward=finetuned``
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aloll_cli.errors import UserError
from aloll_cli.foreign import checked_json, number, record
from aloll_cli.models.adapters import Adapter, Given
from aloll_cli.models.base import Model, Numbers, Placement
from aloll_cli.models.optimizers import Adamw
from aloll_cli.models.pretrained import Pretrained
from aloll_cli.rewards.base import Reward, Row, Scorer
from aloll_cli.rewards.objectives import Labels, Pairs, Regression
from aloll_cli.rewards.ratings import Prompts
from aloll_cli.rewards.reading import Reader
from aloll_cli.rewards.text_models import Encoded, TextModelScorer
from aloll_cli.runtime.device import uses_gpu
from aloll_cli.schema import COUNT, OPERATIONAL, SEED, numbers

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

    from aloll_cli.rewards.objectives import Objective

MODEL, SCALE = "model", "scale.json"  # what is kept of the fine-tuned model
SCALED = record({"shift": number, "scale": number})


class Goal(Enum):
    """What the model is fitted to, and its loss."""

    regression = "ratings: squared error of the standardized rating"
    pairs = "which of two responses to one prompt is rated higher: Bradley-Terry"
    labels = "labels 0 and 1: cross-entropy"


OBJECTIVES: dict[Goal, Objective] = {Goal.regression: Regression(), Goal.pairs: Pairs(), Goal.labels: Labels()}


class Activation(Enum):
    """How the score becomes the reward."""

    sigmoid = "sigmoid of the score; of labels, the probability of 1"
    none = "the score, unbounded; of regression, the rating on its own scale"


@dataclass(kw_only=True)
class Finetuned(Reward):
    """The score of prompt and response by a fine-tuned model; it is fitted to the stored rewards of half of the prompts."""

    objective: Goal
    activation: Activation
    prompts: Prompts
    body: Model
    adapter: Adapter | None  # None: all weights are trained
    optimizer: Adamw
    seed: int = field(metadata=SEED)
    epochs: float = field(metadata=numbers("(0, 1000000]", 3.0))
    batch_size: int = field(metadata=COUNT)
    eval_every: int = field(metadata=COUNT)
    max_prompt_tokens: int = field(metadata=COUNT)
    max_response_tokens: int = field(metadata=COUNT)
    batch_tokens: int = field(metadata=OPERATIONAL | COUNT)

    def __post_init__(self) -> None:
        if isinstance(self.adapter, Given) or self.body.has_adapter:
            hint = "reward.body.adapter=null, with reward.body.path=FOLDER of the merged model (aloll export merges one)"
            raise UserError("reward=finetuned starts from a model without an adapter.", hint)
        if isinstance(self.body, Pretrained) and self.body.quantization is not None:
            raise UserError(
                f"reward.body.quantization={self.body.quantization.name}: rewards are fine-tuned in 16 or 32 bits.",
                "reward.body.quantization=null reward.body.dtype=bfloat16",
            )
        self.check_context(self.body.limit)

    def check_context(self, positions: int | None) -> None:
        """Raises UserError if prompt, response and end token may be longer than the model can read."""
        needed = self.max_prompt_tokens + self.max_response_tokens + 1
        if positions is not None and needed > positions:
            raise UserError(
                f"reward=finetuned may read {needed} tokens (reward.max_prompt_tokens + reward.max_response_tokens + 1), but its "
                f"model reads at most {positions}.",
                f"reward.max_prompt_tokens={positions // 2} reward.max_response_tokens={positions - positions // 2 - 1}",
            )

    @property
    def label(self) -> str:
        return "finetuned_second_half" if self.prompts is Prompts.second_half else "finetuned"

    @property
    def range(self) -> tuple[float, float]:
        return (float("-inf"), float("inf")) if self.activation is Activation.none else (0.0, 1.0)

    @property
    def fitted_to(self) -> Objective:
        """Its loss."""
        return OBJECTIVES[self.objective]

    @property
    def is_fitted(self) -> bool:
        return True

    @property
    def reads_edges(self) -> bool:
        """A model from scratch has no chat template, and reads what stands between prompt and response as well."""
        return not self.body.from_scratch

    @property
    def downloads(self) -> bool:
        return isinstance(self.body, Pretrained) and not Path(self.body.path).is_dir()

    def content(self) -> dict[str, Any]:
        return self.body.content()

    @property
    def read_from(self) -> str:
        return super().read_from if self.body.from_scratch else self.body.address

    def held_out(self) -> Reward | None:
        """The same, on the other half of the prompts and with another seed."""
        others = self.prompts.others
        return replace(self, prompts=others, seed=self.seed ^ 1) if others else None

    def reader(self, tokenizer: PreTrainedTokenizerBase) -> Reader:
        """What makes tokens of rows."""
        return Reader(tokenizer, self.max_prompt_tokens, self.max_response_tokens)

    def raw(self) -> Finetuned:
        """The same with predictions as they are, for comparison with stored rewards."""
        return replace(self, activation=Activation.none)

    def scorer(self, state: Path | None) -> Scorer:
        assert state is not None
        return _FinetunedScorer(self, state)


class _FinetunedScorer(TextModelScorer):
    def __init__(self, reward: Finetuned, state: Path) -> None:
        import torch

        from aloll_cli.models.saving import load_tokenizer
        from aloll_cli.models.text_scores import load

        scale = checked_json(state / SCALE, SCALED)
        self._shift, self._scale = scale["shift"], scale["scale"]
        self._is_logit = reward.activation is Activation.none
        self._tokenizer = load_tokenizer(state / MODEL, reward.body.trusts_code)
        self._reader = reward.reader(self._tokenizer)
        self._numbers = Numbers(reward.body.dtype, reward.adapter is None, None)
        place = Placement(torch.device("cuda" if uses_gpu() else "cpu"), self._numbers.of_weights, None)
        model = load(reward.body, reward.adapter, self._tokenizer, reward.seed, place, state / MODEL)
        super().__init__(model, reward.batch_tokens)

    def encode(self, rows: Sequence[Row]) -> Encoded:
        ids, cut = self._reader.read(rows)
        return Encoded({"input_ids": ids, "attention_mask": [[1] * len(row) for row in ids]}, cut.sum(axis=1).tolist())

    def scores(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        with self._numbers.computing(self._model.device):
            score: torch.Tensor = self._model(**inputs).logits[:, 0].double()
        return self._shift + self._scale * score if self._is_logit else score.sigmoid()

    def pad_for(self, rows: list[list[int]]) -> int:
        from aloll_cli.models.text_scores import padding_id

        return padding_id(self._model, self._tokenizer, rows)
