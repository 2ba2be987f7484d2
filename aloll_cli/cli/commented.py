"""YAML files with their comments: each option's value, as it is written, and the comment beside it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

EXAMPLE = "Example: "


@dataclass(frozen=True)
class Line:
    """One key of a file.

    Attributes:
        value: as it is written: ``3e-4``, ``["."]``.
        comment: what stands behind it and, in the same column, on the lines below.
    """

    value: str
    comment: str


@dataclass(frozen=True)
class Commented:
    """A YAML file.

    Attributes:
        summary: the first line of its opening comment.
        example: the command that a later line names (``# Example: aloll …``), or "".
        is_global: whether its keys begin at the root (``# @package _global_``).
        defaults: its defaults list: texts, and pairs of a group and its choice.
        lines: every other key, dotted, in order.
    """

    summary: str
    example: str
    is_global: bool
    defaults: list[tuple[str, str | None]]
    lines: dict[str, Line]


def read(file: Path) -> Commented:
    """Read a file that Hydra can read."""
    text = file.read_text(encoding="utf-8")
    rows = text.splitlines()
    opening = [row[1:].strip() for row in rows if row.startswith("#")]
    summary = next((row for row in opening if not row.startswith("@package")), "")
    example = next((row.removeprefix(EXAMPLE) for row in opening if row.startswith(EXAMPLE)), "")
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    entries: list[tuple[str, str | None]] = []
    lines: dict[str, Line] = {}
    if isinstance(root, yaml.MappingNode):
        pairs = {str(key.value): value for key, value in root.value}
        entries = list(_entries(pairs.get("defaults")))
        comments = _comments(rows, root)
        lines = {key: Line(value, comments.get(row, "")) for key, value, row in _leaves(text, root, "")}
        lines = {key: line for key, line in lines.items() if key.partition(".")[0] not in ("defaults", "hydra")}
    return Commented(
        summary=summary.partition("  aloll ")[0].rstrip(".").strip(),
        example=example,
        is_global="@package _global_" in opening,
        defaults=entries,
        lines=lines,
    )


def _entries(node: yaml.Node | None) -> Iterator[tuple[str, str | None]]:
    """What a defaults list names; ``_self_`` apart."""
    if not isinstance(node, yaml.SequenceNode):
        return
    for entry in node.value:
        if isinstance(entry, yaml.MappingNode):
            for key, value in entry.value:
                yield str(key.value), str(value.value)
        elif entry.value != "_self_":
            yield str(entry.value), None


def _leaves(text: str, node: yaml.MappingNode, prefix: str) -> Iterator[tuple[str, str, int]]:
    """Each key that has no keys below it, with its value as written and the number of its row."""
    for key, value in node.value:
        name = f"{prefix}{key.value}"
        if isinstance(value, yaml.MappingNode) and value.value:
            yield from _leaves(text, value, f"{name}.")
        else:
            yield name, text[value.start_mark.index : value.end_mark.index].strip(), key.start_mark.line


def _comments(rows: list[str], root: yaml.MappingNode) -> dict[int, str]:
    """The comments by the number of their row, with what goes on in the same column below."""
    ends: dict[int, int] = {}
    left: list[yaml.Node] = [root]
    while left:
        node = left.pop()
        if isinstance(node, yaml.ScalarNode) or (isinstance(node, yaml.CollectionNode) and node.flow_style):
            ends[node.end_mark.line] = max(ends.get(node.end_mark.line, 0), node.end_mark.column)
        left += [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else []
        left += node.value if isinstance(node, yaml.SequenceNode) else []
    found: dict[int, str] = {}
    for row, end in ends.items():
        if begun := re.match(r"[:\s]*#\s*", rows[row][end:]):
            column = rows[row].index("#", end)
            parts = [rows[row][end + begun.end() :]]
            below = row + 1
            while below < len(rows) and rows[below][:column].isspace() and rows[below][column : column + 1] == "#":
                parts.append(rows[below][column + 1 :])
                below += 1
            found[row] = " ".join(part.strip() for part in parts)
    return found
