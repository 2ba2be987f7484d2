"""The artifacts under outputs/: listed, cleaned up, exported."""

import shutil
from pathlib import Path

import pytest
from running import SMALL, quick

from aloll_cli.store.inventory import State, age, entries, size, unused, users
from aloll_cli.store.locks import Presence


@pytest.fixture
def outputs(undisturbed: Path, tmp_path: Path) -> Path:
    """A copy that may be changed."""
    return Path(shutil.copytree(undisturbed, tmp_path / "outputs"))


def artifact_folders(outputs: Path) -> set[Path]:
    return {file.parent for file in outputs.rglob("recipe.json")}


def test_every_artifact_is_shown_with_its_state_and_its_users(outputs: Path):
    (half,) = (outputs / "reviews" / "values").iterdir()
    half = half.rename(half.with_name(f"{half.name}.partial"))
    (torn,) = (outputs / "reviews" / "tokenizer").glob("*/tokenizer.json")
    torn.write_text("{}")
    shutil.copytree(outputs / "reviews" / "report", outputs / "reviews" / "of-somebody-else")
    found = entries(outputs)
    assert {entry.path for entry in found} == artifact_folders(outputs)
    states = {entry.kind: entry.state for entry in found}
    assert states["values"] is State.interrupted
    assert states["tokenizer"] is State.damaged
    assert set(states.values()) == {State.interrupted, State.damaged, State.complete}
    by_kind = {entry.kind: {user.kind for user in users(found)[entry.fingerprint]} for entry in found}
    assert by_kind["data"] == {"tokenizer", "examples", "metrics"}
    assert by_kind["reference"] == {"generations", "answer-logps", "likelihoods", "reference-logps", "values", "policy"}
    assert by_kind["metrics"] == set()
    out, _ = quick(outputs.parent, "ls")
    assert all(entry.name in out for entry in found)
    assert f"outputs/reviews: {len(found)} artifacts, " in out
    assert sum(" interrupted " in line for line in out.splitlines()) == 1
    assert sum(" damaged " in line for line in out.splitlines()) == 1


def test_clean_keeps_results_and_all_that_they_were_built_from(outputs: Path):
    assert unused(entries(outputs)) == []
    out, said = quick(outputs.parent, "clean", "ask=false")
    assert out == ""
    assert "no unreferenced artifacts" in said


@pytest.mark.slow
def test_clean_lists_unreferenced_artifacts_and_removes_them_when_told_to(outputs: Path):
    for kind in ("policy", "metrics"):
        shutil.rmtree(outputs / "reviews" / kind)
    quick(outputs.parent, "train", *SMALL, "variant=nll")
    served = {"data", "tokenizer", "examples", "base-model", "reference", "policy"}  # what nll is made from
    kept = {folder for folder in artifact_folders(outputs) if folder.parent.name in served}
    out, said = quick(outputs.parent, "clean")
    assert "nothing was removed. To remove without asking: aloll clean ask=false" in said
    assert artifact_folders(outputs) > kept
    for folder in artifact_folders(outputs):
        assert (folder.name in out) == (folder not in kept), folder
    again, said = quick(outputs.parent, "clean", "ask=false")
    assert [line.split()[:2] for line in again.splitlines()] == [line.split()[:2] for line in out.splitlines()]
    assert said.count("removed outputs/reviews/") == sum("complete" in line for line in out.splitlines()) > 5
    assert artifact_folders(outputs) == kept
    _, said = quick(outputs.parent, "train", *SMALL, "variant=nll")
    assert "building" not in said


@pytest.mark.slow
def test_clean_leaves_alone_what_another_command_uses(outputs: Path):
    shutil.rmtree(outputs / "reviews" / "metrics")
    shutil.rmtree(outputs / "reviews" / "policy")
    before = artifact_folders(outputs)
    other = Presence(outputs / "reviews")
    _, said = quick(outputs.parent, "clean", "ask=false", code=2)
    assert "another command is using outputs/reviews.\nWait until it has finished, then repeat the command." in said
    assert artifact_folders(outputs) == before
    del other
    quick(outputs.parent, "clean", "ask=false")
    assert artifact_folders(outputs) == set()


def test_clean_touches_nothing_where_a_recipe_is_torn(outputs: Path):
    (policy,) = (outputs / "reviews" / "policy").iterdir()
    policy = policy.rename(policy.with_name(f"{policy.name}.partial"))
    (policy / "recipe.json").write_text("")
    shutil.rmtree(outputs / "reviews" / "metrics")
    before = artifact_folders(outputs)
    _, said = quick(outputs.parent, "clean", "ask=false", code=2)
    relative = policy.relative_to(outputs.parent)
    assert f"{relative} has no readable recipe.json, so its inputs are unknown.\n" in said
    assert f"If you do not need it, remove it first: rm -r {relative}" in said
    assert artifact_folders(outputs) == before


@pytest.mark.slow
def test_clean_finishes_what_a_killed_clean_left(outputs: Path):
    for kind in ("policy", "metrics"):
        shutil.rmtree(outputs / "reviews" / kind)
    (values,) = (outputs / "reviews" / "values").iterdir()
    shutil.copytree(values, values.with_name(f".{values.name}.removed"))
    quick(outputs.parent, "clean", "ask=false")
    assert not any(outputs.rglob("*.removed"))
    assert artifact_folders(outputs) == set()


@pytest.mark.slow
def test_export_writes_the_policys_weights_and_tokenizer(outputs: Path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    quick(outputs.parent, "export", *SMALL, "to=exported/model")
    (policy,) = (outputs / "reviews" / "policy").glob("*/policy")
    exported = outputs.parent / "exported" / "model"
    assert {file.name for file in exported.iterdir()} == {file.name for file in policy.iterdir()} | {"README.md"}
    mine, theirs = (AutoModelForCausalLM.from_pretrained(folder).state_dict() for folder in (exported, policy))
    assert mine.keys() == theirs.keys()
    assert all((mine[name] == theirs[name]).all() for name in mine)
    assert len(AutoTokenizer.from_pretrained(exported)) == 400
    _, said = quick(outputs.parent, "export", *SMALL, "to=exported/model", code=2)
    assert "to=exported/model exists and is not an empty folder." in said


def test_sizes_and_ages_are_short():
    assert [size(n) for n in (0, 999, 1000, 999_499, 999_500, 4_230_000, 5 * 10**12)] == [
        "0 B", "999 B", "1 kB", "999 kB", "1 MB", "4.23 MB", "5 TB",
    ]  # fmt: skip
    assert [age(s) for s in (0, 59, 61, 7200, 200_000)] == ["0 s", "59 s", "1 min", "2 h", "2 d"]
