"""Several rewards at once: sums by hand, parts from the command line and from YAML, one part in memory at a time."""

import json
import math
from dataclasses import dataclass

import numpy as np
import pytest
from running import SMALL, quick
from tiny import composed, gpt2, job, reviews, store, tokenizer

from aloll_cli.artifacts.data import Data
from aloll_cli.artifacts.mixed_rewards import MixedBy
from aloll_cli.artifacts.pipeline import Pipeline
from aloll_cli.artifacts.rewards import load_components, load_rewards
from aloll_cli.errors import UserError
from aloll_cli.reports.figures import comparison
from aloll_cli.rewards.base import Reward, Row, Scorer
from aloll_cli.rewards.fitted import Fitted
from aloll_cli.rewards.mixed import Mixed, Part, Scale, Transform
from aloll_cli.rewards.vader import Vader
from aloll_cli.schema import from_plain, plain

VADER = "+reward@reward.parts.{}.reward=vader"  # as the command line's reward.parts.NAME=vader is handed to Hydra
TWO = ["reward=mixed", VADER.format("mood"), VADER.format("other")]


@dataclass(kw_only=True)
class Given(Reward):
    """A score for each row, in a range; counts how many of its kind are loaded."""

    scores: list[float]
    lo: float = -math.inf
    hi: float = math.inf

    alive = 0
    most_alive = 0

    @property
    def range(self):
        return self.lo, self.hi

    def scorer(self, state):
        return GivenScorer(self.scores)


class GivenScorer(Scorer):
    def __init__(self, scores):
        self.scores = scores
        Given.alive += 1
        Given.most_alive = max(Given.most_alive, Given.alive)

    def __del__(self):
        Given.alive -= 1

    def score(self, rows):
        return np.array(self.scores)


def mixed(**parts):
    return Mixed(parts=parts)


def given(scores=(0.0,), lo=-math.inf, hi=math.inf, **options):
    return Part(reward=Given(scores=list(scores), lo=lo, hi=hi), **options)


def test_the_sum_worked_by_hand():
    reward = mixed(
        plain=given(lo=0, hi=1),
        odds=given(weight=2, transform=Transform.sigmoid),
        short=given(weight=-1, transform=Transform.clip, lo=-9, hi=9),
        between=given(transform=Transform.minmax),
        apart=given(weight=0.5, transform=Transform.zscore),
        watched=given(weight=0),
    )
    scores = {
        "plain": [0.5, 0.25], "odds": [0.0, math.log(3)], "short": [0.4, 7.0], "between": [3.0, 9.0], "apart": [3.0, -1.0],
        "watched": [5.0, 5.0],
    }  # fmt: skip
    scales = {"between": Scale(1, 5, 0, 0), "apart": Scale(0, 0, 1, 2)}
    found = reward.total({name: np.array(values) for name, values in scores.items()}, scales)
    # ½ + 2·½ − 0.4 + (3−1)/4 + ½·(3−1)/2 | ¼ + 2·¾ − 1 + 1 (9 is beyond the greatest) + ½·(−1−1)/2
    np.testing.assert_allclose(found, [0.5 + 1 - 0.4 + 0.5 + 0.5, 0.25 + 1.5 - 1 + 1 - 0.5], atol=1e-12)


def test_a_scale_is_that_of_its_scores():
    assert Scale.of(np.array([1.0, 2.0, 6.0])) == Scale(1.0, 6.0, 3.0, pytest.approx(math.sqrt(14 / 3)))


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ({"a": given(lo=0, hi=1), "b": given(lo=0, hi=1, weight=2)}, (0, 3)),
        ({"a": given(lo=0, hi=1, weight=-2)}, (-2, 0)),
        ({"a": given(lo=1, hi=5), "b": given(transform=Transform.sigmoid)}, (1, 6)),
        ({"a": given(transform=Transform.clip)}, (0, 1)),
        ({"a": Part(reward=Given(scores=[], lo=0, hi=0.5), transform=Transform.clip, lo=-2, hi=2)}, (0, 0.5)),
        ({"a": given(lo=0, hi=1, transform=Transform.zscore), "b": given(lo=0, hi=1)}, (-math.inf, math.inf)),
        ({"a": given(transform=Transform.minmax), "b": given(weight=0)}, (0, 1)),
        ({"a": given(weight=0)}, (0, 0)),
    ],
)
def test_the_range_is_that_of_the_weighted_sum(parts, expected):
    assert mixed(**parts).range == expected


def test_a_transform_needs_bounds_in_order_and_parts_need_names():
    with pytest.raises(UserError, match=r"lo=1 of a part must be less than its hi=1"):
        Part(reward=Vader(), lo=1, hi=1)
    with pytest.raises(UserError, match="reward=mixed has no parts"):
        mixed()
    for name in ("id", "reward", "cut", "malformed", "mixed", "a-b"):
        with pytest.raises(UserError, match=rf'"{name}" is not a valid name.*\n.*; not id, reward, cut, malformed, mixed\.'):
            mixed(**{name: given()})
    assert set(mixed(mood=given(), mood_scale=given()).parts) == {"mood", "mood_scale"}
    with pytest.raises(UserError, match=r'"mood_scale" is not a valid name'):
        mixed(mood=given(transform=Transform.zscore), mood_scale=given())
    with pytest.raises(UserError, match=r"reward\.parts\.a is itself a mixed reward"):
        mixed(a=Part(reward=mixed(b=given())))


def test_a_mixture_with_a_stored_part_cannot_score_text():
    assert mixed(a=given()).scores_text
    stored = composed("reward=column", "values=data").reward
    assert not mixed(a=given(), b=Part(reward=stored)).scores_text


def test_the_counterpart_of_a_mixture_replaces_the_parts_that_have_one():
    fitted = composed("reward=fitted").reward
    second = mixed(a=Part(reward=Vader(), weight=2), b=Part(reward=fitted, weight=3)).held_out()
    assert isinstance(second.parts["b"].reward, Fitted)
    assert second == mixed(a=Part(reward=Vader(), weight=2), b=Part(reward=fitted.held_out(), weight=3))
    assert mixed(a=Part(reward=Vader())).held_out() is None


@pytest.mark.slow
def test_one_part_is_in_memory_at_a_time(tmp_path):
    Given.alive = Given.most_alive = 0
    by = MixedBy(mixed(a=given([1, 2]), b=given([3, 4], weight=10), c=given([5, 6])), Data(composed().task))
    scores = by.scorer(job(tmp_path)).score([Row(f"r{i}", "0" * 16, "", "") for i in range(2)])
    assert scores.tolist() == [36, 48]
    assert (Given.most_alive, Given.alive) == (1, 0)


def test_settings_with_parts_survive_being_written_down():
    reward = composed(*TWO, "reward.parts.mood.weight=2", "reward.parts.other.transform=zscore").reward
    assert from_plain(Reward, json.loads(json.dumps(plain(reward)))) == reward
    assert reward.parts["mood"] == Part(reward=Vader(), weight=2.0)


def test_weights_and_transforms_change_the_sum_alone():
    def line(*options):
        return Pipeline(composed(*TWO, *options))

    def fingerprints(found):
        return {name: part.fingerprint for name, part in found.rewards().parts.items()}

    before, after = line(), line("reward.parts.mood.weight=2", "reward.parts.other.transform=minmax")
    assert fingerprints(before) == fingerprints(after)
    assert before.rewards().fingerprint != after.rewards().fingerprint
    assert before.reference.fingerprint == after.reference.fingerprint
    # what a reward gave by itself is what it gives as a part
    assert fingerprints(before)["mood"] == Pipeline(composed()).rewards().fingerprint


@pytest.mark.slow
def test_scores_of_parts_are_kept_as_they_are_and_scales_come_from_the_raw_train_split(tmp_path):
    folder = reviews(tmp_path / "rows")
    options = [f"task.path={folder}", "model.vocab_size=400", *TWO, "reward.parts.mood.weight=3"]
    line = Pipeline(composed(*options, "reward.parts.other.transform=zscore"))
    root = tmp_path / "out"
    made = store(root).ensure(line.rewards())
    scores, total = load_components(made, ["mood", "other"]), load_rewards(made)
    assert np.array_equal(scores["mood"], scores["other"])
    assert len(set(scores["mood"])) == 3
    # the training responses are whole here, so that they have mean 0 and deviation 1 themselves
    other = (scores["other"] - scores["other"].mean()) / scores["other"].std()
    np.testing.assert_allclose(total, 3 * scores["mood"] + other, atol=1e-12)
    cut = Pipeline(composed(*options, "reward.parts.other.transform=zscore", "task.max_response_tokens=4"))
    assert cut.scored_by.inputs()["other_scale"].fingerprint == line.scored_by.inputs()["other_scale"].fingerprint


@pytest.mark.slow
def test_a_scale_needs_scores_that_differ(tmp_path):
    folder = reviews(tmp_path / "rows")
    for file in folder.iterdir():
        file.write_text(file.read_text().replace("good", "fine").replace("bad", "fine"))
    line = Pipeline(composed(f"task.path={folder}", "model.vocab_size=400", *TWO, "reward.parts.other.transform=minmax"))
    with pytest.raises(UserError, match=r"vader does not vary beyond rounding .* \(all 0\.6\d+\): it has no scale"):
        store(tmp_path / "out").ensure(line.scored_by.scalings["other"])


@pytest.mark.slow
def test_an_evaluation_tells_what_became_of_each_part(tmp_path):
    """From a YAML file of one's own, with one part more on the command line."""
    reviews(tmp_path / "rows")
    gpt2().save_pretrained(tmp_path / "model")
    gpt2(seed=1).save_pretrained(tmp_path / "policy")
    for name in ("model", "policy"):
        tokenizer().save_pretrained(tmp_path / name)
    own = tmp_path / "own" / "reward" / "mine.yaml"
    own.parent.mkdir(parents=True)
    own.write_text(
        'defaults: ["/schema/reward/mixed@_here_", /reward@parts.mood.reward: vader]\n'
        "parts: {mood: {weight: 2, transform: clip, hi: 0.9}}\n"
    )
    options = [o for o in SMALL if not o.startswith(("model.", "reference."))]
    out, _ = quick(
        tmp_path, "evaluate", *options, "--config-dir", "own", "reward=mine", "reward.parts.gloom=vader",
        "reward.parts.gloom.weight=-0.5", "task.path=rows", "model=pretrained", "model.path=model", "reference=pretrained",
        "policy=policy", "generation=greedy",
    )  # fmt: skip
    (file,) = tmp_path.glob("outputs/reviews/metrics/*/metrics.json")
    metrics = json.loads(file.read_text())
    for side in ("policy", "reference"):
        means = {name: figure["mean"] for name, figure in metrics[side]["components"].items()}
        assert set(means) == {"mood", "gloom"}
        assert metrics[side]["reward"]["mean"] == pytest.approx(2 * means["mood"] - 0.5 * means["gloom"])
    gains = {name: gain["mean"] for name, gain in metrics["component_gains"].items()}
    assert metrics["gain"]["mean"] == pytest.approx(2 * gains["mood"] - 0.5 * gains["gloom"])
    assert gains["mood"] == metrics["policy"]["components"]["mood"]["mean"] - metrics["reference"]["components"]["mood"]["mean"]
    assert [name for name, *_ in comparison(metrics)][:3] == ["reward (mixed)", "  mood", "  gloom"]
    assert "  gloom " in out


def test_a_single_reward_is_its_own_component():
    metrics = {"policy": {"reward": 1.0}, "component_gains": {"vader": {}}, "reference": {"reward": 1.0}}
    filler = dict.fromkeys(("length", "empty", "distinct_1", "distinct_1_matched", "ended"), 0.0)
    found = comparison({**metrics, "policy": metrics["policy"] | filler, "reference": metrics["reference"] | filler,
                        "reward": "vader", "gain": None, "words": {"unit": "words"}})  # fmt: skip
    assert found[0][0] == "reward (vader)"
    assert not [name for name, *_ in found if name.startswith("  ")]


@pytest.mark.parametrize(("name", "greatest"), [("imdb", 2), ("grounded", 4), ("reddit", 5)])
def test_the_papers_sums_are_of_components_between_0_and_1(name, greatest):
    reward = composed(f"reward={name}").reward
    assert reward.range == (0, greatest)
    assert len(reward.parts) == greatest
    assert all(part == Part(reward=part.reward) for part in reward.parts.values())
    assert reward.parts["fluency"].reward.text == ("{prompt}{response}" if name == "imdb" else "{response}")
    assert reward.scores_text
