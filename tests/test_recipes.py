"""Fingerprints of whole recipes, pinned: what is in outputs/ stays valid until a recipe is changed on purpose.

A deliberate change is written down again, in the same commit, by: python tests/test_recipes.py
"""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from tiny import composed, some_slow, write_rows

from aloll_cli.artifacts.pipeline import Pipeline
from aloll_cli.store.store import upstream

PINS = Path(__file__).with_name("recipes.json")
MIXED = ("reward=mixed", "+reward@reward.parts.mood.reward=vader", "+reward@reward.parts.size.reward=length",
         "reward.parts.size.weight=0.1", "reward.parts.size.transform=zscore")  # fmt: skip
RECIPES = {
    "embedded nll": ("variant=nll",),
    "embedded seq": (),
    "embedded dpo": ("variant=dpo",),
    "embedded ppo": ("variant=ppo",),
    "hha_small": ("experiment=hha_small", "task.path={folder}/hha"),
    "lora": ("adapter=lora",),
    "mixed reward": MIXED,
    "local chat": ("task=local", "task.path={folder}/chat", "values=data", "reward=column", "reward.transform=none"),
}


def rows_in(folder):
    """A few rows in PRO's packing of HH-RLHF, and a few chats of one's own."""
    for split in ("train", "validation", "test"):
        dialogues = [
            {
                "prefix": [[f"<|prompter|>What of {split} {i}?", "<|assistant|>"]] * 2,
                "suffix": [f"It is {i}.", f"It may be {i}, or not."],
                "reward": [0.5 + i, -0.5],
                "meta": {"source_path": "helpful-base"},
            }
            for i in range(4)
        ]
        chats = [
            {"messages": [{"role": "user", "content": f"Say {split} {i}!"}], "response": f"{split} {i}.", "reward": i / 4}
            for i in range(4)
        ]
        write_rows(folder / "hha" / f"{split}.jsonl", dialogues)
        write_rows(folder / "chat" / f"{split}.jsonl", chats)


def fingerprints(overrides, folder):
    metrics = Pipeline(composed(*(override.format(folder=folder) for override in overrides))).metrics
    return {artifact.folder.rpartition("-")[0]: artifact.fingerprint for artifact in [*upstream(metrics), metrics]}


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rows")
    rows_in(folder)
    return folder


@pytest.mark.parametrize("name", some_slow(RECIPES))
def test_a_recipe_has_the_fingerprints_that_were_written_down(name, rows):
    assert fingerprints(RECIPES[name], rows) == json.loads(PINS.read_text())[name]


if __name__ == "__main__":
    with TemporaryDirectory() as place:
        rows_in(Path(place))
        PINS.write_text(json.dumps({name: fingerprints(recipe, place) for name, recipe in RECIPES.items()}, indent=1) + "\n")
