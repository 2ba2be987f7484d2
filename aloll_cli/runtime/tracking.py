"""Experiment trackers, to which training metrics are sent in addition to metrics.jsonl; none by default.

metrics.jsonl and evaluations.jsonl are the record; a tracker holds a copy. A resumed run sends again what was recorded, into a
run that replaces the earlier one, or from where the tracker's server stands: its curve is whole, and no step is in it twice.
"""

from __future__ import annotations

import atexit
import shutil
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass
from enum import Enum
from glob import escape
from pathlib import Path
from typing import Any

Figures = dict[str, float]
Send = Callable[[int, Figures], None]
Warn = Callable[[str], None]

INIT_TIMEOUT = 10.0  # seconds for a server to answer
FLUSH_EVERY = 10  # seconds


@dataclass(frozen=True)
class Tracked:
    """What a tracker is told of a training run.

    Attributes:
        name: of the policy's folder.
        config: the recipe.
        folder: for files of trackers.
        recorded: (step, figures) of what was recorded before the run was resumed, in order.
    """

    name: str
    config: dict[str, Any]
    folder: Path
    recorded: list[tuple[int, Figures]]


@dataclass(kw_only=True)
class Tracking(ABC):
    """An experiment tracker. If it fails, a warning is logged once and training continues."""

    def start(self, run: Tracked, warn: Warn) -> Send:
        """Open a run and send what was recorded; returns a function that sends (step, figures)."""
        failed: list[Exception] = []

        def send_or_warn(step: int, figures: Figures) -> None:
            try:
                send(step, figures)
            except Exception as error:
                if not failed:
                    warn(f"the experiment tracker failed, training continues: {error}")
                failed.append(error)

        try:
            with redirect_stdout(sys.stderr):  # stdout is for results
                send = self.open(run)
        except Exception as error:  # a failing tracker must not end a run
            warn(f"the experiment tracker could not be opened, training continues without it: {error}")
            return lambda step, figures: None
        for step, figures in run.recorded:
            send_or_warn(step, figures)
        return send_or_warn

    @abstractmethod
    def open(self, run: Tracked) -> Send:
        """Open a run; may raise any exception of the tracker."""


@dataclass(kw_only=True)
class Off(Tracking):
    """No tracker."""

    def open(self, run: Tracked) -> Send:
        return lambda step, figures: None


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

    def open(self, run: Tracked) -> Send:
        import wandb

        if self.mode is Mode.offline:  # syncing several folders of one run would keep the last of them only
            for earlier in (run.folder / "wandb").glob(f"offline-run-*-{escape(run.name)}"):
                shutil.rmtree(earlier)
        run.folder.mkdir(parents=True, exist_ok=True)
        opened = wandb.init(
            project=self.project,
            mode=self.mode.name,  # type: ignore[arg-type]
            name=run.name,
            id=run.name,
            dir=run.folder,
            resume="allow",
            reinit="finish_previous",  # the run of the reference policy ends when that of the policy begins
            config=run.config,
            settings=wandb.Settings(silent=True, console="off", init_timeout=INIT_TIMEOUT),
        )
        stands = opened.step  # the server has what comes before

        def send(step: int, figures: Figures) -> None:
            if step >= stands:
                opened.log(figures, step=step)

        return send


@dataclass(kw_only=True)
class Tensorboard(Tracking):
    """TensorBoard's event files."""

    def open(self, run: Tracked) -> Send:
        from torch.utils.tensorboard import SummaryWriter

        place = run.folder / "tensorboard" / run.name
        shutil.rmtree(place, ignore_errors=True)
        writer = SummaryWriter(str(place), flush_secs=FLUSH_EVERY)  # type: ignore[no-untyped-call]
        atexit.register(writer.close)

        def send(step: int, figures: Figures) -> None:
            for name, figure in figures.items():
                writer.add_scalar(name, figure, step)  # type: ignore[no-untyped-call]

        return send


@dataclass(kw_only=True)
class Trackio(Tracking):
    """Trackio, with its data base on this machine; ``trackio show`` draws it."""

    project: str

    def open(self, run: Tracked) -> Send:
        import trackio

        with suppress(ValueError):  # there is no such project yet
            for earlier in trackio.Api().runs(self.project):
                if earlier.name == run.name:
                    earlier.delete()
        opened = trackio.init(project=self.project, name=run.name, config=run.config, embed=False)
        atexit.register(_quietly, opened.finish)
        return lambda step, figures: opened.log(figures, step=step)


def _quietly(action: Callable[[], object]) -> None:
    with redirect_stdout(sys.stderr):
        action()
