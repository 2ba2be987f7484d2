"""ln π(y_t | x, y_<t) of response tokens: one module for policy, reference and all losses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from aloll_cli.errors import UserError
from aloll_cli.models.dropout import InTraining
from aloll_cli.models.layout import Layout, separate, shared, why_separate

if TYPE_CHECKING:
    from transformers import PreTrainedModel

CHUNK = 128  # positions per chunk of the chunked head
SAME = 1e-4  # by which log-probs of shared and of separate rows may differ in the trial
NOT_PLAIN = ("final_logit_softcapping", "logit_scale", "logits_scaling")  # options that make logits non-linear or scale them


class ResponseLogps(InTraining):
    """Per-token log-probs of responses under a causal language model.

    A row is prompt, response, padding. Causal attention never reaches padding on the right, so it needs no mask, and the rows and
    padding beside a row hardly change its rounding, which matters in 16 bits. In 32 bits, responses to a prompt may share it
    (layout.py). Logits are computed for tokens of responses only, in the precision of the model, and normalized in fp32.
    """

    def __init__(self, model: PreTrainedModel, chunked: bool = False, recompute: bool = False, shares: bool = False) -> None:
        """Wrap a model.

        Args:
            model: a causal language model.
            chunked: compute logits of a few positions at a time. Raises UserError unless the head is plainly linear.
            shares: compute a prompt once for all responses to it, where the model can. Rounding then depends on the rows beside
                one, which may change what a policy samples.
            recompute: gradient checkpointing: recompute layers in the backward pass instead of storing activations.
        """
        super().__init__(model, recompute)
        self.separate_because = why_separate(model) if shares else "nothing asked for it"  # None: a prompt is computed once
        self._tried = False
        self._chunked = chunked
        if chunked:
            self._probe()

    def forward(self, prompt_ids: Tensor, prompt_mask: Tensor, response_ids: Tensor, response_mask: Tensor) -> Tensor:
        """Log-probs of the responses' tokens.

        Args:
            prompt_ids, prompt_mask: (B, P) token ids and 1 at real tokens, padded on the left, at least one real token per row.
            response_ids, response_mask: (B, T) the same, padded on the right.

        Returns:
            (B, T) fp32, ≤ 0, exactly 0 at padding.
        """
        with self.dropping():
            return self._logps(prompt_ids, prompt_mask, response_ids, response_mask)

    def smallest(self) -> Tensor:
        """(1, 1) the output for the smallest batch there is."""
        one = torch.ones(1, 1, dtype=torch.long, device=self.model.device)
        logps: Tensor = self(one, one, one, one)
        return logps

    def _logps(self, prompt_ids: Tensor, prompt_mask: Tensor, response_ids: Tensor, response_mask: Tensor) -> Tensor:
        batch = (prompt_ids, prompt_mask, response_ids, response_mask)
        if (
            self.dropout is not None and type(self.model.get_output_embeddings()) is not nn.Linear
        ):  # an adapter there drops by row
            return self._of(separate(*batch, by_row=True)).masked_fill(response_mask == 0, 0.0)
        may_share = self.dropout is None and self.may_share(prompt_ids.device)
        layout = (shared(*batch) if may_share else None) or separate(*batch, by_row=False)
        logps = torch.zeros(response_ids.shape, device=response_ids.device)
        return logps.index_put((response_mask == 1,), self._of(layout)[0])

    def _of(self, layout: Layout) -> Tensor:
        """Log-probs of a layout's targets, in their shape."""
        if self._chunked:
            return self._chunked_logps(
                layout.at_places(self.model.base_model(**layout.options, use_cache=False)[0]), layout.targets
            )
        with layout.head_at_places(self.model.get_output_embeddings()):
            logits = self.model(**layout.options, use_cache=False).logits
        if logits.shape[:2] != layout.places.shape:  # of a model that does not call its head as a module
            logits = layout.at_places(logits)
        return token_logps(logits, layout.targets)

    def may_share(self, device: torch.device) -> bool:
        """Whether a prompt is computed once for all responses to it; after a trial, when this is first asked."""
        if torch.is_autocast_enabled(device.type):
            return False
        if self.separate_because is None and not self._tried:
            self._tried = True
            self.separate_because = self._try_sharing()
        return self.separate_because is None

    @torch.no_grad()
    def _try_sharing(self) -> str | None:
        """Why log-probs of rows that share a prompt would be others; None if they are the same."""
        model: Any = self.model
        ids = torch.arange(1, 46, device=model.device).view(3, 15) % model.get_input_embeddings().num_embeddings
        prompts, responses = ids[[0, 0, 1], :12], ids[:, 12:]
        batch = (prompts, torch.ones_like(prompts), responses, torch.ones_like(responses))
        was_training = self.model.training
        self.model.eval()
        try:
            layout = shared(*batch)
            assert layout is not None
            apart = self._of(separate(*batch, by_row=False))
            differs = not torch.allclose(self._of(layout), apart, atol=SAME, rtol=SAME)
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            return f"{type(self.model).__name__} takes no mask of this kind ({' '.join(str(error).split())[:100]})"
        finally:
            self.model.train(was_training)
        return f"{type(self.model).__name__} computes other numbers then" if differs else None

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


def token_logps(logits: Tensor, targets: Tensor) -> Tensor:
    """(B, T, V) logits and (B, T) tokens → (B, T) fp32 log-probs."""
    flat = functional.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), reduction="none")
    return -flat.view_as(targets)


def _logps_of(head: nn.Module, states: Tensor, targets: Tensor) -> Tensor:
    """(N, H) states before (N,) tokens → (N,) fp32 log-probs."""
    return token_logps(head(states)[None], targets[None])[0]
