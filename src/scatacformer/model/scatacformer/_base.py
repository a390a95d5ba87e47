"""What every part of :class:`~scatacformer.ScAtacFormer` builds on: its attributes, and the cells that are read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scvi import REGISTRY_KEYS

from scatacformer.cells import RowSource
from scatacformer.model._fields import note_regions, refuse_changed
from scatacformer.model._rows import row_numbers
from scatacformer.model._scvi import BaseModelClass, categories, scvi_silent
from scatacformer.training import History

from ._mudata import Asked, check_unchanged, default_setup, is_mudata, pairs_of, set_up_pairs
from ._reader import Encodings, Reader
from ._trainable import Trainable

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from anndata import AnnData
    from mudata import MuData
    from torch import Tensor

    from scatacformer.cells import PairedCells
    from scatacformer.genome import RegionClasses, Vocabulary
    from scatacformer.nn import NetworkConfig, PairedNetwork, ScAtacNetwork

PAIRED = "paired."  # the names of the weights of the network of pairs begin with it


class ModelBase(BaseModelClass):
    """The networks and the attributes of a ScAtacFormer; the cells of an AnnData or a MuData as its methods read them.

    The attributes that are saved are those of :class:`~._state.State`.
    """

    module: ScAtacNetwork
    paired: PairedNetwork | None = None  # encoders of RNA, after pairs were trained
    config_: NetworkConfig
    vocabulary_: Vocabulary
    seed_: int
    eos_names_: list[str]
    embedding_only_: bool = False  # nothing but the embedding was fitted
    trainable_: dict[str, Any]
    history_: dict[str, Any] | None
    train_indices_: np.ndarray | None
    validation_indices_: np.ndarray | None
    test_indices_: np.ndarray | None
    labels_fitted_: list[str]
    dna_: dict[str, Any] | None = None
    pretrained_on_: dict[str, Any] | None = None
    mudata_setup_: dict[str, Any] | None = None
    paired_config_: dict[str, Any] | None = None
    links_config_: dict[str, Any] | None = None
    genes_: dict[str, Any] | None = None
    matching_: dict[str, float]
    _region_classes: RegionClasses | None
    _kept: Encodings
    _decoder_epochs: int = 0  # of the last training, for the plot of its losses
    _mdata: MuData | None = None
    _pairs: PairedCells | None = None

    @property
    def mdata(self) -> MuData | None:
        """The MuData of the model; None for a model of ATAC only."""
        return self._mdata

    @property
    def train_indices(self) -> np.ndarray | None:
        """Row numbers of the training cells."""
        return self._numbers(self.train_indices_)

    @train_indices.setter
    def train_indices(self, value: np.ndarray | None) -> None:
        self.train_indices_ = value

    @property
    def validation_indices(self) -> np.ndarray | None:
        """Row numbers of the held-out cells."""
        return self._numbers(self.validation_indices_)

    @validation_indices.setter
    def validation_indices(self, value: np.ndarray | None) -> None:
        self.validation_indices_ = value

    @property
    def test_indices(self) -> np.ndarray | None:
        """Row numbers of the cells that are neither training nor held-out cells."""
        return self._numbers(self.test_indices_)

    @test_indices.setter
    def test_indices(self, value: np.ndarray | None) -> None:
        self.test_indices_ = value

    def to_device(self, device: str | int | torch.device) -> None:
        """Move the weights to a device.

        Parameters
        ----------
        device
            ``"cpu"``, ``"cuda:0"``, the number of a GPU, or a ``torch.device``.
        """
        super().to_device(device)
        if self.paired is not None:
            self.paired.to(self.module.device)

    # ── cells ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _take(self, data: AnnData | MuData | None) -> AnnData | None:
        """The AnnData registered with scvi-tools: the one around a MuData, or ``data`` itself."""
        if data is None or not is_mudata(data):
            return data
        self.mudata_setup_, self._pairs = set_up_pairs(data)
        self._mdata = data
        return self._pairs.atac

    def _asked(self, data: AnnData | MuData | None, indices: Sequence[int] | np.ndarray | None) -> Asked:
        """The cells given by ``indices``: row numbers in ``mdata.obs`` for a MuData, by default all with ATAC."""
        adata, cells = self._validate_anndata(data), self._cells_of(data)
        if cells is None:
            return Asked(adata, row_numbers(indices, adata.n_obs), None)
        if indices is None:
            return Asked(adata, cells.order[cells.order >= 0], cells)
        return Asked(adata, cells.rows_of(row_numbers(indices, len(cells.order))), cells)

    def _validate_anndata(self, adata: AnnData | MuData | None = None, **kwargs: Any) -> AnnData:
        if adata is None and self.adata is None:
            raise ValueError("the model has no cells (it was loaded with adata=False). Pass adata.")
        if adata is None and self._mdata is not None:
            self._cells_of(None)
        elif is_mudata(adata):
            cells = self._cells_of(adata)
            assert cells is not None
            adata = cells.atac
        found = self.adata if adata is None else adata
        if found.is_view and found.isbacked:  # scvi-tools would copy it, which anndata refuses
            raise ValueError(
                "adata is a view of an AnnData on disk. Pass the AnnData itself and indices=, or read these cells: "
                "adata.to_memory()."
            )
        if (known := self.get_anndata_manager(found)) is not None and known.adata is found:
            refuse_changed(known, found)
        with scvi_silent():
            found = super()._validate_anndata(found, **kwargs)
        if known is None:
            note_regions(self.get_anndata_manager(found, required=True), found)
        return found

    def _cells_of(self, data: AnnData | MuData | None) -> PairedCells | None:
        """The pairs of ``data``; None for an AnnData, which has no RNA."""
        if data is None or data is self._mdata:
            if self._mdata is not None:
                assert self._pairs is not None
                check_unchanged(self._mdata, self._mudata_setup(), self._pairs)
            return self._pairs
        return pairs_of(data, self._mudata_setup(), self.registry_) if is_mudata(data) else None

    def _mudata_setup(self) -> dict[str, Any]:
        """How to read a MuData; for a model of ATAC only, by the default names."""
        return self.mudata_setup_ or default_setup(self.registry_)

    def _annotated(self, adata: AnnData | None) -> AnnData | None:
        """The object with the annotation of the regions: for a MuData, its ATAC modality."""
        return adata if self._mdata is None else self._mdata.mod[self._mudata_setup()["modalities"]["atac_layer"]]

    def _numbers(self, rows: np.ndarray | None) -> np.ndarray | None:
        """Row numbers of the model's cells for the user, in the order of its MuData."""
        if rows is None or self._pairs is None or len(rows) == 0 or np.max(rows) >= len(self._pairs.rna_row):
            return rows
        return self._pairs.numbers_of(np.asarray(rows))

    def _own_rows(self, numbers: np.ndarray) -> np.ndarray:
        """The inverse of :meth:`_numbers`."""
        return numbers if self._pairs is None else self._pairs.rows_of(numbers)

    def _source(self, adata: AnnData) -> RowSource:
        manager = self.get_anndata_manager(adata, required=True)
        return RowSource.from_matrix(manager.get_from_registry(REGISTRY_KEYS.X_KEY))

    def _batch_codes(self, adata: AnnData) -> np.ndarray:
        manager = self.get_anndata_manager(adata, required=True)
        return np.asarray(manager.get_from_registry(REGISTRY_KEYS.BATCH_KEY)).ravel().astype(np.int64)

    def _batch_names(self) -> list[str]:
        return [str(name) for name in categories(self.registry_, REGISTRY_KEYS.BATCH_KEY)]

    def _reader(self, adata: AnnData) -> Reader:
        return Reader(
            self.module, self._source(adata), self._batch_codes(adata), self.config_.max_tokens, self.seed_, self._kept
        )

    # ── weights ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _trainable(self) -> Trainable:
        """The parameters that the next training changes."""
        return Trainable.of(self.trainable_)

    def _check_decoder(self) -> None:
        """Raise an error for a model that is not trained, or of which only the embedding was fitted."""
        self._check_if_trained(warn=False)
        if self.embedding_only_:
            raise ValueError(
                "only the embedding of this model was fitted, by train(embedding_only=True); its decoder is not trained. "
                "Call train() first, which keeps the embedding."
            )

    def _weights(self) -> dict[str, Tensor]:
        """Name -> weight of both networks."""
        pairs = {} if self.paired is None else self.paired.state_dict()
        return self.module.state_dict() | {PAIRED + name: value for name, value in pairs.items()}

    def _n_parameters(self) -> int:
        parts = [self.module] if self.paired is None else [self.module, self.paired]
        return sum(p.numel() for part in parts for p in part.parameters())

    def _dna_table(self) -> Tensor | None:
        """The DNA table of the network, if it reads one."""
        dna = self.module.embedding.dna
        return None if dna is None else dna.table

    def _add_history(self, record: dict[str, dict[int, float]]) -> None:
        """Add metrics by epoch to ``history``; those with the same names are replaced."""
        self.history_ = {**(self.history_ or {}), **History(record).frames()}
