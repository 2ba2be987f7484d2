"""What is finished is on disk: the order of writes, syncs and renames; what was not finished is checked before it is used."""

import json
import os
import shutil
import signal
from pathlib import Path

import pyarrow as pa
import pytest
from running import SMALL, quick
from tiny import Note, job, store
from torture import contents

from aloll_cli.errors import UserError
from aloll_cli.files import sha256, sync_tree
from aloll_cli.stages.verify import _unfinished
from aloll_cli.store.building import certify
from aloll_cli.store.manifest import UNFINISHED, damage_of, remember, sums_of, write_manifest
from aloll_cli.store.tables import read_blocks, write_blocks
from aloll_cli.training.checkpoints import folders
from aloll_cli.training.progress import EVALUATIONS, METRICS, Progress, damage_of_checkpoint


@pytest.fixture
def traced(monkeypatch):
    """What is synced and renamed, in order, with the size that each file had when it was synced."""
    moments: list[tuple[str, str]] = []
    fsync, rename, replace = os.fsync, os.rename, os.replace

    def note_sync(descriptor):
        moments.append(("sync", os.readlink(f"/proc/self/fd/{descriptor}")))
        fsync(descriptor)

    def note_rename(old, new, **more):
        moments.append(("rename", os.path.abspath(new)))
        return rename(old, new, **more)

    def note_replace(old, new, **more):
        moments.append(("rename", os.path.abspath(new)))
        return replace(old, new, **more)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(os, "rename", note_rename)
    monkeypatch.setattr(os, "replace", note_replace)
    return moments


def test_an_artifact_has_its_name_after_all_of_it_is_on_disk_and_the_name_is_synced_last(tmp_path, traced):
    folder = store(tmp_path / "out" / "task").ensure(Note())
    partial = folder.with_name(f"{folder.name}.partial")
    named = traced.index(("rename", str(folder)))
    certified = traced.index(("rename", str(partial / "manifest.json")))
    for name in ("in/text", "recipe.json", "config.yaml"):
        assert traced.index(("sync", str(partial / name))) < certified
    for place in (partial / "in", partial):
        assert ("sync", str(place)) in traced[:certified]
    assert ("sync", str(partial / ".manifest.json.tmp")) in traced[:certified]
    assert ("sync", str(partial)) in traced[certified:named]
    # kind, task and output folder were new, too
    assert [moment for moment in traced[named + 1 :] if moment[0] == "sync"][:4] == [
        ("sync", str(place)) for place in (folder.parent, tmp_path / "out" / "task", tmp_path / "out", tmp_path)
    ]


def progress(folder: Path, steps: int, keep: int = 2) -> Progress:
    """A run that has trained so many steps, with a checkpoint at each and the best policy at the first."""
    run = Progress(folder, keep, select_best=True, log=job(folder).log)
    run.go_back_to(0, 9)
    run.record(EVALUATIONS, {"update": 0, "score": 0.0})
    for step in range(1, steps + 1):
        run.record(METRICS, {"update": step})
        run.record(EVALUATIONS, {"update": step, "score": -step})
        if run.is_selected(step):
            run.save_candidate(step, lambda place, step=step: (place / "weights").write_text(f"policy {step}"))
        run.save_checkpoint(step, lambda place, step=step: (place / "state").write_text(f"state {step}"))
    run.record(METRICS, {"update": steps + 1})  # not yet in a checkpoint
    return run


def test_a_checkpoint_has_its_name_after_its_state_the_records_and_the_candidate_are_on_disk(tmp_path, traced):
    progress(tmp_path, 1)
    named = traced.index(("rename", str(tmp_path / "checkpoints" / "update-0000001")))
    for name in (METRICS, EVALUATIONS, "checkpoints/.update-0000001.tmp/state", "candidates/.update-0000001.tmp/weights"):
        assert ("sync", str(tmp_path / name)) in traced[:named], name
    assert traced.index(("rename", str(tmp_path / "candidates" / "update-0000001"))) < named
    assert ("sync", str(tmp_path / "checkpoints")) in traced[named:]


def flip(file: Path, place: float = 0.5) -> None:
    """Flip a bit of a file, at a share of its length."""
    content = bytearray(file.read_bytes())
    content[int(place * len(content))] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "left"),
    [
        ("checkpoints/update-0000003/state", 2),
        ("checkpoints/update-0000003/manifest.json", 2),
        ("candidates/update-0000001/weights", 0),  # the best policy at both checkpoints
        ("metrics.jsonl", 0),
        ("evaluations.jsonl", 0),
    ],
)
def test_a_checkpoint_is_passed_over_when_it_or_what_it_needs_is_damaged(tmp_path, name, left):
    run = progress(tmp_path, 3)
    assert run.last_whole() == 3
    flip(tmp_path / name, place=0)
    assert run.last_whole() == left
    (tmp_path / name).write_bytes(b"")
    assert run.last_whole() == left
    (tmp_path / name).unlink()
    assert run.last_whole() == left


def test_a_checkpoint_with_the_name_of_another_step_is_passed_over(tmp_path):
    run = progress(tmp_path, 3)
    checkpoints = tmp_path / "checkpoints"
    (checkpoints / "update-0000002").rename(checkpoints / "update-0000008")
    assert damage_of_checkpoint(tmp_path, checkpoints / "update-0000008") == "it is of step 2"
    assert run.last_whole() == 3
    run.go_back_to(3, 9)
    run.finish()
    assert (tmp_path / "policy" / "weights").read_text() == "policy 1"
    (checkpoints / "update-0000003").rename(checkpoints / "update-0000001")
    assert run.last_whole() == 0


def test_folders_that_are_no_checkpoints_are_left_alone(tmp_path):
    run = progress(tmp_path, 3)
    checkpoints = tmp_path / "checkpoints"
    mine = [checkpoints / name for name in ("update-0000003.bak", "update-latest", "update-3", "update-00000003", "update-٣")]
    for folder in mine:
        shutil.copytree(checkpoints / "update-0000003", folder)
    assert list(folders(checkpoints)) == [2, 3]
    assert run.last_whole() == 3
    assert _unfinished(tmp_path) == []
    run.go_back_to(3, 9)
    run.save_checkpoint(4, lambda place: (place / "state").write_text("state 4"))
    assert list(folders(checkpoints)) == [3, 4]
    assert all((folder / "state").exists() for folder in mine)


def test_going_back_truncates_the_records_to_the_checkpoint(tmp_path):
    run = progress(tmp_path, 3)
    run.go_back_to(2, 9)
    assert [json.loads(line)["update"] for line in (tmp_path / METRICS).read_text().splitlines()] == [1, 2]
    assert [record["update"] for record in run.evaluations()] == [0, 1, 2]
    assert run.last_whole() == 2
    run.go_back_to(0, 9)
    assert not (tmp_path / METRICS).exists()
    assert run.last_whole() == 0


def test_a_file_that_training_did_not_write_is_not_part_of_a_policy(tmp_path):
    run = progress(tmp_path, 3)
    (tmp_path / "candidates" / "update-0000001" / "adapter_config.json").write_text("{}")
    assert run.last_whole() == 0


def test_a_policy_that_was_renamed_before_a_kill_is_checked_too(tmp_path):
    run = progress(tmp_path, 3)
    run.finish()
    run = Progress(tmp_path, 2, True, job(tmp_path).log)
    assert run.last_whole() == 3
    run.go_back_to(3, 3)
    run.finish()
    certify(tmp_path)
    assert damage_of(tmp_path) is None
    flip(tmp_path / "policy" / "weights")
    assert run.last_whole() == 0


def test_a_policy_that_changes_while_training_ends_is_not_certified(tmp_path):
    run = progress(tmp_path, 3)
    flip(tmp_path / "candidates" / "update-0000001" / "weights")
    run.finish()
    with pytest.raises(UserError, match=r"policy/weights was changed while the rest was built\.\nRepeat the command"):
        certify(tmp_path)
    assert damage_of(tmp_path) is UNFINISHED


def blocks(folder: Path, computed: list[int]) -> list[int]:
    write_blocks(
        job(folder),
        "table",
        1000,
        "count",
        lambda start, stop: computed.append(start) or pa.table({"row": list(range(start, stop))}),
    )
    return read_blocks(folder / "table").column("row").to_pylist()


def test_only_blocks_that_are_as_they_were_written_are_kept(tmp_path):
    computed: list[int] = []
    assert blocks(tmp_path, computed) == list(range(1000))
    assert computed == [0, 256, 512, 768]
    parts = sorted((tmp_path / "table").glob("part-*"))
    flip(parts[1])
    parts[2].write_bytes(b"")
    shutil.copy(parts[0], parts[0].with_name("part-00004.parquet"))  # of nobody
    del computed[:]
    assert blocks(tmp_path, computed) == list(range(1000))
    assert computed == [256, 512]
    certify(tmp_path)
    assert not [*tmp_path.glob(".sums-*")]
    assert set(json.loads((tmp_path / "manifest.json").read_text())["files"]) == {f"table/part-0000{i}.parquet" for i in range(4)}


def test_a_damaged_journal_costs_the_blocks_that_it_is_about_and_nothing_else(tmp_path):
    computed: list[int] = []
    blocks(tmp_path, computed)
    (journal,) = tmp_path.glob(".sums-*.jsonl")
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(lines[0] + b"[[{}\n" + b'{"file": 3}\n' + lines[1][:-20])
    del computed[:]
    assert blocks(tmp_path, computed) == list(range(1000))
    assert computed == [256, 512, 768]


def test_an_artifact_whose_manifest_is_torn_is_built_again(tmp_path):
    folder = store(tmp_path / "task").ensure(Note())
    for content in ("", "{", "[]", '{"files": {"../../etc/passwd": {"bytes": 1, "sha256": ""}}}', "[" * 200_000):
        (folder / "manifest.json").write_text(content)
        assert damage_of(folder) is UNFINISHED
        assert store(tmp_path / "task").ensure(Note()) == folder
        assert damage_of(folder) is None
        assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_files_that_were_checked_are_checked_again_only_when_they_were_touched(tmp_path, monkeypatch):
    folder = tmp_path / "kind" / "name-0123456789ab"
    folder.mkdir(parents=True)
    (tmp_path / ".locks").mkdir()
    (folder / "weights").write_text("large")
    write_manifest(folder)
    hashed: list[str] = []
    monkeypatch.setattr("aloll_cli.store.manifest.sha256", lambda file: hashed.append(file.name) or sha256(file))
    assert damage_of(folder) is None  # written just now: it may change within the resolution of its time
    assert damage_of(folder) is None
    assert len(hashed) == 2
    monkeypatch.setattr("aloll_cli.files.RACY", 0.0)
    assert damage_of(folder) is None
    del hashed[:]
    assert damage_of(folder) is None
    assert hashed == []
    before = (folder / "weights").stat()
    (folder / "weights").write_text("LARGE")
    os.utime(folder / "weights", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert damage_of(folder).what == "weights was changed (its checksum differs)"
    (folder / "weights").write_text("large")
    assert damage_of(folder) is None
    remember(folder, sums_of(folder))
    del hashed[:]
    assert damage_of(folder) is None
    assert hashed == []
    assert damage_of(folder, trusting=False) is None
    assert hashed == ["weights"]


def test_sync_tree_syncs_every_file_and_folder(tmp_path, traced):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "c").write_text("c")
    sync_tree(tmp_path)
    assert traced == [("sync", str(path)) for path in (tmp_path / "a/b/c", tmp_path / "a/b", tmp_path / "a", tmp_path)]


@pytest.mark.slow
def test_damage_in_a_killed_run_never_reaches_the_policy(undisturbed: Path, tmp_path: Path):
    quick(tmp_path, "train", *SMALL, die_at=r"/policy/.*/\.update-0000009\.tmp$", code=-signal.SIGKILL)
    killed = tmp_path / "outputs"
    expected = contents(undisturbed)
    for number, name in enumerate(("checkpoints/*/weights.safetensors", "metrics.jsonl", "candidates/*/model.safetensors")):
        place = tmp_path / str(number)
        shutil.copytree(killed, place / "outputs")
        files = [*place.glob(f"outputs/reviews/policy/*.partial/{name}")]
        assert files
        for file in files:
            flip(file) if number != 1 else file.write_bytes(b"")
        _, said = quick(place, "train", *SMALL)
        assert "no checkpoint is whole: training starts again" in said
        found = {name: value for name, value in contents(place / "outputs").items() if name.startswith("reviews/policy/")}
        assert found == {name: value for name, value in expected.items() if name.startswith("reviews/policy/")}
