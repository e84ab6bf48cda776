"""Files of Hugging Face repositories: ``hf://owner/repo/path[@revision]``, kept in CACHE_DIR.

HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE work as usual with huggingface_hub.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import huggingface_hub
from huggingface_hub import constants, errors

from utils.errors import UserError, printable

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

SCHEME = "hf://"
_ADDRESS = re.compile(SCHEME + r"([\w.-]+/[\w.-]+)/([^@]+)(?:@([^@]+))?")
_COMMIT = re.compile(r"[0-9a-f]{40}")
# A firewall that drops packets would keep name look-up and connection waiting for minutes.
_SECONDS_TO_ANSWER = 15
# Otherwise each file would wait as long: for a minute we assume that the hub is unreachable.
_SILENT_FOR = 60
_silent_since: dict[str, float] = {}
# Raised by a hub that does not have a file, or refuses it.
_GONE = (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.EntryNotFoundError)
# Files of a repository that a message lists.
_SHOWN = 20


@dataclass(frozen=True)
class HubFile:
    """A file of a repository."""

    repo: str  # ``owner/name``
    path: str  # the file's path in the repository
    revision: str = "main"  # branch, tag or commit

    @classmethod
    def parse(cls, address: str) -> HubFile:
        """Read an address.

        Raises:
            ValueError: It is not of the form ``hf://owner/repo/path[@revision]``.
        """
        found = _ADDRESS.fullmatch(address)
        if not found:
            raise ValueError(f"not of the form {SCHEME}owner/repo/path[@revision]")
        return cls(found[1], found[2], found[3] or cls.revision)

    def __str__(self) -> str:
        revision = "" if self.revision == HubFile.revision else f"@{self.revision}"
        return f"{SCHEME}{self.repo}/{self.path}{revision}"


def fetch(file: HubFile, *, key: str, cache_dir: Path) -> Path:
    """Download a file, unless the cache has it; an interrupted download is resumed.

    If the hub cannot be reached, the cached file of the revision is used.

    Args:
        file: At any revision.
        key: The INI key that named it, for messages.
        cache_dir: Folder for downloads.

    Raises:
        UserError: Neither hub nor cache has it, or the cache cannot be written.
    """
    found = huggingface_hub.try_to_load_from_cache(
        file.repo, file.path, cache_dir=cache_dir, revision=file.revision
    )
    cached = Path(found) if isinstance(found, str) else None
    if cached and _COMMIT.fullmatch(file.revision):
        return cached
    try:
        # Asked once, first: the download itself would retry for minutes.
        url = huggingface_hub.hf_hub_url(file.repo, file.path, revision=file.revision)
        if _in_time(lambda: huggingface_hub.get_hf_file_metadata(url)).commit_hash is None:
            raise ValueError("the server is not a Hugging Face hub")
    except Exception as error:
        # The client raises whatever its transport raises.
        if isinstance(error, _GONE) or cached is None:
            raise UserError(_complaint(file, error, key=key, cache_dir=cache_dir)) from error
        logger.warning("%s: using the copy of %s in %s (%s)", key, file, cache_dir, _reason(error))
        return cached
    try:
        return Path(
            huggingface_hub.hf_hub_download(
                file.repo, file.path, revision=file.revision, cache_dir=cache_dir
            )
        )
    except Exception as error:
        raise UserError(_complaint(file, error, key=key, cache_dir=cache_dir)) from error


def pin(file: HubFile, *, key: str, cache_dir: Path) -> HubFile:
    """The same file at the commit that its revision is at now; downloads it."""
    # <cache>/models--<owner>--<repo>/snapshots/<commit>/<path>
    kept = fetch(file, key=key, cache_dir=cache_dir)
    return replace(file, revision=kept.parents[file.path.count("/")].name)


def _in_time(call: Callable[[], Result]) -> Result:
    """What a call returns or raises; TimeoutError if it takes too long."""
    future: Future[Result] = Future()

    def work() -> None:
        try:
            future.set_result(call())
        except Exception as error:
            future.set_exception(error)

    since = _silent_since.get(constants.ENDPOINT)
    if since is not None and time.monotonic() - since < _SILENT_FOR:
        raise TimeoutError
    # The program would wait for a thread of an executor before it ends.
    threading.Thread(target=work, daemon=True).start()
    try:
        return future.result(timeout=_SECONDS_TO_ANSWER)
    except TimeoutError:
        _silent_since[constants.ENDPOINT] = time.monotonic()
        raise


def _complaint(file: HubFile, error: Exception, *, key: str, cache_dir: Path) -> str:
    """What could not be loaded from where, and what to do, in one line."""
    host = constants.ENDPOINT
    page = f"{host}/{file.repo}"
    if isinstance(error, errors.GatedRepoError):
        return f"{key}: {page} is gated: accept its terms there and set HF_TOKEN to your token"
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"{key}: {host} has no repository '{file.repo}', or it is private and needs HF_TOKEN"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{key}: {page} has no revision '{file.revision}'"
    if isinstance(error, errors.RemoteEntryNotFoundError):
        return f"{key}: {page} has no file '{file.path}'; {_contents(file)}"
    if isinstance(error, OSError) and error.errno and not isinstance(error, ConnectionError):
        return f"CACHE_DIR = {cache_dir}: {file} cannot be saved there ({error.strerror})"
    return (
        f"{key}: {file} is not in CACHE_DIR = {cache_dir} and could not be downloaded "
        f"({_reason(error)}). On a machine with internet, fetch "
        f"{page}/resolve/{file.revision}/{file.path}, copy it here, and set "
        f"{key} = /path/to/{Path(file.path).name}"
    )


def _contents(file: HubFile) -> str:
    try:
        names = huggingface_hub.list_repo_files(file.repo, revision=file.revision)
    except Exception as error:
        return f"its files cannot be listed ({_reason(error)})"
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return printable(f"it has {', '.join(names[:_SHOWN])}") + more


def _reason(error: Exception) -> str:
    """The first line of the innermost reason."""
    text = str(error).strip() or f"no answer within {_SECONDS_TO_ANSWER} seconds"
    return printable(text.splitlines()[0])
