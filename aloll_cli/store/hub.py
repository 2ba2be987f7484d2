"""Saved models and data sets by name or folder: what they are, and why they cannot be had.

The hub is asked once about a name, briefly; where it does not answer, the cache is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from aloll_cli.errors import UserError
from aloll_cli.files import sha256, storage_trouble

PATIENCE = 10.0  # seconds for the hub to answer
MODEL, ADAPTER = "config.json", "adapter_config.json"  # what tells a saved model, and an adapter of peft


@cache
def resolved_revision(name: str, kind: str, revision: str | None = None) -> str:
    """The commit that a branch, a tag or nothing stands for; where the hub does not answer, the one that is cached.

    Args:
        name: ``owner/name``.
        kind: "model" or "dataset".
        revision: a branch, a tag or a commit; None for the default branch.

    Raises:
        UserError: there is no such thing, or the hub cannot be reached and nothing is cached.
    """
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    # one small file: fetching it by the branch's name is what lets the cache know the branch later on
    small = {"model": [MODEL, ADAPTER], "dataset": ["README.md"]}[kind]
    answers, why = True, "the hub cannot be reached, and nothing of that name is cached"
    try:
        HfApi().repo_info(name, repo_type=kind, revision=revision, timeout=PATIENCE)
    except (HfHubHTTPError, HFValidationError) as error:
        if _is_final(error):
            raise _cannot_be_had(name, kind, _trouble(error)) from error
        answers, why = False, _trouble(error)
    except Exception as error:
        if not _is_of_the_network(error):
            raise
        answers = False
    try:
        folder = snapshot_download(
            name, repo_type=kind, revision=revision, allow_patterns=small, local_files_only=not answers, etag_timeout=PATIENCE
        )
    except LocalEntryNotFoundError:
        raise _cannot_be_had(name, kind, why) from None
    return Path(folder).name


def expanded(path: str) -> str:
    """A path with the user's home in place of ~; a name on the hub as it is."""
    return str(Path(path).expanduser()) if path.startswith("~") else path


def content_of(path: str, revision: str | None, config: str = MODEL) -> dict[str, str]:
    """What identifies a saved model, its weights and its tokenizer: hashes of a folder's files, or a resolved revision.

    Args:
        path: a folder, or a name on the hub.
        revision: of the hub.
        config: the file that the folder must hold: MODEL or ADAPTER.

    Raises:
        UserError: there is no such thing.
    """
    folder = Path(path).expanduser()
    if not folder.is_dir():
        return {"revision": resolved_revision(path, "model", revision)}
    if config == MODEL:
        check_model_folder(folder)
    elif not (folder / config).is_file():
        raise UserError(f"{folder} holds no {config}: it is no adapter.", "Name a folder that peft wrote.")
    return {file.name: sha256(file) for file in sorted(folder.iterdir()) if file.is_file()}


def adapter_folder(path: str, revision: str | None) -> Path:
    """Where an adapter of peft lies: the folder itself, or the part of the cache that a name on the hub was downloaded to.

    Raises:
        UserError: it is no adapter, cannot be had, or its weights are in a pickle.
    """
    from huggingface_hub import snapshot_download

    folder = Path(path).expanduser()
    if not folder.is_dir():
        commit = resolved_revision(path, "model", revision)
        with loading(path, "an adapter of peft"):
            folder = Path(snapshot_download(path, revision=commit, allow_patterns=[ADAPTER, "adapter_model.safetensors"]))
    if not (folder / "adapter_model.safetensors").is_file():
        raise UserError(
            f"{path} has no adapter_model.safetensors; weights in a pickle (adapter_model.bin) are not loaded.",
            "Load it with peft in a session of your own, and write it again with save_pretrained.",
        )
    return folder


def revision_options(path: str, revision: str | None) -> dict[str, str]:
    """What ``from_pretrained`` is told beside the path: nothing of a folder, and the resolved revision of a name."""
    return {} if Path(path).expanduser().is_dir() else {"revision": resolved_revision(path, "model", revision)}


def check_model_folder(folder: Path) -> None:
    """Raises UserError unless a folder looks like a saved model."""
    try:
        config = json.loads((folder / MODEL).read_text(encoding="utf-8"))
    except FileNotFoundError:
        hint = "Name a folder that save_pretrained wrote."
        if (folder / ADAPTER).is_file():
            hint = "It holds an adapter: model.path=… for its model, and model.adapter=… adapter=pretrained for this one."
        elif (folder / "policy").is_dir():
            hint = f"Name the folder in it: {folder / 'policy'}"
        raise UserError(f"{folder} holds no config.json: it is no saved model.", hint) from None
    except (OSError, ValueError) as error:
        raise UserError(f"{folder / 'config.json'} cannot be read: {error}.", "Save the model again.") from None
    if not isinstance(config, dict) or "model_type" not in config:
        raise UserError(f"{folder / 'config.json'} names no model_type.", "Save the model again with save_pretrained.")


@contextmanager
def loading(name: str, what: str) -> Iterator[None]:
    """What transformers cannot load is the user's to mend; its reason is passed on, the first sentence of it."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, ValueError, KeyError, ImportError, SafetensorError) as error:
        if storage_trouble(error) is not None:  # while it was downloaded
            raise
        if re.search(r"file named model\.safetensors", str(error)):
            raise UserError(
                f"{name} has no model.safetensors; weights in a pickle (pytorch_model.bin) are not loaded.",
                "Name a revision that was converted (revision=refs/pr/N, made by huggingface.co/spaces/safetensors/convert), "
                "or save the model again with save_pretrained.",
            ) from error
        reason = re.split(r"(?<=[^.]\.)\s|\n", str(error).strip())[0].rstrip(".:")
        raise UserError(
            f"{name} cannot be loaded: {reason[:200]}.",
            f"It must be {what} with its tokenizer, as save_pretrained writes them.",
        ) from error


def _cannot_be_had(name: str, kind: str, why: str) -> UserError:
    what = f"the {kind} {name} is no local path, and cannot be had from the hub: {why}."
    return UserError(what, "Name a local folder in its place, or another name, or connect to a network.")


def _trouble(error: Exception) -> str:
    from huggingface_hub import errors

    known = {
        errors.GatedRepoError: "access must be asked for on its page, and a token be given (hf auth login)",
        errors.RevisionNotFoundError: "it has no such revision",
        errors.RepositoryNotFoundError: "there is none of that name, or it is private",
        errors.HFValidationError: "that is no name on the hub",
    }
    return next((said for kind, said in known.items() if isinstance(error, kind)), " ".join(str(error).split())[:160])


def _is_final(error: Exception) -> bool:
    """Whether the hub has answered that there is nothing for us, rather than that it is busy."""
    from huggingface_hub.errors import HFValidationError

    status = getattr(getattr(error, "response", None), "status_code", None)
    return isinstance(error, HFValidationError) or status in (401, 403, 404)


def _is_of_the_network(error: Exception) -> bool:
    """Whether nothing answered. huggingface_hub lets its HTTP client's own errors through, and has changed that client."""
    return isinstance(error, OSError) or type(error).__module__.startswith("httpx")
