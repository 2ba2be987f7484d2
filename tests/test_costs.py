"""The work that is left, counted before anything runs: against figures by hand, and against what runs record."""

import json
from pathlib import Path

import pytest
from running import SMALL, quick
from tiny import composed, llama, tokenizer

from aloll_cli.artifacts.costs import Sizes, Work, work
from aloll_cli.artifacts.pipeline import Pipeline
from aloll_cli.artifacts.speed import Shape, Speed
from aloll_cli.models.base import Placement
from aloll_cli.reports.estimate import _clock, _flops
from aloll_cli.store.store import upstream

SIZES = Sizes(
    responses={"train": 4_000, "validation": 300, "test": 200}, prompts={"train": 1_000, "validation": 100, "test": 50},
    prompt_tokens=20, response_tokens=10, limit=16,
)  # fmt: skip


def kinds(*overrides: str) -> dict[str, Work]:
    """The work of each artifact that needs a language model, by kind and name without fingerprint."""
    metrics = Pipeline(composed(*overrides)).metrics
    found = {artifact.folder.rpartition("-")[0]: work(artifact, SIZES) for artifact in [*upstream(metrics), metrics]}
    return {folder: done for folder, done in found.items() if done != Work()}


def test_each_kind_of_artifact_is_counted_by_hand():
    few = ("updates=100", "batch_size=4", "eval_every=40", "eval_prompts=32", "reference.updates=50", "reference.batch_size=8")
    found = kinds("variant=seq", "values=head", *few, "reference.eval_every=25")
    assert found.pop("reference/nll-s1") == Work(trained=400, scored=3 * 300, steps=50)
    assert found.pop("generations/nll-s1-validation") == Work(generated=100)
    assert found.pop("values/head") == Work(read=1_000 + 100 + 50)
    # 400 draws with replacement of 4,000 responses: 4,000 (1 - e^-0.1) different ones
    assert found.pop("reference-logps/nll-s1-drawn-s1") == Work(scored=pytest.approx(380.65, abs=0.01))
    assert found.pop("policy/seq-s1") == Work(trained=400, generated=4 * 32, steps=100)
    assert found == {
        "generations/seq-s1-test": Work(generated=50), "generations/nll-s1-test": Work(generated=50),
        "answer-logps/seq-s1-test-under-seq-s1": Work(scored=50), "answer-logps/seq-s1-test-under-nll-s1": Work(scored=50),
        "answer-logps/nll-s1-test-under-nll-s1": Work(scored=50),
        "likelihoods/seq-s1-test": Work(scored=200), "likelihoods/nll-s1-test": Work(scored=200),
    }  # fmt: skip


@pytest.mark.slow
def test_groups_and_rollouts_are_counted_by_their_responses():
    few = ("updates=100", "batch_size=4", "eval_every=100", "eval_prompts=32")
    groups = kinds("variant=dpo", *few)
    assert groups["policy/dpo-s1"] == Work(trained=400 * 4, generated=2 * 32, steps=100)
    assert "values/head" not in groups
    rollouts = kinds("variant=ppo", "variant.epochs=2", "variant.rollout_size=8", *few)["policy/ppo-s1"]
    assert rollouts == Work(trained=400, scored=2 * 200, generated=2 * 32 + 200, steps=100)
    assert kinds("variant=nll", "epochs=2", "updates=null", *few[1:])["policy/nll-s1"].steps == 2_000


def test_a_run_that_draws_half_of_the_responses_computes_all_of_them():
    assert kinds("variant=seq", "updates=800", "batch_size=4")["reference-logps/nll-s1-drawn-s1"].scored == 4_000


def test_operations_are_two_for_each_weight_and_token():
    model = llama()
    shape = Shape.of(model)
    head, vocabulary = model.lm_head.weight.numel(), model.model.embed_tokens.weight.numel()
    assert shape.total == sum(weights.numel() for weights in model.parameters())
    assert (shape.head, shape.body) == (head, shape.total - head - vocabulary)
    each = 2 * shape.body * 30 + 2 * shape.head * 10
    assert shape.flops(Work(scored=3), SIZES) == 3 * each
    assert shape.flops(Work(trained=1), SIZES) == 3 * each
    assert shape.flops(Work(read=1), SIZES) == 2 * shape.body * 20
    assert shape.flops(Work(generated=1), SIZES) == 2 * shape.body * 36 + 2 * shape.head * 16
    assert Speed(trained=2, scored=1, read=0.5, generated=3, step=0.1, memory=0, trainable=0).seconds(
        Work(trained=10, scored=5, read=4, generated=2, steps=10)
    ) == pytest.approx(20 + 5 + 2 + 6 + 1)


def test_a_model_is_as_large_without_weights_as_with_them(tmp_path):
    import torch

    scratch = composed("model.hidden_size=32", "model.heads=2").model
    place = Placement(torch.device("cpu"), scratch.dtype, None)
    assert Shape.of(scratch.empty(tokenizer())) == Shape.of(scratch.initial(tokenizer(), 0, place))
    llama().save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    saved = composed("model=pretrained", f"model.path={tmp_path}").model
    assert Shape.of(saved.empty(tokenizer())) == Shape.of(llama())


@pytest.mark.slow
def test_the_plan_says_what_is_left_and_the_count_is_what_runs_record(tmp_path: Path):
    out, _ = quick(tmp_path, "plan", *SMALL, "estimate=true")
    lines = {line.split()[0].rpartition("-")[0]: line for line in out.splitlines() if "FLOP" in line and "/" in line.split()[0]}
    assert lines["policy/seq-s1"].endswith("96 trained, 32 generated")
    assert "in all about " in out.splitlines()[-1]
    quick(tmp_path, "run", *SMALL)
    (records,) = tmp_path.glob("outputs/reviews/policy/*/metrics.jsonl")
    assert len(records.read_text().splitlines()) * 8 == 96
    evaluations = [json.loads(line) for line in (records.parent / "evaluations.jsonl").read_text().splitlines()]
    assert sum(len(record["responses"]) for record in evaluations) == 32
    assert "FLOP" not in quick(tmp_path, "plan", *SMALL, "estimate=true")[0]


@pytest.mark.slow
def test_a_run_of_more_than_an_hour_is_said_at_once_on_a_cpu(tmp_path: Path):
    _, said = quick(tmp_path, "train", *SMALL, before="import aloll_cli.reports.estimate as e; e.LONG = 0; ")
    assert "warning: this will take very roughly 0 s on the CPU. Parts and seconds: aloll plan " in said
    assert said.index("very roughly") < said.index("building  reference/")
    assert "very roughly" not in quick(tmp_path, "train", *SMALL, "seed=2")[1]


def test_durations_and_operations_are_said_in_units_that_fit():
    assert [_clock(seconds) for seconds in (3.4, 600, 12_240)] == ["3 s", "10 min", "3.4 h"]
    assert [_flops(count) for count in (5e8, 2.34e12, 1.2e15)] == ["0.5 GFLOP", "2.3 TFLOP", "1.2 PFLOP"]
