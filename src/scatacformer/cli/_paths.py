"""Files are looked at before anything is read: an hour of training must not end at a folder that is not there."""

from __future__ import annotations

import os
from pathlib import Path

from ._errors import InputError

_FRAGMENTS = (".tsv", ".bed", ".tsv.gz", ".bed.gz", ".tsv.bgz", ".bed.bgz")
PICTURES = (".png", ".pdf", ".svg")


def kind_of(path: Path) -> str:
    """``"fragments"``, ``"h5ad"``, ``"h5mu"``, ``"10x"`` or ``"zarr"``, by the name of an input that exists."""
    if not path.exists():
        raise InputError(f"the file {path} does not exist. Check the path.")
    name = path.name.lower()
    if path.is_dir():
        if name.endswith(".zarr") or any((path / file).exists() for file in ("zarr.json", ".zgroup", ".zattrs")):
            return "zarr"
        raise InputError(
            f"{path} is a folder, and no zarr store; expected a fragments file, .h5ad, .h5mu, .h5 or .zarr."
        )
    for suffix in (".h5ad", ".h5mu"):
        if name.endswith(suffix):
            return suffix[1:]
    if name.endswith(".h5"):
        return "10x"
    if name.endswith(_FRAGMENTS):
        return "fragments"
    raise InputError(
        f"the name of {path} does not show its format; expected an ending among {', '.join(_FRAGMENTS[:4])} "
        "(fragments), .h5ad, .h5mu, .h5 (of Cell Ranger) or .zarr. Rename it, or create a link with such a name."
    )


def check_output(path: Path, endings: tuple[str, ...], overwrite: bool) -> None:
    """Raise InputError for a file that cannot be written, or that exists and must not be replaced."""
    if path.suffix.lower() not in endings:
        raise InputError(f"the name of {path} must end in {' or '.join(endings)}.")
    if path.is_dir():
        raise InputError(f"{path} is a folder; expected the name of a file to write.")
    check_folder(path.parent)
    if path.exists() and not overwrite:
        raise InputError(f"{path} exists. Choose another name, or replace it with --overwrite.")


def check_folder(folder: Path) -> None:
    """Raise InputError for a folder that does not exist or is not writable."""
    if not folder.is_dir():
        raise InputError(f"the folder {folder} does not exist. Create it first: mkdir -p {folder}.")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"the folder {folder} is not writable. Choose another one, or change its permissions.")


def check_model_folder(folder: Path, overwrite: bool) -> None:
    """Raise InputError for a model folder with other content, or with an earlier model that must not be replaced."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; expected a folder for the model.")
    nearest = folder
    while not nearest.exists():
        nearest = nearest.parent
    check_folder(nearest)
    if folder.is_dir() and any(folder.iterdir()) and not overwrite:
        raise InputError(
            f"the folder {folder} is not empty. Choose another one, or replace its model with --overwrite."
        )
