"""scripts/growth.py: the rows that it makes, the model that it fits, and a run of every stage with few rows."""

import json
import sys
from collections import Counter
from pathlib import Path
from subprocess import run

import growth
import pytest
from growth_model import fit, predicted, seconds_of
from made_up_rows import CHUNK, RESPONSE, VOCABULARY, WORDS, WORTH, Made

from aloll_cli.tasks.source import LocalSource


def rows_of(folder, split="train"):
    return [row for _, row in LocalSource(str(folder)).rows(split)]


def test_every_fifth_prompt_has_two_responses_and_no_two_splits_share_one(tmp_path):
    Made(CHUNK + 2000, held_out=600).write(tmp_path)
    found = {split: Counter(row["prompt"] for row in rows_of(tmp_path, split)) for split in ("train", "validation", "test")}
    assert [counts.total() for counts in found.values()] == [12_000, 600, 600]
    assert [(len(counts), Counter(counts.values())[2]) for counts in found.values()] == [(10_000, 2000), (500, 100), (500, 100)]
    assert len(set().union(*found.values())) == 11_000
    rows = rows_of(tmp_path)
    assert 190 < sum(len(row["prompt"] + row["response"]) for row in rows) / len(rows) < 200
    assert rows[-1]["prompt"] == rows[9995]["prompt"] != rows[9994]["prompt"]
    assert rows[-1]["response"] != rows[9995]["response"]


def test_the_reward_is_what_the_words_of_the_response_are_worth(tmp_path):
    Made(500, held_out=6).write(tmp_path)
    worth = dict(zip(WORDS.tolist(), WORTH, strict=True))
    assert len(worth) == VOCABULARY
    for row in rows_of(tmp_path):
        words = row["response"].split()
        assert RESPONSE[0] <= len(words) <= RESPONSE[1]
        mean = sum(map(worth.__getitem__, words)) / len(words)
        assert row["reward"] == pytest.approx(min(1, max(0, 0.5 + 2.5 * (mean - 0.5))), abs=1e-4)
    rewards = [row["reward"] for row in rows_of(tmp_path)]
    assert min(rewards) < 0.2
    assert max(rewards) > 0.8


def test_files_of_every_kind_and_number_hold_the_same_rows(tmp_path):
    Made(1000, held_out=60).write(tmp_path / "one")
    expected = rows_of(tmp_path / "one")
    Made(1000, "parquet", 7, held_out=60).write(tmp_path / "seven")
    assert rows_of(tmp_path / "seven") == expected
    assert len([*(tmp_path / "seven").glob("train-0000?-of-00007.parquet")]) == 7
    Made(1000, "csv", held_out=60).write(tmp_path / "table")
    assert [row | {"reward": float(row["reward"])} for row in rows_of(tmp_path / "table")] == expected


def test_planted_prompts_are_prompts_of_train_spread_over_it(tmp_path):
    Made(1200, leak=3, held_out=60).write(tmp_path)
    train = [row["prompt"] for row in rows_of(tmp_path)]
    shared = [train.index(row["prompt"]) for row in rows_of(tmp_path, "test") if row["prompt"] in train]
    assert shared == [166, 500, 833]


def test_the_fit_is_exact_on_a_line_and_never_falls():
    assert fit([10, 100, 1000], [5, 32, 302]) == pytest.approx((2, 0.3))
    assert fit([10, 100], [4, 4]) == pytest.approx((4, 0))
    assert fit([10, 100], [4, 1])[1] == 0
    assert fit([10, 100], [0, 0]) == (0, 0)


def one(rows, data, examples, rest):
    """A measurement of score-rewards whose artifacts took so many seconds."""
    made = {"local/data/a": data, "local/examples/b": examples}
    return {
        "case": {"rows": rows}, "seconds": data + examples + rest, "artifacts": made,
        "memory": 1e9 + 1000 * rows, "written": 100 * rows, "files": 50 + rows // 1000,
    }  # fmt: skip


def test_what_processes_share_is_divided_by_the_cores_and_the_rest_is_not():
    ones = [one(rows, 1e-5 * rows, 4e-5 * rows, 3 + 1e-6 * rows) for rows in (10**4, 10**5, 10**6)]
    assert seconds_of(ones, 1) == pytest.approx((3, 51e-6, 3, 11e-6))
    assert seconds_of(ones, 4) == pytest.approx((3, 21e-6, 3, 11e-6))
    told = "\n".join(predicted({"score-rewards": ones}, 10**8, 4, 101, 10**6))
    # of 5,103 s on one core 4,000 are divided; 1 GB and 1 GB per 10^6 rows; 100 bytes written per row
    assert "| score-rewards | 1,000,000 | 3.0 + 51.0 | 5,103 | 2,103 | 1,103 | 1.00 + 1.000 | 101.0 | 10 |" in told
    assert "\n- 24,000,000: 101 GB in 4 processes (score-rewards)\n- 100,000,000: 101 GB in one process (score-rewards)\n" in told


def test_a_tokenizer_takes_what_it_took_at_the_largest_size():
    ones = [{"case": {"rows": rows}, "seconds": s, "artifacts": {"local/tokenizer/a": s}} for rows, s in ((10, 1.0), (100, 3.0))]
    assert seconds_of(ones, 8) == pytest.approx((3, 0, 3, 0))


@pytest.mark.slow
def test_two_thousand_rows_go_through_every_stage_and_planted_prompts_are_found(tmp_path: Path):
    line = [sys.executable, growth.__file__, "run", str(tmp_path), "--rows", "2000", "--held-out", "60", "--leak", "3"]
    line += ["--options", "task.max_response_tokens=8", "task.limit_eval=40"]
    ended = run(line, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    found = [json.loads(row) for row in (tmp_path / "growth.jsonl").read_text().splitlines()]
    assert [(row["stage"], row["exit"], row["leaks"]) for row in found] == [(stage, 0, 3) for stage in growth.STAGES]
    assert all(50e6 < row["own_memory"] < row["memory"] < 4e9 and row["cpu"] > 0 and row["files"] > 10 for row in found)
    trained = next(row for row in found if row["stage"] == "train")
    assert 0 < trained["first_step"] < trained["seconds"]
    assert {name.split("/")[1] for name in found[0]["artifacts"]} == {"data", "tokenizer", "examples", "rewards"}
    assert run(line, capture_output=True, text=True, check=True).stdout == ""  # all is measured
    run([sys.executable, growth.__file__, "figure", str(tmp_path)], check=True)
    assert (tmp_path / "growth.md").read_text().count("\n| ") == 7
    assert (tmp_path / "growth.png").stat().st_size > 10_000
    assert "<svg" in (tmp_path / "growth.svg").read_text()
