"""Paired RNA: one space for both modalities, and expression from chromatin alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from scatacformer.cells import log_normalised
from scatacformer.model.scatacformer._base import ModelBase
from scatacformer.nn import LinkAttention, LinkConfig, PairedConfig, PairedNetwork
from scatacformer.training import History

from ._fit_pairs import CELLS_AT_ONCE, PairedInputs, PairedOptions, fit_pairs, ragged

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd
    from anndata import AnnData
    from torch import Tensor

    from scatacformer.cells import PairedCells
    from scatacformer.model.scatacformer._mudata import Asked

MODALITIES = ("joint", "expression", "accessibility")


class PairedMixin(ModelBase):
    """Methods of a model of a MuData, in addition to those of a model of an AnnData."""

    def train_pairs(
        self,
        max_epochs: int = 60,
        batch_size: int = 256,
        lr: float = 1e-3,
        weight_decay: float = 1e-2,
        temperature: float = 0.1,
        pairing: str = "same",
        n_components: int = 30,
        n_latent: int = 32,
        dropout: float = 0.3,
        early_stopping_patience: int = 8,
        link_window: int | None = 1_200_000,
        train_size: float | None = None,
        validation_size: float | None = None,
        datasplitter_kwargs: dict[str, Any] | None = None,
        enable_progress_bar: bool = True,
    ) -> None:
        """Train the joint embedding of RNA and ATAC, and the prediction of expression from chromatin.

        Called by :meth:`train`. Called directly, it needs a model with a trained ATAC part, such as one from
        :meth:`from_atac_model`. Each modality has a teacher (RNA: the sum of its genes' vectors, by attention; ATAC:
        the transformer's embedding) and a student (a linear map of the counts). They start from the canonical
        correlations of the embedding with the components of expression, and are trained by NT-Xent of matched cells
        (Chen et al. 2020; Yang et al. 2025). Predictors of expression read the embedding of chromatin alone. The
        weights of the best epoch for held-out pairs are kept. The ATAC embedding itself does not change.

        Parameters
        ----------
        max_epochs, batch_size, lr, weight_decay
            Maximum number of epochs, cells per step, and learning rate and weight decay of AdamW. ``max_epochs=0``: the
            closed form.
        temperature
            Temperature of NT-Xent.
        pairing
            Pairs of encoders that are aligned: ``"same"`` (teacher with teacher, student with student), ``"crossed"``
            (teacher with student of the other modality), ``"within"`` (teacher with student of the same modality).
        n_components, n_latent
            Number of components of expression, and maximum number of dimensions of each encoder's output.
        dropout
            Dropout of the heads.
        early_stopping_patience
            Training stops when the held-out loss has not decreased for this many epochs.
        link_window
            If ``rna.var`` has the positions of the genes: maximum distance in bp of the bins that a gene attends to,
            which distinguishes cells in the same state and improves the predicted expression. None: no attention.
        train_size, validation_size, datasplitter_kwargs
            As in :meth:`train`: training and held-out cells.

        Raises
        ------
        ValueError
            The model is not of a MuData, or its ATAC part is not trained; sizes out of range; no held-out cells; the
            model is a frozen query of one that was trained on pairs.
        FloatingPointError
            The loss is not finite.

        If an error is raised, the model is unchanged. Ctrl-C ends the training with a warning, and the best weights are
        kept.
        """
        options = PairedOptions(
            max_epochs, batch_size, lr, weight_decay, temperature, pairing, n_components, n_latent, dropout,
            early_stopping_patience, link_window,
        )  # fmt: skip
        cells = self._need_pairs()
        if not self.is_trained_:
            raise ValueError("the ATAC part is not trained. Call train(), or create the model with from_atac_model().")
        if self._trainable().frozen and self.paired is not None:
            raise ValueError(
                "a query keeps the pairs' weights of its reference. To continue training them, load_query_data(..., unfrozen=True)."
            )
        self._check_decoder()
        split = self._split(len(cells.rna_row), train_size, validation_size, True, True, datasplitter_kwargs)
        self._fit_pairs(options, split, enable_progress_bar)
        self.train_indices_, self.validation_indices_, self.test_indices_ = split

    def _fit_pairs(self, options: PairedOptions, split: tuple[np.ndarray, ...], progress: bool) -> None:
        cells = self._need_pairs()
        train, held_out = split[0], split[1]
        if len(held_out) < 2:  # a pair is compared with others
            rows = np.random.default_rng(self.seed_).permutation(np.concatenate([train, held_out]))
            n_held_out = max(len(rows) // 10, 2)
            train, held_out = np.sort(rows[n_held_out:]), np.sort(rows[:n_held_out])
        rows = np.concatenate([train, held_out])
        inputs = PairedInputs(
            counts=cells.expression(rows), teacher=self._chromatin(self.adata, rows, None)[0],
            source=self._source(self.adata), rows=rows,
            bin_weight=self.module.embedding.norm_weight.detach().cpu().double().sqrt().numpy(),
            batch=self._batch_codes(self.adata)[rows], n_batch=self.config_.n_batch, n_train=len(train),
        )  # fmt: skip
        network, outcome = fit_pairs(inputs, options, self.seed_, progress)
        # at the end, so that a training that fails or is interrupted leaves the model unchanged
        self.paired = network.to(self.module.device)
        self.paired_config_ = network.config.to_dict()
        self.genes_, self.links_config_, self.matching_ = _genes_of(cells), None, {}
        self._add_history(outcome.history.record)
        if options.link_window is not None and "tss" in self.genes_:
            self._fit_links(rows, len(train), options.link_window, n_epochs=0 if outcome.stopped else 10)

    @torch.inference_mode()
    def _paired_latent(self, asked: Asked, modality: str | None, batch_size: int | None) -> np.ndarray:
        """:meth:`get_latent_representation` of a model of pairs."""
        network, (adata, rows, cells) = self._need_network(), asked
        with_rna = np.zeros(len(rows), bool) if cells is None or cells.rna is None else cells.has_rna[rows]
        modality = modality or ("joint" if with_rna.any() else "accessibility")
        if modality == "expression" and not with_rna.all():
            raise ValueError(
                f"{int((~with_rna).sum()):,} of {len(rows):,} cells have no RNA. Use modality='accessibility', or "
                "'joint', which is that of the measured modality for cells that lack one."
            )
        out = np.zeros((len(rows), 2 * network.config.d_latent), np.float32)
        if modality != "expression":
            teacher, student = self._chromatin(adata, rows, batch_size)
            out += self._atac_latent(teacher, student)
        if modality != "accessibility" and cells is not None and with_rna.any():
            out[with_rna] += self._rna_latent(adata, cells, rows[with_rna])
        return out / np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-12)

    @torch.inference_mode()
    def _rna_latent(self, adata: AnnData, cells: PairedCells, rows: np.ndarray) -> np.ndarray:
        network, columns = self._need_network(), gene_columns(cells, self.genes_["name"])
        codes, parts = self._batch_codes(adata), []
        for first in range(0, len(rows), CELLS_AT_ONCE):
            part = rows[first : first + CELLS_AT_ONCE]
            # normalised by all measured genes, then restricted to those of the model
            values = log_normalised(cells.expression(part), float(network.genes.target)) @ columns
            places, counts, cell = (t.to(self.module.device) for t in ragged(values.tocsr()))
            batch = torch.from_numpy(codes[part]).to(self.module.device)
            teacher, student = (
                network.rna_inputs(places, counts, cell, batch, attention) for attention in (True, False)
            )
            parts.append(network.joined(teacher, student, "rna").cpu().numpy())
        return np.concatenate(parts)

    @torch.inference_mode()
    def _atac_latent(self, teacher: np.ndarray, student: np.ndarray) -> np.ndarray:
        network, device, parts = self._need_network(), self.module.device, []
        for first in range(0, len(teacher), CELLS_AT_ONCE):
            part = slice(first, first + CELLS_AT_ONCE)
            z, guess = (torch.from_numpy(x[part]).to(device) for x in (teacher, student))
            parts.append(network.joined(network.atac_inputs(z), guess, "atac").cpu().numpy())
        return np.concatenate(parts) if parts else np.empty((0, 2 * network.config.d_latent), np.float32)

    @torch.inference_mode()
    def _chromatin(self, adata: AnnData, rows: np.ndarray, batch_size: int | None) -> tuple[np.ndarray, np.ndarray]:
        """The transformer's embedding of cells (n_cells, d_embed), and the input of the ATAC student, if there is
        one."""
        teacher, student, paired = [], [], self.paired
        for batch in self._reader(adata).minibatches(rows, batch_size):
            teacher.append(self.module.embed(batch).float().cpu().numpy())
            guess = (
                torch.zeros(len(batch["batch"]), 0)
                if paired is None
                else paired.bins(batch["bins"], batch["cu_seqlens"])
            )
            student.append(guess.cpu().numpy())
        empty = [np.empty((0, self.config_.d_embed), np.float32)]
        return np.concatenate(teacher or empty), np.concatenate(student or empty)

    def _need_pairs(self) -> PairedCells:
        cells = self._cells_of(None)
        if cells is None or cells.rna is None:
            raise ValueError(
                "the model was created from ATAC alone. For paired RNA, call ScAtacFormer.setup_mudata(mdata), then "
                "ScAtacFormer(mdata), or ScAtacFormer.from_atac_model(model, mdata)."
            )
        if not cells.has_rna.all():
            raise ValueError(
                f"{int((~cells.has_rna).sum()):,} of {len(cells.rna_row):,} cells have no RNA; expected RNA for all cells in "
                "training. Cells without RNA can be used in a query."
            )
        return cells

    def _need_network(self) -> PairedNetwork:
        if self.paired is None:
            raise ValueError(
                "the model was not trained on pairs. Create it from a MuData (setup_mudata) and call train() or train_pairs()."
            )
        return self.paired

    def _restore_pairs(self, attributes: Mapping[str, Any], weights: Mapping[str, Tensor]) -> None:
        """The network of pairs of a saved or other model: none without a ``paired_config_``."""
        if attributes.get("paired_config_") is None:
            return
        self.paired = pairs_network(attributes["paired_config_"], attributes.get("links_config_"))
        self.paired.load_state_dict(weights)
        self.links_config_, self.matching_ = attributes.get("links_config_"), dict(attributes.get("matching_", {}))
        self.paired_config_, self.genes_ = dict(attributes["paired_config_"]), dict(attributes["genes_"])
        if "mudata_setup_" in attributes and self._mdata is None:
            self.mudata_setup_ = attributes["mudata_setup_"]

    def _add_history(self, record: dict[str, dict[int, float]]) -> None:
        """Add metrics by epoch to ``history``; those with the same names are replaced."""
        self.history_ = {**(self.history_ or {}), **History(record).frames()}


def pairs_network(config: Mapping[str, Any], links: Mapping[str, Any] | None) -> PairedNetwork:
    """A network of these sizes, in evaluation mode, whose weights are still to be loaded."""
    network = PairedNetwork(PairedConfig(**config))
    network.links = None if links is None else LinkAttention(LinkConfig(**links))
    return network.eval()


def gene_table(cells: PairedCells) -> pd.DataFrame:
    """``rna.var`` of cells that have RNA."""
    assert cells.genes is not None
    return cells.genes


def _genes_of(cells: PairedCells) -> dict[str, list]:
    """Names of the model's genes, and their positions if known."""
    import warnings

    from scatacformer.genome import Genes

    names = [str(name) for name in gene_table(cells).index]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            genes = Genes.from_var(gene_table(cells))
    except ValueError:  # positions can be given later, from a GTF file
        return {"name": names}
    chrom = [genes.chrom_names[c] if c >= 0 else None for c in genes.chrom]
    return {"name": names, "chrom": chrom, "tss": genes.tss.tolist(), "strand": [str(s) for s in genes.strand]}


def gene_columns(cells: PairedCells, names: list[str]):
    """Matrix that maps the genes of ``cells`` to those of the model, by name.  (n_genes of the cells, n_genes)"""
    import warnings

    import pandas as pd
    import scipy.sparse as sp

    at = pd.Index(names).get_indexer([str(name) for name in gene_table(cells).index])
    found = np.flatnonzero(at >= 0)
    if len(found) < len(names):
        if not len(found):
            raise ValueError(
                f"none of the {len(at):,} genes of the RNA is one of the model's {len(names):,} (first: "
                f"{gene_table(cells).index[0]} and {names[0]}). Use the same names, symbols or ids."
            )
        warnings.warn(
            f"{len(names) - len(found):,} of the model's {len(names):,} genes are missing in the RNA and count as not "
            "expressed",
            UserWarning,
            stacklevel=5,
        )
    ones = np.ones(len(found), np.float32)
    return sp.csr_matrix((ones, (found, at[found])), shape=(len(at), len(names)))
