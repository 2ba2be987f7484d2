"""Responses of a policy to prompts, with random numbers that belong to the row and not to the batch."""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from transformers import LogitsProcessor, StoppingCriteria

from aloll_cli.encoding import left_padded
from aloll_cli.models import end_tokens
from aloll_cli.packing import by_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from aloll_cli.arrays import IntArray
    from aloll_cli.decoding import Generation


RANKED = 1024  # tokens that are ranked at first; a draw hardly ever falls behind them


class InverseCdf(LogitsProcessor):
    """Turns sampling into taking the greatest logit: keeps, for each row, the token where its CDF passes the row's number.

    Tokens are ranked by probability first, so that two policies that answer with the same numbers tend to agree. The CDF is
    that of the nucleus: the fewest tokens, from the likeliest on, that have a probability of ``top_p`` together
    (Holtzman et al. 2020).
    """

    def __init__(self, seed: int, step: int, ids: list[str], top_p: float = 1.0) -> None:
        self._rows = [np.random.Generator(np.random.Philox(key=_row_key(seed, step, name))) for name in ids]
        self._top_p = top_p

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """(B, L) tokens so far and (B, V) logits → (B, V), 0 for the token to take and −∞ elsewhere."""
        probabilities = scores.double().softmax(dim=-1)
        uniform = torch.tensor([row.random() for row in self._rows], dtype=torch.float64, device=scores.device)[:, None]
        taken, is_certain = self._take(probabilities, uniform, min(RANKED, scores.shape[-1]))
        if not is_certain.all():
            others = (~is_certain).nonzero()[:, 0]
            taken[others], _ = self._take(probabilities[others], uniform[others], scores.shape[-1])
        return torch.full_like(scores, float("-inf")).scatter_(1, taken, 0.0)  # type: ignore[return-value]

    def _take(self, probabilities: torch.Tensor, uniform: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, 1) the tokens at which the numbers (B, 1) fall, and (B,) whether the ``count`` likeliest suffice to tell."""
        ranked, tokens = _likeliest(probabilities, count)
        cumulative, last = ranked.cumsum(dim=-1), count - 1
        nucleus = torch.searchsorted(cumulative, torch.full_like(uniform, self._top_p))  # where its last token stands
        mass = cumulative.gather(1, nucleus.clamp(max=last)) if self._top_p < 1 else torch.ones_like(uniform)
        place = torch.searchsorted(cumulative, uniform * mass, right=True)
        needed = torch.maximum(nucleus, place) if self._top_p < 1 else place
        # of the least likely ones that are ranked, others as likely may be missing
        certain = (ranked > ranked[:, -1:]).sum(dim=-1, keepdim=True)
        return tokens.gather(1, place.clamp(max=last)), (needed < certain)[:, 0]


def _likeliest(probabilities: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(B, count) the greatest probabilities of each row, falling, and their tokens; of equal ones the lower id comes first."""
    if count == probabilities.shape[-1]:
        return probabilities.sort(dim=-1, descending=True, stable=True)
    tokens = probabilities.topk(count, dim=-1, sorted=False).indices.sort(dim=-1).values
    ranked, order = probabilities.gather(1, tokens).sort(dim=-1, descending=True, stable=True)
    return ranked, tokens.gather(1, order)


def _row_key(seed: int, step: int, name: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}/{step}/{name}".encode()).digest()[:16])


class SpelledOut(StoppingCriteria):
    """Ends a row once its response holds one of some strings."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, strings: list[str], start: int) -> None:
        """Watch what comes from the column ``start`` on."""
        self._tokenizer, self._strings, self._start = tokenizer, strings, start
        # a token is a byte at least, but for control tokens and halves of a character at the edge
        self._reach = max(len(string.encode()) for string in strings) + 8

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor, **kwargs: Any) -> torch.BoolTensor:
        """(B, L) tokens so far → (B,) whether the response holds a string."""
        rows = input_ids[:, self._start :].tolist()
        found = [self._is_in(row[-self._reach :]) and self._is_in(row) for row in rows]
        return torch.tensor(found, device=input_ids.device)  # type: ignore[return-value]

    def _is_in(self, tokens: list[int]) -> bool:
        return _first(self._strings, _text(tokens, self._tokenizer)) is not None


@dataclass(frozen=True)
class Response:
    """A generated response.

    Attributes:
        text: what it says, before a stop string.
        ids: the tokens that the model gave, up to the one that ended it or completed a stop string.
        tokens: how many of them are text.
        ended: whether the model ended it itself.
    """

    text: str
    ids: list[int]
    tokens: int
    ended: bool


@torch.inference_mode()
def respond(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[IntArray],
    ids: list[str],
    generation: Generation,
    *,
    step: int,
    max_tokens: int,
    stop: list[str],
    batch_tokens: int,
    advance: Callable[[int], None] = lambda count: None,
) -> list[Response]:
    """One response to each prompt, in order. Prompts are sorted by length within the call to save padding.

    Args:
        model: a causal LM in eval mode.
        prompts: (N,) token ids of each prompt.
        ids: (N,) names, which seed each row's randomness.
        step: what seeds it beside the name.
        max_tokens: the limit on a response's tokens.
        stop: the text ends before the first of these strings, and nothing is generated behind it.
        batch_tokens: tokens at a time, padding and what may be generated included; moves results by rounding only.
        advance: told how many responses are there whenever some more are.
    """
    responses: dict[int, Response] = {}
    ends = end_tokens(model, tokenizer)
    lengths = [(len(prompt) + max_tokens) * generation.sequences for prompt in prompts]
    for chosen in by_tokens(lengths, batch_tokens):
        input_ids, mask = left_padded([prompts[i] for i in chosen], int(tokenizer.pad_token_id), model.device)
        output = cast(Any, model).generate(
            input_ids=input_ids,
            attention_mask=mask,
            do_sample=False,
            num_beams=generation.sequences,
            max_new_tokens=max_tokens,
            logits_processor=generation.processors([ids[i] for i in chosen], step, (mask == 0).sum(dim=1)),
            stopping_criteria=[SpelledOut(tokenizer, stop, input_ids.shape[1])] if stop else [],
            eos_token_id=ends,
            pad_token_id=tokenizer.pad_token_id,
        )
        for i, new in zip(chosen, output[:, input_ids.shape[1] :].tolist(), strict=True):
            responses[int(i)] = _response(new, tokenizer, ends, stop)
        advance(len(chosen))
    return [responses[i] for i in range(len(prompts))]


def _response(new: list[int], tokenizer: PreTrainedTokenizerBase, ends: list[int], stop: list[str]) -> Response:
    """What a row of new tokens says; behind its end there may be padding."""
    tokens = new[: next((i for i, token in enumerate(new) if token in ends), len(new))]
    if _first(stop, _text(tokens, tokenizer)) is None:
        ended = len(tokens) < len(new)
        return Response(_text(tokens, tokenizer), new[: len(tokens) + ended], len(tokens), ended)
    needed = bisect_left(range(len(tokens)), True, key=lambda n: _first(stop, _text(tokens[:n], tokenizer)) is not None)
    text = _text(tokens[:needed], tokenizer)
    return Response(text[: _first(stop, text)], tokens[:needed], needed, True)


def _text(tokens: list[int], tokenizer: PreTrainedTokenizerBase) -> str:
    return str(tokenizer.decode(tokens, skip_special_tokens=True))


def _first(strings: list[str], text: str) -> int | None:
    """Where the first of some strings begins in a text, or None."""
    return min((text.index(string) for string in strings if string in text), default=None)
