"""Where training figures are sent, beside metrics.jsonl. Nothing is sent unless asked for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Send = Callable[[int, dict[str, float]], None]


@dataclass(kw_only=True)
class Tracking(ABC):
    """A tracker of experiments."""

    @abstractmethod
    def start(self, name: str, config: dict[str, Any]) -> Send:
        """Open a run of that name; returns what sends (update, figures)."""


@dataclass(kw_only=True)
class Off(Tracking):
    """No tracker."""

    def start(self, name: str, config: dict[str, Any]) -> Send:
        return lambda update, figures: None


@dataclass(kw_only=True)
class Wandb(Tracking):
    """Weights & Biases."""

    project: str
    mode: str  # online, offline or disabled

    def start(self, name: str, config: dict[str, Any]) -> Send:
        import wandb

        run = wandb.init(project=self.project, mode=self.mode, name=name, id=name, resume="allow", config=config)  # type: ignore[arg-type]
        return lambda update, figures: run.log(figures, step=update)
