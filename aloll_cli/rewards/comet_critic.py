"""The critic of COMET (West et al. 2022, arXiv 2110.07178): RoBERTa with a head of two layers on a triple in words.

``aloll run task=comet task.path=FOLDER reward=comet_critic reward.path=FOLDER``
Input: a pair of texts, ``Alex eats`` and ``but before, Alex needed to buy food``.
Score: σ(w₂ · GELU(W₁ p + b₁) + b₂), with RoBERTa's pooled state p of the first token: 1024 → 512 → 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from aloll_cli.errors import UserError
from aloll_cli.foreign import tensors_of
from aloll_cli.rewards.base import Row, Scorer
from aloll_cli.rewards.templates import Piece, TemplateTokens
from aloll_cli.rewards.text_models import Encoded, TextModel, TextModelScorer
from aloll_cli.store.hub import loading
from aloll_cli.tasks.atomic2020 import triple_of, with_names

if TYPE_CHECKING:
    import torch

WHAT = "the critic of COMET: a RoBERTa with a pooler"
HEAD = "custom_roberta_classification_head"  # .safetensors beside the model; its published form is a pickle, .pt
WEIGHTS = ("dense.weight", "dense.bias", "out_proj.weight", "out_proj.bias")
RELATIONS = {  # in the critic's own words
    "HinderedBy": "can be hindered by",
    "xNeed": "but before, PersonX needed",
    "xWant": "as a result, PersonX wants",
    "xIntent": "because PersonX wanted",
    "xReact": "as a result, PersonX feels",
    "xAttr": "so, PersonX is seen as",
    "xEffect": "as a result, PersonX",
}


@dataclass(kw_only=True)
class CometCritic(TextModel):
    """The plausibility of a commonsense triple, as COMET's critic estimates it; for task=comet."""

    version: ClassVar[int] = 2  # texts become no control tokens

    def __post_init__(self) -> None:
        super().__post_init__()
        folder = Path(self.path)
        if folder.is_dir() and not (folder / f"{HEAD}.safetensors").is_file():
            pickled = (folder / f"{HEAD}.pt").is_file()
            hint = f"Convert {HEAD}.pt once, as conf/reward/comet_critic.yaml says." if pickled else "Name the converted critic."
            raise UserError(f"{folder} has no {HEAD}.safetensors.", hint)

    @property
    def range(self) -> tuple[float, float]:
        return 0.0, 1.0

    @property
    def reads_edges(self) -> bool:
        return False

    def scorer(self, state: Path | None) -> Scorer:
        return _CriticScorer(self)


def pair_of(row: Row) -> tuple[str, str]:
    """Head and relation with tail as the critic reads them.

    Raises:
        UserError: the row is no triple, or has a relation that the critic never saw.
    """
    triple = triple_of(row.prompt, row.response)
    if triple is None:
        what = f"example {row.id}: reward=comet_critic scores triples of task=comet, and the prompt is none."
        raise UserError(what, "task=comet, or another reward")
    head, relation, tail = triple
    if relation not in RELATIONS:
        what = f"example {row.id}: the critic knows no relation {relation}."
        raise UserError(what, f"task.relations=[{','.join(RELATIONS)}]")
    # names that are drawn anew for each reading would make the reward random; these depend on the prompt alone
    return with_names(head, row.group), with_names(f"{RELATIONS[relation]} {tail}", row.group)


class _CriticScorer(TextModelScorer):
    def __init__(self, reward: CometCritic) -> None:
        import torch
        from transformers import AutoTokenizer, RobertaModel

        folder = Path(reward.path)
        if not folder.is_dir():
            raise UserError(
                f"reward.path={reward.path}: there is no such folder.", "reward.path=FOLDER with the converted critic"
            )
        with loading(reward.path, WHAT):
            tokenizer = AutoTokenizer.from_pretrained(reward.path, trust_remote_code=False)
        super().__init__(reward.load(RobertaModel, WHAT, add_pooling_layer=True), reward.batch_tokens)
        config = self._model.config
        head = {name: torch.from_numpy(array) for name, array in tensors_of(folder / f"{HEAD}.safetensors", *WEIGHTS).items()}
        inner = head["dense.weight"].shape[0]
        shapes = ((inner, config.hidden_size), (inner,), (1, inner), (1,))
        for name, shape in zip(WEIGHTS, shapes, strict=True):
            if tuple(head[name].shape) != shape:
                what = f"{folder / HEAD}.safetensors: {name} has the shape {tuple(head[name].shape)} instead of {shape}."
                raise UserError(what, "It must belong to the model beside it.")
        self._head = {name: tensor.to(self._model.device, self._model.dtype) for name, tensor in head.items()}
        # RoBERTa counts positions from behind the padding id on
        limit = reward.limit(config.max_position_embeddings - config.pad_token_id - 1, tokenizer.model_max_length)
        self._tokens = TemplateTokens(tokenizer, [], limit)

    def encode(self, rows: Sequence[Row]) -> Encoded:
        heads, tails = zip(*map(pair_of, rows), strict=True)
        found = self._tokens.encode([[Piece(head, True)] for head in heads], [[Piece(tail, True)] for tail in tails])
        return Encoded({name: found.inputs[name] for name in ("input_ids", "attention_mask")}, found.cut)

    def scores(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        from torch.nn.functional import gelu, linear

        pooled = self._model(**inputs).pooler_output
        inner = gelu(linear(pooled, self._head["dense.weight"], self._head["dense.bias"]))
        return linear(inner, self._head["out_proj.weight"], self._head["out_proj.bias"])[:, 0].double().sigmoid()

    def pad_for(self, rows: list[list[int]]) -> int:
        return int(self._model.config.pad_token_id)
