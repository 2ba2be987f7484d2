import csv
import random
import subprocess
import sys

import numpy as np
import pytest
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics.bleu import BLEU

from aloll_cli.metrics.overlap import Against, fragments, grounding
from aloll_cli.metrics.words import TOKENIZERS

KNOWLEDGE = "The blue whale is the largest animal that ever lived."
ANSWERS = ["The cat sat on the mat.", "Dogs were barking all night", "", "A blue whale is the largest animal"]
REFERENCES = [
    ["The cat is on the mat.", "A cat sat on the mats."],
    ["The dog barked the whole night long"],
    ["Nothing to say"],
    ["The blue whale is the largest animal that ever lived."],
]
CHINESE = {
    "今天的天气真好，我们一起去公园吧。": "今天天气很好，我们去公园散步吧。",
    "昨天他买了新手机iPhone 15。": "他昨天买了一台新的iPhone 15手机。",
    "这是一本关于1998年的书。": "这本书讲的是1998年的故事。",
    "火车晚了两个小时。": "火车晚点了两个小时。",
}
ENGLISH = {
    "The cat sat on the mat.": "The cat is on the mat today.",
    "Dogs were barking all night": "The dog barked the whole night long",
    'It costs 3.50 dollars, "don\'t" pay more!': "They cost $3.50; don't pay more.",
    "Hardly": "A blue whale, which is the largest animal",
}
FEW_MATCHES = {"A cat was sitting there.": "The cat sat on the mat today.", "The dog.": "Dogs bark."}  # no four words in common


def sacrebleu(folder, pairs, *options):
    """BLEU of responses with one reference each, by sacrebleu's command line."""
    files = [folder / "references", folder / "responses"]
    for file, texts in zip(files, (pairs.values(), pairs), strict=True):
        file.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    command = [sys.executable, "-m", "sacrebleu", str(files[0]), "-i", str(files[1]), "-m", "bleu", "-b", "-w", "10", *options]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def rouge_score(folder, pairs, *options):
    """Mean F of ROUGE-1, ROUGE-2 and ROUGE-L, by rouge-score's command line."""
    files = {name: folder / name for name in ("target", "prediction")}
    for file, texts in zip(files.values(), (pairs.values(), pairs), strict=True):
        file.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    told = [f"--{name}_filepattern={file}" for name, file in files.items()]
    command = [sys.executable, "-m", "rouge_score.rouge", *told, f"--output_filename={folder / 'scores.csv'}", "--noaggregate"]
    subprocess.run([*command, *options], capture_output=True, check=True)
    with (folder / "scores.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == len(pairs)
    return [np.mean([float(row[f"{name}-F"]) for row in rows]) for name in ("rouge1", "rouge2", "rougeL")]


def against(pairs, tokenizer="13a"):
    return Against([*pairs], [[text] for text in pairs.values()], 20, TOKENIZERS[tokenizer])


def rouges(found):
    return [found[name]["mean"] for name in ("rouge_1", "rouge_2", "rouge_l")]


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


@pytest.mark.parametrize(
    ("pairs", "tokenizer"),
    [(ENGLISH, "13a"), (FEW_MATCHES, "13a"), (CHINESE, "zh"), (CHINESE, "char"), (ENGLISH, "intl")],
)
def test_bleu_is_that_of_sacrebleus_command_line(tmp_path, pairs, tokenizer):
    expected = sacrebleu(tmp_path, pairs, *(["-tok", tokenizer] if tokenizer != "13a" else []))
    assert against(pairs, tokenizer).bleu()["mean"] == pytest.approx(expected, abs=1e-9)
    assert expected > 3


@pytest.mark.slow
def test_rouge_is_that_of_rouge_scores_command_line_with_its_stemmer(tmp_path):
    expected = rouge_score(tmp_path, ENGLISH, "--use_stemmer")
    assert rouges(against(ENGLISH).rouge()) == pytest.approx(expected, abs=1e-6)  # the file has six decimals
    assert expected[0] > rouge_score(tmp_path, ENGLISH)[0]


@pytest.mark.slow
def test_rouge_of_chinese_is_that_of_rouge_scores_command_line_for_the_same_words_in_ascii(tmp_path):
    words = TOKENIZERS["zh"].words
    assert words("他买了iPhone 15。") == ["他", "买", "了", "iPhone", "15"]
    spelled = [
        " ".join("".join(f"u{ord(letter):x}" for letter in word) for word in words(text.lower()))
        for pair in CHINESE.items()
        for text in pair
    ]
    expected = rouge_score(tmp_path, dict(zip(spelled[::2], spelled[1::2], strict=True)))
    assert rouges(against(CHINESE, "zh").rouge()) == pytest.approx(expected, abs=1e-6)
    assert min(expected) > 0.4


def test_rouge_worked_by_hand_in_chinese():
    # 猫 坐 了 | 猫 坐 着: 2 of 3 words, 1 of 2 pairs
    found = against({"猫坐了。": "猫坐着！"}, "zh").rouge()
    assert rouges(found) == pytest.approx([2 / 3, 1 / 2, 2 / 3])


def test_rouge_is_missing_where_its_tokenizer_finds_no_word_in_any_reference():
    nothing = {"rouge_1": None, "rouge_2": None, "rouge_l": None}
    assert against({"猫坐了。": "猫坐着！"}).rouge() == nothing
    assert rouges(against({"the cat": "猫", "a dog": "a dog"}).rouge()) == [0.5, 0.5, 0.5]


def test_copied_chinese_text_is_covered_character_by_character():
    assert grounding(["大象很大"], ["大象是动物。"], 10)["coverage"]["mean"] == 0.0
    found = grounding(["大象很大"], ["大象是动物。"], 10, TOKENIZERS["zh"])
    # [大象] 很 [大] of 4
    assert (found["coverage"]["mean"], found["density"]["mean"]) == (3 / 4, 5 / 4)


def test_bleu_is_that_of_the_library():
    streams = [[refs[min(i, len(refs) - 1)] for refs in REFERENCES] for i in range(2)]
    expected = BLEU().corpus_score(ANSWERS, streams).score
    found = Against(ANSWERS * 3, REFERENCES * 3, 200).bleu()
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
    assert Against([f" {text}\n" for text in texts * 3], REFERENCES * 3, 20).bleu() == {
        "mean": pytest.approx(100),
        "ci95": pytest.approx([100, 100]),
    }
    assert Against([""] * 12, REFERENCES * 3, 20).bleu() == {"mean": 0.0, "ci95": [0.0, 0.0]}


def test_rouge_is_that_of_the_library_averaged_over_prompts():
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=True)
    found = Against(ANSWERS * 3, REFERENCES * 3, 50).rouge()
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
