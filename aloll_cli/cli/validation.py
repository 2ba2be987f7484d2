"""Composed configurations, checked key by key, as dataclasses."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from typing import Any

from aloll_cli.errors import UserError
from aloll_cli.schema import ANY_INTEGER, ANY_NUMBER, Interval, T, flatten, unknown_key


def register(root: type, groups: Mapping[str, Mapping[str, type]]) -> None:
    """Tell Hydra the schema of the root and of every entry: ``/schema/variant/seq`` and so on."""
    from hydra.core.config_store import ConfigStore

    store = ConfigStore.instance()
    store.store(group="schema", name="root", node=root, package="_global_")
    for group, entries in groups.items():
        for name, cls in entries.items():
            store.store(group=f"schema/{group}", name=name, node=cls)


def check_declared(cfg: Any, root: type) -> None:
    """Check that every key is declared and every number in its range.

    Raises:
        UserError: the first that is not.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    if OmegaConf.get_type(cfg) is not root:
        raise UserError("the root file of the configuration has no schema.", "Begin it with: defaults: [schema/root, _self_, …]")
    for key, known in _undeclared(cfg, ""):
        raise unknown_key(key, known)
    try:
        for key, value, interval in _out_of_range(cfg, ""):
            raise UserError(f"{key} {interval.against(value)}, got {value}.", f"{key}={_example(interval)}")
    except OmegaConfBaseException as error:
        raise UserError(f"{_full_key(error)}: {needed(str(error))}.", f"{_full_key(error)}=…") from None


def build(cfg: Any, root: type[T]) -> T:
    """Turn a composed configuration into checked dataclasses.

    Raises:
        UserError: an undeclared key (behind ``+`` too), a value that is missing or out of range, or a contradiction.
    """
    from omegaconf import MissingMandatoryValue, OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    check_declared(cfg, root)
    try:
        settings = OmegaConf.to_object(cfg)
    except MissingMandatoryValue as error:
        key = _full_key(error)
        raise UserError(f'"{key}" has no value.', f"Set it: {key}=…") from None
    except OmegaConfBaseException as error:
        raise UserError(f"{_full_key(error)}: {needed(str(error))}.", f"{_full_key(error)}=…") from None
    assert isinstance(settings, root)
    return settings


def _full_key(error: Any) -> str:
    found = re.search(r"(?:mandatory value: |full_key: )(\S+)", str(error))
    return str(getattr(error, "full_key", None) or (found.group(1) if found else "?"))


def needed(complaint: str) -> str:
    """What OmegaConf would have taken instead, in plain words."""
    line = complaint.strip().splitlines()[0] if complaint.strip() else ""
    if found := re.search(r"could not be converted to (\w+)", line):
        kinds = {"Integer": "a whole number is needed", "Float": "a number is needed"}
        return kinds.get(found[1], "another kind of value is needed")
    if found := re.search(r"expected one of \[(.*)\]", line):
        return f"one of {found[1]} is needed"
    if "is not a valid bool" in line:
        return "true or false is needed"
    if "is not Optional" in line:
        return "a value is needed; null is none"
    if "Cannot merge DictConfig with ListConfig" in line:
        return "keys with values are needed, or a list where a list belongs"
    if "is not a ListConfig" in line:
        return "a list is needed: [a,b]"
    if found := re.search(r"Environment variable '(\w+)' not found", line):
        return f"the environment has no {found[1]}"
    if found := re.search(r"Interpolation key '([^']+)' not found", line):
        return f'the interpolation names "{found[1]}", which is no option'
    if "Cannot convert" in line and "to string" in line:
        return "text is needed"
    if "is not a subclass of" in line:
        return "a group's choice stands in the defaults list of a file: override /group: choice"
    return "this value does not fit"


def _undeclared(node: Any, prefix: str) -> Iterator[tuple[str, list[str]]]:
    """Keys that ``+`` or a YAML smuggled past the schema, with the keys declared beside them."""
    from omegaconf import DictConfig, OmegaConf

    if not isinstance(node, DictConfig) or node._is_none() or node._is_missing():
        return
    declared = OmegaConf.get_type(node)
    # the keys of a dict are the user's own
    known = [f.name for f in dataclasses.fields(declared)] if dataclasses.is_dataclass(declared) else list(map(str, node))
    for key in map(str, node):
        if key not in known:
            yield f"{prefix}{key}", [f"{prefix}{name}" for name in known]
        elif not OmegaConf.is_interpolation(node, key) and not OmegaConf.is_missing(node, key):
            yield from _undeclared(node._get_node(key), f"{prefix}{key}.")


def _out_of_range(node: Any, prefix: str) -> Iterator[tuple[str, float, Interval]]:
    """Numbers outside of what their fields declare; where nothing is declared, NaN, infinity and huge integers."""
    from omegaconf import DictConfig, OmegaConf

    if not isinstance(node, DictConfig) or node._is_none() or node._is_missing():
        return
    declared: Any = OmegaConf.get_type(node)
    intervals = {f.name: f.metadata.get("interval") for f in dataclasses.fields(declared)} if declared is not dict else {}
    for name in map(str, intervals or node):
        if OmegaConf.is_missing(node, name):
            continue
        value = node[name]
        for number in value if OmegaConf.is_list(value) else [value]:
            if isinstance(number, int | float) and not isinstance(number, bool):
                interval = intervals.get(name) or (ANY_INTEGER if isinstance(number, int) else ANY_NUMBER)
                if number not in interval:
                    yield f"{prefix}{name}", number, interval
        yield from _out_of_range(value, f"{prefix}{name}.")


def _example(interval: Interval) -> str:
    number = interval.proposal()
    return "…" if number is None else f"{number:g}"


def declared_keys(cfg: Any) -> list[str]:
    """Every dotted key of a composed configuration, for suggestions."""
    from omegaconf import OmegaConf

    return list(flatten(OmegaConf.to_container(cfg, resolve=False)))
