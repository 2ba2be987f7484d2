"""V(x) that is learned together with the policy: what it starts from, its steps, and its state."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import composed, in_two

from aloll_cli.errors import UserError
from aloll_cli.runtime.world import Alone
from aloll_cli.settings.checks import check_joint
from aloll_cli.training.joint_values import JointValues
from aloll_cli.variants.a_star import AStar
from aloll_cli.variants.base import Batch
from aloll_cli.variants.dpo import Dpo
from aloll_cli.variants.dro import Dro
from aloll_cli.variants.seq import Seq

PROMPTS = np.array([0, 1, 1, 2])
TARGETS = np.array([1.0, -1.0, 0.5, 0.0])
DRO = Dro(tau=1.0, per_token=False)


def values(lr=0.1):
    features = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 1.0]])
    return JointValues(DRO, features, PROMPTS, TARGETS, lr)


def batch(rows, found):
    """Log-ratios are 0, so that V is too large by −A."""
    zeros, count = torch.zeros(len(rows), 1), len(rows)
    weights = torch.tensor(found.targets(np.array(rows)), dtype=torch.float32)
    return Batch(zeros, zeros, weights, torch.zeros(count), torch.arange(count), torch.ones(count, 1))


def learned(found, steps, world=None, rows=(0, 1, 2, 3)):
    world = world or Alone()
    for _ in range(steps):
        mine = list(rows)[world.rank :: world.size]
        found.observe(np.array(mine), batch(mine, found))
        figures = found.learn(world)
    return found.targets(np.arange(4)), figures


def test_it_starts_from_the_initial_value():
    np.testing.assert_array_equal(values().targets(np.array([3, 0])), [0.0, 1.0])


def test_it_learns_the_mean_advantage_of_each_prompt():
    # three prompts, and three numbers to fit them with: A − δ is 0 on average over the responses to each
    left, figures = learned(values(), 400)
    np.testing.assert_allclose([left[0], left[1] + left[2], left[3]], 0, atol=1e-2)
    assert left[2] - left[1] == pytest.approx(1.5)
    assert figures["value_error"] == pytest.approx(0, abs=1e-2)


def test_the_first_error_is_minus_the_mean_advantage_and_the_value_moves_against_it():
    found = values(lr=0.01)
    after, figures = learned(found, 1, rows=(0, 2))
    assert figures["value_error"] == pytest.approx(-0.75)
    assert after[0] < 1.0
    assert after[2] < 0.5


def test_its_state_is_restored_to_the_bit(tmp_path):
    whole, _ = learned(values(), 6)
    half, again = values(), values()
    learned(half, 3)
    half.save(tmp_path)
    again.load(tmp_path)
    np.testing.assert_array_equal(learned(again, 3)[0], whole)


def test_every_process_learns_from_all_responses():
    alone, _ = learned(values(), 5)
    for shared, _ in in_two(lambda world: learned(values(), 5, world)):
        np.testing.assert_allclose(shared, alone, rtol=1e-6)


def test_a_method_that_cannot_learn_v_refuses_such_values():
    settings = composed("variant=dro", "values=joint")
    check_joint(settings)
    check_joint(replace(settings, variant=Dpo(beta=0.1)))  # reads no values
    for variant in (Seq(clip=0.9), AStar(beta=0.1), Dro(tau=1.0, per_token=True)):
        with pytest.raises(UserError, match="values=joint is learned together with the policy, which variant="):
            check_joint(replace(settings, variant=variant))
