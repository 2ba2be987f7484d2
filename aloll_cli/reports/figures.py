"""The figures of one evaluated run as rows of a table, and what they mean in words."""

from __future__ import annotations

from typing import Any

from aloll_cli.comparison.runs import LIKELIHOOD, ROLES
from aloll_cli.reports.text import interval, number

KL = "KL a token: mean ln(policy / reference) of the policy's own answers, in nats; KL itself where they are plain samples"


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
