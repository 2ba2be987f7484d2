"""The metrics of one evaluated run as table rows, and sentences that explain them."""

from __future__ import annotations

from typing import Any

from aloll_cli.comparison.runs import LIKELIHOOD, ROLES
from aloll_cli.reports.text import interval, number

KL = (
    "KL per token: mean of ln(policy / reference) over the tokens of the policy's own responses, in nats. "
    "It estimates the KL divergence if responses are plain samples (temperature 1, top_p 1, no repetition penalty)."
)

INTERVALS = "Intervals: 95% bootstrap confidence intervals over prompts; the interval excludes seed variance."
MATCHED = "distinct-1 matched: over equally many words of policy and reference, because distinct-1 falls as texts grow longer."


def comparison(metrics: dict[str, Any]) -> list[tuple[str, Any, Any, Any]]:
    """Table rows: name, policy, reference, paired gain. A value is a number, a mean with its interval, or None."""
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
        "length": "length (words)", "empty": "empty responses", "different": "unique responses",
        "distinct_1": "distinct-1", "distinct_1_matched": "distinct-1 matched", "ended": "finished with EOS",
        "bleu": "BLEU", "rouge_1": "ROUGE-1", "rouge_2": "ROUGE-2", "rouge_l": "ROUGE-L",
        "coverage": "coverage", "density": "density", "perplexity": "perplexity", "kl_per_token": "KL per token (nats)",
    }  # fmt: skip
    return rows + [(name, policy[key], reference[key], None) for key, name in names.items() if policy.get(key) is not None]


def comparison_by_subset(metrics: dict[str, Any]) -> dict[str, list[tuple[str, Any, Any, Any]]]:
    """Such rows for each subset of the data, ``name (number of prompts)``, by the heading of a reward's table.

    Empty if the data has no subsets.
    """
    by = metrics.get("by") or {}
    apart = {
        title: [
            (f"{name} ({found['n']})", found["policy"][role], found["reference"][role], found[ROLES[role]])
            for name, found in by.items()
            if role in found["policy"]
        ]
        for role, title in (("reward", "reward by subset"), ("test_reward", "held-out reward by subset"))
    }
    return {title: rows for title, rows in apart.items() if rows}


def several_components(metrics: dict[str, Any]) -> dict[str, Any]:
    """The paired gain of each component of the reward; empty if there is only one."""
    gains: dict[str, Any] = metrics.get("component_gains") or {}
    return gains if len(gains) > 1 else {}


def conclusions(metrics: dict[str, Any]) -> list[str]:
    """Sentences about the metrics: the gain under each reward, or why there is none, and what the rows mean."""
    names = {"gain": "gain", "held_out_gain": "held-out reward gain"}
    said = [
        f"{names[key]} {interval(metrics[key], '+')}, {_bootstrap(metrics)}: {_verdict(metrics[key])} under {metrics[role]}."
        if metrics[key]
        else f"{names[key]}: not available ({metrics[f'{key}_why']})"
        for role, key in ROLES.items()
    ]
    if found := metrics.get(LIKELIHOOD):
        said.append(
            f"advantage-weighted log-likelihood of the logged {metrics['split']} responses, nats per token: policy "
            f"{number(found['policy'])}, reference {number(found['reference'])}, gain {interval(found['gain'], '+')}"
        )
    return said + proxies(metrics) + _meanings(metrics)


def _meanings(metrics: dict[str, Any]) -> list[str]:
    """Explanations of the rows that are present."""
    policy = metrics["policy"]
    logged = {"best": "the best logged response", "all": "all logged responses"}
    return [INTERVALS] + [
        meaning
        for key, meaning in {
            "distinct_1_matched": MATCHED,
            "bleu": f"BLEU, ROUGE: compared with {logged.get(metrics.get('references', ''))} to each prompt.",
            "coverage": "coverage, density: how much responses copy from the knowledge in their prompts.",
            "perplexity": "perplexity: of each side's responses under the reference policy.",
            "kl_per_token": KL,
        }.items()
        if policy.get(key) is not None
    ]


def proxies(metrics: dict[str, Any]) -> list[str]:
    """How well rewards that were fitted on the data predict held-out rewards."""
    titles = {"reward": "the reward", "test_reward": "the held-out reward"}
    said = []
    for key, skill in (metrics["proxy_skill"] or {}).items():
        role, _, part = key.partition(".")
        name = f"{part}, a component of {titles[role]}," if part else f"{titles[role]} ({metrics[role]})"
        said.append(
            f"proxy reward: {name} was fitted on the data; on {skill['held_out_rows']} held-out responses: {_skill(skill)}"
        )
    return said


def _skill(skill: dict[str, Any]) -> str:
    if "accuracy" in skill:
        auc = f", AUC {number(skill['auc'])}" if "auc" in skill else ""
        return f"accuracy {number(skill['accuracy'])} (share of label 1: {number(skill['share_of_1'])}){auc}"
    lone = "not available (no prompt has two responses)"
    pairs = f"{number(skill['pair_accuracy'])} over {skill['pairs']} pairs" if skill["pairs"] else lone
    r2, correlation = (number(skill[name]) if name in skill else "not available" for name in ("r2", "rank_correlation"))
    return f"R² {r2}, rank correlation {correlation}, pair accuracy {pairs}"


def _bootstrap(metrics: dict[str, Any]) -> str:
    return f"paired bootstrap over {metrics['n']} prompts"


def _verdict(gain: dict[str, Any]) -> str:
    lo, hi = gain["ci95"]
    if lo <= 0 <= hi:
        return "no significant difference between policy and reference"
    return f"the policy's responses score {'higher' if lo > 0 else 'lower'} than the reference's"
