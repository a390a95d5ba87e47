"""The cells of a pretraining: a corpus, or an AnnData in memory or on disk, seen as one source of sentences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scatacformer._io import check_hdf5, reading
from scatacformer.cells import RowSource, validate_anndata, validate_counts
from scatacformer.genome import RegionClasses, Vocabulary, region_classes
from scatacformer.training import split_cells

if TYPE_CHECKING:
    from collections.abc import Callable

    from anndata import AnnData

    from .config import PretrainConfig

CORPUS_BATCH = "batch"  # column of obs with the batch, for a model of a corpus


@dataclass(frozen=True)
class PretrainCells:
    """The cells of a pretraining."""

    source: RowSource
    vocabulary: Vocabulary
    codes: np.ndarray  # (n_cells,) int64: batch of each cell
    batch_names: list[str]
    batch_key: str | None  # None: one batch
    sets: np.ndarray  # (n_cells,) int64: data set of each cell
    set_names: list[str]
    name: Callable[[int], str]  # name of a cell, by row number
    card: dict[str, Any] = field(default_factory=dict)  # description for the model's config
    classes: RegionClasses | None = None  # classes of the bins, for a model that uses them

    def split(self, validation: float | list[str], seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Row numbers to train on and to hold out, sorted. ValueError if either is empty."""
        if isinstance(validation, list):
            if unknown := [name for name in validation if name not in self.set_names]:
                raise ValueError(
                    f"validation contains {unknown[0]!r}, which is not a data set; the data sets are {_some(self.set_names)}."
                )
            held = np.isin(self.sets, [self.set_names.index(name) for name in validation])
            if held.all():
                raise ValueError("validation contains every data set; expected at least one for training.")
            return np.flatnonzero(~held), np.flatnonzero(held)
        parts = split_cells(self.source.n_cells, 1 - validation, validation, seed)
        if validation and not len(parts.validation):
            raise ValueError(
                f"validation is {validation}, which is less than one of {self.source.n_cells:,} cells. Hold out more, or set it to 0."
            )
        return parts.train, parts.validation


def read_cells(data: Any, config: PretrainConfig) -> PretrainCells:
    """The cells of a corpus, its folder, an AnnData, or an ``.h5ad`` (opened, not read whole).

    Raises ValueError for anything else, and like ``setup_anndata`` for unsuitable cells.
    """
    if isinstance(data, str | Path):
        data = _opened(Path(data))
    if hasattr(data, "batch_codes"):
        return _of_corpus(data, config)
    if hasattr(data, "obs_names"):
        return _of_anndata(data, config)
    raise ValueError(f"data is a {type(data).__name__}; expected a Corpus, its folder, an AnnData or an .h5ad file.")


def _opened(path: Path) -> Any:
    if not path.exists():
        raise ValueError(f"{path} does not exist. Pass the folder of a corpus, or an .h5ad file.")
    if path.is_dir():
        from scatacformer.corpus import Corpus

        return Corpus(path)
    if path.suffix != ".h5ad":
        raise ValueError(f"{path} is neither the folder of a corpus nor an .h5ad file. Build a corpus from it first.")
    import anndata

    check_hdf5(path)
    with reading(path, "an .h5ad file"):
        return anndata.read_h5ad(path, backed="r")


def _of_corpus(corpus: Any, config: PretrainConfig) -> PretrainCells:
    if config.layer is not None:
        raise ValueError("layer is given for a corpus, which has one matrix. Leave it out.")
    codes, names = np.asarray(corpus.batch_codes), [str(name) for name in corpus.batch_names]
    key: str | None = config.batch_key or CORPUS_BATCH
    if not config.use_batches or len(names) == 1:
        codes, names, key = np.zeros(corpus.n_cells, np.int64), ["0"], None
    sets = np.repeat(np.arange(len(corpus.dataset_names)), np.diff(corpus.dataset_offsets))

    def name(cell: int) -> str:
        return f"{corpus.cell_names([cell])[0]} (row {cell})"

    return PretrainCells(
        corpus.source, corpus.vocabulary, codes.astype(np.int64), names, key, sets, list(corpus.dataset_names), name,
        dict(corpus.card), _classes(config, corpus.vocabulary, None),
    )  # fmt: skip


def _of_anndata(adata: AnnData, config: PretrainConfig) -> PretrainCells:
    validate_anndata(adata, min_cells=3)
    if config.layer is not None and config.layer not in adata.layers:
        raise ValueError(f"adata has no layer {config.layer!r}; it has {sorted(filter(None, adata.layers))} and X.")
    source = RowSource.from_matrix(adata.X if config.layer is None else adata.layers[config.layer])
    counts = validate_counts(source, adata.obs_names)
    codes, names, key = np.zeros(adata.n_obs, np.int64), ["0"], None
    if config.batch_key is not None and config.use_batches:
        if config.batch_key not in adata.obs:
            raise ValueError(f"adata.obs has no column {config.batch_key!r}; it has {_some(list(adata.obs))}.")
        column = pd.Categorical(adata.obs[config.batch_key].astype(str))
        codes, names, key = column.codes.astype(np.int64), list(column.categories), config.batch_key
    obs_names = adata.obs_names
    vocabulary = Vocabulary.from_var(adata.var, assembly=adata.uns.get("assembly"))
    card = {"n_cells": adata.n_obs, "n_tokens": int(counts.n_open_per_cell.sum())}
    return PretrainCells(
        source,
        vocabulary,
        codes,
        names,
        key,
        codes,
        names,
        lambda cell: f"{obs_names[cell]} (row {cell})",
        card,
        _classes(config, vocabulary, adata),
    )


def _classes(config: PretrainConfig, vocabulary: Vocabulary, adata: AnnData | None) -> RegionClasses | None:
    """The classes of the bins: those passed, those of the given files, or the annotation of ``adata``."""
    given = config.model.region_classes
    if isinstance(given, Mapping):
        return region_classes(vocabulary, **given)
    if given is not None or config.model.eos != "region_class":
        return given
    if adata is None:
        raise ValueError(
            "a corpus has no classes of its bins. Pass files, as in region_classes = {gtf = 'gencode.gtf.gz'} "
            "in addition to eos, or the result of sf.pp.annotate_bins(corpus.vocabulary, ...)."
        )
    return RegionClasses.from_anndata(adata)


def _some(names: list[str], most: int = 10) -> str:
    return ", ".join(map(str, names[:most])) + (", ..." if len(names) > most else "")
