"""Where training figures are sent, beside metrics.jsonl. Nothing is sent unless asked for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

Send = Callable[[int, dict[str, float]], None]
Warn = Callable[[str], None]


@dataclass(kw_only=True)
class Tracking(ABC):
    """A tracker of experiments. One that fails warns once, and training goes on."""

    def start(self, name: str, config: dict[str, Any], warn: Warn) -> Send:
        """Open a run of that name; returns what sends (update, figures)."""
        try:
            send = self.open(name, config)
        except Exception as error:  # a tracker's faults are not the run's
            warn(f"the tracker could not be opened, training goes on without: {error}")
            return lambda update, figures: None
        failed: list[Exception] = []

        def send_or_warn(update: int, figures: dict[str, float]) -> None:
            try:
                send(update, figures)
            except Exception as error:
                if not failed:
                    warn(f"the tracker failed, training goes on: {error}")
                failed.append(error)

        return send_or_warn

    @abstractmethod
    def open(self, name: str, config: dict[str, Any]) -> Send:
        """Open a run; may raise whatever the tracker raises."""


@dataclass(kw_only=True)
class Off(Tracking):
    """No tracker."""

    def open(self, name: str, config: dict[str, Any]) -> Send:
        return lambda update, figures: None


class Mode(Enum):
    """How Weights & Biases is reached."""

    online = "as it goes"
    offline = "kept in a folder, for `wandb sync`"
    disabled = "not at all"


@dataclass(kw_only=True)
class Wandb(Tracking):
    """Weights & Biases."""

    project: str
    mode: Mode

    def open(self, name: str, config: dict[str, Any]) -> Send:
        import wandb

        run = wandb.init(
            project=self.project,
            mode=self.mode.name,  # type: ignore[arg-type]
            name=name,
            id=name,
            resume="allow",
            reinit="finish_previous",  # the reference's run ends where the policy's begins
            config=config,
        )
        return lambda update, figures: run.log(figures, step=update)
