"""Evaluated runs in folders: those that somebody names, and those of a task that can be held against each other."""

from __future__ import annotations

import glob
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from aloll_cli.artifacts.metrics import Metrics
from aloll_cli.comparison.differences import Comparison, compared
from aloll_cli.comparison.grouping import shown
from aloll_cli.comparison.runs import Run, load_run, options_of
from aloll_cli.errors import UserError
from aloll_cli.files import read_json
from aloll_cli.schema import flatten, plain
from aloll_cli.settings.root import Settings
from aloll_cli.store.manifest import damage_of

NAME = "Name folders such as outputs/TASK/metrics/seq-s1-test-…, or all of them: outputs/TASK/metrics/*"


def named(option: str, names: Sequence[str]) -> list[Path]:
    """The folders of evaluated runs that an option names, in its order and each once.

    Args:
        option: for messages: runs or against.
        names: folders, or patterns with * and ?, which the shell leaves alone inside of a list.

    Raises:
        UserError: a name that leads to no whole evaluation of this version.
    """
    folders = [folder for name in names for folder in _expanded(option, name)]
    for folder in folders:
        _check(option, folder)
    return list(dict.fromkeys(folder.resolve() for folder in folders))


def _expanded(option: str, name: str) -> list[Path]:
    folder = Path(name).expanduser()
    if folder.exists() or not glob.has_magic(name):
        return [folder]
    # what was interrupted is no evaluation yet
    found = [Path(match) for match in sorted(glob.glob(str(folder))) if Path(match).is_dir() and not match.endswith(".partial")]
    if not found:
        raise UserError(f"{option}: there is no folder like {name}.", NAME)
    return found


def _check(option: str, folder: Path) -> None:
    if not (folder / "metrics.json").is_file():
        raise UserError(f"{option}: {folder} holds no metrics.json.", NAME)
    if damage := damage_of(folder):
        raise UserError(
            f"{option}: {folder} is damaged: {damage.what}.", "Make it again with aloll evaluate …, or copy the whole folder."
        )
    if not (folder / "recipe.json").is_file():
        raise UserError(f"{option}: {folder} was not made by aloll evaluate: it holds no recipe.json.", NAME)
    if not _is_of_this_version(folder):
        raise UserError(f"{option}: {folder} is another version's of aloll.", "Make it again with aloll evaluate …")


def _is_of_this_version(folder: Path) -> bool:
    return bool(read_json(folder / "recipe.json").get("version") == Metrics.version)


def alike(settings: Settings, root: Path) -> tuple[list[Run], list[str]]:
    """Every evaluated run of a task that was judged as a configuration judges, and the names of the others.

    Of runs that answered different prompts those remain whose prompts most of them share.

    Args:
        settings: say the split and the rewards.
        root: ``outputs/TASK``.

    Raises:
        UserError: there is none, or one is damaged.
    """
    whole = (file.parent for file in sorted((root / "metrics").glob("*/metrics.json")))
    folders = [folder for folder in whole if folder.suffix != ".partial"]
    current = [folder for folder in folders if (folder / "recipe.json").is_file() and _is_of_this_version(folder)]
    for folder in current:
        _check("runs", folder)
    runs = [run for run in map(load_run, current) if _is_judged_as(settings, run)]
    if not runs:
        what = f"{root / 'metrics'} holds no evaluation on the {settings.split.name} split under reward={settings.reward.label}"
        raise UserError(f"{what}.", "aloll run -m variant=nll,seq makes two; or runs=[FOLDER,…], or another output_dir=")
    ((prompts, _),) = Counter(frozenset(run.prompts) for run in runs).most_common(1)
    kept = [run for run in runs if prompts == frozenset(run.prompts)]
    names = {run.name for run in kept}
    return kept, [folder.name for folder in folders if folder.name not in names]


def _is_judged_as(settings: Settings, run: Run) -> bool:
    """Whether a run has a configuration's split and rewards."""
    same = (options_of(run, group) == flatten(plain(getattr(settings, group)), group) for group in run.judges)
    return all(same) and run.metrics["split"] == settings.split.name


def require_alike(runs: Sequence[Run]) -> None:
    """Raises UserError where runs were not all judged alike: which two, and by what they differ."""
    first = runs[0]
    for other in runs[1:]:
        mine, theirs = first.judged_by, other.judged_by
        key = next((key for key in mine | theirs if mine.get(key) != theirs.get(key)), None)
        if key == "prompts":
            what = f"{first.name} and {other.name} answered different prompts."
            raise UserError(f"runs: {what}", "Name runs whose prompts were read and cut alike: the same data and task.* options.")
        if key is not None:
            what = f"{first.name} has {key}={shown(mine.get(key))}, {other.name} has {key}={shown(theirs.get(key))}."
            raise UserError(f"runs: {what}", "Name runs of one task, split and reward, or evaluate one of them again.")


def comparison(settings: Settings, runs: Sequence[Run]) -> Comparison:
    """Runs held against each other as ``against=`` and ``best_of=`` say; a folder named there joins them.

    Raises:
        UserError: nothing has that name, or nothing is to be chosen.
    """
    against = settings.against
    if against is None or not ("/" in against or (Path(against).expanduser() / "metrics.json").is_file()):
        return compared(runs, against, settings.options_chosen)
    folder, *more = named("against", [against])
    if more:
        raise UserError(f"against={against} names {len(more) + 1} folders.", "against=FOLDER, or a variant's name: against=nll")
    baseline = load_run(folder)
    return compared([*runs, baseline], baseline, settings.options_chosen)


def pages(found: Comparison, root: Path) -> Path:
    """The folder of pages about some runs: that of their own task beside the configuration's, which is ``root``."""
    return root.with_name(found.runs[0].metrics["task"]) / "report"
