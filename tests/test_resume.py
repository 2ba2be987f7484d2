"""A killed stage goes on with the same command, and ends with the bits of an undisturbed run."""

import re
import signal
import time
from pathlib import Path

import pytest
from running import SMALL, run, start, was_killed
from torture import contents

# one kill in each producing stage after its first progress, in the order of making; what is written when the process dies
MOMENTS = {
    "rewards after their first block": r"/rewards/.*/\.part-00001",
    "the reference's second checkpoint, before it is whole": r"/reference/.*/\.update-0000006\.tmp$",
    "values after their first block": r"/values/.*/train/\.part-00001",
    "log-probs after their second block": r"/reference-logps/.*/\.part-00002",
    "a checkpoint half written": r"/policy/.*/\.update-0000003\.tmp/\.optimizer\.json",
    "the third checkpoint, before it is whole": r"/policy/.*/\.update-0000009\.tmp$",
    "the best policy, about to be named": r"/policy/.*/candidates/update-\d+$",
    "the policy's answers, before they are whole": r"/generations/seq-.*/\.part-00000",
}


def test_a_line_killed_eight_times_ends_with_the_same_bits(undisturbed: Path, tmp_path: Path):
    for moment, pattern in MOMENTS.items():
        assert was_killed(start(tmp_path, "run", *SMALL, die_at=pattern)), moment
    _, said = run(tmp_path, "run", *SMALL)
    expected, found = contents(undisturbed), contents(tmp_path / "outputs")
    assert found.keys() == expected.keys()
    assert len(found) > 60
    for name in expected:
        assert found[name] == expected[name], name
    logs = "".join(file.read_text() for file in sorted((tmp_path / "outputs").rglob("log.txt")))
    resumed = set(re.findall(r"resumed after update (\d+) of 12", logs))
    assert resumed == {"3", "6", "12"}
    assert re.search(r"resumed, \d+ of \d+ blocks were there", logs)
    assert "reused" in said


def test_an_interrupted_run_writes_a_checkpoint_and_says_how_to_go_on(tmp_path: Path):
    long = [*SMALL, "updates=100000", "eval_every=100000", "checkpoint_every=100000"]
    process = start(tmp_path, "train", *long)
    logged = "outputs/reviews/policy/*.partial/metrics.jsonl"
    while not any(file.stat().st_size for file in tmp_path.glob(logged)) and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate()
    assert process.returncode == 130
    assert f"Go on with: aloll train {SMALL[0]}" in said
    assert len(list(tmp_path.glob("outputs/reviews/policy/*.partial/checkpoints/update-*/optimizer.safetensors"))) == 1


def test_the_same_command_again_makes_nothing(undisturbed: Path):
    before = {file: file.stat().st_mtime_ns for file in undisturbed.rglob("*") if file.is_file() and "/report/" not in str(file)}
    _, said = run(undisturbed.parent, "run", *SMALL)
    after = {file: file.stat().st_mtime_ns for file in undisturbed.rglob("*") if file.is_file() and "/report/" not in str(file)}
    assert after == before
    assert "makes" not in said


def test_plan_names_the_option_that_differs(undisturbed: Path):
    out, _ = run(undisturbed.parent, "plan", *SMALL, "optimizer.lr=1e-4")
    assert "differs from seq-s1-" in out
    assert "optimizer.lr: 0.0003 → 0.0001" in out
    assert out.count("make ") == out.count("differs from")


def test_a_run_stopped_with_one_process_goes_on_with_two(undisturbed: Path, tmp_path: Path):
    assert was_killed(start(tmp_path, "train", *SMALL, die_at=MOMENTS["the third checkpoint, before it is whole"]))
    run(tmp_path, "train", *SMALL, "processes=2")
    losses = []
    for root in (undisturbed, tmp_path / "outputs"):
        (records,) = (v for k, v in contents(root / "reviews" / "policy").items() if k.endswith("metrics.jsonl"))
        losses.append([record["loss"] for record in records])
    assert len(losses[0]) == 12
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    assert losses[1][:6] == losses[0][:6]
