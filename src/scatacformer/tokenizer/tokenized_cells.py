"""Cells as the token ids of their open regions: one sparse row each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from anndata import AnnData
    from scipy.sparse import csr_matrix

    from scatacformer.genome import Vocabulary


@dataclass(frozen=True, eq=False, repr=False)
class TokenizedCells:
    """Cells × regions, the token ids of a cell being the columns of its row.

    ``cells["AAAC-1"]`` or ``cells[0]`` is the token ids of one cell, ascending, without repeats and special tokens;
    ``cells[:100]``, ``cells[mask]`` and ``cells[["AAAC-1", "AAAG-1"]]`` are fewer cells.

    Parameters
    ----------
    X
        (n_cells, n_regions), CSR, sorted columns. From fragments: how many of the cell's fragments overlap the region.
        From an AnnData: the sum of its counts over what overlaps the region.
    barcodes
        (n_cells,), names of the cells, object.
    n_unknown
        (n_cells,), int64: fragments, or open regions of the AnnData, that overlap no region of the vocabulary.
    vocabulary
        The regions.
    """

    X: csr_matrix
    barcodes: np.ndarray
    n_unknown: np.ndarray
    vocabulary: Vocabulary

    @property
    def n_tokens(self) -> np.ndarray:
        """Number of tokens of each cell, (n_cells,)."""
        return np.diff(self.X.indptr)

    def to_anndata(self) -> AnnData:
        """AnnData of the counts as float32, ``.var`` the regions, ``.obs["n_unknown"]``: what the models take."""
        import pandas as pd
        from anndata import AnnData

        obs = pd.DataFrame({"n_unknown": self.n_unknown}, index=pd.Index(self.barcodes, dtype=object))
        adata = AnnData(self.X.astype(np.float32), obs=obs, var=self.vocabulary.to_frame())
        if self.vocabulary.assembly is not None:
            adata.uns["assembly"] = self.vocabulary.assembly
        return adata

    def __len__(self) -> int:
        return self.X.shape[0]

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[number] for number in range(len(self)))

    def __getitem__(self, cells: str | int | slice | Sequence[Any] | np.ndarray) -> Any:
        if isinstance(cells, str):
            cells = self._rows([cells])[0]
        if isinstance(cells, int | np.integer):
            row = range(len(self))[int(cells)]  # IndexError beyond, the last for -1
            return self.X.indices[self.X.indptr[row] : self.X.indptr[row + 1]].astype(np.int64)
        if not isinstance(cells, slice):
            chosen = np.asarray(cells)
            cells = self._rows(list(cells)) if chosen.dtype.kind in "OUT" else chosen
        return replace(self, X=self.X[cells], barcodes=self.barcodes[cells], n_unknown=self.n_unknown[cells])

    def __repr__(self) -> str:
        return f"TokenizedCells: {len(self):,} cells, {self.X.nnz:,} tokens of {self.vocabulary.n_bins:,} regions"

    def _rows(self, barcodes: Sequence[str]) -> np.ndarray:
        import pandas as pd

        names = pd.Index(self.barcodes)
        if not names.is_unique:
            raise KeyError(f"{names[names.duplicated()][0]!r} is the name of several cells; take them by number.")
        rows = names.get_indexer(barcodes)
        if (rows < 0).any():
            raise KeyError(f"{barcodes[int(np.argmax(rows < 0))]!r} is not a barcode of these {len(self):,} cells.")
        return rows
