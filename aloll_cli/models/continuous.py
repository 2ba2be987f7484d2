"""Continuous batching: where a response has ended, the next prompt takes its place at once (the paged cache of transformers).

The steps run in this thread, where those of ``generate_batch`` run in one of their own: errors and Ctrl-C end them as they end
anything else, and each row keeps its random numbers. Some parts are not public, so that the version is looked at.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import torch
import transformers
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from aloll_cli.errors import UserError
from aloll_cli.models.inverse_cdf import InverseCdf
from aloll_cli.models.prefill import SAME, SAME_IN_16_BITS
from aloll_cli.models.responses import Response, Stops, response_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from aloll_cli.arrays import IntArray
    from aloll_cli.models.decoding import Generation
    from aloll_cli.text.encoded import Around

KNOWN = "5.23."  # of transformers: other versions have other parts
ATTENTION = ("sdpa", "eager", "flash_attention_2")
PAGE = 16  # tokens of a row that are stored together: half of it is unused in the mean
AT_ONCE = 512  # tokens of prompts that a step computes at most
CHECKED = 3  # responses of a call whose log-probs are computed once more, without the paged cache


def obstacle(model: PreTrainedModel, generation: Generation) -> str | None:
    """Why a model's responses are generated in padded batches all the same; None: they need not be."""
    from transformers.generation.continuous_batching.cache import group_layers_by_attn_type

    name, config = type(model).__name__, model.config.get_text_config()
    if not transformers.__version__.startswith(KNOWN):
        return f"transformers {transformers.__version__} is another version than {KNOWN}x"
    if generation.sequences > 1:
        return "beams are decoded together"
    if generation.repetition_penalty != 1:
        return f"of generation.repetition_penalty={generation.repetition_penalty:g}"
    if torch.is_autocast_enabled(model.device.type):
        return "keys and values are computed in 16 bits (autocast), and weights are in 32"
    if not getattr(model, "_supports_attention_backend", False):
        return f"{name} computes attention in its own way"
    if config._attn_implementation not in ATTENTION:
        return f"of attn={config._attn_implementation}"
    try:
        kinds = set(group_layers_by_attn_type(config))
    except ValueError:
        kinds = set()
    return None if kinds == {"full_attention"} else f"{name} has layers other than full attention"


def respond(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[IntArray],
    processors: LogitsProcessorList,
    *,
    ends: list[int],
    max_tokens: int,
    stop: list[str],
    batch_tokens: int,
    around: Sequence[Around],
    advance: Callable[[int], None],
) -> list[Response]:
    """Generate one response per prompt, in order; the log-probs of some are checked in a plain forward pass.

    Args:
        model: one without an ``obstacle``, in eval mode.
        prompts: (N,) token ids of each prompt.
        processors: of the logits of all N rows, after which the greatest logit is the token to take; none that needs the tokens.
        ends: tokens that end a response.
        max_tokens, stop, around, advance: as in ``generation.respond``.
        batch_tokens: tokens in the cache.

    Raises:
        UserError: a response is missing, or a model computes something else with the paged cache.
    """
    rows, attention = _Rows(processors, len(prompts)), model.config._attn_implementation
    stops, found, tokens = Stops(tokenizer, stop), dict[int, Response](), dict[int, list[int]]()
    try:
        with _own_random_numbers(model.device):
            batch, module = _batch(model, prompts, rows, ends, max_tokens, batch_tokens)
        while batch.prepare_next_batch():
            batch._generation_step(module)
            batch.update_batch()
            for row, state in rows.of_step():
                is_finished = state.status.name == "FINISHED"
                new = state.to_generation_output().generated_tokens if stop or is_finished else []
                if not is_finished:
                    if not stops.end(new, around[row]):
                        continue
                    batch.scheduler.set_request_cancellation(state.request_id)
                tokens[row], found[row] = new, response_of(new, tokenizer, ends, stop, around[row])
                advance(1)
    finally:
        if model.config._attn_implementation != attention:
            model.set_attn_implementation(attention)
    if len(found) < len(prompts):
        raise _error(f"{len(prompts) - len(found)} of {len(prompts)} responses were not generated")
    for row, logps in rows.logps.items():
        _check(model, prompts[row].tolist(), tokens[row], torch.tensor(logps))
    return [found[row] for row in range(len(prompts))]


def _batch(
    model: Any, prompts: Sequence[IntArray], rows: _Rows, ends: list[int], max_tokens: int, batch_tokens: int
) -> tuple[Any, Any]:
    """What computes step after step, with all prompts waiting, and the model as it takes it."""
    from transformers.generation.configuration_utils import ContinuousBatchingConfig

    lengths = [len(prompt) + max_tokens for prompt in prompts]
    budget = max(batch_tokens, max(lengths))
    count = min(len(prompts), max(1, budget * len(prompts) // sum(lengths)))
    config = ContinuousBatchingConfig(
        page_size=PAGE, num_blocks=math.ceil(budget / PAGE) + count, max_requests_per_batch=count,
        max_batch_tokens=count + min(AT_ONCE, budget), max_blocks_per_request=0, use_async_batching=False, use_cuda_graph=False,
        auto_switch_to_flash=False, disable_nccl_graph_mixing=False,
    )  # fmt: skip
    decoding = GenerationConfig(do_sample=False, eos_token_id=ends, max_new_tokens=max_tokens)
    manager = model.init_continuous_batching(generation_config=decoding, continuous_batching_config=config)
    manager.logit_processor.logits_processor.append(rows)
    manager.logit_processor.do_processing = True
    for row, prompt in enumerate(prompts):
        manager.add_request(prompt.tolist(), request_id=str(row), max_new_tokens=max_tokens, eos_token_id=ends)
    rows.batch = manager._create_batch_processor()
    return rows.batch, manager.model


def _own_random_numbers(device: torch.device) -> AbstractContextManager[None]:
    """Keeps the global random state, which transformers seeds anew."""
    return torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])


class _Rows(LogitsProcessor):
    """Processes the logits of those rows that get a token in a step."""

    batch: Any  # of transformers

    def __init__(self, processors: LogitsProcessorList, count: int) -> None:
        """``processors``: of the logits of ``count`` rows."""
        self._processors = processors
        self.logps: dict[int, list[float]] = {count * i // CHECKED: [] for i in range(CHECKED)}  # of the tokens of some rows

    def of_step(self) -> Iterator[tuple[int, Any]]:
        """The rows that get a token in the present step, and what transformers knows of each."""
        for request in self.batch.inputs_and_outputs.requests_in_batch:
            if request.has_new_token:
                yield int(request.state.request_id), request.state

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """(S, V) logits, of the rows of this step and then of prompts that are not complete yet → the same, processed."""
        rows = [row for row, _ in self.of_step()]
        chosen: Any = scores[: len(rows)]
        for processor in self._processors:
            chosen = (processor.of_rows(rows) if isinstance(processor, InverseCdf) else processor)(input_ids, chosen)
        places = [place for place, row in enumerate(rows) if row in self.logps]
        logps = _logps_of(scores[places], chosen[places].argmax(dim=-1))
        for place, logp in zip(places, logps.tolist(), strict=True):
            self.logps[rows[place]].append(logp)
        return torch.cat([chosen, scores[len(rows) :]])  # type: ignore[return-value]


def _logps_of(logits: Tensor, tokens: Tensor) -> Tensor:
    """(T,) log-probs of tokens under (T, V) logits."""
    return logits.float().log_softmax(dim=-1).gather(1, tokens[:, None])[:, 0]


def _check(model: PreTrainedModel, prompt: list[int], response: list[int], logps: Tensor) -> None:
    """Raises UserError if the (T,) log-probs of a response's tokens are not those of a plain forward pass."""
    ids = torch.tensor([prompt + response], device=model.device)
    logits = model(input_ids=ids[:, :-1], use_cache=False).logits[0, len(prompt) - 1 :]
    apart = float((_logps_of(logits, ids[0, len(prompt) :]).cpu() - logps).abs().mean())
    if not apart < (SAME if model.dtype == torch.float32 else SAME_IN_16_BITS):
        raise _error(f"{type(model).__name__} computes other log-probs with it ({apart:.2g} nats per token)")


def _error(what: str) -> UserError:
    return UserError(f"generation_batching=continuous: {what}.", "generation_batching=padded")
