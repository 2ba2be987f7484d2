"""Write a policy to a folder, with a model card."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp

from aloll_cli.artifacts.pipeline import Pipeline
from aloll_cli.comparison.shape import load_metrics
from aloll_cli.errors import UserError
from aloll_cli.files import storage_trouble, sync, sync_tree, write_text
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
    folder = _resolved(to)
    _check_place(folder, to, store)
    if settings.policy is not None:
        raise UserError(
            f"policy={settings.policy}: export writes the policy that this configuration trains, not a saved one.",
            "Leave out policy=.",
        )
    store.world.on_main(lambda: _try(folder, to))
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
    figures = load_metrics(store.path(line.metrics)) if evaluated else None
    try:
        with _fresh(folder) as fresh:
            job = Job(fresh, store, store.runtime, store.world, store.log, store.stopper)
            shutil.copytree(saved, fresh, ignore=shutil.ignore_patterns("adapter_*") if merges else None, dirs_exist_ok=True)
            if merges:
                policy.merged(job).save_pretrained(fresh)
            elif base_of(fresh) is not None:
                base = Path(policy.address(job))
                set_base(fresh, str(base.resolve()) if base.is_dir() else str(base))
            write_text(fresh / "README.md", model_card(policy, line.about, figures, base_of(fresh)))
            mode = (fresh / "README.md").stat().st_mode
            for file in (path for path in fresh.rglob("*") if path.is_file()):
                file.chmod(mode)  # safetensors writes files that only the owner can read
            sync_tree(fresh)
    except OSError as error:
        if (trouble := storage_trouble(error, folder.parent)) is None:
            raise
        raise _unwritable(to, trouble) from None
    what = "weights" if base_of(folder) is None else "adapter"
    store.log.say(f"wrote     {to}: {what}, tokenizer and model card; README.md says how to load it")
    if not evaluated:
        store.log.say(f"          The model card has no evaluation. To add it, first run: {store.command.but('evaluate')}")


def _resolved(to: str) -> Path:
    try:
        folder = Path(to).expanduser().resolve()
        folder.exists()
    except (OSError, RuntimeError) as error:  # no such user; links in a circle; a name that is too long
        why = getattr(error, "strerror", None) or str(error)
        raise _unwritable(to, why.lower().rstrip(".")) from None
    return folder


def _check_place(folder: Path, to: str, store: Store) -> None:
    """Raises UserError for a place that is taken, or that is not for exports."""
    outputs = store.root.parent.resolve()
    if folder == Path.cwd().resolve():
        raise UserError(f"to={to} is the current folder.", "Name a new folder: to=better-model")
    if folder.is_relative_to(outputs):
        raise UserError(f"to={to} is inside of {store.root.parent}, where the artifacts are.", "Name another place: to=FOLDER")
    if folder.exists() and (not folder.is_dir() or _content(folder)):
        raise UserError(f"to={to} exists and is not an empty folder.", f"Name a new folder: to={to}-2")


def _content(folder: Path) -> list[Path]:
    """What is in a folder, but for what a new file system has."""
    return [path for path in folder.iterdir() if path.name != "lost+found"]


@contextmanager
def _fresh(folder: Path) -> Iterator[Path]:
    """A new temporary folder, whose files are in ``folder`` at the end; removed if something fails.

    Beside ``folder``, which then appears by one rename; or inside of it, where it exists and may be a mounted disk.
    """
    exists = folder.exists()
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(mkdtemp(prefix=f".{folder.name}.", dir=folder if exists else folder.parent))
    try:
        yield temporary
        if exists:
            for path in sorted(temporary.iterdir(), key=lambda path: path.name == "config.json"):  # without it, it is no model
                path.rename(folder / path.name)
            temporary.rmdir()
        else:
            mode = (folder.parent.stat().st_mode & 0o777) | 0o700
            temporary.chmod(mode)
            temporary.rename(folder)
        sync(folder)
        sync(folder.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _try(folder: Path, to: str) -> None:
    """Raises UserError where nothing can be written, which training before would not change."""
    place = folder
    try:
        while not place.exists():
            place = place.parent
        Path(mkdtemp(prefix=".aloll.", dir=place)).rmdir()
    except OSError as error:
        raise _unwritable(to, (error.strerror or str(error)).lower()) from None


def _unwritable(to: str, why: str) -> UserError:
    return UserError(f"to={to} cannot be written: {why}.", "Name a folder in another place: to=FOLDER")
