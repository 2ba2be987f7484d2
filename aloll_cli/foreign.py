"""Files that somebody else may have written: read within bounds, parsed as plain values, their shape checked once.

Folders of results are passed on, so what is read back may be torn, edited or hostile. Whatever is wrong raises
:class:`Unreadable`; who calls says which folder is damaged and goes on with the others.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aloll_cli.errors import UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray

DEEPEST = 100  # levels of nested values; a recipe has about thirty
LARGEST = 64_000_000  # bytes of a JSON file
LARGEST_RECORDS = 1_000_000_000  # bytes of a JSON Lines file
LARGEST_RECIPE = 8_000_000  # bytes
LARGEST_YAML = 1_000_000  # bytes
LONGEST_PATH, LONGEST_NAME = 4096, 255  # characters, bytes
GREATEST = 1e100  # of numbers, so that sums and ratios of them are numbers
NAME = re.compile(r"\w[\w.+@-]{0,199}")  # of files and folders, without separators

Check = Callable[[Any, str], None]  # (value, where it stands); raises Unreadable


class Unreadable(ValueError):
    """What is wrong with a file, as the rest of a sentence that names it."""


@contextmanager
def damaged(file: Path) -> Iterator[None]:
    """Raises UserError for what is wrong with a file of an artifact."""
    try:
        yield
    except (OSError, Unreadable) as error:
        what = f"cannot be read: {(error.strerror or str(error)).lower()}" if isinstance(error, OSError) else str(error)
        raise UserError(
            f"{file} {what}.", "Find all damage with aloll verify, and remove it with aloll verify repair=true."
        ) from None


def checked_json(file: Path, check: Check) -> Any:
    """The value of an artifact's JSON file, of the shape that a check accepts. Raises UserError if it has another."""
    with damaged(file):
        value = json_of(file)
        check(value, "")
    return value


def read_bytes(file: Path, largest: int) -> bytes:
    """The content of a regular file that is not too large. Raises Unreadable or OSError; never waits, as a pipe would."""
    descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK)
    with open(descriptor, "rb") as stream:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise Unreadable("is not a regular file")
        if found.st_size > largest:
            raise Unreadable(f"has {found.st_size} bytes, more than {largest}")
        return stream.read()


def json_of(file: Path, largest: int = LARGEST) -> Any:
    """A JSON file's value. Raises Unreadable or OSError."""
    return parsed(read_bytes(file, largest))


def tensors_of(file: Path, *names: str) -> dict[str, NDArray[Any]]:
    """The tensors of an artifact's safetensors file.

    Args:
        file: where.
        names: of tensors that must be there.

    Raises:
        UserError: it is damaged, or has no such tensor.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    with damaged(file):
        try:
            found: dict[str, NDArray[Any]] = load_file(file)
        except SafetensorError as error:
            raise Unreadable(f"is not in the safetensors format: {error}") from None
        if missing := set(names) - found.keys():
            raise Unreadable(f"has no tensor {min(missing)}")
    return found


def json_lines_of(file: Path, check: Check) -> list[Any]:
    """The values of a JSON Lines file, each checked as it is read; an empty list if there is no such file.

    Raises:
        Unreadable: a line has another shape.
        OSError: the file cannot be read.
    """
    try:
        content = read_bytes(file, LARGEST_RECORDS)
    except FileNotFoundError:
        return []
    found = []
    for place, line in enumerate(content.split(b"\n"), start=1):
        if line:
            value = parsed(line)
            check(value, f"line {place}")
            found.append(value)
    return found


def parsed(text: bytes) -> Any:
    """The value of JSON text, not nested too deeply."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"is not JSON: {'nested too deeply' if isinstance(error, RecursionError) else error}") from None
    _check_depth(value)
    return value


def yaml_of(text: str) -> Any:
    """The value of YAML text: of plain values only, without aliases, which can stand for far more than was written."""
    import yaml

    if len(text) > LARGEST_YAML:
        raise Unreadable(f"has {len(text)} characters, more than {LARGEST_YAML}")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    depth = 0
    try:
        for event in yaml.parse(text, Loader=loader):
            if isinstance(event, yaml.AliasEvent):
                raise Unreadable(f"contains an alias, *{event.anchor}")
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > DEEPEST:
                raise Unreadable("is nested too deeply")
        value = yaml.load(text, Loader=loader)
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        if isinstance(error, Unreadable):
            raise
        raise Unreadable(f"is not YAML: {' '.join(str(error).split())[:200]}") from None
    _check_plain(value)
    return value


def number(value: Any, where: str) -> None:
    """A finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= GREATEST:
        raise Unreadable(f"{where} is {_brief(value)}, not a number")


def integer(value: Any, where: str) -> None:
    """An integer of 64 bits."""
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) >= 2**63:
        raise Unreadable(f"{where} is {_brief(value)}, not an integer")


def text(value: Any, where: str) -> None:
    """A string."""
    if not isinstance(value, str):
        raise Unreadable(f"{where} is {_brief(value)}, not text")


def inner_path(value: Any, where: str) -> None:
    """The path of a file below some folder."""
    is_path = isinstance(value, str) and 0 < len(value) <= LONGEST_PATH and not re.search("[\0\ud800-\udfff]", value)
    parts = value.split("/") if is_path else [""]
    if any(part in ("", ".", "..") or len(part.encode()) > LONGEST_NAME for part in parts):
        raise Unreadable(f"{where} is {_brief(value)}, not the path of a file")


def name(value: Any, where: str) -> None:
    """A string that can be the name of a file or folder."""
    if not isinstance(value, str) or not NAME.fullmatch(value):
        raise Unreadable(f"{where} is {_brief(value)}, not a name")


def anything(value: Any, where: str) -> None:
    """Whatever JSON can hold."""


def optional(check: Check) -> Check:
    """null, or what a check accepts."""

    def checked(value: Any, where: str) -> None:
        if value is not None:
            check(value, where)

    return checked


def list_of(check: Check) -> Check:
    """A list of what a check accepts."""

    def checked(value: Any, where: str) -> None:
        if not isinstance(value, list):
            raise Unreadable(f"{where} is {_brief(value)}, not a list")
        for place, item in enumerate(value):
            check(item, f"{where}[{place}]")

    return checked


def dict_of(check: Check) -> Check:
    """An object whose values a check accepts, under any names."""

    def checked(value: Any, where: str) -> None:
        if not isinstance(value, dict):
            raise Unreadable(f"{where or 'its content'} is {_brief(value)}, not an object")
        for key, item in value.items():
            check(item, f"{where}.{key}" if where else str(key))

    return checked


def record(needed: Mapping[str, Check], known: Mapping[str, Check] | None = None, others: Check = anything) -> Check:
    """An object with some keys.

    Args:
        needed: keys that must be there.
        known: keys that may be there.
        others: for the values of all other keys.
    """

    def checked(value: Any, where: str) -> None:
        dict_of(anything)(value, where)
        for key in needed:
            if key not in value:
                raise Unreadable(f"{where or 'the object'} has no {key}")
        for key, item in value.items():
            check = needed.get(key) or (known or {}).get(key) or others
            check(item, f"{where}.{key}" if where else str(key))

    return checked


def _recipe(value: Any, where: str) -> None:
    _RECIPE(value, where)


_RECIPE = record({"kind": name, "version": integer, "identity": dict_of(anything), "inputs": dict_of(_recipe)})


def recipe_of(file: Path) -> dict[str, Any]:
    """The recipe of an artifact. Raises Unreadable or OSError."""
    value = json_of(file, LARGEST_RECIPE)
    _recipe(value, "")
    found: dict[str, Any] = value
    return found


def _check_depth(value: Any) -> None:
    level, depth = [value], 0
    while level := [part for item in level if isinstance(item, dict | list) for part in _parts(item)]:
        depth += 1
        if depth > DEEPEST:
            raise Unreadable("is nested too deeply")


def _parts(value: dict[str, Any] | list[Any]) -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else value


def _check_plain(value: Any) -> None:
    """Raises Unreadable for what YAML can hold and JSON cannot: dates, sets, keys that are no strings."""
    left = [value]
    while left:
        item = left.pop()
        if isinstance(item, dict):
            if not all(isinstance(key, str) for key in item):
                raise Unreadable("has a key that is not text")
            left += item.values()
        elif isinstance(item, list):
            left += item
        elif not isinstance(item, str | int | float | None):
            raise Unreadable(f"holds a {type(item).__name__}")


def _brief(value: Any) -> str:
    return "an object" if isinstance(value, dict) else "a list" if isinstance(value, list) else json.dumps(value)[:60]
