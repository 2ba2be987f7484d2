"""Optimizers and their schedules. The learning rate is a pure function of the update's number."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from math import cos, pi
from typing import TYPE_CHECKING

from aloll_cli.errors import UserError

if TYPE_CHECKING:
    import torch


class Schedule(Enum):
    """The learning rate after the warm-up."""

    constant = "lr"
    linear = "from lr down to 0"
    cosine = "from lr down to 0, along a half cosine"


@dataclass(kw_only=True)
class Adamw:
    """AdamW; the learning rate follows a schedule that counts updates, never micro-batches."""

    lr: float
    betas: list[float]
    eps: float
    weight_decay: float
    schedule: Schedule
    warmup_updates: int
    max_grad_norm: float | None  # gradients are scaled down to this norm; null leaves them

    def __post_init__(self) -> None:
        if self.lr <= 0:
            raise UserError(f"optimizer.lr must be positive, got {self.lr}.", "optimizer.lr=3e-4")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise UserError(f"optimizer.betas must be two numbers in [0, 1), got {self.betas}.", "optimizer.betas=[0.9,0.999]")
        if self.weight_decay < 0 or self.warmup_updates < 0 or self.eps <= 0:
            raise UserError("optimizer.weight_decay, warmup_updates and eps must not be negative.", "optimizer.weight_decay=0")
        if self.max_grad_norm is not None and self.max_grad_norm <= 0:
            raise UserError(
                f"optimizer.max_grad_norm must be positive, got {self.max_grad_norm}.", "optimizer.max_grad_norm=null"
            )

    def build(self, parameters: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
        """The optimizer of some parameters."""
        import torch

        trained = [p for p in parameters if p.requires_grad]
        b1, b2 = self.betas
        return torch.optim.AdamW(trained, lr=self.lr, betas=(b1, b2), eps=self.eps, weight_decay=self.weight_decay)

    def lr_at(self, update: int, updates: int) -> float:
        """The learning rate of an update (0 first) of so many."""
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
