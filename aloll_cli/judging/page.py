"""The page on which people vote: one HTML file, which needs no network and knows nothing of the sides."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from aloll_cli.files import write_text
from aloll_cli.judging.votes import Page
from aloll_cli.sealed import data, policy
from aloll_cli.store.marker import refuse_links


def write_page(page: Page, file: Path) -> None:
    """Write the page atomically.

    Raises:
        UserError: a symbolic link stands in its folder's place.
    """
    refuse_links(file.parent.parent, file.parent)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, render(page), durably=True)


def render(page: Page) -> str:
    """The page's HTML. Its policy allows the one script and the one style that it holds, by their hashes, and nothing else."""
    folder = resources.files("aloll_cli.judging")
    style, script, frame = (folder.joinpath(name).read_text("utf-8") for name in ("page.css", "page.js", "page.html"))
    filled = {"POLICY": policy(style, script), "STYLE": style, "SCRIPT": script, "CONTENT": data(page.content())}
    parts = frame.split("@@")  # text, NAME, text, NAME, …: what is filled in is not searched again
    return "".join(filled[part] if place % 2 else part for place, part in enumerate(parts))
