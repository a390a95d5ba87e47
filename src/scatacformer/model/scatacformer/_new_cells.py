"""A model of new cells with the weights of a trained one (scArches), and cells brought to a model's regions."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
import torch

from scatacformer.cells import RowSource
from scatacformer.genome import Vocabulary, check_same_assembly
from scatacformer.model._fields import regions_of
from scatacformer.model._folder import read as read_folder
from scatacformer.model._scvi import constructor_arguments, set_up_like
from scatacformer.training import pick_device

from ._base import ModelBase
from ._mudata import is_mudata, set_up_as
from ._start import log_odds, open_by_batch
from ._state import State
from ._trainable import Trainable

if TYPE_CHECKING:
    import os

    from anndata import AnnData
    from mudata import MuData

    from ._model import ScAtacFormer

# a new batch has none: its shift is unknown, and nothing is subtracted
OF_BATCHES = ("batch_shift", "local_shift")


def model_of_new_cells(
    known: ScAtacFormer,
    adata: AnnData | MuData,
    accelerator: str,
    device: int | str,
    unfrozen: bool,
    setup: dict[str, Any] | None = None,
) -> ScAtacFormer:
    """See :meth:`~scatacformer.ScAtacFormer.load_query_data`; ``known`` is the reference.

    ``setup`` describes how to read a MuData if the reference was made of an AnnData.
    """
    cls = type(known)
    options: dict[str, Any] = constructor_arguments(known) | {"region_classes": known.region_classes}
    if (table := known._dna_table()) is not None:
        options["dna"] = table
    query_kwargs = {"extend_categories": True, "allow_missing_labels": True}
    if options.get("supervised"):
        query_kwargs["fixed_labels"] = True  # a head has as many outputs as it was trained on
    if is_mudata(adata):
        set_up_as(cls, adata, setup or known.mudata_setup_, known.registry_, **query_kwargs)
    else:
        set_up_like(cls, known.registry_, adata, **query_kwargs)
    query = cls(adata, **options)
    query.dna_ = known.dna_
    if known.paired is not None:
        query._restore_pairs(State.of(known).to_dict(), known.paired.state_dict())
    weights = {name: value.detach().cpu() for name, value in known.module.state_dict().items()}
    n_batch, bias = query.config_.n_batch, weights["decoder.bias.weight"]
    n_known = bias.shape[1]
    if n_known < n_batch:
        reader = query._reader(query.adata)
        weights["decoder.bias.weight"] = with_new_batches(bias, reader.source, reader.batch_codes, n_batch)
    for name in OF_BATCHES:
        shift = torch.zeros(n_batch, *weights[name].shape[1:])
        shift[:n_known] = weights[name]
        weights[name] = shift
    query.module.load_state_dict(weights)
    query.seed_, query.labels_fitted_ = known.seed_, list(known.labels_fitted_)
    query.is_trained_, query.embedding_only_ = True, known.embedding_only_
    new = tuple(range(n_known, n_batch))
    query.trainable_ = (Trainable("trained") if unfrozen else Trainable("query", new_batches=new)).to_dict()
    query.to_device(pick_device(accelerator, device))
    query.module.eval()
    return query


def trained(cls: type[ScAtacFormer], reference: str | os.PathLike | ModelBase) -> ScAtacFormer:
    """The reference, read if it is a folder. ValueError if it is not trained."""
    known: Any = reference
    if not isinstance(known, ModelBase):
        known = cls.load(known, adata=False, accelerator="cpu")
    if not known.is_trained_:
        raise ValueError("the reference model is not trained. Call its train() first.")
    return known


def with_new_batches(bias: torch.Tensor, source: RowSource, codes: np.ndarray, n_batch: int) -> torch.Tensor:
    """The bias (n_bins, n_batch) with a column for each new batch: its regions' log-odds, shrunk towards those of the
    known batches.

    ``bias`` (n_bins, n_known); ``codes`` (n_cells of the source,): the batch of each new cell.
    """
    n_known = bias.shape[1]
    n_open, n_cells = open_by_batch(source, codes, n_batch)
    # the known batches are weighted as cells with the model's frequencies
    weight = 10.0 * max(n_cells.sum(), 1.0)
    n_open[:n_known] += weight / n_known * torch.sigmoid(bias).numpy().T
    n_cells[:n_known] += weight / n_known
    return torch.cat([bias, torch.from_numpy(log_odds(n_open, n_cells)[n_known:]).T], 1)


def regions_of_model(model: str | os.PathLike | ModelBase) -> Vocabulary:
    """The regions of a model, or of the folder that it was saved to."""
    if isinstance(model, ModelBase):
        return model.vocabulary_
    vocabulary = read_folder(model, "ScAtacFormer").vocabulary
    assert vocabulary is not None  # always set by this class
    return vocabulary


def in_regions_of(adata: AnnData, vocabulary: Vocabulary) -> AnnData:
    """The cells with the regions of ``vocabulary``; see :meth:`~scatacformer.ScAtacFormer.prepare_query_anndata`."""
    import anndata

    found = regions_of(adata)
    check_same_assembly(found, vocabulary)
    at = vocabulary.lookup(found)
    absent = int((at < 0).sum())
    if absent == len(at):
        raise ValueError(
            f"none of the {len(at):,} regions of adata is one of the {vocabulary.n_bins:,} of the model "
            f"(adata's first: {found.names[0]}, the model's: {vocabulary.names[0]}). Check that it has the same assembly and bin "
            "size, or map its regions by overlap: scatacformer.pp.match_vocabulary(adata, model)."
        )
    if absent:
        warnings.warn(
            f"{absent:,} of {len(at):,} regions of adata are not in the model and are left out "
            f"(first: {found.names[np.flatnonzero(at < 0)[0]]})",
            UserWarning,
            stacklevel=3,
        )
    var = vocabulary.to_frame()
    known = adata.var.drop(columns=[c for c in adata.var if c in var])
    known = known.set_axis(vocabulary.names[np.where(at >= 0, at, 0)])[at >= 0]
    var = var.join(known)
    return anndata.AnnData(
        _in_columns(adata.X, at, vocabulary.n_bins),
        obs=adata.obs.copy(),
        var=var,
        uns=dict(adata.uns),
        obsm=dict(adata.obsm),
        # anndata 0.13 includes X in the layers, as None
        layers={k: _in_columns(v, at, vocabulary.n_bins) for k, v in adata.layers.items() if k is not None},
    )


def _in_columns(matrix, at: np.ndarray, n_bins: int) -> sp.csr_matrix | None:
    if matrix is None:
        return None
    source = RowSource.from_matrix(matrix, columns=at, n_bins=n_bins)
    indptr, bins, counts = source.rows(np.arange(source.n_cells), counts=True)
    # copies, because the user's arrays must not be sorted or shared
    out = sp.csr_matrix((counts, bins, indptr), shape=(source.n_cells, n_bins), copy=True)
    out.sort_indices()
    return out
