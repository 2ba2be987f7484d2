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


def write_policy(folder, name, variant, values, lr, rewards, repeated=0.05, **more):
    policy = folder / f"{variant['name']}-{name}"
    policy.mkdir()
    settings = {"variant": variant, "values": {"name": values}, "optimizer": {"lr": lr}, "seed": 1, "updates": 100, "rounds": 1}
    (policy / "config.yaml").write_text(yaml.safe_dump(settings | {"reduction": "sum"} | more))
    lines = [
        f'{{"update": {step * 50}, "score": {reward}, "length": 9, "distinct_1": 0.25, "repeated": {repeated}}}\n'
        for step, reward in enumerate(rewards)
    ]
    (policy / "evaluations.jsonl").write_text("".join(lines))
    write_json(policy / "manifest.json", {})
    return policy


def test_the_best_evaluation_of_each_policy(tmp_path, monkeypatch):
    monkeypatch.setattr("rates.FOLDER", tmp_path / "rates")
    kto = {"name": "kto", "beta": 0.1}
    first = write_policy(tmp_path, "a", kto, "head", 0.001, (0.4, 0.625, 0.5))
    second = write_policy(tmp_path, "b", kto, "head", 0.0003, (0.4, 0.5, 0.75))
    joint = write_policy(tmp_path, "round-2-c", {"name": "dro", "tau": 1.0}, "head", 0.001, (0.4, 0.5, 0.45), rounds=2)
    before = write_policy(tmp_path, "c0", {"name": "dro", "tau": 1.0}, "head", 0.001, (0.4, 0.9), rounds=2)
    collapsed = write_policy(tmp_path, "d", kto, "head", 0.003, (0.4, 0.875, 0.9), repeated=0.5)
    unfinished = write_policy(tmp_path, "e", {"name": "dro", "tau": 0.2}, "head", 0.001, (0.9,))
    (unfinished / "manifest.json").unlink()
    collect("made", [first, before, joint, unfinished])
    collect("made", [first, second, collapsed])  # to what is there
    assert table("made").splitlines()[2:] == [
        "| `kto` | beta=0.1 | 3e-3 | 100 | 0.900 | 100 | 9.0 | 0.25 | 0.50 |",
        "| `kto` | beta=0.1 | 3e-4 | 100 | 0.750 | 100 | 9.0 | 0.25 | 0.05 |",
        "| `kto` | beta=0.1 | 1e-3 | 100 | 0.625 | 50 | 9.0 | 0.25 | 0.05 |",
        "| `dro` | tau=1 values=head rounds=2 | 1e-3 | 100 | 0.500 | 50 | 9.0 | 0.25 | 0.05 |",
    ]


def test_policies_that_the_file_cannot_tell_apart_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("rates.FOLDER", tmp_path / "rates")
    clipped, unclipped = (
        write_policy(tmp_path, n, {"name": "seq", "clip": c}, "head", 0.001, (0.4,)) for n, c in (("a", 0.9), ("b", 1))
    )
    collect("made", [clipped])
    with pytest.raises(SystemExit, match="^a and b are both seq  0.001 100 1$"):
        collect("made", [unclipped])
