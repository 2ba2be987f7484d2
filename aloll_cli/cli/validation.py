"""Composed configurations, checked key by key, as dataclasses."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from typing import Any

from aloll_cli.cli.hints import example, how_to_set, unknown
from aloll_cli.errors import UserError
from aloll_cli.schema import ANY_INTEGER, ANY_NUMBER, FromEnvironment, Interval, T, flatten
from aloll_cli.user_code import of_plugin, plugin_errors


def register(root: type, groups: Mapping[str, Mapping[str, type]]) -> None:
    """Tell Hydra the schema of the root and of every entry: ``/schema/variant/seq`` and so on."""
    from hydra.core.config_store import ConfigStore

    store = ConfigStore.instance()
    there = store.repo.get("schema", {})  # what an earlier command of this process has stored
    if not _holds(there, "root", root):
        store.store(group="schema", name="root", node=root, package="_global_")
    for group, entries in groups.items():
        for name, cls in entries.items():
            if not _holds(there.get(group, {}), name, cls):
                store.store(group=f"schema/{group}", name=name, node=cls)


def _holds(stored: Mapping[str, Any], name: str, cls: type) -> bool:
    from omegaconf import OmegaConf

    node = stored.get(f"{name}.yaml")
    return node is not None and OmegaConf.get_type(node.node) is cls


def check_declared(cfg: Any, root: type, prefix: str = "") -> None:
    """Check that every key is declared and every number in its range.

    Args:
        cfg: what was composed.
        root: its class.
        prefix: of its keys, with a dot behind, where it stands below another root.

    Raises:
        UserError: the first that is not.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    if OmegaConf.get_type(cfg) is not root:
        raise UserError("the root file of the configuration has no schema.", "Begin it with: defaults: [schema/root, _self_, …]")
    for key, typed, known in _undeclared(cfg, prefix):
        raise unknown(key, typed, known if "." in key else [k for k in declared_keys(cfg) if k != key])
    try:
        for key, value, interval in _out_of_range(cfg, prefix):
            raise UserError(f"{key} {interval.against(value)}, got {value}.", _inside(key, interval))
    except OmegaConfBaseException as error:
        raise UserError(f"{_full_key(error)}: {expected(str(error))}.", example(_full_key(error))) from None


@plugin_errors()
def build(cfg: Any, root: type[T], prefix: str = "") -> T:
    """Turn a composed configuration, or a part of one, into checked dataclasses; arguments as ``check_declared``.

    Raises:
        UserError: an undeclared key (also one added by ``+``), or a value that is missing, of another type or out of range.
    """
    from omegaconf import MissingMandatoryValue, OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    check_declared(cfg, root, prefix)
    try:
        settings = OmegaConf.to_object(cfg)
    except MissingMandatoryValue as error:
        key = _full_key(error)
        raise UserError(f"{key} has no value.", how_to_set(key)) from None
    except OmegaConfBaseException as error:
        wrong = UserError(f"{_full_key(error)}: {expected(str(error))}.", example(_full_key(error)))
        raise of_plugin(error.__context__ or error) or wrong from None  # it wraps what a plugin's __post_init__ raises
    assert isinstance(settings, root)
    _mark_environment(cfg, settings)
    return settings


def _mark_environment(node: Any, value: Any) -> None:
    """Keep how text of the environment was written, in dataclasses and dicts that were built from a configuration."""
    from omegaconf import DictConfig, OmegaConf

    if not isinstance(node, DictConfig) or node._is_none():
        return
    keys: list[Any] = list(node)
    for key in keys:
        found = value.get(key) if isinstance(value, dict) else getattr(value, str(key))  # a class may have changed a key
        raw = node._get_node(key)
        if not OmegaConf.is_interpolation(node, key):
            _mark_environment(raw, found)
        elif isinstance(found, str) and "${oc.env:" in (written := str(raw._value())):  # type: ignore[union-attr]
            marked = FromEnvironment(found, written)
            value.update({key: marked}) if isinstance(value, dict) else setattr(value, str(key), marked)


def _full_key(error: Any) -> str:
    found = re.search(r"(?:mandatory value: |full_key: )(\S+)", str(error))
    return str(getattr(error, "full_key", None) or (found.group(1) if found else "?"))


def expected(complaint: str) -> str:
    """What OmegaConf would have accepted, in plain words."""
    line = complaint.strip().splitlines()[0] if complaint.strip() else ""
    if found := re.search(r"could not be converted to (\w+)", line):
        kinds = {"Integer": "expected an integer", "Float": "expected a number"}
        return kinds.get(found[1], "expected another type of value")
    if found := re.search(r"expected one of \[(.*)\]", line):
        return f"expected one of {found[1]}"
    if "is not a valid bool" in line:
        return "expected true or false"
    if "is not Optional" in line:
        return "expected a value, not null"
    if "Cannot merge DictConfig with ListConfig" in line:
        return "expected options with values; a list only where the option is one"
    if "is not a ListConfig" in line:
        return "expected a list, such as [a,b]"
    if found := re.search(r"Environment variable '(\w+)' not found", line):
        return f"the environment variable {found[1]} is not set"
    if found := re.search(r"Interpolation key '([^']+)' not found", line):
        return f'the interpolation names "{found[1]}", which is not an option'
    if "Cannot convert" in line and "to string" in line:
        return "expected a string"
    if "is not a subclass of" in line:
        return "the choice of a group belongs into the defaults list of the file: override /group: choice"
    return "invalid value"


def _undeclared(node: Any, prefix: str) -> Iterator[tuple[str, str, list[str]]]:
    """Keys that ``+`` or a YAML file added against the schema, with their values and the declared keys of the same level."""
    from omegaconf import DictConfig, OmegaConf

    if not isinstance(node, DictConfig) or node._is_none() or node._is_missing():
        return
    declared = OmegaConf.get_type(node)
    # the keys of a dict are the user's own
    known = [f.name for f in dataclasses.fields(declared)] if dataclasses.is_dataclass(declared) else list(map(str, node))
    keys: list[Any] = list(node)
    for key in keys:
        if (name := str(key)) not in known:
            value = node._get_node(key)
            yield f"{prefix}{name}", "" if OmegaConf.is_config(value) else str(value), [f"{prefix}{one}" for one in known]
        elif not OmegaConf.is_interpolation(node, key) and not OmegaConf.is_missing(node, key):
            yield from _undeclared(node._get_node(key), f"{prefix}{name}.")


def _out_of_range(node: Any, prefix: str) -> Iterator[tuple[str, float, Interval]]:
    """Numbers outside the range that their fields declare; where none is declared, NaN, infinity and huge integers."""
    from omegaconf import DictConfig, OmegaConf

    if not isinstance(node, DictConfig) or node._is_none() or node._is_missing():
        return
    declared: Any = OmegaConf.get_type(node)
    intervals = {f.name: f.metadata.get("interval") for f in dataclasses.fields(declared)} if declared is not dict else {}
    for key in intervals or node:
        if OmegaConf.is_missing(node, key):
            continue
        name, value = str(key), node[key]
        for number in value if OmegaConf.is_list(value) else [value]:
            if isinstance(number, int | float) and not isinstance(number, bool):
                interval = intervals.get(name) or (ANY_INTEGER if isinstance(number, int) else ANY_NUMBER)
                if number not in interval:
                    yield f"{prefix}{name}", number, interval
        yield from _out_of_range(value, f"{prefix}{name}.")


def resolved(written: str) -> str:
    """Text with ``${oc.env:…}`` as the environment of this process has it.

    Raises:
        UserError: it has no such variable.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        return str(OmegaConf.create({"text": written})["text"])
    except OmegaConfBaseException as error:
        raise UserError(f"{written}: {expected(str(error))}.", "Export it where the job runs.") from None


def missing_keys(node: Any, prefix: str = "") -> Iterator[str]:
    """The dotted keys of a composed configuration that have no value; Hydra's own apart."""
    from omegaconf import DictConfig, OmegaConf

    if not isinstance(node, DictConfig) or node._is_none() or node._is_missing():
        return
    keys: list[Any] = list(node)  # those of a user's mapping may be numbers or booleans
    for key in keys:
        if OmegaConf.is_missing(node, key):
            yield f"{prefix}{key}"
        elif not OmegaConf.is_interpolation(node, key) and (prefix or key != "hydra"):
            yield from missing_keys(node._get_node(key), f"{prefix}{key}.")


def _inside(key: str, interval: Interval) -> str:
    """An option with a number that it may have."""
    number = interval.proposal()
    return example(key) if number is None else f"{key}={number:g}"


def declared_keys(cfg: Any) -> list[str]:
    """Every dotted key of a composed configuration, for suggestions."""
    from omegaconf import OmegaConf

    return list(flatten(OmegaConf.to_container(cfg, resolve=False)))
