"""Upload a folder to the hub: only where somebody asks for it by name, and never with a question at the terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from aloll_cli.errors import UserError
from aloll_cli.stopping import Stopper, interruptibly
from aloll_cli.store.hub import is_network_error, reason

T = TypeVar("T")
README = "README.md"


def check_push(name: str) -> None:
    """Raises UserError where nothing could be uploaded under a name, which a long training before would not change."""
    from huggingface_hub import HfApi, constants, get_token
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise UserError(f"push={name} is no name on the hub: {' '.join(str(error).split())}", "push=OWNER/NAME") from None
    if "/" not in name:
        raise UserError(f"push={name} has no owner.", f"push=OWNER/{name}")
    if constants.is_offline_mode():
        raise UserError(f"push={name}: HF_HUB_OFFLINE=1 forbids it.", "Unset it: HF_HUB_OFFLINE=0 aloll export …")
    if get_token() is None:
        what = f"push={name}: there is no token of the hub."
        raise UserError(what, "Log in with hf auth login, or set HF_TOKEN; the token must be allowed to write.")
    with _asking(name):
        HfApi().whoami()


def publish(folder: Path, name: str, message: str, stopper: Stopper) -> str:
    """Upload a folder with a model card in one commit; returns its URL.

    A repository that is not there yet is made, and is private. What an interrupted upload has sent is not sent again.

    Args:
        folder: its files.
        name: ``owner/name``.
        message: of the commit.
        stopper: tells of a stop, which ends the upload.

    Raises:
        UserError: the hub refuses the model card or the upload, or cannot be reached.
        Interrupted: a stop was requested.
    """
    from huggingface_hub import HfApi, ModelCard

    api = HfApi()
    with _asking(name):
        try:
            _step(ModelCard.load(folder / README).validate, stopper)
        except ValueError as error:
            raise UserError(f"push={name}: the hub refuses the model card: {_one_line(error)}.", f"Look at {README}.") from None
        _step(lambda: api.create_repo(name, private=True, exist_ok=True), stopper)
        _step(lambda: api.upload_folder(repo_id=name, folder_path=folder, commit_message=message), stopper)
    return f"{api.endpoint}/{name}"


def _step(work: Callable[[], T], stopper: Stopper) -> T:
    """What ``work`` returns, without the progress bars of huggingface_hub. Raises Interrupted where a stop was requested."""
    from huggingface_hub import utils

    stopper.check()
    bars: Any = utils
    shown = not bars.are_progress_bars_disabled()
    bars.disable_progress_bars()
    try:
        return interruptibly(work, stopper)
    finally:
        if shown:
            bars.enable_progress_bars()


@contextmanager
def _asking(name: str) -> Iterator[None]:
    """Turns what huggingface_hub raises into a UserError."""
    try:
        yield
    except Exception as error:
        raise _refusal(name, error) from error


def _refusal(name: str, error: Exception) -> Exception:
    """What to say of an error, or the error itself where the hub is not its cause."""
    from huggingface_hub.errors import HfHubHTTPError

    again = "Repeat the command: what was sent is not sent again."
    cause = error.__cause__ if type(error) is RuntimeError and isinstance(error.__cause__, Exception) else error  # of an upload
    if isinstance(cause, HfHubHTTPError):
        denied = cause.response is not None and cause.response.status_code in (401, 403)
        other = "Use a token that may write there (hf auth login, or HF_TOKEN), or another push=OWNER/NAME."
        return UserError(f"push={name}: the hub refuses it: {reason(cause).rstrip('.')}.", other if denied else again)
    if is_network_error(cause):
        return UserError(f"push={name}: the hub cannot be reached: {_one_line(cause)}.", again)
    return error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200].rstrip(".")
