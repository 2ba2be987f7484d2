"""Overrides, checked one by one before Hydra composes them; and errors of Hydra and OmegaConf in plain words."""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import fields, is_dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.hydra import Hydra
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException
from yaml import MarkedYAMLError

from aloll_cli.cli.hints import catalogue, corrected, example, unknown
from aloll_cli.cli.meant import meant_by_choice, meant_by_halves, meant_by_word
from aloll_cli.cli.validation import expected
from aloll_cli.errors import UserError
from aloll_cli.settings.entries import first_line
from aloll_cli.settings.groups import GROUPS
from aloll_cli.settings.root import Settings

EMPTY = ("test_reward", "experiment")  # groups that may have no choice


# a value without special characters of Hydra's grammar is a string: paths with ~, spaces or accents need no quotes
TEXT = re.compile(r"(?P<key>\+{0,2}[\w.@/]+)=(?P<value>[^\[\]{}()'\",$\\\\=]+)")


def parsed(hydra: Hydra, stage: str, overrides: list[str], multirun: bool) -> list[Override]:
    """Every override of a stage's command line.

    Raises:
        UserError: one cannot be read, removes an option, is a sweep without ``-m``, or names a choice that does not exist.
    """
    found = [_parsed(hydra, stage, overrides, place) for place in range(len(overrides))]
    for override in found:
        _check(hydra, stage, override, multirun)
    return [override for override in found if not _chooses_nothing(override)]


def named_plugins(overrides: list[str]) -> list[str]:
    """The folders of ``plugins=[…]``, which are read before anything is composed.

    Raises:
        UserError: it is set twice, or to something else than a list of folders.
    """
    given = [text for text in overrides if re.match(r"\+*plugins=", text)]
    if not given:
        return []
    several = "plugins=FOLDER or, for several, plugins=[FOLDER,FOLDER]"
    if len(given) > 1:
        raise UserError("plugins= is set twice.", several)
    try:
        override = OverridesParser.create().parse_override(given[0])
        folders = None if override.is_sweep_override() else override.value()
    except HydraException:
        folders = None
    if not isinstance(folders, list) or not all(isinstance(folder, str) for folder in folders):
        raise UserError(f"{_short(given[0])}: expected a folder or a list of folders.", several)
    return folders


def _parsed(hydra: Hydra, stage: str, overrides: Sequence[str], place: int) -> Override:
    text = overrides[place]
    if not text.strip("+~ ") or not re.match(r"[+~ ]*[^=+~ :][^=:]*=|[+~ ]*~", text):
        hint = meant_by_word(stage, overrides, place, partial(choices, hydra))
        raise UserError(f'"{_short(text)}" is not an override.', hint)
    if (found := _read(hydra, text)) is not None:
        return found
    if halves := meant_by_halves(overrides, place):
        raise UserError(f'"{_short(text)}" cannot be read as key=value.', _short(halves, 120))
    plain = re.sub(r"\s*:?=+\s*", "=", re.sub(r"^[/\s]+|[\s,;]+$", "", text), count=1)
    if plain != text and _read(hydra, plain) is not None:
        raise UserError(f'"{_short(text)}" cannot be read as key=value.', f"Did you mean {_short(plain, 120)}?")
    key, _, value = text.partition("=")
    quoted = shlex.quote(f'"{value}"') if value and not set(value) & set('"\\') else None
    hint = f"Quote values with special characters: {key}={quoted}" if quoted else example(key.strip("+ "))
    raise UserError(f'"{_short(text)}" cannot be read as key=value.', _short(hint, 120))


def _read(hydra: Hydra, text: str) -> Override | None:
    """An override in Hydra's grammar, or with its value as a text; None where it cannot be read."""
    parser = OverridesParser.create(config_loader=hydra.config_loader)
    found = TEXT.fullmatch(text)
    as_text = f"{found['key']}='{found['value']}'" if found and found["value"].isprintable() else text
    for form in (text, as_text):
        with suppress(HydraException, ValueError):  # a ValueError: Python refuses integers of many thousand digits
            return parser.parse_override(form)
    return None


def _check(hydra: Hydra, stage: str, override: Override, multirun: bool) -> None:
    text, key = str(override.input_line), override.key_or_group
    if override.is_delete():
        raise UserError(f"{_short(text)}: options cannot be removed.", f"Set it to another value: {example(key)}")
    if override.is_sweep_override():
        if not multirun:
            raise UserError(f"{_short(text)} has several values.", _several(stage, key, text))
        return  # its jobs are checked one by one
    if key in (*GROUPS, "experiment") or key.startswith("hydra/"):
        _check_choice(hydra, override)
    if "\0" in text:
        raise UserError(f"{_short(text)} contains a null character.", example(key))
    option = catalogue().get(key) if str(override.value()).lower() == "none" else None
    if option and option.allowed == "string or null":
        raise UserError(f'{_short(text)} is the text "{override.value()}".', f"For no value: {key}=null")


def _several(stage: str, key: str, text: str) -> str:
    """What to type where an option has several values without ``-m``."""
    value, option = text.partition("=")[2], catalogue().get(key)
    if option and "list" in option.allowed:
        return f"A list has brackets: {key}=[{value}]"
    if stage in ("compare", "report"):
        return f"aloll {stage} runs=[FOLDER,FOLDER] chooses runs; aloll compare alone shows all of the task."
    more = ""
    if option and option.allowed.startswith("number") and re.fullmatch(r"\d+,\d+", value):
        more = f"; for one number: {key}={value.replace(',', '.')}"
    if key == "reward" and re.fullmatch(r"\w+,\w+", value):
        more = "; for their sum: reward=mixed " + " ".join(f"reward.parts.{name}={name}" for name in value.split(","))
    return f"For one run per value, add -m: -m {_short(text)}{more}"


def choices(hydra: Hydra, group: str) -> list[str]:
    """The choices of a group; none where there is no such group.

    Its loader's ``get_group_options`` says the same after it has copied all schemas, which takes longer than all else here.
    """
    return cast(ConfigLoaderImpl, hydra.config_loader).repository.get_group_options(group, ObjectType.CONFIG)


def _chooses_nothing(override: Override) -> bool:
    """Whether it sets a group without a choice to null, which Hydra refuses."""
    place = override.package or override.key_or_group
    return place in EMPTY and override.value() is None and not override.is_delete()


def _check_choice(hydra: Hydra, override: Override) -> None:
    """A group's choice must be one of its YAML files."""
    group, value, place = override.key_or_group, override.value(), override.package or override.key_or_group
    options = choices(hydra, group)
    if not options:
        raise UserError(f'there is no group "{group}".', f"Groups: {', '.join(GROUPS)}.")
    if _chooses_nothing(override):
        return
    if isinstance(value, str) and value in options:
        if (override.is_add() or override.is_force_add()) and ".parts." not in place:
            raise UserError(f"{override.input_line}: {place} already has a choice.", f"{place}={value}")
        return
    shown = "null" if value is None else str(override.input_line).partition("=")[2]
    hint = meant_by_choice(group, place, shown, partial(choices, hydra))
    extra = f" Install hydra-{shown}-launcher for it." if group == "hydra/launcher" else ""
    raise UserError(f"{place}={_short(shown)}: there is no such choice.", f"{hint}Choices: {', '.join(options)}.{extra}")


def explained(error: Exception) -> UserError:
    """An error of Hydra or OmegaConf in plain words."""
    first = next(iter(str(error).strip().splitlines()), "")
    if found := re.match(r"In '([^']+)': \w+ raised while composing config:", first):
        return _in_file(f"{found[1]}.yaml", str(error).partition("\n")[2])
    cause = error if isinstance(error, OmegaConfBaseException) else error.__cause__
    if isinstance(cause, OmegaConfBaseException):
        key = str(cause.full_key or cause.key or "?")
        if isinstance(cause, ConfigKeyError | ConfigAttributeError) and is_dataclass(cause.object_type):
            return _unknown_in(cause.object_type, key)
        if merging := re.match(r"Error merging override (.*)", first):
            typed, _, value = merging[1].partition("=")
            value = re.sub(r"^'(.*)'$", r"\1", value)  # as it was typed
            wrong = f"{_short(f'{typed}={value}')}: {expected(str(cause))}."
            return UserError(wrong, corrected(typed.lstrip("+"), value, str(cause)))
        return UserError(f"{_short(key)}: {expected(str(cause))}.", example(key))
    if isinstance(error, MarkedYAMLError):
        mark = error.problem_mark
        where = f"{Path(mark.name).name}, line {mark.line + 1}: " if mark else ""
        return UserError(f"{where}not valid YAML: {error.problem}.", "Correct the file.")
    if found := re.search(r"In '([\w/]+)': Could not (?:find|load) 'schema/(\w+)/(\w+)'", str(error)):
        return _no_class(*found.groups())
    what, hint = next(((what, hint) for pattern, (what, hint) in KNOWN.items() if re.search(pattern, str(error))), (None, None))
    text = re.sub(r"https?://\S+|Config search path:.*", "", " ".join(str(error).split()))
    return UserError(
        _short(what or text or "the configuration cannot be composed.", 240),
        hint or "aloll STAGE --help lists groups and options.",
    )


def _no_class(file: str, group: str, name: str) -> UserError:
    """The error for a file that names a schema which no class has."""
    close = difflib.get_close_matches(name, GROUPS.get(group, {}), n=1)
    meant = f"Did you mean /schema/{group}/{close[0]}? " if close else ""
    return UserError(
        f"{file}.yaml names /schema/{group}/{name}, and no class has that name.",
        f"{meant}A class of your own is found by plugins=FOLDER, in FOLDER/{group}/{name}.py.",
    )


def _in_file(file: str, complaint: str) -> UserError:
    """An error of OmegaConf about one YAML file, of which only its text is left."""
    found = dict(re.findall(r"(full_key|object_type)[:=] ?(\S*)", complaint))
    key, owner = found.get("full_key", ""), _option_class(found.get("object_type", ""))
    if not re.match(r"Key '", complaint) or owner is None:
        return UserError(f"{file}: {key}{': ' if key else ''}{expected(complaint)}.", "Correct the file.")
    if owner is not Settings and not any(owner in entries.values() for entries in GROUPS.values()):
        return no_schema(file, key)
    if key in (*GROUPS, "experiment") and file.startswith(f"{key}/"):
        return UserError(f"{file} sets no option: its keys are not at the root.", "Begin it with the line: # @package _global_")
    unknown = _unknown_in(owner, key)
    return UserError(f"{file}: {unknown.args[0]}", unknown.args[1])


def _option_class(name: str) -> Any:
    """The dataclass of options with this name."""
    classes = [Settings, *(cls for entries in GROUPS.values() for cls in entries.values())]
    known = {parent.__name__: parent for cls in classes for parent in cls.__mro__ if is_dataclass(parent)}
    return known.get(name)


def _unknown_in(owner: Any, key: str) -> UserError:
    parent = key.rpartition(".")[0]
    return unknown(key, "", [f"{parent}.{field.name}" if parent else field.name for field in fields(owner)])


def no_schema(file: str, key: str = "") -> UserError:
    """The error for a file of a group that does not say which options it sets; ``key`` is one of them."""
    group, _, name = file.removesuffix(".yaml").partition("/")
    if group == "schema":
        return UserError(
            f"/{group}/{name} stands in a defaults list without its place.", f'Write it there as "/{group}/{name}@_here_"'
        )
    entries = GROUPS[group]
    option = key.rpartition(".")[2]
    fitting = [name] if name in entries else [n for n, cls in entries.items() if option in {f.name for f in fields(cls)}]
    found = fitting or list(entries)
    line = first_line(group, found[0] if len(found) == 1 else "NAME")
    names = f" (NAME: {', '.join(found)})" if len(found) > 1 else ""
    return UserError(f"{file} has no schema: its defaults list does not name one.", f"Begin it with: {line}{names}")


NAMES = "The names are those of the files in conf/ and in your --config-dir, without .yaml."
KNOWN = {  # by a pattern of Hydra's: what is wrong, where its own words do not do, and what to type
    r"Cannot find primary config": (None, f"--config-name NAME. {NAMES}"),
    r"Could not (?:find|load)": (None, NAMES),
    r"Multiple values for": (None, "Choose each group once."),
    r"sweep type": ("this sweeper takes lists only.", "-m seed=1,2"),
    r"Unexpected type for root: NoneType": (
        "an option was set, but its group has no choice yet.",
        "Choose first: adapter=lora adapter.r=8, or test_reward=fitted test_reward.alpha=3",
    ),
    r"recursion depth": ("the defaults lists of YAML files include each other in a circle.", "Correct these lists."),
    r"Invalid defaults list|Expected header format": (None, "The files in conf/ show how a file begins."),
    r"codec can't decode": ("a YAML file is not UTF-8.", "Save the files of your --config-dir as UTF-8."),
}  # fmt: skip


def _short(text: str, length: int = 60) -> str:
    """Text as an error message quotes it: on one line, and not too long."""
    visible = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)
    return visible if len(visible) <= length else visible[: length - 1] + "…"
