"""Evaluated runs as reports read them: metrics, generated responses, training curves, costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from aloll_cli.comparison.recipes import scorer, without_seed
from aloll_cli.comparison.rounds import Round, earlier_rounds
from aloll_cli.comparison.shape import (
    CURVES,
    configuration_of,
    evaluations_of,
    load_metrics,
    made_from,
    responses_of,
    steps_of,
)
from aloll_cli.foreign import damaged, yaml_of
from aloll_cli.schema import fingerprint, flatten
from aloll_cli.store.manifest import check_files
from aloll_cli.training.selection import selected_step

if TYPE_CHECKING:
    from aloll_cli.arrays import FloatArray
    from aloll_cli.metrics.words import TextTokenizer


ROLES = {"reward": "gain", "test_reward": "held_out_gain"}  # role of a reward: key of its gain in metrics.json
CONTENT = "the content of"  # of a reward or of values: their code, their files, the data that they were fitted on
LIKELIHOOD = "advantage_weighted_log_likelihood"


@dataclass(frozen=True)
class Run:
    """One evaluated policy.

    Attributes:
        folder: of its metrics.
        metrics: content of metrics.json.
        responses: content of answers.jsonl, one row per generated response.
        updates: what training logged, one row per training step; empty for a policy that was not trained here.
        rounds: the rounds before the last one (``rounds=``).
        evaluations: validation scores, one row per evaluation; empty for a policy that was not trained here.
        score: what the validation score measures, such as ``reward``.
        keeps_best: whether the policy is the checkpoint with the best validation score (else the last one).
        yaml: the resolved configuration.
        made_of: folder names of the artifacts that the metrics come from, by role.
        method: recipe of its policy without the seed: the same for all runs of a method.
        scorers: recipes of what judges it, by option group, without what is judged.
    """

    folder: Path
    metrics: dict[str, Any]
    responses: list[dict[str, Any]]
    updates: list[dict[str, Any]]
    rounds: list[Round]
    evaluations: list[dict[str, Any]]
    score: str
    keeps_best: bool
    yaml: str
    made_of: dict[str, str]
    method: dict[str, Any]
    scorers: dict[str, dict[str, Any]]

    @property
    def name(self) -> str:
        """The name of its metrics folder."""
        return self.folder.name

    @property
    def variant(self) -> str:
        return str(self.metrics["variant"])

    @property
    def seed(self) -> int | None:
        found: int | None = self.metrics["seed"]
        return found

    @property
    def fingerprint(self) -> str:
        return self.name.rpartition("-")[2]

    @property
    def label(self) -> str:
        """Variant and seed, ``seq s1``; the variant alone for an external policy (``policy=FOLDER``)."""
        return self.variant if self.seed is None else f"{self.variant} s{self.seed}"

    @property
    def kept(self) -> float | None:
        """The share of the training data, of responses or of prompts, that training uses; None if it is not known."""
        return self.updates[-1].get("kept") if self.updates else None

    @cached_property
    def options(self) -> dict[str, Any]:
        """The resolved configuration, flattened to dotted keys."""
        found = flatten(yaml_of(self.yaml))
        # select may be written as one word, as before it had options
        return {"select.name" if key == "select" else key: value for key, value in found.items()}

    @property
    def validation(self) -> float | None:
        """Validation score of the checkpoint that is the policy; None for a policy that was not trained here."""
        if not any(record["update"] for record in self.evaluations):
            return None
        step = selected_step(self.evaluations, self.keeps_best)
        return float(next(record["score"] for record in self.evaluations if record["update"] == step))

    def cost(self, of: str) -> float | None:
        """A cost of training, of all rounds; None for a policy that was not trained here.

        Args:
            of: ``updates`` (training steps), ``tokens`` trained on, ``seconds`` (without evaluations and checkpoints),
                ``samples`` generated during training and between rounds, or ``sampled_tokens``.
        """
        if not self.updates:
            return None
        every = [*(row for one in self.rounds for row in (*one.updates, one.sampled)), *self.updates]
        return float(sum("update" in row for row in every) if of == "updates" else sum(row.get(of, 0) for row in every))

    @cached_property
    def prompts(self) -> list[str]:
        """The evaluation prompts, in order."""
        return list(dict.fromkeys(row["prompt"] for row in self.responses))

    def by_prompt(self, prompts: Sequence[str], role: str, side: str = "policy") -> FloatArray:
        """(G,) mean reward per prompt of one side's responses; (0,) if they have no rewards in this role.

        Args:
            prompts: the G prompts.
            role: ``reward`` or ``test_reward``.
            side: ``policy`` or ``reference``.
        """
        import numpy as np

        rewards: dict[str, list[float]] = {}
        for row in self.responses:
            if role in row[side]:
                rewards.setdefault(row["prompt"], []).append(row[side][role])
        return np.array([fmean(rewards[prompt]) for prompt in prompts if rewards])

    @property
    def tokenizer(self) -> TextTokenizer | None:
        """What its metrics count as a word; None where that would need a library that may not be there."""
        from aloll_cli.metrics.words import SELF_MADE, TOKENIZERS

        name = self.metrics["words"]["tokenizer"]
        return TOKENIZERS[name] if name in SELF_MADE else None

    def texts(self, side: str) -> list[str]:
        """One side's responses."""
        return [row[side]["response"] for row in self.responses]

    def words_by_prompt(self, prompts: Sequence[str], side: str = "policy") -> FloatArray:
        """(G,) mean words per prompt of one side's responses; (0,) without the :attr:`tokenizer`."""
        import numpy as np

        words: dict[str, list[float]] = {}
        for row, length in zip(self.responses, self._words[side], strict=True) if self._words else ():
            words.setdefault(row["prompt"], []).append(length)
        return np.array([fmean(words[prompt]) for prompt in prompts if words])

    @cached_property
    def _words(self) -> dict[str, FloatArray]:
        """(N,) words of each response, by side; empty without the tokenizer."""
        from aloll_cli.metrics.text import lengths

        tokenizer = self.tokenizer
        return {side: lengths(self.texts(side), tokenizer) for side in ("policy", "reference")} if tokenizer else {}

    def gains_at_equal_length(self, prompts: Sequence[str], role: str) -> FloatArray | None:
        """(G,) values whose mean is the gain at equal length, see :func:`~aloll_cli.metrics.length_control.at_equal_length`.

        None without a reward in this role, without the :attr:`tokenizer`, or where lengths do not tell.
        """
        from aloll_cli.metrics.length_control import at_equal_length

        gains = self.by_prompt(prompts, role) - self.by_prompt(prompts, role, "reference")
        longer = self.words_by_prompt(prompts) - self.words_by_prompt(prompts, "reference")
        return at_equal_length(gains, longer) if len(gains) and len(longer) else None

    @property
    def judges(self) -> list[str]:
        """The option groups that define its metrics: the rewards, and the values if a likelihood is weighted by A⁺."""
        return ["reward", "test_reward", *(["values"] if self.metrics.get(LIKELIHOOD) else [])]

    @cached_property
    def judged_by(self) -> dict[str, Any]:
        """What must be equal for two runs to be comparable: task, split, prompts, rewards with their options and content."""
        about = {key: self.metrics[key] for key in ("task", "split", "reward", "test_reward")}
        options = {key: value for group in self.judges for key, value in options_of(self, group).items()}
        contents = {f"{CONTENT} {group}": fingerprint(recipe) for group, recipe in self.scorers.items() if group in self.judges}
        return about | options | contents | {"prompts": frozenset(self.prompts)}

    def is_comparable(self, other: Run) -> bool:
        """Whether both were evaluated on the same prompts with the same rewards."""
        return self.judged_by == other.judged_by


def load_run(folder: Path) -> Run:
    """Load a run from its metrics folder, with the training curves of its policy if the policy was trained here.

    Raises:
        UserError: a file was changed, cannot be read, or has not the shape that this program writes.
    """
    check_files(folder)
    with damaged(folder / "recipe.json"):
        inputs = made_from(folder)
    generated = inputs["policy_answers"]["inputs"]
    made_of = {
        "policy": generated["policy"], "reference": inputs["reference_answers"]["inputs"]["policy"],
        "data": generated["examples"]["inputs"]["data"],
    }  # fmt: skip
    root = folder.parent.parent
    policy = folder_of(root, generated["policy"])
    check_files(policy, *CURVES)
    with damaged(folder / "answers.jsonl"):
        responses = responses_of(folder)
    with damaged(folder / "config.yaml"):
        yaml = configuration_of(folder)
    with damaged(policy / "evaluations.jsonl"):
        records = evaluations_of(policy)
    with damaged(policy / "metrics.jsonl"):
        updates = steps_of(policy)
    return Run(
        folder=folder,
        metrics=load_metrics(folder),
        responses=responses,
        updates=updates,
        rounds=earlier_rounds(root, generated["policy"]),
        evaluations=[{key: value for key, value in record.items() if key != "responses"} for record in records],
        score=generated["policy"]["identity"].get("judge", {}).get("by", "reward"),
        keeps_best=generated["policy"]["identity"].get("select_best", True),
        yaml=yaml,
        made_of={"metrics": folder.name} | {role: folder_of(root, recipe).name for role, recipe in made_of.items()},
        method=without_seed(generated["policy"]),
        scorers=_scorers(inputs),
    )


def _scorers(inputs: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What judges a run, by option group; a reward that scores no text is that of the logged responses."""
    roles = {"reward": ("policy_reward", "rewards"), "test_reward": ("policy_test_reward",), "values": ("values",)}
    found = {group: [scorer(inputs[role]) for role in named if role in inputs] for group, named in roles.items()}
    return {group: one[0] for group, one in found.items() if one}


def folder_of(root: Path, recipe: dict[str, Any]) -> Path:
    """The folder of the artifact with this recipe, whether it exists or not."""
    kind, digits = str(recipe["kind"]), fingerprint(recipe)
    return next((root / kind).glob(f"*-{digits}"), root / kind / f"{kind}-{digits}")


def options_of(run: Run, group: str) -> dict[str, Any]:
    """The options of one group of a run's configuration."""
    return {key: value for key, value in run.options.items() if key.split(".")[0] == group}
