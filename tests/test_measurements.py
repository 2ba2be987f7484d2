"""The tables of docs/results.md are what scripts/measurements.py computes from the committed rewards."""

from pathlib import Path

import numpy as np
import pytest
from measurements import FOLDER, measured, table

RESULTS = Path(__file__).parent.parent / "docs" / "results.md"
NAMES = sorted(file.stem for file in FOLDER.glob("*.csv"))


def test_there_are_measurements():
    assert "reviews" in NAMES


@pytest.mark.parametrize("name", NAMES)
def test_the_table_of_the_results_is_that_of_the_measurements(name: str):
    assert table(name) in RESULTS.read_text()


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
