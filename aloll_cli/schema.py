"""Typed configuration: dataclasses declare the options, YAML sets their defaults, Hydra composes them.

Only the package ``cli`` imports Hydra and OmegaConf; everything else receives dataclasses.

A field is part of an artifact's recipe, and so of its fingerprint, unless it is declared with ``field(metadata=OPERATIONAL)``.
Such a field (an output folder, a batch size for scoring) changes results by rounding at most. A field declared with
``field(metadata=EXAMPLES)`` changes how raw rows become examples, but not the raw rows.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import importlib
import json
import math
import pkgutil
import re
import types
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

from aloll_cli.errors import UserError
from aloll_cli.source_code import code_identity, remember

OPERATIONAL: dict[str, Any] = {"identity": False}
EXAMPLES: dict[str, Any] = {"identity": "examples"}

HUGE = 2**31 - 1  # a bound this large is a limit of integers, not of the option, and no message mentions it
LISTED = 12  # most options that a message lists; with more it refers to --help

T = TypeVar("T")


@dataclass(frozen=True)
class Interval:
    """The numbers that an option accepts, in interval notation: ``(0, 1]`` excludes 0 and includes 1."""

    text: str
    typical: float | None

    def __post_init__(self) -> None:
        """Raises ValueError for text that is no interval, and for a typical number outside of it."""
        try:
            low, high = self._ends()
            is_interval = self.text[0] in "[(" and self.text[-1] in ")]" and low <= high
        except (ValueError, IndexError):
            is_interval = False
        if not is_interval:
            raise ValueError(f'"{self.text}" is no interval of numbers; write it as "[0, inf)" or "(0, 1)"')
        if self.typical is not None and self.typical not in self:
            raise ValueError(f"the typical number {self.typical} is not in {self.text}")

    def __contains__(self, value: float) -> bool:
        low, high = self._ends()
        above = value >= low if self.text[0] == "[" else value > low
        below = value <= high if self.text[-1] == "]" else value < high
        return above and below  # both are False for NaN

    def against(self, value: float) -> str:
        """What is wrong with a number outside the interval, as the rest of a sentence."""
        low, high = self._ends()
        if math.isnan(value):
            return "must be a number"
        if high < HUGE and low > -HUGE:
            return f"must lie in {self.text}"
        if math.isinf(value):
            return "must be finite"
        if value > low:
            return f"must be at most {high:.10g}"
        return {"(0": "must be positive", "[0": "must not be negative"}.get(self.text.split(",")[0], f"must be at least {low:g}")

    @property
    def shown(self) -> str:
        """The numbers inside, as a person reads them: ``≥ 1``, ``in (0, 1)``; empty where every number is inside."""
        low, high = self._ends()
        if high >= HUGE and low > -HUGE:
            return f"{'>' if self.text[0] == '(' else '≥'} {low:g}"
        return f"in {self.text}" if high < HUGE else ""

    def proposal(self) -> float | None:
        """A number inside the interval that a message can suggest, or None."""
        low, _ = self._ends()
        return low if self.typical is None and self.text[0] == "[" and low > -HUGE else self.typical

    def _ends(self) -> tuple[float, float]:
        low, high = self.text[1:-1].split(",")
        return float(low), float(high)


def numbers(interval: str, typical: float | None = None) -> dict[str, Any]:
    """Metadata of a field: the interval of accepted numbers, and a typical one that messages suggest."""
    return {"interval": Interval(interval, typical)}


ANY_INTEGER, ANY_NUMBER = Interval("[-2147483647, 2147483647]", None), Interval("(-inf, inf)", None)
COUNT = numbers("[1, 2147483647]")
SEED = numbers("[0, 2147483647]", 1)


def name_of(entry: object) -> str:
    """The configuration name of a class or its instance: ``RefFree`` is ``ref_free``."""
    cls = entry if isinstance(entry, type) else type(entry)
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", cls.__name__).lower()


def discover(package: str, base: type[T]) -> dict[str, type[T]]:
    """Every plug-in of a package: in each module the subclass of ``base`` that is named like the module."""
    entries: dict[str, type[T]] = {}
    places = importlib.import_module(package).__path__
    remember(package, Path(places[0]))
    for module_info in pkgutil.iter_modules(places):
        module = importlib.import_module(f"{package}.{module_info.name}")
        for cls in vars(module).values():
            if isinstance(cls, type) and issubclass(cls, base) and name_of(cls) == module_info.name != "base":
                entries[module_info.name] = cls
    return entries


class FromEnvironment(str):
    """Text that was written as ``${oc.env:…}``, which may be secret: shown as it was written, and as a hash in recipes."""

    written: str

    def __new__(cls, value: str, written: str) -> FromEnvironment:
        found = super().__new__(cls, value)
        found.written = written
        return found

    def __reduce__(self) -> tuple[Any, ...]:
        return FromEnvironment, (str(self), self.written)

    @property
    def hashed(self) -> str:
        return f"sha256:{hashlib.sha256(self.encode()).hexdigest()}"


def as_written(value: Any) -> Any:
    """Plain values with text from the environment as it was written."""
    return _with_environment(value, lambda found: found.written)


def _with_environment(value: Any, show: Callable[[FromEnvironment], str]) -> Any:
    if isinstance(value, dict):
        return {key: _with_environment(item, show) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_environment(item, show) for item in value]
    return show(value) if isinstance(value, FromEnvironment) else value


def plain(value: Any) -> Any:
    """A configuration object as plain YAML/JSON values; of a dataclass, its fields and its name."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"name": name_of(value)} | fields
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return value


def identity(value: Any, scope: str = "examples") -> Any:
    """The part of a configuration object that affects results.

    Args:
        value: a dataclass instance, or the value of a field.
        scope: "examples" (everything but operational fields) or "rows" (without the fields marked EXAMPLES).
    """
    if isinstance(value, dict):
        return {key: identity(item, scope) for key, item in value.items()}
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return _with_environment(plain(value), lambda found: found.hashed)
    kept = (True, "examples") if scope == "examples" else (True,)
    fields = [f for f in dataclasses.fields(value) if f.metadata.get("identity", True) in kept]
    code = code_identity(type(value))
    return {"name": name_of(value)} | code | {f.name: identity(getattr(value, f.name), scope) for f in fields}


def fingerprint(recipe: Any) -> str:
    """The fingerprint of a recipe of plain values: the first twelve hexadecimal digits of its SHA-256."""
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:12]


def flatten(recipe: Any, prefix: str = "") -> dict[str, Any]:
    """A nested recipe as ``{"inputs.reference.identity.seed": 1}``."""
    if not isinstance(recipe, dict):
        return {prefix: recipe}
    flat: dict[str, Any] = {}
    for key, value in recipe.items():
        flat |= flatten(value, f"{prefix}.{key}" if prefix else str(key))
    return flat


def from_plain(cls: Any, value: Any) -> Any:
    """The inverse of :func:`plain`, for files written by this program; the value is not validated."""
    if typing.get_origin(cls) in (typing.Union, types.UnionType):
        choices = [c for c in typing.get_args(cls) if c is not type(None)]
        return None if value is None else from_plain(choices[0], value)
    if typing.get_origin(cls) is list:
        return [from_plain(typing.get_args(cls)[0], item) for item in value]
    if typing.get_origin(cls) is dict:
        return {key: from_plain(typing.get_args(cls)[1], item) for key, item in value.items()}
    if isinstance(cls, type) and issubclass(cls, Enum):
        return cls[value]
    if dataclasses.is_dataclass(cls):
        chosen = next(c for c in [cls, *_subclasses(cls)] if name_of(c) == value["name"])
        hints = typing.get_type_hints(chosen)
        return chosen(**{f.name: from_plain(hints[f.name], value[f.name]) for f in dataclasses.fields(chosen)})
    return value


def _subclasses(cls: Any) -> Iterator[Any]:
    for child in cls.__subclasses__():
        yield child
        yield from _subclasses(child)


def unknown_key(key: str, known: list[str]) -> UserError:
    """The error for a key that no schema declares; it suggests the most similar known key."""
    parent = key.rpartition(".")[0]
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
    listed = f"Known here: {', '.join(sorted(known))}." if 0 < len(known) <= LISTED else "aloll STAGE --help lists the options."
    hint = f"Did you mean {close[0]}?" if close else listed
    return UserError(f'there is no option "{key}"' + (f' under "{parent}".' if parent else "."), hint)
