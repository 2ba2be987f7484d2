"""Which checkpoint becomes the policy, and what a run says if it does not beat the initial policy."""

from functools import cache

import numpy as np
import pytest
import torch
from tiny import composed, in_two, llama, opened, outspoken, reviews, tokenizer, write_rows

from aloll_cli.artifacts.pipeline import Pipeline
from aloll_cli.files import read_json_lines
from aloll_cli.models.logprobs import ResponseLogps
from aloll_cli.runtime.world import Alone
from aloll_cli.text.examples import ExampleTable
from aloll_cli.training import evaluators
from aloll_cli.training.evaluators import Likelihood
from aloll_cli.training.selection import Best, Last, conclusion, difference, selected_step, stops_early


def evaluation(update, scores):
    return {"update": update, "score": float(np.mean(scores)), "scores": list(scores)}


START = [0.5, 0.3] * 6
BETTER = [0.7, 0.7] * 6  # by 0.2 and 0.4: mean 0.3, s.d. √(12/11) · 0.1


def test_the_highest_score_is_selected_and_the_earliest_of_equal_ones():
    records = [evaluation(step, [score]) for step, score in ((0, 9.0), (5, 1.0), (10, 3.0), (15, 3.0), (20, 2.0))]
    assert selected_step(records, by_score=True) == 10
    assert selected_step(records, by_score=False) == 20


BEST = Best(kl_weight=0.1, max_kl_per_token=0.5, max_repeated=0.2)
FIGURES = {"score": 1.0, "kl": 4.0, "kl_per_token": 0.5, "repeated": 0.2}


def test_the_kl_is_paid_for_and_bounds_hold():
    assert BEST.objective(FIGURES) == pytest.approx(1.0 - 0.1 * 4.0)
    assert BEST.objective(FIGURES | {"kl_per_token": 0.51}) is None
    assert BEST.objective(FIGURES | {"repeated": 0.21}) is None
    plain = Best(kl_weight=0.0, max_kl_per_token=None, max_repeated=None)
    assert plain.objective({"score": 1.0, "repeated": 0.9}) == 1.0
    assert (plain.given, plain.needs_kl, plain.may_refuse, Last().given) == ({}, False, False, {})
    assert (BEST.needs_kl, BEST.may_refuse) == (True, True)


def judged(*objectives):
    """Evaluations with such objectives, that of the initial policy first; scores rise."""
    return [{"update": 5 * i, "score": float(i), "objective": objective} for i, objective in enumerate(objectives)]


def test_the_highest_objective_is_selected_not_the_highest_score_and_never_a_checkpoint_beyond_a_bound():
    assert selected_step(judged(9.0, 0.1, 0.5, 0.3, None), by_score=True) == 10
    assert selected_step(judged(9.0, 0.1, 0.5, 0.3, None), by_score=False) == 20


def test_the_initial_policy_is_kept_where_every_checkpoint_is_beyond_a_bound():
    records = [record | {"kl": 2.5} for record in judged(0.0, None, None)]
    assert selected_step(records, by_score=True) == 0
    line, warning = conclusion(records, True, 10, "reward")
    assert line == "best checkpoint: step 0 of 10 (validation reward 0.0000, KL 2.50 nats): the initial policy"
    assert warning == (
        "no checkpoint is within the bounds of select.max_kl_per_token and select.max_repeated, so the initial policy is kept; "
        "try a smaller optimizer.lr or eval_every"
    )


def test_training_stops_early_when_so_many_evaluations_brought_nothing_better():
    scores = [0.9, 0.5, 0.7, 0.7, 0.6]  # the first is that of the initial policy; an equal score is no better
    records = [{"update": 5 * i, "score": score} for i, score in enumerate(scores)]
    assert [stops_early(records[:count], 2) for count in range(1, 6)] == [False, False, False, False, True]
    assert [stops_early(records[:count], 1) for count in range(1, 6)] == [False, False, False, True, True]
    assert stops_early(judged(0.0, None, None), 2)  # none may be chosen


def test_the_paired_difference_worked_by_hand():
    found = difference(evaluation(0, START), evaluation(5, BETTER))
    half = 2.200985 * 0.1 * (12 / 11) ** 0.5 / 12**0.5  # t(0.975, 11)
    assert found.mean == pytest.approx(0.3)
    assert found.ci95 == pytest.approx((0.3 - half, 0.3 + half), abs=1e-6)


def test_a_checkpoint_that_beats_the_initial_policy_is_not_warned_of():
    line, warning = conclusion([evaluation(0, START), evaluation(5, BETTER)], True, 10, "reward")
    assert line == (
        "best checkpoint: step 5 of 10 (validation reward 0.7000; "
        "paired difference to the initial policy over 12 prompts: +0.300 [0.234, 0.366])"
    )
    assert warning is None


def test_a_checkpoint_whose_interval_includes_zero_is_warned_of():
    uncertain = [start + change for start, change in zip(START, [0.2, -0.1] * 6, strict=True)]
    _, warning = conclusion([evaluation(0, START), evaluation(5, START), evaluation(10, uncertain)], True, 10, "reward")
    assert warning == (
        "the best checkpoint (step 10: validation reward 0.450) does not beat the initial policy (0.400) in a paired comparison "
        "over 12 prompts: +0.050 [-0.050, 0.150]; nothing was learned that validation can tell"
    )


def test_a_last_checkpoint_that_is_worse_is_called_so_although_an_earlier_one_was_better():
    _, warning = conclusion([evaluation(0, START), evaluation(5, BETTER), evaluation(10, [0.1] * 12)], False, 10, "reward")
    assert warning == (
        "the last checkpoint (step 10: validation reward 0.100) is worse than the initial policy (0.400) in a paired comparison "
        "over 12 prompts: -0.300 [-0.366, -0.234]; try a smaller optimizer.lr"
    )


def test_a_policy_that_responds_as_before_is_told_to_take_greater_steps():
    first = evaluation(0, START) | {"responses": ["good", "bad"]}
    _, warning = conclusion([first, first | {"update": 5}], True, 10, "reward")
    assert warning == (
        "the best checkpoint (step 5: validation reward 0.400) responds to validation prompts exactly as the initial policy: "
        "the steps were too small or too few; try a greater optimizer.lr or updates"
    )


@pytest.mark.parametrize(
    "keep",
    [
        lambda record: evaluation(record["update"], record["scores"][:8]),  # under 10 prompts
        lambda record: {key: value for key, value in record.items() if key != "scores"},  # as older versions wrote
        lambda record: {**record, "scores": [float("-inf"), *record["scores"][1:]]},
    ],
)
def test_without_an_interval_means_are_compared(keep):
    start, better = keep(evaluation(0, START)), keep(evaluation(5, BETTER))
    assert conclusion([start, better], True, 10, "reward") == ("best checkpoint: step 5 of 10 (validation reward 0.7000)", None)
    _, warning = conclusion([start, start | {"update": 5}], True, 10, "reward")
    checkpoint = "the best checkpoint (step 5: validation reward 0.400)"
    assert warning == f"{checkpoint} does not beat the initial policy (0.400); try a smaller optimizer.lr"


PROMPTS = 12


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The evaluations and the log of a policy whose learning rate is too small to change any response."""
    root = tmp_path_factory.mktemp("selection")
    reviews(root / "rows", others=PROMPTS)
    outspoken(root / "model")

    @cache
    def train(*overrides):
        settings = composed(
            f"task.path={root / 'rows'}", "task.max_response_tokens=6", "model=pretrained", f"model.path={root / 'model'}",
            "reference=pretrained", "values=constant", "values.value=0.1", "updates=4", "batch_size=8", "eval_every=2",
            "optimizer.lr=1e-12", *overrides,
        )  # fmt: skip
        made = opened(root / f"out {' '.join(overrides)}", settings.runtime).ensure(Pipeline(settings).policy)
        return read_json_lines(made / "evaluations.jsonl"), (made / "log.txt").read_text()

    return train


@pytest.mark.slow
def test_every_checkpoint_of_a_run_is_evaluated_with_the_same_random_numbers(trained):
    records, log = trained()
    assert [record["update"] for record in records] == [0, 2, 4]
    assert len(set(records[0]["responses"])) > PROMPTS / 2
    assert records[0]["responses"] == records[1]["responses"] == records[2]["responses"]
    assert "responds to validation prompts exactly as the initial policy: the steps were too small or too few" in log


@pytest.mark.slow
@pytest.mark.parametrize("adapter", ["none", "lora"])
def test_the_kl_of_an_evaluation_is_that_of_its_responses_to_the_initial_policy(trained, adapter):
    records, log = trained("select.kl_weight=0.1", "optimizer.lr=1e-2", "generation.top_p=1", f"adapter={adapter}")
    assert (records[0]["kl"], records[0]["objective"]) == (0.0, records[0]["score"])
    assert [record["update"] for record in records] == [0, 2, 4]
    for record in records[1:]:
        assert record["kl"] > 0.05
        assert record["kl"] > record["kl_per_token"] > record["kl"] / 7  # of up to six tokens and the end
        assert record["objective"] == pytest.approx(record["score"] - 0.1 * record["kl"])
    assert f"KL {records[1]['kl']:.2f} nats ({records[1]['kl_per_token']:.3f} per token)" in log


@pytest.mark.slow
def test_a_policy_that_leaves_its_bounds_stays_the_initial_one(trained):
    records, log = trained("select.max_kl_per_token=1e-6", "optimizer.lr=1e-2", "early_stop=1")
    assert [record["objective"] for record in records] == [records[0]["score"], None]
    assert records[-1]["stopped_early"] == {"after": 2, "of": 4, "patience": 1}
    assert "training stopped early, after step 2 of 4: no better checkpoint in one evaluation (early_stop)" in log
    assert "so the initial policy is kept" in log


@pytest.mark.slow
def test_another_seed_is_evaluated_with_other_random_numbers(trained):
    (first, *_), (other, *_) = trained()[0], trained("seed=2")[0]
    assert len(set(first["responses"]) & set(other["responses"])) < PROMPTS / 4


@pytest.mark.slow
def test_the_score_is_the_mean_of_the_scores_by_prompt(trained):
    records, _ = trained("generation.samples=3")
    for record in records:
        assert (len(record["scores"]), len(record["responses"])) == (PROMPTS, 3 * PROMPTS)
        assert record["score"] == pytest.approx(np.mean(record["scores"]))
    assert np.ptp(records[0]["scores"]) > 0.1


@pytest.fixture
def pairs(tmp_path):
    """Examples with two responses to each of 12 validation prompts."""
    for split in ("train", "validation", "test"):
        write_rows(
            tmp_path / "rows" / f"{split}.jsonl",
            [
                {"prompt": f"Visit {i} to the {split} place.", "response": f"It was {word} for {i} people.", "reward": 0.5}
                for i in range(PROMPTS)
                for word in ("good", "very bad")
            ],
        )
    llama().save_pretrained(tmp_path / "model")
    tokenizer().save_pretrained(tmp_path / "model")
    settings = composed(
        "task=local", "reward=column", "values=constant", f"task.path={tmp_path / 'rows'}", "task.responses=all",
        "model=pretrained", f"model.path={tmp_path / 'model'}",
    )  # fmt: skip
    return ExampleTable(opened(tmp_path / "out", settings.runtime).ensure(Pipeline(settings).examples) / "validation")


def test_a_likelihood_reads_a_fixed_subset_of_the_prompts_of_a_large_split(pairs, monkeypatch):
    table, module = pairs, ResponseLogps(llama().eval())
    weights = np.ones(len(table))
    every = evaluators.Likelihood(table, weights, 0, 300, "likelihood")
    assert every.rows.tolist() == list(range(len(table)))
    monkeypatch.setattr(evaluators, "MOST_READ", 5)
    some = evaluators.Likelihood(table, weights, 0, 300, "likelihood")
    assert len(some.rows) == 4  # two prompts of two responses
    codes = table.groups[0]
    assert all(sum(codes[some.rows] == code) == sum(codes == code) for code in codes[some.rows])
    first, again = (some.evaluate(module, seed, Alone()) for seed in (1, 2))
    assert first == again
    assert len(first["scores"]) == 2
    logps = [evaluators.batch_logps(module, table, [row], 0, 300)[0].sum() for row in some.rows]
    assert first["score"] == pytest.approx(sum(logps) / table.response_lengths(some.rows).sum(), rel=1e-5)


def test_likelihoods_by_prompt_worked_by_hand_and_equal_in_two_processes(pairs):
    weights = np.arange(2.0 * PROMPTS)  # the first response has none, and is left out
    evaluator, module = Likelihood(pairs, weights, 0, 300, "log-likelihood per token"), ResponseLogps(llama().eval())
    record = evaluator.evaluate(module, 1, Alone())
    sums = np.zeros(2 * PROMPTS)
    for i in range(2 * PROMPTS):
        prompt, response = pairs.prompt_ids(i), pairs.response_ids(i)
        logps = llama()(torch.tensor([[*prompt, *response]])).logits[0, len(prompt) - 1 : -1].log_softmax(dim=-1)
        sums[i] = logps[range(len(response)), torch.tensor(response)].sum().item()
    tokens = weights @ pairs.response_lengths(np.arange(len(pairs)))
    assert record["score"] == pytest.approx(weights @ sums / tokens, rel=1e-5)
    expected = (weights * sums).reshape(PROMPTS, 2).sum(axis=1) * PROMPTS / tokens
    np.testing.assert_allclose(record["scores"], expected, rtol=1e-5)
    assert np.mean(record["scores"]) == pytest.approx(record["score"])
    own = [ResponseLogps(llama().eval()) for _ in range(2)]  # built here: threads would share the seed of their weights
    for shared in in_two(lambda world: evaluator.evaluate(own[world.rank], 1, world)):
        np.testing.assert_allclose(shared["scores"], record["scores"], rtol=1e-5)
