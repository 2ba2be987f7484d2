"""Evaluated runs as reports read them: figures, answers, curves, costs, and what the figures of one mean."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from aloll_cli.config import fingerprint, flatten
from aloll_cli.files import read_json, read_json_lines

if TYPE_CHECKING:
    from aloll_cli.arrays import FloatArray

ROLES = {"reward": "gain", "test_reward": "held_out_gain"}  # the roles of rewards, and the keys of their gains
KL = "KL a token: mean ln(policy / reference) of the policy's own answers, in nats; KL itself where they are plain samples"
LIKELIHOOD = "advantage_weighted_log_likelihood"

# what would move a terminal's cursor, reorder text or not encode: C0 and C1 but for the newline, line separators, bidirectional
# overrides, halves of surrogate pairs
HIDDEN = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


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


def comparison(metrics: dict[str, Any]) -> list[tuple[str, Any, Any, Any]]:
    """Rows of figures: name, policy, reference, paired gain. A figure is a number, a mean with its interval, or None."""
    policy, reference = metrics["policy"], metrics["reference"]
    rows = [
        (f"{title} ({metrics[role]})", policy[role], reference[role], metrics[ROLES[role]])
        for role, title in (("reward", "reward"), ("test_reward", "held-out"))
        if role in policy
    ]
    rows[1:1] = [
        (f"  {name}", policy["components"][name], reference["components"][name], gain)
        for name, gain in several_components(metrics).items()
    ]
    if found := metrics.get(LIKELIHOOD):
        rows.append(("weighted log-lik.", found["policy"], found["reference"], found["gain"]))
    names = {
        "length": "length (words)", "empty": "empty", "different": "different",
        "distinct_1": "distinct-1", "distinct_1_matched": "distinct-1 matched", "ended": "ended",
        "bleu": "BLEU", "rouge_1": "ROUGE-1", "rouge_2": "ROUGE-2", "rouge_l": "ROUGE-L",
        "coverage": "coverage", "density": "density", "perplexity": "perplexity", "kl_per_token": "KL a token",
    }  # fmt: skip
    return rows + [(name, policy[key], reference[key], None) for key, name in names.items() if policy.get(key) is not None]


def comparison_by_subset(metrics: dict[str, Any]) -> dict[str, list[tuple[str, Any, Any, Any]]]:
    """Such rows for each part of the data, its name with the number of its prompts, by reward; empty where there are no parts."""
    by = metrics.get("by") or {}
    apart = {
        title: [
            (f"{name} ({found['n']})", found["policy"][role], found["reference"][role], found[ROLES[role]])
            for name, found in by.items()
            if role in found["policy"]
        ]
        for role, title in (("reward", "reward on"), ("test_reward", "held-out on"))
    }
    return {title: rows for title, rows in apart.items() if rows}


def several_components(metrics: dict[str, Any]) -> dict[str, Any]:
    """The paired gain of each component, where the reward has more than one."""
    gains: dict[str, Any] = metrics.get("component_gains") or {}
    return gains if len(gains) > 1 else {}


def conclusions(metrics: dict[str, Any]) -> list[str]:
    """What the figures mean, in plain words: the gain under each reward, or why there is none."""
    names = {"gain": "gain", "held_out_gain": "held-out gain"}
    said = [
        f"{names[key]} {interval(metrics[key], '+')}, {_bootstrap(metrics)}: {_verdict(metrics[key])} under {metrics[role]}."
        if metrics[key]
        else f"{names[key]}: null ({metrics[f'{key}_why']})"
        for role, key in ROLES.items()
    ]
    if found := metrics.get(LIKELIHOOD):
        said.append(
            f"advantage-weighted log-likelihood of the logged {metrics['split']} responses, nats a token: policy "
            f"{number(found['policy'])}, reference {number(found['reference'])}, gain {interval(found['gain'], '+')}"
        )
    return said + proxies(metrics) + _meanings(metrics)


def _meanings(metrics: dict[str, Any]) -> list[str]:
    """What figures with short names are, those that there are."""
    policy = metrics["policy"]
    logged = {"best": "the best logged response", "all": "all logged responses"}
    return [
        meaning
        for key, meaning in {
            "bleu": f"BLEU, ROUGE: against {logged.get(metrics.get('references', ''))} to each prompt",
            "coverage": "coverage, density: what answers copy from the knowledge in their prompts",
            "perplexity": "perplexity: of each side's answers under the reference",
            "kl_per_token": KL,
        }.items()
        if policy.get(key) is not None
    ]


def proxies(metrics: dict[str, Any]) -> list[str]:
    """How far rewards that were fitted on the data can be trusted."""
    titles = {"reward": "the reward", "test_reward": "the held-out reward"}
    said = []
    for key, skill in (metrics["proxy_skill"] or {}).items():
        role, _, part = key.partition(".")
        name = f"{part}, a part of {titles[role]}," if part else f"{titles[role]} ({metrics[role]})"
        said.append(
            f"under a proxy reward: {name} was fitted on the data; on {skill['held_out_rows']} held-out responses {_skill(skill)}"
        )
    return said


def _skill(skill: dict[str, Any]) -> str:
    if "accuracy" in skill:
        auc = f", AUC {number(skill['auc'])}" if "auc" in skill else ""
        return f"accuracy {number(skill['accuracy'])} (label 1 is {number(skill['share_of_1'])} of them){auc}"
    pairs = f"{number(skill['pair_accuracy'])} of {skill['pairs']} pairs" if skill["pairs"] else "unknown (no prompt has two)"
    r2, correlation = (number(skill[name]) if name in skill else "unknown" for name in ("r2", "rank_correlation"))
    return f"R² {r2}, rank correlation {correlation}, pair accuracy {pairs}"


def _bootstrap(metrics: dict[str, Any]) -> str:
    return f"paired bootstrap over {metrics['n']} prompts"


def _verdict(gain: dict[str, Any]) -> str:
    lo, hi = gain["ci95"]
    if lo <= 0 <= hi:
        return "policy and reference cannot be told apart"
    return f"the policy's answers score {'higher' if lo > 0 else 'lower'} than the reference's"


def number(value: float, sign: str = "", like: float | None = None) -> str:
    """Four digits or so: three decimals below 10, two below 100, then one.

    Args:
        value: what to show.
        sign: "+" shows the plus.
        like: the number whose decimals to use, where several belong together.
    """
    size = abs(value if like is None else like)
    return f"{value:{sign}.{3 if size < 10 else 2 if size < 100 else 1}f}"


def counted(value: float) -> str:
    """A count in few characters: ``61,234``, then ``1.23 M``."""
    for size, unit in ((1e9, " G"), (1e6, " M")):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:,.0f}"


def interval(figure: dict[str, Any], sign: str = "") -> str:
    """``0.305 [0.271, 0.340]``: a mean and its 95 % interval."""
    mean, (lo, hi) = figure["mean"], figure["ci95"]
    return f"{number(mean, sign)} [{number(lo, like=mean)}, {number(hi, like=mean)}]"


def visible(text: str, limit: int | None = None) -> str:
    """A model's text with control characters shown as escapes, cut to a number of characters."""
    cut = text if limit is None or len(text) <= limit else text[:limit].rstrip() + " ..."
    return HIDDEN.sub(lambda found: found.group().encode("unicode_escape").decode(), cut)


def ending(prompt: str, limit: int) -> str:
    """The end of a prompt, which is what a response answers."""
    return prompt if len(prompt) <= limit else "... " + prompt[-limit:].lstrip()
