import hashlib
import math
import shutil
from dataclasses import dataclass, replace

import numpy as np
import pytest
from running import SMALL
from tiny import composed, store, write_rows

from aloll_cli.artifacts.pipeline import Pipeline
from aloll_cli.errors import UserError
from aloll_cli.rewards.base import Reward, Row, Scorer
from aloll_cli.rewards.column import Column, Transform
from aloll_cli.rewards.fitted import FOLDS, Features, Fitted, Target, _fold, normal_scores
from aloll_cli.rewards.length import Length, Unit
from aloll_cli.rewards.ratings import Prompts, share
from aloll_cli.rewards.regex import Regex
from aloll_cli.rewards.scoring import checked_scores
from aloll_cli.rewards.skill import skill, skill_with_labels
from aloll_cli.rewards.tfidf_diversity import TfidfDiversity
from aloll_cli.rewards.vader import Vader
from aloll_cli.tasks.base import prompt_key


def row(i, response="", stored=None, prompt=""):
    return Row(f"train-{i}-0", hashlib.sha256(prompt.encode()).hexdigest()[:16], prompt, response, stored)


def test_vader_is_the_compound_score_mapped_to_0_1_worked_by_hand():
    # compound = s / √(s² + 15), rounded to four places: "good" has s = 1.9, "bad" −2.5
    good, bad = (round(s / math.sqrt(s * s + 15), 4) for s in (1.9, -2.5))
    rows = [row(0, "good"), row(1, "bad"), row(2, "table"), row(3, "")]
    found = Vader().scorer(None).score(rows)
    np.testing.assert_allclose(found, [(1 + good) / 2, (1 + bad) / 2, 0.5, 0.5], atol=1e-12)
    assert found[:2].tolist() == pytest.approx([0.7202, 0.22885])


@pytest.mark.parametrize(
    ("response", "known"),
    [("good", True), ("很好 OK", True), ("", True), (":-) 10/10 👍", True), ("很好！", False), ("Хорошо", False)],
)
def test_vader_knows_no_script_but_the_latin_one(response, known):
    assert Vader().knows(response) is known


@pytest.mark.parametrize(
    ("response", "english"),
    [
        ("The soup was cold and the waiter rude.", True),
        ("I don’t like waiting in line.", True),
        ("Good soup.", None), ("", None), ("10/10 👍 :-) 5 6 7 8", None),
        ("Die Suppe war hervorragend und die Bedienung freundlich.", False),
        ("La soupe était froide et le serveur impoli.", False),
        ("La sopa estaba fría y el camarero fue grosero.", False),
        ("De soep was koud en de ober was in een slecht humeur.", False),
        ("Suppen var kold, og tjeneren var i dårligt humør.", False),
        ("Zupa była zimna i nie polecam to nikomu.", False),
    ],
)  # fmt: skip
def test_vader_tells_english_by_its_commonest_words(response, english):
    assert Vader().understands(response) is english


@pytest.mark.slow
def test_a_warning_says_where_most_responses_are_in_another_language(tmp_path, capsys):
    folder = tmp_path / "rows"
    english, german = "The soup was cold and the waiter rude.", "Die Suppe war kalt und der Kellner unfreundlich."
    for split in ("train", "validation", "test"):
        texts = 5 * [german] + 4 * [english] + 9 * ["Good."] if split == "train" else [german, german]
        write_rows(
            folder / f"{split}.jsonl", [{"prompt": f"Visit {split} {i}.", "response": text} for i, text in enumerate(texts)]
        )
    line = Pipeline(composed(*SMALL, "task=local", f"task.path={folder}", "reward=vader"))
    for split in ("train", "validation", "test"):
        store(tmp_path / "out").ensure(line.rewards(split))
    said = capsys.readouterr().err
    assert "warning: reward=vader is for English, and 5 of 9 train responses have none of its common words" in said
    assert said.count("is for English") == 1


def test_vader_stays_within_its_range():
    rows = [row(0, "wonderful great amazing love " * 50), row(1, "terrible awful horrible hate " * 50)]
    high, low = checked_scores(Vader(), Vader().scorer(None), rows)
    assert 0 <= low < 0.01
    assert 0.99 < high <= 1


def column(transform, lo=0.0, hi=1.0):
    return Column(transform=transform, lo=lo, hi=hi)


def test_a_column_of_logits_goes_through_the_sigmoid():
    reward = column(Transform.sigmoid)
    rows = [row(i, stored=s) for i, s in enumerate([0.0, math.log(3), -math.log(3), 100.0])]
    np.testing.assert_allclose(checked_scores(reward, reward.scorer(None), rows), [0.5, 0.75, 0.25, 1.0], atol=1e-12)
    assert reward.range == (0.0, 1.0)
    with pytest.raises(UserError, match=r"reward\.lo=-9 and reward\.hi=9 are the ends .* maps them to \(0, 1\)\.\n.*leave out"):
        column(Transform.sigmoid, lo=-9.0, hi=9.0)


def test_a_column_as_it_is_keeps_to_its_range_and_names_the_example_that_does_not():
    reward = column(Transform.none, lo=1.0, hi=5.0)
    rows = [row(i, stored=s) for i, s in enumerate([1.0, 4.5, 5.0])]
    assert reward.scorer(None).score(rows).tolist() == [1.0, 4.5, 5.0]
    assert reward.range == (1.0, 5.0)
    with pytest.raises(
        UserError,
        match=r"example train-7-0: the stored reward 5\.5 is outside \[1\.0, 5\.0\]\.\nSet the range of the stored rewards",
    ):
        reward.scorer(None).score([*rows, row(7, stored=5.5)])
    with pytest.raises(UserError, match=r"reward\.lo=2\.0 must be less than reward\.hi=2\.0"):
        column(Transform.none, lo=2.0, hi=2.0)


def test_an_unbounded_column_takes_any_number():
    reward = column(Transform.none, lo=-math.inf, hi=math.inf)
    assert checked_scores(reward, reward.scorer(None), [row(0, stored=-1e9)]).tolist() == [-1e9]


def test_an_example_without_a_stored_reward_is_named():
    reward = column(Transform.sigmoid)
    assert not reward.scores_text
    with pytest.raises(UserError, match=r"example train-1-0 has no stored reward\.\ntask\.unrated=drop leaves out"):
        reward.scorer(None).score([row(0, stored=1.0), row(1)])


@dataclass(kw_only=True)
class Given(Reward):
    """Scores that a user's own code might give."""

    scores: list[float]

    @property
    def range(self):
        return -1.0, 1.0

    def scorer(self, state):
        return GivenScorer(self.scores)


class GivenScorer(Scorer):
    def __init__(self, scores):
        self.scores = scores

    def score(self, rows):
        return np.array(self.scores)


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ([0.5, math.nan, 0.1], r"reward=given returned nan for example train-1-0\.\nRewards must be finite"),
        ([0.5, 0.1, math.inf], "reward=given returned inf for example train-2-0"),
        ([-math.inf, 0.1, 0.1], "reward=given returned -inf for example train-0-0"),
        ([0.5, 1.5, 0.1], r"reward=given returned 1\.5 for example train-1-0, outside its range \[-1\.0, 1\.0\]"),
        ([0.5, 0.1], r"reward=given returned scores of shape \(2,\) for 3 rows from train-0-0 on\.\nReturn one number per row"),
        ([[0.5], [0.1], [0.2]], r"reward=given returned scores of shape \(3, 1\) for 3 rows"),
    ],
)
def test_a_score_that_is_missing_or_no_number_stops_and_names_the_row(scores, message):
    reward = Given(scores=scores)
    with pytest.raises(UserError, match=message):
        checked_scores(reward, reward.scorer(None), [row(i) for i in range(3)])


def test_scores_at_the_ends_of_the_range_pass():
    reward = Given(scores=[-1, 0, 1])
    found = checked_scores(reward, reward.scorer(None), [row(i) for i in range(3)])
    assert found.tolist() == [-1.0, 0.0, 1.0]
    assert found.dtype == np.float64


KINDS = {"good": 2.0, "fine": 0.5, "poor": -0.5, "awful": -2.0}
WORDS = Fitted(target=Target.regression, features=Features.words, prompts=Prompts.first_half, alpha=1.0, max_features=500)


def rated(count=80, offset=0):
    """Two responses to each of some prompts, whose stored logit is that of the word they hold and a little noise."""
    noise = np.random.default_rng(offset).normal(0, 0.2, (count, 2))
    names = list(KINDS)
    return [
        replace(
            row(2 * i + k, f"the food was {names[(i + k) % 4]} on day {i % 7}", prompt=f"visit {offset + i}"),
            stored=KINDS[names[(i + k) % 4]] + float(noise[i, k]),
        )
        for i in range(count)
        for k in range(2)
    ]


TRAIN, VALIDATION = rated(), rated(20, offset=1000)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """The folder of a fitted reward's state, and the skill that fitting it reported."""
    folder = tmp_path_factory.mktemp("fitted")
    return folder, WORDS.fit(TRAIN, VALIDATION, folder)


def refit(folder, train, reward=WORDS):
    folder.mkdir()
    reward.fit(train, VALIDATION, folder)
    return reward.scorer(folder)


def used(reward, rows):
    return reward.prompts.of(rows)


def test_a_fitted_reward_learns_the_stored_one_and_keeps_to_0_1(fitted):
    folder, found = fitted
    scores = checked_scores(WORDS, WORDS.scorer(folder), VALIDATION)
    means = [np.mean([s for s, r in zip(scores, VALIDATION, strict=True) if kind in r.response]) for kind in KINDS]
    assert means == sorted(means, reverse=True)
    assert means[0] > 0.8
    assert means[-1] < 0.2
    assert found["r2"] > 0.8
    assert found["pair_accuracy"] > 0.9
    assert found["held_out_rows"] == 40
    assert found["rows"] == len(used(WORDS, TRAIN))


def test_skill_worked_by_hand():
    # 1, 0, 3 against 2, 0, 1: R² = 1 − (1 + 0 + 4) / 2, ranks agree on two of three pairs, ρ = ½
    rows = [row(i, prompt="one") for i in range(3)]
    found = skill(np.array([1.0, 0.0, 3.0]), rows, np.array([2.0, 0.0, 1.0]))
    assert found["r2"] == pytest.approx(1 - 5 / 2)
    assert found["rank_correlation"] == pytest.approx(0.5)
    assert found["pairs"] == 3
    assert found["pair_accuracy"] == pytest.approx(2 / 3)
    # of three pairs one ties, one is in order and one is not; a constant is right as often as not
    assert skill(np.array([1.0, 0.0, 1.0]), rows, np.array([2.0, 0.0, 3.0]))["pair_accuracy"] == pytest.approx(2.5 / 3)
    assert skill(np.zeros(3), rows, np.array([2.0, 0.0, 1.0]))["pair_accuracy"] == 0.5


def test_figures_of_skill_that_the_rows_leave_undefined_are_not_there():
    rows = [row(i, prompt=f"{i}") for i in range(3)]
    assert skill(np.zeros(3), rows, np.array([2.0, 0.0, 1.0])) == {
        "held_out_rows": 3,
        "r2": 1 - 5 / 2,
        "pairs": 0,
    }
    assert skill(np.arange(3.0), rows, np.ones(3)) == {"held_out_rows": 3, "pairs": 0}
    assert skill(np.zeros(1), rows[:1], np.ones(1)) == {"held_out_rows": 1, "pairs": 0}


def test_equal_rewards_teach_a_fitted_reward_nothing(tmp_path):
    same = [replace(r, stored=4.0) for r in TRAIN]
    with pytest.raises(
        UserError, match=r"has nothing to learn: the stored rewards of \d+ responses are all 4\.\nName another column"
    ):
        WORDS.fit(same, VALIDATION, tmp_path)


def test_training_rows_are_scored_by_a_model_that_did_not_see_their_prompt(fitted, tmp_path):
    rows = used(WORDS, TRAIN)
    before = WORDS.scorer(fitted[0]).score(rows)
    own = rows[6].group
    altered = [replace(r, stored=r.stored + 3) if r.group == own else r for r in TRAIN]
    after = refit(tmp_path / "altered", altered).score(rows)
    fold = [int(r.group[8:], 16) % FOLDS for r in rows]
    same_fold = np.array(fold) == fold[6]
    assert [r.group for r in rows].count(own) == 2
    assert np.array_equal(after[same_fold], before[same_fold])
    assert (after[~same_fold] != before[~same_fold]).all()
    assert 0 < same_fold.sum() < len(rows)


def test_new_rows_are_scored_by_the_model_that_saw_every_chosen_prompt(fitted, tmp_path):
    altered = [replace(r, stored=r.stored + 3) if r.group == used(WORDS, TRAIN)[6].group else r for r in TRAIN]
    after = refit(tmp_path / "altered", altered).score(VALIDATION)
    assert (after != WORDS.scorer(fitted[0]).score(VALIDATION)).all()


def test_state_that_is_loaded_again_gives_the_same_bits(fitted, tmp_path):
    rows = TRAIN + VALIDATION
    expected = WORDS.scorer(fitted[0]).score(rows)
    moved = shutil.copytree(fitted[0], tmp_path / "moved")
    assert np.array_equal(WORDS.scorer(moved).score(rows), expected)
    assert np.array_equal(refit(tmp_path / "again", TRAIN).score(rows), expected)
    assert np.array_equal([WORDS.scorer(moved).score([r])[0] for r in rows], expected)


def test_the_state_is_safetensors_and_json_and_nothing_is_pickled(fitted):
    files = sorted(file.name for file in fitted[0].iterdir())
    assert files == ["model.safetensors", "vocabulary.json"]
    assert not [name for name in files if (fitted[0] / name).read_bytes().startswith(b"\x80")]


def test_halves_of_the_prompts_are_halves_also_of_a_file_that_was_split_by_their_hash():
    keys = [prompt_key(f"prompt {i}") for i in range(4000)]
    train = [key for key in keys if int(key[:8], 16) / 2**32 >= 0.1]  # as task=local splits a file
    lo, hi = Prompts.first_half.value
    first = np.array([lo <= share(key) < hi for key in train])
    assert len(first) < 3700
    assert first.mean() == pytest.approx(0.5, abs=0.03)
    folds = np.array([_fold(key) for key in train])
    assert all(first[folds == fold].mean() == pytest.approx(0.5, abs=0.06) for fold in range(FOLDS))


def test_the_held_out_reward_has_other_features_and_other_prompts(fitted, tmp_path):
    from safetensors.numpy import load_file

    second = WORDS.held_out()
    assert (second.features, second.prompts) == (Features.characters, Prompts.second_half)
    assert (second.alpha, second.max_features) == (WORDS.alpha, WORDS.max_features)
    assert second.held_out() == WORDS
    refit(tmp_path / "second", TRAIN, second)
    groups = [set(load_file(f / "model.safetensors")["fitted_groups"].tolist()) for f in (fitted[0], tmp_path / "second")]
    assert min(map(len, groups)) > 20
    assert not groups[0] & groups[1]
    assert groups[0] | groups[1] == {int(r.group, 16) for r in TRAIN}


def test_a_reward_fitted_on_all_prompts_has_no_counterpart():
    assert replace(WORDS, prompts=Prompts.all).held_out() is None
    assert len(used(replace(WORDS, prompts=Prompts.all), TRAIN)) == len(TRAIN)


def test_prompt_and_response_have_features_of_their_own(fitted):
    scorer = WORDS.scorer(fitted[0])
    swapped = [replace(r, prompt=r.response, response=r.prompt) for r in VALIDATION]
    assert np.ptp(scorer.score(swapped)) < 0.2 < np.ptp(scorer.score(VALIDATION))


def test_too_few_rows_and_missing_scores_are_refused(tmp_path):
    with pytest.raises(UserError, match="reward=fitted has too few rows"):
        WORDS.fit(TRAIN[:8], VALIDATION, tmp_path)
    with pytest.raises(
        UserError, match=r"no response of the train split has a stored reward to fit on\.\nName the column of the reward"
    ):
        WORDS.fit([replace(r, stored=None) for r in TRAIN], VALIDATION, tmp_path)
    with pytest.raises(UserError, match="no response of the validation split has a stored reward"):
        WORDS.fit(TRAIN, [replace(r, stored=None) for r in VALIDATION], tmp_path)


def test_prompts_without_words_have_no_features_and_texts_without_any_are_refused(fitted, tmp_path):
    wordless = [replace(r, prompt="?!") for r in (*TRAIN, *VALIDATION)]
    scorer = refit(tmp_path / "wordless", wordless[: len(TRAIN)])
    np.testing.assert_array_equal(
        scorer.score(wordless) > 0.5, WORDS.scorer(fitted[0]).score([*TRAIN, *VALIDATION]) > 0.5
    )  # the response decides
    with pytest.raises(UserError, match=r"no words occur in 3 of the \d+ prompts, nor of the responses\.\nreward\.features=char"):
        WORDS.fit([replace(r, response="👍" * (i % 5)) for i, r in enumerate(wordless)], VALIDATION, tmp_path)


def test_what_stores_no_reward_is_left_out_and_counted(fitted, tmp_path):
    unrated = [replace(r, id=f"{r.id}-unrated", response="never seen", stored=None) for r in TRAIN[:7] + VALIDATION[:3]]
    found = WORDS.fit(TRAIN + unrated[:7], VALIDATION + unrated[7:], tmp_path)
    assert found == fitted[1] | {"rows_without_reward": 7}
    assert (tmp_path / "model.safetensors").read_bytes() == (fitted[0] / "model.safetensors").read_bytes()


def test_normal_scores_worked_by_hand():
    # ranks 2.5, 1, 2.5, 4 of 4: Φ⁻¹ of 1/2, 1/8, 1/2, 7/8
    np.testing.assert_allclose(normal_scores(np.array([1.0, -38.0, 1.0, 263.0])), [0, -1.150349, 0, 1.150349], atol=1e-6)


def test_ranks_are_not_swayed_by_votes_far_out(tmp_path):
    votes = [replace(r, stored=math.exp(2 * r.stored)) for r in TRAIN]
    ranks = replace(WORDS, target=Target.ranks)
    found = ranks.fit(votes, [replace(r, stored=math.exp(2 * r.stored)) for r in VALIDATION], tmp_path)
    scores = ranks.scorer(tmp_path).score(VALIDATION)
    other = refit(tmp_path / "logits", TRAIN, ranks).score(VALIDATION)
    np.testing.assert_array_equal(scores, other)  # a scale that keeps the order changes nothing
    assert found["rank_correlation"] > 0.8
    assert found["r2"] > 0.6


LABELS = replace(WORDS, target=Target.classification)


def labelled(rows):
    return [replace(r, stored=float(r.stored > 0)) for r in rows]


def test_a_classifier_learns_the_stored_labels_and_gives_their_probability(tmp_path):
    found = LABELS.fit(labelled(TRAIN), labelled(VALIDATION), tmp_path)
    scores = checked_scores(LABELS, LABELS.scorer(tmp_path), VALIDATION)
    stored = np.array([r.stored for r in labelled(VALIDATION)])
    assert scores[stored == 1].min() > 0.5 > scores[stored == 0].max()
    assert found["accuracy"] == found["auc"] == 1.0
    assert found["share_of_1"] == stored.mean()
    assert found["rows"] == len(used(LABELS, TRAIN))


def test_skill_with_labels_worked_by_hand():
    # right of ½ are rows 0 and 2: 3 of 4 labels are right; of the 4 pairs 1-0, 3 are in order
    rows = [row(i, stored=s) for i, s in enumerate([1.0, 0.0, 1.0, 1.0])]
    found = skill_with_labels(np.array([0.9, 0.45, 0.8, 0.4]), rows)
    assert (found["accuracy"], found["auc"], found["share_of_1"]) == (0.75, pytest.approx(2 / 3), 0.75)
    assert "auc" not in skill_with_labels(np.array([0.9, 0.4]), rows[2:])


def test_labels_must_be_0_and_1_and_of_both_kinds(tmp_path):
    with pytest.raises(
        UserError, match=r"example train-\d+-0: reward\.target=classification expected a stored label of 0 or 1, got "
    ):
        LABELS.fit(TRAIN, VALIDATION, tmp_path)
    with pytest.raises(UserError, match="needs more rows of both labels, 0 and 1"):
        LABELS.fit([replace(r, stored=1.0) for r in TRAIN], labelled(VALIDATION), tmp_path)


def test_length_counts_words_or_characters():
    rows = [row(0, " one two\nthree "), row(1, ""), row(2, "word " * 9)]
    words, few = Length(unit=Unit.words, most=None), Length(unit=Unit.words, most=4)
    assert words.scorer(None).score(rows).tolist() == [3, 0, 9]
    assert checked_scores(few, few.scorer(None), rows).tolist() == [3, 0, 4]
    assert (words.range, few.range) == ((0, math.inf), (0, 4))
    characters = Length(unit=Unit.characters, most=None)
    assert characters.scorer(None).score([row(0, " 你好， 世界 "), row(1, "a bc")]).tolist() == [5, 3]


@pytest.mark.parametrize(
    ("response", "known"), [("one two", True), ("今天天气很好", False), ("iPhone 很好用啊", True), ("12 !", True)]
)
def test_words_cannot_be_counted_where_no_spaces_separate_them(response, known):
    assert Length(unit=Unit.words, most=None).knows(response) is known
    assert Length(unit=Unit.characters, most=None).knows(response)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [1, 0, 0]),
        ({"ignore_case": True}, [1, 1, 0]),
        ({"whole": True}, [0, 0, 0]),
        ({"whole": True, "pattern": "No.+"}, [0, 1, 0]),
        ({"absent": True}, [0, 1, 1]),
        ({"pattern": "^second"}, [1, 0, 0]),
    ],
)
def test_a_pattern_occurs_or_does_not(options, expected):
    reward = Regex(**{"pattern": r"\bthanks?\b", "ignore_case": False, "whole": False, "absent": False} | options)
    rows = [row(0, "many thanks\nsecond line"), row(1, "No Thank you"), row(2, "thankful")]
    assert reward.scorer(None).score(rows).tolist() == expected


def test_tfidf_diversity_worked_by_hand(tmp_path):
    reward = TfidfDiversity(min_rows=1)
    train = [row(0, "red cat"), row(1, "red dog"), row(2, "red red bird")]
    assert reward.fit(train, [], tmp_path) == {}
    rows = [
        row(0, "red cat"),
        row(1, "Cat cat"),
        row(2, "unknown"),
        row(3, ""),
        row(4, "red cat dog bird fish"),
        row(5, "bird it"),
    ]
    # idf = ln((1 + 3) / (1 + df)) + 1: 1 for red, in all three; ln 2 + 1 for the others
    rare = math.log(2) + 1
    expected = [
        (1 + rare) / math.hypot(1, rare) / 2 * 2 / 10,
        1 * 1 / 10,  # one distinct word, whose vector has length 1
        0,
        0,
        (1 + 3 * rare) / math.sqrt(1 + 3 * rare**2) / 4,  # five distinct words: nothing is scaled; fish weighs nothing
        1 * 2 / 10,
    ]
    np.testing.assert_allclose(checked_scores(reward, reward.scorer(tmp_path), rows), expected, atol=1e-12)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["model.safetensors", "vocabulary.json"]


def test_tfidf_diversity_needs_words(tmp_path):
    with pytest.raises(UserError, match=r"no word occurs in reward\.min_rows=3 of the 2 training responses"):
        TfidfDiversity(min_rows=3).fit([row(0, "red cat"), row(1, "red dog")], [], tmp_path)
    with pytest.raises(UserError, match=r"no word occurs .*\nWords have two letters or more: choose another reward"):
        TfidfDiversity(min_rows=1).fit([row(0, "👍"), row(1, "👎 a")], [], tmp_path)
