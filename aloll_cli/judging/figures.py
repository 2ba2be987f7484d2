"""What judgements say: win rates with intervals over prompts, position bias, consistency and agreement. Pure functions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from aloll_cli.errors import UserError
from aloll_cli.judging.pairs import Ballot, Pair
from aloll_cli.metrics.intervals import mean_with_interval

SCORES = {"first": 1.0, "second": 0.0, "equal": 0.5, "neither": 0.5}
SAME = "equal"  # what two responses of one text are, without being judged


def figures(pairs: Sequence[Pair], ballots: Sequence[Ballot], questions: Sequence[str], resamples: int) -> dict[str, Any]:
    """The figures of all questions, and how many judgements they come from.

    A pair counts where every ballot that was cast about it has labels: with one order missing, the other's bias would stay.

    Args:
        pairs: in the order of their prompts; one may occur more than once.
        ballots: by pair, voter and order.
        questions: their names.
        resamples: bootstrap resamples over prompts.

    Returns:
        ``prompts``, ``pairs``, ``identical`` (pairs of one text, not judged, which count as equal), ``judged`` (pairs that count
        otherwise), ``left_out`` (pairs that do not), ``ballots``, ``malformed``, ``malformed_why`` (how often, by reason), and
        ``questions``, by name as :func:`of_question` has them.
    """
    about: dict[str, list[Ballot]] = {}
    for ballot in ballots:
        about.setdefault(ballot.key, []).append(ballot)
    complete = {key: cast for key, cast in about.items() if all(ballot.labels is not None for ballot in cast)}
    same = [pair for pair in pairs if pair.is_same]
    counted = [pair for pair in pairs if pair.key in complete and not pair.is_same]
    why = Counter(ballot.why for ballot in ballots if ballot.labels is None)
    return {
        "prompts": len({pair.prompt for pair in [*counted, *same]}),
        "pairs": len(pairs),
        "identical": len(same),
        "judged": len(counted),
        "left_out": len(pairs) - len(same) - len(counted),
        "ballots": len(ballots),
        "malformed": sum(why.values()),
        "malformed_why": dict(why.most_common()),
        "questions": {name: of_question(pairs, complete, name, resamples) for name in questions},
    }


def of_question(pairs: Sequence[Pair], complete: Mapping[str, Sequence[Ballot]], question: str, resamples: int) -> dict[str, Any]:
    """The figures of one question.

    Args:
        pairs: as in :func:`figures`.
        complete: by key of a pair, its ballots, all with labels.
        question: its name.
        resamples: bootstrap resamples over prompts.

    Returns:
        ``win_rate``, of the first side over the second, with equal and neither as ½, a mean over prompts with its interval,
        or None without any; ``shares`` of first, second, equal and neither among the ballots, pairs of one text among equal;
        ``position``: how often A and B were chosen, and ``bias``, (A − B) / (A + B), None without either; ``consistent``, the
        share of pairs that were judged in both orders whose ballots name the same winner; None without such pairs.
    """
    scores: dict[str, list[float]] = {}
    winners: Counter[str] = Counter()
    labels: Counter[str] = Counter()
    agreed: list[bool] = []
    for pair in pairs:
        cast = [] if pair.is_same else complete.get(pair.key, [])
        found = [SAME] if pair.is_same else [winner for ballot in cast if (winner := ballot.winner(question)) is not None]
        if not found:
            continue
        scores.setdefault(pair.prompt, []).append(float(np.mean([SCORES[winner] for winner in found])))
        winners.update(found)
        labels.update((ballot.labels or {})[question] for ballot in cast if question in (ballot.labels or {}))
        for voter in {ballot.voter for ballot in cast}:
            own = {ballot.swapped: ballot.winner(question) for ballot in cast if ballot.voter == voter}
            agreed += [len(set(own.values())) == 1] if len(own) > 1 else []
    picked = labels["A"] + labels["B"]
    total = sum(winners.values())
    by_prompt = np.array([np.mean(of_prompt) for of_prompt in scores.values()])
    return {
        "win_rate": mean_with_interval(by_prompt, resamples) if scores else None,
        "shares": {outcome: winners[outcome] / total for outcome in SCORES} if total else None,
        "position": {"A": labels["A"], "B": labels["B"], "bias": (labels["A"] - labels["B"]) / picked if picked else None},
        "consistent": float(np.mean(agreed)) if agreed else None,
    }  # fmt: skip


def agreement(ballots: Sequence[Ballot], question: str) -> dict[str, Any]:
    """Krippendorff's α of several voters about the winner (nominal), over pairs that at least two of them judged.

    Returns:
        ``alpha``, None where it is not defined, with ``why``; ``pairs``, how many have two voters or more.

    Raises:
        UserError: the library is not installed.
    """
    voters = {voter: row for row, voter in enumerate(dict.fromkeys(ballot.voter for ballot in ballots))}
    units = {key: column for column, key in enumerate(dict.fromkeys(ballot.key for ballot in ballots))}
    outcomes = {outcome: code for code, outcome in enumerate(SCORES)}
    table = np.full((len(voters), len(units)), np.nan)
    for ballot in ballots:
        if (winner := ballot.winner(question)) is not None:
            table[voters[ballot.voter], units[ballot.key]] = outcomes[winner]
    shared = int((np.isfinite(table).sum(axis=0) > 1).sum())
    if len(voters) < 2 or not shared:
        return {"alpha": None, "why": "no pair was judged by two people", "pairs": shared}
    paired = table[:, np.isfinite(table).sum(axis=0) > 1]
    if len(np.unique(paired[np.isfinite(paired)])) < 2:
        return {"alpha": None, "why": "all judgements are the same, so that chance agreement is certain", "pairs": shared}
    try:
        import krippendorff
    except ModuleNotFoundError:
        raise UserError("Krippendorff's α needs a package that is not installed.", "pip install 'aloll[judge]'") from None
    return {"alpha": float(krippendorff.alpha(reliability_data=table, level_of_measurement="nominal")), "pairs": shared}
