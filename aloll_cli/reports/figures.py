"""The metrics of one evaluated run as table rows, and sentences that explain them."""

from __future__ import annotations

from typing import Any

from aloll_cli.comparison.runs import LIKELIHOOD, ROLES
from aloll_cli.metrics.intervals import FEW_PROMPTS, MANY_PROMPTS
from aloll_cli.reports.text import interval, number
from aloll_cli.training.selection import STOPPED_EARLY, early_stop_sentence

KL = (
    "KL per token: mean of ln(policy / reference) over the tokens of the policy's own responses, in nats. "
    "It estimates the KL divergence if responses are plain samples (temperature 1, top_p 1, no repetition penalty)."
)

SIDES = ("policy", "reference")
NO_DIFFERENCE = "no significant difference"
LENGTH_CONTROLLED = {
    "length_controlled_gain": "reward at equal length",
    "length_controlled_held_out_gain": "held-out at equal length",
}
LOGGED = (
    "perplexity, logged: of the split's logged responses under each side, per token. A higher value under the policy: it forgot "
    "some of what the reference predicts."
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
    rows += [(title, None, None, metrics[key]) for key, title in LENGTH_CONTROLLED.items() if metrics.get(key) is not None]
    rows[1:1] = [
        (f"  {name}", policy["components"][name], reference["components"][name], gain)
        for name, gain in several_components(metrics).items()
    ]
    if found := metrics.get(LIKELIHOOD):
        rows.append(("weighted log-lik.", found["policy"], found["reference"], found["gain"]))
    names = {
        "length": f"length ({metrics['words']['unit']})", "empty": "empty responses", "different": "unique responses",
        "distinct_1": "distinct-1", "distinct_1_matched": "distinct-1 matched", "ended": "finished with EOS",
        "bleu": "BLEU", "rouge_1": "ROUGE-1", "rouge_2": "ROUGE-2", "rouge_l": "ROUGE-L",
        "coverage": "coverage", "density": "density", "perplexity": "perplexity", "kl_per_token": "KL per token (nats)",
    }  # fmt: skip
    rows += [(name, policy[key], reference[key], None) for key, name in names.items() if policy.get(key) is not None]
    logged = metrics.get("logged_responses")
    return rows + ([("perplexity, logged", *(logged[side]["perplexity"] for side in SIDES), None)] if logged else [])


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
        f"{names[key]} {interval(metrics[key], '+')}{_judged(metrics[key], metrics, role)}."
        if metrics[key]
        else f"{names[key]}: not available ({metrics[f'{key}_why']})"
        for role, key in ROLES.items()
    ]
    if found := metrics.get(LIKELIHOOD):
        said.append(
            f"advantage-weighted log-likelihood of the logged {metrics['split']} responses, nats per token: policy "
            f"{number(found['policy'])}, reference {number(found['reference'])}, gain {interval(found['gain'], '+')}"
        )
    said += _lengths(metrics)
    if stopped := metrics.get(STOPPED_EARLY):
        said.append(f"{early_stop_sentence(stopped)}.")
    if FEW_PROMPTS <= metrics["n"] < MANY_PROMPTS:
        said.append(f"warning: intervals from fewer than {MANY_PROMPTS} prompts are unreliable; there are {metrics['n']}.")
    return said + proxies(metrics) + _meanings(metrics)


def too_few(metrics: dict[str, Any]) -> str:
    """Why there is no interval; empty where there is one."""
    if metrics["n"] >= FEW_PROMPTS:
        return ""
    return f"{metrics['n']} prompts are too few for an interval or a verdict; {FEW_PROMPTS} are needed"


def words_sentence(words: dict[str, Any]) -> str:
    """What counts as a word in the metrics, and why.

    Args:
        words: that of metrics.json, and of ``aloll inspect format=json``.
    """
    found = ", ".join(f"{share:.1%} {kind}" for kind, share in words["letters"].items() if round(share, 3))
    why = "by the script of the logged responses" if words["option"] == "auto" else f"words={words['option']}"
    return f"words in metrics of text: {words['tokenizer']} ({why}; their letters: {found or 'none'})"


def _lengths(metrics: dict[str, Any]) -> list[str]:
    """The gains at equal length, or why there is none."""
    said = []
    for key in LENGTH_CONTROLLED:
        name = key.replace("_", " ").replace("length controlled", "length-controlled").replace("held out", "held-out reward")
        if found := metrics.get(key):
            said.append(
                f"{name} {interval(found, '+')}: predicted at equal length by a regression on the difference in length "
                f"(mean {number(found['length_difference'], '+')} {metrics['words']['unit']}, gain per standard deviation "
                f"{number(found['slope'], '+')})."
            )
        elif why := metrics.get(f"{key}_why"):
            said.append(f"{name}: not available ({why})")
    return said


def _meanings(metrics: dict[str, Any]) -> list[str]:
    """Explanations of the rows that are present."""
    policy = metrics["policy"]
    meanings = [] if too_few(metrics) else [INTERVALS]
    if found := metrics.get("words"):
        meanings.append(words_sentence(found))
    if why := metrics.get("rouge_why"):
        meanings.append(f"ROUGE: not available ({why})")
    if unread := metrics.get("rouge_unread"):
        meanings.append(f"warning: ROUGE counts {unread:.1%} of the logged responses as 0, which have no word for it.")
    if metrics.get("logged_responses"):
        meanings.append(LOGGED)
    logged = {"best": "the best logged response", "all": "all logged responses"}
    return meanings + [
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


def _judged(gain: dict[str, Any], metrics: dict[str, Any], role: str) -> str:
    """What follows a gain: how its interval was computed and what it says, or why there is none."""
    if gain["ci95"] is None:
        return f" under {metrics[role]}: {too_few(metrics)}"
    verdict = verdict_of(gain)
    said = (
        f"{verdict} between policy and reference"
        if verdict == NO_DIFFERENCE
        else f"the policy's responses score {verdict} than the reference's"
    )
    return f", paired bootstrap over {metrics['n']} prompts: {said} under {metrics[role]}"


def verdict_of(figure: dict[str, Any]) -> str:
    """What the interval of a difference says: higher, lower or NO_DIFFERENCE; nothing where there is no interval."""
    if figure["ci95"] is None:
        return ""
    lo, hi = figure["ci95"]
    return NO_DIFFERENCE if lo <= 0 <= hi else "higher" if lo > 0 else "lower"
