"""ln π(y_t | x, y_<t) of response tokens: one module for policy, reference and all losses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.modeling_layers import GradientCheckpointingLayer

from aloll_cli.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

CHUNK = 128  # positions per chunk of the chunked head
NOT_PLAIN = ("final_logit_softcapping", "logit_scale", "logits_scaling")  # options that make logits non-linear or scale them


class ResponseLogps(nn.Module):
    """Per-token log-probs of responses under a causal language model.

    Prompts are padded on the left and responses on the right, so that the last T + 1 positions of every row are sufficient.
    Position ids count unmasked tokens. Logits are computed for response positions only, and normalized in fp32.
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
        self._chunked, self._recompute = chunked, recompute
        if chunked:
            self._probe()
        if recompute:
            model.activation_checkpointing_enable({"use_reentrant": False})

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
        mask = torch.cat([prompt_mask, response_mask], dim=1)
        inputs = {
            "input_ids": torch.cat([prompt_ids, response_ids], dim=1),
            "attention_mask": mask,
            "position_ids": (mask.cumsum(dim=1) - 1).clamp(min=0),
            "use_cache": False,
        }
        length = response_ids.shape[1]
        if self._chunked:
            states = self.model.base_model(**inputs).last_hidden_state[:, -length - 1 : -1]
            logps = self._chunked_logps(states, response_ids)
        else:
            logits = self.model(**inputs, logits_to_keep=length + 1).logits[:, :-1]
            logps = token_logps(logits, response_ids)
        return logps.masked_fill(response_mask == 0, 0.0)

    def _chunked_logps(self, states: Tensor, targets: Tensor) -> Tensor:
        head = self.model.get_output_embeddings()
        options = nn.LinearCrossEntropyOptions(batch_chunk_size=CHUNK, acc_policy="compact")
        losses = functional.linear_cross_entropy(
            states.flatten(0, 1).float(),
            head.weight.float(),
            targets.flatten(),
            linear_bias=head.bias,
            reduction="none",
            options=options,
        )
        return -losses.view_as(targets)

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
        # logits rounded to 16 bits by the model differ from fp32 ones by this much
        tolerance = 1e-4 if self.model.dtype == torch.float32 else 2e-2
        if not torch.allclose(chunked, full, atol=tolerance, rtol=tolerance):
            raise refusal


def token_logps(logits: Tensor, targets: Tensor) -> Tensor:
    """(B, T, V) logits and (B, T) tokens → (B, T) fp32 log-probs."""
    flat = functional.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), reduction="none")
    return -flat.view_as(targets)
