"""Folders of the Hugging Face hub: downloaded once, read from the cache after that."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def folder_of(
    name: str | os.PathLike,
    files: Sequence[str],
    expected: str,
    *,
    needed: Sequence[str] = (),
    revision: str | None = None,
    **hub: Any,
) -> Path:
    """The folder ``name`` where there is one, else that of the cache with ``files`` of a repository of the hub.

    Raises ValueError for a file, with what was ``expected``, and for a revision of a folder; OSError where only a part
    of the files that are ``needed`` is in the cache, and the hub may not be asked; else as :func:`hub_folder`."""
    text = os.fspath(name)
    folder = Path(text)
    if not text or not folder.exists():
        folder = hub_folder(text, files, revision=revision, **hub)
        missing = [file for file in needed if not (folder / file).exists()]
        if missing and hub.get("local_files_only"):
            raise OSError(
                f"The cache holds only a part of {name} ({folder}): {', '.join(missing)} is not in it, and "
                "local_files_only=True was asked for. Load it once where the hub can be reached."
            )
        return folder
    if not folder.is_dir():
        raise ValueError(f"{folder} is a file; {expected}.")
    if revision is not None:
        raise ValueError(f"{folder} is a folder here and has no revisions; leave revision out.")
    return folder


def hub_folder(
    name: str,
    files: Sequence[str],
    *,
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    token: str | bool | None = None,
    local_files_only: bool = False,
) -> Path:
    """The folder of the cache that holds ``files`` (glob patterns; those that exist) of a repository of the hub.

    Raises
    ------
    ImportError
        huggingface_hub is not there.
    ValueError
        ``name`` is not the name of a repository; it, or the revision, does not exist or is not accessible to this user.
    OSError
        The hub cannot be reached and the files are not in the cache.
    """
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name) or name.startswith(".") or ".." in name:
        raise ValueError(
            f"{name!r} is neither a folder that exists nor the name of a repository of the hub (owner/name)."
        )
    try:
        from huggingface_hub import errors, snapshot_download
    except ImportError:
        raise ImportError(
            f"{name!r} is not a folder. To look for it on the Hub, pip install 'scatacformer[hub]'."
        ) from None
    where = f"{name} (revision {revision})" if revision else name
    offline: tuple[type[Exception], ...] = (errors.LocalEntryNotFoundError, errors.HfHubHTTPError, OSError)
    try:
        import httpx  # used by huggingface_hub 1 and later; its errors are not an OSError

        offline = (*offline, httpx.TransportError)
    except ImportError:
        pass
    try:
        folder = snapshot_download(
            name,
            revision=revision,
            cache_dir=cache_dir,
            token=token,
            local_files_only=local_files_only,
            allow_patterns=list(files),
        )
    except errors.GatedRepoError as error:
        raise ValueError(f"{where} is open only to those who accepted its terms: pass token=. ({error}).") from None
    except errors.RevisionNotFoundError:
        raise ValueError(f"{name} has no revision {revision!r}: pass a branch, a tag or a commit.") from None
    except errors.RepositoryNotFoundError:
        raise ValueError(
            f"The hub has no repository {name!r}, or it is private: check the name, or pass token=. It is no folder here "
            "either."
        ) from None
    except errors.HFValidationError as error:
        raise ValueError(f"{name!r} is not the name of a repository of the hub: {error}") from None
    except offline as error:
        asked = "local_files_only=True was asked for" if local_files_only else "the hub cannot be reached"
        raise OSError(
            f"{where} is no folder here and not in the cache{f' {cache_dir}' if cache_dir else ''}, and {asked} "
            f"({type(error).__name__}). Download it where there is a network (local_files_only=False) and pass the same "
            "cache_dir=, or pass the path of a folder that holds its files."
        ) from None
    return Path(folder)
