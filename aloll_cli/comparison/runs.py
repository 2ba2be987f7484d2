"""Evaluated runs as reports read them: figures, answers, curves, costs, and what the figures of one mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from aloll_cli.files import read_json, read_json_lines
from aloll_cli.schema import fingerprint, flatten

if TYPE_CHECKING:
    from aloll_cli.arrays import FloatArray


ROLES = {"reward": "gain", "test_reward": "held_out_gain"}  # the roles of rewards, and the keys of their gains
LIKELIHOOD = "advantage_weighted_log_likelihood"


@dataclass(frozen=True)
class Run:
    """One evaluated policy.

    Attributes:
        name: the name of its folder of metrics.
        metrics: metrics.json.
        answers: answers.jsonl, one row a response.
        updates: what training logged at each update; empty for a policy that was not trained here.
        evaluations: the validation score at some updates, likewise.
        score: what that score is.
        keeps_best: whether its policy is the one with the best score, or the last.
        yaml: the resolved configuration.
        made_of: folders of what the figures come from, by role.
    """

    name: str
    metrics: dict[str, Any]
    answers: list[dict[str, Any]]
    updates: list[dict[str, Any]]
    evaluations: list[dict[str, Any]]
    score: str
    keeps_best: bool
    yaml: str
    made_of: dict[str, str]

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
        """Variant and seed: ``seq s1``; a policy that was saved elsewhere has no seed."""
        return self.variant if self.seed is None else f"{self.variant} s{self.seed}"

    @property
    def kept(self) -> float | None:
        """The share of the training data's units, responses or prompts, that updates learn from."""
        return self.updates[-1].get("kept") if self.updates else None

    @cached_property
    def options(self) -> dict[str, Any]:
        """The resolved configuration with dotted keys."""
        import yaml

        return flatten(yaml.safe_load(self.yaml))

    @property
    def validation(self) -> float | None:
        """The validation score that its policy was kept with; None for one that was not trained here."""
        scores = [record["score"] for record in self.evaluations if record["update"]]
        return None if not scores else float(max(scores) if self.keeps_best else scores[-1])

    def cost(self, of: str) -> float | None:
        """What training took: updates, tokens that it trained on, seconds, samples that it drew and their tokens.

        None for a policy that was not trained here. Seconds leave out evaluations and checkpoints.
        """
        if not self.updates:
            return None
        return float(len(self.updates) if of == "updates" else sum(row.get(of, 0) for row in self.updates))

    @property
    def resamples(self) -> int:
        """Of the bootstrap that its own intervals are from; 0 where nothing scored its answers."""
        return max((self.metrics[gain]["resamples"] for gain in ROLES.values() if self.metrics[gain]), default=0)

    @cached_property
    def prompts(self) -> list[str]:
        """Those that were answered, in order."""
        return list(dict.fromkeys(row["prompt"] for row in self.answers))

    def by_prompt(self, prompts: Sequence[str], role: str, side: str = "policy") -> FloatArray:
        """(G,) mean rewards of a side's answers to each of G prompts; (0,) where nothing scores them in this role."""
        import numpy as np

        rewards: dict[str, list[float]] = {}
        for row in self.answers:
            if role in row[side]:
                rewards.setdefault(row["prompt"], []).append(row[side][role])
        return np.array([fmean(rewards[prompt]) for prompt in prompts if rewards])

    @property
    def judges(self) -> list[str]:
        """The groups of options that it is judged by: the rewards; and the values, where the likelihood is weighted by A⁺."""
        return ["reward", "test_reward", *(["values"] if self.metrics.get(LIKELIHOOD) else [])]

    @cached_property
    def judged_by(self) -> dict[str, Any]:
        """What a comparison must not change: what judges, with its options, and the prompts."""
        about = {key: self.metrics[key] for key in ("task", "split", "reward", "test_reward")}
        options = {key: value for group in self.judges for key, value in options_of(self, group).items()}
        return about | options | {"prompts": frozenset(self.prompts)}

    def is_comparable(self, other: Run) -> bool:
        """Whether both answered the same prompts and were judged by the same rewards."""
        return self.judged_by == other.judged_by


def load_run(folder: Path) -> Run:
    """Read a folder of metrics, and the curves of its policy where it was trained here."""
    inputs = read_json(folder / "recipe.json")["inputs"]
    answers = inputs["policy_answers"]["inputs"]
    made_of = {
        "policy": answers["policy"], "reference": inputs["reference_answers"]["inputs"]["policy"],
        "data": answers["examples"]["inputs"]["data"],
    }  # fmt: skip
    root = folder.parent.parent
    policy = _folder(root, answers["policy"])
    records = read_json_lines(policy / "evaluations.jsonl")
    return Run(
        name=folder.name,
        metrics=read_json(folder / "metrics.json"),
        answers=read_json_lines(folder / "answers.jsonl"),
        updates=read_json_lines(policy / "metrics.jsonl"),
        evaluations=[{key: value for key, value in record.items() if key != "responses"} for record in records],
        score=answers["policy"]["identity"].get("judge", {}).get("by", "reward"),
        keeps_best=answers["policy"]["identity"].get("select_best", True),
        yaml=(folder / "config.yaml").read_text(),
        made_of={"metrics": folder.name} | {role: _folder(root, recipe).name for role, recipe in made_of.items()},
    )


def _folder(root: Path, recipe: dict[str, Any]) -> Path:
    """Where an artifact with this recipe is, or would be if it were here."""
    kind, digits = str(recipe["kind"]), fingerprint(recipe)
    return next((root / kind).glob(f"*-{digits}"), root / kind / f"{kind}-{digits}")


def options_of(run: Run, group: str) -> dict[str, Any]:
    """The options of one group of a run's configuration."""
    return {key: value for key, value in run.options.items() if key.split(".")[0] == group}
