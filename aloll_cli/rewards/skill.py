"""How well a reward that was fitted predicts the stored rewards of rows, such as those of prompts that it has not seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from aloll_cli.rewards.base import Row
from aloll_cli.rewards.column import stored_reward

if TYPE_CHECKING:
    from aloll_cli.arrays import FloatArray


def logits_of(probabilities: FloatArray) -> FloatArray:
    """(N,) numbers in [0, 1] → (N,) their logits, finite."""
    import numpy as np
    from scipy.special import logit

    return np.asarray(logit(np.clip(probabilities, 1e-12, 1 - 1e-12)))


def skill(predicted: FloatArray, rows: Sequence[Row], stored: FloatArray) -> dict[str, float]:
    """Accuracy on N rows: R², Spearman's ρ, and the share of pairs of responses to one prompt in the right order.

    A pair with equal predictions counts as half in order, as for an AUC.
    Undefined figures, such as the correlation of a constant, are left out.

    Args:
        predicted: (N,) predictions, on the scale of the stored rewards.
        rows: the rows, held out.
        stored: (N,) their stored rewards, transformed as the predictions are.
    """
    import numpy as np
    from scipy.stats import spearmanr
    from sklearn.metrics import r2_score

    groups: dict[str, list[int]] = {}
    for index, row in enumerate(rows):
        groups.setdefault(row.group, []).append(index)
    pairs = [(i, j) for members in groups.values() for i in members for j in members if stored[i] > stored[j]]
    in_order = [(1 + np.sign(predicted[i] - predicted[j])) / 2 for i, j in pairs]
    figures: dict[str, float] = {"held_out_rows": len(rows)}
    if len(set(stored)) > 1:
        figures["r2"] = float(r2_score(stored, predicted))
    if len(set(stored)) > 1 and len(set(predicted)) > 1:
        figures["rank_correlation"] = float(spearmanr(stored, predicted).statistic)
    figures["pairs"] = len(pairs)
    return figures | ({"pair_accuracy": float(np.mean(in_order))} if pairs else {})


def skill_with_labels(predicted: FloatArray, rows: Sequence[Row]) -> dict[str, float]:
    """Accuracy of (N,) probabilities on N held-out labels: the share on the right side of ½, and the AUC if both labels occur."""
    import numpy as np
    from sklearn.metrics import roc_auc_score

    stored = np.array([stored_reward(row) for row in rows])
    figures = {"held_out_rows": len(rows), "accuracy": float(np.mean((predicted > 0.5) == (stored > 0.5)))}
    figures["share_of_1"] = float(stored.mean())
    return figures | ({"auc": float(roc_auc_score(stored, predicted))} if 0 < stored.mean() < 1 else {})


def in_words(figures: dict[str, float]) -> str:
    """The figures as a log line shows them, with what a constant prediction would get where that is a figure."""
    constants = {"r2": 0.0, "pair_accuracy": 0.5, "auc": 0.5}
    if "share_of_1" in figures:
        constants["accuracy"] = max(figures["share_of_1"], 1 - figures["share_of_1"])
    beside = {name: f" (a constant: {value:.3g})" for name, value in constants.items()}
    shown = {name: f"{value:,}" if isinstance(value, int) else f"{value:.3g}" for name, value in figures.items()}
    return ", ".join(f"{name} {value}{beside.get(name, '')}" for name, value in shown.items())
