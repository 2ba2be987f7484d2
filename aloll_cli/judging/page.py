"""The page on which people vote: one HTML file, which needs no network and knows nothing of the sides."""

from __future__ import annotations

import base64
import hashlib
import json
from importlib import resources
from pathlib import Path

from aloll_cli.files import write_text
from aloll_cli.judging.votes import Page
from aloll_cli.store.marker import refuse_links

ESCAPED = {character: f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}  # so that no text ends the script's data


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
    content = json.dumps(page.content(), ensure_ascii=False)
    for character, escaped in ESCAPED.items():
        content = content.replace(character, escaped)
    policy = f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; base-uri 'none'; form-action 'none'"
    filled = {"POLICY": policy, "STYLE": style, "SCRIPT": script, "CONTENT": content}
    parts = frame.split("@@")  # text, NAME, text, NAME, …: what is filled in is not searched again
    return "".join(filled[part] if place % 2 else part for place, part in enumerate(parts))


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
