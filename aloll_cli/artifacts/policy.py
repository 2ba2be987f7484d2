"""Trained policies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aloll_cli.artifacts.chat_counts import chat_counts
from aloll_cli.artifacts.examples import unused_template
from aloll_cli.artifacts.policy_source import PolicySource, check_context, placed, trainable_parameters
from aloll_cli.artifacts.selectors import CheckpointSelector
from aloll_cli.artifacts.training_data import TrainingData
from aloll_cli.errors import UserError
from aloll_cli.foreign import damaged, integer, json_lines_of, record
from aloll_cli.models.adapters import Adapter, attach, merged
from aloll_cli.models.base import Dtype, Head, Numbers
from aloll_cli.models.optimizers import Adamw
from aloll_cli.models.saving import load_policy
from aloll_cli.runtime.device import faster_dtype
from aloll_cli.runtime.options import Attention
from aloll_cli.runtime.tracking import Figures, Off, Send, Tracked
from aloll_cli.schema import identity, name_of
from aloll_cli.store.marker import TRACKING, refuse_links
from aloll_cli.store.store import Artifact, Job, Store
from aloll_cli.training.sampling import Draws
from aloll_cli.variants.base import Reduction, Variant

if TYPE_CHECKING:
    from transformers import PreTrainedModel


STOP = record({"after": integer, "of": integer, "patience": integer})  # of a run that stopped early


@dataclass(kw_only=True)
class TrainingRecipe:
    """The training options of a policy."""

    variant: Variant
    optimizer: Adamw
    adapter: Adapter | None  # None: all weights are trained
    seed: int
    updates: int | None
    epochs: float | None
    batch_size: int
    eval_every: int
    select_best: bool
    reduction: Reduction = Reduction.sum
    early_stop: int | None = None

    def identity(self) -> dict[str, Any]:
        # early_stop is no part of the recipe of a run without it
        off = ("early_stop",) if self.early_stop is None else ()
        return {name: identity(value) for name, value in vars(self).items() if name not in off}

    @property
    def draws(self) -> Draws:
        """How units of data are drawn."""
        return Draws(batch_size=self.batch_size, seed=self.seed, updates=self.updates, epochs=self.epochs)


class TrainedPolicy(PolicySource):
    """A policy trained with one variant: ``policy/``, checkpoints/, metrics.jsonl, evaluations.jsonl."""

    version = 4  # a group's responses share their prompt; logits of real tokens alone

    def __init__(
        self,
        kind: str,
        stage: str,
        start: PolicySource,
        data: TrainingData,
        training: TrainingRecipe,
        selector: CheckpointSelector,
    ) -> None:
        self.kind, self.stage, self.model = kind, stage, start.model
        self.start, self.examples, self.data, self.training, self.selector = start, data.examples, data, training, selector
        self.name = f"{name_of(training.variant)}-s{training.seed}"

    def identity(self) -> dict[str, Any]:
        return self.training.identity() | {"feed": self.data.identity(), "judge": self.selector.identity()}

    def inputs(self) -> dict[str, Artifact]:
        # cheap ones first, so that an unavailable reward is found before π_ref is trained
        selecting = {f"judge_{role}": artifact for role, artifact in self.selector.inputs().items()}
        return {"examples": self.examples} | selecting | self.data.inputs() | {"start": self.start}

    def check_input(self, needed: Artifact, store: Store) -> None:
        self.data.check_input(needed, store)

    @property
    def has_adapter(self) -> bool:
        return self.training.adapter is not None or self.start.has_adapter

    def load(self, job: Job, in_full: bool = False) -> PreTrainedModel:
        folder = job.path(self) / "policy"
        if self.training.adapter is None:
            return placed(load_policy(folder, self.place(job, in_full), self.model.trusts_code), job)
        model = self.load_base(job)
        attach(model, str(folder))
        return placed(model, job)

    def loaded_from(self) -> list[Artifact]:
        return [] if self.training.adapter is None else [*self.start.loaded_from(), self.start]

    def load_base(self, job: Job) -> PreTrainedModel:
        return self.load(job) if self.training.adapter is None else self.start.load_base(job)

    def address(self, job: Job) -> str:
        return str(job.path(self) / "policy") if self.training.adapter is None else self.start.address(job)

    def merged(self, job: Job) -> PreTrainedModel:
        """The model with its adapter merged into its weights; merged in fp32, then cast to the model's dtype."""
        from torch import nn

        model = self.start.load_base(job)
        if getattr(model, "is_quantized", False):
            model.dequantize()
        nn.Module.float(model)
        model = merged(model, job.path(self) / "policy")
        nn.Module.to(model, self.place(job).options["dtype"])
        return model

    def stopped_early(self, job: Job) -> dict[str, int] | None:
        from aloll_cli.training.progress import EVALUATIONS
        from aloll_cli.training.selection import STOPPED_EARLY

        file = job.path(self) / EVALUATIONS
        with damaged(file):
            records = json_lines_of(file, record({}, {STOPPED_EARLY: STOP}))
        found: dict[str, int] | None = records[-1].get(STOPPED_EARLY) if records else None
        return found

    def make(self, job: Job) -> None:
        from aloll_cli.models.dropout import draws_attention
        from aloll_cli.models.logprobs import ResponseLogps
        from aloll_cli.training.loop import Trainer

        for line in chat_counts(job.path(self.examples), "train").warnings("train"):
            job.log.warn(line)  # again, for the examples may have been built by another run
        training = self.training
        tokenizer = self.examples.tokenizer.load(job)
        if unused := unused_template(job.path(self.examples), tokenizer, self.examples.task.chat):
            job.log.say(f"  {unused}")
        numbers = Numbers(self.model.dtype, training.adapter is None, job.runtime.attn)
        model = self.start.load(job, numbers.in_full)
        logps = self.data.inputs().get("reference_logps")
        check_context(model, self.examples)
        if training.adapter is not None:
            training.adapter.prepare(model, training.seed)
        job.log.say(f"  {trainable_parameters(model)}")
        if hint := faster_dtype(model.num_parameters(), self.model.dtype is Dtype.float32):
            job.log.say(f"  hint: {hint}")
        if not training.variant.needs_behaviour and draws_attention(model):
            self._drop_by_row(model, job)
        source = self.data.open(job, training.draws, tokenizer, model)
        steps = training.draws.steps(source.kept_units)
        if warning := training.optimizer.doubt(steps):
            job.log.warn(warning)
        chunked, shares = self.model.head is Head.chunked, self.data.shares_prompts
        module = ResponseLogps(model, chunked, job.runtime.gradient_checkpointing, shares)
        if shares and not module.may_share(job.world.device):
            job.log.say(f"  each response is computed with a prompt of its own: {module.separate_because}")
        Trainer(
            job=job,
            label=self.name,
            module=module,
            numbers=numbers,
            is_exact=self.model.is_exact,
            stored_logps=job.path(logps) if logps else None,
            tokenizer=tokenizer,
            source=source,
            variant=training.variant,
            reduction=training.reduction,
            optimizer_options=training.optimizer,
            updates=steps,
            eval_every=training.eval_every,
            select_best=training.select_best,
            early_stop=training.early_stop,
            seed=training.seed,
            evaluator=self.selector.open(job, self.examples, tokenizer, self.start, model),
            track=lambda recorded: self._tracker(job, recorded),
        ).run()

    def _drop_by_row(self, model: PreTrainedModel, job: Job) -> None:
        """Let plain attention drop attention weights by row, as no other can. Raises UserError if another was asked for."""
        name = type(model).__name__
        if job.runtime.attn not in (None, Attention.eager):
            raise UserError(
                f"attn={job.runtime.attn.name}: {name} is trained with dropout of its attention weights, which this kind of "
                "attention draws per micro-batch.",
                "attn=eager, or attn=null, which chooses it where it is needed",
            )
        model.set_attn_implementation("eager")
        job.log.say(f"  attention: eager, because {name} is trained with dropout of its attention weights")

    def _tracker(self, job: Job, recorded: list[tuple[int, Figures]]) -> Send:
        """The function that sends metrics to the experiment tracker; only the main process sends any."""
        tracking = job.runtime.tracking if job.world.is_main else Off()
        folder = job.store.root.parent / TRACKING
        refuse_links(folder)
        return tracking.start(Tracked(Path(self.folder).name, self.recipe, folder, recorded), job.log.warn)


class TrainedReference(TrainedPolicy):
    """π_ref, fine-tuned with NLL and selected by likelihood."""

    version = 3  # as version 4 of TrainedPolicy; likelihoods need no random numbers, so its version 2 was the same here
