"""The cells of one data set, in chunks, from any source."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from scatacformer._io import check_hdf5, reading
from scatacformer.cells import Rows, RowSource
from scatacformer.genome import Vocabulary

from ._cell_table import CellTable

if TYPE_CHECKING:
    import pandas as pd

    from ._entry import CorpusEntry

_ENTRIES_AT_ONCE = 1 << 21
_CUT = "Is it whole? If it was compressed by snapatac2, `pip install hdf5plugin` lets h5py read it"


class OpenCells(NamedTuple):
    """A data set that is open for reading."""

    n_cells: int
    stretches: Callable[[], Iterator[tuple[int, Rows]]]  # (first cell, some neighbours with counts), front to back
    var: pd.DataFrame
    assembly: str | None
    barcodes: Callable[[int, int], np.ndarray]  # of the cells first ... stop - 1, texts
    column: Callable[[str, int, int], np.ndarray]  # the same for a column of obs; None where it is missing
    columns: list[str]  # names of those


class SomeCells(NamedTuple):
    """Neighbouring cells of a data set."""

    indptr: np.ndarray  # (n_cells + 1,) int64
    regions: np.ndarray  # (n_open,) column numbers
    barcodes: np.ndarray  # (n_cells,) texts
    columns: dict[str, np.ndarray]  # batch, organ, label: (n_cells,) texts or None
    is_cell: np.ndarray  # (n_cells,) bool: listed in the entry's table of cells, if it has one


@contextmanager
def open_cells(
    entry: CorpusEntry, vocabulary: Vocabulary, min_bins: int, table: CellTable | None
) -> Iterator[OpenCells]:
    """Open the file of an entry; fragments are counted first, into a temporary file."""
    if entry.kind == "fragments":
        with _count_fragments(entry, vocabulary, min_bins, table) as cells:
            yield cells
    else:
        with _open_anndata(Path(entry.path), entry.kind, entry) as cells:
            yield cells


@contextmanager
def _count_fragments(
    entry: CorpusEntry, vocabulary: Vocabulary, min_bins: int, table: CellTable | None
) -> Iterator[OpenCells]:
    import pandas as pd

    from scatacformer.cells.fragments import fragments_on_disk

    barcodes = None if table is None else table.barcodes
    with fragments_on_disk(Path(entry.path), vocabulary, barcodes, min_bins) as tiles:
        names = np.array(list(tiles.obs_names), object)

        def stretches() -> Iterator[tuple[int, Rows]]:
            # only snapatac2 can read its compression
            for X, first, _ in tiles.chunked_X(256):
                yield first, Rows(X.indptr.astype(np.int64), X.indices, X.data.astype(np.float32))

        var = pd.DataFrame(index=list(tiles.var_names))
        none = lambda name, first, stop: np.full(stop - first, None, object)
        yield OpenCells(
            len(names), stretches, var, vocabulary.assembly, lambda first, stop: names[first:stop], none, []
        )


@contextmanager
def _open_anndata(path: Path, kind: str, entry: CorpusEntry) -> Iterator[OpenCells]:
    with ExitStack() as stack:
        with reading(path, f"a file of the kind {kind}", "Is it whole? Copy it again"):
            if kind == "zarr":
                import zarr

                group: Any = zarr.open(path, mode="r")
            else:
                import h5py

                with suppress(ImportError):
                    import hdf5plugin  # noqa: F401 with it h5py reads what was compressed as snapatac2 does

                check_hdf5(path)
                group = stack.enter_context(h5py.File(path, "r"))
            cells = _describe(_modality(group, kind, entry), path, entry.layer)
        yield cells


def _modality(group: Any, kind: str, entry: CorpusEntry) -> Any:
    if kind != "h5mu":
        return group
    modality = entry.modality or "atac"
    found = list(group.get("mod", ()))
    if modality not in found:
        raise ValueError(f"{entry.path} has no modality {modality!r}; it has {', '.join(found) or 'none'}.")
    return group["mod"][modality]


def _describe(group: Any, path: Path, layer: str | None) -> OpenCells:
    from anndata.io import read_elem, sparse_dataset

    missing = [name for name in ("obs", "var") if name not in group]
    if missing or not hasattr(group["obs"], "keys"):
        raise ValueError(
            f"{path} is not an AnnData file of version 0.7 or later. Read it and write it again with anndata."
        )
    where = "X" if layer is None else f"layers/{layer}"
    if where not in group:
        layers = ", ".join(group["layers"]) if "layers" in group else ""
        raise ValueError(
            f"{path} has no {where}; it has {'X' if 'X' in group else 'no X'}, layers: {layers or 'none'}."
        )
    X = group[where]
    if hasattr(X, "keys"):
        X = sparse_dataset(X)
    try:
        rows = RowSource.from_matrix(X)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: {error}") from None
    assembly = read_elem(group["uns/assembly"]) if "uns/assembly" in group else None
    obs = group["obs"]
    readers: dict[str, Callable[[int, int], np.ndarray]] = {}

    def column(name: str, first: int, stop: int) -> np.ndarray:
        with reading(path, f"an AnnData with a column {name} of obs"):
            if name not in readers:
                readers[name] = _reader(obs[name])
            return readers[name](first, stop)

    index = obs.attrs["_index"]
    names = [name for name in obs if name != index and not name.startswith("__")]
    chunk_cells = int(np.clip(_ENTRIES_AT_ONCE * rows.n_cells / max(rows.nnz, 1), 1, 8192))

    def stretches() -> Iterator[tuple[int, Rows]]:
        parts = rows.iter_chunks(chunk_cells, counts=True)
        while True:
            with reading(path, "a matrix that is whole", _CUT):
                found = next(parts, None)
            if found is None:
                return
            if len(found[1].bins) and (found[1].bins.min() < 0 or found[1].bins.max() >= rows.n_bins):
                raise ValueError(f"{path} has entries with a column number outside the matrix. Copy it again.")
            yield found

    return OpenCells(
        rows.n_cells,
        stretches,
        read_elem(group["var"]),
        None if assembly is None else str(assembly),
        lambda first, stop: column(index, first, stop),
        column,
        names,
    )


def _reader(element: Any) -> Callable[[int, int], np.ndarray]:
    """Reads a stretch of a column of obs as texts, None where it is missing; the rest stays on disk."""
    from anndata.io import read_elem

    encoding = element.attrs.get("encoding-type", "")
    if encoding == "categorical" or "categories" in element.attrs:
        # anndata before 0.8 kept the categories elsewhere, with a reference to them
        old = encoding != "categorical"
        categories = element.file[element.attrs["categories"]] if old else element["categories"]
        codes = element if old else element["codes"]
        names = np.array([*(_text(name) for name in read_elem(categories)), None], object)
        return lambda first, stop: names[np.asarray(codes[first:stop])]
    if hasattr(element, "keys") and "values" in element and "mask" in element:

        def masked(first: int, stop: int) -> np.ndarray:
            values = _texts(element["values"], first, stop)
            values[np.asarray(element["mask"][first:stop])] = None
            return values

        return masked
    if hasattr(element, "keys"):
        whole = np.array([_text(value) for value in read_elem(element)], object)
        return lambda first, stop: whole[first:stop]
    return lambda first, stop: _texts(element, first, stop)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _texts(array: Any, first: int, stop: int) -> np.ndarray:
    values = array.asstr()[first:stop] if hasattr(array, "asstr") and array.dtype.kind == "O" else array[first:stop]
    is_missing = [value is None or value != value for value in values.tolist()]
    texts = np.array([_text(value) for value in values], object)
    texts[is_missing] = None
    return texts


def iter_cells(cells: OpenCells, entry: CorpusEntry, table: CellTable | None) -> Iterator[SomeCells]:
    """All cells, some at a time. Raises ValueError for counts that are none."""
    what = f"{entry.path}"
    wanted = {"batch": entry.batch_key, "organ": entry.organ_key, "label": entry.labels_key}
    of_table = [] if table is None else table.columns
    for named in filter(None, wanted.values()):
        if named not in of_table and named not in cells.columns:
            known = ", ".join([*of_table, *cells.columns][:30])
            raise ValueError(f"{what} has no column {named!r} of cells; it has {known or 'none'}.")
    for first, rows in cells.stretches():
        n = len(rows.indptr) - 1
        barcodes = cells.barcodes(first, first + n)
        _check_counts(rows.counts, rows.indptr, barcodes, what)
        at = None if table is None else table.at(barcodes)
        columns = {"organ": np.full(n, entry.organ, object)}
        for name, key in wanted.items():
            if key is not None and table is not None and at is not None and key in of_table:
                columns[name] = table.values(key, at)
            elif key is not None:
                columns[name] = cells.column(key, first, first + n)
            columns.setdefault(name, np.full(n, None, object))
        yield SomeCells(rows.indptr, rows.bins, barcodes, columns, np.ones(n, bool) if at is None else at >= 0)


def _check_counts(counts: np.ndarray | None, indptr: np.ndarray, barcodes: np.ndarray, what: str) -> None:
    assert counts is not None
    wrong = ~((counts >= 0) & (counts < np.inf) & (counts == np.rint(counts)))  # NaN is wrong as well
    if wrong.any():
        at = int(np.argmax(wrong))
        cell = barcodes[np.searchsorted(indptr, at, side="right") - 1]
        raise ValueError(
            f"{what} does not hold counts: {counts[at]:g} in cell {cell}. Open bins are determined from raw counts "
            "(whole numbers, 0 or more): name the layer that holds them (layer=...)."
        )
