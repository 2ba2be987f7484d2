"""PPO by hand, and rollouts that end with the same bits however they are interrupted."""

from functools import cache
from math import exp

import numpy as np
import pytest
import torch
from tiny import composed, llama, opened, reviews, tokenizer
from torch.testing import assert_close

from aloll_cli.artifacts.line import Line
from aloll_cli.files import read_json_lines
from aloll_cli.variants.base import Batch
from aloll_cli.variants.ppo import Ppo

PPO = Ppo(clip=0.2, beta=0.1, rollout_size=64, epochs=4)

# ratios e^0.1 and e^0.5 | e^−0.5 and, at padding, 1
LOGPS = [[-1.0, -2.0], [-1.5, 0.0]]
OLD = [[-1.1, -2.5], [-1.0, 0.0]]


def batch(advantages):
    logps = torch.tensor(LOGPS)
    return Batch(
        logps=logps.clone().requires_grad_(),
        behaviour_logps=torch.tensor(OLD),
        weights=torch.tensor(advantages),
        rewards=torch.zeros(2),
        group=torch.arange(2),
        mask=(logps != 0).long(),
    )


def loss_and_gradient(advantages):
    given = batch(advantages)
    loss = PPO.loss(given)
    (gradient,) = torch.autograd.grad(loss.sum(), given.logps)
    return loss.detach(), gradient


def test_advantages_worked_by_hand():
    # R − 0.1 Σ ln r − V
    found = PPO.advantages(np.array([0.9, 0.2]), np.array([2.0, -3.0]), np.array([0.5, 0.4]))
    np.testing.assert_allclose(found, [0.9 - 0.2 - 0.5, 0.2 + 0.3 - 0.4])


def test_the_surrogate_of_good_responses_gains_nothing_above_the_clip():
    # A = 2: r = e^0.1 stays, e^0.5 is clipped to 1.2 and has no gradient. A = 1: r = e^−0.5 is below 0.8, and min keeps it
    loss, gradient = loss_and_gradient([2.0, 1.0])
    assert_close(loss, torch.tensor([-2 * (exp(0.1) + 1.2), -exp(-0.5)]))
    assert_close(gradient, torch.tensor([[-2 * exp(0.1), 0.0], [-exp(-0.5), 0.0]]))


def test_the_surrogate_of_bad_responses_gains_nothing_below_the_clip():
    # A = −2: min keeps r = e^0.1 and e^0.5, which are worse than 1.2. A = −1: r = e^−0.5 is clipped to 0.8
    loss, gradient = loss_and_gradient([-2.0, -1.0])
    assert_close(loss, torch.tensor([2 * (exp(0.1) + exp(0.5)), 0.8]))
    assert_close(gradient, torch.tensor([[2 * exp(0.1), 2 * exp(0.5)], [0.0, 0.0]]))


def test_what_is_logged_of_an_update():
    found = PPO.metrics(batch([2.0, -1.0]))
    assert found["clip_fraction"].tolist() == [0.5, 1.0]
    assert found["advantage"].tolist() == [2.0, -1.0]


UPDATES = 6
COMMON = [
    "task.max_response_tokens=12", "task.stop=[]", "model=pretrained", "reference=pretrained", "values=constant",
    "values.value=0.1", "variant=ppo", "variant.rollout_size=16", "variant.epochs=2", "batch_size=8", "micro_batch_size=3",
    f"updates={UPDATES}", "eval_every=6", "eval_prompts=2", "optimizer.lr=0.01", "checkpoint_every=3",
]  # fmt: skip
LORA = ["adapter=lora", "adapter.r=4", "adapter.dropout=0"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The updates and the log of a policy trained by some overrides, once for each."""
    root = tmp_path_factory.mktemp("ppo")
    reviews(root / "rows")
    llama().save_pretrained(root / "model")
    tokenizer().save_pretrained(root / "model")

    @cache
    def train(*overrides):
        settings = composed(f"task.path={root / 'rows'}", f"model.path={root / 'model'}", *COMMON, *overrides)
        made = opened(root / ("out " + " ".join(overrides)), settings.runtime).ensure(Line(settings).policy)
        return read_json_lines(made / "metrics.jsonl"), (made / "log.txt").read_text()

    return train


def test_a_rollout_is_drawn_every_so_many_updates_and_starts_from_ratios_of_one(trained):
    records, log = trained()
    # 2 passes over 16 responses, 8 an update: updates 1 and 5 begin a rollout
    assert [record["update"] for record in records if "samples" in record] == [1, 5]
    for record in records:
        first_of_a_rollout = record["update"] in (1, 5)
        assert (record["ratio_old"] == pytest.approx(1, abs=1e-5)) == first_of_a_rollout
        assert record["kl_old"] < 1e-9 if first_of_a_rollout else record["kl_old"] > 1e-4
    first, second = (record for record in records if "samples" in record)
    assert first["samples"] == second["samples"] == 16
    assert 0 < first["sampled_tokens"] <= 16 * 13
    assert first["kl_reference"] == pytest.approx(0, abs=1e-4)
    assert abs(second["kl_reference"]) > 1e-2
    assert "log-probs of new responses under the reference: a second model in memory" in log


def test_the_mean_advantage_of_a_first_pass_is_the_rollouts_reward_above_its_value(trained):
    records, _ = trained()
    seen = (records[0]["advantage"] + records[1]["advantage"]) / 2
    assert seen == pytest.approx(records[0]["sampled_reward"] - 0.1 - 0.02 * records[0]["kl_reference"], abs=1e-6)


@pytest.mark.parametrize("reference", ["pretrained", "trained"])  # the model alone; with an adapter of its own
def test_an_adapter_as_it_was_is_the_reference(trained, reference):
    records, log = trained(*LORA, f"reference={reference}")
    assert "the policy's, with its adapter as it was" in log
    first, second = (record for record in records if "samples" in record)
    assert first["kl_reference"] == pytest.approx(0, abs=1e-4)
    assert abs(second["kl_reference"]) > 1e-4  # it is on again, and trains
    assert records[3]["kl_old"] > 0


@pytest.mark.parametrize("drawn", ["seed=2", "variant.rollout_size=24"])
def test_other_seeds_and_sizes_draw_other_rollouts(trained, drawn):
    records, others = trained()[0], trained(drawn)[0]
    assert records[1]["loss"] != others[1]["loss"]
