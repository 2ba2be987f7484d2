"""Which files of a folder are which split.

A split is one file (``train.jsonl``), numbered files (``train-00000-of-00004.parquet``, ``train_1.csv``) or a folder of files
(``train/part-0.parquet``). All this may also stand in a folder ``data``, as on the hub.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from aloll_cli.errors import UserError
from aloll_cli.tasks.column_names import listed
from aloll_cli.tasks.readers import SUFFIXES

SPLIT_NAMES = {"train": "train", "validation": "validation", "valid": "validation", "val": "validation", "dev": "validation",
               "test": "test"}  # fmt: skip
DATA = "data"  # the folder in which data sets of the hub keep their files
ENDING = "|".join(map(re.escape, SUFFIXES))
OF = re.compile(rf"(.*?)(\d+)-of-(\d+)(?:-[0-9a-f]{{16}})?(?:{ENDING})")  # older files of the hub end in a hash
NUMBERED = re.compile(rf"(?:{'|'.join(SPLIT_NAMES)})[-_.]?(\d+)(?:{ENDING})")

Files = dict[str, list[Path]]  # by split, in order


def split_files(root: Path, path: str) -> Files:
    """The files of each split in a folder.

    Args:
        root: the folder.
        path: what the user calls it.

    Raises:
        UserError: there is no train split, it is not clear which files are a split, or some of them are missing.
    """
    found = _found(root, path)
    if "train" not in found:
        raise UserError(f"task.path={path}: the folder has no train file.", _hint(root, path))
    return found


def unread(root: Path, files: Mapping[str, Sequence[Path]]) -> list[str]:
    """The names of data files where splits could be that belong to no split."""
    read = {file for of_split in files.values() for file in of_split}
    folders = [folder for place in (root, root / DATA) for folder in (place, *_folders(place).values())]
    there = {file for folder in folders for file in _data_in(folder)}
    return [str(file.relative_to(root)) for file in sorted(there - read)]


def total(file: Path) -> int:
    """How many files the numbered set has that a file says it belongs to; 0 where it says nothing."""
    found = OF.fullmatch(file.name)
    return int(found[3]) if found else 0


def gap(files: Sequence[Path]) -> tuple[Path, Path] | None:
    """The first two files in order between whose numbers there are others, of files that do not say how many there are."""
    numbers = [(int(found[1]), file) for file in files if (found := NUMBERED.fullmatch(file.name))]
    pairs = zip(numbers, numbers[1:], strict=False)
    return next(((file, then) for (number, file), (following, then) in pairs if following > number + 1), None)


def _found(root: Path, path: str) -> Files:
    return _splits(root, path) or (_splits(root / DATA, path) if (root / DATA).is_dir() else {})


def _splits(place: Path, path: str) -> Files:
    """The splits in one folder. Splits in folders of their own are read where no file is called train."""
    there = {file.name: file for file in place.iterdir()}
    found: Files = {}
    for name in SPLIT_NAMES:
        for suffix in SUFFIXES:
            _add(found, name, _named(there, name, suffix, path), path)
    if "train" not in found:
        for name, folder in _folders(place).items():
            _add(found, name, _within(folder, path), path)
    return found


def _add(found: Files, name: str, files: list[Path], path: str) -> None:
    """Add the files of a split, by the name that it has in the folder."""
    split = SPLIT_NAMES[name]
    if files and split in found:
        raise _both(found[split][0], files[0], path)
    found |= {split: files} if files else {}


def _named(there: Mapping[str, Path], name: str, suffix: str, path: str) -> list[Path]:
    """The file of a split of this name and kind, or its numbered files in order."""
    numbered = re.compile(rf"{name}[-_.]?(\d+)(?:-of-\d+(?:-[0-9a-f]{{16}})?)?{re.escape(suffix)}")
    shards = {file: int(match[1]) for other, file in there.items() if (match := numbered.fullmatch(other))}
    plain = there.get(f"{name}{suffix}")
    if plain and shards:
        raise _both(plain, min(shards), path)
    files = [plain] if plain else sorted(shards, key=lambda file: (shards[file], file.name))
    for file in files:
        if not file.is_file():
            raise UserError(f"task.path={path}: {file.name} is not a file.", f"Put the {name} rows into a file.")
    _check_complete(files, name, path)
    return files


def _within(folder: Path, path: str) -> list[Path]:
    """The files of a split's own folder: by name, 2 before 10."""
    name = folder.name
    if any(folder.glob("*.arrow")):
        code = f'datasets.load_from_disk("{path}")["{name}"].to_parquet("{name}.parquet")'
        raise UserError(f"task.path={path}: {name}/ holds Arrow files of save_to_disk, which are not read.", f"In Python: {code}")
    for inner in sorted(folder.iterdir()):
        if inner.is_dir() and _is_visible(inner) and _holds_data(inner):
            hint = f"Put all files of a split directly into its folder {name}."
            raise UserError(f"task.path={path}: {name}/ has a folder of files, {inner.name}/.", hint)
    files = sorted(_data_in(folder), key=lambda file: (_natural(file.name), file.name))
    kinds = {next(suffix for suffix in SUFFIXES if file.name.endswith(suffix)): file for file in files}
    if len(kinds) > 1:
        first, second, *_ = kinds.values()
        raise _both(first, second, path)
    sets: dict[str, list[Path]] = defaultdict(list)
    for file in files:
        if match := OF.fullmatch(file.name):
            sets[match[1]].append(file)
    for of_set in sets.values():
        _check_complete(of_set, name, path)
    return files


def _check_complete(files: Sequence[Path], name: str, path: str) -> None:
    """Raises UserError where a numbered file is missing or there twice, if the files say how many there are."""
    counts = {total(file) for file in files}
    if counts <= {0}:
        return
    if len(counts) > 1:
        raise _both(files[0], next(file for file in files if total(file) != total(files[0])), path)
    numbers: dict[int, Path] = {}
    for file in files:
        match = OF.fullmatch(file.name)
        if match and (first := numbers.setdefault(int(match[2]), file)) != file:
            raise _both(first, file, path)
    if len(files) != max(counts):
        raise UserError(
            f"task.path={path}: {len(files)} of the {max(counts)} files of {name} are there ({files[-1].name}).",
            "Add the missing files: without them a part of the data would be left out.",
        )


def _both(first: Path, second: Path, path: str) -> UserError:
    one, other = (file.relative_to(Path(path).expanduser()) for file in (first, second))
    return UserError(f"task.path={path}: found both {one} and {other}.", "Keep one file, or one numbered set, per split.")


def _folders(place: Path) -> dict[str, Path]:
    """The folders that are called like a split and have data in them, by name."""
    found = {name: place / name for name in SPLIT_NAMES}
    return {name: folder for name, folder in found.items() if folder.is_dir() and _holds_data(folder)}


def _holds_data(folder: Path) -> bool:
    return any(file.name.endswith((*SUFFIXES, ".arrow")) and _is_visible(file) for file in folder.rglob("*"))


def _data_in(folder: Path) -> list[Path]:
    there = folder.iterdir() if folder.is_dir() else ()
    return [file for file in there if file.name.endswith(SUFFIXES) and _is_visible(file) and file.is_file()]


def _is_visible(file: Path) -> bool:
    """Whether it is data, not something that a system or a program left beside it: ._train.jsonl, _metadata.json."""
    return not file.name.startswith((".", "_"))


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(piece), "") if piece.isdecimal() else (-1, piece) for piece in re.split(r"(\d+)", name)]


def _hint(root: Path, path: str) -> str:
    """What to do about a folder without a train split."""
    fitting = []
    for folder in sorted(root.iterdir()):
        with suppress(UserError):
            fitting += [folder.name] if folder.is_dir() and "train" in _found(folder, path) else []
    if fitting:
        several = f" (there is one in {listed(fitting)})" if len(fitting) > 1 else ""
        return f"Name the folder that has one: task.path={Path(path) / fitting[0]}{several}"
    if root.name in SPLIT_NAMES and _data_in(root):
        return f"Name the folder above it: task.path={Path(path).parent}"
    hint = "Name it train.jsonl (.json, .csv, .parquet, also .gz or .zst), or train-00000-of-00002.parquet and so on"
    return f"{hint}, or put the files into a folder train." if _data_in(root) else f"{hint}."
