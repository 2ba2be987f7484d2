"""Generation of responses, with random numbers that depend on the row and not on its batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from transformers import StoppingCriteria

from aloll_cli.models import continuous
from aloll_cli.models.ends import end_tokens
from aloll_cli.models.prefill import SharedPrefill
from aloll_cli.models.responses import NOTHING, Response, Stops, response_of
from aloll_cli.runtime.options import Batching
from aloll_cli.text.encoded import Around
from aloll_cli.text.encoding import left_padded
from aloll_cli.text.packing import by_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from aloll_cli.arrays import IntArray
    from aloll_cli.models.decoding import Generation


class StopStrings(StoppingCriteria):
    """Ends a row once its response contains a stop string."""

    def __init__(self, stops: Stops, start: int, around: Sequence[Around]) -> None:
        """Look for strings.

        Args:
            stops: the stop strings.
            start: the column at which responses begin.
            around: what templates write around each response, which is not searched; one for as many rows as there are beams.
        """
        self._stops, self._start, self._around = stops, start, around

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor, **kwargs: Any) -> torch.BoolTensor:
        """(B, L) tokens so far → (B,) whether the response contains a stop string."""
        rows = input_ids[:, self._start :].tolist()
        beams = len(rows) // len(self._around)  # beam search asks about more rows than it has beams
        found = [self._stops.end(row, self._around[i // beams]) for i, row in enumerate(rows)]
        return torch.tensor(found, device=input_ids.device)  # type: ignore[return-value]


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
    batching: Batching = Batching.padded,
    tell: Callable[[str], None] = lambda line: None,
) -> list[Response]:
    """Generate one response per prompt, in order.

    In padded batches, prompts are sorted by length within the call to save padding. Equal prompts that stand together, such as
    samples of one prompt, are computed once (prefill.py).

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
        batching: how rows are generated together; changes results by rounding only.
        tell: called with a line for the log where continuous batching was asked for and cannot be done.
    """
    ends = end_tokens(model, tokenizer)
    around = [NOTHING] * len(prompts) if around is None else around
    if batching is Batching.continuous and prompts:
        why = continuous.obstacle(model, generation)
        if why is None:
            processors = generation.processors(ids, stream, torch.zeros(len(prompts), dtype=torch.long))
            return continuous.respond(
                model, tokenizer, prompts, processors, ends=ends, max_tokens=max_tokens, stop=stop, batch_tokens=batch_tokens,
                around=around, advance=advance,
            )  # fmt: skip
        tell(f"  generation_batching=continuous: padded batches, because {why}")
    responses: dict[int, Response] = {}
    prefill, stops = SharedPrefill(model), Stops(tokenizer, stop)
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
            stopping_criteria=[StopStrings(stops, input_ids.shape[1], [around[i] for i in chosen])] if stop else [],
            eos_token_id=ends,
            pad_token_id=tokenizer.pad_token_id,
        )
        for i, new in zip(chosen, output[:, input_ids.shape[1] :].tolist(), strict=True):
            responses[int(i)] = response_of(new, tokenizer, ends, stop, around[i])
        advance(len(chosen))
    return [responses[i] for i in range(len(prompts))]
