"""build.json: how an artifact was built."""

import json
from pathlib import Path

import pytest
from tiny import composed, opened, reviews

from aloll_cli.artifacts.pipeline import Pipeline
from aloll_cli.store.built import BUILD, About, built, noting
from aloll_cli.store.manifest import damage_of

ABOUT = About("train", "aloll train threads=1", 1, ["data/rows-0123456789ab"])


def test_a_build_notes_command_time_memory_machine_versions_and_inputs(tmp_path: Path):
    line = Pipeline(composed(f"task.path={reviews(tmp_path / 'rows')}"))
    store = opened(tmp_path / "out", line.settings.runtime)
    folder = store.ensure(line.examples)
    found = built(folder)
    assert found is not None
    assert (found["stage"], found["command"], found["sessions"], found["processes"]) == (line.examples.stage, "aloll run", 1, 1)
    assert 0 < found["seconds"] < 60
    assert found["peak_memory_mib"] > 20
    assert found["machine"]["cores"] >= 1
    assert {"python", "torch", "transformers", "numpy"} <= found["versions"].keys()
    assert found["inputs"] == [artifact.folder for artifact in line.examples.inputs().values()]
    assert BUILD not in (folder / "manifest.json").read_text()
    assert damage_of(folder) is None


def test_the_seconds_of_an_interrupted_build_are_added_up_and_those_of_a_killed_one_are_counted_as_a_session(tmp_path: Path):
    with pytest.raises(KeyboardInterrupt), noting(tmp_path, ABOUT):
        raise KeyboardInterrupt
    file = tmp_path / BUILD
    first = json.loads(file.read_text())
    file.write_text(json.dumps(first | {"seconds": 100.0, "began": "2026-01-01T00:00:00+00:00"}))
    with noting(tmp_path, ABOUT):
        at_its_beginning = built(tmp_path)
    last = built(tmp_path)
    assert at_its_beginning is not None
    assert last is not None
    assert [found["sessions"] for found in (first, at_its_beginning, last)] == [1, 2, 2]
    assert 100 <= at_its_beginning["seconds"] <= last["seconds"] < 101
    assert last["began"] == "2026-01-01T00:00:00+00:00"


@pytest.mark.parametrize("content", ["", "[]", '{"stage": "train"}', '{"inputs": ["../../etc"]}'])
def test_what_is_no_note_of_a_build_is_none(tmp_path: Path, content: str):
    (tmp_path / BUILD).write_text(content)
    assert built(tmp_path) is None
    with noting(tmp_path, ABOUT):
        pass
    found = built(tmp_path)
    assert found is not None
    assert found["sessions"] == 1
    (tmp_path / BUILD).write_text(json.dumps(found | {"inputs": ["../../etc"]}))
    assert built(tmp_path) is None
