"""Models and data sets by folder or hub name: how they are identified, and what the errors say.

The hub is asked about each name once, with a short timeout; if it does not answer, the local cache is used.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from aloll_cli.errors import UserError
from aloll_cli.files import out_of_memory, storage_trouble
from aloll_cli.store.manifest import listed_in
from aloll_cli.store.outside import checksum

TIMEOUT = 10.0  # seconds for the hub to answer
UNREAD = ("README.md", "LICENSE", "LICENSE.txt", ".gitattributes")  # files beside a model that say nothing about it
MODEL, ADAPTER = "config.json", "adapter_config.json"  # the files that mark a saved model and a peft adapter


@cache
def resolved_revision(name: str, kind: str, revision: str | None = None) -> str:
    """The commit of a branch or tag; the cached one if the hub does not answer.

    Args:
        name: ``owner/name``.
        kind: "model" or "dataset".
        revision: a branch, a tag or a commit; None for the default branch.

    Raises:
        UserError: there is no such repository, or the hub cannot be reached and nothing is cached.
    """
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    # downloading one small file by the branch's name stores the commit of the branch in the cache
    small = {"model": [MODEL, ADAPTER], "dataset": ["README.md"]}[kind]
    reachable, why = True, "the hub cannot be reached, and nothing is cached under this name"
    try:
        HfApi().repo_info(name, repo_type=kind, revision=revision, timeout=TIMEOUT)
    except (HfHubHTTPError, HFValidationError) as error:
        if _is_final(error):
            raise _unavailable(name, kind, reason(error)) from error
        reachable, why = False, reason(error)
    except Exception as error:
        if not is_network_error(error):
            raise
        reachable = False
    try:
        folder = snapshot_download(
            name, repo_type=kind, revision=revision, allow_patterns=small, local_files_only=not reachable, etag_timeout=TIMEOUT
        )
    except LocalEntryNotFoundError:
        raise _unavailable(name, kind, why) from None
    return Path(folder).name


def expanded(path: str) -> str:
    """A path with ~ expanded; a hub name unchanged."""
    return str(Path(path).expanduser()) if path.startswith("~") else path


def content_of(path: str, revision: str | None, config: str = MODEL) -> dict[str, str]:
    """What identifies a saved model, its weights and its tokenizer: hashes of a folder's files, or a resolved revision.

    Args:
        path: a folder, or a hub name.
        revision: a branch, tag or commit on the hub; None for the default branch.
        config: the file that the folder must contain: MODEL or ADAPTER.

    Raises:
        UserError: there is no such model or adapter.
    """
    folder = Path(path).expanduser()
    if not folder.is_dir():
        return {"revision": resolved_revision(path, "model", revision)}
    if config == MODEL:
        check_model_folder(folder)
    elif not (folder / config).is_file():
        raise UserError(f"{folder} contains no {config}: it is not an adapter.", "Name a folder that peft saved.")
    files = {file.name: checksum(file) for file in sorted(folder.iterdir()) if file.is_file() and file.name not in UNREAD}
    _check_artifact(folder.resolve(), files)
    return files if config == MODEL else files | {config: _without_address(folder / config)}


def _check_artifact(folder: Path, files: dict[str, str]) -> None:
    """Raises UserError where the folder of a model is part of an artifact, and a file is not the one in its manifest."""
    for name, (_, listed) in (listed_in(folder.parent) or {}).items():
        inner = Path(name)
        if inner.parent == Path(folder.name) and inner.name not in UNREAD and files.get(inner.name) != listed:
            what = "was changed (its checksum differs)" if inner.name in files else "is missing"
            hint = "aloll verify repair=true removes it, so that it is built again."
            raise UserError(f"{folder.parent} is damaged: {name} {what}.", hint)


def _without_address(config: Path) -> str:
    """The SHA-256 of an adapter's configuration without the place where its base model was."""
    try:
        options = json.loads(config.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{config} cannot be read: {error}.", "Save the adapter again with peft.") from None
    options.pop("base_model_name_or_path", None)
    return hashlib.sha256(json.dumps(options, sort_keys=True).encode()).hexdigest()


def adapter_folder(path: str, revision: str | None) -> Path:
    """The folder of a peft adapter: the given one, or the cached download of a hub name.

    Raises:
        UserError: it is not an adapter, is not available, or stores its weights as a pickle.
    """
    from huggingface_hub import snapshot_download

    folder = Path(path).expanduser()
    if not folder.is_dir():
        commit = resolved_revision(path, "model", revision)
        with loading(path, "a peft adapter"):
            folder = Path(snapshot_download(path, revision=commit, allow_patterns=[ADAPTER, "adapter_model.safetensors"]))
    if not (folder / "adapter_model.safetensors").is_file():
        raise UserError(
            f"{path} has no adapter_model.safetensors; pickled weights (adapter_model.bin) are not loaded.",
            "If you trust it, load it with peft yourself and save it again with save_pretrained.",
        )
    return folder


def revision_options(path: str, revision: str | None) -> dict[str, str]:
    """Keyword arguments for ``from_pretrained``: none for a folder, the resolved revision for a hub name."""
    return {} if Path(path).expanduser().is_dir() else {"revision": resolved_revision(path, "model", revision)}


def check_model_folder(folder: Path) -> None:
    """Raises UserError if a folder is not a saved model."""
    try:
        config = json.loads((folder / MODEL).read_text(encoding="utf-8"))
    except FileNotFoundError:
        hint = "Name a folder that was written by save_pretrained."
        if (folder / ADAPTER).is_file():
            hint = f"It contains an adapter: name its base model as model.path, and model.adapter={folder} adapter=pretrained."
        elif (folder / "policy").is_dir():
            hint = f"Name its subfolder: {folder / 'policy'}"
        raise UserError(f"{folder} contains no config.json: it is not a saved model.", hint) from None
    except (OSError, ValueError) as error:
        raise UserError(f"{folder / 'config.json'} cannot be read: {error}.", "Save the model again.") from None
    if not isinstance(config, dict) or "model_type" not in config:
        raise UserError(f"{folder / 'config.json'} has no model_type.", "Save the model again with save_pretrained.")


@contextmanager
def loading(name: str, what: str) -> Iterator[None]:
    """Turns what transformers raises on loading into a UserError with the first sentence of its message."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # by foreign files, of any class: also of huggingface_hub, and plain ones of tokenizers
        if storage_trouble(error) is not None or out_of_memory(error) is not None:  # which is reported elsewhere
            raise
        if re.search(r"file named model\.safetensors", str(error)):
            raise UserError(
                f"{name} has no model.safetensors; pickled weights (pytorch_model.bin) are not loaded.",
                "Name a converted revision (revision=refs/pr/N, from huggingface.co/spaces/safetensors/convert), "
                "or save the model again with save_pretrained.",
            ) from error
        reason = re.split(r"(?<=[^.]\.)\s|\n", str(error).strip())[0].rstrip(".:")
        raise UserError(
            f"{name} cannot be loaded: {reason[:200]}.",
            f"It must be {what} with its tokenizer, as written by save_pretrained.",
        ) from error


def _unavailable(name: str, kind: str, why: str) -> UserError:
    what = f"the {kind} {name} is not a local path, and not available from the hub: {why}."
    if found := re.match(r"https?://(?:huggingface\.co|hf\.co)/(?:datasets/)?([\w.-]+(?:/[\w.-]+)?)", name):
        return UserError(what, f"Name it without the address: {found[1]}")
    return UserError(what, "Name a local folder or another hub name, or connect to the network.")


def reason(error: Exception) -> str:
    """Why the hub refused a request, in a few words."""
    from huggingface_hub import errors

    known = {
        errors.GatedRepoError: "access is restricted: request it on the repository's page, then log in with: hf auth login",
        errors.RevisionNotFoundError: "there is no such revision",
        errors.RepositoryNotFoundError: "there is no repository of that name, or it is private",
        errors.HFValidationError: "this is not a valid repository name",
    }
    return next((said for kind, said in known.items() if isinstance(error, kind)), " ".join(str(error).split())[:160])


def _is_final(error: Exception) -> bool:
    """Whether the hub refused the request for good, and was not only busy."""
    from huggingface_hub.errors import HFValidationError

    status = getattr(getattr(error, "response", None), "status_code", None)
    return isinstance(error, HFValidationError) or status in (401, 403, 404)


def is_network_error(error: Exception) -> bool:
    """Whether the hub was not reached. huggingface_hub passes on errors of its HTTP client, which was requests and is httpx."""
    return isinstance(error, OSError) or type(error).__module__.startswith("httpx")
