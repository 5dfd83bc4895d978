"""Models on the Hugging Face hub, or on a server that speaks its protocol.

The package ``huggingface_hub`` (extra ``hub``) does the talking: it keeps what was downloaded, goes
on offline with that, and knows who is logged in. Nothing here is called unless a name begins with
``hf:`` or something is pushed.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from ems_fast.errors import InputError
from ems_fast.files.tensors import MappedTensors
from ems_fast.runs.folder import RunFolder
from ems_fast.text.tokenizer import Tokenizer

PREFIX = "hf:"
REPOSITORY = re.compile(r"\w[\w.-]*/\w[\w.-]*", re.ASCII)
_NAME = re.compile(rf"{PREFIX}({REPOSITORY.pattern})(?:@([\w./-]+))?", re.ASCII)
# What `load` reads, and the card; not the forms for other libraries that lie beside them.
_FILES = ["config.toml", "tokenizer.model", "model.safetensors", "README.md"]


def on_hub(name: object) -> bool:
    """Whether `name` is one of a model on the hub."""
    return isinstance(name, str) and name.startswith(PREFIX)


class Downloaded(NamedTuple):
    """A model's folder, its ``config.toml``, and what `RunFolder.open_model` has read of it."""

    folder: RunFolder
    document: dict[str, Any]
    model: tuple[Tokenizer, MappedTensors]


def download(name: str, endpoint: str | None = None) -> Downloaded:
    """The model ``hf:org/name`` or ``hf:org/name@revision``, downloaded once.

    Its files are compared with their digests; if one is damaged, they are downloaded again.

    Args:
        name: as above.
        endpoint: the server; None takes ``HF_ENDPOINT``, else the public hub.

    Raises:
        InputError: another name, a missing package, no such repository or revision, no model of
            ours there, a server that cannot be reached and nothing of an earlier download, or files
            that are damaged there too.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise InputError(f"run: got {name!r}, expected hf:org/name or hf:org/name@revision")
    repository, revision = match.groups()
    folder = RunFolder(_snapshot(name, repository, revision, endpoint))
    if not folder.config.is_file():
        raise InputError(
            f"{name}: holds no model of ems-fast (there is no {folder.config.name}); put one there "
            "with ems_fast.push"
        )
    document = folder.read_config()  # one of another version is not damaged
    try:
        return Downloaded(folder, document, folder.open_model(document))
    except InputError:
        folder = RunFolder(_snapshot(name, repository, revision, endpoint, anew=True))
    try:
        document = folder.read_config()
        return Downloaded(folder, document, folder.open_model(document))
    except InputError as error:
        raise InputError(f"{name}: was downloaded twice; {error}") from error


def _snapshot(
    name: str, repository: str, revision: str | None, endpoint: str | None, *, anew: bool = False
) -> Path:
    hub = library(name)
    with errors_of_hub(name, endpoint):
        path: str = hub.snapshot_download(
            repository, revision=revision, allow_patterns=_FILES, endpoint=endpoint,
            force_download=anew, library_name="ems-fast",
        )  # fmt: skip
    return Path(path)


def library(name: str) -> Any:
    """The package ``huggingface_hub``, for what is asked of `name`."""
    try:
        return importlib.import_module("huggingface_hub")
    except ImportError as error:
        raise InputError(
            f"{name}: a hub needs the package huggingface_hub, which is not installed; pip install "
            "'ems-fast[hub]'"
        ) from error


@contextmanager
def errors_of_hub(name: str, endpoint: str | None) -> Iterator[None]:
    """What went wrong with `name`, in one sentence."""
    errors = importlib.import_module("huggingface_hub.errors")
    server = endpoint or importlib.import_module("huggingface_hub.constants").ENDPOINT
    login = "log in with `hf auth login`, or set HF_TOKEN"
    try:
        yield
    except errors.GatedRepoError as error:
        raise InputError(f"{name}: its owner has to let you in first; then {login}") from error
    except errors.RepositoryNotFoundError as error:
        raise InputError(
            f"{name}: {server} has no such repository, or shows it to its owner only: {login}"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise InputError(f"{name}: there is no such revision on {server}") from error
    except errors.HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else "no status"
        hint = f"; {login}" if status in (401, 403) else ""
        raise InputError(f"{name}: {server} answered with {status}{hint}") from error
    except errors.LocalEntryNotFoundError as error:
        raise InputError(
            f"{name}: {server} cannot be reached, and there is no earlier download"
        ) from error
    except Exception as error:  # of whatever carries the bytes; its errors have no class in common
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{name}: failed at {server} ({reason})") from error
