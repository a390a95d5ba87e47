"""Queries: map the regions of new cells to those of a trained model, add their batches, keep everything else."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp
import torch

from scatacformer.cells import RowSource
from scatacformer.genome import Vocabulary, check_same_assembly
from scatacformer.model._device import pick_device
from scatacformer.model._fields import regions_of
from scatacformer.model._folder import read as read_folder
from scatacformer.model._scvi import constructor_arguments, replace_content, set_up_like

from ._base import ModelBase
from ._mudata import is_mudata, modality_names
from ._start import log_odds, open_by_batch
from ._trainable import Trainable

if TYPE_CHECKING:
    import os

    import pandas as pd
    from anndata import AnnData
    from mudata import MuData


class QueryMixin(ModelBase):
    """``load_query_data`` and ``prepare_query_anndata`` of :class:`~scatacformer.ScAtacFormer`."""

    @classmethod
    def load_query_data(
        cls,
        adata: AnnData | MuData,
        reference_model: str | os.PathLike | QueryMixin,
        accelerator: str = "auto",
        device: int | str = "auto",
        unfrozen: bool = False,
        inplace_subset_query_vars: bool = False,
    ):
        """A model for new cells with the weights of the reference (scArches).

        New batches get a bias of their own, initialised from the frequencies of their regions. The model is ready to
        embed; :meth:`train` fits only these biases, so that the embedding of the reference's cells stays
        bit-identical. ``unfrozen=True``: training continues for all weights.

        Parameters
        ----------
        adata
            Cells x the reference's regions; see :meth:`prepare_query_anndata`. Or a MuData, in which cells may lack
            RNA.
        reference_model
            A trained model, or the folder that it was saved to.
        inplace_subset_query_vars
            Call :meth:`prepare_query_anndata` on ``adata`` first.
        """
        return cls._of_new_cells(adata, reference_model, accelerator, device, unfrozen, inplace_subset_query_vars)

    @classmethod
    def from_atac_model(
        cls,
        atac_model: str | os.PathLike | QueryMixin,
        mdata: MuData,
        rna_layer: str | None = None,
        atac_layer: str | None = None,
        modalities: dict[str, str] | None = None,
        accelerator: str = "auto",
        device: int | str = "auto",
    ):
        """A model of pairs that starts from a model of ATAC only, trained on these or other cells.

        It uses the embedding and the decoder of ``atac_model``; :meth:`train_pairs` then trains the network of pairs.
        Batches are those of its ``batch_key``; new ones get a bias of their own, as in :meth:`load_query_data`.

        Parameters
        ----------
        atac_model
            A trained model, or the folder that it was saved to.
        mdata
            Paired cells on the model's regions.
        rna_layer, atac_layer, modalities
            As in :meth:`setup_mudata`.

        Raises
        ------
        ValueError
            As :meth:`setup_mudata` and :meth:`load_query_data`.
        """
        setup = {"rna_layer": rna_layer, "atac_layer": atac_layer, "modalities": modality_names(modalities)}
        model = cls._of_new_cells(mdata, atac_model, accelerator, device, True, False, setup)
        model._need_pairs()
        return model

    @staticmethod
    def prepare_query_anndata(
        adata: AnnData,
        reference_model: str | os.PathLike | QueryMixin,
        return_reference_var_names: bool = False,
        inplace: bool = True,
    ) -> AnnData | pd.Index | None:
        """Map the regions of ``adata`` to those of the model, in its order; always sparse.

        Regions are matched by chromosome, start and end. Those that the model lacks are left out, those that ``adata``
        lacks are closed. For regions with other ends use ``scatacformer.pp.match_vocabulary``.

        ``inplace`` changes ``adata`` and returns None; else a new AnnData is returned. ``return_reference_var_names``
        returns the model's region names instead, and changes nothing.

        Raises ValueError if no region of ``adata`` is in the model; warns about those that are left out.
        """
        import anndata
        import pandas as pd

        vocabulary = _vocabulary_of(reference_model)
        if return_reference_var_names:
            return pd.Index(vocabulary.names)
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
                stacklevel=2,
            )
        var = vocabulary.to_frame()
        known = adata.var.drop(columns=[c for c in adata.var if c in var])
        known = known.set_axis(vocabulary.names[np.where(at >= 0, at, 0)])[at >= 0]
        var = var.join(known)
        new = anndata.AnnData(
            _in_columns(adata.X, at, vocabulary.n_bins),
            obs=adata.obs.copy(),
            var=var,
            uns=dict(adata.uns),
            obsm=dict(adata.obsm),
            # anndata 0.13 includes X in the layers, as None
            layers={k: _in_columns(v, at, vocabulary.n_bins) for k, v in adata.layers.items() if k is not None},
        )
        if not inplace:
            return new
        replace_content(adata, new)
        return None

    @classmethod
    def _of_new_cells(
        cls, adata, reference_model, accelerator, device, unfrozen, inplace_subset_query_vars, setup=None
    ):
        """:meth:`load_query_data`; ``setup`` describes how to read a MuData if the reference was made of an AnnData."""
        if isinstance(reference_model, QueryMixin):
            model = reference_model
        else:
            model = cls.load(reference_model, adata=False, accelerator="cpu")
        registry, init, attributes = model.registry_, constructor_arguments(model), vars(model)
        weights = {k: v.detach().cpu() for k, v in model.module.state_dict().items()}
        if (table := model._dna_table()) is not None:
            init = init | {"dna": table}
        if not model.is_trained_:
            raise ValueError("the reference model is not trained. Call its train() first.")
        query_kwargs = {"extend_categories": True, "allow_missing_labels": True}
        if init.get("supervised"):
            query_kwargs["fixed_labels"] = True  # a head has as many outputs as it was trained on
        if is_mudata(adata):
            if inplace_subset_query_vars:
                raise ValueError(
                    "inplace_subset_query_vars is set for a MuData, which is not modified. Map its ATAC to the model's regions before."
                )
            cls._set_up_as(adata, setup or attributes.get("mudata_setup_"), registry, **query_kwargs)
        else:
            if inplace_subset_query_vars:
                cls.prepare_query_anndata(adata, model)
            set_up_like(cls, registry, adata, **query_kwargs)
        query = cls(adata, **init, region_classes=model.region_classes)
        if model.config_.d_dna:
            query.dna_ = model.dna_
        if model.paired is not None:
            query._restore_pairs(attributes, model.paired.state_dict())
        n_known = weights["decoder.bias.weight"].shape[1]
        weights["decoder.bias.weight"] = query._with_new_batches(weights["decoder.bias.weight"])
        # the shift of a new batch is unknown: nothing is subtracted
        for name in ("batch_shift", "local_shift"):
            shift = torch.zeros(query.config_.n_batch, *weights[name].shape[1:])
            shift[:n_known] = weights[name]
            weights[name] = shift
        query.module.load_state_dict(weights)
        query.seed_ = attributes["seed_"]
        query.labels_fitted_ = list(attributes.get("labels_fitted_", []))
        query.is_trained_, query.embedding_only_ = True, model.embedding_only_
        new = tuple(range(n_known, query.config_.n_batch))
        query.trainable_ = (Trainable("trained") if unfrozen else Trainable("query", new_batches=new)).to_dict()
        query.to_device(pick_device(accelerator, device))
        query.module.eval()
        return query

    def _with_new_batches(self, bias: torch.Tensor) -> torch.Tensor:
        """The bias (n_bins, n_batch) with a column for each new batch: its regions' log-odds, shrunk towards those of
        the known batches."""
        n_known, n_batch = bias.shape[1], self.config_.n_batch
        if n_known == n_batch:
            return bias
        source, codes = self._source(self.adata), self._batch_codes(self.adata)
        n_open, n_cells = open_by_batch(source, codes, n_batch)
        # the known batches are weighted as cells with the model's frequencies
        weight = 10.0 * max(n_cells.sum(), 1.0)
        n_open[:n_known] += weight / n_known * torch.sigmoid(bias).numpy().T
        n_cells[:n_known] += weight / n_known
        return torch.cat([bias, torch.from_numpy(log_odds(n_open, n_cells)[n_known:]).T], 1)


def _vocabulary_of(reference_model) -> Vocabulary:
    if isinstance(reference_model, QueryMixin):
        return reference_model.vocabulary
    vocabulary = read_folder(reference_model, "ScAtacFormer").vocabulary
    assert vocabulary is not None  # always set by this class
    return vocabulary


def _in_columns(matrix, at: np.ndarray, n_bins: int) -> sp.csr_matrix | None:
    if matrix is None:
        return None
    source = RowSource.from_matrix(matrix, columns=at, n_bins=n_bins)
    indptr, bins, counts = source.rows(np.arange(source.n_cells), counts=True)
    # copies, because the user's arrays must not be sorted or shared
    out = sp.csr_matrix((counts, bins, indptr), shape=(source.n_cells, n_bins), copy=True)
    out.sort_indices()
    return out
