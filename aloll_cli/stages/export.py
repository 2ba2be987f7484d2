"""Write a policy's weights where one wants them."""

from __future__ import annotations

import shutil
from pathlib import Path

from aloll_cli.artifacts.base import Store
from aloll_cli.artifacts.line import Line
from aloll_cli.errors import UserError
from aloll_cli.files import storage_trouble
from aloll_cli.settings import Settings


def run(settings: Settings, store: Store) -> None:
    """Make the policy and write its weights and tokenizer to ``to=FOLDER``, as ``from_pretrained`` opens them.

    Raises:
        UserError: no folder was named, there is something in it, or it cannot be written.
    """
    if settings.to is None:
        raise UserError("export needs a folder to write to.", f"{store.command} to=FOLDER")
    folder = Path(settings.to).expanduser().resolve()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"to={settings.to} is there already, and is not an empty folder.", "to=FOLDER that is new")
    policy = store.ensure(Line(settings).policy) / "policy"
    if not store.world.is_main:
        return
    beside = folder.with_name(f".{folder.name}.tmp")
    try:
        shutil.rmtree(beside, ignore_errors=True)
        shutil.copytree(policy, beside)
        beside.replace(folder)
    except OSError as error:
        shutil.rmtree(beside, ignore_errors=True)
        if (trouble := storage_trouble(error, folder.parent)) is None:
            raise
        raise UserError(f"to={settings.to} cannot be written: {trouble}.", "to=FOLDER elsewhere") from None
    store.log.say(f"wrote   {settings.to}: weights and tokenizer, for AutoModelForCausalLM.from_pretrained")
