"""The command line: ``aloll STAGE group=choice key=value …``, plain Hydra from the stage on.

One parent composes the configuration. With ``processes=N`` it writes the configuration down and starts N workers
(launching.py), which read it (worker.py); Hydra is entered once.
"""

from __future__ import annotations

import difflib
import logging
import os
import sys
from pathlib import Path
from typing import Any

from aloll_cli.command import Command
from aloll_cli.errors import UserError
from aloll_cli.stages import STAGES
from aloll_cli.stopping import Interrupted, interruptible

USAGE = """aloll fine-tunes language models by offline RL on reward-labelled text.

usage: aloll STAGE [group=choice] [key=value] …

{stages}

aloll STAGE --help     its groups and options
aloll STAGE --cfg job  the configuration it would run
aloll STAGE -m key=a,b one run for each value
aloll STAGE -q         warnings, errors and results only; -v says more
"""


def main() -> None:
    """The console script. Exit code 2 for the user's mistakes, 130 and 143 for Ctrl-C and SIGTERM."""
    sys.exit(run_command(sys.argv[1:]))


def run_command(arguments: list[str]) -> int:
    """Run one command line; returns the exit code."""
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        width = max(map(len, STAGES))
        sys.stdout.write(USAGE.format(stages="\n".join(f"  {name:{width}}  {what}" for name, what in STAGES.items())))
        return 0
    if arguments[0] == "--version":
        from aloll_cli import __version__

        sys.stdout.write(f"aloll {__version__}\n")
        return 0
    stage = arguments[0]
    command = Command(stage, tuple(arguments[1:]))
    try:
        if stage not in STAGES:
            close = difflib.get_close_matches(stage, STAGES, n=1)
            raise UserError(
                f'there is no stage "{stage}".', f"Did you mean aloll {close[0]}?" if close else "aloll --help lists the stages."
            )
        with interruptible():
            from aloll_cli.composition import enter_hydra

            return enter_hydra(command)
    except UserError as error:
        sys.stderr.write(f"aloll {stage}: {error}\n")
        return 2
    except BrokenPipeError:
        if not _reader_is_gone():
            raise
        return 0
    except OSError as error:
        sys.stderr.write(f"aloll {stage}: {of_the_system(error)}\n")
        return 2
    except Interrupted as stop:
        sys.stderr.write(f"aloll {stage}: stopped ({stop.reason}); what was finished is kept. Go on with: {command}\n")
        return stop.code


def of_the_system(error: OSError) -> UserError:
    """What to say where the operating system lets nobody read or write a file. Raises the error again where it is ours."""
    from aloll_cli.files import FORBIDDEN, FULL

    if error.errno not in FULL | FORBIDDEN:
        raise error
    what = f"{error.filename or 'a file'} cannot be read or written: {(error.strerror or str(error)).lower()}."
    return UserError(what, "Look at its permissions and at the room on its disk, then repeat the command.")


def _reader_is_gone() -> bool:
    """Whether stdout is a pipe whose reader has seen enough; what is still to be written goes nowhere then."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True
    return False


def execute(command: Command, settings: Any, more_follow: bool = False) -> Any:
    """Run a stage in this process, alone or as one of several workers; returns what the stage returns.

    Where more jobs of a sweep may follow, being asked to stop is not forgotten at the end of this one.
    """
    from importlib import import_module

    from aloll_cli.config import plain
    from aloll_cli.settings import Verbosity
    from aloll_cli.stopping import Stopper

    _quiet_libraries(settings.verbosity is Verbosity.verbose)
    if settings.threads is not None:
        _limit_threads(settings.threads)
    stage = import_module(f"aloll_cli.stages.{command.stage.replace('-', '_')}")
    with Stopper(settings.max_hours) as stopper:
        store = _open_store(command, settings, stopper, {"stage": command.stage} | plain(settings))
        store.log.detail(_versions())
        result = stage.run(settings, store)
        if more_follow:
            stopper.check()
        return result


def compare(command: Command, runs: list[Any]) -> None:
    """Show the runs of a sweep beside each other, and write a page about them."""
    from aloll_cli.artifacts.line import Line
    from aloll_cli.finding import comparison
    from aloll_cli.runs import load_run
    from aloll_cli.stages.report import show
    from aloll_cli.stopping import Stopper

    with Stopper(None) as stopper:
        stores = [_open_store(command, run, stopper, {}) for run in runs]
        folders = [store.path(Line(run).metrics) for store, run in zip(stores, runs, strict=True)]
        show(comparison(runs[0], [load_run(folder) for folder in folders]), stores[0])


def _open_store(command: Command, settings: Any, stopper: Any, config: dict[str, Any]) -> Any:
    from aloll_cli.artifacts.base import Store
    from aloll_cli.config import name_of
    from aloll_cli.world import current_world

    root = _usable(settings.output_dir) / name_of(settings.task)
    return Store(root, settings.runtime, current_world(), stopper, command, config)


def _versions() -> str:
    """Of what decides bits and speed."""
    import platform
    from importlib.metadata import version

    packages = ", ".join(f"{name} {version(name)}" for name in ("aloll", "torch", "transformers", "tokenizers", "datasets"))
    return f"Python {platform.python_version()}, {packages}; {os.cpu_count()} CPU cores"


def _usable(output_dir: str) -> Path:
    """A folder, or a place where one can be made. Raises UserError for anything else."""
    folder = Path(output_dir).expanduser()
    try:
        nearest = next(place for place in (folder, *folder.parents) if place.exists())
    except OSError as error:
        raise UserError(f"output_dir cannot be used: {(error.strerror or '').lower()}.", "output_dir=outputs") from None
    if not output_dir or not nearest.is_dir():
        what = f"output_dir={output_dir}: {nearest} is a file" if output_dir else "output_dir is empty"
        raise UserError(f"{what}.", "output_dir=FOLDER")
    return folder


def _limit_threads(count: int) -> None:
    """Read when torch is loaded and when a tokenizer first encodes, which is after the configuration was accepted."""
    os.environ["OMP_NUM_THREADS"] = os.environ["RAYON_NUM_THREADS"] = str(count)


def _quiet_libraries(verbose: bool) -> None:
    """Progress bars and advice of libraries would mix with ours."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    # the threads do not live on in a fork, which would wait for them
    os.register_at_fork(after_in_child=lambda: os.environ.update(TOKENIZERS_PARALLELISM="false"))
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "warning" if verbose else "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("DATASETS_VERBOSITY", "warning" if verbose else "critical")
    logging.getLogger("bitsandbytes").setLevel(logging.WARNING if verbose else logging.ERROR)
