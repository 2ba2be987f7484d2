"""Where the tokens of a batch stand: a row for each response, or one for all responses to a prompt, which is computed once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

WORTH = 0.9  # of the positions of separate rows: shared ones must have fewer than that


@dataclass(frozen=True)
class Layout:
    """R rows of L tokens, which hold B responses.

    Attributes:
        options: what the model is called with.
        places: the positions before the responses' tokens, as indices into R × L: (B, T), or (1, N) of real tokens alone.
        targets: the tokens themselves, of the same shape.
    """

    options: dict[str, Tensor]
    places: Tensor
    targets: Tensor

    def at_places(self, states: Tensor) -> Tensor:
        """(R, L, H) states → those before the responses' tokens."""
        return states.flatten(0, 1)[self.places]

    @contextmanager
    def head_at_places(self, head: nn.Module | None) -> Iterator[None]:
        """Within this context a head computes logits of these positions only; whatever the model does to logits is still done."""

        def chosen(module: nn.Module, arguments: Any) -> Any:
            states, *others = arguments  # token ids where head and embeddings are the same module
            return (self.at_places(states) if states.is_floating_point() else states, *others)

        handle = head.register_forward_pre_hook(chosen) if head is not None else None
        try:
            yield
        finally:
            if handle is not None:
                handle.remove()


def separate(prompt_ids: Tensor, prompt_mask: Tensor, response_ids: Tensor, response_mask: Tensor, by_row: bool) -> Layout:
    """A row for each response: prompt, response, padding.

    Args:
        prompt_ids, prompt_mask: (B, P) padded on the left.
        response_ids, response_mask: (B, T) padded on the right.
        by_row: whether places are (B, T), with those of padding.
    """
    prompts, responses = prompt_mask.sum(dim=1, keepdim=True), response_mask.sum(dim=1, keepdim=True)
    length = int((prompts + responses).max())
    both = torch.cat([prompt_ids, response_ids], dim=1)
    begins = prompt_mask.shape[1] - prompts
    ids = both.gather(1, (begins + torch.arange(length, device=both.device)).clamp(max=both.shape[1] - 1))
    before = (prompts - 1 + torch.arange(response_ids.shape[1], device=both.device)).clamp(max=length - 1)
    places = before + length * torch.arange(len(ids), device=both.device)[:, None]
    if by_row:
        return Layout({"input_ids": ids}, places, response_ids)
    is_real = response_mask == 1
    return Layout({"input_ids": ids}, places[is_real][None], response_ids[is_real][None])


def shared(prompt_ids: Tensor, prompt_mask: Tensor, response_ids: Tensor, response_mask: Tensor) -> Layout | None:
    """A row for each prompt: the prompt, and then each response to it, which sees the prompt and itself; then padding.

    Returns:
        None where that saves too little.
    """
    prompts, responses = prompt_mask.sum(dim=1), response_mask.sum(dim=1)
    found, row_of = torch.unique(torch.cat([prompt_mask, prompt_ids * prompt_mask], dim=1), dim=0, return_inverse=True)
    count = len(found)
    if count == len(prompts):
        return None
    lengths = torch.zeros(count, dtype=torch.long, device=row_of.device)
    lengths[row_of] = prompts
    lengths.index_add_(0, row_of, responses)
    length = int(lengths.max())
    if count * length > WORTH * len(prompts) * int((prompts + responses).max()):
        return None
    device = prompt_ids.device
    ids = torch.zeros(count, length, dtype=torch.long, device=device)
    positions, owners = torch.zeros_like(ids), torch.full_like(ids, -1)  # whose tokens: 0 the prompt's, -1 nobody's
    places = torch.zeros_like(response_ids)
    ends = [0] * count
    for i, (row, prompt, response) in enumerate(zip(row_of.tolist(), prompts.tolist(), responses.tolist(), strict=True)):
        if not ends[row]:
            ids[row, :prompt] = prompt_ids[i, prompt_ids.shape[1] - prompt :]
            positions[row, :prompt], owners[row, :prompt] = torch.arange(prompt, device=device), 0
            ends[row] = prompt
        start, stop = ends[row], ends[row] + response
        ids[row, start:stop] = response_ids[i, :response]
        positions[row, start:stop], owners[row, start:stop] = torch.arange(prompt, prompt + response, device=device), i + 1
        places[i, 0], places[i, 1:response] = (
            row * length + prompt - 1,
            row * length + torch.arange(start, stop - 1, device=device),
        )
        ends[row] = stop
    is_seen = (owners[:, None, :] == owners[:, :, None]) | (owners == 0)[:, None, :]
    mask = torch.zeros(count, 1, length, length, device=device)
    mask.masked_fill_(~(is_seen & torch.ones(length, length, dtype=torch.bool, device=device).tril())[:, None], -torch.inf)
    is_real = response_mask == 1
    options = {"input_ids": ids, "attention_mask": mask, "position_ids": positions}
    return Layout(options, places[is_real][None], response_ids[is_real][None])


def why_separate(model: Any) -> str | None:
    """Why a model cannot compute a prompt once for several responses to it, as far as its configuration says; None if it may."""
    config = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"]) - {"full_attention"}
    window = getattr(config, "sliding_window", None) if getattr(config, "use_sliding_window", True) else None
    if kinds or window is not None:
        return f"{type(model).__name__} has layers of {', '.join(sorted(kinds)) or 'sliding_attention'}"
    attention = getattr(config, "_attn_implementation", None)
    if attention not in ("sdpa", "eager"):
        return f"attn={attention} takes no mask"
    if model.dtype != torch.float32:
        return "in 16 bits rows that are computed together differ in rounding"
    return None
