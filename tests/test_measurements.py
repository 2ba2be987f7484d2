"""The tables of docs/results.md are what scripts/measurements.py computes from the committed rewards."""

import json
from pathlib import Path

import numpy as np
import pytest
from evaluated import write_run
from measurements import FOLDER, collect, has_held_out, held_out_table, measured, table
from tiny import some_slow

from aloll_cli.arrays import FloatArray
from aloll_cli.store.manifest import write_manifest

RESULTS = Path(__file__).parent.parent / "docs" / "results.md"
NAMES = sorted(file.stem for file in FOLDER.glob("*.csv"))


def test_there_are_measurements():
    assert "reviews" in NAMES


@pytest.mark.parametrize("name", some_slow(NAMES))
def test_the_table_of_the_results_is_that_of_the_measurements(name: str):
    text = RESULTS.read_text()
    assert table(name) in text
    if has_held_out(name):
        assert held_out_table(name) in text


@pytest.mark.parametrize("name", NAMES)
def test_every_run_has_a_reward_for_every_prompt(name: str):
    reference, *runs = measured(name)
    assert reference.variant == "reference"
    assert len({(run.variant, run.lr, run.seed) for run in runs}) == len(runs) >= 6
    assert {run.rewards.keys() == reference.rewards.keys() for run in runs} == {True}
    assert len({values.shape for run in [reference, *runs] for values in run.rewards.values()}) == 1


def test_a_table_worked_by_hand(tmp_path, monkeypatch):
    monkeypatch.setattr("measurements.FOLDER", tmp_path)
    head = "variant,lr,seed,role,validation,words,unique,eos,kl,distinct," + ",".join(f"p{i}" for i in range(4))
    figures = "10,1,1,0.5,0.2"
    rows = ["reference,,,reward,,10,1,1,0,,0,0,0,0"]
    # gains by prompt 1 and 3 in both seeds: their mean is 2, the standard error of 4 prompts (4/3)^½/2 = 0.57735, t(3) = 3.18245
    rows += [f"seq,0.001,{seed},reward,0.5,{figures},1,3,1,3" for seed in (1, 2)]
    rows += [f"nll,0.0001,{seed},reward,0.5,{figures},1,1,1,1" for seed in (1, 2)]
    (tmp_path / "made.csv").write_text("\n".join([head, *rows]) + "\n")
    *_, best, baseline = table("made").splitlines()
    assert best == (
        "| `seq` | 1e-3 | 2 | +2.000 [0.163, 3.837] | +2.000 +2.000 | +1.000 [-0.837, 2.837] | – | 10.0 | 0.20 | 1.00 | 0.50 |"
    )
    assert baseline.startswith("| `nll` | 1e-4 | 2 | +1.000 [1.000, 1.000] |")
    np.testing.assert_array_equal(measured("made")[1].rewards["reward"], [1, 3, 1, 3])


def held_out(folder: Path, words: FloatArray, rewards: FloatArray, reference: float = 0.4) -> Path:
    """An evaluated run whose responses have these words and held-out rewards; the reference's have two words."""
    rows = [json.loads(line) for line in (folder / "answers.jsonl").read_text().splitlines()]
    for row, n, reward in zip(rows, words, rewards, strict=True):
        row["policy"] |= {"response": "so " * int(n), "test_reward": float(reward)}
        row["reference"]["test_reward"] = reference
    (folder / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    metrics = json.loads((folder / "metrics.json").read_text())
    # as evaluations have it, over as many words as both sides have: another figure of the reference for each policy
    metrics["reference"]["distinct_1_matched"] = 1 / float(words.sum())
    metrics["policy"]["distinct_1_matched"] = 0.5 / float(words.sum())
    (folder / "metrics.json").write_text(json.dumps(metrics))
    write_manifest(folder)
    return folder


def test_runs_are_added_to_a_file_and_the_held_out_reward_is_compared_at_equal_length(tmp_path, monkeypatch):
    monkeypatch.setattr("measurements.FOLDER", tmp_path / "measured")
    random, runs = np.random.default_rng(1), {}
    for name, effect, seeds in (("nll", 0.05, (1, 2)), ("seq", 0.2, (1, 2)), ("dro", 0.1, (1,))):
        for seed in seeds:
            folder = write_run(tmp_path, name, seed, {f"p{i}": 0.5 + effect for i in range(40)}, metrics={"test_reward": "words"})
            words = random.integers(1, 9, 40)
            runs[name, seed] = held_out(folder, words, 0.4 + effect + 0.05 * (words - 2))
    collect("made", [runs["nll", 1], runs["nll", 2], runs["seq", 1]])
    collect("made", [runs["seq", 1], runs["seq", 2]])
    file = collect("made", [runs["dro", 1]], "dro values=joint")
    variants = [line.split(",")[0] for line in file.read_text().splitlines()[1:]]
    expected = {"reference": 1, "dro values=joint": 1, "nll": 2, "seq": 2}
    assert variants == [name for name, count in expected.items() for _ in range(3 * count)]
    lines = [[cell.strip(" `") for cell in line.split("|")[1:-1]] for line in held_out_table("made").splitlines()[2:]]
    assert [line[0] for line in lines] == ["seq", "dro values=joint", "nll"]
    assert lines[0][2:4] == ["+0.200 +0.200", "+0.150 [0.150, 0.150]"]
    assert lines[1][1] == "+0.100 [0.100, 0.100] (prompts only)"
    assert lines[2][1:] == ["+0.050 [0.050, 0.050]", "+0.050 +0.050", "–", "–", "0", "8"]
    heads, _, best, *_ = table("made").splitlines()
    assert heads.endswith("| words | distinct-1, share | unique responses |")  # there is no KL
    assert best.split("|")[-3].strip() == "0.50"


def test_what_cannot_be_collected_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("measurements.FOLDER", tmp_path / "measured")
    rewards = {f"p{i}": 0.5 for i in range(40)}
    collect("made", [write_run(tmp_path, "seq", 1, rewards)])
    assert not has_held_out("made")
    for message, folder in {
        "both seq 0.001 1: give one a --label": write_run(tmp_path, "seq", 1, rewards, data="others"),
        "was not trained here": write_run(tmp_path, "seq", None, rewards),
        "has other columns, or another number of prompts": write_run(tmp_path, "seq", 2, {"a": 0.5, "b": 0.2}),
    }.items():
        with pytest.raises(SystemExit, match=message):
            collect("made", [folder])
    other = held_out(write_run(tmp_path, "nll", 1, rewards), np.full(40, 2), np.full(40, 0.5))
    with pytest.raises(SystemExit, match="another reference, or other test prompts"):
        collect("made", [other])
