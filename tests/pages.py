"""Pages about evaluated runs, as a parser of HTML sees them."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from evaluated import write_run

from aloll_cli.comparison.differences import compared
from aloll_cli.comparison.runs import load_run
from aloll_cli.reports.page import write_page

ATTACK = "<script>alert('x')</script><img src=http://evil.example/x.png>"


class Page(HTMLParser):
    """The tags of a page with their attributes, its text, its style, and its scripts."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = self.style = ""
        self.scripts: list[str] = []
        self.source = file.read_text(encoding="utf-8")
        self._inside = ""
        self.feed(self.source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self._inside = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside = "" if tag == self._inside else self._inside

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts[-1] += data
        elif self._inside == "style":
            self.style += data
        else:
            self.text += data

    @property
    def content(self) -> dict[str, Any]:
        """The data of the list of responses."""
        found: dict[str, Any] = json.loads(self.scripts[0])
        return found

    @property
    def policy(self) -> str:
        """Its Content-Security-Policy."""
        return next(str(found["content"]) for tag, found in self.tags if tag == "meta" and "http-equiv" in found)


def page_about(runs: list[Path], file: Path) -> Page:
    """The page about some folders of metrics, written to a file."""
    write_page(compared([load_run(folder) for folder in runs]), file)
    return Page(file)


def hostile_runs(root: Path) -> list[Path]:
    """Runs whose every string that a model or a user chooses tries to become markup."""
    options = [{"optimizer": {"name": ATTACK, "lr": lr}} for lr in (1, 2)]
    rewards, response = {ATTACK: 0.5, "$x_": 0.1}, ATTACK + "\x00\ud800"
    return [write_run(root, "seq", 1, rewards, response, curves=False, options=chosen) for chosen in options]
