"""ln π(y_t | x, y_<t) of response tokens: one module for policy, reference and all losses."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from aloll_cli.errors import UserError
from aloll_cli.models.dropout import RowDropout

if TYPE_CHECKING:
    from transformers import PreTrainedModel

CHUNK = 128  # positions per chunk of the chunked head
NOT_PLAIN = ("final_logit_softcapping", "logit_scale", "logits_scaling")  # options that make logits non-linear or scale them


class ResponseLogps(nn.Module):
    """Per-token log-probs of responses under a causal language model.

    A row is prompt, response, padding. Causal attention never reaches padding on the right, so it needs no mask, and the rows and
    padding beside a row hardly change its rounding, which matters in 16 bits. Logits are computed for response positions only, in
    the precision of the model, and normalized in fp32.
    """

    def __init__(self, model: PreTrainedModel, chunked: bool = False, recompute: bool = False) -> None:
        """Wrap a model.

        Args:
            model: a causal language model.
            chunked: compute logits of a few positions at a time. Raises UserError unless the head is plainly linear.
            recompute: gradient checkpointing: recompute layers in the backward pass instead of storing activations.
        """
        super().__init__()
        self.model = model
        self.dropout: RowDropout | None = None
        self._chunked, self._recompute = chunked, recompute
        if chunked:
            self._probe()
        if recompute:
            # the second name is that of older versions of transformers
            enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
            enable({"use_reentrant": False, "context_fn": self._contexts})

    def _contexts(self) -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
        """The contexts of a layer in the forward pass, and when it is computed again."""
        return nullcontext(), nullcontext() if self.dropout is None else self.dropout.in_recomputation()

    def set_to_train(self, dropout: bool) -> None:
        """Switch to training mode, with or without dropout."""
        self.train(dropout)
        for part in self.modules() if self._recompute else ():
            if isinstance(part, GradientCheckpointingLayer):
                if not dropout and any("dropout" in name and isinstance(p, float) and p > 0 for name, p in vars(part).items()):
                    raise UserError(
                        f"gradient_checkpointing=true: {type(part).__name__} applies dropout, which must be off here.",
                        "gradient_checkpointing=false",
                    )
                part.training = True  # such a layer recomputes in training mode only; its dropout modules keep their own mode

    def forward(self, prompt_ids: Tensor, prompt_mask: Tensor, response_ids: Tensor, response_mask: Tensor) -> Tensor:
        """Log-probs of the responses' tokens.

        Args:
            prompt_ids, prompt_mask: (B, P) token ids and 1 at real tokens, padded on the left, at least one real token per row.
            response_ids, response_mask: (B, T) the same, padded on the right.

        Returns:
            (B, T) fp32, ≤ 0, exactly 0 at padding.
        """
        ids, before = joined(prompt_ids, prompt_mask, response_ids, response_mask)
        with nullcontext() if self.dropout is None else self.dropout.in_forward():
            return self._logps(ids, before, response_ids).masked_fill(response_mask == 0, 0.0)

    def _logps(self, ids: Tensor, before: Tensor, response_ids: Tensor) -> Tensor:
        """(B, L) tokens, (B, T) the positions before those of the responses, and (B, T) these → (B, T) log-probs."""
        if self._chunked:
            states = self.model.base_model(input_ids=ids, use_cache=False).last_hidden_state
            return self._chunked_logps(at(before, states), response_ids)
        with only(before, self.model.get_output_embeddings()):
            logits = self.model(input_ids=ids, use_cache=False).logits
        if logits.shape[1] != before.shape[1]:  # of a model that does not call its head as a module
            logits = at(before, logits)
        return token_logps(logits, response_ids)

    def _chunked_logps(self, states: Tensor, targets: Tensor) -> Tensor:
        """(B, T, H) states before (B, T) tokens → (B, T) log-probs; logits are computed again in the backward pass."""
        head = self.model.get_output_embeddings()
        chunks = zip(states.flatten(0, 1).split(CHUNK), targets.flatten().split(CHUNK), strict=True)
        logps: list[Any] = [
            checkpoint(_logps_of, head, part, tokens, use_reentrant=False, preserve_rng_state=False) for part, tokens in chunks
        ]
        return torch.cat(logps).view_as(targets)

    @torch.no_grad()
    def _probe(self) -> None:
        """Raises UserError unless logits are a plain linear function of the last hidden state."""
        name, config, head = type(self.model).__name__, self.model.config.get_text_config(), self.model.get_output_embeddings()
        what = f"model.head=chunked: {name} scales or caps its logits, or has an adapter on its head."
        refusal = UserError(what, "model.head=full")
        changes = [getattr(config, key, None) for key in NOT_PLAIN]
        if any(change not in (None, 1) for change in changes) or type(head) is not nn.Linear:
            raise refusal
        device = self.model.device
        ids = torch.arange(1, 9, device=device).view(2, 4) % len(head.weight)
        ones = torch.ones_like(ids)
        was_training = self.model.training
        self.model.eval()
        chunked = self(ids, ones, ids, ones)
        self._chunked = False
        full = self(ids, ones, ids, ones)
        self._chunked = True
        self.model.train(was_training)
        # logits in 16 bits may be rounded to a neighbour
        tolerance = 1e-4 if self.model.dtype == torch.float32 else 2e-2
        if not torch.allclose(chunked, full, atol=tolerance, rtol=tolerance):
            raise refusal


def joined(prompt_ids: Tensor, prompt_mask: Tensor, response_ids: Tensor, response_mask: Tensor) -> tuple[Tensor, Tensor]:
    """(B, L) tokens of prompt, response and then padding; (B, T) the position before each token of the response."""
    prompts, responses = prompt_mask.sum(dim=1, keepdim=True), response_mask.sum(dim=1, keepdim=True)
    length = int((prompts + responses).max())
    both = torch.cat([prompt_ids, response_ids], dim=1)
    begins = prompt_mask.shape[1] - prompts
    ids = both.gather(1, (begins + torch.arange(length, device=both.device)).clamp(max=both.shape[1] - 1))
    before = prompts - 1 + torch.arange(response_ids.shape[1], device=both.device)
    return ids, before.clamp(max=length - 1)


def at(positions: Tensor, states: Tensor) -> Tensor:
    """(B, L, H) → (B, T, H) at (B, T) positions."""
    return states.gather(1, positions[..., None].expand(-1, -1, states.shape[-1]))


@contextmanager
def only(positions: Tensor, head: nn.Module | None) -> Iterator[None]:
    """Within this context a head computes logits of (B, T) positions only; whatever the model does to logits is still done."""

    def chosen(module: nn.Module, arguments: Any) -> Any:
        states, *others = arguments  # token ids where head and embeddings are the same module
        return (at(positions, states) if states.is_floating_point() else states, *others)

    handle = head.register_forward_pre_hook(chosen) if head is not None else None
    try:
        yield
    finally:
        if handle is not None:
            handle.remove()


def token_logps(logits: Tensor, targets: Tensor) -> Tensor:
    """(B, T, V) logits and (B, T) tokens → (B, T) fp32 log-probs."""
    flat = functional.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), reduction="none")
    return -flat.view_as(targets)


def _logps_of(head: nn.Module, states: Tensor, targets: Tensor) -> Tensor:
    """(N, H) states before (N,) tokens → (N,) fp32 log-probs."""
    return token_logps(head(states)[None], targets[None])[0]
