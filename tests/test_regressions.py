"""Methods that fit log-ratios to advantages of either sign: by hand, and on a toy whose optimum is known."""

from math import exp, log

import numpy as np
import pytest
import torch
from tiny import composed
from torch.testing import assert_close

from aloll_cli.artifacts.doubts import doubt_samples, doubt_values
from aloll_cli.artifacts.pipeline import Pipeline
from aloll_cli.errors import UserError
from aloll_cli.settings.checks import check
from aloll_cli.values.monte_carlo import log_mean_exp
from aloll_cli.variants.a_star import AStar
from aloll_cli.variants.awr import Awr
from aloll_cli.variants.base import Batch, Logged
from aloll_cli.variants.dro import Dro
from aloll_cli.variants.kto import Kto
from aloll_cli.variants.qrpo import Qrpo
from aloll_cli.variants.topr import Topr

# two responses of two tokens and one; h = ln ρ = 1, −2
LOGPS = [[-1.0, -2.0], [-3.0, 0.0]]
BEHAVIOUR = [[-2.0, -2.0], [-1.0, 0.0]]
MASK = [[1, 1], [1, 0]]


def batch(weights, mismatched=None):
    return Batch(
        mismatched_log_ratios=None if mismatched is None else torch.tensor(mismatched),
        logps=torch.tensor(LOGPS, requires_grad=True),
        behaviour_logps=torch.tensor(BEHAVIOUR),
        weights=torch.tensor(weights),
        rewards=torch.zeros(2),
        group=torch.arange(2),
        mask=torch.tensor(MASK),
    )


def loss_and_gradient(variant, given):
    loss = variant.loss(given)
    (gradient,) = torch.autograd.grad(loss.sum(), given.logps)
    return loss.detach(), gradient * given.mask


def test_awr_worked_by_hand():
    # weights min(e^{A/2}, 2) = e^{−½} and, of e^{1} = 2.718, 2
    loss, gradient = loss_and_gradient(Awr(beta=2.0, max_weight=2.0), batch([-1.0, 2.0]))
    assert_close(loss, torch.tensor([3 * exp(-0.5), 6.0]))
    assert_close(gradient, torch.tensor([[-exp(-0.5)] * 2, [-2.0, 0.0]]))


def test_awr_standardizes_advantages_over_all_responses():
    # A = −1, 0, 4: mean 1, variance (4 + 1 + 9) / 3
    targets = Awr(beta=1.0, max_weight=20.0).targets(Logged(np.array([0.0, 1.0, 5.0]), np.array([1.0, 1.0, 1.0]), None))
    np.testing.assert_allclose(targets, np.array([-2, -1, 3]) / np.sqrt(14 / 3))


def test_topr_worked_by_hand():
    # A ≥ 0 is imitated per token; A < 0 by min(ρ, 1): e^{−2} in the second row, and 1 where ρ = e
    loss, gradient = loss_and_gradient(Topr(), batch([0.5, -1.0]))
    assert_close(loss, torch.tensor([0.5 * 3 / 2, -exp(-2) * 3]))
    assert_close(gradient, torch.tensor([[-0.25, -0.25], [exp(-2), 0.0]]))
    loss, _ = loss_and_gradient(Topr(), batch([-0.5, 1.0]))
    assert_close(loss, torch.tensor([-0.5 * 3 / 2, 3.0]))


def test_topr_of_a_response_that_became_much_likelier_does_not_overflow():
    far = Batch(
        torch.tensor([[-1.0]]),
        torch.tensor([[-900.0]]),
        torch.tensor([-1.0]),
        torch.zeros(1),
        torch.zeros(1).long(),
        torch.ones(1, 1),
    )
    assert_close(Topr().loss(far), torch.tensor([-1.0]))


def test_dro_worked_by_hand():
    # −A ln π + (3/2) h²: h = 1, −2
    loss, _ = loss_and_gradient(Dro(tau=3.0, per_token=False), batch([0.5, -1.0]))
    assert_close(loss, torch.tensor([1.5 + 1.5, -3 + 6.0]))


def test_dro_of_a_response_and_of_its_tokens_have_different_squares():
    given = Batch(
        logps=torch.tensor([[-1.0, -4.0]], requires_grad=True), behaviour_logps=torch.tensor([[-3.0, -3.0]]),
        weights=torch.tensor([1.0]), rewards=torch.zeros(1), group=torch.zeros(1).long(), mask=torch.ones(1, 2),
    )  # fmt: skip
    # ln r = 2, −1: (2 − 1)² = 1 and 4 + 1; gradients −A + τ h and −A + τ ln r_t
    loss, gradient = loss_and_gradient(Dro(tau=0.5, per_token=False), given)
    assert_close((loss, gradient), (torch.tensor([5.25]), torch.tensor([[-0.5, -0.5]])))
    loss, gradient = loss_and_gradient(Dro(tau=0.5, per_token=True), given)
    assert_close((loss, gradient), (torch.tensor([6.25]), torch.tensor([[0.0, -1.5]])))


def test_dro_measures_advantages_in_standard_deviations_of_the_reward():
    logged = Logged(np.array([0.0, 4.0]), np.array([1.0, 1.0]), None)
    np.testing.assert_allclose(Dro(tau=1.0, per_token=False).targets(logged), [-0.5, 1.5])


def test_a_star_worked_by_hand():
    loss, gradient = loss_and_gradient(AStar(beta=0.5), batch([0.25, -0.5]))
    assert_close(loss, torch.tensor([0.25**2, 0.5**2]))  # (½ · 1 − ¼)², (−1 + ½)²
    assert_close(gradient, torch.tensor([[0.25, 0.25], [-0.5, 0.0]]))  # 2 β (β h − A)


def test_a_star_is_dro_up_to_a_constant():
    # with β = τ and A in units of the reward: (β h − A)² = 2β (−A h + (β/2) h²) + A²; ln π_ref is constant
    weights = [0.25, -0.5]
    star, star_gradient = loss_and_gradient(AStar(beta=0.7), batch(weights))
    dro, dro_gradient = loss_and_gradient(Dro(tau=0.7, per_token=False), batch(weights))
    constant = torch.tensor([weights[i] ** 2 + 2 * 0.7 * weights[i] * sum(BEHAVIOUR[i]) for i in range(2)])
    assert_close(star, 2 * 0.7 * dro + constant)
    assert_close(star_gradient, 2 * 0.7 * dro_gradient)


def test_qrpo_worked_by_hand():
    # β = ½: Z = ½ (e² − 1); (q − ½ ln Z − ½ h)²
    partition = log(0.5 * (exp(2) - 1))
    loss, gradient = loss_and_gradient(Qrpo(beta=0.5), batch([1.0, 0.25]))
    left = [1.0 - 0.5 * (partition + 1), 0.25 - 0.5 * (partition - 2)]
    assert_close(loss, torch.tensor([left[0] ** 2, left[1] ** 2]))
    assert_close(gradient, torch.tensor([[-left[0], -left[0]], [-left[1], 0.0]]))


def test_the_targets_of_qrpo_are_quantiles_among_the_references_own_rewards():
    logged = Logged(np.array([2.0, 0.0, 9.0]), None, np.array([[1, 2, 3, 4], [1, 2, 3, 4], [5, 6, 7, 8]]))
    np.testing.assert_array_equal(Qrpo(beta=0.1).targets(logged), [0.5, 0.0, 1.0])
    assert Qrpo(beta=0.003).log_partition == pytest.approx(log(0.003) + 1 / 0.003)  # e^{1/β} alone would overflow


KTO = Kto(beta=0.5, desirable_weight=2.0, undesirable_weight=3.0, threshold=None)


def sigmoid(z):
    return 1 / (1 + exp(-z))


def test_kto_worked_by_hand():
    # h = 1, −2 and z = ½ (3 − 2) = ½: desirable 2 (1 − σ(½ · ½)), undesirable 3 (1 − σ(½ (½ + 2)))
    loss, gradient = loss_and_gradient(KTO, batch([1.0, -1.0], mismatched=[3.0, -2.0]))
    assert_close(loss, torch.tensor([2 * sigmoid(-0.25), 3 * sigmoid(-1.25)]))
    slopes = [-2 * 0.5 * sigmoid(0.25) * sigmoid(-0.25), 3 * 0.5 * sigmoid(1.25) * sigmoid(-1.25)]
    assert_close(gradient, torch.tensor([[slopes[0]] * 2, [slopes[1], 0.0]]))


def test_kto_takes_no_negative_distance():
    loss, _ = loss_and_gradient(KTO, batch([1.0, -1.0], mismatched=[-3.0, -2.0]))
    assert_close(loss, torch.tensor([2 * sigmoid(-0.5), 3 * sigmoid(-1.0)]))
    assert_close(KTO.metrics(batch([1.0, -1.0], mismatched=[3.0, 1.0]))["z"], torch.tensor([2.0, 2.0]))


def test_desirable_is_what_is_no_worse_than_its_value_or_reaches_a_threshold():
    logged = Logged(np.array([0.0, 0.5, 1.0]), np.array([0.1, 0.5, 1.1]), None)
    np.testing.assert_array_equal(KTO.targets(logged), [-1, 1, -1])
    labels = Kto(beta=0.1, desirable_weight=1.0, undesirable_weight=1.0, threshold=0.5)
    np.testing.assert_array_equal(labels.targets(Logged(logged.rewards, None, None)), [-1, 1, 1])
    assert KTO.needs_values
    assert not labels.needs_values


def test_the_soft_value_of_dro_has_tau_standard_deviations_of_the_reward_as_its_temperature():
    rewards = np.array([0.0, 0.2, 0.4])  # standard deviation 0.2 √(2/3)
    assert Dro(tau=0.5, per_token=False).soft_temperature(rewards) == pytest.approx(0.1 * np.sqrt(2 / 3))
    assert AStar(beta=0.1).soft_temperature(rewards) is None
    assert Dro(tau=0.5, per_token=True).soft_temperature(rewards) is None


def test_qrpo_doubts_rewards_that_tie():
    labels = np.array([[0.0, 1.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0]])  # 7 of 8 have that of another one
    doubt = Qrpo(beta=0.1).doubt(Logged(np.zeros(2), None, labels))
    assert doubt is not None
    assert doubt.startswith("88% of the reference's samples have the reward of another one for their prompt")
    assert Qrpo(beta=0.1).doubt(Logged(np.zeros(2), None, np.linspace(0, 1, 8).reshape(2, 4))) is None


@pytest.mark.slow
def test_a_mean_is_doubted_where_the_method_needs_a_soft_value_and_samples_where_they_are_not_the_references():
    def of_values(*words):
        found = Pipeline(composed(*words)).logged_data
        return doubt_values(found.variant, found.values)

    def of_samples(*words):
        found = Pipeline(composed(*words)).logged_data
        return doubt_samples(found.variant, found.values, found.samples)

    assert of_values("variant=a_star", "values=ridge") == (
        "V(x) of variant=a_star is β ln E e^(R/β) in its source, and values=ridge estimates a mean: the targets of a prompt are "
        "too high then, the more so the more its rewards vary; values=soft has that V(x)"
    )
    for words in (["variant=a_star"], ["variant=dro"], ["variant=awr"], ["variant=qrpo"], ["variant=dro", "values=soft"]):
        assert of_values(*words) is None
        assert of_samples(*words) is None
    assert of_values("variant=dro", "values=head") is not None
    assert of_values("variant=dro", "values=head", "variant.per_token=true") is None
    assert of_samples("variant=qrpo", "values=monte_carlo") == (
        "samples with top_p=0.95 are not samples of the reference itself, which variant=qrpo needs: "
        "values.top_p=1 values.temperature=1"
    )
    warmer = of_samples("variant=a_star", "values.temperature=1.5", "values.top_p=0.9")
    assert warmer is not None
    assert warmer.startswith("samples with top_p=0.9 and temperature=1.5 are not")
    assert of_samples("variant=awr", "values=monte_carlo") is None


HINTS = {
    "column": ("A reward that scores text, such as reward=fitted, or variant=dro", ["variant=dro", "reward=column"]),
    "fitted": ("values=quantiles", ["variant=qrpo", "reward=fitted", "values=quantiles"]),
}


@pytest.mark.parametrize(("reward", "hint", "words"), [(reward, *rest) for reward, rest in HINTS.items()], ids=HINTS)
def test_a_hint_for_quantiles_leads_to_a_command_that_runs(reward, hint, words):
    with pytest.raises(UserError) as found:
        check(composed("variant=qrpo", f"reward={reward}", "values=data"), ["policy"])
    assert found.value.args[1] == hint
    check(composed(*words), ["policy"])


@pytest.mark.parametrize(
    ("variant", "targets", "expected"),
    [
        (AStar(beta=0.1), [0.5, -1.0], [5.0, -10.0]),
        (Dro(tau=0.5, per_token=False), [0.5, -1.0], [1.0, -2.0]),
        (Qrpo(beta=0.5), [0.0, 1.0], [-log(0.5 * (exp(2) - 1)), 2 - log(0.5 * (exp(2) - 1))]),
    ],
)
def test_losses_are_smallest_at_the_optimal_log_ratios(variant, targets, expected):
    optimal = variant.optimal_log_ratios(np.array(targets))
    np.testing.assert_allclose(optimal, expected)
    logps = torch.tensor(optimal[:, None], requires_grad=True)
    own = Batch(logps, torch.zeros(2, 1), torch.tensor(targets).double(), torch.zeros(2), torch.arange(2), torch.ones(2, 1))
    _, gradient = loss_and_gradient(variant, own)
    assert_close(gradient, torch.zeros(2, 1, dtype=torch.float64))


@pytest.mark.parametrize("variant", [Awr(beta=1.0, max_weight=20.0), Topr(), Dro(tau=0.5, per_token=True)])
def test_regressions_without_a_fixed_point_name_no_log_ratios(variant):
    assert variant.optimal_log_ratios(np.array([0.5, -1.0])) is None


def test_the_soft_value_lies_between_the_mean_and_the_maximum():
    rewards = np.array([[0.0, 1.0], [0.3, 0.3]])
    np.testing.assert_allclose(log_mean_exp(rewards, 0.5), [0.5 * log((1 + exp(2)) / 2), 0.3])
    np.testing.assert_allclose(log_mean_exp(rewards, 1e3), rewards.mean(axis=1), atol=1e-3)
    np.testing.assert_allclose(log_mean_exp(rewards, 1e-3), rewards.max(axis=1), atol=1e-3)


BETA, PROMPTS, RESPONSES = 0.3, 3, 300


@pytest.fixture(scope="module")
def toy():
    """ln π_ref (P, K) of every response to three prompts, and their rewards: expectations under π_ref are exact."""
    random = np.random.default_rng(0)
    logits = torch.tensor(random.normal(size=(PROMPTS, RESPONSES)))
    return logits.log_softmax(dim=1), torch.tensor(random.random((PROMPTS, RESPONSES)))


def minimized(parameters, loss_of):
    """Minimize a loss in place."""
    optimizer = torch.optim.LBFGS(parameters, lr=1.0, max_iter=200, line_search_fn="strong_wolfe", tolerance_grad=1e-12)

    def closure():
        optimizer.zero_grad()
        loss = loss_of()
        loss.backward()
        return loss

    for _ in range(5):
        optimizer.step(closure)


def every_response(logits, toy, targets):
    """The batch of every response to every prompt, with log-probs from a table of probabilities."""
    reference, rewards = toy
    logps, count = logits.log_softmax(dim=1), reference.numel()
    flat = (logps.reshape(-1, 1), reference.reshape(-1, 1), targets.reshape(-1), rewards.reshape(-1))
    return Batch(*flat, torch.arange(count), torch.ones(count, 1))


def trained(variant, toy, targets):
    """(P, K) ln π/π_ref of a table of probabilities after training on every response equally often."""
    logits = toy[0].clone().requires_grad_()
    minimized([logits], lambda: variant.loss(every_response(logits, toy, targets)).mean())
    return (logits.log_softmax(dim=1) - toy[0]).detach()


def optimum(toy, signal):
    """(P, K) ln π*/π_ref of π* ∝ π_ref e^{signal}."""
    reference, _ = toy
    return (reference + signal).log_softmax(dim=1) - reference


def soft_advantages(toy):
    reference, rewards = toy
    return rewards - BETA * (reference + rewards / BETA).logsumexp(dim=1, keepdim=True)


@pytest.mark.parametrize("variant", [AStar(beta=BETA), Dro(tau=BETA, per_token=False)])
def test_with_a_soft_value_regressions_reach_the_optimal_policy(toy, variant):
    found = trained(variant, toy, soft_advantages(toy))
    assert (found - optimum(toy, toy[1] / BETA)).abs().max() < 1e-2


def test_with_the_mean_as_value_dro_misses_the_optimal_policy(toy):
    reference, rewards = toy
    means = (reference.exp() * rewards).sum(dim=1, keepdim=True)
    found = trained(Dro(tau=BETA, per_token=False), toy, rewards - means)
    assert (found - optimum(toy, rewards / BETA)).abs().max() > 0.1


def test_the_square_of_each_token_has_another_optimum_than_that_of_the_response_whatever_v_is():
    # all four responses of two tokens of two, in the proportions of π_ref; V = τ ln E e^{R/τ}
    reference = torch.tensor([[0.7, 0.3], [0.5, 0.5], [0.2, 0.8]], dtype=torch.float64).log()  # first token; second after each
    rewards, tau = torch.tensor([0.0, 1.0, 2.0, -1.0], dtype=torch.float64), 0.5

    def tokens(table):
        first = table[0].repeat_interleave(2)
        return torch.stack([first, table[1:].reshape(-1)], dim=1)

    whole = tokens(reference).sum(dim=1)
    optimal = rewards / tau - (whole + rewards / tau).logsumexp(dim=0)
    misses = []
    for per_token in (False, True):
        logits, variant = reference.clone().requires_grad_(), Dro(tau=tau, per_token=per_token)

        def loss(logits=logits, variant=variant):
            logps = tokens(logits.log_softmax(dim=1))
            given = Batch(logps, tokens(reference), tau * optimal, rewards, torch.arange(4), torch.ones(4, 2))
            return (variant.loss(given) * whole.exp()).sum()

        minimized([logits], loss)
        found = tokens(logits.detach().log_softmax(dim=1)).sum(dim=1) - whole
        misses.append(float((found - optimal).abs().max()))
    assert misses[0] < 1e-4
    assert misses[1] > 0.1


def test_dro_with_v_learned_jointly_reaches_the_optimal_policy_and_the_soft_value(toy):
    reference, rewards = toy
    variant = Dro(tau=BETA, per_token=False)
    logits = reference.clone().requires_grad_()
    values = (reference.exp() * rewards).sum(dim=1, keepdim=True).requires_grad_()  # starts at the mean

    def loss():
        # (τ/2) (h − A/τ)² = −A ln π + (τ/2) h² + A ln π_ref + A²/(2τ): also of V, whose gradient is V − R + τ h, over τ
        advantages = rewards - values
        own = variant.loss(every_response(logits, toy, advantages))
        return (own + (advantages * reference + advantages.square() / (2 * BETA)).reshape(-1)).mean()

    errors = variant.value_errors(every_response(logits, toy, (rewards - values).detach())).reshape(PROMPTS, RESPONSES)
    (gradient,) = torch.autograd.grad(loss(), values)
    assert_close(gradient, errors.sum(dim=1, keepdim=True) / BETA / errors.numel())
    started = values.detach().clone()
    minimized([logits, values], loss)
    assert (values - started).abs().min() > 0.05
    assert (logits.log_softmax(dim=1) - reference - optimum(toy, rewards / BETA)).abs().max() < 1e-2
    assert (values - BETA * (reference + rewards / BETA).logsumexp(dim=1, keepdim=True)).abs().max() < 1e-3


def test_the_error_of_a_value_worked_by_hand():
    # V − R + τ h = −A + τ h with h = 1, −2
    assert_close(Dro(tau=3.0, per_token=False).value_errors(batch([0.5, -1.0])), torch.tensor([2.5, -5.0]))
    assert not Dro(tau=3.0, per_token=True).learns_values


@pytest.mark.parametrize("beta", [0.5, 0.1])
def test_qrpo_reaches_the_policy_of_quantiles(toy, beta):
    reference, rewards = toy
    # quantiles under π_ref, at the middle of each response's own probability, so that they are uniform but for the grid
    below = (reference.exp()[:, None, :] * (rewards[:, None, :] < rewards[:, :, None])).sum(dim=2)
    quantiles = below + reference.exp() / 2
    found = trained(Qrpo(beta=beta), toy, quantiles)
    assert (found - (quantiles / beta - Qrpo(beta=beta).log_partition)).abs().max() < 1e-2
