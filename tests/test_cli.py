"""The command line as a user meets it: the embedded line, logged ratings without a scorer."""

import json
import random
from pathlib import Path

import pytest
from running import SMALL, quick


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


@pytest.mark.slow
def test_logged_ratings_without_a_scorer_train_and_evaluate_without_a_gain(dialogues: Path, tmp_path: Path):
    options = ["task=hha", f"task.path={dialogues}", *SMALL, "reward=column", "reward.transform=sigmoid", "values=data"]
    out, said = quick(tmp_path, "evaluate", *options)
    (file,) = tmp_path.glob("outputs/hha/metrics/*/metrics.json")
    metrics = json.loads(file.read_text())
    assert metrics["gain"] is None
    assert metrics["gain_why"] == "the reward cannot score new text; reward=fitted can"
    likelihood = metrics["advantage_weighted_log_likelihood"]
    assert likelihood["policy"] > likelihood["reference"]
    assert "gain: not available" in out
    assert "advantage-weighted log-likelihood" in said
    assert not any(tmp_path.glob("outputs/hha/rewards/column-responses*"))


@pytest.mark.slow
def test_a_fitted_reward_is_judged_by_a_second_one_that_training_never_saw(dialogues: Path, tmp_path: Path):
    quick(tmp_path, "run", "task=hha", f"task.path={dialogues}", *SMALL, "reward=fitted")
    (file,) = tmp_path.glob("outputs/hha/metrics/*/metrics.json")
    metrics = json.loads(file.read_text())
    assert (metrics["reward"], metrics["test_reward"]) == ("fitted", "fitted_characters")
    assert metrics["proxy_skill"]["reward"]["pair_accuracy"] > 0.9
    lo, hi = metrics["held_out_gain"]["ci95"]
    assert lo <= metrics["held_out_gain"]["mean"] <= hi
    assert metrics["n"] == 20


@pytest.mark.slow
def test_a_saved_policy_is_evaluated_by_its_folder(dialogues: Path, tmp_path: Path):
    options = ["task=hha", f"task.path={dialogues}", *SMALL, "reward=vader", "variant=nll"]
    quick(tmp_path, "evaluate", *options)
    (policy,) = tmp_path.glob("outputs/hha/policy/nll-*/policy")
    own = json.loads(next(tmp_path.glob("outputs/hha/metrics/nll-*/metrics.json")).read_text())
    quick(tmp_path, "evaluate", *options, f"policy={policy}")
    (file,) = tmp_path.glob("outputs/hha/metrics/policy-*/metrics.json")
    assert json.loads(file.read_text())["policy"]["reward"] == own["policy"]["reward"]
