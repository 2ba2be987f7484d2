"""Files outside of the store that change between the recipe and their reading: nothing is built from them under an old name."""

import os
import shutil

import pytest
import torch
from tiny import composed, llama, reviews, store, tokenizer

from aloll_cli.artifacts.pipeline import Pipeline
from aloll_cli.artifacts.rewards import load_rewards
from aloll_cli.artifacts.speaker import job_in
from aloll_cli.errors import UserError
from aloll_cli.files import read_json
from aloll_cli.store import outside
from aloll_cli.store.outside import checksum, unchanged
from aloll_cli.store.store import upstream

TINY = (
    "task=local", "model.vocab_size=300", "model.hidden_size=16", "model.layers=1", "model.heads=2",
    "model.intermediate_size=16", "task.max_prompt_tokens=16", "task.max_response_tokens=8",
)  # fmt: skip
ONE, TWO = "def score(rows):\n    return [0.25] * len(rows)\n", "def score(rows):\n    return [0.75] * len(rows)\n"


def saved(folder, seed):
    llama(seed).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def pretrained(root, *overrides):
    reviews(root / "rows", train=4)
    return Pipeline(composed(f"task.path={root / 'rows'}", "model=pretrained", f"model.path={root / 'model'}", *overrides))


def at_rest(*files):
    """Files as they are when nobody has written to them lately."""
    for file in files:
        os.utime(file, (1e9, 1e9))


def test_a_file_is_hashed_again_only_where_it_was_touched(tmp_path, monkeypatch):
    file, hashed = tmp_path / "rows.jsonl", []
    real = outside.sha256
    monkeypatch.setattr(outside, "sha256", lambda path: hashed.append(path) or real(path))
    file.write_text("one")
    first = checksum(file)
    assert checksum(file) == first
    assert len(hashed) == 2  # written a moment ago, it may change without a sign
    monkeypatch.setattr("aloll_cli.files.RACY", 0.0)
    assert checksum(file) == checksum(file) == first
    assert len(hashed) == 3
    file.write_text("two")  # of the same size
    assert checksum(file) != first
    assert len(hashed) == 4


def test_what_is_said_names_the_files_and_comes_before_an_error_of_reading_them(tmp_path):
    told = r"^model was changed while this ran \(b\); nothing was built from it\.\nRepeat the command\."
    found = {"a": "1", "b": "2"}

    def read(line):
        found["b"] = line
        raise ValueError("half a line")

    with pytest.raises(UserError, match=told), unchanged("model", dict(found), lambda: found):
        read("3")
    with pytest.raises(UserError, match=r"^gone was changed"), unchanged("gone", found, lambda: checksum(tmp_path / "gone")):
        raise AssertionError("nothing is read")
    with pytest.raises(ValueError, match="half"), unchanged("model", found, lambda: found):
        read("3")


def test_a_reward_function_that_is_edited_before_it_scores_is_refused(tmp_path):
    reviews(tmp_path / "rows", train=4)
    code = tmp_path / "my.py"
    code.write_text(ONE)
    line = Pipeline(
        composed(f"task.path={tmp_path / 'rows'}", *TINY, "reward=function", f"reward.path={code}", "reward.function=score")
    )
    rewards, opened = line.rewards(), store(tmp_path / "out")
    assert rewards.fingerprint
    code.write_text(TWO)
    with pytest.raises(UserError, match=r"my\.py was changed while this ran; nothing was built from it\.\nRepeat the command\."):
        opened.ensure(rewards)
    assert not list((tmp_path / "out").glob("rewards/*"))
    code.write_text(ONE)
    assert set(load_rewards(opened.ensure(rewards))) == {0.25}


def test_a_log_that_grows_while_it_is_read_gives_no_data(tmp_path, monkeypatch):
    folder = tmp_path / "rows"
    reviews(folder, train=4)
    line, opened = Pipeline(composed(f"task.path={folder}", *TINY)), store(tmp_path / "out")
    log, before = folder / "train.jsonl", (folder / "train.jsonl").read_text()
    rows = type(line.data.source).rows

    def growing(source, split):
        with log.open("a") as stream:
            stream.write('{"prompt": "A new one", "res')  # not yet written to its end
        return rows(source, split)

    monkeypatch.setattr(type(line.data.source), "rows", growing)
    with pytest.raises(UserError, match=r"train\.jsonl was changed while this ran; .*\n.* still being written to, name a copy\."):
        opened.ensure(line.data)
    assert not list((tmp_path / "out").glob("data/*"))
    monkeypatch.undo()
    with pytest.raises(UserError, match=r"train\.jsonl was changed"):  # before the first row is read
        opened.ensure(line.data)
    log.write_text(before)
    assert read_json(opened.ensure(line.data) / "counts.json")["train"]["responses"] > 0


@pytest.mark.parametrize("in_place", [True, False])
def test_a_model_that_is_overwritten_is_not_loaded_and_one_in_memory_stays(tmp_path, in_place):
    folder, other = saved(tmp_path / "model", 0), saved(tmp_path / "other", 1)
    line, opened = pretrained(tmp_path, "reference=pretrained"), store(tmp_path / "out")
    at_rest(*folder.iterdir())
    reference = line.reference
    for needed in (*upstream(reference), reference):
        opened.ensure(needed)
    loaded = reference.load(job_in(opened))
    before = {name: weight.clone() for name, weight in loaded.state_dict().items()}
    if not in_place:
        (folder / "model.safetensors").unlink()
    shutil.copyfile(other / "model.safetensors", folder / "model.safetensors")
    assert all(torch.equal(weight, before[name]) for name, weight in loaded.state_dict().items())
    told = rf"{folder} was changed while this ran \(model\.safetensors\)"
    for load in (reference.load, reference.load_base):
        with pytest.raises(UserError, match=told):
            load(job_in(opened))


def test_a_tokenizer_that_is_overwritten_is_not_kept(tmp_path):
    folder, opened = saved(tmp_path / "model", 0), store(tmp_path / "out")
    line = pretrained(tmp_path)
    assert line.tokenizer.fingerprint
    with (folder / "tokenizer.json").open("a") as stream:
        stream.write("\n")
    with pytest.raises(UserError, match=r"was changed while this ran \(tokenizer\.json\)"):
        opened.ensure(line.tokenizer)
    assert not list((tmp_path / "out").glob("tokenizer/*"))


def test_an_adapter_that_is_overwritten_is_not_loaded(tmp_path):
    saved(tmp_path / "model", 0)
    for name, seed in (("adapter", 1), ("other", 2)):
        model = llama()
        composed("adapter=lora", "adapter.r=2").adapter.add(model, seed=seed)
        model.save_pretrained(tmp_path / name)
    line = pretrained(tmp_path, "reference=pretrained", "adapter=pretrained", f"model.adapter={tmp_path / 'adapter'}")
    opened = store(tmp_path / "out")
    for needed in (*upstream(line.reference), line.reference):
        opened.ensure(needed)
    line.reference.load(job_in(opened))
    shutil.copyfile(tmp_path / "other" / "adapter_model.safetensors", tmp_path / "adapter" / "adapter_model.safetensors")
    with pytest.raises(UserError, match=r"model was changed while this ran \(adapter\)"):
        line.reference.load(job_in(opened))
