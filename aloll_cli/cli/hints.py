"""What to type instead: options by the names that they are given, and examples of values."""

from __future__ import annotations

import difflib
import re
from functools import cache
from typing import Any

from aloll_cli.cli.elsewhere import NOTHING, familiar, instead
from aloll_cli.cli.options import MISSING, SECOND, Catalogue, Option, entries
from aloll_cli.errors import UserError
from aloll_cli.schema import unknown_key
from aloll_cli.settings.groups import GROUPS
from aloll_cli.settings.launchers import GROUP, KEY, LAUNCHERS

NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?", re.IGNORECASE)
SEVERAL = re.compile(r"(\d+)(?:-|:|\.\.+)(\d+)|\[(\d+(?:, ?\d+)+)\]")  # 1-5, [1,2,3]
CHOICE = ("name", "type", "kind", "choice", "class", "id", "_target_")  # how a choice may be written as an option of its group
OF_SLURM = {  # what sbatch and joblib call an option of a launcher
    "time": "timeout_min", "timelimit": "timeout_min", "timeout": "timeout_min", "mem": "mem_gb", "memory": "mem_gb",
    "cpus": "cpus_per_task", "cores": "cpus_per_task", "gpus": "gpus_per_node", "gpu": "gpus_per_node", "gres": "gpus_per_node",
    "signal_delay_s": "stop_before_s", "parallelism": "array_parallelism", "jobs": "n_jobs", "processes": "n_jobs",
    "workers": "n_jobs",
}  # fmt: skip


def unknown(key: str, value: str, known: list[str], stage: str = "") -> UserError:
    """The error for a key that is no option.

    Args:
        key: as it was typed.
        value: what it was set to.
        known: the options of this configuration.
        stage: where it was set.

    Returns:
        What to type: the only option of that name in some group, what other libraries call so, or the nearest name.
    """
    what = f'there is no option "{key}".'
    group, _, name = key.rpartition(".")
    if group in (*GROUPS, *SECOND) and name in CHOICE and value:
        return UserError(what, f"Groups have choices: {group}={value}")
    same = [option for option in known if "." in option and option.rpartition(".")[2] == name.lower() and option != key]
    alone = same[0] if len(same) == 1 else None
    if found := (f"{alone}={value}" if value else example(alone)) if alone else typed(name, value, stage):
        return UserError(what, f"Here it is: {found}")
    if same:
        return UserError(what, f"Did you mean {' or '.join(same)}?")
    if advice := instead(name):
        return UserError(what, advice)
    by_case = {option.lower(): option for option in known}
    if close := difflib.get_close_matches(key.lower(), by_case, n=1, cutoff=0.6):
        where = f' under "{group}"' if group else ""
        nearest = by_case[close[0]]
        return UserError(f'there is no option "{key}"{where}.', f"Did you mean {nearest}{f'={value}' if value else ''}?")
    return unknown_key(key, known)


def unknown_of_launcher(name: str, value: str, cls: Any) -> UserError:
    """The error for a key that is no option of a sweep's launcher.

    Args:
        name: without ``hydra.launcher.`` before it.
        value: what it was set to.
        cls: the class of the launcher's options; another one for a launcher that is not ours.
    """
    what = f'there is no option "{KEY}.{name}".'
    by_choice = {choice: list(vars(found)["__dataclass_fields__"]) for choice, found in LAUNCHERS.items()}
    here = next((names for choice, names in by_choice.items() if LAUNCHERS[choice] is cls), [])
    owners = [f"{GROUP}={choice}" for choice, names in by_choice.items() if name in names]
    if owners and name not in here:
        return UserError(what, f"It belongs to {' or '.join(owners)}.")
    plain = name.lower().replace("-", "_")
    known = [option for option in here if not option.startswith("_")]
    meant = OF_SLURM.get(plain, plain)
    if close := difflib.get_close_matches(meant, known, n=1, cutoff=0.6):
        return UserError(what, f"Did you mean {KEY}.{close[0]}{f'={value}' if value else ''}?")
    return UserError(what, f"Options: {', '.join(known)}." if known else f"{GROUP}={' or '.join(LAUNCHERS)}")


def option_named(name: str) -> str | None:
    """The option or group that a name is if neither its case counts nor whether it has - or _."""
    wanted = name.strip("-+ ").replace("-", "_").lower()
    return next((key for key in (*GROUPS, *SECOND, "experiment", *catalogue()) if key.lower() == wanted), None)


def typed(name: str, value: str, stage: str = "") -> str | None:
    """What to type in a stage for a name of an option, ours or another library's; None for other names.

    Args:
        name: in any case, with - or _.
        value: "" for an example.
        stage: "" for any.
    """
    key = option_named(name)
    if key is not None:
        return f"{key}={value}" if value else example(key)
    found = familiar(name.strip("-+ "), value, stage)
    if found is None or "{}" not in found:
        return found
    return " ".join(example(word.partition("=")[0]) if "{}" in word else word for word in found.split())


def corrected(key: str, value: str, complaint: str) -> str:
    """An option with a value that it may have, the nearest to what it was set to.

    Args:
        key: the option.
        value: what it was set to.
        complaint: of OmegaConf, about that.
    """
    option = catalogue().get(key)
    allowed = option.allowed if option else ""
    if allowed.endswith("null") and value.lower() in (*NOTHING, "auto", "default"):
        return f"{key}=null"
    if named := re.search(r"expected one of \[(.*)\]", complaint):
        values, theirs = named[1].split(", "), familiar(value, "") or ""
        close = difflib.get_close_matches(value.lower(), values, n=1) or values
        return theirs if theirs.startswith(f"{key}=") else f"{key}={close[0]}"
    if allowed.startswith("list"):
        return f"{key}=[{value}]"
    if several := SEVERAL.fullmatch(value) if allowed.startswith("integer") else None:
        first, last, listed = several.groups()
        return f"-m {key}={listed.replace(' ', '')}" if listed else f"-m '{key}=range({first},{int(last) + 1})'"
    found = NUMBER.match(value)
    unit = value[found.end() :] if found else ""
    if found and not re.search(r"[:,\d]", unit):
        if allowed.startswith("integer"):
            return f"{key}={int(float(found[0]) * (1000 if unit in ('k', 'K') else 1))}"
        if allowed.startswith("number"):
            return f"{key}={found[0]}"
    return example(key)


@cache
def catalogue() -> dict[str, Option]:
    """Every option of the package's own files by its key; of several choices, that of the file named after its class."""
    whole = Catalogue()
    choices = [whole.choice(group, name) for group in (*GROUPS, *SECOND, GROUP) for name in whole.names(group)]
    found = dict(whole.root)
    for choice in sorted(choices, key=lambda c: c.name not in entries(SECOND.get(c.group, c.group))):
        found |= {key: option for key, option in choice.options.items() if key not in found}
    return found


def example(key: str) -> str:
    """An option with a value that it may have, or a group with a choice; where only a description says which, with that."""
    if key in (*GROUPS, *SECOND, "experiment"):
        chosen, names = Catalogue().defaults[key], Catalogue().names(key)
        return f"{key}={chosen if chosen in names and chosen not in ('none', 'off') else names[0]}"
    option = catalogue().get(key)
    name = key.rpartition(".")[2].upper()
    if option is None:
        return f"{key}={name}"
    if option.default not in (MISSING, "null", "[]", "{}"):
        return f"{key}={option.default.replace(', ', ',')}"
    if option.values:
        return f"{key}={next(iter(option.values))}"
    if number := re.match(r"(?:integer|number)(?: in [\[(]| ≥ | > |)([-\d.]*)", option.allowed):
        return f"{key}={max(1, float(number[1] or 1)):g}"
    listed = f"[{name}]" if option.allowed.startswith("list") else name
    return f"{key}={listed}" + (f" ({option.what})" if option.default == MISSING and option.what else "")


def how_to_set(key: str) -> str:
    """What to type where an option has no value."""
    return f"Set it: {example(key)}"
