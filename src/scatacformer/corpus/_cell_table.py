"""A list of the cells of a data set: only barcodes, or a table with their annotation."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from scatacformer._io import read_unpacked, reading
from scatacformer.cells.fragments import IS_CELL

if TYPE_CHECKING:
    from ._entry import CorpusEntry

_HEADINGS = {"barcode", "barcodes", "cell", "cells", "cellid", "cell_id", "cell_barcode", "index", "obs_names", ""}


class CellTable:
    """The table ``barcodes`` of an entry: its cells, in order, and their columns."""

    def __init__(self, entry: CorpusEntry) -> None:
        import pandas as pd

        path, keys = entry.barcodes, [entry.barcode_key, entry.is_cell_key]
        keys += [entry.batch_key, entry.organ_key, entry.labels_key]
        with reading(str(path), "a table of cells", "Expected a barcode in each line, or a table with a header"):
            file = io.StringIO(read_unpacked(Path(str(path))).decode("utf-8-sig"))
            first = file.readline().rstrip("\r\n")
            separator = "\t" if "\t" in first else ","
            fields = [field.strip().strip('"') for field in first.split(separator)]
            has_header = fields[0].lower() in _HEADINGS or any(key in fields for key in keys if key is not None)
            file.seek(0)
            table = pd.read_csv(file, sep=separator, header=0 if has_header else None, dtype=str, keep_default_na=False)
        table.columns = [str(name) for name in table.columns]
        for key in (entry.barcode_key, entry.is_cell_key):
            if key is not None and key not in table:
                raise ValueError(f"{path} has no column {key!r}; it has {', '.join(table.columns)}.")
        if entry.is_cell_key is not None:
            table = table[table[entry.is_cell_key].str.lower().isin(IS_CELL)]
        barcodes = table[entry.barcode_key or table.columns[0]]
        if entry.barcode_prefix is not None:
            mine = barcodes.str.startswith(entry.barcode_prefix)
            table, barcodes = table[mine], barcodes[mine].str.slice(len(entry.barcode_prefix))
        if not len(barcodes):
            raise ValueError(
                f"{path} lists no cell"
                + (f" whose barcode begins with {entry.barcode_prefix!r}" if entry.barcode_prefix else "")
                + (f" with {entry.is_cell_key} = 1" if entry.is_cell_key else "")
                + f" for the data set {entry.name}."
            )
        if barcodes.duplicated().any():
            raise ValueError(
                f"{path} lists the cell {barcodes[barcodes.duplicated()].iloc[0]} twice. If it lists cells of several "
                "samples, pass the prefix of the barcodes of this one (barcode_prefix=...)."
            )
        self._table, self._index = table, pd.Index(barcodes)
        self.barcodes = barcodes.tolist()

    @property
    def columns(self) -> list[str]:
        """Names of the columns."""
        return list(self._table.columns)

    def at(self, barcodes: np.ndarray) -> np.ndarray:
        """Row of each cell, -1 for those that are not listed, (n,)."""
        return self._index.get_indexer(list(barcodes))

    def values(self, column: str, at: np.ndarray) -> np.ndarray:
        """Texts of the rows ``at``; None for row -1 and for empty ones, (n,)."""
        texts = np.array([*self._table[column], None], object)[at]
        texts[texts == ""] = None
        return texts
