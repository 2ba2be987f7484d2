import random

import numpy as np
import pytest
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics.bleu import BLEU

from aloll_cli.metrics.overlap import Against, fragments, grounding

KNOWLEDGE = "The blue whale is the largest animal that ever lived."
ANSWERS = ["The cat sat on the mat.", "Dogs were barking all night", "", "A blue whale is the largest animal"]
REFERENCES = [
    ["The cat is on the mat.", "A cat sat on the mats."],
    ["The dog barked the whole night long"],
    ["Nothing to say"],
    ["The blue whale is the largest animal that ever lived."],
]


def test_fragments_coverage_and_density_worked_by_hand():
    answer = "I know the blue whale is the largest, it ever lived."
    # I know [the blue whale is the largest] , it [ever lived .]: pieces of 6 and 3 among 13 tokens
    figures = grounding([answer], [KNOWLEDGE], 10)
    assert figures["coverage"]["mean"] == pytest.approx(9 / 13)
    assert figures["density"]["mean"] == pytest.approx((36 + 9) / 13)


def test_fragments_of_what_shares_nothing_or_all():
    assert fragments(["a", "b"], ["c"]) == fragments([], ["c"]) == fragments(["a"], []) == []
    assert fragments("xyz", "xyz") == [3]
    assert fragments("zxy", "xyz") == [1, 2]


def test_the_search_goes_on_behind_a_match_as_published():
    # a a b lies in the source, but the match of a a at its beginning hides it
    assert fragments("aab", "aaab") == [2, 1]


def test_the_longest_of_several_matches_is_taken():
    assert fragments("abc", "abxabc") == [3]


def test_grounding_is_a_mean_over_prompts_with_knowledge_and_something_said():
    answers = ["blue whale", "green cow", "", "   ", "blue", "blue"]
    figures = grounding(answers, [KNOWLEDGE, KNOWLEDGE, None], 50)
    # prompt 1: 2/2 and 0/2; prompt 2: two empty answers; prompt 3: nothing known
    assert figures["coverage"]["mean"] == 0.5
    assert figures["density"]["mean"] == 1.0
    assert grounding(["blue"], [None], 10) == {"coverage": None, "density": None}


def test_bleu_is_that_of_the_library():
    streams = [[refs[min(i, len(refs) - 1)] for refs in REFERENCES] for i in range(2)]
    expected = BLEU().corpus_score(ANSWERS, streams).score
    found = Against(ANSWERS, REFERENCES, 200).bleu()
    assert 10 < expected < 90
    assert found["mean"] == pytest.approx(expected)
    assert found["ci95"][0] < expected < found["ci95"][1]


def test_bleu_of_several_responses_is_that_of_a_corpus_that_repeats_the_references():
    answers = [text for text in ANSWERS for _ in range(2)]
    answers[1] = "The mat sat on a cat."
    references = [refs[:1] for refs in REFERENCES]
    expected = BLEU().corpus_score(answers, [[refs[0] for refs in references for _ in range(2)]]).score
    assert Against(answers, references, 10).bleu()["mean"] == pytest.approx(expected)


def test_bleu_of_what_was_logged_itself_is_100_and_of_nothing_0():
    texts = [refs[0] for refs in REFERENCES]
    assert Against([f" {text}\n" for text in texts], REFERENCES, 20).bleu() == {
        "mean": pytest.approx(100),
        "ci95": pytest.approx([100, 100]),
    }
    assert Against([""] * 4, REFERENCES, 20).bleu() == {"mean": 0.0, "ci95": [0.0, 0.0]}


def test_rouge_is_that_of_the_library_averaged_over_prompts():
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=True)
    found = Against(ANSWERS, REFERENCES, 50).rouge()
    for name, ours in (("rouge1", "rouge_1"), ("rouge2", "rouge_2"), ("rougeL", "rouge_l")):
        scores = [
            max(scorer.score(ref, text)[name].fmeasure for ref in refs) for text, refs in zip(ANSWERS, REFERENCES, strict=True)
        ]
        assert found[ours]["mean"] == pytest.approx(np.mean(scores)) != 0
        assert found[ours]["ci95"][0] <= np.mean(scores) <= found[ours]["ci95"][1]


def test_rouge_1_worked_by_hand():
    # cats and cat have one stem: 3 of 3 words, 3 of 4: F = 2 · 1 · 0.75 / 1.75
    assert Against(["the cat sat"], [["the cats sat down"]], 5).rouge()["rouge_1"]["mean"] == pytest.approx(6 / 7)


def test_the_order_of_prompts_and_of_references_does_not_matter():
    order = random.Random(1).sample(range(4), 4)
    shuffled = Against([ANSWERS[i] for i in order], [REFERENCES[i][::-1] for i in order], 5).figures()
    figures = Against(ANSWERS, REFERENCES, 5).figures()
    assert {name: f["mean"] for name, f in figures.items()} == pytest.approx({name: f["mean"] for name, f in shuffled.items()})
