"""Find the folders of evaluated runs: those that the user names, or all of a task that can be compared."""

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

NAME = "Name metrics folders such as outputs/TASK/metrics/seq-s1-test-…, or all of them: outputs/TASK/metrics/*"


def named(option: str, names: Sequence[str]) -> list[Path]:
    """The metrics folders that an option names, in the given order, without duplicates.

    Args:
        option: ``runs`` or ``against``, for error messages.
        names: folders, or patterns with * and ?, which a shell does not expand inside ``[…]``.

    Raises:
        UserError: a name matches no folder, or a folder is no complete evaluation written by this version.
    """
    folders = [folder for name in names for folder in _expanded(option, name)]
    for folder in folders:
        _check(option, folder)
    return list(dict.fromkeys(folder.resolve() for folder in folders))


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
    return bool(read_json(folder / "recipe.json").get("version") == Metrics.version)


def alike(settings: Settings, root: Path) -> tuple[list[Run], list[str]]:
    """The evaluated runs of a task with the split and rewards of a configuration, and the folder names of the other runs.

    If the runs differ in their prompts, the largest group with the same prompts is kept.

    Args:
        settings: gives the split and the rewards.
        root: ``outputs/TASK``.

    Raises:
        UserError: there is no such run, or one is damaged.
    """
    whole = (file.parent for file in sorted((root / "metrics").glob("*/metrics.json")))
    folders = [folder for folder in whole if folder.suffix != ".partial"]
    current = [folder for folder in folders if (folder / "recipe.json").is_file() and _is_of_this_version(folder)]
    for folder in current:
        _check("runs", folder)
    runs = [run for run in map(load_run, current) if _is_judged_as(settings, run)]
    if not runs:
        what = f"{root / 'metrics'} has no evaluation on the {settings.split.name} split with reward={settings.reward.label}"
        raise UserError(
            f"{what}.", "Make two with aloll run -m variant=nll,seq, name some with runs=[FOLDER,…], or set output_dir=FOLDER."
        )
    ((prompts, _),) = Counter(frozenset(run.prompts) for run in runs).most_common(1)
    kept = [run for run in runs if prompts == frozenset(run.prompts)]
    names = {run.name for run in kept}
    return kept, [folder.name for folder in folders if folder.name not in names]


def _is_judged_as(settings: Settings, run: Run) -> bool:
    """Whether a run was evaluated on the split and with the rewards of a configuration."""
    same = (options_of(run, group) == flatten(plain(getattr(settings, group)), group) for group in run.judges)
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
        if key is not None:
            what = f"{first.name} has {key}={shown(mine.get(key))}, {other.name} has {key}={shown(theirs.get(key))}."
            raise UserError(f"runs: {what}", "Name runs with the same task, split and reward, or evaluate one of them again.")


def comparison(settings: Settings, runs: Sequence[Run]) -> Comparison:
    """Compare runs as ``against=`` and ``best_of=`` say; a run that ``against=FOLDER`` names is added to them.

    Raises:
        UserError: no run matches ``against``, or ``best_of`` names an option that cannot be selected.
    """
    against = settings.against
    if against is None or not ("/" in against or (Path(against).expanduser() / "metrics.json").is_file()):
        return compared(runs, against, settings.options_chosen)
    folder, *more = named("against", [against])
    if more:
        raise UserError(
            f"against={against} matches {len(more) + 1} folders.", "Name one folder, or a variant, for example against=nll."
        )
    baseline = load_run(folder)
    return compared([*runs, baseline], baseline, settings.options_chosen)


def pages(found: Comparison, root: Path) -> Path:
    """The folder of pages about some runs: ``report`` under their own task's folder, a sibling of ``root`` (outputs/TASK)."""
    return root.with_name(found.runs[0].metrics["task"]) / "report"
