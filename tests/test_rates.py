"""The table of options that validation chooses by, and where it stands in docs/results.md."""

from pathlib import Path

import pytest
import yaml
from rates import FOLDER, collect, table

from aloll_cli.files import write_json

RESULTS = Path(__file__).parent.parent / "docs" / "results.md"


@pytest.mark.parametrize("name", sorted(file.stem for file in FOLDER.glob("*.csv")))
def test_the_table_of_the_results_is_that_of_the_evaluations(name):
    assert table(name) in RESULTS.read_text()


def test_the_best_evaluation_of_each_policy_and_the_best_policy_of_each_method(tmp_path, monkeypatch):
    monkeypatch.setattr("rates.FOLDER", tmp_path)
    runs = {
        "a": ({"name": "kto", "beta": 0.1}, "head", 0.001, (0.4, 0.625, 0.5)),
        "b": ({"name": "kto", "beta": 0.1}, "head", 0.0003, (0.4, 0.5, 0.75)),
        "c": ({"name": "dro", "tau": 1.0}, "joint", 0.001, (0.4, 0.5, 0.45)),
        "unfinished": ({"name": "dro", "tau": 0.2}, "head", 0.001, (0.9,)),
    }
    for name, (variant, values, lr, rewards) in runs.items():
        folder = tmp_path / name
        folder.mkdir()
        settings = {"variant": variant, "values": {"name": values}, "optimizer": {"lr": lr}, "seed": 1} | {
            "rounds": 1,
            "reduction": "sum",
        }
        (folder / "config.yaml").write_text(yaml.safe_dump(settings))
        lines = [
            f'{{"update": {step * 50}, "score": {reward}, "length": 9, "distinct_1": 0.25, "repeated": 0.5}}\n'
            for step, reward in enumerate(rewards)
        ]
        (folder / "evaluations.jsonl").write_text("".join(lines))
        if name != "unfinished":
            write_json(folder / "manifest.json", {})
    collect("made", [tmp_path / name for name in runs if name != "b"])
    collect("made", [tmp_path / name for name in ("a", "b")])  # to what is there
    assert table("made").splitlines()[2:] == [
        "| `kto` | beta=0.1 | 3e-4 | 0.750 | 100 | 9.0 | 0.25 | 0.50 | yes |",
        "| `kto` | beta=0.1 | 1e-3 | 0.625 | 50 | 9.0 | 0.25 | 0.50 |  |",
        "| `dro` | tau=1 values=joint | 1e-3 | 0.500 | 50 | 9.0 | 0.25 | 0.50 | yes |",
    ]
