"""Only what this program wrote is removed or written through: clean, verify and export among the files of others."""

import json
import os
import shutil
from pathlib import Path

import pytest
from running import SMALL, quick
from tiny import Note, store

from aloll_cli.errors import UserError
from aloll_cli.files import below, remove_tree, sync_tree
from aloll_cli.schema import fingerprint
from aloll_cli.stages.export import _fresh
from aloll_cli.store.building import begin, certify
from aloll_cli.store.inventory import State, entries
from aloll_cli.store.marker import MARK, TAG, mark


def written(root: Path, kind: str, *, partial: bool = False, **inputs: dict) -> tuple[Path, dict]:
    """A complete artifact of ours in a task's folder, and its recipe."""
    recipe = {"kind": kind, "version": 1, "identity": {"of": kind}, "inputs": inputs}
    folder = root / kind / f"{kind}-{fingerprint(recipe)}{'.partial' if partial else ''}"
    folder.mkdir(parents=True)
    (folder / "recipe.json").write_text(json.dumps(recipe, indent=1, sort_keys=True))
    (folder / "data").write_text(kind * 10)
    certify(folder)
    return folder, recipe


def everything(folder: Path) -> dict[str, str]:
    """Every file and link below a folder, with its content or where it leads."""
    found = {}
    for at, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(at, name)
            found[str(path.relative_to(folder))] = (
                f"-> {os.readlink(path)}" if path.is_symlink() else path.read_text() if path.is_file() else "/"
            )
    return found


def strangers(place: Path, outside: Path) -> None:
    """Folders and links of others that look like ours, in an output folder."""
    shapes = ("{}", "[]", "null", "", "{", json.dumps({"kind": "x", "inputs": {}}), "\0" * 9 + "x", "[" * 9999)
    for number, recipe in enumerate(shapes):
        folder = place / "photos" / f"trip{number}" / "rome-202401011200"
        folder.mkdir(parents=True)
        (folder / "a.jpg").write_text("precious")
        if recipe:
            (folder / "recipe.json").write_text(recipe)
    own = {"kind": "x", "version": 1, "identity": {}, "inputs": {}}
    for name in (f"x-{fingerprint(own)}", "k-0123456789ab", "k-0123456789ab.partial", ".k-0123456789ab.removed"):
        (outside / name).mkdir(parents=True)
        (outside / name / "recipe.json").write_text(json.dumps(own))
        (outside / name / "precious").write_text("precious")
    (place / "task" / "kind").mkdir(parents=True)
    (place / "task" / "kind" / f"x-{fingerprint(own)}").symlink_to(outside / f"x-{fingerprint(own)}")
    (place / "task" / "kind" / "k-aaaaaaaaaaaa").symlink_to("nowhere")
    (place / "task" / "kind" / ".k-0123456789ab.removed").symlink_to(outside / ".k-0123456789ab.removed")
    (place / "task" / "models").symlink_to(outside)
    (place / "linked").symlink_to(outside.parent)
    os.mkfifo(place / "task" / "kind" / "k-bbbbbbbbbbbb")
    (place / "task" / "kind" / "k-cccccccccccc").mkdir()
    os.mkfifo(place / "task" / "kind" / "k-cccccccccccc" / "recipe.json")
    names = ("-rf", "$(id)", "a\nb", "\x1b[31m", "x" * 200, " ", "*", "..x", "[x]", "\u202egnp")
    recipes = (None, "{", "null", json.dumps(own), json.dumps(own | {"kind": "../.."}), "[" * 999)
    for number in range(50):
        kind = place / ("task" if number % 2 else "other") / ("kind" if number % 3 else "values")
        folder = kind / f"{names[number % 10]}-{number:012x}{'.partial' if number % 7 == 0 else ''}"
        folder.mkdir(parents=True)
        (folder / "precious").write_text("precious")
        if number % 5 == 0:
            (folder / "manifest.json").symlink_to(outside / "k-0123456789ab" / "precious")
        if recipe := recipes[number % 6]:
            (folder / "recipe.json").write_text(recipe)


@pytest.mark.slow
@pytest.mark.parametrize("marked", [True, False])
def test_clean_and_verify_touch_nothing_of_others(tmp_path, marked):
    outside = tmp_path / "elsewhere" / "outside"
    strangers(tmp_path / "outputs", outside)
    before = everything(tmp_path)
    ours, _ = written(tmp_path / "outputs" / "task", "values")
    if marked:
        mark(tmp_path / "outputs")
    _, said = quick(tmp_path, "clean", "ask=false")
    assert ours.exists() != marked
    assert (f"outputs has no {MARK}, which marks a folder that aloll may remove things from" in said) != marked
    for name in ("photos", "linked", "task/models", "task/kind"):
        assert f"not ours, kept: outputs/{name}\n" in said, name
    quick(tmp_path, "verify", "repair=true")
    after = everything(tmp_path)
    assert {name: after.get(name) for name in before} == before


@pytest.mark.slow
def test_a_folder_that_somebody_renamed_is_not_ours_and_one_with_a_flipped_bit_is(tmp_path):
    root = tmp_path / "outputs" / "task"
    mark(root.parent)
    renamed, _ = written(root, "values")
    renamed = renamed.rename(renamed.with_name("backup-0123456789ab"))
    flipped, _ = written(root, "rewards")
    content = (flipped / "recipe.json").read_text()
    (flipped / "recipe.json").write_text(content.replace('"version": 1', '"version": 3'))
    states = {entry.path: entry.state for entry in entries(root.parent)}
    assert states == {renamed: State.foreign, flipped: State.damaged}
    quick(tmp_path, "verify", "repair=true")
    assert renamed.exists()
    assert not flipped.exists()


def test_a_folder_that_held_other_things_is_marked_without_a_tag_for_backups(tmp_path):
    mark(tmp_path / "new")
    assert {file.name for file in (tmp_path / "new").iterdir()} == {MARK, TAG}
    assert (tmp_path / "new" / TAG).read_text().startswith("Signature: 8a477f597d28d172789f06886806bc55")
    (tmp_path / "thesis.txt").write_text("precious")
    mark(tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {"new", "thesis.txt", MARK}


def test_a_mark_that_was_damaged_is_mended_and_the_tag_of_another_program_is_left_alone(tmp_path):
    mark(tmp_path / "ours")
    expected = {name: (tmp_path / "ours" / name).read_bytes() for name in (MARK, TAG)}
    for name, content in expected.items():
        (tmp_path / "ours" / name).write_bytes(bytes([content[0] ^ 4]) + content[1:])
    mark(tmp_path / "ours")
    assert {name: (tmp_path / "ours" / name).read_bytes() for name in (MARK, TAG)} == expected
    (tmp_path / "ours" / TAG).write_text("Signature: 8a477f597d28d172789f06886806bc55\n# of another program\n")
    mark(tmp_path / "ours")
    assert "of another program" in (tmp_path / "ours" / TAG).read_text()


@pytest.mark.parametrize("place", ["", "notes", ".locks", "notes/{name}", "notes/{name}.partial", "notes/{name}.partial/log.txt"])
def test_nothing_is_written_through_a_link_below_the_output_folder(tmp_path, place):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "bashrc").write_text("precious")
    at = tmp_path / "out" / "task" / place.format(name=Note().folder.partition("/")[2])
    at.parent.mkdir(parents=True, exist_ok=True)
    at.symlink_to(outside / "bashrc" if at.name == "log.txt" else outside)
    with pytest.raises(UserError, match="is a symbolic link; below output_dir nothing is written through one"):
        store(tmp_path / "out" / "task").ensure(Note())
    assert everything(outside) == {"bashrc": "precious"}


def test_the_output_folder_itself_may_be_a_link(tmp_path):
    (tmp_path / "scratch").mkdir()
    (tmp_path / "outputs").symlink_to("scratch")
    folder = store(tmp_path / "outputs" / "task").ensure(Note())
    assert (folder / "in" / "text").read_text() == "precious"
    assert (tmp_path / "scratch" / MARK).is_file()


@pytest.mark.slow
def test_verify_names_all_damage_at_once_and_removes_it_with_what_was_built_from_it(tmp_path):
    root = tmp_path / "outputs" / "task"
    mark(root.parent)
    data, of_data = written(root, "data")
    values, of_values = written(root, "values", data=of_data)
    policy, _ = written(root, "policy", values=of_values)
    other, _ = written(root, "reference")
    torn, _ = written(root, "metrics", partial=True)
    _, said = quick(tmp_path, "verify")
    assert "5 artifacts, " in said
    assert ": none damaged" in said
    (data / "data").write_text("DATA" * 10)
    (other / "more").write_text("")
    (other / "data").unlink()
    (torn / "recipe.json").write_bytes(b"\0" * 40)
    out, said = quick(tmp_path, "verify", code=2)
    for line in (
        f"{data}: data was changed (its checksum differs)", f"{other}: data is missing", f"{other}: more is not in its manifest",
        f"{torn}: its recipe.json cannot be read", f"{values}: was built from a damaged artifact",
        f"{policy}: was built from a damaged artifact",
    ):  # fmt: skip
        assert line.replace(f"{tmp_path}/", "") in out
    assert "5 artifacts, " in said
    assert ": 3 damaged.\nRemove 4 artifacts (" in said  # the one with a file of somebody else stays
    assert "): aloll verify repair=true" in said
    assert data.exists()
    _, said = quick(tmp_path, "verify", "repair=true", code=2)
    assert "holds files that aloll did not write" in said
    assert not any(folder.exists() for folder in (data, values, policy, torn))
    assert (other / "more").exists()
    (other / "more").unlink()
    quick(tmp_path, "verify", "repair=true")
    assert not other.exists()
    _, said = quick(tmp_path, "verify")
    assert "0 artifacts, 0 B: none damaged" in said


@pytest.mark.slow
def test_export_goes_through_a_folder_of_its_own_and_refuses_places_that_are_taken(undisturbed, tmp_path):
    shutil.copytree(undisturbed, tmp_path / "outputs")
    (tmp_path / ".model.tmp").mkdir()
    (tmp_path / ".model.tmp" / "notes.txt").write_text("precious")
    (tmp_path / "disk" / "lost+found").mkdir(parents=True)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("precious")
    (tmp_path / "link").symlink_to("full")
    for to, why in {
        ".": "is the current folder.", "outputs/reviews/model": "is inside of outputs, where the artifacts are.",
        "full": "exists and is not an empty folder.", "link": "exists and is not an empty folder.",
        "~nosuchuser/model": "cannot be written: could not determine home directory.",
        "/proc/model": "cannot be written:", "a" * 300: "cannot be written: file name too long.",
    }.items():  # fmt: skip
        _, said = quick(tmp_path, "export", *SMALL, f"to={to}", code=2)
        assert f"to={to} {why}" in said
    quick(tmp_path, "export", *SMALL, "to=disk")
    assert {"lost+found", "config.json", "model.safetensors", "README.md"} <= {
        path.name for path in (tmp_path / "disk").iterdir()
    }
    assert not [*(tmp_path / "disk").glob(".*")]
    assert (tmp_path / ".model.tmp" / "notes.txt").read_text() == "precious"
    assert {path.name for path in (tmp_path / "full").iterdir()} == {"notes.txt"}


def test_an_export_that_fails_leaves_nothing(tmp_path):
    def fail(folder: Path):
        with _fresh(folder) as fresh:
            (fresh / "weights").write_text("half")
            raise KeyboardInterrupt

    (tmp_path / "empty").mkdir()
    for name in ("new", "empty"):
        with pytest.raises(KeyboardInterrupt):
            fail(tmp_path / name)
    assert everything(tmp_path) == {"empty": "/"}


@pytest.mark.slow
def test_damage_in_one_task_or_in_an_unfinished_copy_dooms_nothing_else(tmp_path):
    mark(tmp_path / "outputs")
    made = {}
    for task in ("one", "two"):
        data, recipe = written(tmp_path / "outputs" / task, "data")
        made[task] = data, written(tmp_path / "outputs" / task, "values", data=recipe)[0]
    (made["one"][0] / "data").write_text("DATA" * 10)
    torn = made["two"][0].with_name(f"{made['two'][0].name}.partial")
    torn.mkdir()
    (torn / "recipe.json").write_text("")
    quick(tmp_path, "verify", "repair=true")
    assert [path.exists() for path in (*made["one"], *made["two"], torn)] == [False, False, True, True, False]


def test_files_of_a_user_in_an_artifact_are_kept_and_named(tmp_path):
    mark(tmp_path / "outputs")
    ours, _ = written(tmp_path / "outputs" / "task", "values")
    (ours / "my notes.txt").write_text("precious")
    _, said = quick(tmp_path, "clean", "ask=false")
    assert (ours / "my notes.txt").read_text() == "precious"
    assert f"not ours, kept: outputs/task/values/{ours.name}/my notes.txt" in said


@pytest.mark.parametrize("place", [".locks", ".locks/presence"])
def test_clean_writes_nothing_through_links_of_locks(tmp_path, place):
    mark(tmp_path / "outputs")
    ours, _ = written(tmp_path / "outputs" / "task", "values")
    outside = tmp_path / "outside"
    outside.mkdir()
    at = tmp_path / "outputs" / "task" / place
    at.parent.mkdir(exist_ok=True)
    at.symlink_to(outside if place == ".locks" else outside / "new")
    _, said = quick(tmp_path, "clean", "ask=false", code=2)
    assert "is a symbolic link" in said
    assert ours.exists()
    assert not any(outside.iterdir())


def test_an_unfinished_artifact_with_a_hard_link_and_names_that_are_taken_are_refused(tmp_path):
    (tmp_path / "bashrc").write_text("precious")
    at = tmp_path / "out" / "task" / Note().folder
    partial = at.with_name(f"{at.name}.partial")
    partial.mkdir(parents=True)
    os.link(tmp_path / "bashrc", partial / "log.txt")
    with pytest.raises(UserError, match="is a hard link"):
        store(tmp_path / "out" / "task").ensure(Note())
    shutil.rmtree(partial)
    partial.write_text("precious")
    with pytest.raises(UserError, match="is a file, where an artifact's folder belongs"):
        store(tmp_path / "out" / "task").ensure(Note())
    partial.unlink()
    at.mkdir()
    (at / "photo.jpg").write_text("precious")
    with pytest.raises(UserError, match="has the name of an artifact, and neither its recipe"):
        store(tmp_path / "out" / "task").ensure(Note())
    assert (at / "photo.jpg").read_text() == (tmp_path / "bashrc").read_text() == "precious"


@pytest.mark.slow
def test_hidden_files_of_the_system_are_no_damage_and_hidden_links_are(tmp_path):
    mark(tmp_path / "outputs")
    ours, _ = written(tmp_path / "outputs" / "task", "values")
    (ours / ".DS_Store").write_text("")
    assert "none damaged" in quick(tmp_path, "verify")[1]
    (ours / ".x").symlink_to("/")
    out, _ = quick(tmp_path, "verify", code=2)
    assert ".x is not in its manifest" in out


@pytest.mark.slow
def test_folders_of_any_depth_are_kept_and_named_and_those_of_an_unfinished_build_removed(tmp_path, request):
    request.addfinalizer(lambda: remove_tree(tmp_path / "outputs"))  # which pytest could not
    mark(tmp_path / "outputs")
    ours, _ = written(tmp_path / "outputs" / "task", "values")
    unfinished, _ = written(tmp_path / "outputs" / "task", "rewards", partial=True)
    for folder in (ours, unfinished):
        deep = folder
        for _ in range(1200):
            deep = deep / "d"
            os.mkdir(deep)
        (deep / "notes").write_text("precious")
        (deep / "link").symlink_to(ours)
    out, _ = quick(tmp_path, "ls")
    assert "damaged" in out
    _, said = quick(tmp_path, "clean", "ask=false")
    assert f"not ours, kept: outputs/task/values/{ours.name}/d/d" in said
    _, said = quick(tmp_path, "verify", "repair=true", code=2)
    assert "holds files that aloll did not write" in said
    sync_tree(unfinished)
    begin(unfinished, {}, {}, resuming=False)
    assert [path.name for path in below(unfinished)] == ["recipe.json", "config.yaml"]
    assert (ours / Path(*["d"] * 1200) / "notes").read_text() == "precious"
