"""The command line: ``aloll STAGE group=choice key=value …``, plain Hydra from the stage on.

One parent composes the configuration. With ``processes=N`` it writes the configuration down and starts N workers
(launching.py), which read it (worker.py); Hydra is entered once.
"""

from __future__ import annotations

import difflib
import os
import sys
from typing import Any

from aloll_cli.errors import UserError
from aloll_cli.stages import STAGES

USAGE = """aloll fine-tunes language models by offline RL on reward-labelled text.

usage: aloll STAGE [group=choice] [key=value] …

{stages}

aloll STAGE --help     its groups and options
aloll STAGE --cfg job  the configuration it would run
aloll STAGE -m key=a,b one run for each value
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
    try:
        if stage not in STAGES:
            close = difflib.get_close_matches(stage, STAGES, n=1)
            raise UserError(
                f'there is no stage "{stage}".', f"Did you mean aloll {close[0]}?" if close else "aloll --help lists the stages."
            )
        from aloll_cli.composition import enter_hydra

        return enter_hydra(stage, arguments[1:])
    except UserError as error:
        sys.stderr.write(f"aloll {stage}: {error}\n")
        return 2
    except BrokenPipeError:  # the reader of a pipe has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        sys.stderr.write(f"\naloll {stage}: interrupted. What was finished is kept; the same command goes on.\n")
        return 130


def execute(stage: str, settings: Any) -> Any:
    """Run a stage in this process, alone or as one of several workers; returns what the stage returns."""
    from importlib import import_module

    from aloll_cli.config import plain

    _quiet_libraries()
    if settings.threads is not None:
        _limit_threads(settings.threads)
    store = _open_store(settings, {"stage": stage} | plain(settings))
    return import_module(f"aloll_cli.stages.{stage.replace('-', '_')}").run(settings, store)


def compare(stage: str, runs: list[Any]) -> None:
    """Show the runs of a sweep beside each other, and write a page about them."""
    from aloll_cli.artifacts.line import Line
    from aloll_cli.stages.report import report

    store = _open_store(runs[0], {"stage": stage})
    report([_open_store(run, {}).path(Line(run).metrics) for run in runs], store)


def _open_store(settings: Any, config: dict[str, Any]) -> Any:
    from pathlib import Path

    from aloll_cli.artifacts.base import Store
    from aloll_cli.config import name_of
    from aloll_cli.settings import Upstream
    from aloll_cli.world import current_world

    root = Path(settings.output_dir).expanduser() / name_of(settings.task)
    return Store(root, settings.runtime, current_world(), config, settings.upstream is Upstream.require)


def _limit_threads(count: int) -> None:
    """OpenMP reads this when torch is loaded, which is after the configuration was accepted."""
    os.environ["OMP_NUM_THREADS"] = str(count)


def _quiet_libraries() -> None:
    """Progress bars and advice of libraries would mix with ours."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
