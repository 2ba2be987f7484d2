"""Fingerprints of source code: what an entry computes is part of every recipe that uses it.

An entry (a variant, task, reward or values class) is known by its own code and that of the helpers that it names in its
package, without comments, docstrings and imports, and in a form that is the same on all supported versions of Python. The
shipped entries have their fingerprints in code.json: an entry that still has its own adds nothing to a recipe. One that was
edited, or comes from a plugin, adds its fingerprint, so that nothing built by other code is reused. A deliberate change of a
shipped entry's results raises its ``version`` instead, and code.json is written again.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

SHIPPED = Path(__file__).with_name("code.json")
ROOMS = ("aloll_cli.tasks", "aloll_cli.variants", "aloll_cli.rewards", "aloll_cli.values")
IGNORED = {"ctx", "kind", "type_comment", "type_ignores"}  # fields of syntax trees that say nothing about results
IMPORTS = (ast.Import, ast.ImportFrom)
DEFINITIONS = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)

Place = tuple[str, str]  # a module and a name at its top level
plugin_packages: set[str] = set()  # those that settings/plugins.py has read


def code_identity(cls: type) -> dict[str, Any]:
    """What an entry's code adds to its identity: ``version`` from 2 on, and ``code`` where it is not the shipped code."""
    package = package_of(cls.__module__)
    is_entry = cls.__name__.lower() == cls.__module__.rpartition(".")[2].replace("_", "")
    if package is None or not is_entry:  # what an entry is made of belongs to the entry's code
        return {}
    version = getattr(cls, "version", 1)
    digits = code_fingerprint(cls.__module__, cls.__name__, package)
    raised = {"version": version} if version != 1 else {}
    return raised if digits is None or digits == _shipped().get(key_of(cls)) else raised | {"code": digits}


def is_edited(cls: type) -> bool:
    """Whether a shipped entry's code is not the shipped code."""
    return "code" in code_identity(cls) and (package_of(cls.__module__) or "") in ROOMS


def key_of(cls: type) -> str:
    """An entry's name in code.json: ``variants.seq``."""
    return cls.__module__.removeprefix("aloll_cli.")


def package_of(module: str) -> str | None:
    """The package whose helpers belong to an entry of a module; None where its code is nobody's entry."""
    return next((package for package in (*ROOMS, *plugin_packages) if module.startswith(f"{package}.")), None)


def code_fingerprint(module: str, name: str, package: str) -> str | None:
    """Twelve hexadecimal digits of a class and the helpers that it names in its package; None where there is no source."""
    left: list[Place] = [(module, name)]
    found: dict[Place, list[Any]] = {}
    while left:
        place = left.pop()
        if place in found or (source := _source(place[0])) is None:
            continue
        nodes = source.definitions.get(place[1], [])
        found[place] = [canonical(node) for node in nodes]
        left += [needed for node in nodes for needed in source.named_by(node, package)]
    if not any(found.values()):
        return None
    # by name alone, so that a helper may move to another module
    told = sorted(json.dumps([place[1], shape]) for place, shape in found.items() if shape)
    return hashlib.sha256("\n".join(told).encode()).hexdigest()[:12]


def canonical(node: Any) -> Any:
    """A syntax tree as nested lists, without docstrings, imports and whatever differs between versions of Python."""
    if isinstance(node, ast.Constant):
        return ["Constant", type(node.value).__name__, repr(node.value)]
    if isinstance(node, ast.AST):
        shown = [type(node).__name__]
        for field, value in ast.iter_fields(node):
            if field == "body" and isinstance(node, DEFINITIONS):
                value = value[1:] if ast.get_docstring(node, clean=False) is not None else value
            if field not in IGNORED and value is not None and value != []:
                shown.append([field, canonical(value)])  # type: ignore[arg-type]
        return shown
    if isinstance(node, list):
        return [canonical(item) for item in node if not isinstance(item, IMPORTS)]
    return repr(node)


@dataclass(frozen=True)
class _Source:
    """One module's syntax tree."""

    name: str
    tree: ast.Module

    @cached_property
    def definitions(self) -> dict[str, list[ast.stmt]]:
        """What stands at the module's top level, by name: classes, functions, constants."""
        found: dict[str, list[ast.stmt]] = {}
        for node in self.tree.body:
            for name in _names(node):
                found.setdefault(name, []).append(node)
        return found

    @cached_property
    def imported(self) -> dict[str, Place]:
        """What it imports by name, anywhere: the module and the name there; a module itself has no name there."""
        found: dict[str, Place] = {}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.ImportFrom):
                base = self._absolute(node)
                for alias in node.names:
                    inner = f"{base}.{alias.name}"
                    found[alias.asname or alias.name] = (
                        (inner, "") if package_of(inner) and _source(inner) else (base, alias.name)
                    )
        return found

    def named_by(self, node: ast.AST, package: str) -> Iterator[Place]:
        """The places in the package that a definition names."""
        for inner in ast.walk(node):
            if isinstance(inner, ast.Attribute) and isinstance(inner.value, ast.Name):
                module, name = self.imported.get(inner.value.id, ("", "?"))
                if not name and module.startswith(f"{package}."):
                    yield module, inner.attr
            if isinstance(inner, ast.Name):
                if inner.id in self.definitions:
                    yield self.name, inner.id
                elif inner.id in self.imported and self.imported[inner.id][0].startswith(f"{package}."):
                    yield self.imported[inner.id]

    def _absolute(self, node: ast.ImportFrom) -> str:
        parents = self.name.split(".")[: -node.level] if node.level else []
        return ".".join([*parents, *([node.module] if node.module else [])])


def _names(node: ast.stmt) -> list[str]:
    if isinstance(node, DEFINITIONS):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [inner.id for target in targets for inner in ast.walk(target) if isinstance(inner, ast.Name)]


def _source(module: str) -> _Source | None:
    """The source of a module of an entry's package; None where there is no such file."""
    file = getattr(sys.modules.get(module), "__file__", None)
    if file is None:
        try:
            spec = importlib.util.find_spec(module)
        except ModuleNotFoundError:  # a name in a module
            return None
        file = spec.origin if spec else None
    if file is None or not Path(file).is_file():
        return None
    return _parsed(module, file, Path(file).stat().st_mtime_ns)


@lru_cache(maxsize=256)
def _parsed(module: str, file: str, changed: int) -> _Source:
    return _Source(module, ast.parse(Path(file).read_text("utf-8")))


@lru_cache(maxsize=1)
def _shipped() -> dict[str, str]:
    found: dict[str, dict[str, Any]] = json.loads(SHIPPED.read_text()) if SHIPPED.exists() else {}
    return {key: entry["code"] for key, entry in found.items()}
