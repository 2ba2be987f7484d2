"""Plain words: phrases that nobody should have to decode stand nowhere that a person reads."""

import io
import re
import tokenize
from pathlib import Path

import pytest
from evaluated import write_run
from running import twice
from tiny import composed

from aloll_cli.artifacts.pipeline import Pipeline
from aloll_cli.comparison.differences import compared
from aloll_cli.comparison.runs import load_run
from aloll_cli.reports.comparison_columns import NOTES, columns, costs
from aloll_cli.reports.curves import FIGURES
from aloll_cli.reports.figures import comparison
from aloll_cli.reports.page import write_page
from aloll_cli.store.inventory import entries, table

ROOT = Path(__file__).parents[1]
PLACES = ("aloll_cli/**/*.py", "aloll_cli/**/*.html", "conf/**/*.yaml", "docs/*.md", "scripts/*", "*.md")
UNITS = "seconds?|minutes?|steps?|updates?|prompts?|tokens?|runs?|responses?|samples?|rows?|bytes|hours?"
PHRASES = (
    r"KL a token", rf"\b(?:{UNITS}) a (?:second|minute|step|update|prompt|token|run|response|row|call)\b",
    r"answers a prompt", r"held? (?:it |a run |runs )?against",
    r"was made from", r"no policy and no evaluation", r"reused {2}", r"made {4}", r"makes {3}", r"after update",
    r"\d weights train", r"unlike reward", r"a constant's", r"reference against the policy", r"another seed would bring",
    r"gives? way", r"gain: null", r"undisturbed", r"ends with the (?:same )?bits", r"this value does not fit",
    r"between two updates", r"optimizer updates", r"training updates", r"each update\b", r"of an update\b",
)  # fmt: skip
# what a model generates is a response; a file and a system prompt keep their names
ANSWERS = re.compile(
    r"(?<![\w`'\"=])answers\b(?!\.jsonl|[`'\"=])|\b(?:an|each|every|first|logged|generated) answers?\b", re.IGNORECASE
)
GIVEN = ("polite answers to the user's questions",)
HEADS = {"different", "ended", "kept", "answers", "updates", "judge", "feed"}
TEXTS = {tokenize.STRING, tokenize.COMMENT, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)}


def readable():
    """Every line that a person may read, with its place."""
    files = sorted({file for pattern in PLACES for file in ROOT.glob(pattern) if file.is_file()})
    assert len(files) > 250
    for file in files:
        for number, line in enumerate(file.read_text().splitlines(), 1):
            yield f"{file.relative_to(ROOT)}:{number}", line


def prose():
    """The same without the names in Python and in templates: strings, comments and text."""
    for file in sorted({file for pattern in PLACES for file in ROOT.glob(pattern) if file.is_file()}):
        text = file.read_text()
        if file.suffix == ".py":
            found = [token for token in tokenize.generate_tokens(io.StringIO(text).readline) if token.type in TEXTS]
            yield from ((f"{file.relative_to(ROOT)}:{token.start[0]}", token.string) for token in found)
        elif file.suffix != ".csv":
            shown = re.sub(r"\{[%{].*?[%}]\}", "", text)
            yield from ((f"{file.relative_to(ROOT)}:{number}", line) for number, line in enumerate(shown.splitlines(), 1))


@pytest.mark.slow
def test_no_phrase_stands_where_a_person_reads_it():
    found = [
        f"{place}: {phrase}"
        for place, line in readable()
        for phrase in PHRASES
        if re.search(phrase, line, re.IGNORECASE) and not line.startswith("{")
    ]
    assert found == []


@pytest.mark.slow
def test_what_a_model_generates_is_called_a_response():
    texts = list(prose())
    assert len(texts) > 9_000
    assert [
        f"{place}: {text}" for place, text in texts if ANSWERS.search(text) and not any(given in text for given in GIVEN)
    ] == []
    assert [bool(ANSWERS.search(text)) for text in ("its answers", "answers.jsonl", "`answers`", "every answer", "answer=x")] == [
        True, False, False, True, False,
    ]  # fmt: skip


def test_no_sentence_of_the_log_says_a_word_twice():
    line = Pipeline(composed())
    assert line.rewards("train").what == "train responses"
    assert line.scored_by.rewards(line.samples, "responses").what == "generated responses"
    assert twice("of 1 of 250 responses responses\nof 1 of 250 responses\n") == ["of 1 of 250 responses responses"]


def test_no_table_has_a_head_that_must_be_decoded(tmp_path: Path):
    runs = [load_run(write_run(tmp_path / "reviews", variant)) for variant in ("nll", "seq")]
    found = compared(runs)
    write_page(found, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    heads = {
        "evaluate": [name for name, *_ in comparison(runs[0].metrics)],
        "compare": [name for name, *_ in (*columns(found), *costs(found))],
        "notes": list(NOTES),
        "page": [re.sub("<.*?>", "", head).strip() for head in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", page, re.DOTALL)],
        "curves": [title for title, _ in FIGURES.values()],
        "ls": [word for line in table(entries(tmp_path), entries(tmp_path)) for word in line.split()],
        "docs": [
            cell.strip()
            for file in (*ROOT.glob("docs/*.md"), *ROOT.glob("*.md"))
            for line in file.read_text().splitlines()
            if line.startswith("|")
            for cell in line.split("|")
        ],
    }
    assert {place: len(names) > 3 for place, names in heads.items()} == dict.fromkeys(heads, True)
    assert {place: sorted(HEADS & set(names)) for place, names in heads.items()} == dict.fromkeys(heads, [])
