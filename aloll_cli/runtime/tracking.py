"""Experiment trackers, to which training metrics are sent in addition to metrics.jsonl; none by default."""

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
    """An experiment tracker. If it fails, a warning is logged once and training continues."""

    def start(self, name: str, config: dict[str, Any], warn: Warn) -> Send:
        """Open a run of that name; returns a function that sends (step, metrics)."""
        try:
            send = self.open(name, config)
        except Exception as error:  # a failing tracker must not end a run
            warn(f"the experiment tracker could not be opened, training continues without it: {error}")
            return lambda update, figures: None
        failed: list[Exception] = []

        def send_or_warn(update: int, figures: dict[str, float]) -> None:
            try:
                send(update, figures)
            except Exception as error:
                if not failed:
                    warn(f"the experiment tracker failed, training continues: {error}")
                failed.append(error)

        return send_or_warn

    @abstractmethod
    def open(self, name: str, config: dict[str, Any]) -> Send:
        """Open a run; may raise any exception of the tracker."""


@dataclass(kw_only=True)
class Off(Tracking):
    """No tracker."""

    def open(self, name: str, config: dict[str, Any]) -> Send:
        return lambda update, figures: None


class Mode(Enum):
    """The mode of Weights & Biases."""

    online = "metrics are sent during training"
    offline = "metrics are kept in a folder, for `wandb sync`"
    disabled = "nothing is sent or kept"


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
            reinit="finish_previous",  # the run of the reference policy ends when that of the policy begins
            config=config,
        )
        return lambda update, figures: run.log(figures, step=update)
