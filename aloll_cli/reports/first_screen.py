"""What a page says first: did it work, by how much, and what did it cost. Never more certain than the intervals."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from aloll_cli.comparison.builds import Builds, builds_of
from aloll_cli.comparison.differences import ENOUGH_SEEDS, Comparison
from aloll_cli.comparison.runs import LIKELIHOOD, ROLES, Run
from aloll_cli.metrics.intervals import MANY_PROMPTS
from aloll_cli.reports import text
from aloll_cli.reports.distributions import gains_by_prompt
from aloll_cli.reports.figures import LENGTH_CONTROLLED, NO_DIFFERENCE, too_few, verdict_of
from aloll_cli.reports.text import counted, duration
from aloll_cli.reports.wins import wins
from aloll_cli.training.selection import STOPPED_EARLY, early_stop_sentence

SHOWN = 6  # methods that are named
VERDICTS = ("higher", "lower", NO_DIFFERENCE)
HEADLINES = {"higher": "Higher reward", "lower": "Lower reward", NO_DIFFERENCE: "No significant difference", "": "No verdict"}
NO_VERDICT = f"fewer than {ENOUGH_SEEDS} seeds, so no verdict"
ONE_SEED = "one seed: the interval covers the prompts alone, and another seed may give another result"


@dataclass(frozen=True)
class Card:
    """One question with its reply.

    Attributes:
        question: such as "Did it work?".
        headline: the reply in a few words.
        tone: up, down or nothing: the colour of the headline.
        lines: what belongs to it.
        figures: name and value of what is told as a list.
    """

    question: str
    headline: str
    tone: str = ""
    lines: list[str] = field(default_factory=list)
    figures: list[tuple[str, str]] = field(default_factory=list)


def number(value: float, sign: str = "", like: float | None = None) -> str:
    """A number with a minus sign instead of a hyphen."""
    return text.number(value, sign, like).replace("-", "−")


def interval(figure: dict[str, Any], sign: str = "") -> str:
    """A mean with its interval, likewise."""
    return text.interval(figure, sign).replace("-", "−")


def cards(found: Comparison) -> list[Card]:
    """The three cards about one run, or about several."""
    if found.is_single:
        run = found.runs[0]
        return [_worked(run), _gained(run), _cost(run, builds_of(run.folder))]
    return [_worked_of_several(found), _gained_of_several(found), _cost_of_several(found)]


def _worked(run: Run) -> Card:
    metrics = run.metrics
    main = metrics["gain"] or (metrics.get(LIKELIHOOD) or {}).get("gain")
    few, verdict = too_few(metrics), verdict_of(main) if main else ""
    if main is None:
        headline, lines = "Not measured", [f"Gain: not available ({metrics['gain_why']})."]
    elif metrics["gain"] is None:
        headline = HEADLINES[verdict].replace("reward", "likelihood")
        lines = [
            f"No reward of new text: {metrics['gain_why']}. The advantage-weighted likelihood of logged responses is compared."
        ]
    else:
        headline = HEADLINES[verdict]
        lines = [_sentence(verdict, str(metrics["reward"]))] if verdict else []
    lines += [f"{few}."] if few else []
    if metrics["gain"]:
        lines.append(_held_out(metrics))
    if not few:
        lines.append(f"{ONE_SEED.capitalize() if run.seed is not None else 'The interval covers the prompts alone'}.")
    if not few and metrics["n"] < MANY_PROMPTS:
        lines.append(f"Intervals from fewer than {MANY_PROMPTS} prompts are unreliable; there are {metrics['n']}.")
    if stopped := metrics.get(STOPPED_EARLY):
        lines.append(f"{early_stop_sentence(stopped).capitalize()}.")
    return Card("Did it work?", headline, _tone(verdict), lines)


def _sentence(verdict: str, reward: str) -> str:
    if verdict == NO_DIFFERENCE:
        return f"No significant difference between policy and reference under {reward}."
    return f"The policy's responses score {verdict} than the reference's under {reward}."


def _held_out(metrics: dict[str, Any]) -> str:
    """What the held-out reward says; without one, what cannot be known."""
    gain = metrics["held_out_gain"]
    if gain is None:
        return "No held-out reward: whether the policy exploits the reward is not known."
    verdict = verdict_of(gain)
    return f"Held-out reward ({metrics['test_reward']}): {verdict or 'no verdict'}, {interval(gain, '+')}."


def _gained(run: Run) -> Card:
    metrics = run.metrics
    main = metrics["gain"] or (metrics.get(LIKELIHOOD) or {}).get("gain")
    if main is None:
        return Card("By how much?", "Not measured")
    is_gain, lines = bool(metrics["gain"]), []
    what = "mean reward gain over the reference policy" if is_gain else "weighted log-likelihood gain, nats per token"
    if main["ci95"] is None:
        lines.append(f"{what}; {too_few(metrics)}")
    else:
        lo, hi = (number(bound, like=main["mean"]) for bound in main["ci95"])
        lines.append(f"{what}, 95% confidence interval {lo} to {hi} over {metrics['n']:,} prompts")
    figures = []
    for role, key in ROLES.items():
        if role in metrics["policy"]:
            before, after = (metrics[side][role]["mean"] for side in ("reference", "policy"))
            figures.append((f"{'held-out ' * (role != 'reward')}reward", f"{number(before)} → {number(after)}"))
            figures += [("held-out gain", interval(metrics[key], "+"))] if role != "reward" and metrics[key] else []
    figures += [(_short(key), interval(metrics[key], "+")) for key in LENGTH_CONTROLLED if metrics.get(key)]
    if len(gains := gains_by_prompt(run)):
        figures.append(("wins, ties, losses", ", ".join(f"{share:.1%}" for share in wins(gains).shares)))
    return Card("By how much?", number(main["mean"], "+"), _tone(verdict_of(main)), lines, figures)


def _short(key: str) -> str:
    return "gain at equal length" if "held_out" not in key else "held-out gain at equal length"


def _cost(run: Run, builds: Builds) -> Card:
    figures = [(stage, duration(seconds)) for stage, seconds in builds.seconds.items()]
    lines = [f"The build times of {len(builds.unknown)} artifacts are not known."] if builds.unknown and figures else []
    trained = run.cost("seconds")
    total = sum(builds.seconds.values()) if figures else trained
    if figures:
        lines.insert(0, "time to build everything that this run is made of")
    elif trained is not None:
        lines.append("time of training steps; the times of the stages were not recorded")
    if (steps := run.cost("updates")) is not None:
        rounds = f" in {len(run.rounds) + 1} rounds" if run.rounds else ""
        figures.append(("training", f"{counted(steps)} steps, {counted(run.cost('tokens') or 0)} tokens{rounds}"))
    if samples := run.cost("samples"):
        figures.append(("generated for training", f"{counted(samples)} responses"))
    figures += [(f"peak {kind}", f"{mib:,} MiB") for kind, mib in builds.peak_memory.items()]
    return Card("What did it cost?", "Not recorded" if total is None else duration(total), "", lines, figures + _changes(run))


def _changes(run: Run) -> list[tuple[str, str]]:
    """What the policy lost or changed on the way: KL, variety, length, what it forgot."""
    policy, reference = run.metrics["policy"], run.metrics["reference"]
    unit = run.metrics["words"]["unit"]
    found = [("KL per token", f"{interval(policy['kl_per_token'])} nats")] if policy.get("kl_per_token") else []
    found.append(("distinct-1 matched", f"{number(reference['distinct_1_matched'])} → {number(policy['distinct_1_matched'])}"))
    found.append(("unique responses", f"{reference['different']:.1%} → {policy['different']:.1%}"))
    found.append(("length", f"{number(reference['length']['mean'])} → {number(policy['length']['mean'])} {unit}"))
    if logged := run.metrics.get("logged_responses"):
        before, after = (number(logged[side]["perplexity"]["mean"]) for side in ("reference", "policy"))
        found.append(("perplexity, logged", f"{before} → {after}"))
    return found


def _worked_of_several(found: Comparison) -> Card:
    """Verdicts about differences to the baseline; without a baseline, about the gains over the reference."""
    name = "difference" if any("difference" in row.estimates for row in found.rows) else "gain"
    judged = {row.method.name: _judged(row.estimates[name]) for row in found.rows if name in row.estimates}
    if not judged:
        return Card("Did it work?", "Not measured", "", ["No reward could score the responses."])
    heading = found.heading if name == "difference" else "than the reference"
    counts = Counter(verdict for verdict in judged.values() if verdict)
    said = ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS if counts[verdict])
    told = "Difference" if name == "difference" else "Gain over the reference"
    by_verdict = {verdict: [name for name, found in judged.items() if found == verdict] for verdict in (*VERDICTS, "")}
    lines = [f"{_listed(names)}: {verdict or NO_VERDICT}." for verdict, names in by_verdict.items() if names]
    several = any(len(method.runs) > 1 for method in found.methods)
    covers = "prompts and seeds" if all(len(method.runs) > 1 for method in found.methods) else "the prompts alone with one seed"
    covers = covers if several else "the prompts alone"
    headline = f"{said} {heading if name == 'difference' else ''}".strip() if said else "No verdict"
    return Card("Did it work?", headline, "", [f"{told}, intervals over {covers}.", *lines])


def _listed(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def _judged(estimate: dict[str, Any]) -> str:
    """The verdict of an estimate; nothing without an interval or with too few seeds."""
    if "verdict" in estimate:
        return estimate["verdict"] or ""
    return verdict_of(estimate) if min(estimate["seeds"]) >= ENOUGH_SEEDS else ""


def _gained_of_several(found: Comparison) -> Card:
    gained = [(row.method.name, row.estimates["gain"]) for row in found.rows if "gain" in row.estimates]
    if not gained:
        return Card("By how much?", "Not measured")
    low, high = (choose(gain["mean"] for _, gain in gained) for choose in (min, max))
    span = number(low, "+") if len(gained) == 1 else f"{number(low, '+')} to {number(high, '+')}"
    figures = [(name, interval(gain, "+")) for name, gain in gained[:SHOWN]]
    line = "mean reward gain over the reference policy" + (f", lowest to highest of {len(gained)} methods" * (len(gained) > 1))
    return Card("By how much?", span, "", [line], figures)


def _cost_of_several(found: Comparison) -> Card:
    costs = [(method.name, method.cost("seconds"), method.cost("updates")) for method in found.methods]
    known = [cost for cost in costs if cost[1] is not None]
    if not known:
        return Card("What did it cost?", "Not recorded", "", ["These policies were not trained here."])
    spent = sum(run.cost("seconds") or 0.0 for run in found.runs)
    figures = [
        (name, f"{duration(seconds)}, {counted(steps or 0)} steps")
        for name, seconds, steps in known[:SHOWN]
        if seconds is not None
    ]
    line = f"time of training steps of {found.counted}; by method the mean of its seeds, without evaluations"
    return Card("What did it cost?", duration(spent), "", [line], figures)


def _tone(verdict: str) -> str:
    return {"higher": "up", "lower": "down"}.get(verdict, "")
