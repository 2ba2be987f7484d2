"""Entries from outside: folders and installed packages with variants, tasks, rewards and values of one's own.

A folder of plugins looks like conf/, each YAML file with its Python file beside it:

    mine/
      variant/softer.py      class Softer(Pointwise)
      variant/softer.yaml    defaults: ["/schema/variant/softer@_here_"]
      reward/short.py  reward/short.yaml  task/notes.py  task/notes.yaml  values/median.py  values/median.yaml

It is read by ``plugins=[mine]``. An installed package with such a folder names it as an entry point of the group
``aloll.plugins``, and is always read.
"""

from __future__ import annotations

import importlib
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.resources import files
from pathlib import Path
from types import CodeType, ModuleType
from typing import cast

from aloll_cli.errors import UserError
from aloll_cli.files import near
from aloll_cli.schema import FromEnvironment, from_plain, plain
from aloll_cli.settings.entries import BASES, entry_of
from aloll_cli.settings.groups import GROUPS
from aloll_cli.settings.installed import installed
from aloll_cli.settings.root import Settings
from aloll_cli.source_code import code_identity, remember, source_of

ENVIRONMENT = "!environment"  # the YAML tag of text from the environment: [value, how it was written]
PACKAGE = "aloll_plugins"  # folders are imported as packages in this one
MISNAMED = {"variants": "variant", "tasks": "task", "rewards": "reward", "value": "values"}
_added: list[tuple[str, str]] = []  # groups and names of the entries of plugins


class _Loader(SourceFileLoader):
    """Compiles the text that the fingerprint is of; a cache of bytecode may be older than an edit within the same second."""

    def get_code(self, fullname: str) -> CodeType:
        text = source_of(fullname)
        code: CodeType = self.source_to_code(self.get_data(self.path) if text is None else text.encode(), self.path)
        return code


class _Finder:
    """Finds the modules in folders of plugins."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if not name.startswith(f"{PACKAGE}."):
            return None
        found = PathFinder.find_spec(name, path)
        if found is not None and isinstance(found.loader, SourceFileLoader):
            found.loader = _Loader(found.loader.name, found.loader.path)
        return found


def load_plugins(folders: Sequence[str]) -> list[Path]:
    """Read folders of plugins and installed packages of them: their entries join the groups' choices.

    May be called again in one process: folders are read afresh, and what an earlier call added is gone.

    Args:
        folders: as the user named them.

    Returns:
        The folders, whose YAML files Hydra is to find.

    Raises:
        UserError: a folder is not there, a file cannot be imported, or an entry lacks its class or its YAML file.
    """
    _forget()
    if _Finder not in sys.meta_path:
        sys.meta_path.insert(0, _Finder)
    found = installed()
    for name in folders:
        folder = Path(name).expanduser().resolve()
        _check_folder(name, folder)
        if folder not in found:
            found[folder] = _package(folder, taken=set(found.values()))
    _check_presets(found)
    for folder, package in found.items():
        remember(package, folder, plugin=True)
        for group in BASES:
            for file in sorted((folder / group).glob("*.py")):
                _add(group, file, f"{package}.{group}.{file.stem}")
    return list(found)


def _check_folder(name: str, folder: Path) -> None:
    """Raises UserError for a folder that is not there, or that has none of the folders of groups, or one with another name."""
    if not folder.is_dir():
        raise UserError(f"plugins: there is no folder {name}.", "plugins=FOLDER, with files such as FOLDER/variant/mine.py")
    if not any((folder / group).is_dir() for group in BASES):
        hint = f"plugins={near(folder.parent)}" if folder.name in BASES else f"{name}/variant/mine.py, say"
        raise UserError(f"plugins: {name} has none of the folders {', '.join(BASES)}.", hint)
    for wrong, group in MISNAMED.items():
        if any((folder / wrong).glob("*.yaml")):
            raise UserError(f"plugins: {name}/{wrong} is not read.", f"Name the folder {group}.")


def _check_presets(found: Iterable[Path]) -> None:
    """Raises UserError where a YAML file would be hidden by one of the same name, ours or another plugin's."""
    taken: dict[str, str] = {}
    for folder in found:
        for file in sorted(folder.glob("*/*.yaml")):
            name = f"{file.parent.name}/{file.name}"
            ours = files("aloll_cli.conf") / file.parent.name / file.name
            if ours.is_file() or name in taken:
                where = "comes with aloll" if ours.is_file() else f"is in {taken[name]}, too"
                raise UserError(f"{near(file)}: {file.parent.name}={file.stem} {where}.", "Give the file another name.")
            taken[name] = str(folder)


def _forget() -> None:
    """Take back what an earlier call added."""
    for group, name in _added:
        del GROUPS[group][name]
    _added.clear()
    for module in [name for name in sys.modules if name.startswith(f"{PACKAGE}.")]:
        del sys.modules[module]


def _package(folder: Path, taken: set[str]) -> str:
    """A package whose modules are the folder's files."""
    name = f"{PACKAGE}.{re.sub(r'[^0-9A-Za-z_]', '_', folder.name)}"
    while name in taken:
        name += "_"
    for module, path in ((PACKAGE, []), (name, [str(folder)])):
        package = ModuleType(module)
        package.__path__ = path
        sys.modules[module] = package
    return name


def _add(group: str, file: Path, module: str) -> None:
    """Import a file; where it holds an entry, that joins its group."""
    entry = entry_of(group, file, _imported(file, module))
    if entry is None:
        return
    name = file.stem
    if name in GROUPS[group]:
        there = GROUPS[group][name].__module__
        raise UserError(
            f"{near(file)}: {group}={name} is there already, in {there}.", "Give the files and the class another name."
        )
    GROUPS[group][name] = entry
    _added.append((group, name))
    code_identity(entry)  # of the code that was just imported


def _imported(file: Path, module: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except SyntaxError as error:
        raise UserError(f"{near(Path(error.filename or file))}, line {error.lineno}: {error.msg}.", "Correct the file.") from None
    except (Exception, SystemExit) as error:  # whatever a user's own module raises
        inside = [f for f in traceback.extract_tb(error.__traceback__) if f.filename.startswith(str(file.parent.parent))]
        where = f"{near(Path(inside[-1].filename))}, line {inside[-1].lineno}" if inside else near(file)
        raise UserError(f"{where}: {type(error).__name__}: {error}.", "Correct the file.") from None


def settings_as_text(settings: Settings, with_secrets: bool = True) -> str:
    """Settings as YAML for a process that runs a stage with them.

    Args:
        settings: of the stage.
        with_secrets: whether values of ``${oc.env:…}`` are in it; otherwise that process reads them from its environment.
    """
    import yaml

    class Dumper(yaml.SafeDumper):
        pass

    def represent(to: yaml.SafeDumper, text: FromEnvironment) -> yaml.Node:
        return to.represent_sequence(ENVIRONMENT, [str(text) if with_secrets else None, text.written])

    Dumper.add_representer(FromEnvironment, represent)
    return str(yaml.dump(plain(settings), Dumper=Dumper, allow_unicode=True))


def settings_from_text(text: str, read: Callable[[str], str] | None = None) -> Settings:
    """The settings that another process wrote, its plugins read first.

    Args:
        text: of ``settings_as_text``.
        read: the value of ``${oc.env:…}`` here, where the text has none.

    Raises:
        UserError: there is no such variable, or a plugin cannot be read.
    """
    import yaml

    class Loader(yaml.SafeLoader):
        pass

    def construct(of: yaml.SafeLoader, node: yaml.Node) -> FromEnvironment:
        value, written = of.construct_sequence(cast(yaml.SequenceNode, node))
        return FromEnvironment(read(written) if value is None and read else value, written)

    Loader.add_constructor(ENVIRONMENT, construct)
    written = yaml.load(text, Loader=Loader)
    load_plugins(written["plugins"])
    settings: Settings = from_plain(Settings, written)
    return settings
