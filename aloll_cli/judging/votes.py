"""Votes of people, as the page hands them out: read, checked against the page, and turned into ballots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aloll_cli.errors import UserError
from aloll_cli.foreign import Unreadable, dict_of, integer, json_of, list_of, record, text
from aloll_cli.judging.pairs import Ballot, Pair, digest, distinct
from aloll_cli.judging.rubric import LABELS, Rubric
from aloll_cli.visible import one_line

FORMAT = "aloll votes 1"
LONGEST_NAME = 80  # characters of a voter's name


def _label(value: Any, where: str) -> None:
    if value not in LABELS:
        raise Unreadable(f"{where} is {str(value)[:40]!r}, not one of {', '.join(LABELS)}")


def _is_first(value: Any, where: str) -> None:
    integer(value, where)
    if value not in (0, 1):
        raise Unreadable(f"{where} is {value}, not 0 or 1")


VOTE = record({"pair": text, "first": _is_first, "labels": dict_of(_label)})
FILE = record({"format": text, "page": text, "voter": text, "votes": list_of(VOTE)})


@dataclass(frozen=True)
class Page:
    """A page for votes: some pairs and a rubric, and which of two texts it calls the first, which nobody can tell from it.

    Attributes:
        pairs: distinct ones.
        rubric: the questions.
    """

    pairs: Sequence[Pair]
    rubric: Rubric

    @property
    def name(self) -> str:
        """16 hexadecimal digits that votes name it by."""
        return digest([self.rubric.instruction, self.rubric.questions, sorted(pair.key for pair in self.pairs)])[:16]

    def is_swapped(self, pair: Pair) -> bool:
        """Whether the second side's response is the first of the two texts on the page."""
        return int(digest([self.name, pair.key])[0], 16) % 2 == 1

    def content(self) -> dict[str, Any]:
        """What the page holds: questions, and pairs with their texts; nothing tells the sides apart."""
        pairs = [
            {"pair": pair.key, "prompt": pair.prompt, "texts": list(pair.shown(self.is_swapped(pair)))} for pair in self.pairs
        ]
        return {
            "format": FORMAT, "page": self.name, "instruction": self.rubric.instruction, "labels": LABELS,
            "questions": [list(question) for question in self.rubric.questions.items()],
            "pairs": sorted(pairs, key=lambda pair: digest([self.name, pair["pair"], "order"])),
        }  # fmt: skip


def page_for(pairs: Sequence[Pair], rubric: Rubric) -> Page:
    """The page on which some pairs are judged."""
    return Page(distinct(pairs), rubric)


def read_votes(files: Sequence[str], page: Page) -> list[Ballot]:
    """The ballots in files of votes about a page.

    Raises:
        UserError: a file cannot be read, has another shape, is of another page, names an unknown pair or question, or votes about
            a pair twice; or two files are of one voter.
    """
    found: list[Ballot] = []
    by: dict[str, str] = {}
    for name in files:
        voter, ballots = _read(name, page)
        if voter in by:
            what = f'votes: {by[voter]} and {name} are both by "{one_line(voter)}".'
            raise UserError(what, "Name each person's votes once; two people need two names on the page.")
        by[voter] = name
        found += ballots
    return found


def _read(name: str, page: Page) -> tuple[str, list[Ballot]]:
    try:
        value = json_of(Path(name).expanduser())
        FILE(value, "")
        _check(value, page)
    except OSError as error:
        raise UserError(f"votes: {name} cannot be read: {(error.strerror or str(error)).lower()}.", "votes=[FILE,FILE]") from None
    except Unreadable as error:
        raise UserError(f"votes: {name} {error}.", "Name a file that the page handed out: votes-….json.") from None
    if value["page"] != page.name:
        what = f"votes: {name} is of another page ({one_line(value['page'])[:20]}) than these runs, prompts and questions make."
        raise UserError(what, "Name the same runs=, judge.prompts= and rubric= as when the page was written.")
    pairs = {pair.key: pair for pair in page.pairs}
    return value["voter"].strip(), [
        Ballot(vote["pair"], value["voter"].strip(), page.is_swapped(pairs[vote["pair"]]) != (vote["first"] == 1), vote["labels"])
        for vote in value["votes"]
        if vote["labels"]
    ]  # fmt: skip


def _check(value: dict[str, Any], page: Page) -> None:
    """Raises Unreadable for what no page of this program hands out."""
    if value["format"] != FORMAT:
        raise Unreadable(f"has the format {value['format'][:40]!r}, not {FORMAT!r}")
    if not value["voter"].strip() or len(value["voter"]) > LONGEST_NAME:
        raise Unreadable("has no name of a voter")
    if value["page"] != page.name:
        return
    known, seen = {pair.key for pair in page.pairs}, set[str]()
    for place, vote in enumerate(value["votes"]):
        if vote["pair"] not in known:
            raise Unreadable(f"votes[{place}].pair is {vote['pair'][:40]!r}, which is not on the page")
        if vote["pair"] in seen:
            raise Unreadable(f"votes about pair {vote['pair']} twice")
        if other := sorted(vote["labels"].keys() - page.rubric.questions.keys()):
            raise Unreadable(f"votes[{place}] has the question {other[0][:40]!r}, which is not on the page")
        seen.add(vote["pair"])
