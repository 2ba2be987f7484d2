"""Any sequence classifier of transformers as a reward: sentiment, toxicity, acceptability, or a reward model.

``aloll run reward=classifier reward.path=FOLDER reward.label_name=POSITIVE``
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from aloll_cli.errors import UserError
from aloll_cli.rewards.base import Row, Scorer
from aloll_cli.rewards.templates import CHAT, FIELD, ChatTokens, TemplateTokens, filled
from aloll_cli.rewards.text_models import Encoded, TextModel, TextModelScorer
from aloll_cli.store.hub import loading

if TYPE_CHECKING:
    import torch

WHAT = "a sequence classifier"


class Activation(Enum):
    """How logits become the reward."""

    softmax = "the label's probability among all labels"
    sigmoid = "σ of the label's logit"
    none = "the label's logit, unbounded"


class Side(Enum):
    """The end at which over-long inputs are cut."""

    left = "its beginning"
    right = "its end"


@dataclass(kw_only=True)
class Classifier(TextModel):
    """The score that a sequence classifier gives to one label, for one text or a pair of texts."""

    version: ClassVar[int] = 2  # texts become no control tokens

    label_name: str
    activation: Activation
    text: str
    pair: str | None
    turn_separator: str  # between the turns of {dialogue}
    truncation_side: Side
    trust_remote_code: bool

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.reads_chats:
            return
        if CHAT in self.text + (self.pair or ""):
            raise UserError("{chat} is the whole input of a classifier.", "reward.text='\"{chat}\"' reward.pair=null")
        if not FIELD.search(self.text + (self.pair or "")):
            names = "{prompt}, {response}, {sentence}, {dialogue} and {knowledge}"
            raise UserError(f"reward.text contains none of {names}.", "reward.text='\"{response}\"'")

    @property
    def reads_chats(self) -> bool:
        """Whether it reads prompt and response as its chat template writes them."""
        return self.text == CHAT and self.pair is None

    @property
    def label(self) -> str:
        return f"{Path(self.path).name.lower()}_{self.label_name.lower().replace(':', '_')}"

    @property
    def range(self) -> tuple[float, float]:
        return (float("-inf"), float("inf")) if self.activation is Activation.none else (0.0, 1.0)

    def hub_options(self) -> dict[str, Any]:
        return super().hub_options() | {"trust_remote_code": self.trust_remote_code}

    def scorer(self, state: Path | None) -> Scorer:
        return _ClassifierScorer(self)


class _ClassifierScorer(TextModelScorer):
    def __init__(self, reward: Classifier) -> None:
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        from aloll_cli.models.text_scores import positions

        self._reward = reward
        with loading(reward.path, WHAT):
            self._tokenizer = AutoTokenizer.from_pretrained(
                reward.path, truncation_side=reward.truncation_side.name, **reward.hub_options()
            )
        super().__init__(reward.load(AutoModelForSequenceClassification, WHAT, **reward.hub_options()), reward.batch_tokens)
        config = self._model.config
        self._label = _index_of(reward.label_name, config)
        _check_activation(reward.activation, config)
        self._name = config.id2label[self._label]
        limit = reward.limit(positions(self._model), self._tokenizer.model_max_length)
        if reward.reads_chats and self._tokenizer.chat_template is None:
            raise UserError(
                f"reward.text={CHAT}: the tokenizer of {reward.path} has no chat template.", "reward.text='\"{response}\"'"
            )
        self._chats = ChatTokens(self._tokenizer, limit) if reward.reads_chats else None
        self._tokens = TemplateTokens(self._tokenizer, [reward.text, reward.pair or "", reward.turn_separator], limit)

    def told(self) -> str:
        labels = self._model.config.num_labels
        return f'label {self._label} "{self._name}" of {labels}; the reward is {self._reward.activation.value}'

    def warning(self) -> str | None:
        if self._tokenizer.chat_template is None or self._chats is not None:
            return None
        return (
            f"{self._reward.path} has a chat template, but reads reward.text={self._reward.text} without it; "
            f"reward.text='\"{CHAT}\"' gives it prompt and response as its template writes them"
        )

    def encode(self, rows: Sequence[Row]) -> Encoded:
        reward = self._reward
        if self._chats is not None:
            return self._chats.encode(rows)
        texts = [filled(reward.text, row, reward.turn_separator) for row in rows]
        pairs = None if reward.pair is None else [filled(reward.pair, row, reward.turn_separator) for row in rows]
        return self._tokens.encode(texts, pairs)

    def scores(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        logits: torch.Tensor = self._model(**inputs).logits.double()
        if self._reward.activation is Activation.softmax:
            logits = logits.softmax(dim=-1)
        elif self._reward.activation is Activation.sigmoid:
            logits = logits.sigmoid()
        return logits[:, self._label]

    def pad_for(self, rows: list[list[int]]) -> int:
        from aloll_cli.models.text_scores import padding_id

        return padding_id(self._model, self._tokenizer, rows)


def _index_of(name: str, config: Any) -> int:
    """The index of a label: by name or number, or unambiguously by ``name:NAME`` or ``index:NUMBER``; of one label, 1 is it.

    Raises:
        UserError: there is no such label, or there are several.
    """
    labels = {int(index): str(label) for index, label in config.id2label.items() if int(index) < config.num_labels}
    kind, colon, rest = name.partition(":")
    by_name = rest if colon and kind == "name" else name
    by_index = rest if colon and kind == "index" else name
    exact = {index for index, label in labels.items() if label == by_name}
    found = exact or {index for index, label in labels.items() if label.lower() == by_name.lower()}
    if by_index.isascii() and by_index.isdecimal() and int(by_index) in labels:
        found |= {int(by_index)}
    if not found and len(labels) == 1 and name == "1":
        found = set(labels)
    if len(found) == 1:
        return found.pop()
    listed = f"Its labels: {', '.join(f'{index} {labels[index]}' for index in sorted(labels))}."
    if not found:
        raise UserError(f"reward.label_name={name}: the classifier has no such label.", listed)
    which = " and ".join(f'"{labels[index]}" (index {index})' for index in sorted(found))
    ways = " or ".join(f"reward.label_name=index:{index}" for index in sorted(found))
    raise UserError(f"reward.label_name={name}: the classifier has several such labels, {which}.", f"{ways}. {listed}")


def _check_activation(activation: Activation, config: Any) -> None:
    """Raises UserError where the softmax over all labels is not what the classifier was trained with."""
    if activation is not Activation.softmax:
        return
    if config.num_labels == 1:
        why, hint = "has one label, whose softmax is 1 for every text", "reward.activation=sigmoid, or none for the logit itself"
    elif config.problem_type == "multi_label_classification":
        why = "gives each label a probability of its own (problem_type multi_label_classification), which a softmax changes"
        hint = "reward.activation=sigmoid, or none for the logit itself"
    elif config.problem_type == "regression":
        why, hint = "predicts numbers (problem_type regression), which are no logits", "reward.activation=none"
    else:
        return
    raise UserError(f"reward.activation=softmax: the classifier {why}.", hint)
