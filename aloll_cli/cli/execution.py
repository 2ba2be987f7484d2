"""Running one stage in this process."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

from aloll_cli.command import Command
from aloll_cli.errors import UserError
from aloll_cli.user_code import plugin_errors


def execute(command: Command, settings: Any, more_follow: bool = False) -> Any:
    """Run a stage in this process, alone or as one of several workers; returns what the stage returns.

    Where more jobs of a sweep may follow, being asked to stop is not forgotten at the end of this one.
    """
    from importlib import import_module

    from aloll_cli.runtime.determinism import prepare_environment
    from aloll_cli.runtime.device import choose
    from aloll_cli.runtime.memory import keep_freed_memory, return_freed_memory
    from aloll_cli.runtime.options import Strategy, Verbosity
    from aloll_cli.schema import as_written, plain
    from aloll_cli.stopping import Stopper

    _quiet_libraries(settings.verbosity is Verbosity.verbose)
    if settings.threads is not None:
        _limit_threads(settings.threads)
    choose(settings.device)
    shares = settings.strategy is Strategy.fsdp and settings.processes > 1
    return_freed_memory() if shares else keep_freed_memory()
    prepare_environment(settings.deterministic)
    stage = import_module(f"aloll_cli.stages.{command.stage.replace('-', '_')}")
    with Stopper(settings.max_hours) as stopper:
        store = _open_store(command, settings, stopper, {"stage": command.stage} | as_written(plain(settings)))
        store.log.detail(_versions())
        for name in _edited(settings):
            store.log.say(f"{name} differs from the released version: its code is part of the recipe")
        with plugin_errors():
            result = stage.run(settings, store)
        if more_follow:
            stopper.check()
        return result


def _edited(value: Any) -> list[str]:
    """Files of the shipped entries in a configuration, its nested ones too, whose code is not the released code."""
    from dataclasses import fields, is_dataclass

    from aloll_cli.source_code import is_edited, key_of

    if isinstance(value, dict):
        return [name for item in value.values() for name in _edited(item)]
    if not is_dataclass(value) or isinstance(value, type):
        return []
    own = [f"{key_of(type(value)).replace('.', '/')}.py"] if is_edited(type(value)) else []
    return [*own, *(name for f in fields(value) for name in _edited(getattr(value, f.name)))]


def compare(command: Command, runs: list[Any]) -> None:
    """Compare the runs of a sweep in a table, and write a page about them."""
    from aloll_cli.artifacts.pipeline import Pipeline
    from aloll_cli.comparison.folders import comparison
    from aloll_cli.comparison.runs import load_run
    from aloll_cli.stages.report import show
    from aloll_cli.stopping import Stopper

    with Stopper(None) as stopper:
        stores = [_open_store(command, run, stopper, {}) for run in runs]
        folders = [store.path(Pipeline(run).metrics) for store, run in zip(stores, runs, strict=True)]
        warn = stores[0].log.warn
        show(comparison(runs[0], [load_run(folder) for folder in folders], warn), stores[0])


def _open_store(command: Command, settings: Any, stopper: Any, config: dict[str, Any]) -> Any:
    from aloll_cli.runtime.world import current_world
    from aloll_cli.schema import name_of
    from aloll_cli.store.store import Store

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
