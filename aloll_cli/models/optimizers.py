"""Optimizers and learning-rate schedules. The learning rate is a pure function of the step."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from math import cos, pi
from typing import TYPE_CHECKING, Any

from aloll_cli.errors import UserError
from aloll_cli.schema import numbers

if TYPE_CHECKING:
    import torch


class Schedule(Enum):
    """The learning rate after the warm-up."""

    constant = "stays at lr"
    linear = "decays linearly from lr to 0"
    cosine = "decays from lr to 0 along a half cosine"


@dataclass(kw_only=True)
class Adamw:
    """AdamW; the learning-rate schedule counts training steps, not micro-batches."""

    lr: float = field(metadata=numbers("(0, 10]", 3e-4))
    betas: list[float] = field(metadata=numbers("[0, 1)", 0.9))
    eps: float = field(metadata=numbers("(0, 1]", 1e-8))
    weight_decay: float = field(metadata=numbers("[0, 10]"))
    schedule: Schedule
    warmup_updates: int = field(metadata=numbers("[0, 2147483647]"))
    eight_bit: bool
    paged: bool
    max_grad_norm: float | None = field(metadata=numbers("(0, inf)", 1.0))  # null: no gradient clipping

    def __post_init__(self) -> None:
        if len(self.betas) != 2:
            raise UserError(f"optimizer.betas must be two numbers, got {self.betas}.", "optimizer.betas=[0.9,0.999]")

    def build(self, parameters: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
        """The optimizer for the trainable ones of some parameters."""
        trained = [p for p in parameters if p.requires_grad]
        b1, b2 = self.betas
        options: dict[str, Any] = {"lr": self.lr, "betas": (b1, b2), "eps": self.eps, "weight_decay": self.weight_decay}
        import torch

        if not self.eight_bit and not self.paged:
            return torch.optim.AdamW(trained, fused=True, **options)  # one pass over the weights, on a CPU too

        from bitsandbytes.optim.adamw import AdamW

        bits, paged = 8 if self.eight_bit else 32, self.paged and torch.cuda.is_available()
        built: torch.optim.Optimizer = AdamW(trained, optim_bits=bits, is_paged=paged, **options)  # type: ignore[no-untyped-call]
        return built

    def doubt(self, updates: int) -> str | None:
        """What is odd about the schedule of ``updates`` steps, if anything."""
        if not self.warmup_updates or updates > self.warmup_updates:
            return None
        highest = f"at its end the learning rate reaches {updates / self.warmup_updates:.0%} of optimizer.lr={self.lr:g}"
        return f"optimizer.warmup_updates={self.warmup_updates} is not shorter than training ({updates} steps): {highest}"

    def lr_at(self, update: int, updates: int) -> float:
        """The learning rate at step ``update``, counted from 0, of ``updates`` steps."""
        if update < self.warmup_updates:
            return self.lr * (update + 1) / self.warmup_updates
        progress = (update - self.warmup_updates) / max(1, updates - self.warmup_updates)
        match self.schedule:
            case Schedule.constant:
                return self.lr
            case Schedule.linear:
                return self.lr * (1 - progress)
            case Schedule.cosine:
                return self.lr * (1 + cos(pi * progress)) / 2
