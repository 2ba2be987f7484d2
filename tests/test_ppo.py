"""PPO, RLOO and GRPO by hand, and rollouts that end with the same bits however they are interrupted."""

import signal
from dataclasses import fields
from functools import cache
from math import exp

import numpy as np
import pytest
import torch
from tiny import composed, in_two, llama, opened, reviews, tokenizer
from torch.testing import assert_close

from aloll_cli.artifacts.pipeline import Pipeline
from aloll_cli.command import Command
from aloll_cli.errors import UserError
from aloll_cli.files import read_json_lines
from aloll_cli.models.logprobs import ResponseLogps
from aloll_cli.rewards.base import Row
from aloll_cli.runtime.world import Alone
from aloll_cli.stopping import Interrupted, Stopper
from aloll_cli.store.store import Job, Store
from aloll_cli.training.loop import Trainer
from aloll_cli.training.sampling import Draws
from aloll_cli.variants.base import Batch
from aloll_cli.variants.grpo import Grpo
from aloll_cli.variants.ppo import Ppo
from aloll_cli.variants.rloo import Rloo

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
    # S = R − 0.1 h − V = 0.2, 0.1, −0.6 with a mean of −0.1
    found = PPO.advantages(np.array([0.9, 0.2, 0.6]), np.array([2.0, -3.0, 6.0]), np.array([0.5, 0.4, 0.6]))
    np.testing.assert_allclose(found, [0.3, 0.2, -0.5])


RLOO = Rloo(rollout_size=4, samples=2, epochs=1, beta=0.1)
GRPO = Grpo(rollout_size=6, samples=3, epochs=1, clip=0.2, beta=0.5)


def test_advantages_of_rloo_leave_the_sample_itself_out():
    # S = R − 0.1 h: 0.8, 0.5 | 0, 1; with two samples the other one is the baseline
    found = RLOO.advantages(np.array([1.0, 0.2, 0.0, 1.0]), np.array([2.0, -3.0, 0.0, 0.0]), np.zeros(4))
    np.testing.assert_allclose(found, [0.3, -0.3, -1.0, 1.0])


@pytest.mark.parametrize(("rollout", "epochs", "steps"), [(8, 1, 2), (4, 3, 3), (8, 3, 6)])
def test_rloo_refuses_more_than_one_step_on_a_rollout(rollout, epochs, steps):
    RLOO.check((0, 1), 4)
    with pytest.raises(UserError, match=f"variant=rloo would take {steps} steps on each rollout") as refused:
        Rloo(rollout_size=rollout, samples=2, epochs=epochs, beta=0.1).check((0, 1), 4)
    assert refused.value.args[1] == "variant.rollout_size=4 variant.epochs=1, or variant=grpo"


def test_the_loss_of_rloo_is_the_advantages_times_the_likelihood():
    given = batch([2.0, -1.0])
    loss = RLOO.loss(given)
    (gradient,) = torch.autograd.grad(loss.sum(), given.logps)
    assert_close(loss.detach(), torch.tensor([6.0, -1.5]))
    assert_close(gradient * given.mask, torch.tensor([[-2.0, -2.0], [1.0, 0.0]]))


def test_advantages_of_grpo_are_standardized_within_a_prompt():
    # 0, 1, 2 with a standard deviation of 1; equal rewards have no advantage
    found = GRPO.advantages(np.array([0.0, 1.0, 2.0, 5.0, 5.0, 5.0]), np.zeros(6), np.zeros(6))
    np.testing.assert_allclose(found, np.array([-1, 0, 1, 0, 0, 0]) / 1.0001)


def test_the_loss_of_grpo_worked_by_hand():
    given = batch([1.0, -1.0])
    reference = torch.tensor([[-1.0, -1.0], [-2.0, 0.0]])  # d = 0, 1 | −½
    given = Batch(given.logps, given.behaviour_logps, given.weights, given.rewards, given.group, given.mask, reference)
    loss = GRPO.loss(given)
    # ratios e^0.1 and, of e^0.5, 1.2; then max(e^−0.5, 0.8): the pessimistic side of a negative advantage
    penalties = [exp(1) - 2, exp(-0.5) + 0.5 - 1]
    expected = [(-exp(0.1) - 1.2 + 0.5 * penalties[0]) / 2, 0.8 + 0.5 * penalties[1]]
    assert_close(loss.detach(), torch.tensor(expected))
    (gradient,) = torch.autograd.grad(loss.sum(), given.logps)
    # of r A, where it is the smaller side, and of β (e^d − d − 1): −β (e^d − 1)
    by_token = [[-exp(0.1) / 2, -0.25 * (exp(1) - 1)], [-0.5 * (exp(-0.5) - 1), 0.0]]
    assert_close(gradient * given.mask, torch.tensor(by_token))


def test_a_rollout_holds_whole_groups():
    with pytest.raises(
        UserError, match=r"variant.rollout_size=16 is not a multiple of variant.samples=3.\nvariant.rollout_size=18"
    ):
        Rloo(rollout_size=16, samples=3, epochs=1, beta=0.1).check((0.0, 1.0), 8)


def test_a_penalty_that_all_responses_share_changes_no_advantage():
    rewards, log_ratios, values = np.array([0.9, 0.2, 0.6]), np.array([2.0, -3.0, 6.0]), np.array([0.5, 0.4, 0.6])
    near, far = (PPO.advantages(rewards, log_ratios + moved, values) for moved in (0.0, 60.0))
    np.testing.assert_allclose(far, near, atol=1e-12)


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
    "task.max_response_tokens=12", "task.stop=[]", "model=pretrained", "reference=pretrained", "reward=length", "values=constant",
    "values.value=0.1", "variant=ppo", "variant.rollout_size=16", "variant.epochs=2", "batch_size=8", "micro_batch_size=3",
    f"updates={UPDATES}", "eval_every=6", "eval_prompts=2", "optimizer.lr=0.01", "checkpoint_every=3",
]  # fmt: skip
TRAINED = ["reference=trained", "reference.updates=2", "reference.eval_every=2", "reference.batch_size=8"]
LORA = ["adapter=lora", "adapter.r=4", "adapter.dropout=0"]


def stop(place, settings, after):
    """Train until a signal comes after an update of PPO."""
    stopper, record = Stopper(None), Trainer._record
    store = Store(place, settings.runtime, Alone(), stopper, Command("train"), {})

    def stopping(self, name, figures):
        record(self, name, figures)
        if self.label.startswith("ppo") and figures["update"] == after:
            stopper._note(signal.SIGTERM, None)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "_record", stopping)
        with pytest.raises(Interrupted):
            store.ensure(Pipeline(settings).policy)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The updates and the log of a policy trained by some overrides, once for each; or stopped in between and gone on with."""
    root = tmp_path_factory.mktemp("ppo")
    reviews(root / "rows")
    llama().save_pretrained(root / "model")
    tokenizer().save_pretrained(root / "model")

    @cache
    def train(*overrides, stopped_after=None):
        settings = composed(f"task.path={root / 'rows'}", f"model.path={root / 'model'}", *COMMON, *overrides)
        place = root / f"out {' '.join(overrides)} {stopped_after}"
        if stopped_after is not None:
            stop(place, settings, stopped_after)
        made = opened(place, settings.runtime).ensure(Pipeline(settings).policy)
        return read_json_lines(made / "metrics.jsonl"), (made / "log.txt").read_text()

    return train


@pytest.mark.slow
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
    assert "reference policy: a second model in memory" in log


@pytest.mark.slow
def test_the_mean_advantage_of_each_pass_over_a_rollout_is_zero(trained):
    records, _ = trained()
    means = [(records[i]["advantage"] + records[i + 1]["advantage"]) / 2 for i in range(0, UPDATES, 2)]
    assert means == pytest.approx([0.0] * 3, abs=1e-6)
    assert max(abs(record["advantage"]) for record in records) > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("reference", [["reference=pretrained"], TRAINED])  # the model alone; with an adapter of its own
def test_an_adapter_as_it_was_is_the_reference(trained, reference):
    records, log = trained(*LORA, *reference)
    assert "reference policy: the same model with its initial adapter weights" in log
    first, second = (record for record in records if "samples" in record)
    assert first["kl_reference"] == pytest.approx(0, abs=1e-4)
    assert abs(second["kl_reference"]) > 1e-4  # it is on again, and trains
    assert records[3]["kl_old"] > 0


@pytest.fixture
def source(tmp_path):
    """Opens rollouts with another value for each prompt, and a policy that is π_ref."""
    reviews(tmp_path / "rows")
    llama().save_pretrained(tmp_path / "model")
    tokenizer().save_pretrained(tmp_path / "model")
    settings = composed(f"task.path={tmp_path / 'rows'}", f"model.path={tmp_path / 'model'}", *COMMON)
    made, store = Pipeline(settings), opened(tmp_path / "out", settings.runtime)
    for needed in made.policy.data.inputs().values():
        store.ensure(needed)
    store.ensure(made.examples)
    job = Job(tmp_path, store, settings.runtime, Alone(), store.log, Stopper(None))

    def rollouts():
        found = made.policy.data.open(job, Draws(batch_size=8, seed=1, updates=4, epochs=None), tokenizer(), llama())
        found.values = np.linspace(0.0, 1.0, len(found.values))
        return found

    return rollouts


@pytest.mark.slow
def test_each_response_has_its_own_advantage(source):
    rollouts = source()
    rollouts.prepare(0, ResponseLogps(llama().eval()), Alone())
    rows, examples, scorer = rollouts.rows, rollouts.responder.examples, rollouts.responder.load_scorer()
    assert len(rows.responses) == 16
    scores = np.zeros(16)
    for row, prompt in enumerate(rollouts._rollout.prompts):
        of_prompt = int(np.flatnonzero(examples.groups[1] == prompt)[0])
        text = tokenizer().decode(rows.responses.response_ids(row), skip_special_tokens=True)
        prompt_text = examples.at([int(prompt)], ["prompt"]).to_pylist()[0]["prompt"]
        (reward,) = scorer.score([Row("it", 0, prompt_text, text)])
        assert rows.rewards[row] == pytest.approx(reward)
        scores[row] = reward - rollouts.values[of_prompt]
    np.testing.assert_allclose(rows.weights, scores - scores.mean(), atol=1e-4)  # the policy is π_ref: h = 0
    assert len(set(rows.weights.round(3))) > 8


@pytest.mark.slow
def test_two_processes_draw_the_rollout_of_one(source):
    alone, both = source(), [source(), source()]
    alone.prepare(0, ResponseLogps(llama().eval()), Alone())
    modules = [ResponseLogps(llama().eval()) for _ in both]
    figures = in_two(lambda world: both[world.rank].prepare(0, modules[world.rank], world))
    assert figures[0] == figures[1]
    assert alone._rollout.reference is None
    for field in fields(alone._rollout)[:-1]:
        expected, *found = (getattr(one._rollout, field.name) for one in (alone, *both))
        for value in found:
            np.testing.assert_allclose(value, expected, atol=1e-5, err_msg=field.name)


@pytest.mark.slow
def test_a_later_rollout_draws_other_responses_from_the_same_policy(source):
    rollouts, module, drawn = source(), ResponseLogps(llama().eval()), []
    for update in (0, 4):
        rollouts.prepare(update, module, Alone())
        responses = rollouts.rows.responses
        drawn.append({(int(row), tuple(responses.response_ids(i))) for i, row in enumerate(responses.prompts)})
    first, second = drawn
    assert {prompt for prompt, _ in first} & {prompt for prompt, _ in second}
    assert not first & second


@pytest.mark.slow
def test_a_stopped_policy_goes_on_with_the_adapter_as_it_was_at_its_start(trained):
    overrides = (*LORA, *TRAINED)
    whole, _ = trained(*overrides)
    broken, log = trained(*overrides, stopped_after=3)
    assert "resumed after step 3 of 6" in log
    assert [record["kl_reference"] for record in broken if "samples" in record] == [
        record["kl_reference"] for record in whole if "samples" in record
    ]
    assert [record["loss"] for record in broken] == [record["loss"] for record in whole]


@pytest.mark.slow
@pytest.mark.parametrize("drawn", ["seed=2", "variant.rollout_size=24"])
def test_other_seeds_and_sizes_draw_other_rollouts(trained, drawn):
    records, others = trained()[0], trained(drawn)[0]
    assert records[1]["loss"] != others[1]["loss"]
