"""Plain words: phrases that nobody should have to decode stand nowhere that a person reads."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PLACES = ("aloll_cli/**/*.py", "aloll_cli/**/*.html", "conf/**/*.yaml", "docs/*.md", "scripts/*", "*.md")
PHRASES = (
    r"KL a token", r"updates a run", r"samples a prompt", r"answers a prompt", r"held? (?:it |a run |runs )?against",
    r"was made from", r"no policy and no evaluation", r"reused {2}", r"made {4}", r"makes {3}", r"after update",
    r"\d weights train", r"unlike reward", r"a constant's", r"reference against the policy", r"another seed would bring",
    r"gives? way", r"gain: null", r"undisturbed", r"ends with the (?:same )?bits", r"this value does not fit",
    r"between two updates", r"optimizer updates", r"training updates", r"each update\b", r"of an update\b",
)  # fmt: skip


def readable():
    """Every line that a person may read, with its place."""
    files = sorted({file for pattern in PLACES for file in ROOT.glob(pattern) if file.is_file()})
    assert len(files) > 250
    for file in files:
        for number, line in enumerate(file.read_text().splitlines(), 1):
            yield f"{file.relative_to(ROOT)}:{number}", line


def test_no_phrase_stands_where_a_person_reads_it():
    found = [
        f"{place}: {phrase}"
        for place, line in readable()
        for phrase in PHRASES
        if re.search(phrase, line, re.IGNORECASE) and not line.startswith("{")
    ]
    assert found == []
