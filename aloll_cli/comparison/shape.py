"""The shape of an evaluated run's files, checked when they are read: a folder may come from somebody else, or be damaged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from aloll_cli.foreign import (
    GREATEST,
    Unreadable,
    anything,
    damaged,
    dict_of,
    integer,
    json_lines_of,
    json_of,
    list_of,
    name,
    number,
    optional,
    read_bytes,
    record,
    text,
    yaml_of,
)

LARGEST_CONFIG = 1_000_000  # bytes


def _bounds(value: Any, where: str) -> None:
    list_of(number)(value, where)
    if len(value) != 2:
        raise Unreadable(f"{where} has {len(value)} numbers instead of 2")


MEAN = record({"mean": number, "ci95": optional(_bounds)})


def _figure(value: Any, where: str) -> None:
    """A number, a mean with its interval, or null."""
    (MEAN if isinstance(value, dict) else optional(number))(value, where)


def _skill(value: Any, where: str) -> None:
    """How well a reward that was fitted predicts: labels, or pairs."""
    record({"held_out_rows": integer}, others=optional(number))(value, where)
    needed = ("accuracy", "share_of_1") if "accuracy" in value else ("pairs", *(["pair_accuracy"] if value.get("pairs") else []))
    for key in needed:
        if key not in value:
            raise Unreadable(f"{where} has no {key}")
    for key, item in value.items():
        number(item, f"{where}.{key}")


def _skills(value: Any, where: str) -> None:
    dict_of(_skill)(value, where)
    for key in value:
        if key.partition(".")[0] not in ("reward", "test_reward"):
            raise Unreadable(f"{where}.{key} is of no reward")


SIDE = record({"length": MEAN, "different": number, "distinct_1_matched": number}, {"components": dict_of(MEAN)}, others=_figure)
REWARDS = record({}, others=_figure)  # of one side, in a subset
GAINS = {"gain": optional(MEAN), "held_out_gain": optional(MEAN)}
LENGTH_CONTROLLED = record({"mean": number, "ci95": optional(_bounds), "length_difference": number, "slope": number})
LOGGED = record({"perplexity": MEAN}, {"nats_per_token": MEAN})
LIKELIHOODS = record({"policy": number, "reference": number, "gain": MEAN})

METRICS = record(
    {
        "task": name, "variant": name, "seed": optional(integer), "split": name, "reward": text, "test_reward": optional(text),
        "n": integer, "words": record({"tokenizer": text, "unit": text, "option": text, "letters": dict_of(number)}),
        "policy": SIDE, "reference": SIDE, "proxy_skill": optional(_skills), **GAINS,
    },
    {
        "stopped_early": record({"after": integer, "of": integer, "patience": integer}),
        "samples": integer, "references": text, "gain_why": text, "held_out_gain_why": text, "rouge_why": text,
        "rouge_unread": number, "by": optional(dict_of(record({"n": integer, "policy": REWARDS, "reference": REWARDS, **GAINS}))),
        "component_gains": optional(dict_of(MEAN)),
        "length_controlled_gain": optional(LENGTH_CONTROLLED), "length_controlled_held_out_gain": optional(LENGTH_CONTROLLED),
        "logged_responses": optional(record({"policy": LOGGED, "reference": LOGGED}, {"difference": optional(MEAN)})),
        "advantage_weighted_log_likelihood": optional(LIKELIHOODS),
    },
)  # fmt: skip

RESPONSE = record({"response": text}, {"reward": number, "test_reward": number})
ROW = record({"prompt": text, "policy": RESPONSE, "reference": RESPONSE})
EVALUATION = record(
    {"update": integer, "score": number}, {"objective": optional(number), "kl_per_token": number, "repeated": number}
)
STEP = record({"update": integer}, others=optional(anything))

_OF_A_POLICY = record(
    {"kind": name, "identity": record({}, {"judge": record({}, {"by": text})})},
)
_EXAMPLES = record({"inputs": record({"data": record({"kind": name})})})
_ANSWERS = record({"inputs": record({"policy": _OF_A_POLICY, "examples": _EXAMPLES})})
_SCORER = record({}, {"identity": dict_of(anything), "inputs": dict_of(dict_of(anything))})
_SCORERS = dict.fromkeys(("policy_reward", "policy_test_reward", "rewards", "values"), _SCORER)
RECIPE = record({"inputs": record({"policy_answers": _ANSWERS, "reference_answers": _ANSWERS}, _SCORERS)})


def load_metrics(folder: Path) -> dict[str, Any]:
    """The metrics of an evaluated run.

    Raises:
        UserError: they are damaged.
    """
    with damaged(folder / "metrics.json"):
        return metrics_of(folder)


def metrics_of(folder: Path) -> dict[str, Any]:
    """Content of metrics.json. Raises Unreadable or OSError."""
    metrics: dict[str, Any] = json_of(folder / "metrics.json")
    METRICS(metrics, "")
    for role, gain in (("gain", "gain_why"), ("held_out_gain", "held_out_gain_why")):
        if metrics[role] is None and gain not in metrics:
            raise Unreadable(f"has neither {role} nor {gain}")
    _check_sides(metrics["policy"], metrics["reference"], "")
    for subset, found in (metrics.get("by") or {}).items():
        _check_sides(found["policy"], found["reference"], f"by.{subset}")
    _check_sides(metrics["policy"].get("components", {}), metrics["reference"].get("components", {}), "components")
    if missing := (metrics.get("component_gains") or {}).keys() - metrics["policy"].get("components", {}).keys():
        raise Unreadable(f"has no {', '.join(missing)} for one of the sides")
    return metrics


def _check_sides(policy: dict[str, Any], reference: dict[str, Any], where: str) -> None:
    """Both sides have the same figures, of the same kinds."""
    for key in policy.keys() | reference.keys():
        if type(policy.get(key)) is not type(reference.get(key)) and not {type(policy.get(key)), type(reference.get(key))} <= {
            int,
            float,
        }:
            raise Unreadable(f"{where}{'.' if where else ''}{key} differs in kind between policy and reference")


def responses_of(folder: Path) -> list[dict[str, Any]]:
    """Content of answers.jsonl: at least one row, all with the same rewards. Raises Unreadable or OSError."""
    rows = json_lines_of(folder / "answers.jsonl", ROW)
    for place, row in enumerate(rows):
        if row["policy"].keys() != rows[0]["policy"].keys() or row["reference"].keys() != rows[0]["reference"].keys():
            raise Unreadable(f"line {place + 1} has other rewards than the first")
    if not rows:
        raise Unreadable("has no rows")
    return rows


CURVES = ("metrics.jsonl", "evaluations.jsonl")  # of a policy: what the two functions below read


def steps_of(policy: Path) -> list[dict[str, Any]]:
    """Content of a policy's metrics.jsonl; empty if there is none. Raises Unreadable or OSError."""
    rows = json_lines_of(policy / "metrics.jsonl", STEP)
    for place, row in enumerate(rows):
        for key, value in row.items():
            if not isinstance(value, int | float) or (isinstance(value, int) and abs(value) > GREATEST):
                raise Unreadable(f"line {place + 1}: {key} is not a number")
        for key in {"seconds", "tokens", "samples", "sampled_tokens", "kept"} & row.keys():
            number(row[key], f"line {place + 1}: {key}")
    # a ratio may have overflowed, which a figure of it cannot show
    return [{key: value for key, value in row.items() if abs(value) <= GREATEST} for row in rows]


def evaluations_of(policy: Path) -> list[dict[str, Any]]:
    """Content of a policy's evaluations.jsonl; empty if there is none. Raises Unreadable or OSError."""
    return json_lines_of(policy / "evaluations.jsonl", EVALUATION)


def made_from(folder: Path) -> dict[str, Any]:
    """The inputs in the recipe of an evaluated run. Raises Unreadable or OSError."""
    recipe = json_of(folder / "recipe.json")
    RECIPE(recipe, "")
    inputs: dict[str, Any] = recipe["inputs"]
    return inputs


def configuration_of(folder: Path) -> str:
    """Text of config.yaml, which is an object of options. Raises Unreadable or OSError."""
    found = read_bytes(folder / "config.yaml", LARGEST_CONFIG).decode("utf-8", "replace")
    dict_of(anything)(yaml_of(found), "")
    return found
