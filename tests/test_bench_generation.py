"""scripts/bench_generation.py at sizes that take no time."""

import json
import sys

import bench_generation
import pytest
import torch

TINY = [
    "--prompts=12", "--shortest=2", "--longest=20", "--new=4", "--batch=4", "--batch-tokens=60", "--vocab=50", "--layers=1",
    "--hidden=32", "--alternations=1",
]  # fmt: skip


def test_every_way_and_ratio_has_a_row_and_the_texts_agree(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["bench_generation.py", *TINY, f"--json={tmp_path / 'figures.json'}"])
    threads = torch.get_num_threads()
    assert bench_generation.main() == 0
    torch.set_num_threads(threads)
    lines = capsys.readouterr().out.splitlines()
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert list(figures["ways"]) == ["file order", "sorted", "filled by tokens"]
    for name in [*figures["ways"], *figures["ratios"]]:
        assert sum(line[:30].strip() == name for line in lines) == 1, name
    medians = [figures["ways"][name]["median"] for name in ("file order", "sorted")]
    assert figures["ratios"]["file order / sorted"]["median"] == pytest.approx(medians[0] / medians[1])
    assert figures["texts"]["compared"] == 24
    assert figures["texts"]["widest_gap"] < 1e-4


def test_samples_of_a_prompt_are_timed_apart_and_shared_with_the_same_texts(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["bench_generation.py", *TINY, "--samples=3", f"--json={tmp_path / 'figures.json'}"])
    threads = torch.get_num_threads()
    assert bench_generation.main() == 0
    torch.set_num_threads(threads)
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert list(figures["ways"]) == ["1 apart", "1 shared", "3 apart", "3 shared"]
    assert list(figures["ratios"]) == ["1 apart / 1 shared", "3 apart / 3 shared"]
    assert "0 of 24 texts differ" in capsys.readouterr().out
    assert bench_generation.prefill.WORTH == 0.75


def test_padded_and_continuous_batches_are_timed_with_the_same_tokens(tmp_path, monkeypatch, capsys):
    options = [*TINY, "--batching", "--new=12", "--end-every=5", f"--json={tmp_path / 'figures.json'}"]
    monkeypatch.setattr(sys, "argv", ["bench_generation.py", *options])
    threads = torch.get_num_threads()
    assert bench_generation.main() == 0
    torch.set_num_threads(threads)
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert list(figures["ways"]) == ["padded", "continuous"]
    assert list(figures["ratios"]) == ["padded / continuous"]
    assert 1 < figures["lengths"]["mean"] < figures["lengths"]["limit"] == 12
    assert "0 of 12 texts differ" in capsys.readouterr().out
