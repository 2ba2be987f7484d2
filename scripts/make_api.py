"""Write the reference at the end of docs/python.md from the docstrings of the public names.

python scripts/make_api.py
"""

from __future__ import annotations

import inspect
import re
import sys
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import aloll_cli

PAGE = Path(__file__).parents[1] / "docs" / "python.md"
MARK = "## Reference\n"
SECTION = re.compile(r"^(Args|Returns|Raises|Attributes):$")


def reference() -> str:
    """Markdown: one section per public name, functions first."""
    public: dict[str, Any] = {name: getattr(aloll_cli, name) for name in aloll_cli.__all__ if not name.startswith("__")}
    names = sorted(public, key=lambda name: (inspect.isclass(public[name]), name))
    return "\n".join([MARK, *(_entry(name, public[name]) for name in names)])


def _entry(name: str, value: Any) -> str:
    heading = f"### `{name}`\n"
    if not inspect.isclass(value):
        return f"{heading}\n```python\n{name}{_signature(value)}\n```\n\n{_text(value)}\n"
    members = [
        f"- `{member}`: {_first(inspect.getdoc(found) or '')}"
        for member, found in vars(value).items()
        if not member.startswith("_") and inspect.getdoc(found) and _is_method(found)
    ]
    options = (
        " Its fields are the options of [all stages](options.md)." if is_dataclass(value) and len(fields(value)) > 20 else ""
    )
    return f"{heading}\n{_text(value)}{options}\n" + "".join(f"\n{member}" for member in members) + "\n" * bool(members)


def _is_method(found: Any) -> bool:
    return isinstance(found, property) or hasattr(found, "func") or inspect.isfunction(found)


def _signature(value: Any) -> str:
    return re.sub(r"'", "", str(inspect.signature(value)))


def _text(value: Any) -> str:
    """A docstring as Markdown: its sections as lists."""
    lines: list[str] = []
    section = ""
    for line in (inspect.getdoc(value) or "").splitlines():
        if found := SECTION.match(line):
            section = found[1]
            lines += [f"**{section}**", ""]
        elif section != "Returns" and (entry := re.match(r"    (\w[\w, ]*): (.*)", line)):
            lines.append(f"- `{entry[1]}`: {entry[2]}")
        elif line.startswith("        "):
            lines.append(f"  {line.strip()}")
        else:
            lines.append(line.strip())
    return re.sub(r":\w+:`(\w+)`", r"`\1`", "\n".join(lines).replace("``", "`"))


def _first(text: str) -> str:
    return text.replace("``", "`").partition("\n\n")[0].replace("\n", " ")


def main() -> None:
    """Exit code 0; the page is written."""
    before = PAGE.read_text().partition(MARK)[0]
    PAGE.write_text(before + reference())
    sys.stdout.write(f"{PAGE}: {len(aloll_cli.__all__)} names\n")


if __name__ == "__main__":
    main()
