"""Completes a command line; the shell runs this file on every tab, so that it needs nothing but the standard library.

Usage: python complete.py [FOLDER …] LINE. Prints one ``WORD<tab>description`` a line. What aloll itself has stands in
completion.json, which scripts/make_options.py writes; the YAML files in folders of plugins are listed: those of installed
packages (FOLDER), and those that the line names (``plugins=[mine]``, ``--config-dir FOLDER``).
"""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Found = list[tuple[str, str]]

SHELLS = ("bash", "zsh", "fish")


def completions(line: str, table: dict[str, Any], folders: list[Path] | None = None) -> Found:
    """The words that may stand at the end of a line, each with a description or ""."""
    _, *words = line.split(" ")
    before, current = [word.strip("'\"") for word in words[:-1] if word], words[-1] if words else ""
    table = table | {"groups": {name: known | {"choices": dict(known["choices"])} for name, known in table["groups"].items()}}
    for folder in [*(folders or []), *_named(before)]:
        _add(folder, table["groups"])
    stages = [(name, stage["what"]) for name, stage in table["stages"].items()]
    if before == ["help"]:
        return _beginning(current, stages)
    if not before:
        beside = [("help", "show the options of a stage"), ("completion", "print a script for shell completion")]
        return _beginning(current, [*stages, *beside, ("--help", ""), ("--version", "")])
    stage = table["stages"].get(before[0])
    if before[0] == "completion":
        return _beginning(current, [(shell, "") for shell in SHELLS])
    if stage is None:
        return []
    if before[-1] in ("--cfg", "-c"):
        return _beginning(current, [("job", ""), ("hydra", ""), ("all", "")])
    if current.startswith("-"):
        return _beginning(current, list(table["flags"].items()))
    key, equals, value = current.partition("=")
    if equals:
        *listed, last = value.split(",")  # a sweep: variant=nll,seq
        beginning = f"{key}={''.join(f'{item},' for item in listed)}"
        return [(beginning + word, what) for word, what in _beginning(last, _values(key.lstrip("+"), before, table))]
    more = [("all", table["all"])] if {"--help", "-h"} & set(before) and "upstream" in stage["options"] else []
    return _beginning(current, [*_keys(current, stage, before, table), *more])


def _named(before: list[str]) -> Iterator[Path]:
    """The folders that a line names: of plugins, and of YAML files."""
    for flag, word in zip(["", *before], before, strict=False):
        key, equals, value = word.partition("=")
        if key.lstrip("+") == "plugins":
            yield from (Path(name.strip("'\" ")).expanduser() for name in value.strip("[]").split(","))
        elif flag in ("--config-dir", "-cd") or (key == "--config-dir" and equals):
            yield Path(value or word).expanduser()


def _add(folder: Path, groups: dict[str, Any]) -> None:
    """Add the choices in a folder to their groups, unless they are there already."""
    for file in sorted(folder.glob("*/*.yaml")):
        name = file.parent.name
        for group in ("reward", "test_reward") if name == "reward" else (name,):
            if group in groups and file.stem not in groups[group]["choices"]:
                groups[group]["choices"][file.stem] = _choice(file, group)


def _choice(file: Path, group: str) -> dict[str, Any]:
    """What a YAML file says of its choice and of its options; nothing if it cannot be read."""
    try:
        rows = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        rows = []
    opening = (row.lstrip("# ").partition("  aloll ")[0] for row in rows if row.startswith("#") and "@package" not in row)
    keys = [found for row in rows if (found := re.match(r"(\w+):[^#]*(?:# *(.*))?", row)) and found[1] != "defaults"]
    return {"what": next(opening, ""), "options": {f"{group}.{key[1]}": {"what": key[2] or ""} for key in keys}}


def _beginning(start: str, found: Found) -> Found:
    return [(word, what) for word, what in found if word.startswith(start)]


def _chosen(group: str, before: list[str], table: dict[str, Any]) -> dict[str, Any]:
    """The options of the choice that a command line makes of a group."""
    named = [word.partition("=")[2] for word in before if word.startswith(f"{group}=")]
    known = table["groups"][group]
    options: dict[str, Any] = known["choices"].get((named or [known["default"]])[-1], {}).get("options", {})
    return options


def _keys(current: str, stage: dict[str, Any], before: list[str], table: dict[str, Any]) -> Found:
    """Groups and options of a stage; those inside of a group once its name is there."""
    found = [(f"{key}=", table["options"][key]["what"]) for key in stage["options"]]
    for group in stage["groups"]:
        found.append((f"{group}=", table["groups"][group]["what"]))
        if current.startswith(group):
            found += [(f"{key}=", option["what"]) for key, option in _chosen(group, before, table).items()]
    return found


def _values(key: str, before: list[str], table: dict[str, Any]) -> Found:
    """The choices of a group, or the values of an option that has a few."""
    part = key.split(".")
    group = "reward" if part[0] in ("reward", "test_reward") and part[1:2] == ["parts"] and len(part) == 3 else key
    if group in table["groups"]:
        return [(name, choice["what"]) for name, choice in table["groups"][group]["choices"].items()]
    options = table["options"] | (_chosen(part[0], before, table) if part[0] in table["groups"] else {})
    return [(value, what) for value, what in options.get(key, {}).get("values", {}).items()]


def main() -> None:
    """Print what completes the line that is the last argument."""
    *folders, line = sys.argv[1:]
    table = json.loads(Path(__file__).with_name("completion.json").read_text(encoding="utf-8"))
    for word, what in completions(line, table, [Path(folder) for folder in folders]):
        sys.stdout.write(f"{word}\t{what}\n")


if __name__ == "__main__":
    main()
