"""Folders of strangers: whatever is in them is parsed as plain values of a known shape, marked as damaged, and shown escaped."""

import json
import os
import re
import shutil
import time
from hashlib import sha256
from pathlib import Path

import pytest
from evaluated import write_run
from running import SMALL, quick
from tiny import composed, some_slow

from aloll_cli.artifacts.pipeline import Pipeline
from aloll_cli.artifacts.raw_table import load_data, open_data
from aloll_cli.artifacts.values import load_values
from aloll_cli.comparison.shape import configuration_of, metrics_of, steps_of
from aloll_cli.errors import UserError
from aloll_cli.foreign import Unreadable, integer, json_of, name, number, recipe_of, yaml_of
from aloll_cli.models.saving import load_policy, load_tokenizer
from aloll_cli.runtime.terminal import Log
from aloll_cli.schema import as_written, identity, plain
from aloll_cli.settings.plugins import settings_as_text, settings_from_text
from aloll_cli.store.journal import Journal
from aloll_cli.store.manifest import listed_in, write_manifest
from aloll_cli.store.tables import open_blocks, read_blocks
from aloll_cli.text.examples import ExampleTable
from aloll_cli.visible import on_terminal

ESCAPE = "\x1b]0;PWN\x07\x1b[31m"
VALUES = (
    "", "\0" * 50, "{", "[]", "null", "3", '"text"', "NaN", "{}", "[" * 200_000, '{"a":' * 90_000, "\ud83d", '{"task": ".."}',
    '{"kind": "../x", "version": 1, "identity": {}, "inputs": {}}',
    '{"kind": "x", "version": 1e999, "identity": {}, "inputs": {}}',
    '{"version": 5, "inputs": []}', "1" * 5000, f'{{"task": "{"../" * 9}etc"}}',
)  # fmt: skip
ALIASES = "\n".join(
    ["a0: &a0 [x, x]", *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)), "reward: {name: vader}"]
)


@pytest.mark.parametrize("text", VALUES, ids=range(len(VALUES)))
def test_no_text_is_a_recipe_by_chance(tmp_path, text):
    file = tmp_path / "recipe.json"
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(Unreadable):
        recipe_of(file)


def test_a_pipe_or_a_huge_file_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(Unreadable, match="is not a regular file"):
        json_of(tmp_path / "pipe")
    with (tmp_path / "huge").open("wb") as stream:
        stream.truncate(10**12)
    with pytest.raises(Unreadable, match="has 1000000000000 bytes, more than"):
        json_of(tmp_path / "huge")


@pytest.mark.parametrize(
    "text",
    [ALIASES, "a: &a [*a]", "!!python/object/apply:os.system [id]", "[" * 5000, "a: 2020-01-01", "1: x", "a: b: c", "\x1b"],
)
def test_yaml_is_plain_values_without_aliases(text):
    start = time.monotonic()
    with pytest.raises(Unreadable):
        yaml_of(text)
    assert time.monotonic() - start < 2


def test_the_checks_say_where_a_value_is_wrong():
    numbers = ("3", float("nan"), 10**400, True)
    wrong = [*((number, value) for value in numbers), (integer, 1.0), (integer, 2**64), (name, "..")]
    for check, value in wrong:
        with pytest.raises(Unreadable, match=r"policy\.mean is "):
            check(value, "policy.mean")
    for text in ("", ".", "..", "a/b", "a\n", ".hidden", "a\0", "x" * 300, 3):
        with pytest.raises(Unreadable, match="not a name"):
            name(text, "task")
    name("seq-s1+x@2", "variant")


@pytest.mark.slow
def test_damaged_evaluations_are_left_out_and_the_others_are_compared(tmp_path):
    root = tmp_path / "outputs" / "reviews"
    good = [write_run(root, variant) for variant in ("seq", "nll")]
    content = {
        "metrics.json": '{"task": ".."}',
        "recipe.json": "[" * 9999,
        "config.yaml": ALIASES,
        "answers.jsonl": '{"prompt": 3}\n',
    }
    bad = []
    for number_, (file, text) in enumerate(content.items()):
        folder = Path(shutil.copytree(good[0], root / "metrics" / f"bad{number_}-s1-test-{number_:012d}"))
        (folder / file).write_text(text)
        write_manifest(folder)
        bad.append(folder)
    (root / "policy" / "a-0123456789ab").mkdir(parents=True)
    (root / "policy" / "a-0123456789ab" / "recipe.json").write_text("[" * 200_000)
    out, said = quick(tmp_path, "compare", "runs=[outputs/reviews/metrics/*]", "format=json")
    assert {row["variant"] for row in json.loads(out)["methods"]} == {"seq", "nll"}
    for folder in bad:
        assert re.search(rf"left out: .*{folder.name}", said), folder
    out, _ = quick(tmp_path, "ls")
    assert "not ours" in out
    for folder in bad:
        _, said = quick(tmp_path, "report", f"runs=[{folder}]", code=2)
        assert folder.name in said
        assert "Traceback" not in said
    assert {path.name for path in tmp_path.iterdir()} == {"outputs"}
    with pytest.raises(Unreadable, match=r"contains an alias, \*a0"):
        configuration_of(bad[2])


def test_a_table_that_is_none_is_refused_by_name(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    part = tmp_path / "part-00000.parquet"
    with pytest.raises(UserError, match="has no blocks"):
        read_blocks(tmp_path)
    for content in (b"", b"PAR1", b"PAR1" + b"\xff" * 400 + b"PAR1"):
        part.write_bytes(content)
        for read in (read_blocks, open_blocks):
            with pytest.raises(UserError, match=r"part-00000\.parquet (is no Parquet file of ours|cannot be read)"):
                read(tmp_path, ["id"])
    pq.write_table(pa.table({"other": [1]}), part)
    (tmp_path / "test.parquet").write_bytes(part.read_bytes())
    for wrong in (
        lambda: read_blocks(tmp_path, ["id"]), lambda: open_blocks(tmp_path, ["id"]),
        lambda: ExampleTable(tmp_path).ids([0]), lambda: load_values(tmp_path.parent, tmp_path.name),
        lambda: load_data(tmp_path, "test"), lambda: open_data(tmp_path, "test"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=r"\.parquet has no column \w+"):
            wrong()


def test_code_in_an_artifact_runs_only_where_the_user_said_so(undisturbed, tmp_path, monkeypatch):
    line = Pipeline(composed(*SMALL))
    folder = Path(shutil.copytree(undisturbed / "reviews" / line.policy.folder / "policy", tmp_path / "policy"))
    (folder / "evil.py").write_text(
        f"open({str(tmp_path / 'PWN')!r}, 'w')\nclass Config: pass\nclass Model: pass\nclass Words: pass\n"
    )
    config = json.loads((folder / "config.json").read_text())
    auto = {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "evil", "auto_map": auto}))
    words = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(
        json.dumps(words | {"tokenizer_class": "Words", "auto_map": {"AutoTokenizer": ["evil.Words", "evil.Words"]}})
    )
    monkeypatch.setattr("builtins.input", lambda *_: "yes")
    place = type("Place", (), {"options": {}})()
    for load in (lambda: load_policy(folder, place, trusts_code=False), lambda: load_tokenizer(folder)):
        with pytest.raises(UserError, match="cannot be loaded"):
            load()
    assert not (tmp_path / "PWN").exists()


@pytest.mark.slow
def test_workers_do_not_import_from_the_current_folder(tmp_path):
    from aloll_cli.cli.launching import _handed_over, _start
    from aloll_cli.command import Command

    for module in ("random", "torch", "sitecustomize", "aloll_cli"):
        (tmp_path / f"{module}.py").write_text(f"open({str(tmp_path / 'PWN')!r}, 'w')")
    settings = composed("processes=2", "plugins=[nowhere]")
    before = Path.cwd()
    os.chdir(tmp_path)
    try:
        with _handed_over(settings) as descriptors:
            assert _start(0, Command("plan", ()), descriptors, settings, 1).wait() == 2  # there is no such folder
    finally:
        os.chdir(before)
    assert not (tmp_path / "PWN").exists()


@pytest.mark.slow
def test_what_others_wrote_is_shown_with_its_escapes(tmp_path):
    (tmp_path / "rows.jsonl").write_text(json.dumps({f"{ESCAPE}x": "a", "response": "b"}) + "\n")
    folder = tmp_path / "outputs" / f"{ESCAPE}task" / "kind" / f"n{ESCAPE}-0123456789ab"
    folder.mkdir(parents=True)
    (folder / "recipe.json").write_bytes(b"\0")
    for words, code in ((["ls"], 0), (["clean", "ask=false"], 0), (["inspect", "task=local", "task.path=rows.jsonl"], 2)):
        out, said = quick(tmp_path, *words, code=code)
        assert "\x1b" not in out + said
        assert "\x07" not in out + said
    assert "\\x1b]0;PWN\\x07" in said
    assert on_terminal("a\tb\nc\x9b\u202e") == "a\tb\nc\\x9b\\u202e"
    assert str(UserError(f"{ESCAPE}a", f"{ESCAPE}b")).count("\\x1b") == 4


def test_text_from_the_environment_stays_as_it_was_written(tmp_path, monkeypatch):
    monkeypatch.setenv("MY_COLUMN", "a-secret")
    monkeypatch.setenv("MY_SEED", "7")
    written = ["task=local", "task.path=rows.jsonl", "task.columns.response=${oc.env:MY_COLUMN}", "seed=${oc.env:MY_SEED}"]
    settings = composed(*written)
    assert settings.task.columns.response == "a-secret"
    assert settings.seed == 7
    assert as_written(plain(settings))["task"]["columns"]["response"] == "${oc.env:MY_COLUMN}"
    assert "a-secret" not in json.dumps(identity(settings.task))
    assert f"sha256:{sha256(b'a-secret').hexdigest()}" in json.dumps(identity(settings.task))
    again = settings_from_text(settings_as_text(settings))
    assert again == settings
    assert as_written(plain(again)) == as_written(plain(settings))


@pytest.mark.parametrize(
    "manifest",
    some_slow([
        '{"files": {"data": {"bytes": Infinity, "sha256": "0"}}}', '{"files": {"a\\u0000b": {"bytes": 1, "sha256": "0"}}}',
        '{"files": {"a\\ud800b": {"bytes": 1, "sha256": "0"}}}', '{"files": {"/etc/passwd": {"bytes": 1, "sha256": "0"}}}',
        json.dumps({"files": {"x" * 5000: {"bytes": 1, "sha256": "0"}}}), "fifo", "/dev/zero",
    ]),
)  # fmt: skip
def test_a_manifest_of_another_shape_is_no_manifest(tmp_path, manifest):
    folder = tmp_path / "outputs" / "task" / "kind" / "x-0123456789ab"
    folder.mkdir(parents=True)
    file = folder / "manifest.json"
    if manifest == "fifo":
        os.mkfifo(file)
    elif manifest.startswith("/"):
        file.symlink_to(manifest)
    else:
        file.write_text(manifest)
    assert listed_in(folder) is None
    quick(tmp_path, "ls")
    quick(tmp_path, "verify")


def test_a_journal_of_others_is_read_within_bounds(tmp_path):
    good = json.dumps({"file": "logps/part-00000.parquet", "bytes": 3, "sha256": "0"})
    bad = [{"file": "a", "bytes": float("inf"), "sha256": "0"}, {"file": "../a", "bytes": 1, "sha256": "0"}, [], {"file": "a"}]
    (tmp_path / ".sums-0.jsonl").write_text("\n".join([good, *map(json.dumps, bad), "[" * 9999, "{"]))
    os.mkfifo(tmp_path / ".sums-1.jsonl")
    (tmp_path / ".sums-2.jsonl").mkdir()
    assert Journal(tmp_path, 0).noted() == {"logps/part-00000.parquet": {(3, "0")}}


MEAN = {"mean": 0.5, "ci95": None}


@pytest.mark.parametrize(
    ("where", "value"),
    [
        ("policy.bleu", {"a": MEAN}), ("policy.extra", MEAN), ("proxy_skill", {"reward": {"held_out_rows": 3}}),
        ("proxy_skill", {"x": {"held_out_rows": 3, "pairs": 0}}),
        ("proxy_skill", {"reward": {"held_out_rows": 3, "accuracy": None}}),
        ("advantage_weighted_log_likelihood", {"policy": 1, "reference": 1, "gain": None}), ("policy.distinct_1_matched", 1e300),
        ("by", {"s": {"n": 3, "policy": {"reward": MEAN}, "reference": {}, "gain": None, "held_out_gain": None}}),
    ],
)  # fmt: skip
def test_metrics_that_no_evaluation_writes_are_damage(undisturbed, tmp_path, where, value):
    (source,) = undisturbed.glob("reviews/metrics/*")
    metrics = json.loads((source / "metrics.json").read_text())
    side, _, key = where.rpartition(".")
    (metrics[side] if side else metrics)[key] = value
    (tmp_path / "metrics.json").write_text(json.dumps(metrics))
    with pytest.raises(Unreadable):
        metrics_of(tmp_path)


def test_curves_leave_out_what_overflowed_and_refuse_costs_that_are_no_numbers(tmp_path):
    rows = [
        {"update": 1, "loss": 0.5, "ratio": float("inf"), "seconds": 0.1},
        {"update": 2, "loss": float("nan"), "seconds": 0.1},
    ]
    (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert steps_of(tmp_path) == [{"update": 1, "loss": 0.5, "seconds": 0.1}, {"update": 2, "seconds": 0.1}]
    for key, value in (("seconds", float("nan")), ("tokens", 10**400), ("loss", "x")):
        (tmp_path / "metrics.jsonl").write_text(json.dumps({"update": 1, key: value}))
        with pytest.raises(Unreadable):
            steps_of(tmp_path)


def test_a_name_that_is_no_utf8_reaches_the_log_as_escapes(tmp_path):
    Log(tmp_path / "log.txt", muted=True).say("file x\udcff.jsonl")
    assert "file x\\udcff.jsonl" in (tmp_path / "log.txt").read_text()
