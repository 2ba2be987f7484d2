"""Use from Python, in a script or a notebook: compose settings, run stages, load evaluated runs.

    from aloll_cli import compose, load_run, run

    for seed in (1, 2, 3):
        settings = compose("variant=seq", f"seed={seed}")
        run("evaluate", settings)
        print(seed, load_run(settings).metrics["gain"]["mean"])

Errors of the user, which the command line prints, are raised as :class:`UserError`.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from aloll_cli.comparison.runs import Run
from aloll_cli.errors import UserError
from aloll_cli.settings.root import Settings

__all__ = ["Run", "Settings", "UserError", "compose", "load_run", "run"]


def compose(*overrides: str, plugins: str | Path | Sequence[str | Path] = (), config_dir: str | Path | None = None) -> Settings:
    """The settings of a command line: ``compose("task=hha", "variant=seq")``.

    Args:
        overrides: as on the command line, ``GROUP=CHOICE`` or ``OPTION=VALUE``.
        plugins: a folder with variants, tasks, rewards and values of your own, or several.
        config_dir: a folder with YAML files of your own.

    Raises:
        UserError: an option is unknown or out of range. Options that contradict each other are refused by the stage that uses
            them, in :func:`run`.
    """
    from aloll_cli.cli.composition import settings_of

    folders = [plugins] if isinstance(plugins, str | Path) else plugins
    return settings_of(list(overrides), [str(folder) for folder in folders], None if config_dir is None else str(config_dir))


def run(stage: str, settings: Settings) -> Any:
    """Run a stage as ``aloll STAGE`` does: build what it needs and what it is for, reuse what exists.

    It prints what the command prints; with ``verbosity=quiet`` warnings alone, and no result.

    Args:
        stage: a name of ``aloll --help``, such as "train", "evaluate", "run".
        settings: of :func:`compose`.

    Returns:
        What the stage returns: the best validation score for "train", the mean gain (or None) for "evaluate" and "run", the rows
        for "generate", what ``format=json`` prints for "inspect", "compare" and "runs", else None. With ``processes`` above 1,
        None.

    Raises:
        UserError: there is no such stage, options contradict each other, or whatever the command line would say; with
            ``processes`` above 1, which process failed has been said on stderr.
        Interrupted: at the end of ``max_hours``; it is no Exception, and the same call continues.
    """
    from aloll_cli.cli.jobs import run_stage
    from aloll_cli.cli.launching import WorkersFailed
    from aloll_cli.runtime.options import Verbosity
    from aloll_cli.runtime.terminal import without_results
    from aloll_cli.settings.checks import check
    from aloll_cli.stages import STAGES, command_of

    if stage not in STAGES:
        raise UserError(f'there is no stage "{stage}".', f"Stages: {', '.join(STAGES)}.")
    check(settings, STAGES[stage].makes)
    try:
        with without_results() if settings.verbosity is Verbosity.quiet else nullcontext():
            return run_stage(command_of(stage), settings)
    except WorkersFailed as failure:
        what = f"a worker process ended with exit code {failure.code}; it has said why on stderr."
        raise UserError(what, 'processes=1 shows errors here: compose("processes=1", …)') from None


def load_run(source: Settings | str | Path) -> Run:
    """An evaluated run: its metrics, responses, training curves and options.

    Args:
        source: the settings of an evaluated run, or a folder of metrics (``outputs/TASK/metrics/…``).

    Raises:
        UserError: it has not been evaluated, or the folder is damaged.
    """
    from aloll_cli.artifacts.pipeline import Pipeline
    from aloll_cli.comparison import folders, runs
    from aloll_cli.runtime.terminal import Log
    from aloll_cli.schema import name_of
    from aloll_cli.store.places import path_of

    if not isinstance(source, Settings):
        (found,) = folders.named("load_run", [str(source)], Log().warn)
        return found
    folder = path_of(Pipeline(source).metrics, Path(source.output_dir).expanduser() / name_of(source.task))
    if not folder.exists():
        raise UserError(f"{folder} is not there: the run has not been evaluated.", 'run("evaluate", settings)')
    return runs.load_run(folder)
