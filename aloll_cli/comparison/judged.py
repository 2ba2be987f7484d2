"""Judgements about evaluated runs: found beside them, read and checked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aloll_cli.comparison.runs import Run
from aloll_cli.comparison.shape import MEAN
from aloll_cli.errors import UserError
from aloll_cli.foreign import anything, checked_json, dict_of, integer, list_of, name, number, optional, record, text
from aloll_cli.store.places import PARTIAL

SIDE = record({"run": text, "side": text, "label": text})
QUESTION = record(
    {
        "win_rate": optional(MEAN),
        "shares": optional(record(dict.fromkeys(("first", "second", "equal", "neither"), number))),
        "position": record({"A": integer, "B": integer, "bias": optional(number)}),
        "consistent": optional(number),
    },
    {"agreement": record({"alpha": optional(number), "pairs": integer}, {"why": text})},
)
JUDGEMENT = record(
    {
        "judge": name, "by": text, "sides": list_of(SIDE), "voters": integer, "prompts": integer, "pairs": integer,
        "identical": integer, "judged": integer, "left_out": integer, "ballots": integer, "malformed": integer,
        "malformed_why": dict_of(integer), "questions": dict_of(QUESTION), "asked": dict_of(text), "cost": dict_of(anything),
    }
)  # fmt: skip


def load_judgement(folder: Path) -> dict[str, Any]:
    """The content of judgement.json. Raises UserError if it is damaged."""
    found: dict[str, Any] = checked_json(folder / "judgement.json", JUDGEMENT)
    if len(found["sides"]) != 2:
        raise UserError(f"{folder / 'judgement.json'} has {len(found['sides'])} sides instead of 2.", "Judge these runs again.")
    return found


def judgements_of(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """The judgements whose two sides are both among some runs; damaged ones are left out.

    They lie in the folder of the task that a run lies in, and name runs by their folders.
    """
    names = {run.name for run in runs}
    roots = dict.fromkeys(run.folder.parent.parent for run in runs)
    found = []
    for file in (file for root in roots for file in sorted((root / "judgements").glob("*/judgement.json"))):
        if file.parent.suffix == PARTIAL:
            continue
        try:
            judgement = load_judgement(file.parent)
        except UserError:  # aloll verify names it
            continue
        if {side["run"] for side in judgement["sides"]} <= names:
            found.append(judgement)
    return found
