"""What every part of :class:`~scatacformer.ScAtacFormer` reads of the model, and nothing that it does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scvi import REGISTRY_KEYS

from scatacformer.cells import RowSource
from scatacformer.model._scvi import BaseModelClass, categories

from ._reader import Encodings, Reader

if TYPE_CHECKING:
    import torch
    from anndata import AnnData
    from torch import Tensor

    from scatacformer.genome import RegionClasses, Vocabulary
    from scatacformer.nn import NetworkConfig, PairedNetwork, ScAtacNetwork


PAIRED = "paired."  # begin of the names of the weights of the network of pairs


class ModelBase(BaseModelClass):
    """scvi-tools' base class with the attributes of a ScAtacFormer, and the cells of an AnnData as it reads them."""

    module: ScAtacNetwork
    paired: PairedNetwork | None = None  # encoders of RNA, after pairs were trained
    config_: NetworkConfig
    vocabulary_: Vocabulary
    registry_: dict[str, Any]
    seed_: int
    is_trained_: bool
    embedding_only_: bool = False  # nothing but the embedding was fitted
    trainable_: dict[str, Any]
    labels_fitted_: list[str]
    history_: dict[str, Any] | None
    genes_: dict[str, Any]
    dna_: dict[str, Any] | None
    mudata_setup_: dict[str, Any]
    paired_config_: dict[str, Any]
    links_config_: dict[str, Any] | None
    matching_: dict[str, float]
    train_indices_: np.ndarray | None
    validation_indices_: np.ndarray | None
    test_indices_: np.ndarray | None
    eos_names_: list[str]
    _region_classes: RegionClasses | None
    _kept: Encodings
    _decoder_epochs: int = 0

    def to_device(self, device: str | int | torch.device) -> None:
        """Move the weights to a device.

        Parameters
        ----------
        device
            ``"cpu"``, ``"cuda:0"``, a number of a GPU, or a ``torch.device``.
        """
        super().to_device(device)
        if self.paired is not None:
            self.paired.to(self.module.device)

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
