"""Entries of a corpus from the folders of public data sets, as downloaded."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from scatacformer._io import open_unpacked, read_json, reading
from scatacformer.cells.fragments import CALLS_CELLS
from scatacformer.genome import assembly_name

from ._entry import CorpusEntry

_NOT_A_NAME = re.compile(r"[^A-Za-z0-9._-]+")


def hubmap_entries(folder: str | Path, organs: Mapping[str, str] | None = None, **fields: Any) -> list[CorpusEntry]:
    """Entries of HuBMAP's scATAC-seq data sets: every ``cell_by_bin.h5ad`` in a folder and the folders below.

    Each data set is in its own folder, which gives its name, as on the portal. The assembly is read from
    ``genome_build.json`` next to the matrix, and hg38 if there is none. Bins have ``chrom`` without
    ``chr``, ``bin_start``, ``bin_stop`` in ``.var``, which the corpus reads directly; ``.X`` is binary.

    Parameters
    ----------
    folder
        With a folder for each data set, or that of one.
    organs
        Mapping of data set (name of its folder) to organ, as in the portal's table of data sets.
    fields
        Further fields of every :class:`CorpusEntry`, such as ``labels_key``.

    Raises
    ------
    FileNotFoundError
        No such file in the folder.
    """
    folder = _folder(folder)
    entries = []
    for path in _found(folder, "*cell_by_bin.h5ad", "HuBMAP's scATAC-seq pipeline writes cell_by_bin.h5ad"):
        build = next((path.parent / name for name in ("genome_build.json",) if (path.parent / name).exists()), None)
        assembly = "hg38"
        if build is not None:
            with reading(build, "HuBMAP's genome_build.json"):
                assembly = str(read_json(build)["genome"])
        name = path.name.removesuffix("cell_by_bin.h5ad").strip("._-") or path.parent.name
        given = {"organ": (organs or {}).get(name), "assembly": assembly} | fields
        entries.append(CorpusEntry(path, name=_NOT_A_NAME.sub("_", name), **given))
    return entries


def catlas_entries(folder: str | Path, metadata: str | Path | None = None, **fields: Any) -> list[CorpusEntry]:
    """Entries of CATlas' human tissues (Zhang et al., Cell 2021; GEO GSE184462): fragments of each sample, one table.

    ``*_fragments.bed.gz`` are taken as samples, named after their file without the accession that GEO puts before it.
    Cells, and their types, are those that the table lists as ``sample+barcode``; fragments of other barcodes are left
    out. The organ is the part before ``_SM-`` in the name of the sample, otherwise the table's column ``tissue``.

    Parameters
    ----------
    folder
        With the fragments files.
    metadata
        The table, by tabs: ``cellID``, ``cell type``, ``tissue``. Default: ``Cell_metadata.tsv.gz`` or
        ``GSE184462_metadata.tsv.gz`` in the folder.
    fields
        Further fields of every :class:`CorpusEntry`.

    Raises
    ------
    FileNotFoundError
        No fragments, or no table.
    ValueError
        The table lacks a column, or a sample.
    """
    folder = _folder(folder)
    if metadata is None:
        names = ("Cell_metadata.tsv.gz", "Cell_metadata.tsv", "GSE184462_metadata.tsv.gz", "GSE184462_metadata.tsv")
        metadata = next((folder / name for name in names if (folder / name).exists()), None)
        if metadata is None:
            raise FileNotFoundError(f"{folder} has no table of cells; expected {names[0]} or {names[2]}.")
    table = Path(metadata)
    header, prefixes = _samples_of(table)
    spelled = {re.sub(r"[^a-z]", "", name.lower()): name for name in header}
    missing = [name for name in ("cellid", "celltype") if name not in spelled]
    if missing:
        raise ValueError(f"{table} has no column cellID and cell type; it has {', '.join(header)}.")
    entries = []
    for path in _found(folder, "*.bed.gz", "CATlas names its fragments SAMPLE_rep1_fragments.bed.gz"):
        name = re.sub(r"^GSM\d+_|_?fragments$", "", path.name.removesuffix(".bed.gz"))
        stem = re.sub(r"_rep\d+$", "", name)
        number = name[len(stem) :].removeprefix("_rep")
        # the table calls rep1 of a sample SAMPLE_1
        prefix = next((p for p in (name, f"{stem}_{number}", stem) if p in prefixes), None)
        if prefix is None:
            raise ValueError(
                f"{table} lists no cell of the sample {name} ({path}); it has {', '.join(sorted(prefixes)[:3])}, ... "
                "Take the file away, or the table that belongs to it."
            )
        tissue, is_coded, _ = name.partition("_SM-")
        organ: dict[str, Any] = {"organ": tissue} if is_coded else {"organ_key": spelled.get("tissue")}
        given = organ | {"assembly": "hg38", "labels_key": spelled["celltype"], "barcode_key": spelled["cellid"]}
        given |= {"barcodes": table, "barcode_prefix": f"{prefix}+"} | fields
        entries.append(CorpusEntry(path, name=_NOT_A_NAME.sub("_", name), **given))
    return entries


def tenx_entries(folder: str | Path, **fields: Any) -> list[CorpusEntry]:
    """Entries of 10x runs: ``fragments.tsv.gz`` of Cell Ranger ATAC, ``atac_fragments.tsv.gz`` of Cell Ranger ARC.

    Looked for in the folder and those below; downloads, whose names have the data set's before them
    (``pbmc_5k_fragments.tsv.gz``), are found as well. Cells are those that Cell Ranger called: ``is__cell_barcode`` or
    ``is_cell_barcode`` in ``singlecell.csv``, ``is_cell`` in ``per_barcode_metrics.csv``, beside the fragments. A run
    is named after the folder that holds its ``outs``. The assembly is read from the head of the fragments file, if it
    is there.

    Parameters
    ----------
    folder
        With runs in it, or that of one.
    fields
        Further fields of every :class:`CorpusEntry`, such as ``organ``.

    Raises
    ------
    FileNotFoundError
        Fragments or their table of cells are missing.
    ValueError
        The table has no column that marks cells.
    """
    folder = _folder(folder)
    entries = []
    for path in _found(folder, "*fragments.tsv.gz", "Cell Ranger writes fragments.tsv.gz or atac_fragments.tsv.gz"):
        prefix = path.name.removesuffix("fragments.tsv.gz").removesuffix("atac_")
        tables = [path.with_name(prefix + name) for name in ("singlecell.csv", "per_barcode_metrics.csv")]
        table = next((table for table in tables if table.exists()), None)
        if table is None:
            raise FileNotFoundError(
                f"Neither {tables[0]} nor {tables[1].name} exists; expected one of them, which marks cells."
            )
        with table.open(encoding="utf-8") as file:
            header = [name.strip() for name in file.readline().split(",")]
        is_cell = [name for name in header if CALLS_CELLS.fullmatch(name)]
        if len(is_cell) != 1:
            raise ValueError(
                f"{table} has {'more than one column' if is_cell else 'no column'} that marks cells "
                f"({', '.join(is_cell or header)}); expected is__cell_barcode, is_cell_barcode or is_cell. Of a run "
                "over two species, list the cells of one in a file, and name it: CorpusEntry(..., barcodes=...)."
            )
        run = path.parent.parent if path.parent.name == "outs" else path.parent
        name = prefix.strip("._-") or run.name
        given = {"assembly": _reference_of(path), "barcodes": table, "is_cell_key": is_cell[0]} | fields
        entries.append(CorpusEntry(path, name=_NOT_A_NAME.sub("_", name), **given))
    return entries


LAYOUTS: dict[str, Callable[..., list[CorpusEntry]]] = {
    "hubmap": hubmap_entries,
    "catlas": catlas_entries,
    "10x": tenx_entries,
}


def _folder(folder: str | Path) -> Path:
    folder = Path(folder).absolute()
    if not folder.is_dir():
        raise FileNotFoundError(f"The folder {folder} does not exist. Check the path.")
    return folder


def _found(folder: Path, pattern: str, expected: str) -> list[Path]:
    paths = sorted(folder.rglob(pattern))
    if not paths:
        raise FileNotFoundError(f"There is no {pattern} in {folder} or below: {expected}.")
    return paths


def _samples_of(table: Path) -> tuple[list[str], set[str]]:
    """(Columns, the part before the + in the cells' names) of CATlas' table."""
    with (
        reading(table, "a table of cells by tabs"),
        open_unpacked(table) as raw,
        io.TextIOWrapper(raw, encoding="utf-8") as file,
    ):
        header = [name.strip().strip('"') for name in file.readline().rstrip("\n").split("\t")]
        at = next((i for i, name in enumerate(header) if name.lower() == "cellid"), 0)
        return header, {line.split("\t", at + 1)[at].strip('"').rpartition("+")[0] for line in file}


def _reference_of(path: Path) -> str | None:
    """The assembly that Cell Ranger notes in the first lines of a fragments file."""
    with (
        reading(path, "a fragments file"),
        open_unpacked(path) as raw,
        io.TextIOWrapper(raw, encoding="utf-8") as file,
    ):
        for line in file:
            if not line.startswith("#"):
                return None
            if line.startswith("# reference_path="):
                words = re.split(r"[^A-Za-z0-9]+", line.strip().rpartition("/")[2] or line)
                return next((name for word in words if (name := assembly_name(word)) is not None), None)
    return None
