import numpy as np
import pytest

from aloll_cli.metrics.intervals import (
    FEW_PROMPTS,
    bootstrap,
    by_prompt,
    likelihood_figures,
    mean_with_interval,
    ratio_with_interval,
)
from aloll_cli.metrics.text import distinct, distinct_per_word, matched_distinct, text_figures, words

TEXTS = ["The cat saw the cat", "the dog", ""]


def test_distinct_n_worked_by_hand():
    # the cat saw the cat | the dog: 4 words of 7; the-cat cat-saw saw-the the-cat | the-dog: 4 pairs of 5; 3 triples of 3
    assert distinct(TEXTS, 1) == pytest.approx(4 / 7)
    assert distinct(TEXTS, 2) == pytest.approx(4 / 5)
    assert distinct(TEXTS, 3) == pytest.approx(3 / 3)
    assert distinct(TEXTS, 6) == 0.0
    assert distinct([""], 1) == distinct([], 1) == 0.0


def test_distinct_n_per_word_worked_by_hand():
    # case counts, single spaces split (an empty text is one empty word), and the divisor is all words: 8
    assert distinct_per_word(TEXTS, 1) == pytest.approx(6 / 8)  # The cat saw the dog and the empty word
    assert distinct_per_word(TEXTS, 2) == pytest.approx(5 / 8)
    assert distinct_per_word(["a  b"], 1) == pytest.approx(3 / 3)
    assert distinct_per_word([], 1) == 0.0


def test_no_n_gram_crosses_two_responses():
    assert distinct(["a b", "a b"], 2) == 0.5
    assert distinct(["a", "b", "c"], 2) == 0.0


def test_distinct_falls_as_a_corpus_grows_and_the_matched_figure_does_not():
    one = ["a b c d"]
    many = one * 5
    assert distinct(many, 1) == pytest.approx(4 / 20)
    assert matched_distinct(many, one)["distinct_1_matched"] == distinct(one, 1) == 1.0


def test_matched_figures_count_the_first_words_of_each_side():
    long, short = ["a b a b", "c c c", "d"], ["x y", "", "z x y"]
    assert len(words(short)) == 5
    # the first five words of the long side: a b a b | c
    assert matched_distinct(long, short) == {
        "distinct_1_matched": pytest.approx(3 / 5),
        "distinct_2_matched": pytest.approx(2 / 3),
        "distinct_3_matched": pytest.approx(2 / 2),
    }
    assert matched_distinct(short, long)["distinct_1_matched"] == distinct(short, 1) == pytest.approx(3 / 5)
    assert set(matched_distinct(long, [""]).values()) == {0.0}


def test_words_are_lower_cased_and_split_at_white_space():
    assert words(["The\tCAT ", "", " saw\nit"]) == ["the", "cat", "saw", "it"]


def test_the_bootstrap_interval_is_that_of_the_mean():
    values = np.random.default_rng(1).normal(3.0, 2.0, 400)
    lo, hi = bootstrap(values, 2000)
    assert lo < values.mean() < hi
    # 2 · 1.96 · s / √n
    assert hi - lo == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)


def test_the_bootstrap_interval_covers_the_truth_19_times_out_of_20():
    random = np.random.default_rng(2)
    covered = [lo <= 0 <= hi for lo, hi in (bootstrap(random.normal(size=60), 200, seed=i) for i in range(300))]
    assert 0.9 < np.mean(covered) < 0.99


def test_the_bootstrap_is_a_function_of_its_seed():
    values = np.arange(20.0)
    assert bootstrap(values, 100, seed=4) == bootstrap(values, 100, seed=4) != bootstrap(values, 100, seed=5)
    assert bootstrap(np.full(5, 0.25), 50) == (0.25, 0.25)


def test_a_mean_comes_with_its_interval_as_plain_numbers():
    found = mean_with_interval(np.array([1.0, 2.0, 6.0] * 4), 50)
    assert found["mean"] == 3.0
    assert [type(bound) for bound in found["ci95"]] == [float, float]
    assert 1.0 <= found["ci95"][0] <= 3.0 <= found["ci95"][1] <= 6.0


def test_fewer_than_ten_prompts_have_a_mean_and_no_interval():
    assert FEW_PROMPTS == 10
    for values in (np.arange(9.0), np.array([3.0])):
        ones = np.ones(len(values))
        assert mean_with_interval(values, 50) == {"mean": values.mean(), "ci95": None}
        assert ratio_with_interval(values, ones, 50) == {"mean": values.mean(), "ci95": None}
        figures = likelihood_figures(-values, -values, ones, 50)
        assert [figures[name]["ci95"] for name in ("perplexity", "kl", "kl_per_token")] == [None] * 3
    assert text_figures(["a b"] * 9, 50)["length"] == {"mean": 2.0, "ci95": None}
    assert text_figures([""] * 9, 50)["length"] == {"mean": 0.0, "ci95": None}
    assert mean_with_interval(np.arange(10.0), 50)["ci95"] is not None


def test_a_paired_interval_is_narrower_than_its_sides():
    common = np.random.default_rng(3).normal(size=100)
    policy, reference = common + 0.1, common
    gain = bootstrap(policy - reference, 200)
    assert gain == pytest.approx((0.1, 0.1))
    assert np.diff(bootstrap(policy, 200))[0] > 0.2


def test_length_counts_words_of_responses_that_are_not_empty():
    figures = text_figures([*TEXTS, "  \n"], 100)
    assert figures["length"]["mean"] == 3.5  # 5 and 2 words
    assert figures["empty"] == 0.5
    assert figures["different"] == 0.75  # two are empty
    assert figures["distinct_1"] == pytest.approx(4 / 7)
    assert {f"distinct_{n}{kind}" for n in (1, 2, 3) for kind in ("", "_per_word")} <= set(figures)


def test_nothing_but_empty_responses_has_length_zero():
    figures = text_figures(["", " "] * 5, 10)
    assert figures["length"] == {"mean": 0.0, "ci95": [0.0, 0.0]}
    assert figures["empty"] == 1.0


def test_a_response_to_many_prompts_is_counted_once():
    assert text_figures(["Thank you.", "a", "Thank you. ", "thank you.", "a"], 10)["different"] == 3 / 5


def test_values_of_several_responses_are_averaged_by_prompt():
    assert by_prompt(np.array([1.0, 2.0, 6.0, 5.0]), 2).tolist() == [1.5, 5.5]
    assert by_prompt(np.array([1.0, 2.0]), 1).tolist() == [1.0, 2.0]
    assert by_prompt(np.array([1.0, np.nan, np.nan, np.nan]), 2).tolist() == [1.0]


def test_the_same_response_twice_is_no_more_evidence_than_once():
    once = np.random.default_rng(4).normal(size=50)
    assert bootstrap(by_prompt(np.repeat(once, 3), 3), 100) == pytest.approx(bootstrap(once, 100))
    texts = [text for text in TEXTS for _ in range(3)]
    assert text_figures(texts, 100, samples=3)["length"] == text_figures(TEXTS, 100)["length"]


def test_a_ratio_of_sums_comes_with_its_interval():
    tops, bottoms = np.array([1.0, 6.0, 2.0]), np.array([1.0, 2.0, 4.0])
    tops, bottoms = np.tile(tops, 4), np.tile(bottoms, 4)
    found = ratio_with_interval(tops, bottoms, 300)
    assert found["mean"] == pytest.approx(9 / 7)
    # resamples of the second prompt alone have 3, of the third alone 0.5
    assert 0.5 <= found["ci95"][0] < 9 / 7 < found["ci95"][1] <= 3.0
    assert ratio_with_interval(2 * bottoms, bottoms, 20)["ci95"] == [2.0, 2.0]


def test_the_distance_to_the_reference_and_the_perplexity_under_it_worked_by_hand():
    logps, ref_logps, tokens = (
        np.array(values * 5) for values in ([-2.0, -3.0, -1.0, -4.0], [-4.0, -3.0, -3.0, -6.0], [2.0, 4.0, 1.0, 9])
    )
    figures = likelihood_figures(logps, ref_logps, tokens, 100, samples=2)
    # differences 2, 0 and 2, 2: 1 and 2 per prompt; 6 in 16 tokens; 16 nats in 16 tokens
    assert figures["kl"]["mean"] == pytest.approx(1.5)
    assert 1.0 <= figures["kl"]["ci95"][0] < 1.5 < figures["kl"]["ci95"][1] <= 2.0
    assert figures["kl_per_token"]["mean"] == pytest.approx(6 / 16)
    assert figures["perplexity"]["mean"] == pytest.approx(np.e)
    assert figures["perplexity"]["ci95"][0] <= np.e <= figures["perplexity"]["ci95"][1]


def test_a_policy_is_exactly_at_no_distance_from_itself():
    logps = -np.random.default_rng(5).exponential(size=30)
    figures = likelihood_figures(logps, logps, np.full(30, 7.0), 50)
    assert figures["kl"] == figures["kl_per_token"] == {"mean": 0.0, "ci95": [0.0, 0.0]}


def test_the_estimated_distance_is_that_of_the_softmax():
    random = np.random.default_rng(6)
    policy, reference = (np.exp(logits) / np.exp(logits).sum() for logits in ([0.0, 1.0, 2.0], [0.5, 0.5, 0.0]))
    drawn = random.choice(3, size=(4000, 5), p=policy)  # answers of five independent tokens
    logps, ref_logps = (np.log(side)[drawn].sum(axis=1) for side in (policy, reference))
    figures = likelihood_figures(logps, ref_logps, np.full(4000, 5.0), 200)
    exact = (policy * np.log(policy / reference)).sum()
    assert figures["kl_per_token"]["mean"] == pytest.approx(exact, rel=0.05)
    assert figures["kl"]["ci95"][0] < 5 * exact < figures["kl"]["ci95"][1]
    assert np.log(figures["perplexity"]["mean"]) == pytest.approx(-(policy * np.log(reference)).sum(), rel=0.02)
