"""Fingerprints of source code: what an entry computes is part of every recipe that uses it.

An entry (a variant, task, reward or values class) is known by the code of its module and of every module of its package that it
imports, directly or not, in whatever way. Comments, docstrings and white space do not count, and the form is the same on all
supported versions of Python. Texts are read when the modules are imported, so that a file that is edited while a process runs is
not taken for the code that runs.

The shipped entries have their fingerprints in code.json: an entry that still has its own adds nothing to a recipe. One that was
edited, or comes from a plugin, adds its fingerprint, so that nothing built by other code is reused. A deliberate change of a
shipped entry's results raises its ``version`` instead, and code.json is written again.
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from aloll_cli.errors import UserError
from aloll_cli.files import near

SHIPPED = Path(__file__).with_name("code.json")
ROOMS = ("aloll_cli.tasks", "aloll_cli.variants", "aloll_cli.rewards", "aloll_cli.values")
IGNORED = {"ctx", "kind", "type_comment", "type_ignores"}  # fields of syntax trees that say nothing about results
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)

_texts: dict[str, str] = {}  # by module, its source as it was imported
_packages: set[str] = set()  # modules that are packages: their relative imports begin at themselves
_plugins: set[str] = set()  # packages of plugins
_identities: dict[type, dict[str, Any]] = {}


def remember(package: str, folder: Path, plugin: bool = False) -> None:
    """Read the source of every module of a package, which is being imported.

    Args:
        package: its name.
        folder: its folder.
        plugin: whether its entries come from outside.

    Raises:
        UserError: a file is not UTF-8.
    """
    for name in [name for name in _texts if _within(name, [package])]:
        del _texts[name]
    _packages.add(package)
    _plugins.update([package] if plugin else [])
    for file in sorted(folder.rglob("*.py")):
        parts = [package, *file.relative_to(folder).with_suffix("").parts]
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        _packages.update([name] if parts[-1] == "__init__" else [])
        try:
            _texts[name] = file.read_text("utf-8")
        except UnicodeDecodeError:
            raise UserError(f"{near(file)} is not UTF-8.", "Save the file as UTF-8.") from None


def source_of(module: str) -> str | None:
    """The source of a module as it was remembered; None where it was not."""
    return _texts.get(module)


def code_identity(cls: type) -> dict[str, Any]:
    """What an entry's code adds to its identity: ``version`` from 2 on, and ``code`` where it is not the shipped code."""
    if cls not in _identities:
        _identities[cls] = _identity(cls)
    return _identities[cls]


def _identity(cls: type) -> dict[str, Any]:
    packages = packages_of(cls.__module__)
    is_entry = cls.__name__.lower() == cls.__module__.rpartition(".")[2].replace("_", "")
    if not packages or not is_entry:  # what an entry is made of belongs to the entry's code
        return {}
    version = getattr(cls, "version", 1)
    digits = code_fingerprint(cls.__module__, packages)
    if packages != ROOMS:  # a plugin may derive from an entry of ours that was edited
        edited = [code_identity(base).get("code") for base in cls.__mro__[1:] if packages_of(base.__module__) == ROOMS]
        digits = _digest([digits, *edited]) if any(edited) else digits
    raised = {"version": version} if version != 1 else {}
    return raised if digits == _shipped().get(key_of(cls)) else raised | {"code": digits}


def is_edited(cls: type) -> bool:
    """Whether a shipped entry's code is not the shipped code."""
    return packages_of(cls.__module__) == ROOMS and "code" in code_identity(cls)


def key_of(cls: type) -> str:
    """An entry's name in code.json: ``variants.seq``."""
    return cls.__module__.removeprefix("aloll_cli.")


def plugin_of(module: str) -> str | None:
    """The package of plugins that a module is in, or None."""
    return next((package for package in _plugins if _within(module, [package])), None)


def packages_of(module: str) -> tuple[str, ...]:
    """The packages whose modules belong to the code of an entry in a module; empty where it is nobody's entry."""
    if module.startswith(tuple(f"{room}." for room in ROOMS)):
        return ROOMS
    package = plugin_of(module)
    return () if package is None else (package,)


def code_fingerprint(module: str, packages: Sequence[str]) -> str:
    """Twelve hexadecimal digits of a module and of all modules of some packages that it imports, directly or not."""
    left, found = [module], {}
    while left:
        name = left.pop()
        if name in found or name not in _texts or not _within(name, packages):
            continue
        tree = _parsed(_texts[name])
        package = next(package for package in packages if _within(name, [package]))
        found[name] = [name.removeprefix(package), canonical(tree)]
        left += _imported(name, tree)
        left += [name.rpartition(".")[0]]  # importing a module runs its parents
    return _digest([found[name] for name in sorted(found)])


def canonical(node: Any) -> Any:
    """A syntax tree as nested lists, without docstrings and whatever differs between versions of Python."""
    if isinstance(node, ast.Constant):
        return ["Constant", type(node.value).__name__, repr(node.value)]
    if isinstance(node, ast.AST):
        shown: list[Any] = [type(node).__name__]
        for field, value in ast.iter_fields(node):
            if field == "body" and isinstance(node, DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
                value = value[1:]
            if field not in IGNORED and value is not None and value != []:
                shown.append([field, canonical(value)])
        return shown
    return [canonical(item) for item in node] if isinstance(node, list) else repr(node)


def _imported(name: str, tree: ast.Module) -> Iterator[str]:
    """Every module that a module may import, anywhere and in whatever way; some names are no modules."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            parts = name.split(".") if name in _packages else name.split(".")[:-1]
            parents = parts[: len(parts) - node.level + 1] if node.level else []
            base = ".".join([*parents, *([node.module] if node.module else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _within(module: str, packages: Sequence[str]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:12]


@lru_cache(maxsize=256)
def _parsed(text: str) -> ast.Module:
    return ast.parse(text)


@lru_cache(maxsize=1)
def _shipped() -> dict[str, str]:
    found: dict[str, dict[str, Any]] = json.loads(SHIPPED.read_text()) if SHIPPED.exists() else {}
    return {key: entry["code"] for key, entry in found.items()}
