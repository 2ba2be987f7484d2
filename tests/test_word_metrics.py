"""What counts as a word, by the script of the data."""

import importlib.util

import pytest
from tiny import composed, store, write_rows

from aloll_cli.artifacts.data import Data
from aloll_cli.artifacts.logged_prompts import words_of
from aloll_cli.errors import UserError
from aloll_cli.metrics.text import distinct, matched_distinct, text_figures
from aloll_cli.metrics.words import TOKENIZERS, by_script, letter_shares
from aloll_cli.settings.checks import check_metrics
from aloll_cli.settings.choices import Words

TEXTS = {
    "13a": "The café isn't open yet, but we can wait outside; there is nothing else to do. " + "It is a long day. " * 20,
    "intl": "Die Prüfung fällt heute für alle aus, weil es geschneit hat.",
    "zh": "今天天气很好，我们用 Python 3 写程序。",
    "char": "今日はとても良い天気ですね。コーヒーを飲みましょう。",
}
OTHERS = {
    "intl": ("Сегодня хорошая погода", "오늘은 날씨가 좋습니다", "اليوم الطقس جميل"),
    "char": ("วันนี้อากาศดี",),
    "zh": ("It is " * 20 + "今天天气很好今天天气很好",),
    "13a": ("", "1 + 1 = 2", "ok 👍"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_the_tokenizer_is_chosen_by_the_letters_of_the_data(name):
    for text in (TEXTS[name], *OTHERS[name]):
        assert by_script(letter_shares([[text]])).name == name


def test_shares_of_letters_worked_by_hand():
    shares = letter_shares([["ab", "猫!"], ["あ", "é 7"]])
    assert [*shares.values()] == [2 / 5, 1 / 5, 1 / 5, 1 / 5]
    assert set(letter_shares([["1", ""], []]).values()) == {0.0}


def test_an_option_names_every_tokenizer_and_the_choice_by_script():
    assert {word.name for word in Words} == {"auto", *TOKENIZERS}


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("13a", " It isn't  late. ", ["It", "isn't", "late."]),
        ("intl", "Schön, l'été!", ["Schön", "l", "été"]),
        ("zh", "我用iPhone 15。好！", ["我", "用", "iPhone", "15", "好"]),
        ("char", "猫 がaい。", ["猫", "が", "a", "い"]),
        ("char", "ดี", ["ด", "ี"]),
    ],
)
def test_words_by_tokenizer(name, text, words):
    assert TOKENIZERS[name].words(text) == words


def test_lengths_and_distinct_n_of_chinese_count_characters():
    texts = ["猫坐着。", "猫 坐 了", "", "。"]
    zh = TOKENIZERS["zh"]
    figures = text_figures(texts, 10, tokenizer=zh)
    assert figures["length"]["mean"] == pytest.approx(6 / 3)  # 3, 3, and 0 of the one that is punctuation only
    assert figures["empty"] == 1 / 4
    assert figures["distinct_1"] == figures["distinct_1_per_word"] == pytest.approx(4 / 6)
    assert distinct(texts, 2, tokenizer=zh) == pytest.approx(3 / 4)
    assert matched_distinct(texts, ["猫猫"], zh)["distinct_1_matched"] == 1.0
    assert text_figures(texts, 10)["length"]["mean"] == pytest.approx(5 / 3)


def test_all_splits_decide_and_the_option_has_the_last_word(tmp_path):
    rows = {"train": "很好" * 3, "validation": "fine", "test": "good"}
    for split, response in rows.items():
        write_rows(tmp_path / "rows" / f"{split}.jsonl", [{"prompt": f"Say {split}", "response": response}])
    settings = composed("task=local", f"task.path={tmp_path / 'rows'}", "values=group", "reward=length")
    folder = store(tmp_path / "out").ensure(Data(settings.task))
    tokenizer, told = words_of(folder, Words.auto)
    assert tokenizer.name == told["tokenizer"] == "zh"
    assert (told["unit"], told["option"]) == ("characters", "auto")
    assert told["letters"]["a to z"] == pytest.approx(8 / 14)
    chosen, told = words_of(folder, Words["13a"])
    assert (chosen.name, told["option"], told["letters"]["Chinese characters"]) == ("13a", "13a", pytest.approx(6 / 14))


@pytest.mark.parametrize(("name", "module"), [("ja-mecab", "MeCab"), ("ko-mecab", "mecab_ko")])
def test_a_tokenizer_that_is_not_installed_is_refused_before_anything_is_built(monkeypatch, name, module):
    monkeypatch.setattr(
        "aloll_cli.settings.checks.find_spec", lambda asked: None if asked == module else importlib.util.find_spec(asked)
    )
    with pytest.raises(UserError, match=f"words={name} needs a package") as error:
        check_metrics(composed(f"words={name}"))
    assert "pip install 'sacrebleu[" in error.value.args[1]
