"""Methods that compare the responses to a prompt, by hand."""

from dataclasses import replace
from math import exp, log, log1p

import numpy as np
import pytest
import torch
from tiny import llama, tokenizer
from torch.testing import assert_close

from aloll_cli.artifacts.as_seen import Pairs, count_pairs
from aloll_cli.models.logprobs import ResponseLogps
from aloll_cli.text.encoding import left_padded, right_padded
from aloll_cli.training.batches import TokenBatch
from aloll_cli.training.sources import packed, ranked, same_texts
from aloll_cli.variants.base import Batch
from aloll_cli.variants.dpo import Dpo
from aloll_cli.variants.dpo_ref_free import DpoRefFree
from aloll_cli.variants.infonca import Infonca
from aloll_cli.variants.ipo import Ipo
from aloll_cli.variants.nca import Nca
from aloll_cli.variants.pro import Pro, Scale
from aloll_cli.variants.rebel import Rebel

# a pair and a group of three; sums −3, −3.5 | −2, −4, −3, means −1.5, −1.75 | −2, −2, −3
LOGPS = [[-1.0, -2.0], [-0.5, -3.0], [-2.0, 0.0], [-1.0, -3.0], [-3.0, 0.0]]
BEHAVIOUR = [[-2.0, -2.0], [-0.5, -2.0], [-1.5, 0.0], [-2.0, -2.5], [-3.0, 0.0]]
REWARDS = [2.0, 0.5, 3.0, 1.0, 0.0]
GROUP = [0, 0, 1, 1, 1]
# ln ρ = 1, −1 | −½, ½, 0


def batch(rows=slice(None), rewards=REWARDS, group=GROUP):
    logps = torch.tensor(LOGPS[rows])
    mask = (logps != 0).long()
    return Batch(
        logps=logps.requires_grad_(),
        behaviour_logps=torch.tensor(BEHAVIOUR[rows]),
        weights=torch.ones(len(logps)),
        rewards=torch.tensor(rewards[rows]),
        group=torch.tensor(group[rows]),
        mask=mask,
    )


def loss_and_gradient(variant, given):
    loss = variant.loss(given)
    (gradient,) = torch.autograd.grad(loss.sum(), given.logps)
    return loss.detach(), gradient


def softplus(z):
    return log1p(exp(z))


def sigmoid(z):
    return 1 / (1 + exp(-z))


def test_dpo_of_a_pair_and_of_three_worked_by_hand():
    # β = 0.5: h = ½, −½ | −¼, ¼, 0. The pair: −ln σ(1). The three: pairs (0,1), (0,2), (1,2) with margins −½, −¼, ¼
    loss, gradient = loss_and_gradient(Dpo(beta=0.5), batch())
    assert_close(loss, torch.tensor([softplus(-1), (softplus(0.5) + softplus(0.25) + softplus(-0.25)) / 3]))
    pair = 0.5 * sigmoid(-1)
    a, b, c = (0.5 * sigmoid(z) / 3 for z in (0.5, 0.25, -0.25))
    by_response = [-pair, pair, -a - b, a - c, b + c]
    mask = batch().mask  # log-probs are 0 at padding, whatever the weights
    assert_close(gradient * mask, torch.tensor(by_response)[:, None] * mask)


def test_dpo_without_a_reference_takes_the_likelihood_itself():
    loss, _ = loss_and_gradient(DpoRefFree(beta=0.5), batch(slice(2)))
    assert_close(loss, torch.tensor([softplus(-0.5 * (-3 + 3.5))]))
    assert not DpoRefFree(beta=0.5).needs_behaviour


def test_dpo_logs_how_many_pairs_are_in_order_and_by_how_much():
    found = Dpo(beta=0.5).metrics(batch())
    assert_close(found["pair_accuracy"], torch.tensor([1.0, 1 / 3]))
    assert_close(found["margin"], torch.tensor([1.0, (-0.5 - 0.25 + 0.25) / 3]))


def test_ipo_worked_by_hand():
    # 1/(2τ) = 2. The pair: margin 1 − (−1). The three: margins −1, −½, ½ of the pairs (0,1), (0,2), (1,2)
    loss, gradient = loss_and_gradient(Ipo(tau=0.25, per_token=False), batch())
    assert_close(loss, torch.tensor([0.0, (9 + 6.25 + 2.25) / 3]))
    a, b, c = (2 * z / 3 for z in (-3, -2.5, -1.5))
    mask = batch().mask
    assert_close(gradient * mask, torch.tensor([0.0, 0.0, a + b, c - a, -b - c])[:, None] * mask)


def test_ipo_per_token_divides_log_ratios_by_lengths():
    # h = ½, −½ of two tokens each: (1 − 2)²; of −½, ¼, 0: margins −¾, −½, ¼
    loss, _ = loss_and_gradient(Ipo(tau=0.25, per_token=True), batch())
    assert_close(loss, torch.tensor([1.0, (2.75**2 + 2.5**2 + 1.75**2) / 3]))


def test_rebel_worked_by_hand():
    # β = ½: (½ · 2 − 1.5)²; ½ (−1, −½, ½) − (2, 3, 1)
    loss, gradient = loss_and_gradient(Rebel(beta=0.5), batch())
    assert_close(loss, torch.tensor([0.25, (2.5**2 + 3.25**2 + 0.75**2) / 3]))
    a, b, c = (2 * 0.5 * z / 3 for z in (-2.5, -3.25, -0.75))
    mask = batch().mask
    assert_close(gradient * mask, torch.tensor([-0.5, 0.5, a + b, c - a, -b - c])[:, None] * mask)


def test_infonca_worked_by_hand():
    # α = 1, β = 2: the pair has shares σ(1.5) and σ(−1.5), and scores 2 and −2
    loss, gradient = loss_and_gradient(Infonca(alpha=1.0, beta=2.0), batch())
    share = sigmoid(1.5)
    # the three: shares ∝ e³, e, 1, scores −1, 1, 0
    weights = [exp(3), exp(1), 1.0]
    shares = [w / sum(weights) for w in weights]
    scores = [-1, 1, 0]
    total = log(exp(-1) + exp(1) + 1)
    pair = share * softplus(-4) + (1 - share) * softplus(4)
    assert_close(loss, torch.tensor([pair, -sum(w * (z - total) for w, z in zip(shares, scores, strict=True))]))
    by_response = [
        2 * (sigmoid(4) - share),
        2 * (share - sigmoid(4)),
        *(2 * (exp(z - total) - w) for w, z in zip(shares, scores, strict=True)),
    ]
    mask = batch().mask
    assert_close(gradient * mask, torch.tensor(by_response)[:, None] * mask)


def test_infonca_of_a_pair_with_a_cold_target_is_dpo():
    assert_close(Infonca(alpha=1e-3, beta=0.5).loss(batch(slice(2))), Dpo(beta=0.5).loss(batch(slice(2))))


def test_nca_worked_by_hand():
    loss, gradient = loss_and_gradient(Nca(alpha=1.0, beta=2.0), batch(slice(2)))
    share = sigmoid(1.5)
    # −[share ln σ(2) + (1 − share) ln σ(−2)] − ½ [ln σ(−2) + ln σ(2)]
    assert_close(loss, torch.tensor([share * softplus(-2) + (1 - share) * softplus(2) + 0.5 * (softplus(2) + softplus(-2))]))
    by_response = [-2 * share * sigmoid(-2) + sigmoid(2), -2 * (1 - share) * sigmoid(2) + sigmoid(-2)]
    mask = batch(slice(2)).mask
    assert_close(gradient * mask, torch.tensor(by_response)[:, None] * mask)


def test_nca_counts_the_responses_of_each_prompt():
    # with equal shares and log-ratios of 0 every response costs ln 2 twice, whatever their number
    given = batch(rewards=[1.0] * 5)
    zero = Batch(torch.tensor(BEHAVIOUR), torch.tensor(BEHAVIOUR), given.weights, given.rewards, given.group, given.mask)
    assert_close(Nca(alpha=1.0, beta=2.0).loss(zero), torch.tensor([2 * log(2)] * 2))


def test_pro_of_two_worked_by_hand():
    # τ = T = 1.5: ln(e^{−1.5·1.5} + e^{−1.75·1.5}) + 2.25 = ln(1 + e^{−0.375}), and 0.05 · 1² · 3
    loss, gradient = loss_and_gradient(Pro(sft_weight=0.05, scale=Scale.given), batch(slice(2)))
    assert_close(loss, torch.tensor([softplus(-0.375) + 0.05 * 3]))
    # the softmax gives y_2 the share p = σ(−0.375): d/ds_1 = −p T, d/ds_2 = p τ, each token a half of it; and −0.05
    p = sigmoid(-0.375)
    assert_close(gradient, torch.tensor([[-p * 0.75 - 0.05] * 2, [p * 0.75] * 2]))


def test_pro_of_three_worked_by_hand():
    # R = 3, 1, 0: τ_1 = 2, 3, T_1 = 3; τ_2 = 1 = T_2; s = −2, −2, −3
    first = log(exp(-2 * 3) + exp(-2 * 2) + exp(-3 * 3)) + 6
    second = log(exp(-2) + exp(-3)) + 2
    loss, _ = loss_and_gradient(Pro(sft_weight=0.05, scale=Scale.given), batch(slice(2, 5), group=[9, 9, 0, 0, 0]))
    assert_close(loss, torch.tensor([first + second + 0.05 * 4 * 2]))


def test_pro_takes_rewards_before_their_sigmoid():
    logits = [0.4, -1.1, 2.0, 0.0, -0.5]
    squashed = batch(rewards=[sigmoid(z) for z in logits])
    assert_close(
        Pro(sft_weight=0.1, scale=Scale.logit).loss(squashed), Pro(sft_weight=0.1, scale=Scale.given).loss(batch(rewards=logits))
    )
    certain = Pro(sft_weight=0.1, scale=Scale.logit).loss(batch(rewards=[1.0, 0.0, 1.0, 0.5, 0.0]))
    assert certain.isfinite().all()


@pytest.mark.parametrize(
    ("variant", "margin"),
    [
        (Infonca(alpha=0.5, beta=0.1), 30.0),
        (Nca(alpha=0.5, beta=0.1), 30.0),
        (Rebel(beta=0.1), 15.0),
        (Ipo(tau=0.1, per_token=False), 5.0),
    ],
)
def test_the_loss_of_two_responses_is_smallest_at_the_optimal_margin(variant, margin):
    # rewards differ by 1.5; each response's own h is free
    assert variant.optimal_margin(1.5) == pytest.approx(margin)
    h = torch.zeros(2, 1, dtype=torch.float64, requires_grad=True)
    exact = {"max_iter": 1000, "tolerance_grad": 1e-12, "tolerance_change": 1e-14, "line_search_fn": "strong_wolfe"}
    optimizer = torch.optim.LBFGS([h], **exact)

    def closure():
        optimizer.zero_grad()
        own = Batch(h, torch.zeros(2, 1), torch.ones(2), torch.tensor([2.0, 0.5]), torch.zeros(2).long(), torch.ones(2, 1))
        loss = variant.loss(own).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    assert (h[0] - h[1]).item() == pytest.approx(margin, rel=1e-4)


@pytest.mark.parametrize("variant", [Dpo(beta=0.1), Ipo(tau=0.1, per_token=True), Pro(sft_weight=0.05, scale=Scale.given)])
def test_methods_without_a_finite_optimum_name_no_margin(variant):
    assert variant.optimal_margin(1.5) is None


@pytest.mark.parametrize(
    ("variant", "expected"),
    [
        (Dpo(beta=0.5), (softplus(0.5) + softplus(0.25)) / 2),  # margins −½, −¼
        (DpoRefFree(beta=0.5), (softplus(-1) + softplus(-0.5)) / 2),
        # τ_1 = 2, 2 = T_1; s = −2, −2, −3
        (Pro(sft_weight=0.05, scale=Scale.given), log(exp(-4) + exp(-4) + exp(-6)) + 4 + 0.05 * 4 * 2),
    ],
)
def test_responses_of_equal_reward_are_not_held_against_each_other(variant, expected):
    # y_2 and y_3 tie: what is left are the pairs (1,2) and (1,3)
    loss, gradient = loss_and_gradient(variant, batch(rewards=[2.0, 0.5, 3.0, 1.0, 1.0]))
    assert float(loss[1]) == pytest.approx(expected)
    assert gradient.isfinite().all()


@pytest.mark.parametrize("variant", [Dpo(beta=0.5), DpoRefFree(beta=0.5), Pro(sft_weight=0.05, scale=Scale.given)])
def test_a_group_costs_the_same_in_any_company(variant):
    together = variant.loss(batch())
    alone = torch.cat([variant.loss(batch(slice(2))), variant.loss(batch(slice(2, 5), group=[9, 9, 0, 0, 0]))])
    assert_close(together, alone)


def test_groups_are_ranked_by_reward_and_kept_where_rewards_differ():
    groups = np.array([0, 1, 0, 2, 1, 0, 3, 3])
    rewards = np.array([0.2, 0.5, 0.9, 0.1, 0.5, 0.4, 0.0, 0.3], dtype=np.float32)
    texts = np.array([b"a", b"b", b"c", b"d", b"e", b"a", b"f", b"g"])
    members, offsets, preferring = ranked(groups, rewards, texts)
    found = [members[a:b].tolist() for a, b in zip(offsets[:-1], offsets[1:], strict=True)]
    assert found == [[2, 5, 0], [1, 4], [3], [7, 6]]
    assert preferring.tolist() == [True, False, False, True]


def test_a_prompt_whose_responses_are_the_same_tokens_is_left_out_worked_by_hand():
    # prompt 0: one text, 1 and 0 | prompt 1: texts a, a, b with 1, 0, 1: one pair, b and a of 0 | prompt 2: texts a, b, both 1
    groups, rewards = np.array([0, 0, 1, 1, 1, 2, 2]), np.array([1, 0, 1, 0, 1, 1, 1], dtype=np.float32)
    texts = np.array([7, 7, 3, 3, 4, 3, 4], dtype=np.uint64)
    assert ranked(groups, rewards, texts)[2].tolist() == [False, True, False]
    assert count_pairs(groups, rewards, texts) == Pairs(different=1, same=2)
    assert count_pairs(groups, rewards, texts).told == (
        "pairs of responses with different rewards: 3, less 2 whose two responses the model sees as the same"
    )


def test_pairs_are_counted_as_one_by_one():
    random = np.random.default_rng(0)
    groups, texts = random.integers(0, 20, 200), random.integers(0, 3, 200).astype(np.uint64)
    rewards = random.integers(0, 4, 200).astype(np.float32)
    pairs = [(i, j) for i in range(200) for j in range(i) if groups[i] == groups[j] and rewards[i] != rewards[j]]
    same = sum(bool(texts[i] == texts[j]) for i, j in pairs)
    assert 0 < same < len(pairs)
    assert count_pairs(groups, rewards, texts) == Pairs(len(pairs) - same, same)


@pytest.mark.parametrize(
    ("variant", "expected"),
    [
        (Dpo(beta=0.5), (softplus(0.25) + softplus(-0.25)) / 2),  # h = −¼, ¼, 0: margins −¼ and ¼
        (DpoRefFree(beta=0.5), (softplus(-0.5) + softplus(0.5)) / 2),  # h = −1, −2, −1.5
        # s = −2, −2, −3: y_1 against y_3 with τ = T = 3, y_2 against y_3 with τ = T = 1
        (Pro(sft_weight=0.05, scale=Scale.given), softplus(-3) + softplus(-1) + 0.05 * 4 * 2),
    ],
)
def test_responses_of_the_same_tokens_are_no_pair_worked_by_hand(variant, expected):
    given = replace(batch(), text=torch.tensor(same_texts([b"u", b"v", b"x", b"x", b"y"])))
    assert given.text.tolist() == [0, 1, 2, 2, 4]
    loss, gradient = loss_and_gradient(variant, given)
    assert float(loss[1]) == pytest.approx(expected)
    assert gradient.isfinite().all()


def test_micro_batches_never_split_a_group():
    units = [np.arange(size) for size in (2, 2, 1, 5, 3, 1, 1)]
    assert [[len(unit) for unit in batch] for batch in packed(units, 4)] == [[2, 2], [1], [5], [3, 1], [1]]
    assert [len(batch) for batch in packed([np.array([i]) for i in range(8)], 3)] == [3, 3, 2]


def test_loss_and_gradient_of_dpo_are_those_of_trl(tmp_path):
    trl = pytest.importorskip("trl", reason="trl is not installed: pip install -e '.[bench]'")
    from datasets import Dataset

    texts = [("How do I bake", " bread? Mix flour.", " water and salt, then wait."), ("We loved", " the soup", " the garden.")]
    rows = Dataset.from_list([dict(zip(("prompt", "chosen", "rejected"), row, strict=True)) for row in texts])
    policy, reference = llama(seed=0), llama(seed=1)
    config = trl.DPOConfig(
        output_dir=str(tmp_path), beta=0.1, per_device_train_batch_size=2, report_to="none", use_cpu=True, bf16=False,
        gradient_checkpointing=False, disable_dropout=True,
    )  # fmt: skip
    trainer = trl.DPOTrainer(policy, reference, config, train_dataset=rows, processing_class=tokenizer())
    inputs = next(iter(trainer.get_train_dataloader()))
    expected = trainer.compute_loss(trainer.model, inputs)
    expected.backward()
    gradients = {name: weight.grad.clone() for name, weight in policy.named_parameters()}
    policy.zero_grad()

    # the same tokens, chosen ones first; a completion is what its mask says
    ids, is_real, is_completion = (inputs[name] for name in ("input_ids", "attention_mask", "completion_mask"))
    count = len(ids) // 2
    order = [row for pair in range(count) for row in (pair, count + pair)]
    prompts = [ids[i][(is_real[i] == 1) & (is_completion[i] == 0)].numpy() for i in order]
    responses = [ids[i][is_completion[i] == 1].numpy() for i in order]
    tokens = TokenBatch(*left_padded(prompts, 0, "cpu"), *right_padded(responses, 0, "cpu"))
    with torch.no_grad():
        behaviour = tokens.logps(ResponseLogps(reference))
    rewards, group = torch.tensor([1.0, 0.0] * count), torch.arange(count).repeat_interleave(2)
    logps = tokens.logps(ResponseLogps(policy))
    loss = Dpo(beta=0.1).loss(Batch(logps, behaviour, torch.ones(2 * count), rewards, group, tokens.response_mask)).mean()
    loss.backward()
    assert_close(loss, expected, atol=1e-6, rtol=0)
    assert abs(float(expected.detach()) - log(2)) > 0.01  # policy and reference are apart
    for name, weight in policy.named_parameters():
        assert_close(weight.grad, gradients[name], atol=1e-6, rtol=0)
