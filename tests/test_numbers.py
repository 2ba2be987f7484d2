"""Stored reference log-probs, values' states and π_old are computed in the numbers of training, so that ratios start at 1."""

import re
from functools import cache

import numpy as np
import pytest
import torch
from test_logprobs import batch, rows
from tiny import composed, llama, opened, reviews, tokenizer
from torch.testing import assert_close
from transformers import AutoModelForCausalLM

from aloll_cli.artifacts.pipeline import Pipeline
from aloll_cli.artifacts.reference_logps import LogpTable
from aloll_cli.errors import UserError
from aloll_cli.files import read_json_lines
from aloll_cli.models.logprobs import ResponseLogps
from aloll_cli.models.saving import load_tokenizer
from aloll_cli.models.value_head import prompt_states
from aloll_cli.text.examples import ExampleTable
from aloll_cli.training import start
from aloll_cli.training.batches import batch_logps

LORA = ("adapter=lora", "adapter.r=4")
HALF = "model.dtype=bfloat16"


@pytest.fixture(scope="module")
def options(tmp_path_factory):
    root = tmp_path_factory.mktemp("numbers")
    reviews(root / "rows")
    llama().bfloat16().save_pretrained(root / "model")  # as models are published
    tokenizer().save_pretrained(root / "model")
    return [
        f"task.path={root / 'rows'}", "model=pretrained", f"model.path={root / 'model'}", "reference=pretrained", "threads=1",
        "task.max_response_tokens=12", "values=constant", "values.value=0.1", "updates=1", "batch_size=8", "micro_batch_size=3",
        "eval_prompts=2", f"output_dir={root}",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def trained(options, tmp_path_factory):
    """Trains by some overrides, once for each; gives the line and its store."""
    root = tmp_path_factory.mktemp("outputs")

    @cache
    def train(*overrides, folder="outputs"):
        settings = composed(*options, *overrides)
        store, line = opened(root / folder, settings.runtime), Pipeline(settings)
        store.ensure(line.policy)
        return line, store

    return train


def first(line, store):
    return read_json_lines(store.path(line.policy) / "metrics.jsonl")[0]


@pytest.mark.parametrize("attn", ["eager", "sdpa"])
@torch.no_grad()
def test_in_16_bits_a_row_is_computed_alike_alone_and_beside_longer_ones(attn):
    model, chosen = llama(), rows([(1 + 5 * i % 23, 1 + 7 * i % 11) for i in range(16)])
    model.set_attn_implementation(attn)
    module = ResponseLogps(model)
    with torch.autocast("cpu", torch.bfloat16):
        together = batch(chosen).logps(module)
        off = [(row[: len(y)] - batch([(p, y)]).logps(module)[0]).sum() for row, (p, y) in zip(together, chosen, strict=True)]
    assert np.median(np.abs(off)) < 0.01


@pytest.mark.parametrize(("half", "tolerance"), [(False, 1e-6), (True, 1e-3)])
def test_the_chunked_head_is_the_full_one_to_the_last_digits(half, tolerance):
    given, found = batch(rows([(3 + i % 5, 21 - i % 3) for i in range(13)])), []
    for chunked in (False, True):
        model = llama()
        module = ResponseLogps(model, chunked=chunked)
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            logps = given.logps(module)
            (logps * torch.linspace(-1, 2, logps.numel()).view_as(logps)).sum().backward()
        found.append((logps.detach(), {name: weight.grad for name, weight in model.named_parameters()}))
    (full, gradients), (logps, others) = found
    assert logps.dtype is torch.float32
    assert_close(logps, full, atol=tolerance, rtol=0)
    for name, gradient in gradients.items():
        assert_close(others[name], gradient, atol=float(gradient.abs().max()) * (1e-2 if half else 1e-6), rtol=0, msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("head", ["full", "chunked"])
@pytest.mark.parametrize("overrides", [(), LORA], ids=["all weights", "lora"])
def test_a_run_in_16_bits_starts_with_ratios_of_one(trained, overrides, head):
    figures = first(*trained(HALF, *overrides, f"model.head={head}", folder=head))
    assert figures["ratio"] == pytest.approx(1, abs=2e-3)
    assert figures["kl"] == pytest.approx(0, abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("overrides", [(), LORA], ids=["all weights", "lora"])
def test_stored_log_probs_are_those_of_the_initial_policy_in_16_bits(trained, overrides):
    line, store = trained(HALF, *overrides, "model.head=full", folder="full")
    examples, table = ExampleTable(store.path(line.examples) / "train"), LogpTable(store.path(line.reference_logps))
    pad = load_tokenizer(store.path(line.tokenizer)).pad_token_id
    stored = np.concatenate([table.row(i) for i in table.rows])
    expected = {}
    for weights in (torch.float32, torch.bfloat16):
        model = AutoModelForCausalLM.from_pretrained(line.settings.model.path, dtype=weights)
        with torch.autocast("cpu", torch.bfloat16):
            logps = batch_logps(ResponseLogps(model), examples, table.rows.tolist(), pad, 8192)
        expected[weights] = np.concatenate(logps)
    mine, other = (torch.float32, torch.bfloat16) if not overrides else (torch.bfloat16, torch.float32)
    np.testing.assert_allclose(stored, expected[mine], atol=1e-3)
    assert np.abs(stored - expected[other]).max() > 1e-2


@pytest.mark.slow
def test_states_of_prompts_are_computed_in_the_numbers_of_training(options, tmp_path):
    others = [option for option in options if not option.startswith("values")]
    settings = composed(*others, HALF, "values=data", "values.epochs=1")
    line, store = Pipeline(settings), opened(tmp_path, settings.runtime)
    found = []

    def noting(model, prompts, pad, tokens):
        found.append(({weight.dtype for weight in model.parameters()}, torch.is_autocast_enabled("cpu")))
        return prompt_states(model, prompts, pad, tokens)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("aloll_cli.models.value_head.prompt_states", noting)
        store.ensure(line.values)
    assert found
    assert all(pair == ({torch.float32}, True) for pair in found)


@pytest.mark.slow
def test_rollouts_in_16_bits_are_learned_from_at_ratios_of_one_and_start_at_no_distance_from_pi_ref(trained):
    figures = first(*trained(HALF, "variant=ppo", "variant.rollout_size=8", "variant.epochs=1"))
    assert figures["ratio_old"] == pytest.approx(1, abs=2e-3)
    assert figures["kl_reference"] == pytest.approx(0, abs=1e-2)


@pytest.mark.slow
def test_attention_and_kind_of_training_are_part_of_stored_log_probs_in_16_bits_only(options):
    def prints(*overrides):
        line = Pipeline(composed(*options, *overrides))
        return [artifact.fingerprint for artifact in (line.reference_logps, line.values)]

    assert prints() == prints("attn=eager") == prints(*LORA)
    every = [prints(HALF), prints(HALF, "attn=eager"), prints(HALF, *LORA)]
    assert [len(set(column)) for column in zip(*every, strict=True)] == [3, 3]
    assert prints(HALF) == prints(HALF, "model.head=chunked") == prints(HALF, "micro_batch_size=2")


@pytest.mark.parametrize(
    ("overrides", "helps"),
    [pytest.param((), "", marks=pytest.mark.slow), ((HALF,), r"\. Else set model\.dtype=float32\.")],
    ids=["32 bits", "16 bits"],
)
def test_log_probs_of_another_model_are_refused_with_what_helps(options, tmp_path, monkeypatch, overrides, helps):
    monkeypatch.setattr(start, "TOLERANCE", {True: -1.0, False: -1.0})
    settings = composed(*options, *overrides)
    line, store = Pipeline(settings), opened(tmp_path, settings.runtime)
    folder = re.escape(str(store.path(line.reference_logps)))
    with pytest.raises(UserError, match=r"does not reproduce the stored reference log-probs: median") as raised:
        store.ensure(line.policy)
    assert re.fullmatch(rf"If they come from another machine, compute them again: rm -r {folder}{helps}", raised.value.args[1])
