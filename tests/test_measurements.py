"""The tables of docs/results.md are what scripts/measurements.py computes from the committed rewards."""

import json
from pathlib import Path

import numpy as np
import pytest
from evaluated import write_run
from measurements import FOLDER, WORDS, collect, held_out_table, measured, table

RESULTS = Path(__file__).parent.parent / "docs" / "results.md"
NAMES = sorted(file.stem for file in FOLDER.glob("*.csv"))


def test_there_are_measurements():
    assert "reviews" in NAMES


@pytest.mark.parametrize("name", NAMES)
def test_the_table_of_the_results_is_that_of_the_measurements(name: str):
    text = RESULTS.read_text()
    assert table(name) in text
    if WORDS in measured(name)[0].rewards:
        assert held_out_table(name) in text


@pytest.mark.parametrize("name", NAMES)
def test_every_run_has_a_reward_for_every_prompt(name: str):
    reference, *runs = measured(name)
    assert reference.variant == "reference"
    assert len({(run.variant, run.lr, run.seed) for run in runs}) == len(runs) >= 15
    assert {run.rewards.keys() == reference.rewards.keys() for run in runs} == {True}
    assert len({values.shape for run in [reference, *runs] for values in run.rewards.values()}) == 1


def test_a_table_worked_by_hand(tmp_path, monkeypatch):
    monkeypatch.setattr("measurements.FOLDER", tmp_path)
    head = "variant,lr,seed,role,validation,words,unique,eos,kl,distinct," + ",".join(f"p{i}" for i in range(4))
    figures = "10,1,1,0.5,0.2"
    rows = [f"reference,,,reward,,{figures},0,0,0,0"]
    # gains by prompt 1 and 3 in both seeds: their mean is 2, the standard error of 4 prompts (4/3)^½/2 = 0.57735, t(3) = 3.18245
    rows += [f"seq,0.001,{seed},reward,0.5,{figures},1,3,1,3" for seed in (1, 2)]
    rows += [f"nll,0.0001,{seed},reward,0.5,{figures},1,1,1,1" for seed in (1, 2)]
    (tmp_path / "made.csv").write_text("\n".join([head, *rows]) + "\n")
    *_, best, baseline = table("made").splitlines()
    assert best == (
        "| `seq` | 1e-3 | 2 | +2.000 [0.163, 3.837] | +2.000 +2.000 | +1.000 [-0.837, 2.837] | – | 10.0 | 1.00 | 1.00 | 0.50 |"
    )
    assert baseline.startswith("| `nll` | 1e-4 | 2 | +1.000 [1.000, 1.000] |")
    np.testing.assert_array_equal(measured("made")[1].rewards["reward"], [1, 3, 1, 3])


def test_runs_are_added_to_a_file_and_the_held_out_reward_is_compared_at_equal_length(tmp_path, monkeypatch):
    monkeypatch.setattr("measurements.FOLDER", tmp_path / "measured")
    random = np.random.default_rng(1)
    folders = {}
    for name, effect, seeds in (("nll", 0.05, (1, 2)), ("seq", 0.2, (1, 2)), ("dro", 0.1, (1,))):
        for seed in seeds:
            words = random.integers(1, 9, 40)
            held_out = 0.4 + effect + 0.05 * (words - 2)  # the reference's responses have two words and get 0.4
            folder = write_run(tmp_path, name, seed, {f"p{i}": 0.5 + effect for i in range(40)}, metrics={"test_reward": "words"})
            rows = [json.loads(line) for line in (folder / "answers.jsonl").read_text().splitlines()]
            for row, n, reward in zip(rows, words, held_out, strict=True):
                row["policy"] |= {"response": "so " * int(n), "test_reward": float(reward)}
                row["reference"]["test_reward"] = 0.4
            (folder / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
            folders[name, seed] = folder
    collect("made", [folders["nll", 1], folders["nll", 2], folders["seq", 1]])
    collect("made", [folders["seq", 1], folders["seq", 2]])
    file = collect("made", [folders["dro", 1]], "dro values=joint")
    variants = [line.split(",")[0] for line in file.read_text().splitlines()[1:]]
    assert variants == [
        name for name, runs in (("reference", 1), ("dro values=joint", 1), ("nll", 2), ("seq", 2)) for _ in range(3 * runs)
    ]
    lines = {
        line.split("|")[1].strip(" `"): [cell.strip() for cell in line.split("|")[2:-1]]
        for line in held_out_table("made").splitlines()[2:]
    }
    assert [*lines] == ["seq", "dro values=joint", "nll"]
    assert lines["seq"][1:3] == ["+0.200 +0.200", "+0.150 [0.150, 0.150]"]
    assert lines["dro values=joint"][0] == "+0.100 [0.100, 0.100] (prompts only)"
    assert lines["nll"] == ["+0.050 [0.050, 0.050]", "+0.050 +0.050", "–", "–", "0", "8"]
    with pytest.raises(SystemExit, match="two runs are dro 0.001 1: collect them apart"):
        collect("made", [folders["dro", 1], folders["dro", 1]])
    other = write_run(tmp_path / "other", "seq", 3, {f"p{i}": 0.5 for i in range(40)}, metrics={"test_reward": "words"})
    with pytest.raises(SystemExit, match="has another reference, or other test prompts"):
        collect("made", [other])
