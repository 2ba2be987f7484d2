"""What building an artifact takes, in passes of the language model: counted before anything runs.

Only the language model is counted: a reward that is a model of its own, and reading the data, are not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import singledispatch
from statistics import fmean
from typing import Any

from aloll_cli.artifacts.examples import Examples
from aloll_cli.artifacts.generation_logps import GenerationLogps
from aloll_cli.artifacts.generations import Generations
from aloll_cli.artifacts.likelihoods import Likelihoods
from aloll_cli.artifacts.logged_data import RankedGroups
from aloll_cli.artifacts.mismatched_logps import MismatchedLogps
from aloll_cli.artifacts.policy import TrainedPolicy
from aloll_cli.artifacts.reference_logps import DrawnLogps, ReferenceLogps
from aloll_cli.artifacts.rollout_data import OnlineResponses
from aloll_cli.artifacts.selectors import SelectByReward
from aloll_cli.artifacts.training_data import LoggedData, TrainingData
from aloll_cli.artifacts.values import ValuesArtifact
from aloll_cli.store.store import Artifact, Store
from aloll_cli.store.tables import BLOCK, open_blocks
from aloll_cli.tasks.base import SPLITS
from aloll_cli.text.examples import prompt_codes
from aloll_cli.training.selection import MOST_READ

SAMPLED = 2_048  # responses whose lengths are looked at


@dataclass(frozen=True)
class Sizes:
    """The data of one configuration.

    Attributes:
        responses: number of logged responses, by split.
        prompts: number of unique prompts, by split.
        prompt_tokens: mean length of a training prompt.
        response_tokens: mean length of a training response.
        limit: of the tokens of a generated response.
    """

    responses: Mapping[str, int]
    prompts: Mapping[str, int]
    prompt_tokens: float
    response_tokens: float
    limit: int

    @classmethod
    def of(cls, examples: Examples, store: Store) -> Sizes:
        """Those of examples that are there; lengths are those of up to SAMPLED training responses, evenly spread."""
        import numpy as np

        folders = {split: store.path(examples) / split for split in SPLITS}
        codes = {split: prompt_codes(folder) for split, folder in folders.items()}
        rows = open_blocks(folders["train"], ["prompt_ids", "response_ids"])
        count, part = len(codes["train"]), BLOCK // 2
        starts = np.unique(np.linspace(0, max(0, count - part), SAMPLED // part, dtype=int))
        found = [rows.slice(int(start), part) for start in starts]
        tokens = {
            name: fmean(len(ids) for piece in found for ids in piece.column(name)) for name in ("prompt_ids", "response_ids")
        }
        return cls(
            responses={split: len(found) for split, found in codes.items()},
            prompts={split: len(np.unique(found)) for split, found in codes.items()},
            prompt_tokens=tokens["prompt_ids"],
            response_tokens=tokens["response_ids"],
            limit=examples.task.max_response_tokens,
        )


@dataclass(frozen=True)
class Work:
    """Passes of the language model.

    Attributes:
        trained: responses with gradients, each with its prompt.
        scored: responses without, each with its prompt.
        read: prompts alone.
        generated: responses that are generated.
        steps: of the optimizer.
    """

    trained: float = 0.0
    scored: float = 0.0
    read: float = 0.0
    generated: float = 0.0
    steps: int = 0

    def __add__(self, other: Work) -> Work:
        return Work(*(mine + theirs for mine, theirs in zip(vars(self).values(), vars(other).values(), strict=True)))


@singledispatch
def work(artifact: Artifact, sizes: Sizes) -> Work:
    """The work of building an artifact, its inputs apart. Most kinds need no language model."""
    return Work()


@work.register
def _(artifact: Generations, sizes: Sizes) -> Work:
    if artifact.servers is not None:
        return Work()
    return Work(generated=sizes.prompts[artifact.split] * artifact.generation.samples_per_prompt)


@work.register
def _(artifact: GenerationLogps, sizes: Sizes) -> Work:
    generations = artifact.generations
    return Work(scored=sizes.prompts[generations.split] * generations.generation.samples_per_prompt)


@work.register
def _(artifact: Likelihoods, sizes: Sizes) -> Work:
    return Work(scored=sizes.responses[artifact.split])


@work.register
def _(artifact: ReferenceLogps, sizes: Sizes) -> Work:
    return Work(scored=sizes.responses["train"])


@work.register
def _(artifact: DrawnLogps, sizes: Sizes) -> Work:
    """The rows that are drawn with replacement, each once; all of them, where that is half of them or more."""
    every = sizes.responses["train"]
    units, rows = _units(artifact.data, sizes)
    draws = artifact.draws.steps(units) * artifact.draws.batch_size
    drawn = units * -math.expm1(-draws / max(1, units)) * rows
    return Work(scored=drawn if 2 * drawn < every else every)


@work.register
def _(artifact: MismatchedLogps, sizes: Sizes) -> Work:
    units, _ = _units(artifact.data, sizes)
    return Work(scored=artifact.draws.steps(units) * artifact.draws.batch_size)


@work.register
def _(artifact: ValuesArtifact, sizes: Sizes) -> Work:
    if not artifact.values.reads_states:
        return Work()
    return Work(read=sum(sizes.prompts[split] for split in {*artifact.values.splits, artifact.values.fitted_on} if split))


@work.register
def _(artifact: TrainedPolicy, sizes: Sizes) -> Work:
    training = artifact.training
    units, rows = _units(artifact.data, sizes)
    steps = training.draws.steps(units)
    evaluations = math.ceil(steps / training.eval_every) + 1
    validation = _evaluation(artifact.selector, sizes)
    judged = Work(scored=evaluations * validation.scored, generated=evaluations * validation.generated)
    drawn = steps * training.batch_size
    more = Work()
    if isinstance(artifact.data, OnlineResponses):  # generated, then scored under the policy and the reference
        rolled = drawn / artifact.data.variant.epochs
        more = Work(generated=rolled, scored=2 * rolled)
    elif isinstance(artifact.data, LoggedData) and artifact.data.mismatched_logps:
        more = Work(scored=drawn)
    return Work(trained=drawn * rows, steps=steps) + judged + more


def _units(data: TrainingData, sizes: Sizes) -> tuple[int, float]:
    """How many units of data there are at most, and the mean number of responses in each."""
    if isinstance(data, RankedGroups):
        return sizes.prompts["train"], sizes.responses["train"] / max(1, sizes.prompts["train"])
    return sizes.responses["train"], 1.0


def _evaluation(selector: Any, sizes: Sizes) -> Work:
    """One evaluation during training."""
    if isinstance(selector, SelectByReward):
        prompts = min(selector.prompts, sizes.prompts["validation"])
        responses = prompts * selector.generation.samples_per_prompt
        return Work(generated=responses, scored=2 * responses * selector.select.needs_kl)  # under the policy and the reference
    return Work(scored=min(sizes.responses["validation"], MOST_READ))
