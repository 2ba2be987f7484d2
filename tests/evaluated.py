"""Folders of evaluated runs, written by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from aloll_cli.artifacts.metrics import Metrics
from aloll_cli.metrics.intervals import mean_with_interval
from aloll_cli.metrics.text import matched_distinct, text_figures
from aloll_cli.schema import fingerprint
from aloll_cli.store.manifest import write_manifest

RESAMPLES = 200
REWARDS = {"a": 0.9, "b": 0.5, "c": 0.1}


def write_run(
    root: Path,
    variant: str = "seq",
    seed: int | None = 1,
    rewards: dict[str, float] | None = None,
    response: str = "rather good",
    curves: bool = True,
    options: dict[str, Any] | None = None,
    metrics: dict[str, Any] | None = None,
    scores: tuple[float, ...] = (0.0, 0.3),
    data: str = "rows",
    code: str = "",
    scorer: str = "",
) -> Path:
    """A folder of metrics as ``evaluate`` leaves it, and its policy's curves.

    Args:
        rewards: by prompt; the reference's are 0.4.
        options: of the configuration, beside or in place of the usual ones.
        metrics: likewise of metrics.json.
        scores: on validation data, before training and after.
        data: other rows have another name.
        code: of the method, where it is not the released one.
        scorer: content of the reward; other content judges otherwise.
    """
    rewards = rewards or REWARDS
    config: dict[str, Any] = {
        "stage": "run",
        "name": "settings",
        "seed": seed,
        "reward": {"name": "vader"},
        "variant": {"name": variant},
    }
    config |= {"optimizer": {"name": "adamw", "lr": 0.001}, "output_dir": str(root)} | (options or {})
    own = {key: value for key, value in config.items() if key not in ("seed", "output_dir", "select")}
    identity = {"config": str(own), "seed": seed, "judge": {"reward": "vader"}} | ({"code": code} if code else {})
    policy = {"kind": "policy", "identity": identity, "inputs": {"data": data}}
    reference = {"kind": "reference", "identity": {"judge": {"by": "likelihood"}}, "inputs": {}}
    examples = {"kind": "examples", "inputs": {"data": {"kind": "data", "content": data}}}
    recipe = {
        "policy_answers": {"inputs": {"policy": policy, "examples": examples}},
        "reference_answers": {"inputs": {"policy": reference, "examples": examples}},
        "policy_reward": {"identity": {"reward": "vader", "content": scorer}, "inputs": {"source": {"seed": seed}}},
    }
    folder = root / "metrics" / f"{variant}-s{seed}-test-{fingerprint(recipe)}"
    folder.mkdir(parents=True)
    if curves:
        write_curves(root / "policy" / f"{variant}-s{seed}-{fingerprint(policy)}", scores)
    responses = [
        {
            "prompt": prompt,
            "policy": {"response": response, "reward": reward},
            "reference": {"response": "rather bad", "reward": 0.4},
        }
        for prompt, reward in rewards.items()
    ]
    (folder / "recipe.json").write_text(json.dumps({"version": Metrics.version, "inputs": recipe}))
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in responses))
    (folder / "metrics.json").write_text(json.dumps(figures(variant, seed, responses) | (metrics or {})))
    write_manifest(folder)
    return folder


def write_curves(folder: Path, scores: tuple[float, ...]) -> None:
    folder.mkdir(parents=True)
    same = {"ratio": 1.0, "clip_fraction": 0.1, "kept": 0.468, "tokens": 500, "seconds": 2.5}
    updates = [{"update": k, "loss": 9 / k, "kl": k / 10} | same for k in (1, 2, 3)]
    evaluations = [{"update": 3 * k, "score": score, "responses": ["long"]} for k, score in enumerate(scores)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in updates))
    (folder / "evaluations.jsonl").write_text("".join(json.dumps(row) + "\n" for row in evaluations))


def figures(variant: str, seed: int | None, responses: list[dict[str, Any]]) -> dict[str, Any]:
    """metrics.json for some responses."""
    rewards = {side: np.array([row[side]["reward"] for row in responses]) for side in ("policy", "reference")}
    texts = {side: [row[side]["response"] for row in responses] for side in rewards}
    sides = {
        side: {"reward": mean_with_interval(rewards[side], RESAMPLES), "ended": 1.0}
        | text_figures(texts[side], RESAMPLES)
        | matched_distinct(texts[side], texts["reference"])
        for side in rewards
    }
    gain = mean_with_interval(rewards["policy"] - rewards["reference"], RESAMPLES) | {"resamples": RESAMPLES}
    about = {"task": "reviews", "variant": variant, "seed": seed, "split": "test", "reward": "vader", "test_reward": None}
    missing = {"held_out_gain": None, "held_out_gain_why": "no second reward was named: test_reward=…", "proxy_skill": None}
    words = {"tokenizer": "13a", "unit": "words", "option": "auto", "letters": {"a to z": 1.0}}
    return about | {"n": len(responses), "words": words} | sides | {"gain": gain} | missing
