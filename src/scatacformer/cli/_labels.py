"""Known labels of cells, from a column of ``.obs`` or from a file; used only for comparison."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from scatacformer._io import read_unpacked

from ._errors import InputError, as_input_error
from ._messages import logger

if TYPE_CHECKING:
    from anndata import AnnData

_BARCODE_HEADINGS = {"barcode", "barcodes", "cell", "cells", "cell_id", "cell_barcode", "index", "obs_names", ""}


def read_labels(labels: str | None) -> tuple[str, dict[str, str]] | None:
    """(Name, barcode -> label) of a file; None if ``labels`` is not a file but the name of a column."""
    if labels is None:
        return None
    path = Path(labels)
    if not path.is_file():
        if path.suffix in (".tsv", ".csv", ".txt", ".gz"):
            raise InputError(f"the file {path} does not exist. Check the path.")
        return None
    with as_input_error(f"cannot read the labels of {path}: "):
        text = read_unpacked(path).decode("utf-8-sig")
    lines = [line for line in text.splitlines() if line.strip()]
    separator = "\t" if lines and "\t" in lines[0] else ","
    rows = [[field.strip().strip('"') for field in line.split(separator)] for line in lines]
    short = next((number for number, row in enumerate(rows, 1) if len(row) < 2), None)
    if not rows or short is not None:
        found = f"line {short} is {lines[short - 1][:60]!r}" if short else "it is empty"
        raise InputError(f"{path} has no labels, {found}; expected 'barcode<tab>label' in each line.")
    name = "label"
    if rows[0][0].lower() in _BARCODE_HEADINGS:
        name = rows[0][1] or name
        rows = rows[1:]
    label_of: dict[str, str] = {}
    for row in rows:
        if label_of.setdefault(row[0], row[1]) != row[1]:
            raise InputError(f"{path} gives the cell {row[0]} two labels, {label_of[row[0]]!r} and {row[1]!r}.")
    return name, label_of


def put_labels(adata: AnnData, labels: str | None, file: tuple[str, dict[str, str]] | None) -> str | None:
    """Column of ``adata.obs`` with the labels, created from the file if there is one."""
    if labels is None:
        return None
    if file is None:
        if labels not in adata.obs:
            raise InputError(
                f"--labels {labels} is neither a file nor a column of .obs; the columns are "
                f"{', '.join(map(str, adata.obs.columns)) or 'none'}."
            )
        if adata.obs[labels].notna().sum() < 2:
            raise InputError(f"the column {labels} of .obs has no labels.")
        return labels
    import pandas as pd

    name, label_of = file
    found = [label_of.get(cell) for cell in adata.obs_names]
    n_found = sum(label is not None for label in found)
    if n_found < 2:
        raise InputError(
            f"{n_found} of {adata.n_obs:,} cells have a label in {labels}: its barcodes are like "
            f"{', '.join(list(label_of)[:3])}, the cells are like {', '.join(adata.obs_names[:3])}. Check for a "
            "suffix such as '-1', or for the file of another sample."
        )
    if n_found < adata.n_obs:
        logger.warning(
            "warning: %s of %s cells have no label in %s", f"{adata.n_obs - n_found:,}", f"{adata.n_obs:,}", labels
        )
    if name in adata.obs:
        logger.warning("warning: the column %s of .obs is replaced by the labels of %s", name, labels)
    adata.obs[name] = pd.Categorical(found)
    return name
