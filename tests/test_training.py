import json
from functools import cache

import numpy as np
import pytest
import torch
from tiny import composed, gpt2, opened, reviews, store, tokenizer

from aloll_cli.artifacts.pipeline import Pipeline
from aloll_cli.artifacts.reference_logps import LogpTable
from aloll_cli.artifacts.rewards import load_rewards
from aloll_cli.files import read_json_lines
from aloll_cli.text.examples import ExampleTable
from aloll_cli.training.sampling import BatchSampler

UPDATES = 4
LR = 0.01


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Rows, a GPT-2 with much dropout, and room for artifacts."""
    root = tmp_path_factory.mktemp("training")
    reviews(root / "rows")
    gpt2(dropout=0.5).save_pretrained(root / "model")
    tokenizer().save_pretrained(root / "model")
    return root


@pytest.fixture(scope="module")
def trained(folder):
    """Trains a policy by some overrides, once for each; gives its line and its folder."""

    @cache
    def train(*overrides):
        settings = composed(
            f"task.path={folder / 'rows'}", "task.max_response_tokens=12", "model=pretrained", f"model.path={folder / 'model'}",
            "generation=greedy", "reference=pretrained", "values=constant", "values.value=0.1", f"updates={UPDATES}",
            "batch_size=8", "micro_batch_size=3", f"eval_every={UPDATES}", "eval_prompts=2", f"optimizer.lr={LR}", *overrides,
        )  # fmt: skip
        line = Pipeline(settings)
        # folders that differ in operational fields only would be one folder
        out = folder / ("out " + " ".join(overrides))
        return line, opened(out, settings.runtime).ensure(line.policy), out

    return train


def logged(trained, *overrides):
    return read_json_lines(trained(*overrides)[1] / "metrics.jsonl")


@pytest.mark.parametrize("variant", ["seq", pytest.param("alol", marks=pytest.mark.slow)])
def test_training_starts_with_every_ratio_at_one_although_the_model_has_dropout(trained, variant):
    first = logged(trained, f"variant={variant}")[0]
    assert first["update"] == 1
    assert first["ratio"] == pytest.approx(1.0, abs=1e-4)
    assert first["kl"] == pytest.approx(0.0, abs=1e-6)
    assert first["clip_fraction"] == 0.0


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["seq", "alol"])
def test_ratios_move_with_the_policy_and_the_stored_reference_does_not(trained, variant):
    later = logged(trained, f"variant={variant}")[1:]
    assert len(later) == UPDATES - 1
    assert min(abs(record["ratio"] - 1) for record in later) > 1e-2
    assert min(record["kl"] for record in later) > 1e-3


def test_stored_log_probs_of_the_reference_are_those_of_a_model_without_dropout(trained):
    line, _, out = trained("variant=seq")
    examples = ExampleTable(store(out).path(line.examples) / "train")
    stored = LogpTable(store(out).path(line.reference_logps))
    plain = gpt2(dropout=0.0)
    assert len(stored.rows) > 12
    for i in stored.rows:
        prompt, response = examples.prompt_ids(i), examples.response_ids(i)
        logps = plain(torch.tensor([[*prompt, *response]])).logits[0, len(prompt) - 1 : -1].log_softmax(dim=-1)
        expected = logps[range(len(response)), torch.tensor(response)].detach().numpy()
        np.testing.assert_allclose(stored.row(i), expected, atol=1e-5, rtol=0)


def test_the_schedule_counts_updates_and_not_micro_batches(trained):
    # 8 rows in micro-batches of 3 are three backward passes an update
    rates = [record["lr"] for record in logged(trained, "variant=seq")]
    assert rates == pytest.approx([LR * (1 - k / UPDATES) for k in range(UPDATES)])


@pytest.mark.slow
def test_the_size_of_a_micro_batch_changes_no_update(trained):
    whole, single = logged(trained, "micro_batch_size=8"), logged(trained, "micro_batch_size=1")
    for figure in ("loss", "grad_norm", "ratio", "kl"):
        assert [r[figure] for r in whole] == pytest.approx([r[figure] for r in single], rel=1e-3, abs=1e-5), figure
    assert [r["tokens"] for r in whole] == [r["tokens"] for r in single]


def weights_of(line, out):
    return np.maximum(load_rewards(store(out).path(line.rewards())) - 0.1, 0)


def first_rows(line, out):
    settings = line.settings
    return BatchSampler(settings.sampling.frequencies(weights_of(line, out)), settings.batch_size, settings.seed).rows(0)


def test_the_loss_of_an_update_is_the_mean_over_the_responses_it_drew(trained):
    line, _, out = trained("variant=seq")
    examples, weights, rows = ExampleTable(store(out).path(line.examples) / "train"), weights_of(line, out), first_rows(line, out)
    stored = LogpTable(store(out).path(line.reference_logps))
    # every ratio is 1
    expected = np.mean([-weights[i] * stored.row(i).sum() for i in rows])
    assert logged(trained, "variant=seq")[0]["loss"] == pytest.approx(expected, rel=1e-5)
    assert logged(trained, "variant=seq")[0]["tokens"] == sum(len(examples.prompt_ids(i)) + len(stored.row(i)) for i in rows)


@pytest.mark.slow
def test_without_their_weights_kept_responses_count_alike(trained):
    line, made, out = trained("weight_loss=false")
    stored, rows = LogpTable(store(out).path(line.reference_logps)), first_rows(line, out)
    expected = np.mean([-stored.row(i).sum() for i in rows])
    assert read_json_lines(made / "metrics.jsonl")[0]["loss"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 3, 8])
def test_the_mean_over_tokens_is_scaled_by_the_mean_length_of_the_update(trained, size):
    line, made, out = trained("reduction=mean", f"micro_batch_size={size}", "task.max_response_tokens=40")
    stored, rows = LogpTable(store(out).path(line.reference_logps)), first_rows(line, out)
    weights, lengths = weights_of(line, out), [len(stored.row(i)) for i in rows]
    assert min(lengths) < max(lengths)
    expected = np.mean([-weights[i] * stored.row(i).mean() for i in rows]) * np.mean(lengths)
    assert read_json_lines(made / "metrics.jsonl")[0]["loss"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
def test_without_the_clamp_negative_advantages_are_learned_from(trained):
    _, clamped, _ = trained("values.value=0.6", "sampling=all")
    line, free, out = trained("values.value=0.6", "sampling=all", "clamp=false")
    advantages = load_rewards(store(out).path(line.rewards())) - 0.6
    assert 0 < (advantages > 0).mean() < 1
    kept = [read_json_lines(made / "metrics.jsonl")[0]["kept"] for made in (clamped, free)]
    assert kept == [1.0, 1.0]  # sampling=all draws every response
    stored, rows = LogpTable(store(out).path(line.reference_logps)), BatchSampler(np.ones(len(advantages)), 8, 1).rows(0)
    expected = np.mean([-advantages[i] * stored.row(i).sum() for i in rows])
    assert read_json_lines(free / "metrics.jsonl")[0]["loss"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
def test_the_gradient_norm_is_logged_as_it_was_before_it_was_bounded(trained):
    free = logged(trained, "optimizer.max_grad_norm=null")[0]["grad_norm"]
    bound = logged(trained, "optimizer.max_grad_norm=0.001")
    assert bound[0]["grad_norm"] == pytest.approx(free, rel=1e-3)
    assert free > 0.001


def test_what_training_leaves_opens_with_transformers_and_was_trained(trained):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    _, made, _ = trained("variant=seq")
    policy = AutoModelForCausalLM.from_pretrained(made / "policy")
    assert AutoTokenizer.from_pretrained(made / "policy").eos_token == "</s>"
    before = gpt2().state_dict()
    assert any(not torch.equal(value, before[name]) for name, value in policy.state_dict().items())


def test_every_record_is_strict_json_with_the_figures_of_the_method(trained):
    _, made, _ = trained("variant=seq")
    lines = (made / "metrics.jsonl").read_text().splitlines()
    refuse = lambda name: pytest.fail(f"{name} is not JSON")  # noqa: E731
    records = [json.loads(line, parse_constant=refuse) for line in lines]
    assert [record["update"] for record in records] == [1, 2, 3, 4]
    figures = {"loss", "lr", "grad_norm", "kept", "tokens", "seconds", "ratio", "kl", "clip_fraction"}
    assert all(figures <= record.keys() for record in records)
