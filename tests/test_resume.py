"""A killed stage goes on with the same command, and ends with the bits of an undisturbed run."""

import re
import signal
from pathlib import Path

import pytest
from running import SMALL, contents, kill_when, run, start


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    run(folder, "run", *SMALL)
    return folder / "outputs"


def appears(folder: Path, *patterns: str):
    return lambda: any(True for pattern in patterns for _ in folder.glob(f"outputs/reviews/{pattern}"))


# one kill in each producing stage after its first progress, and one inside a checkpoint write
MOMENTS = {
    "the reference after its first checkpoint": "reference/*.partial/checkpoints/update-*",
    "rewards after their first block": "rewards/*.partial/rewards/part-00001.parquet",
    "values after their first block": "values/*.partial/train/part-00001.parquet",
    "log-probs after their first block": "reference-logps/*.partial/logps/part-00002.parquet",
    "a checkpoint half written": "policy/*.partial/checkpoints/.update-*.tmp/model.safetensors",
    "the policy after its second checkpoint": "policy/*.partial/checkpoints/update-0000006",
    "answers half done": "generations/*-test-*.partial/responses",
}


def test_a_line_killed_seven_times_ends_with_the_same_bits(undisturbed: Path, tmp_path: Path):
    left = dict(MOMENTS)
    while left and kill_when(start(tmp_path, "run", *SMALL), appears(tmp_path, *left.values())):
        left = {moment: pattern for moment, pattern in left.items() if not appears(tmp_path, pattern)()}
    assert not left, f"these were never seen: {list(left)}"
    _, said = run(tmp_path, "run", *SMALL)
    expected, found = contents(undisturbed), contents(tmp_path / "outputs")
    assert found.keys() == expected.keys()
    assert len(found) > 60
    for name in expected:
        assert found[name] == expected[name], name
    logs = "".join(file.read_text() for file in sorted((tmp_path / "outputs").rglob("log.txt")))
    assert re.search(r"resumed after update (3|6) of 12", logs)
    assert re.search(r"resumed, \d+ of \d+ blocks were there", logs)
    assert "reused" in said


def test_an_interrupted_run_writes_a_checkpoint_and_says_how_to_go_on(undisturbed: Path, tmp_path: Path):
    process = start(tmp_path, "train", *SMALL)
    for line in process.stderr:
        if "makes policy" in line:
            break
    logged = "outputs/reviews/policy/*.partial/metrics.jsonl"
    while not any(file.stat().st_size for file in tmp_path.glob(logged)) and process.poll() is None:
        pass
    process.send_signal(signal.SIGINT)
    _, said = process.communicate()
    if process.returncode:
        assert process.returncode == 130
        assert f"Go on with: aloll train {SMALL[0]}" in said
    run(tmp_path, "train", *SMALL)
    mine = contents(tmp_path / "outputs" / "reviews" / "policy")
    theirs = contents(undisturbed / "reviews" / "policy")
    weights = [name for name in theirs if "/policy/" in name]
    assert weights
    assert all(mine[name] == theirs[name] for name in weights)


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
    assert kill_when(start(tmp_path, "train", *SMALL), appears(tmp_path, "policy/*.partial/checkpoints/update-0000003"))
    run(tmp_path, "train", *SMALL, "processes=2")
    losses = []
    for root in (undisturbed, tmp_path / "outputs"):
        (records,) = (v for k, v in contents(root / "reviews" / "policy").items() if k.endswith("metrics.jsonl"))
        losses.append([record["loss"] for record in records])
    assert len(losses[0]) == 12
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    assert losses[1][:3] == losses[0][:3]
