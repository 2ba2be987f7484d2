"""Find the folders of evaluated runs: those that the user names, or all of a task that can be compared."""

from __future__ import annotations

import glob
from collections.abc import Callable, Sequence
from pathlib import Path

from aloll_cli.artifacts.metrics import Metrics
from aloll_cli.comparison.differences import Comparison, compared
from aloll_cli.comparison.grouping import shown
from aloll_cli.comparison.recipes import apart
from aloll_cli.comparison.runs import CONTENT, Run, load_run, options_of
from aloll_cli.errors import UserError
from aloll_cli.foreign import Unreadable, integer, json_of, record
from aloll_cli.schema import as_written, flatten, plain
from aloll_cli.settings.root import Settings
from aloll_cli.store.manifest import damage_of

Warn = Callable[[str], None]

OF_A_VERSION = record({"version": integer})
NAME = "Name metrics folders such as outputs/TASK/metrics/seq-s1-test-…, or all of them: outputs/TASK/metrics/*"


def named(option: str, names: Sequence[str], warn: Warn) -> list[Run]:
    """The evaluated runs that an option names, in the given order, without duplicates.

    Args:
        option: ``runs`` or ``against``, for error messages.
        names: folders, or patterns with * and ?, which a shell does not expand inside ``[…]``.
        warn: called for damaged folders that a pattern matches, which are left out.

    Raises:
        UserError: a name matches no folder; a folder named by itself, or all that match, are no complete evaluation written by
            this version.
    """
    found: dict[Path, Run] = {}
    for name in names:
        folders = _expanded(option, name)
        runs = _loaded(option, folders, warn) if len(folders) > 1 else [_load(option, folder) for folder in folders]
        found |= {run.folder: run for run in runs if run.folder not in found}
    return list(found.values())


def _loaded(option: str, folders: list[Path], warn: Warn) -> list[Run]:
    """The runs in some folders; damaged ones are left out, saying so. Raises UserError if all of them are."""
    runs: list[Run] = []
    for folder in folders:
        try:
            runs.append(_load(option, folder))
        except UserError as error:
            if not runs and folder == folders[-1]:
                raise
            warn(f"left out: {error.args[0]}")
    return runs


def _load(option: str, folder: Path) -> Run:
    _check(option, folder)
    return load_run(folder.resolve())


def _expanded(option: str, name: str) -> list[Path]:
    folder = Path(name).expanduser()
    if folder.exists() or not glob.has_magic(name):
        return [folder]
    # interrupted evaluations have no metrics yet
    found = [Path(match) for match in sorted(glob.glob(str(folder))) if Path(match).is_dir() and not match.endswith(".partial")]
    if not found:
        raise UserError(f"{option}: no folder matches {name}.", NAME)
    return found


def _check(option: str, folder: Path) -> None:
    if not (folder / "metrics.json").is_file():
        raise UserError(f"{option}: {folder} has no metrics.json.", NAME)
    if damage := damage_of(folder):
        raise UserError(
            f"{option}: {folder} is damaged: {damage.what}.", "Rebuild it with aloll evaluate …, or copy the whole folder again."
        )
    if not (folder / "recipe.json").is_file():
        raise UserError(f"{option}: {folder} was not written by aloll evaluate: it has no recipe.json.", NAME)
    if not _is_of_this_version(folder):
        raise UserError(f"{option}: {folder} was written by another version of aloll.", "Rebuild it with aloll evaluate …")


def _is_of_this_version(folder: Path) -> bool:
    try:
        recipe = json_of(folder / "recipe.json")
        OF_A_VERSION(recipe, "")
    except (OSError, Unreadable):
        return False
    return bool(recipe["version"] == Metrics.version)


def alike(settings: Settings, root: Path, warn: Warn) -> tuple[list[Run], dict[str, list[str]]]:
    """The evaluated runs of a task with the split and rewards of a configuration, and by reason the folder names of other runs.

    If the runs differ in their prompts, or in the code, files or data of their rewards, the largest group is kept.

    Args:
        settings: gives the split and the rewards.
        root: ``outputs/TASK``.
        warn: called for damaged folders, which are left out.

    Raises:
        UserError: there is no such run, or all are damaged.
    """
    whole = (file.parent for file in sorted((root / "metrics").glob("*/metrics.json")))
    folders = [folder for folder in whole if folder.suffix != ".partial"]
    current = [folder for folder in folders if (folder / "recipe.json").is_file() and _is_of_this_version(folder)]
    readable = _loaded("runs", current, warn)
    runs = [run for run in readable if _is_judged_as(settings, run)]
    if not runs:
        what = f"{root / 'metrics'} has no evaluation on the {settings.split.name} split with reward={settings.reward.label}"
        raise UserError(
            f"{what}.", "Make two with aloll run -m variant=nll,seq, name some with runs=[FOLDER,…], or set output_dir=FOLDER."
        )
    groups: list[list[Run]] = []
    for run in runs:
        own = next((group for group in groups if group[0].is_comparable(run)), None)
        groups.append([run]) if own is None else own.append(run)
    kept = max(groups, key=len)
    names = {run.name for run in kept}
    others = {
        "the rewards, split or prompts differ": [run.name for run in readable if run.name not in names],
        "another version of aloll has written them": [folder.name for folder in folders if folder not in current],
    }
    return kept, {reason: found for reason, found in others.items() if found}


def _is_judged_as(settings: Settings, run: Run) -> bool:
    """Whether a run was evaluated on the split and with the rewards of a configuration."""
    same = (options_of(run, group) == flatten(as_written(plain(getattr(settings, group))), group) for group in run.judges)
    return all(same) and run.metrics["split"] == settings.split.name


def require_alike(runs: Sequence[Run]) -> None:
    """Raise a UserError if two runs cannot be compared: it names the two and the first difference."""
    first = runs[0]
    for other in runs[1:]:
        mine, theirs = first.judged_by, other.judged_by
        key = next((key for key in mine | theirs if mine.get(key) != theirs.get(key)), None)
        if key == "prompts":
            what = f"{first.name} and {other.name} were evaluated on different prompts."
            raise UserError(f"runs: {what}", "Name runs with the same data and the same task.* options.")
        if key is not None and key.startswith(CONTENT):
            group = key.removeprefix(f"{CONTENT} ")
            part = apart(first.scorers.get(group, {}), other.scorers.get(group, {}))
            what = f"{first.name} and {other.name} have the same options of {group}, but other code, files or data for it"
            raise UserError(
                f"runs: {what} ({part}).", "Evaluate one of them again, with aloll evaluate …, or compare them by judgements."
            )
        if key is not None:
            what = f"{first.name} has {key}={shown(mine.get(key))}, {other.name} has {key}={shown(theirs.get(key))}."
            raise UserError(f"runs: {what}", "Name runs with the same task, split and reward, or evaluate one of them again.")


def comparison(settings: Settings, runs: Sequence[Run], warn: Warn) -> Comparison:
    """Compare runs as ``against=`` and ``best_of=`` say; a run that ``against=FOLDER`` names is added to them.

    Raises:
        UserError: no run matches ``against``, or ``best_of`` names an option that cannot be selected.
    """
    against = settings.against
    if against is None or not ("/" in against or (Path(against).expanduser() / "metrics.json").is_file()):
        return compared(runs, against, settings.options_chosen)
    baseline, *more = named("against", [against], warn)
    if more:
        raise UserError(
            f"against={against} matches {len(more) + 1} folders.", "Name one folder, or a variant, for example against=nll."
        )
    return compared([*runs, baseline], baseline, settings.options_chosen)


def pages(found: Comparison, root: Path) -> Path:
    """The folder of pages about some runs: ``report`` under their own task's folder, a sibling of ``root`` (outputs/TASK)."""
    return root.with_name(found.runs[0].metrics["task"]) / "report"
