"""The training loop of neural rewards (rewards/finetuned.py): steps, losses on held-out prompts, checkpoints."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from aloll_cli.errors import UserError
from aloll_cli.models.base import Numbers
from aloll_cli.models.dropout import RowDropout
from aloll_cli.models.text_scores import TextScores
from aloll_cli.text.encoding import right_padded
from aloll_cli.training.parallel import replicated
from aloll_cli.training.progress import EVALUATIONS, METRICS, Progress
from aloll_cli.training.sampling import philox
from aloll_cli.training.selection import selected_step
from aloll_cli.training.sources import packed
from aloll_cli.watchdog import patient

if TYPE_CHECKING:
    from aloll_cli.arrays import FloatArray, IntArray
    from aloll_cli.models.optimizers import Adamw
    from aloll_cli.rewards.objectives import Objective
    from aloll_cli.store.store import Job


@dataclass(frozen=True)
class RatedTexts:
    """N texts with their ratings.

    Attributes:
        ids: N times (T_i,) token ids of prompt and response.
        targets: (N,) ratings as the objective takes them.
        units: the rows of each unit that is trained on.
        held_out: the rows of each unit of other prompts, which choose the checkpoint.
    """

    ids: list[IntArray]
    targets: FloatArray
    units: list[IntArray]
    held_out: list[IntArray]


@dataclass
class RewardTrainer:
    """One run; the checkpoint with the lowest loss on held-out prompts is kept as ``model/``.

    A resumed run is bitwise the same as an uninterrupted one: what a step draws is a function of the seed and its number.
    """

    job: Job
    label: str
    module: TextScores
    numbers: Numbers
    objective: Objective
    texts: RatedTexts
    padding: Callable[[list[list[int]]], int]  # of the texts of a micro-batch
    optimizer_options: Adamw
    batch_size: int  # units per step
    steps: int
    eval_every: int
    seed: int
    save: Callable[[Path], object]  # writes the model into a folder
    result: str  # the name of the folder for the chosen model

    def __post_init__(self) -> None:
        self.parallel = replicated(self.module, self.optimizer_options, self.job)
        self.optimizer = self.parallel.optimizer
        job = self.job
        self.progress = Progress(job.directory, job.runtime.keep_checkpoints, True, job.log, result=self.result)

    def run(self) -> None:
        """Train to the end, from the last checkpoint if there is one."""
        job, done = self.job, self._resume()
        with job.log.progress(f"fine-tune {self.label}", self.steps, done) as meter:
            if done == 0:
                self._evaluate(0)
            for step in range(done, self.steps):
                figures = self.step(step)
                self._record(METRICS, figures)
                done = step + 1
                if done % self.eval_every == 0 or done == self.steps:
                    self._evaluate(done)
                meter.advance(1, loss=figures["loss"])
                stop = job.world.stopped(job.stopper)
                if stop or done % job.runtime.checkpoint_every == 0 or done == self.steps:
                    self._checkpoint(done)
                if stop and done < self.steps:
                    raise stop
        if job.world.is_main:
            self._finish()

    def step(self, step: int) -> dict[str, Any]:
        """One training step; every process computes the gradients of its share of the units. Returns its figures."""
        start, world = time.perf_counter(), self.job.world
        self.module.set_to_train(dropout=True)
        units = [self.texts.units[i] for i in drawn(len(self.texts.units), self.batch_size, self.seed, step)]
        longest = [max(len(self.texts.ids[i]) for i in unit) for unit in units]
        mine = [units[i] for i in np.argsort(longest, kind="stable")[world.rank :: world.size]]
        lr = self.optimizer_options.lr_at(step, self.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        total, micro = 0.0, packed(mine, self.job.runtime.micro_batch_size)
        for number, chosen in enumerate(micro):
            last = number == len(micro) - 1
            with self.parallel.accumulating(last), self._masks(chosen, step):
                losses = self._losses(chosen, self.parallel.module)
                self.parallel.backward(losses.sum() / len(units))  # the mean is over all units of the step
            total += float(losses.detach().sum())
        norm = self.parallel.clip(self.optimizer_options.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        loss, tokens = world.sum(total) / len(units), sum(len(self.texts.ids[i]) for unit in units for i in unit)
        if not math.isfinite(loss) or not math.isfinite(norm):
            what = f"reward={self.label}, step {step + 1}: the loss is {loss} and the gradient norm {norm}."
            raise UserError(what, "Try a smaller reward.optimizer.lr, or reward.body.dtype=float32.")
        seconds = round(time.perf_counter() - start, 4)
        return {"update": step + 1, "loss": loss, "lr": lr, "grad_norm": norm, "tokens": tokens, "seconds": seconds}

    def _losses(self, units: list[IntArray], module: Any) -> Tensor:
        """(U,) losses of some units; ``module`` is ours, wrapped or not."""
        device, chosen = self.module.model.device, np.concatenate(units)
        rows = [self.texts.ids[i] for i in chosen]
        with self.numbers.computing(device):
            scores = module(*right_padded(rows, self.padding([row.tolist() for row in rows]), device))
        targets = torch.tensor(self.texts.targets[chosen], dtype=torch.float32, device=device)
        unit = torch.tensor(np.repeat(np.arange(len(units)), [len(one) for one in units]), device=device)
        return self.objective.losses(scores, targets, unit)

    def _masks(self, units: list[IntArray], step: int) -> RowDropout:
        """The dropout of a micro-batch."""
        chosen = np.concatenate(units)
        keys = [f"{self.seed} {step} {i}" for i in chosen]
        return RowDropout(self.module, keys, [len(self.texts.ids[i]) for i in chosen])

    @torch.no_grad()
    def held_out_loss(self) -> float:
        """The mean loss of the units that are held out."""
        self.module.eval()
        world, total = self.job.world, 0.0
        for units in packed(self.texts.held_out[world.rank :: world.size], self.job.runtime.micro_batch_size):
            total += float(self._losses(units, self.module).sum())
        return world.sum(total) / len(self.texts.held_out)

    @property
    def constant_loss(self) -> float:
        """What the best score that is the same for all texts would lose there."""
        chosen = np.concatenate(self.texts.held_out)
        targets = torch.tensor(self.texts.targets[chosen])
        unit = torch.tensor(np.repeat(np.arange(len(self.texts.held_out)), [len(one) for one in self.texts.held_out]))
        constant = self.objective.best_constant(self.texts.targets[np.concatenate(self.texts.units)])
        return float(self.objective.losses(torch.full_like(targets, constant), targets, unit).mean())

    def _evaluate(self, step: int) -> None:
        loss = self.held_out_loss()
        if self.job.world.is_main:
            self._record(EVALUATIONS, {"update": step, "score": -loss})
            self.job.log.say(f"  step {step:5d}  loss on held-out prompts {loss:.4f}")
            if self.progress.is_selected(step):
                self.progress.save_candidate(step, self.save)

    def _checkpoint(self, step: int) -> None:
        self.job.world.wait()
        if self.job.world.is_main:
            with patient():
                self.progress.save_checkpoint(step, self.parallel.save)
        self.job.world.wait()

    def _resume(self) -> int:
        """Load the last checkpoint that is whole and go back to it; returns the number of steps done."""
        world = self.job.world
        done = int(world.gather(self.progress.last_whole() if world.is_main else 0)[0])
        if world.is_main:
            self.progress.go_back_to(done, self.steps)
        world.wait()
        if done:
            self.parallel.load(self.progress.checkpoint(done))
            self.job.log.say(f"  resumed after step {done} of {self.steps}")
        return done

    def _finish(self) -> None:
        self.progress.finish()
        records, constant = self.progress.evaluations(), self.constant_loss
        best = selected_step(records, by_score=True)
        loss = next(-record["score"] for record in records if record["update"] == best)
        self.job.log.say(f"  best checkpoint: step {best} of {self.steps} (loss {loss:.4f}; of a constant {constant:.4f})")
        if loss >= constant:
            self.job.log.warn(
                f"reward={self.label} predicts held-out ratings no better than a constant does; try another reward.optimizer.lr, "
                "more reward.epochs, or reward=fitted"
            )

    def _record(self, name: str, record: dict[str, Any]) -> None:
        if self.job.world.is_main:
            self.progress.record(name, record)


def drawn(count: int, batch_size: int, seed: int, step: int) -> list[int]:
    """The units of a step: the next ``batch_size`` of all ``count``, which every epoch shuffles anew."""
    places = range(step * batch_size, (step + 1) * batch_size)
    orders = {epoch: philox(seed, epoch).permutation(count) for epoch in {place // count for place in places}}
    return [int(orders[place // count][place % count]) for place in places]
