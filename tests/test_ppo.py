"""PPO by hand, and rollouts that end with the same bits however they are interrupted."""

from math import exp

import numpy as np
import torch
from torch.testing import assert_close

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
