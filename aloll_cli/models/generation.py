"""Generation of responses, with random numbers that depend on the row and not on its batch."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from transformers import StoppingCriteria

from aloll_cli.models.ends import end_tokens
from aloll_cli.models.prefill import SharedPrefill
from aloll_cli.text.encoded import Around
from aloll_cli.text.encoding import left_padded
from aloll_cli.text.packing import by_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from aloll_cli.arrays import IntArray
    from aloll_cli.models.decoding import Generation

NOTHING = Around()


class StopStrings(StoppingCriteria):
    """Ends a row once its response contains a stop string."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, strings: list[str], start: int, around: Sequence[Around]) -> None:
        """Look for strings.

        Args:
            tokenizer: the tokenizer.
            strings: the stop strings.
            start: the column at which responses begin.
            around: what templates write around each response, which is not searched; one for as many rows as there are beams.
        """
        self._tokenizer, self._strings, self._start, self._around = tokenizer, strings, start, around
        # tokens that may contain the string: at least a byte each, plus a margin for control tokens and split characters
        self._reach = max(len(string.encode()) for string in strings) + 8

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor, **kwargs: Any) -> torch.BoolTensor:
        """(B, L) tokens so far → (B,) whether the response contains a stop string."""
        rows = input_ids[:, self._start :].tolist()
        beams = len(rows) // len(self._around)  # beam search asks about more rows than it has beams
        found = [
            self._is_in(row[-self._reach :], NOTHING) and self._is_in(row, self._around[i // beams]) for i, row in enumerate(rows)
        ]
        return torch.tensor(found, device=input_ids.device)  # type: ignore[return-value]

    def _is_in(self, tokens: list[int], around: Around) -> bool:
        return _first(self._strings, around.removed(_text(tokens, self._tokenizer), ended=False)) is not None


@dataclass(frozen=True)
class Response:
    """A generated response.

    Attributes:
        text: the response, before a stop string.
        ids: the generated tokens, up to the end token or the one that completed a stop string.
        tokens: how many of them are text.
        ended: whether it was finished with an end token or a stop string, rather than cut at the limit.
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
    stream: str,
    max_tokens: int,
    stop: list[str],
    batch_tokens: int,
    around: Sequence[Around] | None = None,
    advance: Callable[[int], None] = lambda count: None,
) -> list[Response]:
    """Generate one response per prompt, in order. Prompts are sorted by length within the call to save padding.

    Equal prompts that stand together, such as samples of one prompt, are computed once (prefill.py).

    Args:
        model: a causal LM in eval mode.
        prompts: (N,) token ids of each prompt.
        ids: (N,) ids, which seed the random numbers of each row.
        stream: seeds them together with the id.
        max_tokens: limit on the tokens of a response.
        stop: the text ends before the first of these strings, and generation stops there.
        batch_tokens: tokens per batch, including padding and new tokens; changes results by rounding only.
        around: (N,) what a chat template writes around each response; None for plain text.
        advance: called with the number of new responses after each batch.
    """
    responses: dict[int, Response] = {}
    ends = end_tokens(model, tokenizer)
    prefill = SharedPrefill(model)
    around = [NOTHING] * len(prompts) if around is None else around
    lengths = [(len(prompt) + max_tokens) * generation.sequences for prompt in prompts]
    for chosen in by_tokens(lengths, batch_tokens):
        mine = [prompts[i] for i in chosen]
        input_ids, mask = left_padded(mine, int(tokenizer.pad_token_id), model.device)
        output = prefill.generate(
            mine,
            generation.sequences,
            partial(generation.processors, [ids[i] for i in chosen], stream, (mask == 0).sum(dim=1)),
            input_ids=input_ids,
            attention_mask=mask,
            do_sample=False,
            num_beams=generation.sequences,
            max_new_tokens=max_tokens,
            stopping_criteria=[StopStrings(tokenizer, stop, input_ids.shape[1], [around[i] for i in chosen])] if stop else [],
            eos_token_id=ends,
            pad_token_id=tokenizer.pad_token_id,
        )
        for i, new in zip(chosen, output[:, input_ids.shape[1] :].tolist(), strict=True):
            responses[int(i)] = response_of(new, tokenizer, ends, stop, around[i])
        advance(len(chosen))
    return [responses[i] for i in range(len(prompts))]


def response_of(new: list[int], tokenizer: PreTrainedTokenizerBase, ends: list[int], stop: list[str], around: Around) -> Response:
    """The response in a row of new tokens, which may end with padding; ``ends``: the tokens that end a response."""
    tokens = new[: next((i for i, token in enumerate(new) if token in ends), len(new))]

    def text_of(count: int, ended: bool = False) -> str:
        return around.removed(_text(tokens[:count], tokenizer), ended)

    if _first(stop, text_of(len(tokens))) is None:
        ended = len(tokens) < len(new)
        return Response(text_of(len(tokens), ended), new[: len(tokens) + ended], len(tokens), ended)
    needed = bisect_left(range(len(tokens)), True, key=lambda n: _first(stop, text_of(n)) is not None)
    text = text_of(needed)
    return Response(text[: _first(stop, text)], tokens[:needed], needed, True)


def _text(tokens: list[int], tokenizer: PreTrainedTokenizerBase) -> str:
    return str(tokenizer.decode(tokens, skip_special_tokens=True))


def _first(strings: list[str], text: str) -> int | None:
    """The position of the first stop string in a text, or None."""
    return min((text.index(string) for string in strings if string in text), default=None)
