"""What was altered, torn or lost after it was made is refused by name, and never used."""

import shutil

import pytest
from running import SMALL, quick
from tiny import composed, opened

from aloll_cli.artifacts.pipeline import Pipeline
from aloll_cli.cli.recorded import Recorded
from aloll_cli.comparison.runs import load_run
from aloll_cli.errors import UserError
from aloll_cli.store.hub import content_of
from aloll_cli.store.store import upstream


def flip(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def truncate(file):
    file.write_bytes(file.read_bytes()[:-1])


def remove(file):
    file.unlink()


def add(file):
    shutil.copy(file, file.with_name(f"{file.stem}9{file.suffix}"))


DAMAGES = {
    flip: r"{file} was changed \(its checksum differs\)",
    truncate: r"{file} has \d+ bytes instead of \d+",
    remove: r"{file} is missing",
    add: r"{stem}9{suffix} is not in its manifest",
}
KINDS = {
    "answer-logps", "base-model", "data", "examples", "generations", "likelihoods", "policy", "reference",
    "reference-logps", "rewards", "tokenizer", "values",
}  # fmt: skip


def largest_file(folder):
    """A block of a table, weights, or the only file there is."""
    own = ("manifest.json", "recipe.json", "config.yaml", "log.txt", "build.json")  # the first also of a checkpoint
    return max((file for file in folder.rglob("*") if file.is_file() and file.name not in own), key=lambda f: f.stat().st_size)


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_every_kind_of_artifact_is_refused_by_name_when_it_is_damaged(undisturbed, tmp_path, damage):
    line = Pipeline(composed(*SMALL))
    artifacts = [*upstream(line.metrics), line.metrics]
    shutil.copytree(undisturbed, tmp_path / "outputs")
    root, looked_at = tmp_path / "outputs" / "reviews", set()
    for artifact in artifacts[:-1]:
        folder, copy = root / artifact.folder, tmp_path / "copy"
        user = next(other for other in artifacts if artifact.fingerprint in {i.fingerprint for i in other.inputs().values()})
        used = (root / user.folder).rename(tmp_path / "away")
        shutil.copytree(folder, copy)
        file = largest_file(folder)
        damage(file)
        parts = {"file": file.relative_to(folder), "stem": file.stem, "suffix": file.suffix}
        with pytest.raises(UserError, match=DAMAGES[damage].format(**parts)) as refused:
            opened(root, composed().runtime).ensure(user)
        what, hint = str(refused.value).splitlines()
        assert what.startswith(f"{folder} is damaged: ")
        stray = file.with_name(f"{file.stem}9{file.suffix}")
        again = f"Remove the artifact and build it again: rm -r {folder} && aloll run"
        assert hint == (f"Move it elsewhere or remove it: rm {stray}" if damage is add else again)
        assert not (root / user.folder).exists()
        assert not any(root.rglob("*.partial"))
        shutil.rmtree(folder)
        copy.rename(folder)
        used.rename(root / user.folder)
        looked_at.add(artifact.kind)
    assert looked_at == KINDS


@pytest.mark.slow
def test_the_command_in_the_message_makes_it_again(undisturbed, tmp_path):
    shutil.copytree(undisturbed, tmp_path / "outputs")
    (folder,) = (tmp_path / "outputs" / "reviews" / "metrics").iterdir()
    before = (folder / "metrics.json").read_bytes()
    flip(folder / "metrics.json")
    _, said = quick(tmp_path, "evaluate", *SMALL, code=2)
    what, hint = said.strip().splitlines()
    relative = folder.relative_to(tmp_path)
    assert what == f"aloll evaluate: {relative} is damaged: metrics.json was changed (its checksum differs)."
    assert hint == f"Remove the artifact and build it again: rm -r {relative} && aloll evaluate {' '.join(SMALL)}"
    shutil.rmtree(folder)
    quick(tmp_path, "evaluate", *SMALL)
    assert (folder / "metrics.json").read_bytes() == before


ALTERED = {
    "a policy's evaluations": ("policy/seq-*/evaluations.jsonl", lambda text: text.replace('"score": ', '"score": 1'), "runs"),
    "a policy's steps": ("policy/seq-*/metrics.jsonl", lambda text: text[: text.index("\n") + 1], "runs"),
    "a run's figures": ("metrics/seq-*/metrics.json", lambda text: text.replace("0.", "0.9", 1), "runs"),
    "a run's options": ("metrics/seq-*/config.yaml", lambda text: text.replace("seed: 1", "seed: 3"), "plan"),
}


@pytest.mark.slow
@pytest.mark.parametrize(("pattern", "alter", "stage"), ALTERED.values(), ids=ALTERED)
def test_what_is_read_of_finished_runs_is_checked_first(undisturbed, tmp_path, pattern, alter, stage):
    shutil.copytree(undisturbed, tmp_path / "outputs")
    root = tmp_path / "outputs" / "reviews"
    (file,) = root.glob(pattern)
    text = file.read_text()
    file.write_text(alter(text))
    assert file.read_text() != text
    (run,) = (root / "metrics").iterdir()
    said = rf"{file.parent.name} is damaged: {file.name} (was changed|has \d+ bytes instead of \d+)"
    with pytest.raises(UserError, match=said):
        load_run(run) if stage == "runs" else Recorded(run, None)
    file.write_text(text)
    assert load_run(run).validation is not None
    assert Recorded(run, None).plugins == []


@pytest.mark.slow
def test_a_model_inside_of_an_artifact_is_checked_where_it_is_named_by_its_folder(undisturbed, tmp_path):
    shutil.copytree(undisturbed, tmp_path / "outputs")
    (model,) = (tmp_path / "outputs").glob("reviews/policy/seq-*/policy")
    before = content_of(str(model), None)
    shutil.copytree(model, tmp_path / "elsewhere")  # it is no artifact any more
    assert content_of(str(tmp_path / "elsewhere"), None) == before
    flip(model / "model.safetensors")
    with pytest.raises(UserError, match=r"seq-\S+ is damaged: policy/model\.safetensors was changed"):
        content_of(str(model), None)
    remove(model / "model.safetensors")
    with pytest.raises(UserError, match=r"policy/model\.safetensors is missing"):
        content_of(str(model), None)
