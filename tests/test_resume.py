"""A killed stage goes on with the same command, and ends with the bits of an undisturbed run."""

import re
import shutil
import signal
import time
from pathlib import Path

import pyarrow as pa
import pytest
from running import SMALL, fork, quick, run
from tiny import job
from torture import contents

from aloll_cli.files import read_json, read_json_lines
from aloll_cli.stopping import Interrupted
from aloll_cli.store.tables import read_blocks, write_blocks

# one kill in each producing stage after its first progress, in the order of making; what is written when the process dies
MOMENTS = {
    "rewards after their second block": r"/rewards/vader-train.*/\.part-00002",
    "the reference's second checkpoint, before it is whole": r"/reference/.*/\.update-0000006\.tmp$",
    "log-probs before their first block is whole": r"/reference-logps/.*/\.part-00000",
    "a checkpoint half written": r"/policy/.*/\.update-0000003\.tmp/\.optimizer\.json",
    "the third checkpoint, before it is whole": r"/policy/.*/\.update-0000009\.tmp$",
    "the best policy, about to be named": r"/policy/.*/candidates/update-\d+$",
}


@pytest.mark.slow
def test_a_line_killed_at_the_worst_moments_ends_with_the_same_bits(undisturbed: Path, tmp_path: Path):
    for pattern in MOMENTS.values():
        quick(tmp_path, "run", *SMALL, die_at=pattern, code=-signal.SIGKILL)
    _, said = quick(tmp_path, "run", *SMALL)
    expected, found = contents(undisturbed), contents(tmp_path / "outputs")
    assert found.keys() == expected.keys()
    assert len(found) > 60
    for name in expected:
        assert found[name] == expected[name], name
    logs = "".join(file.read_text() for file in sorted((tmp_path / "outputs").rglob("log.txt")))
    resumed = set(re.findall(r"resumed after step (\d+) of 12", logs))
    assert resumed == {"3", "6", "12"}
    assert re.search(r"resumed with \d+ of \d+ blocks done", logs)
    assert "cached    data/" in said


EARLY = [*SMALL, "early_stop=1", "optimizer.lr=1e-12", "select.max_kl_per_token=1.0"]  # the second evaluation is no better


@pytest.mark.slow
@pytest.mark.parametrize(
    ("moment", "step"),
    [
        (r"/policy/.*/\.update-0000008\.tmp$", 6),  # its last checkpoint, before it is whole
        (r"/policy/.*/candidates/update-0000004$", 8),  # the best policy, about to be named
        (r"/policy/.*/\.sums-0\.jsonl$", 8),  # and just named
    ],
)
def test_a_run_that_stops_early_ends_with_the_same_bits_after_a_kill(undisturbed: Path, tmp_path: Path, moment: str, step: int):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    for folder in (whole, broken):
        shutil.copytree(undisturbed, folder / "outputs")
    said, _ = quick(whole, "evaluate", *EARLY)
    quick(broken, "train", *EARLY, die_at=moment, code=-signal.SIGKILL)
    quick(broken, "evaluate", *EARLY)
    assert contents(broken / "outputs") == contents(whole / "outputs")
    sentence = "training stopped early, after step 8 of 12: no better checkpoint in one evaluation (early_stop)"
    assert sentence in said
    (policy,) = {file.parent for file in broken.glob("outputs/reviews/policy/*/evaluations.jsonl")} - {
        broken / file.parent.relative_to(undisturbed.parent) for file in undisturbed.glob("reviews/policy/*/evaluations.jsonl")
    }
    assert [record["update"] for record in read_json_lines(policy / "metrics.jsonl")] == list(range(1, 9))
    stopped = {"after": 8, "of": 12, "patience": 1}
    assert read_json_lines(policy / "evaluations.jsonl")[-1]["stopped_early"] == stopped
    metrics = [read_json(file) for file in broken.glob("outputs/reviews/metrics/*/metrics.json")]
    assert [found.get("stopped_early") for found in metrics if "stopped_early" in found] == [stopped]
    log = (policy / "log.txt").read_text()
    assert (sentence in log, f"resumed after step {step} of 12" in log) == (True, True)
    assert [file.name for file in (policy / "checkpoints").iterdir()] == ["update-0000008"]


@pytest.mark.parametrize(
    ("number", "code"),
    [pytest.param(*case, marks=pytest.mark.slow) for case in ((signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129))],
)
def test_an_interrupted_run_writes_a_checkpoint_and_says_how_to_go_on(tmp_path: Path, number: signal.Signals, code: int):
    long = [*SMALL, "updates=100000", "eval_every=100000", "checkpoint_every=100000"]
    process = fork(tmp_path, "train", *long)
    logged = "outputs/reviews/policy/*.partial/metrics.jsonl"
    while not any(file.stat().st_size for file in tmp_path.glob(logged)) and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(number)
    _, said = process.communicate()
    assert process.returncode == code
    last = said.strip().splitlines()[-1]
    assert last == f"aloll train: stopped ({number.name}); finished work is kept. Continue with: aloll train {' '.join(long)}"
    assert len(list(tmp_path.glob("outputs/reviews/policy/*.partial/checkpoints/update-*/optimizer.safetensors"))) == 1


def test_the_end_of_max_hours_is_no_failure(tmp_path: Path):
    _, said = quick(tmp_path, "train", *SMALL, "updates=100000", "eval_every=100000", "max_hours=0.002")
    last = said.strip().splitlines()[-1]
    assert last.startswith("aloll train: stopped (max_hours reached); finished work is kept. Continue with: aloll train")
    assert not any(tmp_path.glob("outputs/reviews/policy/*/manifest.json"))


# the process sends itself a signal when it loads a module, or opens a file
SIGNAL_AT = """
import os, sys
def hook(event, args):
    if event in ("import", "open") and str(args[0]).endswith({name!r}) and not sent:
        sent.append(True)
        os.kill(os.getpid(), {number})
sent = []
sys.addaudithook(hook)
"""


@pytest.mark.parametrize("module", ["aloll_cli.cli.composition", "aloll_cli.artifacts.pipeline"])
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), pytest.param(signal.SIGHUP, 129, marks=pytest.mark.slow)]
)
def test_a_signal_before_any_work_ends_the_command(tmp_path: Path, number: signal.Signals, code: int, module: str):
    _, said = run(tmp_path, "train", code=code, before=SIGNAL_AT.format(name=module, number=int(number)))
    assert said.strip().splitlines()[-1] == (
        f"aloll train: stopped ({number.name}); finished work is kept. Continue with: aloll train"
    )
    assert "Traceback" not in said
    assert not any(tmp_path.rglob("*.partial"))


@pytest.mark.slow
def test_a_signal_at_the_end_of_a_job_ends_the_sweep(undisturbed: Path, tmp_path: Path):
    shutil.copytree(undisturbed, tmp_path / "outputs")
    signalled = SIGNAL_AT.format(name=".html.tmp", number=int(signal.SIGINT))
    _, said = quick(tmp_path, "run", *SMALL, "-m", "seed=1,2", code=130, before=signalled)
    assert "report    outputs/reviews/report/seq-s1-" in said
    assert "seq-s2" not in said


@pytest.mark.slow
def test_a_worker_that_dies_alone_ends_the_command(tmp_path: Path):
    dying = """
import os, sys
from aloll_cli.cli import launching
launching.GRACE = 1
sys.addaudithook(lambda event, args: event == "open" and os.environ.get("RANK") == "1" and os._exit(9))
"""
    quick(tmp_path, "train", *SMALL, "processes=2", before=dying, code=9)


@pytest.mark.slow
def test_a_full_disk_of_one_process_is_said_by_all(tmp_path: Path):
    full = """
import errno, os, sys
def hook(event, args):
    if event == "os.rename" and os.environ.get("RANK") == "1" and "part-00001" in str(args[1]):
        raise OSError(errno.ENOSPC, "No space left on device")
sys.addaudithook(hook)
"""
    _, said = quick(tmp_path, "score-rewards", *SMALL, "processes=2", code=2, before=full)
    what, hint = said.strip().splitlines()[-2:]
    assert re.search(r"^aloll score-rewards: outputs/reviews/\S+ cannot be written: no space left on device\.$", what), said
    assert hint.startswith("Free some disk space and repeat the command")
    assert "Traceback" not in said


def test_a_table_stops_between_two_blocks_and_goes_on_with_the_next(tmp_path: Path):
    stopped, made = job(tmp_path), []

    def compute(start: int, stop: int) -> pa.Table:
        made.append(start)
        if start == 256:
            stopped.stopper._note(signal.SIGTERM, None)
        return pa.table({"row": list(range(start, stop))})

    with pytest.raises(Interrupted) as interruption:
        write_blocks(stopped, "table", 1000, "count", compute)
    assert interruption.value.code == 143
    assert made == [0, 256]
    write_blocks(job(tmp_path), "table", 1000, "count", compute)
    assert made == [0, 256, 512, 768]
    assert read_blocks(tmp_path / "table").column("row").to_pylist() == list(range(1000))


def test_what_a_block_counts_itself_is_not_counted_twice(tmp_path: Path):
    counting, seen = job(tmp_path), []

    def compute(start: int, stop: int) -> pa.Table:
        seen.append(counting.log._meter.done)
        counting.log.advance(100)
        seen.append(counting.log._meter.done)
        return pa.table({"row": list(range(start, stop))})

    write_blocks(counting, "table", 400, "count", compute)
    assert seen == [0, 100, 256, 356]
    assert counting.log._meter.done == 400


def makings(outputs: Path) -> dict[str, list[str]]:
    """How often each artifact was begun and gone on with, by its log."""
    logs = {str(file.parent.relative_to(outputs)): file.read_text() for file in outputs.rglob("log.txt")}
    return {name: re.findall(r" (building|resuming) ", text) for name, text in logs.items()}


@pytest.mark.slow
def test_four_processes_at_once_make_each_artifact_once(undisturbed: Path, tmp_path: Path):
    stages = ("precompute-values", "train-reference", "train", "precompute-values")
    processes = [fork(tmp_path, stage, *SMALL) for stage in stages]
    said = [process.communicate(timeout=200)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0, 0], said
    begun = makings(tmp_path / "outputs")
    assert all(moments == ["building"] for moments in begun.values()), begun
    assert sum(name.startswith("reviews/policy/") for name in begun) == 1
    assert sum(text.count("building  ") for text in said) == len(begun)
    expected, found = contents(undisturbed), contents(tmp_path / "outputs")
    shared = expected.keys() & found.keys()
    assert len(shared) > 40
    assert {name for name in shared if found[name] != expected[name]} == set()


@pytest.mark.slow
def test_a_process_that_dies_with_a_lock_does_not_hold_up_the_others(tmp_path: Path):
    options = ["train-reference", *SMALL, "reference.updates=60"]
    doomed = fork(tmp_path, *options, die_at=r"/reference/.*/\.update-0000045\.tmp$")
    while not any(tmp_path.glob("outputs/reviews/reference/*.partial")) and doomed.poll() is None:
        time.sleep(0.01)
    others = [fork(tmp_path, *options) for _ in range(3)]
    doomed.communicate()
    assert doomed.returncode == -signal.SIGKILL
    said = [process.communicate(timeout=200)[1] for process in others]
    assert [process.returncode for process in others] == [0, 0, 0], said
    begun = makings(tmp_path / "outputs")
    assert [moments for name, moments in begun.items() if "/reference/" in name] == [["building", "resuming"]]
    assert sum("resumed after step 42 of 60" in text for text in said) == 1
    assert sum(f"process {doomed.pid} on " in text for text in said) >= 1


@pytest.mark.slow
def test_the_same_command_again_makes_nothing(undisturbed: Path, tmp_path: Path):
    outputs = Path(shutil.copytree(undisturbed, tmp_path / "outputs"))

    def times() -> dict[Path, int]:
        files = [file for file in outputs.rglob("*") if file.is_file() and not {"report", ".locks"} & set(file.parts)]
        return {file: file.stat().st_mtime_ns for file in files}

    before = times()
    _, said = quick(tmp_path, "run", *SMALL)
    assert times() == before
    assert "building" not in said


def test_plan_names_the_option_that_differs(undisturbed: Path):
    out, _ = quick(undisturbed.parent, "plan", *SMALL, "optimizer.lr=1e-4")
    lines = out.splitlines()
    policy = next(i for i, line in enumerate(lines) if line.startswith("build   policy/seq-s1-"))
    assert lines[policy + 1].strip() == "optimizer.lr: 0.0003 → 0.0001"
    assert out.count(" → ") == 1
    assert re.search(r"^14 cached, 7 to build, 0 to resume; options are compared with metrics/seq-s1-test-\w+$", lines[-1])
    assert out.count("cached ") == 14


def test_plan_names_each_option_once_however_deep_the_recipes_are(undisturbed: Path):
    out, _ = quick(undisturbed.parent, "plan", *SMALL, "model.layers=2", "reference.optimizer.lr=0.5", "optimizer.lr=0.5")
    changes = [line.strip() for line in out.splitlines() if " → " in line]
    assert changes == ["model.layers: 1 → 2", "reference.optimizer.lr: 0.001 → 0.5", "optimizer.lr: 0.0003 → 0.5"]
    assert sum(line.startswith("build ") for line in out.splitlines()) > 10


@pytest.mark.slow
def test_a_run_stopped_with_one_process_goes_on_with_two(undisturbed: Path, tmp_path: Path):
    quick(tmp_path, "train", *SMALL, die_at=MOMENTS["the third checkpoint, before it is whole"], code=-signal.SIGKILL)
    quick(tmp_path, "train", *SMALL, "processes=2")
    losses = []
    for root in (undisturbed, tmp_path / "outputs"):
        (records,) = (v for k, v in contents(root / "reviews" / "policy").items() if k.endswith("metrics.jsonl"))
        losses.append([record["loss"] for record in records])
    assert len(losses[0]) == 12
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    assert losses[1][:6] == losses[0][:6]


@pytest.mark.slow
def test_a_run_of_three_processes_that_is_killed_goes_on_with_the_same_bits(undisturbed: Path, tmp_path: Path):
    found = []
    for folder, killed in ((tmp_path / "whole", False), (tmp_path / "killed", True)):
        shutil.copytree(undisturbed, folder / "outputs")
        words = [*SMALL, "seed=3", "processes=3"]
        if killed:
            moment = MOMENTS["the third checkpoint, before it is whole"]
            quick(folder, "train", *words, die_at=moment, code=2)  # a worker is killed, and the command says so
        _, said = quick(folder, "train", *words)
        assert ("resumed after step" in said) == killed
        found.append(contents(folder / "outputs" / "reviews" / "policy"))
    assert found[0] == found[1]
