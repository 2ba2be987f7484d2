"""Prompts that several rows of a batch begin with: their part of the cache is computed once, and repeated for each row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache, LogitsProcessor, LogitsProcessorList
from transformers.cache_utils import DynamicLayer

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from aloll_cli.arrays import IntArray

WORTH = 0.75  # of the rows of a batch: distinct prompts must be fewer than that
SAME, SAME_IN_16_BITS = 0.01, 0.1  # nats by which a row's first log-probs may differ in the mean: more than rounding does


class SharedPrefill:
    """Generates with ``generate`` of transformers, and computes a prompt once for all samples and beams of it.

    A cache is repeated where it holds keys and values of every token, a tensor for each layer, as full attention has them. Models
    whose cache has other parts (sliding windows, states of state-space layers, quantized ones) compute each row, as they do where
    the first log-probs of a repeated cache are not those of the whole prompt.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = cast(Any, model)
        self._repeats: bool | None = None  # whether the model's cache can be repeated; None: not known yet

    def generate(
        self, prompts: Sequence[IntArray], beams: int, processors: Callable[[], LogitsProcessorList], **options: Any
    ) -> Tensor:
        """The output of ``generate``: (B, L) tokens of prompts and responses.

        Args:
            prompts: (B,) token ids of each prompt.
            beams: rows per prompt that are decoded together.
            processors: makes the processors of the logits.
            options: of ``generate``, with ``input_ids`` and ``attention_mask``, (B, P) padded on the left.
        """
        numbers: dict[bytes, int] = {}
        row_of = [numbers.setdefault(np.asarray(prompt, dtype=np.int64).tobytes(), len(numbers)) for prompt in prompts]
        ids, mask = options["input_ids"], options["attention_mask"]
        options["synced_gpus"] = False  # processes of sharded training generate when they have all weights, each for itself
        if len(numbers) < WORTH * len(prompts) * beams and ids.shape[1] > 1 and self._can_repeat(ids, options):
            firsts = [row_of.index(number) for number in range(len(numbers))]
            cache, logits = self._computed(ids[firsts], mask[firsts], options)
            cache.crop(-1)  # generate computes the last token of the prompt for each row
            rows = torch.tensor(row_of, device=ids.device).repeat_interleave(beams)
            cache.batch_select_indices(rows)
            try:
                begins = _BeginsAs(logits, rows, SAME if self._model.dtype == torch.float32 else SAME_IN_16_BITS)
                checked = LogitsProcessorList([begins, *processors()])
                return cast(Tensor, self._model.generate(**options, past_key_values=cache, logits_processor=checked))
            except _Different:
                self._repeats = False
        return cast(Tensor, self._model.generate(**options, logits_processor=processors()))

    def _can_repeat(self, ids: Tensor, options: dict[str, Any]) -> bool:
        """Whether the cache that the model makes is one of keys and values of every token."""
        if self._repeats is None:
            last = ids[:1, -1:]
            cache, _ = self._computed(last, torch.ones_like(last), options)
            self._repeats = type(cache) is DynamicCache and all(type(layer) is DynamicLayer for layer in cache.layers)
        return self._repeats

    def _computed(self, ids: Tensor, mask: Tensor, options: dict[str, Any]) -> tuple[Any, Tensor]:
        """The cache of (D, P) prompts, and the (D, V) logits of their first new tokens."""
        output = self._model.generate(
            input_ids=ids, attention_mask=mask, do_sample=False, num_beams=1, max_new_tokens=1, output_logits=True,
            return_dict_in_generate=True, **{name: options[name] for name in ("eos_token_id", "pad_token_id", "synced_gpus")},
        )  # fmt: skip
        return output.get("past_key_values"), output.logits[0]


class _Different(Exception):  # noqa: N818  no error: rows are then computed separately
    """The first log-probs of a repeated cache are not those of the whole prompts."""


class _BeginsAs(LogitsProcessor):
    """Changes nothing; raises _Different if the first logits are not the expected ones."""

    def __init__(self, logits: Tensor, rows: Tensor, tolerance: float) -> None:
        """``logits``: (D, V) of the distinct prompts; ``rows``: (B,) which of them each row begins with."""
        self._expected: Tensor | None = logits.float().log_softmax(dim=-1)
        self._rows, self._tolerance = rows, tolerance

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """(B, L) tokens so far and (B, V) logits, or log-probs in beam search → the same."""
        if self._expected is not None:
            apart = (scores.log_softmax(dim=-1) - self._expected[self._rows]).nan_to_num(0.0, torch.inf, torch.inf)
            self._expected = None
            if not float(apart.abs().mean(dim=-1).max()) < self._tolerance:
                raise _Different
        return scores
