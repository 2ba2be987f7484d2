"""Evaluated runs as reports read them: figures, answers, curves, and what is compared with what."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any

from aloll_cli.config import fingerprint, flatten
from aloll_cli.files import read_json, read_json_lines
from aloll_cli.metrics import mean_with_interval

BASELINE = "nll"  # the variant that others are paired with
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
        yaml: the resolved configuration.
        made_of: folders of what the figures come from, by role.
    """

    name: str
    metrics: dict[str, Any]
    answers: list[dict[str, Any]]
    updates: list[dict[str, Any]]
    evaluations: list[dict[str, Any]]
    score: str
    yaml: str
    made_of: dict[str, str]

    @property
    def variant(self) -> str:
        return str(self.metrics["variant"])

    @property
    def label(self) -> str:
        """Variant and seed: ``seq s1``; a policy that was saved elsewhere has no seed."""
        seed = self.metrics["seed"]
        return self.variant if seed is None else f"{self.variant} s{seed}"

    @property
    def kept(self) -> float | None:
        """The share of training responses with positive weight."""
        return self.updates[-1].get("kept") if self.updates else None

    @cached_property
    def options(self) -> dict[str, Any]:
        """The resolved configuration with dotted keys."""
        import yaml

        return flatten(yaml.safe_load(self.yaml))

    @cached_property
    def rewards(self) -> dict[str, float]:
        """The mean reward of the policy's answers to each prompt; empty where no scorer exists."""
        rewards: dict[str, list[float]] = {}
        for row in self.answers:
            if "reward" in row["policy"]:
                rewards.setdefault(row["prompt"], []).append(row["policy"]["reward"])
        return {prompt: fmean(found) for prompt, found in rewards.items()}

    def is_comparable(self, other: Run) -> bool:
        """Whether both answered the same prompts and were judged by the same reward."""
        same = all(self.metrics[key] == other.metrics[key] for key in ("task", "split", "reward"))
        return same and options_of(self, "reward") == options_of(other, "reward")


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


def settings_apart(runs: list[Run]) -> list[str]:
    """What tells each run from the others beside variant and seed, as one would type it: ``optimizer.lr=0.001``."""
    keys = dict.fromkeys(key for run in runs for key in run.options)
    told = [key for key in keys if not _is_known(key) and _differs(key, runs)]
    return [" ".join(_typed(key, run.options[key]) for key in told if key in run.options) for run in runs]


def _is_known(key: str) -> bool:
    """Options that have a column of their own, or cannot change a result."""
    from aloll_cli.settings import Settings

    operational = {field.name for field in fields(Settings) if not field.metadata.get("identity", True)}
    return key in {"stage", "name", "seed", "variant.name"} or key.split(".")[0] in operational


def _differs(key: str, runs: list[Run]) -> bool:
    """Whether runs disagree on an option; options of a group's choice are held against those of the same choice only."""
    group, _, last = key.rpartition(".")
    values: dict[str, set[str]] = {}
    for run in runs:
        choice = "" if last == "name" else str(run.options.get(f"{group}.name"))
        if choice == "" or key in run.options:
            values.setdefault(choice, set()).add(json.dumps(run.options.get(key)))
    return any(len(found) > 1 for found in values.values())


def _typed(key: str, value: Any) -> str:
    return f"{key.removesuffix('.name')}={'null' if value is None else value}"


@dataclass(frozen=True)
class Pairing:
    """Differences of runs to the runs they are held against.

    Attributes:
        heading: with whom, for the head of a column.
        differences: mean and interval for each run, or None where it is the baseline itself or nothing fits.
    """

    heading: str
    differences: list[dict[str, Any] | None]


def pair(runs: list[Run]) -> Pairing:
    """Hold every run against the nll run of its seed and reward; against the first run where there is none at all."""
    partners = [_baseline(run, runs) for run in runs]
    heading = f"vs {BASELINE}, same seed"
    if not any(partners):
        partners = [None, *(runs[0] if run.is_comparable(runs[0]) else None for run in runs[1:])]
        heading = f"vs {runs[0].label}"
    differences = [paired_difference(run, other) if other else None for run, other in zip(runs, partners, strict=True)]
    return Pairing(heading, differences)


def _baseline(run: Run, runs: list[Run]) -> Run | None:
    """The nll run with the seed and reward of a run, of several the one that shares most of its options."""
    found = [
        other for other in runs
        if other.variant == BASELINE != run.variant and other.metrics["seed"] == run.metrics["seed"] and run.is_comparable(other)
    ]  # fmt: skip
    shared = lambda other: sum(run.options.get(key) == value for key, value in other.options.items())  # noqa: E731
    return max(found, key=shared, default=None)


def paired_difference(run: Run, other: Run) -> dict[str, Any] | None:
    """Mean of reward(run) − reward(other) over the prompts both answered, with its 95 % bootstrap interval."""
    import numpy as np

    common = [prompt for prompt in run.rewards if prompt in other.rewards]
    if not common:
        return None
    differences = np.array([run.rewards[prompt] - other.rewards[prompt] for prompt in common])
    return mean_with_interval(differences, run.metrics["gain"]["resamples"])


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
        "length": "length (words)", "empty": "empty", "distinct_1": "distinct-1", "distinct_1_matched": "distinct-1 matched",
        "ended": "ended", "bleu": "BLEU", "rouge_1": "ROUGE-1", "rouge_2": "ROUGE-2", "rouge_l": "ROUGE-L",
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


def columns(runs: list[Run]) -> list[tuple[str, list[Any], str]]:
    """What sets runs side by side: heading, one figure a run, and "+" where it is a difference; none that nobody has."""
    metrics, pairing = [run.metrics for run in runs], pair(runs)
    components = [several_components(m) for m in metrics]
    names = dict.fromkeys(name for gains in components for name in gains)
    found: list[tuple[str, list[Any], str]] = [
        ("reward", [m["policy"].get("reward") for m in metrics], ""),
        ("gain", [m["gain"] for m in metrics], "+"),
        (pairing.heading, pairing.differences, "+"),
        *((f"{name} gain", [gains.get(name) for gains in components], "+") for name in names),
        ("held-out gain", [m["held_out_gain"] for m in metrics], "+"),
        ("weighted log-lik. gain", [m[LIKELIHOOD]["gain"] if LIKELIHOOD in m else None for m in metrics], "+"),
        ("words", [m["policy"]["length"]["mean"] for m in metrics], ""),
        ("distinct-1 matched", [m["policy"]["distinct_1_matched"] for m in metrics], ""),
        ("KL a token", [m["policy"].get("kl_per_token") for m in metrics], ""),
        ("kept", [run.kept for run in runs], ""),
    ]
    parts = dict.fromkeys(part for m in metrics for part in m.get("by") or {})
    found += [(f"gain, {part}", [((m.get("by") or {}).get(part) or {}).get("gain") for m in metrics], "+") for part in parts]
    return [column for column in found if any(figure is not None for figure in column[1])]


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


def caveats(runs: list[Run]) -> list[str]:
    """What must be said under a table of several runs: why a gain is missing, which rewards are proxies, what KL is."""
    missing = [f"gain: null ({run.metrics['gain_why']})" for run in runs if run.metrics["gain"] is None]
    distance = [KL for run in runs if run.metrics["policy"].get("kl_per_token") is not None]
    return list(dict.fromkeys(missing + [line for run in runs for line in proxies(run.metrics)] + distance))


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
