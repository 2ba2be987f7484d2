"""The training loop. It is independent of methods: a source provides units of data, a variant their losses."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from aloll_cli.errors import UserError
from aloll_cli.models.base import Numbers
from aloll_cli.models.logprobs import ResponseLogps
from aloll_cli.models.saving import policy_weights, save_policy
from aloll_cli.training.batches import no_masks, padded, row_masks, token_batch
from aloll_cli.training.contracts import checked_loss, checked_metrics
from aloll_cli.training.progress import EVALUATIONS, METRICS, Progress
from aloll_cli.training.selection import STOPPED_EARLY, conclusion, early_stop_sentence, stops_early
from aloll_cli.training.sources import Source, packed, same_texts
from aloll_cli.training.start import check_distance, distance
from aloll_cli.training.strategies import parallel
from aloll_cli.variants.base import Batch, Reduction, Variant
from aloll_cli.visible import fixed
from aloll_cli.watchdog import patient

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from aloll_cli.arrays import IntArray
    from aloll_cli.models.optimizers import Adamw
    from aloll_cli.runtime.tracking import Figures, Send
    from aloll_cli.store.store import Job
    from aloll_cli.training.evaluators import Evaluator


BLOWN_UP = 100.0  # a mean importance ratio above this is warned of


@dataclass
class Trainer:
    """One training run: steps, evaluations, checkpoints, and in the end the selected checkpoint as ``policy/``.

    A resumed run starts from its last checkpoint, with metrics and evaluations truncated to it. Resuming is bitwise reproducible,
    because all randomness is a function of seeds and step numbers.
    """

    job: Job
    label: str
    module: ResponseLogps
    numbers: Numbers
    is_exact: bool  # whether all numbers have 32 bits, also the frozen ones
    stored_logps: Path | None  # where the reference log-probs are; None where none are stored
    tokenizer: PreTrainedTokenizerBase
    source: Source
    variant: Variant
    reduction: Reduction
    optimizer_options: Adamw
    updates: int
    eval_every: int
    select_best: bool
    early_stop: int | None
    seed: int
    evaluator: Evaluator
    track: Callable[[list[tuple[int, Figures]]], Send]  # opens a tracker, with what was recorded before the run was resumed
    _has_warned: bool = False

    def __post_init__(self) -> None:
        self.parallel = parallel(self.module, self.optimizer_options, self.job)
        self.optimizer, self.device = self.parallel.optimizer, self.module.model.device

    def run(self) -> None:
        """Train to the end, from the last checkpoint if there is one."""
        self.progress = Progress(self.job.directory, self.job.runtime.keep_checkpoints, self.select_best, self.job.log)
        done = self._resume()
        self.send = self.track(self._recorded() if self.job.world.is_main else [])
        with self.job.log.progress(f"train {self.label}", self.updates, done) as meter:
            if done == 0:
                self._check_start()
                self._evaluate(0)
            over = self._is_over(done)
            while not over:
                figures = self.step(done)
                self._record(METRICS, figures)
                done += 1
                evaluated = done % self.eval_every == 0 or done == self.updates
                score = self._evaluate(done) if evaluated else {}
                over = evaluated and self._is_over(done)
                meter.advance(1, loss=figures["loss"], **score)
                stop = self.job.world.stopped(self.job.stopper)
                if stop or over or done % self.job.runtime.checkpoint_every == 0:
                    self._checkpoint(done)
                if stop and not over:
                    raise stop
        if self.job.world.is_main:
            self._finish()

    def step(self, update: int) -> dict[str, Any]:
        """One training step; every process computes the gradients of its share of the units. Returns its figures."""
        start = time.perf_counter()
        prepared = self._prepare(update)
        # seeds what a plugin's loss may draw; a model draws the masks of dropout, each from a seed of its own
        torch.manual_seed((self.seed * 1_000_003 + update) * 64 + self.job.world.rank)
        drops = not self.variant.needs_behaviour  # no dropout where an importance ratio is taken
        self.module.set_to_train(dropout=drops)
        units, rows = self.source.units(update), self.source.rows
        drawn = np.concatenate(units)
        longest = [rows.lengths(unit).max() for unit in units]
        order = np.argsort(longest, kind="stable")[self.job.world.rank :: self.job.world.size]
        micro = packed([units[i] for i in order], self.job.runtime.micro_batch_size)
        masks = row_masks(self.module, rows.lengths, f"{self.seed} {update}", units, order) if drops else no_masks
        mean_length = float(rows.response_lengths(drawn).mean())
        lr = self.optimizer_options.lr_at(update, self.updates)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        sums: dict[str, float] = {}
        counts: dict[str, int] = {}
        missing = self.parallel.missing(len(micro))
        for number, chosen in enumerate(micro):
            last = number == len(micro) - 1
            with self.parallel.accumulating(last), masks(chosen):
                with self.numbers.computing(self.device, cached=self.parallel.holds_whole):
                    loss, figures = self._loss(chosen, mean_length)
                self.parallel.backward(loss.sum() / len(units))  # the mean is over all units of the step
            for name, values in figures.items():
                sums[name] = sums.get(name, 0.0) + float(values.sum())
                counts[name] = counts.get(name, 0) + len(values)
        self.parallel.take_part(missing)
        norm = self.parallel.clip(self.optimizer_options.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        learned = self.source.learn(self.job.world)
        every = self.job.world.gather([sums, counts])
        means = {name: sum(part[0][name] for part in every) / sum(part[1][name] for part in every) for name in sums}
        logged = {"update": update + 1, **means, "lr": lr, "grad_norm": norm}
        logged |= {} if self.source.kept is None else {"kept": self.source.kept}
        logged |= prepared | learned | {"tokens": int(rows.lengths(drawn).sum())}
        self._check_finite(logged)
        return logged | {"seconds": round(time.perf_counter() - start, 4)}

    def _is_over(self, done: int) -> bool:
        """Whether training ends after a step, in every process."""
        if self.early_stop is None:
            return done == self.updates
        return self.job.world.decide(partial(self.progress.is_over, done, self.updates))

    def _prepare(self, update: int) -> dict[str, float]:
        self.module.eval()
        with self.parallel.whole() if self.source.asks(update) else nullcontext(), self._precision():
            return self.source.prepare(update, self.module, self.job.world)

    def _precision(self) -> Any:
        return self.numbers.computing(self.device)

    def _loss(self, units: list[IntArray], mean_length: float) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """(U,) losses of some units, and metrics per unit or per response."""
        device = self.device
        rows, chosen, apart = self.source.rows, np.concatenate(units), self.source.mismatched_log_ratios
        tokens = token_batch(rows.responses, chosen.tolist(), int(self.tokenizer.pad_token_id), device)
        batch = Batch(
            logps=tokens.logps(self.parallel.module),
            behaviour_logps=padded([rows.behaviour.row(i) for i in chosen], device) if rows.behaviour else None,
            weights=torch.tensor(rows.weights[chosen], dtype=torch.float32, device=device),
            rewards=torch.tensor(rows.rewards[chosen], dtype=torch.float32, device=device),
            group=torch.tensor(np.repeat(np.arange(len(units)), [len(unit) for unit in units]), device=device),
            mask=tokens.response_mask,
            reference_logps=padded([rows.reference.row(i) for i in chosen], device) if rows.reference else None,
            text=torch.tensor(same_texts([rows.responses.response_ids(i).tobytes() for i in chosen]), device=device),
            mismatched_log_ratios=None if apart is None else torch.tensor(apart, dtype=torch.float32, device=device),
        )
        loss = checked_loss(self.variant, batch, len(units))
        self.source.observe(chosen, batch)
        if self.reduction is Reduction.mean:
            loss = loss * mean_length / batch.mask.sum(dim=-1)
        figures = {"loss": loss.detach(), **checked_metrics(self.variant, batch, len(units))}
        if rows.behaviour:
            ratio, distance = self.variant.drift
            figures[ratio] = (batch.log_ratio.exp() * batch.mask).sum(dim=-1) / batch.mask.sum(dim=-1)
            figures[distance] = 0.5 * batch.log_ratio.square().sum(dim=-1)
        return loss, figures

    def _check_finite(self, figures: dict[str, Any]) -> None:
        if not math.isfinite(figures["loss"]) or not math.isfinite(figures["grad_norm"]):
            what = f"step {figures['update']}: the loss is {figures['loss']} and the gradient norm {figures['grad_norm']}"
            if figures["update"] == 1:
                hint = "Look for NaN and infinite numbers in the model's weights, or set model.dtype=float32."
                raise UserError(f"{what}, before any weight was changed.", hint)
            raise UserError(
                f"{what}.",
                "Try a smaller optimizer.lr" + (", or clip importance ratios: variant.clip=0.9" if self._is_unclipped else "."),
            )
        if figures.get("ratio", 1.0) > BLOWN_UP and not self._has_warned:
            self._has_warned = True
            self.job.log.warn(
                f"step {figures['update']}: the mean importance ratio π/π_ref is {figures['ratio']:.0f}: the policy moves away "
                "from the data; use a smaller optimizer.lr or fewer updates (logged once)"
            )

    @property
    def _is_unclipped(self) -> bool:
        return vars(self.variant).get("clip", 1.0) is None

    def _check_start(self) -> None:
        """The initial policy must reproduce the stored reference log-probs, so that importance ratios start at 1."""
        rows = self.source.stored
        if rows is None or rows.behaviour is None:
            return
        assert self.stored_logps is not None
        pad, batch_tokens = int(self.tokenizer.pad_token_id), self.job.runtime.scoring_batch_tokens
        with self.parallel.whole(), self._precision():
            off = distance(self.module, rows, rows.behaviour, pad, batch_tokens)
        check_distance(off, self.is_exact, self.stored_logps)
        self.job.log.say(f"  check: the initial policy reproduces the reference log-probs (median |ln ρ|/√T = {off:.1e})")

    def _evaluate(self, update: int) -> dict[str, float]:
        """Evaluate the policy; save its weights if they are the best so far."""
        self.module.eval()
        with self.parallel.whole(), self._precision():
            record = {"update": update, **self.evaluator.evaluate(self.module, self.seed, self.job.world)}
        if self.job.world.is_main:
            self._tell(update, record)
        may_be_kept = bool(update) or self.evaluator.may_refuse
        if may_be_kept and self.job.world.decide(lambda: self.progress.is_selected(update)):
            weights = self.parallel.gathered(policy_weights(self.module.model))
            if self.job.world.is_main:
                self.progress.save_candidate(update, lambda folder: self._save_policy(folder, weights))
        return {self.evaluator.label: record["score"]}

    def _tell(self, update: int, record: dict[str, Any]) -> None:
        """Record an evaluation, and say what it shows."""
        if self.early_stop and update < self.updates and stops_early([*self.progress.evaluations(), record], self.early_stop):
            record[STOPPED_EARLY] = {"after": update, "of": self.updates, "patience": self.early_stop}
        self._record(EVALUATIONS, record)
        score = f"validation {self.evaluator.label} {fixed(record['score'], 4)}"
        self.job.log.say(f"  step {update:5d}  {score}  {self.evaluator.describe(record)}".rstrip())
        if warning := self.evaluator.collapse(self.progress.evaluations()[0], record):
            self.job.log.warn(f"step {update}: {warning}")

    def _checkpoint(self, update: int) -> None:
        self.job.world.wait()
        with patient():
            if self.job.world.is_main:
                self.progress.save_checkpoint(update, self._save_state)
            else:
                self.parallel.save(None)
        self.job.world.wait()

    def _save_state(self, folder: Path) -> None:
        self.parallel.save(folder)
        self.source.save(folder)

    def _resume(self) -> int:
        """Load the last checkpoint that is whole and go back to it; returns the number of steps done."""
        done = int(self.job.world.gather(self.progress.last_whole() if self.job.world.is_main else 0)[0])
        if self.job.world.is_main:
            self.progress.go_back_to(done, self.updates)
        self.job.world.wait()
        if done:
            checkpoint = self.progress.checkpoint(done)
            self.parallel.load(checkpoint)
            self.source.load(checkpoint)
            rounded = self.device.type == "cuda" and not self.job.runtime.deterministic
            to = "; on a GPU the same to rounding, and to the bit with deterministic=true" if rounded else ""
            self.job.log.say(f"  resumed after step {done} of {self.updates}{to}")
        return done

    def _finish(self) -> None:
        self.progress.finish()
        if found := self.progress.evaluations()[-1].get(STOPPED_EARLY):
            self.job.log.say(f"  {early_stop_sentence(found)}")
        line, warning = conclusion(self.progress.evaluations(), self.select_best, self.updates, self.evaluator.label)
        self.job.log.say(f"  {line}")
        if warning:
            self.job.log.warn(warning)

    def _save_policy(self, folder: Path, weights: dict[str, torch.Tensor]) -> None:
        save_policy(self.module.model, self.tokenizer, folder, weights)

    def _record(self, name: str, record: dict[str, Any]) -> None:
        if self.job.world.is_main:
            self.progress.record(name, record)
            self.send(record["update"], _figures(name, record))

    def _recorded(self) -> list[tuple[int, Figures]]:
        """What was sent to a tracker before the run was resumed, in the same order."""
        found = [(r["update"], _figures(name, r)) for name in (METRICS, EVALUATIONS) for r in self.progress.records(name)]
        return sorted(found, key=lambda sent: sent[0])


def _figures(name: str, record: dict[str, Any]) -> Figures:
    """The figures of a record as trackers call them, such as ``metrics/loss``."""
    figures = {key: value for key, value in record.items() if isinstance(value, int | float)}
    return {f"{name.removesuffix('.jsonl')}/{key}": value for key, value in figures.items()}
