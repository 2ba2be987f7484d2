"""Overrides, checked one by one before Hydra composes them; and what OmegaConf says about a value, in a user's words."""

from __future__ import annotations

import difflib
import re
from dataclasses import fields, is_dataclass

from hydra._internal.hydra import Hydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from aloll_cli.config import needed, unknown_key
from aloll_cli.errors import UserError
from aloll_cli.settings import GROUPS

EMPTY = ("test_reward", "experiment")  # groups that may have no choice


def parsed(hydra: Hydra, overrides: list[str], multirun: bool) -> list[Override]:
    """Every override of a command line.

    Raises:
        UserError: one cannot be read, takes an option away, is a sweep without ``-m``, or chooses what is not there.
    """
    found = [_parsed(hydra, text) for text in overrides]
    for override in found:
        _check(hydra, override, multirun)
    return found


def _parsed(hydra: Hydra, text: str) -> Override:
    if not text.strip("+~ ") or not re.match(r"[+~ ]*[^=]+=|[+~ ]*~", text):
        raise UserError(f'"{_short(text)}" is no override.', "An override is group=choice or key=value: seed=2")
    try:
        return OverridesParser.create(config_loader=hydra.config_loader).parse_override(text)
    except (HydraException, ValueError) as error:  # a ValueError: Python refuses integers of many thousand digits
        key, _, value = text.partition("=")
        hint = f"Text with signs in it needs quotes of its own: {key}='\"{value}\"'" if value else f"Set it to something: {key}=…"
        raise UserError(f'"{_short(text)}" cannot be read as key=value.', _short(hint, 120)) from error


def _check(hydra: Hydra, override: Override, multirun: bool) -> None:
    text, key = str(override.input_line), override.key_or_group
    if override.is_delete():
        raise UserError(f"{_short(text)}: an option cannot be taken away.", f"Set it to what you want: {key}=…")
    if override.is_sweep_override():
        if not multirun:
            raise UserError(f"{_short(text)} is a sweep over several values.", f"Add -m: aloll … -m {_short(text)}")
        return  # its jobs are looked at one by one
    if key in (*GROUPS, "experiment") or key.startswith("hydra/"):
        _check_choice(hydra, override)
    if "\0" in text:
        raise UserError(f"{_short(text)} holds a null character.", f"{key}=…")


def _check_choice(hydra: Hydra, override: Override) -> None:
    """A group's choice must be one of its YAML files."""
    group, value, place = override.key_or_group, override.value(), override.package or override.key_or_group
    options = hydra.config_loader.get_group_options(group)
    if not options:
        raise UserError(f'there is no group "{group}".', f"Groups: {', '.join(GROUPS)}.")
    if value is None and place in EMPTY:
        return
    if isinstance(value, str) and value in options:
        if override.is_add() or override.is_force_add():
            raise UserError(f"{override.input_line}: {place} has a choice already.", f"{place}={value}")
        return
    shown = "null" if value is None else str(override.input_line).partition("=")[2]
    close = difflib.get_close_matches(shown, options, n=1)
    hint = f"Did you mean {place}={close[0]}? " if close else ""
    extra = f" Install hydra-{shown}-launcher for it." if group == "hydra/launcher" else ""
    raise UserError(f"{place}={_short(shown)}: there is no such choice.", f"{hint}Choices: {', '.join(options)}.{extra}")


def explained(error: Exception) -> UserError:
    """What Hydra or OmegaConf have against a configuration, as a user needs it."""
    first = next(iter(str(error).strip().splitlines()), "")
    cause = error if isinstance(error, OmegaConfBaseException) else error.__cause__
    merging = re.match(r"Error merging override (.*)", first)
    composing = re.match(r"In '([^']+)'", first)
    place = _short(merging[1]) if merging else f"{composing[1]}.yaml" if composing else ""
    if isinstance(cause, OmegaConfBaseException):
        key = str(cause.full_key or cause.key or "?")
        if isinstance(cause, ConfigKeyError | ConfigAttributeError) and is_dataclass(cause.object_type):
            known = [field.name for field in fields(cause.object_type)]
            unknown = unknown_key(key, [key.rpartition(".")[0] + "." * ("." in key) + name for name in known])
            return UserError(f"{place}: {unknown.args[0]}" if composing else unknown.args[0], unknown.args[1])
        return UserError(f"{place or key}: {needed(str(cause))}.", f"{key}=…")
    known_hint = next((hint for pattern, hint in HINTS.items() if re.search(pattern, str(error))), "")
    text = re.sub(r"https?://\S+", "", " ".join(str(error).split()))
    return UserError(_short(text, 240), known_hint or "aloll STAGE --help lists groups and options.")


HINTS = {
    r"Could not (?:find|load)": "The names are those of the files in conf/ or of your --config-dir, without .yaml.",
    r"Multiple values for": "Choose each group once.",
}


def _short(text: str, length: int = 60) -> str:
    """Text as an error message quotes it: on one line, and not too long."""
    visible = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)
    return visible if len(visible) <= length else visible[: length - 1] + "…"
