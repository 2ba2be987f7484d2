"""The two sides of a judgement: the responses of a policy and of its reference, or of two policies, to the same prompts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aloll_cli.comparison.runs import Run, folder_of
from aloll_cli.comparison.shape import made_from
from aloll_cli.errors import UserError
from aloll_cli.foreign import damaged
from aloll_cli.judging.pairs import Pair
from aloll_cli.store.tables import read_blocks

Named = tuple[dict[str, Any], dict[str, Any]]  # of the first and of the second side: run, side, label


def sides(runs: Sequence[Run]) -> tuple[Named, list[Pair]]:
    """The names of two sides and their pairs of responses, in the order of the prompts.

    Args:
        runs: one, whose policy is compared with its reference; or two, whose policies are compared.

    Raises:
        UserError: there are more, or they differ in their task, their prompts or the number of samples per prompt.
    """
    if len(runs) > 2:
        what = f"runs: {len(runs)} runs were named; aloll judge compares two, or a policy with its reference."
        raise UserError(what, "runs=[FOLDER,FOLDER] or runs=[FOLDER]")
    first, second = runs[0], runs[-1]
    if len(runs) == 1:
        named = (_named(first, "policy", first.label), _named(first, "reference", "reference"))
        responses = [(row["prompt"], row["policy"]["response"], row["reference"]["response"]) for row in first.responses]
    else:
        _require_same_prompts(first, second)
        labels = (
            [run.label for run in runs] if first.label != second.label else [f"{run.label} {run.fingerprint}" for run in runs]
        )
        named = (_named(first, "policy", labels[0]), _named(second, "policy", labels[1]))
        others = _by_prompt(second)
        responses = [
            (prompt, mine, other)
            for prompt, own in _by_prompt(first).items()
            for mine, other in zip(own, others[prompt], strict=True)
        ]  # fmt: skip
    known = _prompts(first)
    return named, [Pair(prompt, mine, other, *known.get(prompt, ("", ()))) for prompt, mine, other in responses]


def _named(run: Run, side: str, label: str) -> dict[str, Any]:
    return {"run": run.name, "side": side, "label": label}


def _by_prompt(run: Run) -> dict[str, list[str]]:
    """The policy's responses to each prompt; those to two prompts of one text stand together."""
    found: dict[str, list[str]] = {}
    for row in run.responses:
        found.setdefault(row["prompt"], []).append(row["policy"]["response"])
    return found


def _require_same_prompts(first: Run, second: Run) -> None:
    if first.metrics["task"] != second.metrics["task"]:
        what = f"runs: {first.name} is of task={first.metrics['task']}, {second.name} of task={second.metrics['task']}."
        raise UserError(what, "Name two runs of one task.")
    mine, theirs = _by_prompt(first), _by_prompt(second)
    if mine.keys() != theirs.keys():
        both = len(mine.keys() & theirs.keys())
        what = f"runs: {first.name} and {second.name} were evaluated on different prompts ({both} of {len(mine)} are in both)."
        raise UserError(what, "Name runs with the same data, the same split= and the same task.* options.")
    if any(len(mine[prompt]) != len(theirs[prompt]) for prompt in mine):
        what = f"runs: {first.name} and {second.name} have different numbers of samples per prompt."
        raise UserError(what, "Evaluate one of them again with the other's generation.samples.")


def _prompts(run: Run) -> dict[str, tuple[str, Sequence[Any]]]:
    """By prompt, its identity and its chat turns, where the responses are still in the folder that the run lies in."""
    with damaged(run.folder / "recipe.json"):
        recipe = made_from(run.folder)["policy_answers"]
    folder = folder_of(run.folder.parent.parent, recipe) if recipe.get("kind") == "generations" else None
    if folder is None or not (folder / "manifest.json").is_file():
        return {}
    rows = read_blocks(folder / "responses", ["prompt", "group", "turns"]).to_pylist()
    return {row["prompt"]: (row["group"], row["turns"]) for row in rows}
