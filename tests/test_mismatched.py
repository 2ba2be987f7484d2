"""Prompts with responses to other prompts: how they are paired, and that all of a step count."""

import numpy as np
import pytest
import torch
from tiny import in_two, llama

from aloll_cli.errors import UserError
from aloll_cli.models.logprobs import ResponseLogps
from aloll_cli.runtime.world import Alone
from aloll_cli.training.mismatched import Mismatched, mismatched_pairs
from aloll_cli.training.sampling import philox

GROUPS = np.array([0, 1, 1, 2, 0, 1, 3])


class Tokens:
    """Seven rows: prompts (10 + row), responses (20 + row, 30 + row)."""

    def prompt_ids(self, row):
        return np.array([10 + row])

    def response_ids(self, row):
        return np.array([20 + row, 30 + row])


class Zeros:
    """Log-probs of 0."""

    def row(self, index):
        return np.zeros(2, dtype=np.float32)


def drawn(steps, seed=1):
    return [philox(seed, step).integers(0, len(GROUPS), 16) for step in range(steps)]


def test_every_row_is_paired_with_a_response_to_another_prompt_and_each_of_those_equally_often():
    rows = [np.full(1000, 2)] * 12
    pairs = mismatched_pairs(lambda rows: Tokens(), GROUPS, rows, seed=1)
    others, counts = np.unique(pairs.responses, return_counts=True)
    assert others.tolist() == [0, 3, 4, 6]  # 1, 2 and 5 are to the same prompt
    assert np.abs(counts / 12_000 - 0.25).max() < 0.02
    mixed = mismatched_pairs(lambda rows: Tokens(), GROUPS, drawn(50), seed=1)
    assert (GROUPS[mixed.prompts] != GROUPS[mixed.responses]).all()
    assert set(mixed.responses) == set(range(len(GROUPS)))
    assert (mixed.prompt_ids(3), *mixed.response_ids(3)) == (10 + mixed.prompts[3], *np.array([20, 30]) + mixed.responses[3])


def test_the_pairs_of_a_step_depend_on_the_seed_and_the_step_alone():
    long, short = (mismatched_pairs(lambda rows: Tokens(), GROUPS, drawn(steps), seed=1) for steps in (5, 2))
    np.testing.assert_array_equal(long.responses[:32], short.responses)
    rows = [np.full(16, 2)] * 2
    first, second = mismatched_pairs(lambda rows: Tokens(), GROUPS, rows, seed=1).responses.reshape(2, 16)
    assert (first != second).any()
    assert (mismatched_pairs(lambda rows: Tokens(), GROUPS, rows, seed=2).responses[:16] != first).any()


def test_without_a_second_prompt_there_are_no_pairs():
    with pytest.raises(UserError, match="all training responses are to one prompt"):
        mismatched_pairs(lambda rows: Tokens(), np.zeros(7, dtype=int), drawn(1), seed=1)


def test_log_ratios_are_those_of_the_whole_step_in_every_process():
    pairs = mismatched_pairs(lambda rows: Tokens(), GROUPS, drawn(3), seed=1)
    found = Mismatched(pairs, Zeros(), 16, 0, 64)
    alone = found.log_ratios(1, ResponseLogps(llama()), Alone())
    for i in (0, 15):
        prompt, response = pairs.prompt_ids(16 + i), pairs.response_ids(16 + i)
        logps = llama()(torch.tensor([[*prompt, *response]])).logits[0, :-1].log_softmax(dim=-1)
        assert alone[i] == pytest.approx(logps[range(2), torch.tensor(response)].sum().item(), rel=1e-5)
    own = [ResponseLogps(llama()) for _ in range(2)]  # built here: threads would share the seed of their weights
    for shared in in_two(lambda world: found.log_ratios(1, own[world.rank], world)):
        np.testing.assert_allclose(shared, alone, rtol=1e-5)
