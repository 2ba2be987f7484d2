"""What ``aloll inspect`` tells, against counts by hand."""

import json

import pytest
from tiny import composed, reviews, store, tokenizer, write_rows

from aloll_cli.artifacts.rewards import Rewards
from aloll_cli.errors import UserError
from aloll_cli.reports.token_text import TokenText, marked
from aloll_cli.stages import inspect

SMALL = ("model.vocab_size=300", "task.max_prompt_tokens=6", "task.max_response_tokens=5")


@pytest.fixture
def rows(tmp_path):
    """Short reviews, one of which is there twice."""
    folder = reviews(tmp_path / "rows")
    with (folder / "train.jsonl").open("a") as stream:
        stream.write(json.dumps({"prompt": "Visit 3 to the train place.", "response": "It was good for 3 people."}) + "\n")
        stream.write(json.dumps({"prompt": "Visit 3 to the train place.", "response": " "}) + "\n")
    return folder


def told(capsys, tmp_path, *overrides):
    inspect.run(composed(*overrides), store(tmp_path / "out"))
    return capsys.readouterr().out


@pytest.mark.slow
def test_figures_are_those_counted_by_hand(capsys, tmp_path, rows):
    found = json.loads(told(capsys, tmp_path, f"task.path={rows}", *SMALL, "format=json"))
    train = found["splits"]["train"]
    assert found["rows"]["train"] == {"rows": 26, "responses": 25, "empty responses left out": 1}
    assert (train["examples"], train["prompts"], train["duplicates"], train["left_out"]) == (25, 24, 1, 0)
    assert train["prompts_cut"]["count"] == train["responses_cut"]["count"] == 25
    assert train["prompt_tokens"] == dict.fromkeys(map(str, (0, 5, 25, 50, 75, 95, 100)), 6.0)
    reward = found["rewards"]["train"]["vader"]
    assert reward["count"] == sum(reward["histogram"]["counts"]) == 25
    assert reward["percentiles"]["0"] == reward["histogram"]["from"] < reward["histogram"]["to"]
    first = found["examples"][0]
    assert first["id"] == "train-0-0"
    assert first["prompt"].startswith("<s>[… ")
    assert first["response"].endswith(" tokens cut …]")


@pytest.mark.slow
def test_the_page_shows_examples_rows_and_a_histogram(capsys, tmp_path, rows):
    out = told(capsys, tmp_path, f"task.path={rows}", *SMALL, "task.max_response_tokens=60")
    assert "train-0-0" in out
    assert "</s>" in out
    assert "train: 26 rows, 25 responses, 1 empty responses left out" in out
    assert "reward vader, percentiles" in out
    assert "#" * 40 in out


@pytest.mark.slow
def test_the_words_of_the_metrics_are_told_by_the_script_of_the_data(capsys, tmp_path):
    for split in ("train", "validation", "test"):
        rows = [{"prompt": f"{split} {i}", "response": "这里很好吃" if i % 4 else "It was good"} for i in range(8)]
        write_rows(tmp_path / "rows" / f"{split}.jsonl", rows)
    options = ("task=local", f"task.path={tmp_path / 'rows'}", "reward=vader", *SMALL)
    inspect.run(composed(*options), store(tmp_path / "out"))
    out, err = capsys.readouterr()
    # 6 responses of 5 Chinese characters and 2 of 9 letters in each split
    assert "words in metrics of text: zh (by the script of the logged responses; their letters: 37.5% a to z, 62.5% Chi" in out
    assert err.count("warning: reward=vader does not know the script of 6 of 8 train responses (75.0%)") == 1
    found = json.loads(told(capsys, tmp_path, *options, "words=char", "format=json"))
    assert (found["words"]["tokenizer"], found["words"]["option"]) == ("char", "char")


def test_vader_refuses_data_without_a_latin_letter(capsys, tmp_path):
    for split in ("train", "validation", "test"):
        write_rows(tmp_path / "rows" / f"{split}.jsonl", [{"prompt": f"{split} {i}", "response": "很好"} for i in range(3)])
    with pytest.raises(UserError, match="reward=vader cannot score the train responses: all 3 are in a script"):
        told(capsys, tmp_path, "task=local", f"task.path={tmp_path / 'rows'}", "reward=vader", *SMALL)


def test_a_reward_that_would_be_downloaded_gives_way_to_what_is_stored(capsys, tmp_path, monkeypatch):
    for split in ("train", "validation", "test"):
        row = {"prompt": split, "response": ["A", "B"], "reward": [1, 5]}
        write_rows(tmp_path / "rows" / f"{split}.jsonl", [row])
    monkeypatch.setattr(Rewards, "make", None)  # nothing may be scored
    options = ("task=local", f"task.path={tmp_path / 'rows'}", "reward=classifier", "reward.path=somebody/some-model", *SMALL)
    found = json.loads(told(capsys, tmp_path, *options, "format=json"))
    assert {name: of["stored"]["mean"] for name, of in found["rewards"].items()} == dict.fromkeys(found["splits"], 3.0)
    assert found["examples"][1]["stored"] == 5.0


@pytest.mark.slow
def test_noise_and_what_chooses_examples_are_told(capsys, tmp_path, rows):
    options = (f"task.path={rows}", *SMALL, "task.noise=0.2", "task.responses=first")
    found = json.loads(told(capsys, tmp_path, *options, "format=json"))
    assert found["choice"] == {
        "subsets": None, "unrated": "keep", "min_reward": None, "max_reward": None, "responses": "first",
        "limit": None, "limit_eval": None, "truncated": "keep", "noise": 0.2,
    }  # fmt: skip
    assert {split: of["noise"] for split, of in found["splits"].items()} == {"train": 5, "validation": 0, "test": 0}
    selected = "selected by task.unrated=keep, task.responses=first, task.truncated=keep, task.noise=0.2"
    assert selected in told(capsys, tmp_path, *options)


@pytest.mark.slow
def test_every_component_of_a_mixture_has_its_figures(capsys, tmp_path, rows):
    named = [f"+reward@reward.parts.{name}.reward={kind}" for name, kind in (("mood", "vader"), ("size", "length"))]
    parts = ("reward=mixed", *named, "reward.parts.size.weight=0.5")
    rewards = json.loads(told(capsys, tmp_path, f"task.path={rows}", *SMALL, *parts, "format=json"))["rewards"]["train"]
    assert list(rewards) == ["mixed", "mood", "size"]
    assert rewards["mixed"]["mean"] == pytest.approx(rewards["mood"]["mean"] + 0.5 * rewards["size"]["mean"])


def test_a_mark_stands_where_tokens_are_missing():
    ids, writer = tokenizer()("We loved the garden, the bread.")["input_ids"], TokenText(tokenizer())
    assert marked(ids, ids, writer) == "<s>We loved the garden, the bread."
    text = marked([*ids[:3], *ids[6:]], ids, writer)
    assert text == tokenizer().decode(ids[:3]) + "[… 3 tokens cut …]" + tokenizer().decode(ids[6:])
