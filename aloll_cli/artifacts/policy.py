"""Policies that are trained here: by what weights, on what course, judged by what."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aloll_cli.adapters import Adapter, attach, merged
from aloll_cli.artifacts.base import Artifact, Job
from aloll_cli.artifacts.examples import Examples, ExampleTable
from aloll_cli.artifacts.feeds import Drawing, Feed, ResponseWeights, answering
from aloll_cli.artifacts.policy_source import PolicySource, check_context, placed
from aloll_cli.artifacts.rewards import ScoredBy
from aloll_cli.config import identity, name_of
from aloll_cli.decoding import Generation
from aloll_cli.models import Head, load_policy, load_tokenizer
from aloll_cli.optimizers import Adamw
from aloll_cli.tracking import Off, Send
from aloll_cli.variants.base import Reduction, Variant

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from aloll_cli.evaluators import Evaluator


class Judge:
    """What a run's evaluations measure."""

    def inputs(self) -> dict[str, Artifact]:
        """What it needs beside the examples."""
        return {}

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """What decides its verdicts."""

    @abstractmethod
    def open(self, job: Job, examples: Examples, tokenizer: PreTrainedTokenizerBase) -> Evaluator:
        """Load what it needs."""


@dataclass
class ByLikelihood(Judge):
    """Validation log-likelihood: of every response alike, or weighted by its advantage (for rewards that cannot score text)."""

    weights: ResponseWeights | None = None

    def inputs(self) -> dict[str, Artifact]:
        return self.weights.inputs() if self.weights else {}

    def identity(self) -> dict[str, Any]:
        return {"by": "likelihood" if self.weights is None else "advantage-weighted likelihood"}

    def open(self, job: Job, examples: Examples, tokenizer: PreTrainedTokenizerBase) -> Evaluator:
        import numpy as np

        from aloll_cli.evaluators import Likelihood

        table = ExampleTable(job.path(examples) / "validation")
        weights = np.ones(len(table)) if self.weights is None else self.weights.load(job)[1]
        label = "log-likelihood" if self.weights is None else "advantage-weighted log-likelihood"
        return Likelihood(table, weights, int(tokenizer.pad_token_id), job.runtime.scoring_batch_tokens, label)


@dataclass
class ByReward(Judge):
    """Mean reward of the policy's own answers to a fixed sample of validation prompts."""

    scored_by: ScoredBy
    generation: Generation
    prompts: int

    def inputs(self) -> dict[str, Artifact]:
        return self.scored_by.inputs()

    def identity(self) -> dict[str, Any]:
        return self.scored_by.identity() | {"generation": identity(self.generation), "prompts": self.prompts}

    def open(self, job: Job, examples: Examples, tokenizer: PreTrainedTokenizerBase) -> Evaluator:
        from aloll_cli.evaluators import GeneratedReward

        answers = answering(job, examples, "validation", tokenizer, self.generation, self.scored_by)
        return GeneratedReward(answers, self.prompts)


@dataclass(kw_only=True)
class Course:
    """How long and with what a policy is trained."""

    variant: Variant
    optimizer: Adamw
    adapter: Adapter | None  # None: all weights train
    seed: int
    updates: int | None
    epochs: float | None
    batch_size: int
    eval_every: int
    select_best: bool
    reduction: Reduction = Reduction.sum

    def identity(self) -> dict[str, Any]:
        return {name: identity(value) for name, value in vars(self).items()}


class TrainedPolicy(PolicySource):
    """A policy trained by one variant: ``policy/``, checkpoints/, metrics.jsonl, evaluations.jsonl."""

    def __init__(self, kind: str, stage: str, start: PolicySource, feed: Feed, course: Course, judge: Judge) -> None:
        self.kind, self.stage, self.model = kind, stage, start.model
        self.start, self.examples, self.feed, self.course, self.judge = start, feed.examples, feed, course, judge
        self.name = f"{name_of(course.variant)}-s{course.seed}"

    def identity(self) -> dict[str, Any]:
        return self.course.identity() | {"feed": self.feed.identity(), "judge": self.judge.identity()}

    def inputs(self) -> dict[str, Artifact]:
        # in the order of cost: a reward that cannot be had is found before π_ref is trained
        judge = {f"judge_{role}": artifact for role, artifact in self.judge.inputs().items()}
        return {"examples": self.examples} | judge | self.feed.inputs() | {"start": self.start}

    @property
    def has_adapter(self) -> bool:
        return self.course.adapter is not None or self.start.has_adapter

    def load(self, job: Job, in_full: bool = False) -> PreTrainedModel:
        folder = job.path(self) / "policy"
        if self.course.adapter is None:
            return placed(load_policy(folder, self.place(job, in_full)), job)
        model = self.load_base(job)
        attach(model, str(folder))
        return placed(model, job)

    def load_base(self, job: Job) -> PreTrainedModel:
        return self.load(job) if self.course.adapter is None else self.start.load_base(job)

    def address(self, job: Job) -> str:
        return str(job.path(self) / "policy") if self.course.adapter is None else self.start.address(job)

    def merged(self, job: Job) -> PreTrainedModel:
        """The model with its adapter added to its weights, computed in fp32 and left in the model's type."""
        from torch import nn

        model = self.start.load_base(job)
        if getattr(model, "is_quantized", False):
            model.dequantize()
        nn.Module.float(model)
        model = merged(model, job.path(self) / "policy")
        nn.Module.to(model, self.place(job).options["dtype"])
        return model

    def make(self, job: Job) -> None:
        from aloll_cli.logprobs import ResponseLogps
        from aloll_cli.training import Training, updates_for

        course = self.course
        tokenizer = load_tokenizer(job.path(self.examples.tokenizer))
        drawing = Drawing(course.batch_size, course.seed)
        model = self.start.load(job, in_full=course.adapter is None)
        check_context(model, self.examples)
        if course.adapter is not None:
            course.adapter.prepare(model, course.seed)
        job.log.say(f"  {shares(model)}")
        source = self.feed.open(job, drawing, tokenizer, model)
        Training(
            job=job,
            label=self.name,
            module=ResponseLogps(model, self.model.head is Head.chunked, job.runtime.gradient_checkpointing),
            computes=self.model,
            tokenizer=tokenizer,
            source=source,
            variant=course.variant,
            reduction=course.reduction,
            optimizer_options=course.optimizer,
            updates=updates_for(course.updates, course.epochs, source.kept_units, course.batch_size),
            eval_every=course.eval_every,
            select_best=course.select_best,
            seed=course.seed,
            evaluator=self.judge.open(job, self.examples, tokenizer),
            send=self._tracker(job),
        ).run()

    def _tracker(self, job: Job) -> Send:
        """What training figures are sent to; by the main process alone."""
        tracking = job.runtime.tracking if job.world.is_main else Off()
        return tracking.start(Path(self.folder).name, self.recipe, job.log.warn)


def shares(model: PreTrainedModel) -> str:
    """How much of a model trains, in words."""
    weights: Iterable[Any] = model.parameters()
    # a quantised weight tells the shape that it stands for
    sizes = [(math.prod((getattr(p, "quant_state", None) or p).shape), p.requires_grad) for p in weights]
    training, whole = sum(size for size, trains in sizes if trains), sum(size for size, _ in sizes)
    return f"{training:,} of {whole:,} weights train" if training < whole else f"{whole:,} weights, all of them train"
