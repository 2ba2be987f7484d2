"""Write a policy to a folder or to the hub, with a model card."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from aloll_cli.artifacts.pipeline import Pipeline
from aloll_cli.artifacts.policy import TrainedPolicy
from aloll_cli.artifacts.usage import Usage, reads_chats, usage_of
from aloll_cli.comparison.shape import load_metrics
from aloll_cli.errors import UserError
from aloll_cli.files import storage_trouble, sync, sync_tree, write_text
from aloll_cli.models.adapters import base_of, set_base
from aloll_cli.models.ends import saved_end_tokens
from aloll_cli.models.saving import load_tokenizer
from aloll_cli.reports.model_card import Exported, model_card
from aloll_cli.settings.root import Settings
from aloll_cli.store.hub import revision_options
from aloll_cli.store.publishing import check_push, publish
from aloll_cli.store.store import Job, Store, upstream


def run(settings: Settings, store: Store) -> None:
    """Build the policy and write it for ``from_pretrained``: merged, or as an adapter (``merge=false``).

    ``to=FOLDER`` writes it to a folder, ``push=OWNER/NAME`` uploads it to the hub.

    Raises:
        UserError: neither was named, the folder is not empty or cannot be written, or the hub refuses the upload.
    """
    to, push = settings.to or None, settings.push or None
    if to is None and push is None:
        raise UserError("export needs a folder to write to.", f"{store.command.but('export', 'to')} to=FOLDER")
    folder = None if to is None else _resolved(to)
    if folder is not None and to is not None:
        _check_place(folder, to, store)
    if settings.policy is not None:
        raise UserError(
            f"policy={settings.policy}: export writes the policy that this configuration trains, not a saved one.",
            "Leave out policy=.",
        )
    if folder is not None and to is not None:
        store.world.on_main(lambda: _try(folder, to))
    if push is not None:
        store.world.on_main(lambda: check_push(push))
    line = Pipeline(settings)
    policy = line.policy
    if settings.merge and not store.is_complete(policy):
        settings.model.check_merge()  # before training
    saved = store.ensure(policy) / "policy"
    merges = settings.merge and base_of(saved) is not None
    for needed in [] if base_of(saved) is None else [*upstream(policy.start), policy.start]:  # an adapter is of use with its base
        store.ensure(needed, wanted=False)
    if not store.world.is_main:
        return
    place = store.root / f".push-{policy.fingerprint}" if folder is None else folder
    if folder is None:  # of an upload that was killed
        shutil.rmtree(place, ignore_errors=True)
    try:
        with _fresh(place) as fresh:
            _write(line, saved, fresh, merges, store)
    except OSError as error:
        if (trouble := storage_trouble(error, place.parent)) is None:
            raise
        raise _unwritable(to or str(place), trouble) from None
    what = "weights" if base_of(place) is None else "adapter"
    if to is not None:
        store.log.say(f"wrote     {to}: {what}, tokenizer and model card; README.md says how to load it")
    if push is not None:
        _push(place, push, what, folder is None, policy, store)
    if not store.is_complete(line.metrics):
        store.log.say(f"          The model card has no evaluation. To add it, first run: {store.command.but('evaluate')}")


def _write(line: Pipeline, saved: Path, fresh: Path, merges: bool, store: Store) -> None:
    """The files of an export: the policy as it was saved or merged, and its card."""
    settings, policy = line.settings, line.policy
    figures = load_metrics(store.path(line.metrics)) if store.is_complete(line.metrics) else None
    job = Job(fresh, store, store.runtime, store.world, store.log, store.stopper)
    shutil.copytree(saved, fresh, ignore=shutil.ignore_patterns("adapter_*") if merges else None, dirs_exist_ok=True)
    if merges:
        policy.merged(job).save_pretrained(fresh)
    elif base_of(fresh) is not None:
        base = Path(policy.address(job))
        set_base(fresh, str(base.resolve()) if base.is_dir() else str(base))
    place, base_name = settings.push or ".", base_of(fresh)
    if settings.push is not None and base_name is not None and Path(base_name).is_dir():
        what = f"push={settings.push}: this adapter belongs to a model in a folder of this machine, which nobody else has."
        raise UserError(what, "merge=true")
    usage = _usage(line, fresh, base_name, store)
    card = model_card(policy, line.about, figures, Exported(place, base_name, merges, usage))
    write_text(fresh / "README.md", str(card))
    mode = (fresh / "README.md").stat().st_mode
    for file in (path for path in fresh.rglob("*") if path.is_file()):
        file.chmod(mode)  # safetensors writes files that only the owner can read
    sync_tree(fresh)


def _usage(line: Pipeline, folder: Path, base: str | None, store: Store) -> Usage | None:
    """How the exported policy is asked."""
    settings = line.settings
    tokenizer = load_tokenizer(folder, settings.model.trusts_code)
    options: dict[str, Any] = {"trust_remote_code": settings.model.trusts_code}
    if base is None:
        ends = saved_end_tokens(folder, tokenizer, **options)
    else:
        revision = getattr(settings.model, "revision", None)
        ends = saved_end_tokens(base, tokenizer, **options, **revision_options(base, revision))
    return usage_of(settings.task, settings.generation, tokenizer, ends, reads_chats(line.data, store))


def _push(folder: Path, name: str, what: str, remove: bool, policy: TrainedPolicy, store: Store) -> None:
    """Upload a folder, say where it is, and remove it if it was written for this alone."""
    store.log.say(f"uploading {what}, tokenizer and model card to {name}")
    try:
        url = publish(folder, name, f"{policy.name} ({policy.fingerprint})", store.stopper)
    finally:
        if remove:
            shutil.rmtree(folder, ignore_errors=True)
    store.log.say(f"pushed    {url} (private if it was not there before)")


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
