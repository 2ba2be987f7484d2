"""Write a policy to a folder, with a model card."""

from __future__ import annotations

import shutil
from pathlib import Path

from aloll_cli.artifacts.pipeline import Pipeline
from aloll_cli.errors import UserError
from aloll_cli.files import read_json, storage_trouble, write_text
from aloll_cli.models.adapters import base_of, set_base
from aloll_cli.reports.model_card import model_card
from aloll_cli.settings.root import Settings
from aloll_cli.store.store import Job, Store, upstream


def run(settings: Settings, store: Store) -> None:
    """Build the policy and write it to ``to=FOLDER`` for ``from_pretrained``: merged, or as an adapter (``merge=false``).

    Raises:
        UserError: no folder was named, it is not empty, or it cannot be written.
    """
    to = settings.to
    if not to:
        raise UserError("export needs a folder to write to.", f"{store.command.but('export', 'to')} to=FOLDER")
    folder = Path(to).expanduser().resolve()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"to={to} exists and is not an empty folder.", f"Name a new folder: to={to}-2")
    if settings.policy is not None:
        raise UserError(
            f"policy={settings.policy}: export writes the policy that this configuration trains, not a saved one.",
            "Leave out policy=.",
        )
    beside = folder.with_name(f".{folder.name}.tmp")
    store.world.on_main(lambda: _try(beside, to))
    line = Pipeline(settings)
    policy = line.policy
    if settings.merge and not store.is_complete(policy):
        settings.model.check_merge()  # before training
    saved = store.ensure(policy) / "policy"
    merges = settings.merge and base_of(saved) is not None
    for needed in [*upstream(policy.start), policy.start] if merges else []:
        store.ensure(needed, wanted=False)
    if not store.world.is_main:
        return
    evaluated = store.is_complete(line.metrics)
    figures = read_json(store.path(line.metrics) / "metrics.json") if evaluated else None
    job = Job(beside, store, store.runtime, store.world, store.log, store.stopper)
    shutil.rmtree(beside, ignore_errors=True)
    try:
        shutil.copytree(saved, beside, ignore=shutil.ignore_patterns("adapter_*") if merges else None)
        if merges:
            policy.merged(job).save_pretrained(beside)
        elif base_of(beside) is not None:
            base = Path(policy.address(job))
            set_base(beside, str(base.resolve()) if base.is_dir() else str(base))
        write_text(beside / "README.md", model_card(policy, line.about, figures, base_of(beside)))
        for file in beside.iterdir():
            file.chmod((beside / "README.md").stat().st_mode)  # safetensors writes files that only the owner can read
        beside.replace(folder)
    except BaseException as error:
        shutil.rmtree(beside, ignore_errors=True)
        if not isinstance(error, OSError) or (trouble := storage_trouble(error, folder.parent)) is None:
            raise
        raise _unwritable(to, trouble) from None
    what = "weights" if base_of(folder) is None else "adapter"
    store.log.say(f"wrote     {to}: {what}, tokenizer and model card; README.md says how to load it")
    if not evaluated:
        store.log.say(f"          The model card has no evaluation. To add it, first run: {store.command.but('evaluate')}")


def _try(folder: Path, to: str) -> None:
    """Raises UserError where no such folder can be made, which training before would not change."""
    try:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        folder.rmdir()
    except OSError as error:
        raise _unwritable(to, (error.strerror or str(error)).lower()) from None


def _unwritable(to: str, why: str) -> UserError:
    return UserError(f"to={to} cannot be written: {why}.", "Name a folder in another place: to=FOLDER")
