"""The command line as a user meets it: mistakes, help, the embedded line, logged ratings without a scorer."""

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
from running import SMALL, run

from aloll_cli.stages import STAGES

MISTAKES = [
    (["tran"], 'there is no stage "tran".\nDid you mean aloll train?'),
    (["train", "variant=sq"], "Could not find 'variant/sq'"),
    (["train", "variant.clp=0.5"], "Did you mean variant.clip?"),
    (["train", "+variant.clp=0.5"], "Did you mean variant.clip?"),
    (["train", "++seeed=1"], "Did you mean seed?"),
    (["train", "variant=nll", "variant.clip=0.5"], 'there is no option "variant.clip"'),
    (["train", "seed=one"], "'one' of type 'str' could not be converted to Integer"),
    (["train", "variant.clip=2"], "variant.clip must lie between 0 and 1, got 2.0.\nvariant.clip=0.9"),
    (["train", "optimizer.lr=0"], "optimizer.lr must be positive, got 0.0."),
    (["train", "epochs=2"], "exactly one of updates and epochs must be set."),
    (["train", "reward=column"], "values=head needs rewards of new text; reward=column has only stored ones.\nvalues=data"),
    (
        ["train", "variant=wbc", "reward=column", "values=data", "reward.transform=none", "reward.lo=-1"],
        "variant=wbc weights by the",
    ),
    (["train", "reference=pretrained"], "reference=pretrained needs a model that was trained before."),
    (["train", "model=pretrained"], '"model.path" has no value.\nSet it: model.path='),
    (["train", "task.path=nowhere"], "task.path=nowhere: there is no such file or folder."),
    (["train", "task.responses=good"], "good"),
    (["run", "-m", "variant=seq,sq"], "Could not find 'variant/sq'"),
    (["train", "--config-dir", "nowhere"], "--config-dir nowhere: there is no such folder."),
]


@pytest.mark.parametrize(("arguments", "message"), MISTAKES, ids=lambda value: " ".join(value) if isinstance(value, list) else "")
def test_a_mistake_ends_with_code_2_and_says_what_to_type(tmp_path: Path, arguments: list[str], message: str):
    _, said = run(tmp_path, *arguments, code=2)
    assert message in said
    assert "Traceback" not in said
    assert 1 <= len(said.strip().splitlines()) <= 4
    assert not any(tmp_path.iterdir())


def test_a_mistake_is_found_before_torch_is_imported(tmp_path: Path):
    code = (
        "import sys; from aloll_cli.cli import run_command; code = run_command(['train', 'variant.clp=1']);"
        "sys.exit(code if not {'torch', 'transformers', 'datasets', 'peft'} & set(sys.modules) else 1)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, check=False).returncode == 2


def test_a_misspelt_key_in_a_yaml_of_ones_own_is_an_error(tmp_path: Path):
    (tmp_path / "own" / "variant").mkdir(parents=True)
    (tmp_path / "own" / "variant" / "mine.yaml").write_text('defaults: ["/schema/variant/seq@_here_"]\nclp: 0.5\n')
    _, said = run(tmp_path, "train", "--config-dir", "own", "variant=mine", code=2)
    assert "clp" in said
    assert "Traceback" not in said


def test_help_lists_the_stages_and_a_stage_lists_its_groups(tmp_path: Path):
    out, _ = run(tmp_path, "--help")
    assert all(f"  {stage} " in out for stage in STAGES)
    out, _ = run(tmp_path, "train", "--help")
    assert "  variant     seq, alol, kl, nll, r_gold, r_lol, ref_free, wbc" in out
    assert "schema" not in out
    assert "    clip: 0.9" in out


def test_upstream_require_refuses_and_names_the_stage(tmp_path: Path):
    _, said = run(tmp_path, "train", *SMALL, "upstream=require", code=2)
    assert "upstream=require forbids making it" in said
    assert "Make it with: aloll score-rewards" in said


@pytest.fixture(scope="module")
def dialogues(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small data set in PRO's packing, written by hand."""
    folder, rng = tmp_path_factory.mktemp("dialogues"), random.Random(0)
    good, bad = ("sure here is a kind and careful answer", "I would try the train first"), ("no", "go away and never ask again")
    for split, count in (("train", 120), ("validation", 30), ("test", 20)):
        rows = []
        for number in range(count):
            turns = [f"<|prompter|>{split} question {number} about {rng.choice(['trains', 'soup', 'cats'])}?", "<|assistant|>"]
            answers = [f"{rng.choice(good)} {rng.randint(0, 9)}.", f"{rng.choice(bad)} {rng.randint(0, 9)}."]
            reward = [rng.gauss(1, 0.3), rng.gauss(-1, 0.3)]
            rows.append({"prefix": [turns, turns], "suffix": answers, "reward": reward, "sft_index": 0, "meta": {}})
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_logged_ratings_without_a_scorer_train_and_evaluate_with_a_null_gain(dialogues: Path, tmp_path: Path):
    options = ["task=hha", f"task.path={dialogues}", *SMALL, "reward=column", "values=data"]
    out, said = run(tmp_path, "evaluate", *options)
    (file,) = tmp_path.glob("outputs/hha/metrics/*/metrics.json")
    metrics = json.loads(file.read_text())
    assert metrics["gain"] is None
    assert metrics["gain_why"] == "the reward cannot score new text; reward=fitted gives one that can"
    likelihood = metrics["advantage_weighted_log_likelihood"]
    assert likelihood["policy"] > likelihood["reference"]
    assert "gain: null" in out
    assert "advantage-weighted log-likelihood" in said
    assert not any(tmp_path.glob("outputs/hha/rewards/column-responses*"))


def test_a_fitted_reward_is_judged_by_a_second_one_that_training_never_saw(dialogues: Path, tmp_path: Path):
    run(tmp_path, "run", "task=hha", f"task.path={dialogues}", *SMALL, "reward=fitted")
    (file,) = tmp_path.glob("outputs/hha/metrics/*/metrics.json")
    metrics = json.loads(file.read_text())
    assert (metrics["reward"], metrics["test_reward"]) == ("fitted", "fitted_characters")
    assert metrics["proxy_skill"]["reward"]["pair_accuracy"] > 0.9
    lo, hi = metrics["held_out_gain"]["ci95"]
    assert lo <= metrics["held_out_gain"]["mean"] <= hi
    assert metrics["n"] == 20


def test_a_saved_policy_is_evaluated_by_its_folder(dialogues: Path, tmp_path: Path):
    options = ["task=hha", f"task.path={dialogues}", *SMALL, "reward=vader", "variant=nll"]
    run(tmp_path, "evaluate", *options)
    (policy,) = tmp_path.glob("outputs/hha/policy/nll-*/policy")
    own = json.loads(next(tmp_path.glob("outputs/hha/metrics/nll-*/metrics.json")).read_text())
    run(tmp_path, "evaluate", *options, f"policy={policy}")
    (file,) = tmp_path.glob("outputs/hha/metrics/policy-*/metrics.json")
    assert json.loads(file.read_text())["policy"]["reward"] == own["policy"]["reward"]
