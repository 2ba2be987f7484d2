from math import cos, pi

import pytest
import torch
from tiny import composed

from aloll_cli.models.optimizers import Adamw, Schedule
from aloll_cli.training.sampling import Draws


def adamw(**options):
    given = {
        "lr": 0.1, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.0, "schedule": Schedule.linear, "warmup_updates": 0,
        "max_grad_norm": None, "eight_bit": False, "paged": False,
    }  # fmt: skip
    return Adamw(**(given | options))


def rates(updates, **options):
    optimizer = adamw(**options)
    return [optimizer.lr_at(update, updates) for update in range(updates)]


def test_the_linear_schedule_counts_updates_down_to_nothing():
    assert rates(5) == pytest.approx([0.1, 0.08, 0.06, 0.04, 0.02])


def test_the_cosine_schedule_follows_half_a_wave():
    assert rates(4, schedule=Schedule.cosine) == pytest.approx([0.1 * (1 + cos(pi * k / 4)) / 2 for k in range(4)])
    assert rates(4, schedule=Schedule.cosine)[2] == pytest.approx(0.05)


@pytest.mark.parametrize("schedule", Schedule)
def test_warm_up_is_honoured_by_every_schedule(schedule):
    found = rates(10, schedule=schedule, warmup_updates=4)
    assert found[:4] == pytest.approx([0.025, 0.05, 0.075, 0.1])
    assert found[4] == pytest.approx(0.1)


def test_schedules_after_the_warm_up_worked_by_hand():
    assert rates(6, warmup_updates=2) == pytest.approx([0.05, 0.1, 0.1, 0.075, 0.05, 0.025])
    assert rates(6, warmup_updates=2, schedule=Schedule.constant) == pytest.approx([0.05, 0.1, 0.1, 0.1, 0.1, 0.1])
    assert rates(6, warmup_updates=2, schedule=Schedule.cosine)[4] == pytest.approx(0.05)


def test_a_warm_up_as_long_as_the_run_only_climbs():
    assert rates(3, warmup_updates=3) == pytest.approx([0.1 / 3, 0.2 / 3, 0.1])


def after_a_step_without_gradient(weight_decay):
    parameter = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
    optimizer = adamw(weight_decay=weight_decay).build([parameter])
    parameter.grad = torch.zeros(2)
    optimizer.step()
    return parameter.detach()


def test_a_weight_decay_of_zero_stays_zero():
    assert torch.equal(after_a_step_without_gradient(0.0), torch.tensor([1.0, -2.0]))


def test_weight_decay_shrinks_by_lr_times_decay():
    torch.testing.assert_close(after_a_step_without_gradient(0.5), torch.tensor([0.95, -1.9]))


def test_the_first_step_moves_by_the_learning_rate_against_the_gradient():
    parameter = torch.nn.Parameter(torch.tensor([1.0, 1.0]))
    optimizer = adamw().build([parameter])
    parameter.grad = torch.tensor([3.0, -0.01])
    optimizer.step()
    torch.testing.assert_close(parameter.detach(), torch.tensor([0.9, 1.1]), atol=1e-5, rtol=0)


def test_frozen_parameters_are_left_out():
    trained, frozen = torch.nn.Parameter(torch.ones(1)), torch.nn.Parameter(torch.ones(1), requires_grad=False)
    assert adamw().build([trained, frozen]).param_groups[0]["params"] == [trained]


def draws(updates, epochs):
    return Draws(batch_size=16, seed=1, updates=updates, epochs=epochs)


def test_epochs_count_passes_over_the_kept_units_and_updates_are_exact():
    assert draws(None, 2.0).steps(100) == 13
    assert draws(None, 0.001).steps(100) == 1
    assert draws(7, None).steps(100) == 7


def test_a_warm_up_that_is_not_shorter_than_training_is_warned_of():
    optimizer = composed("optimizer.warmup_updates=50", "optimizer.lr=0.001").optimizer
    assert optimizer.doubt(51) is None
    assert optimizer.doubt(1) == (
        "optimizer.warmup_updates=50 is not shorter than training (1 steps): at its end the learning rate reaches 2% of "
        "optimizer.lr=0.001"
    )
    assert composed("optimizer.warmup_updates=0").optimizer.doubt(1) is None
