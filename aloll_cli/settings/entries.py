"""What a file of a plugin must hold to be an entry; whatever is missing is said by name."""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import Enum
from importlib.resources import files
from inspect import isabstract
from pathlib import Path
from types import ModuleType
from typing import Any

from aloll_cli.errors import UserError
from aloll_cli.files import near
from aloll_cli.rewards.base import Reward
from aloll_cli.schema import name_of
from aloll_cli.tasks.base import Task
from aloll_cli.values.base import Values
from aloll_cli.variants.base import Groupwise, Online, Pointwise, Regression, Variant

BASES: dict[str, type] = {"variant": Variant, "task": Task, "reward": Reward, "values": Values}
KINDS = (Pointwise, Regression, Groupwise, Online)  # of variants: they say what one loss is of
RESERVED = ("name", "code", "version")  # keys of a recipe, and so no options
DECORATOR = "@dataclass(kw_only=True)"
TYPES = "int, float, str, bool, an Enum, a list or dict of these, a dataclass of such options; each may be | None"


def entry_of(group: str, file: Path, module: ModuleType) -> type | None:
    """The class that makes a file an entry; None for a file of helpers, which has no YAML file beside it.

    Args:
        group: the folder that the file is in.
        file: a Python file of a plugin.
        module: the same, imported.

    Raises:
        UserError: the class is missing, or is not what an entry must be.
    """
    yaml = file.with_suffix(".yaml")
    classes = [c for c in vars(module).values() if isinstance(c, type) and c.__module__ == module.__name__]
    found = next((cls for cls in classes if name_of(cls) == file.stem), None)
    if not yaml.exists() and (found is None or not issubclass(found, BASES[group]) or isabstract(found)):
        return None
    if found is None:
        raise _no_class(group, file, [cls.__name__ for cls in classes])
    _check_base(group, file, found)
    if isabstract(found):
        raise _undefined(group, file, found, sorted(getattr(found, "__abstractmethods__", ())))
    if issubclass(found, Reward) and found.is_fitted is not Reward.is_fitted and found.fit is Reward.fit:
        raise _undefined(group, file, found, ["fit"])
    _check_dataclass(file, found)
    if not yaml.exists():
        own = [field.name for field in fields(found) if field.name not in {f.name for f in fields(BASES[group])}]
        values = f", then a line for each option: {', '.join(own)}" if own else ""
        raise UserError(f"{near(file)} has no {yaml.name} beside it.", f"{near(yaml)}: {first_line(group, file.stem)}{values}")
    for option in fields(found):
        _check_option(file, found, option)
    return found


def first_line(group: str, name: str) -> str:
    """The first line of an entry's YAML file."""
    shared = (files("aloll_cli.conf") / "base" / f"{group}.yaml").is_file()
    base = f', "/base/{group}@_here_"' if shared else ""
    return f'defaults: ["/schema/{group}/{name}@_here_"{base}]'


def _no_class(group: str, file: Path, there: Sequence[str]) -> UserError:
    """The error for a file with a YAML file but without its class; its name may be one that no class can have."""
    name = file.stem
    expected = "".join(word.capitalize() for word in name.split("_"))
    usable = name_of(type(expected, (), {}))
    if not re.fullmatch(r"[a-z]\w*", name) or usable != name:
        what = f"{near(file)}: {name} is not the name of a class in lower case, with _ between its words."
        better = re.sub(r"\W+", "_", usable)
        return UserError(what, f"Name the files {better}.py and {better}.yaml, and the class in CamelCase.")
    defined = f"; it defines {', '.join(there)}" if there else ""
    return UserError(f"{near(file)} defines no class {expected}{defined}.", _derived(group, expected))


def _undefined(group: str, file: Path, cls: type, methods: Sequence[str]) -> UserError:
    what = f"{near(file)}: class {cls.__name__} does not define {', '.join(methods)}."
    return UserError(what, f"See {BASES[group].__module__} and docs/extending.")


def _derived(group: str, name: str) -> str:
    """How an entry's class begins."""
    if group != "variant":
        return f"class {name}({BASES[group].__name__}): …"
    choices = ", ".join(f"({kind.__name__}): one {kind.unit}" for kind in KINDS)
    return f"Its base says what one loss is of: class {name}{choices}."


def _check_base(group: str, file: Path, cls: type) -> None:
    kinds = KINDS if group == "variant" else (BASES[group],)
    if not issubclass(cls, kinds):
        names = ", ".join(kind.__name__ for kind in kinds[:-1]) + " or " * (len(kinds) > 1) + kinds[-1].__name__
        raise UserError(f"{near(file)}: class {cls.__name__} does not derive from {names}.", _derived(group, cls.__name__))


def _check_dataclass(file: Path, cls: type) -> None:
    own = set(vars(cls).get("__annotations__", {}))
    positional = is_dataclass(cls) and any(field.name in own and not field.kw_only for field in fields(cls))
    if "__dataclass_fields__" not in vars(cls) or positional:  # a base's fields are inherited without a decorator
        what = f"{near(file)}: class {cls.__name__} is not decorated with {DECORATOR}."
        raise UserError(what, f"Put {DECORATOR} on the line above it.")


def _check_option(file: Path, cls: type, option: Field[Any]) -> None:
    """Raises UserError for a name that a recipe needs, for a default in Python, and for a type that YAML cannot hold."""
    where = f"{near(file)}: option {option.name}"
    if option.name in RESERVED:
        raise UserError(
            f'{near(file)}: an option cannot be named "{option.name}".', f"Another name, such as {option.name}_of_mine."
        )
    if option.default is not MISSING or option.default_factory is not MISSING:
        constant = f" (What is no option: {option.name}: ClassVar[…] = …)" if hasattr(cls.__mro__[1], option.name) else ""
        raise UserError(
            f"{where} has a default in Python.",
            f"Its value belongs into {file.with_suffix('.yaml').name} alone: remove the default from the class.{constant}",
        )
    try:
        hint = typing.get_type_hints(cls)[option.name]
    except NameError as error:
        what = f"{where} has the type {option.type}: {error}."
        raise UserError(what, "Import what types of options name outside of if TYPE_CHECKING.") from None
    if not _fits_yaml(hint):
        raise UserError(f"{where} has the type {option.type}, which YAML cannot hold.", f"Types of options: {TYPES}.")


def _fits_yaml(hint: Any) -> bool:
    """Whether an option may have a type."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        kinds = [part for part in parts if part is not type(None)]
        return all(map(_fits_yaml, kinds)) and (len(kinds) == 1 or set(kinds) <= {int, float, str, bool})
    if origin is list:
        return _fits_yaml(parts[0])
    if origin is dict:
        return parts[0] is str and _fits_yaml(parts[1])
    if hint in (int, float, str, bool, Any):
        return True
    return isinstance(hint, type) and (issubclass(hint, Enum) or is_dataclass(hint))
