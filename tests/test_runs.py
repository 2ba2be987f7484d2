"""``aloll runs``, and ``run=NAME``, which begins with the options of one of them."""

import json
import re

import pytest
import yaml
from evaluated import write_run

from aloll_cli import UserError, compose, run
from aloll_cli.artifacts.pipeline import Pipeline
from aloll_cli.schema import as_written, identity, plain
from aloll_cli.settings.recorded import of_its_run
from aloll_cli.settings.root import Settings

MIXED = ["reward=mixed", "reward.parts.mood=vader", "reward.parts.size=length", "reward.parts.size.weight=0.1"]
COMMANDS = [
    [],
    ["variant=kl", "variant.beta=0.2", "seed=3", "optimizer.lr=1e-5", "updates=null", "epochs=0.5"],
    ["adapter=lora", "model=qwen3_0_6b", "generation=beam", "values=head_paper", "test_reward=length", "attn=eager"],
    [*MIXED, "reward.parts.size.transform=zscore"],
    [
        "task=local",
        'task.path="it\'s, mine.jsonl"',
        "task.labels={up: 1, down: 0}",
        "reward=regex",
        "reward.pattern='\\bthanks?\\b'",
    ],
    ["experiment=hha_small", "reference=pretrained", "sampling=all", "clamp=false", "words=13a"],
]


@pytest.fixture
def runs(tmp_path):
    write_run(tmp_path / "reviews", "seq", 1)
    write_run(tmp_path / "reviews", "seq", 2, options={"optimizer": {"name": "adamw", "lr": 0.01}}, scores=(0.0, 0.9))
    write_run(tmp_path / "reviews", "kl", 1, rewards={"a": 0.9, "b": 0.9, "c": 0.9})
    return lambda *overrides: run("runs", compose(f"output_dir={tmp_path}", *overrides))


def test_each_run_is_a_line_that_says_in_what_it_differs(runs, capsys):
    found = runs()
    assert {(row["variant"], row["seed"]): row["differs"] for row in found} == {
        ("seq", 1): {}, ("seq", 2): {"optimizer.lr": 0.01}, ("kl", 1): {},
    }  # fmt: skip
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    headings = ["task", "variant", "seed", "differs in", "validation", "gain [95% interval]", "date", "run", "page"]
    assert re.split("  +", lines[0]) == headings
    assert sum("optimizer.lr=0.01" in line for line in lines) == 1
    assert json.loads(json.dumps(found)) == found


def test_a_run_with_an_adapter_differs_from_those_without(tmp_path):
    for seed in (1, 2):
        write_run(tmp_path / "reviews", "seq", seed, options={"adapter": None})
    write_run(tmp_path / "reviews", "seq", 3, options={"adapter": {"name": "lora", "r": 4}})
    found = {row["seed"]: row["differs"] for row in run("runs", compose(f"output_dir={tmp_path}"))}
    assert found == {1: {}, 2: {}, 3: {"adapter.name": "lora"}}


@pytest.mark.slow
def test_runs_are_sorted_and_filtered(runs):
    assert [row["variant"] for row in runs("sort=gain")][0] == "kl"
    assert [row["validation"] for row in runs("sort=validation")] == [0.9, 0.3, 0.3]
    assert {row["seed"] for row in runs("where=[variant=seq]")} == {1, 2}
    assert [row["seed"] for row in runs("where=['variant=seq,kl','optimizer.lr=1e-2']")] == [2]
    assert runs("where=[variant=nll]") == []


def recorded(folder, overrides):
    """The folder of a policy whose options were these."""
    settings = compose(*overrides)
    run_folder = folder / "reviews" / "policy" / "seq-s1-0123456789ab"
    run_folder.mkdir(parents=True)
    written = {"stage": "train"} | as_written(plain(settings))
    (run_folder / "config.yaml").write_text(yaml.safe_dump(written))
    return settings


@pytest.mark.slow
@pytest.mark.parametrize("overrides", COMMANDS, ids=str)
def test_a_command_begins_with_the_options_of_a_run(tmp_path, overrides):
    settings = recorded(tmp_path, overrides)
    for name in ("seq-s1-0123456789ab", "0123456789ab"):
        assert identity(compose(f"run={name}", f"output_dir={tmp_path}")) == identity(settings)
    again = compose(f"run={tmp_path}/reviews/policy/seq-s1-0123456789ab", "seed=9", "variant=nll")
    assert (again.seed, type(again.variant).__name__, again.output_dir) == (9, "Nll", str(tmp_path))
    assert identity(again.task) == identity(settings.task)


@pytest.mark.slow
def test_what_is_no_run_is_named(tmp_path):
    recorded(tmp_path, [])
    with pytest.raises(UserError, match="there is no such run under"):
        compose("run=seq-s1", f"output_dir={tmp_path}")
    file = tmp_path / "reviews" / "policy" / "seq-s1-0123456789ab" / "config.yaml"
    file.write_text(file.read_text() + "colour: red\nadapter: {name: lora, hue: 1}\n")
    with pytest.raises(UserError, match=r"run=seq-s1-0123456789ab was made by another version.*adapter\.hue"):
        compose("run=0123456789ab", f"output_dir={tmp_path}")
    with pytest.raises(UserError, match="run= and experiment= both choose"):
        compose("run=0123456789ab", f"output_dir={tmp_path}", "experiment=hha_small")
    assert Settings.__dataclass_fields__["run"].metadata["identity"] is False


@pytest.mark.slow
def test_a_run_that_is_asked_with_another_decoding_is_still_its_own_policy(tmp_path):
    settings = recorded(tmp_path, ["generation=beam", "generation.beams=3", "seed=4"])
    for name in ("0123456789ab", f"{tmp_path}/reviews/policy/seq-s1-0123456789ab"):
        asked = compose(f"run={name}", f"output_dir={tmp_path}", "generation=greedy")
        assert Pipeline(asked).policy.fingerprint != Pipeline(settings).policy.fingerprint
        assert Pipeline(of_its_run(asked)).policy.fingerprint == Pipeline(settings).policy.fingerprint
    assert of_its_run(settings) is settings
    config = tmp_path / "reviews" / "policy" / "seq-s1-0123456789ab" / "config.yaml"
    config.write_text(config.read_text().replace("beams: 3", "beans: 3"))
    with pytest.raises(UserError, match="has another decoding"):
        of_its_run(asked)
