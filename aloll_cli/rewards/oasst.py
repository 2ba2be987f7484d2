"""The published reward models of Open Assistant: GPT-NeoX with a linear head on the last token of a dialogue.

``aloll run task=hha reward=oasst reward.path=FOLDER``
Input: ``<|prompter|>Hi<|endoftext|><|assistant|>Hello!<|endoftext|>``
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aloll_cli.errors import UserError
from aloll_cli.rewards.base import Row, Scorer
from aloll_cli.rewards.text_models import Encoded, TextModel, TextModelScorer
from aloll_cli.store.hub import loading

if TYPE_CHECKING:
    import torch

    from aloll_cli.tasks.base import Turn

WHAT = "a reward model of Open Assistant (model_type gpt_neox_reward_model)"
SPEAKERS, END = {"user": "<|prompter|>", "assistant": "<|assistant|>"}, "<|endoftext|>"


class Activation(Enum):
    """How the logit becomes the reward."""

    sigmoid = "sigmoid of the logit"
    none = "the logit, unbounded"


@dataclass(kw_only=True)
class Oasst(TextModel):
    """The score of a dialogue by a reward model of Open Assistant; system turns are left out."""

    activation: Activation

    @property
    def label(self) -> str:
        return Path(self.path).name.lower()

    @property
    def range(self) -> tuple[float, float]:
        return (float("-inf"), float("inf")) if self.activation is Activation.none else (0.0, 1.0)

    @property
    def reads_edges(self) -> bool:
        return False

    def scorer(self, state: Path | None) -> Scorer:
        return _OasstScorer(self)


class _OasstScorer(TextModelScorer):
    def __init__(self, reward: Oasst) -> None:
        from transformers import GPTNeoXConfig, PreTrainedTokenizerFast

        self._activation = reward.activation
        with loading(reward.path, WHAT):
            found, _ = GPTNeoXConfig.get_config_dict(reward.path, **reward.hub_options())
            pooling = found.get("pooling") or "last"
            if found.get("model_type") != "gpt_neox_reward_model" or pooling not in ("last", "mean"):
                kind = f"model_type {found.get('model_type')}, pooling {pooling}"
                raise UserError(f"{reward.path} is not {WHAT}: {kind}.", "reward=classifier reads other classifiers.")
            self._tokenizer = PreTrainedTokenizerFast.from_pretrained(reward.path, **reward.hub_options())
        self._pools_mean = pooling == "mean"
        self._speakers = {role: _control(self._tokenizer, token) for role, token in SPEAKERS.items()}
        self._end = _control(self._tokenizer, END)
        config = GPTNeoXConfig.from_dict(found | {"model_type": "gpt_neox"})
        super().__init__(reward.load(_architecture(), WHAT, config=config, **reward.hub_options()), reward.batch_tokens)
        self._limit = reward.limit(config.max_position_embeddings)

    def encode(self, rows: Sequence[Row]) -> Encoded:
        dialogues = [_dialogue(row) for row in rows]
        said = [turn["content"] for dialogue in dialogues for turn in dialogue]
        texts = iter(self._tokenizer(said, add_special_tokens=False, split_special_tokens=True)["input_ids"])
        whole = [
            [token for turn in dialogue for token in (self._speakers[turn["role"]], *next(texts), self._end)]
            for dialogue in dialogues
        ]
        ids = whole if self._limit is None else [tokens[-self._limit :] for tokens in whole]
        cut = [len(tokens) - len(kept) for tokens, kept in zip(whole, ids, strict=True)]
        return Encoded({"input_ids": ids, "attention_mask": [[1] * len(tokens) for tokens in ids]}, cut)

    def scores(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        import torch

        states, mask = self._model.gpt_neox(**inputs, use_cache=False).last_hidden_state, inputs["attention_mask"]
        if self._pools_mean:
            pooled = (states * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)
        else:
            pooled = states[torch.arange(len(states), device=states.device), mask.sum(dim=1) - 1]
        logits: torch.Tensor = self._model.out_proj(pooled)[:, 0].double()
        return logits if self._activation is Activation.none else logits.sigmoid()


def _dialogue(row: Row) -> list[Turn]:
    """The input of the model: the turns and the response, which continues a last turn of the assistant."""
    turns = [turn for turn in row.turns if turn["role"] != "system"]
    other = next((turn["role"] for turn in turns if turn["role"] not in SPEAKERS), None)
    if other is not None:
        raise UserError(
            f"example {row.id}: reward=oasst expected turns of user and assistant, got {other}.",
            "Choose a reward with a template, such as reward=classifier.",
        )
    opened = turns.pop()["content"] if turns and turns[-1]["role"] == "assistant" else ""
    reply: Turn = {"role": "assistant", "content": (opened + row.text).strip()}
    return [*turns, reply]


def _control(tokenizer: Any, token: str) -> int:
    """The id of a control token, checked not to be produced from text."""
    if token not in tokenizer.get_vocab():
        raise UserError(f"the tokenizer of {tokenizer.name_or_path} has no token {token}: it does not belong to {WHAT}.")
    control = int(tokenizer.convert_tokens_to_ids(token))
    if control in tokenizer(token, add_special_tokens=False, split_special_tokens=True)["input_ids"]:
        raise UserError(
            f"the tokenizer of {tokenizer.name_or_path} reads {token} in text as a control token.",
            "Add it to the tokenizer's special tokens (additional_special_tokens) and save the tokenizer.",
        )
    return control


def _architecture() -> type[Any]:
    """The published architecture, which is not in transformers: weights gpt_neox.… and out_proj.…."""
    from torch import nn
    from transformers import GPTNeoXModel, GPTNeoXPreTrainedModel

    class GPTNeoXRewardModel(GPTNeoXPreTrainedModel):
        def __init__(self, config: Any) -> None:
            super().__init__(config)
            self.gpt_neox = GPTNeoXModel(config)
            self.out_proj = nn.Linear(config.hidden_size, 1)
            self.post_init()  # type: ignore[no-untyped-call]

    return GPTNeoXRewardModel
