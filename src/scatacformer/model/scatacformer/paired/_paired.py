"""``train_pairs`` and the getters of a model of pairs: RNA and ATAC of the same cells."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from scatacformer.cells import NoEvidence
from scatacformer.genome import NoCommonChromosome
from scatacformer.model.scatacformer._base import ModelBase
from scatacformer.model.scatacformer._data import split_of
from scatacformer.model.scatacformer._mudata import Asked
from scatacformer.nn import LinkAttention, LinkConfig, PairedConfig, PairedNetwork

from ._fit_pairs import PairedInputs, PairedOptions, fit_pairs
from ._genes import gene_numbers, gene_table, genes_of, positions
from ._links import Candidates, fitted_links, linked, matching_logits
from ._reader import PairsReader, chromatin

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from mudata import MuData
    from torch import Tensor

    from scatacformer.cells import PairedCells
    from scatacformer.genome import Genes

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
        split = split_of(
            len(cells.rna_row), train_size, validation_size, True, True, self.seed_, datasplitter_kwargs, self._own_rows
        )
        self._fit_pairs(options, split, enable_progress_bar)
        self.train_indices_, self.validation_indices_, self.test_indices_ = split

    def predict_expression(
        self,
        adata: AnnData | MuData | None = None,
        indices: Sequence[int] | np.ndarray | None = None,
        gene_list: Sequence[str] | None = None,
        batch_size: int | None = None,
        return_std: bool = False,
        return_numpy: bool = False,
    ) -> pd.DataFrame | np.ndarray | tuple[pd.DataFrame | np.ndarray, pd.DataFrame | np.ndarray]:
        """Expression predicted from chromatin alone: log(1 + counts per 10,000), natural logarithm.

        RNA is not read, whether it is there or not. (n_cells, n_genes) float32, a DataFrame or with ``return_numpy`` an
        array; with ``return_std`` also the standard deviation of the measured value about it: that of held-out cells,
        and the disagreement of the predictors.

        Parameters
        ----------
        adata
            Cells x the model's regions, AnnData or MuData. Default: the cells of the model.
        indices
            Cells, in the order of the result. Default: all.
        gene_list
            Genes, in the order of the result. Default: all genes of the model.

        Raises
        ------
        ValueError
            The model was not trained on pairs; unknown genes.
        """
        self._need_network()
        asked = self._asked(adata, indices)
        mean, std = self._predicted(asked, gene_list, batch_size, return_std)
        if return_numpy:
            mean, std = mean.to_numpy(), None if std is None else std.to_numpy()
        return mean if std is None else (mean, std)

    def chromatin_potential(
        self,
        mdata: MuData | None = None,
        indices: Sequence[int] | np.ndarray | None = None,
        gene_list: Sequence[str] | None = None,
        scaling: Literal["zscore", "minmax", "none"] = "zscore",
        batch_size: int | None = None,
    ) -> pd.DataFrame:
        """Predicted minus measured expression: positive where chromatin precedes transcription (Yang et al. 2025).

        The difference between :meth:`predict_expression` and the measured log(1 + counts per 10,000), after scaling
        each gene of both over the given cells:

        - ``"zscore"``: minus the mean, divided by the standard deviation; robust to single cells.
        - ``"minmax"``: to 0 ... 1 by its extremes, as in the paper; for rare genes it depends on single counts.
        - ``"none"``: unscaled.

        Genes that do not vary are 0 in both. (n_cells, n_genes) float32 DataFrame, dense: request only the genes that
        you need.

        Parameters
        ----------
        mdata
            Cells with RNA. Default: the cells of the model.
        indices, gene_list, batch_size
            As in :meth:`predict_expression`.

        Raises
        ------
        ValueError
            The model was not trained on pairs; cells without RNA; unknown genes; an unknown scaling.
        """
        if scaling not in ("zscore", "minmax", "none"):
            raise ValueError(f"scaling is {scaling!r}; expected 'zscore', 'minmax' or 'none'.")
        self._need_network()
        asked = self._asked(self._mdata if mdata is None else mdata, indices)
        cells, rows = asked.cells, asked.rows
        if cells is None or cells.rna is None or not cells.has_rna[rows].all():
            raise ValueError("some cells have no RNA; expected RNA for every cell, with which chromatin is compared.")
        reader = self._pairs_reader(asked)
        predicted, _ = self._predicted(asked, gene_list, batch_size)
        measured = reader.gene_values(rows)[:, gene_numbers(list(predicted.columns), reader.genes)]
        predicted.iloc[:, :] = _scaled(predicted.to_numpy(), scaling) - _scaled(measured.toarray(), scaling)
        return predicted

    def modality_distance(
        self, mdata: MuData | None = None, indices: Sequence[int] | np.ndarray | None = None
    ) -> np.ndarray:
        """1 - cosine of a cell's RNA and ATAC in the joint space: large if one precedes the other.  (n_cells,) float32,
        0 to 2

        Raises ValueError for a model that was not trained on pairs and for cells without RNA.
        """
        self._need_network()
        asked = self._asked(self._mdata if mdata is None else mdata, indices)
        return self._pairs_reader(asked).distance(asked.rows)

    def get_gene_bin_links(
        self,
        window: int = 1_200_000,
        gene_list: Sequence[str] | None = None,
        genes: Genes | None = None,
        indices: Sequence[int] | np.ndarray | None = None,
        max_q: float | None = None,
    ) -> pd.DataFrame:
        """Links between genes and bins: scores of all pairs of a gene and a bin within ``window`` bp of its start.

        ``score`` is -log(1 - pi), pi the probability that the two are linked: the attention of the gene to the bin,
        which was trained to distinguish the ATAC of a cell from that of others. It increases with the association of
        the two within and between cell states (formulas in ``scatacformer.cells.link_evidence``); the distance is not
        used. ``p`` is the share of background pairs, with bins far away or on other chromosomes, that have at least as
        much evidence, among bins of similar frequency and standardised per gene; ``q`` is adjusted by Benjamini and
        Hochberg. If the RNA of the cells is permuted, pairs in the window are like the background.

        Parameters
        ----------
        window
            Maximum distance from the transcription start site to either side, in bp.
        gene_list
            Genes to report; the weights of the evidence use all genes. Default: all with a known position.
        genes
            Positions of the genes, such as ``Genes.from_gtf("gencode.gtf.gz", mdata["rna"].var_names)``. Default: those
            in ``rna.var``.
        indices
            Cells of the model's MuData for the evidence. Default: all.
        max_q
            Leave out pairs with a larger q.

        Returns
        -------
        DataFrame with the columns gene, region, chrom, start, end, tss, strand, distance (bp, negative upstream),
        score, p, q, n_cells (number of cells in which the bin is open); a row for each pair whose bin is open in at
        least 1 % of the cells and in at least 10. See ``scatacformer.tl.links_to_mudata`` and its siblings, and
        ``scatacformer.pl.links``.

        Raises
        ------
        ValueError
            The model was not trained on pairs; no gene with a known position near a bin; unknown genes.
        """
        self._need_network()
        kept, names = self._kept_genes(), [str(name) for name in gene_table(self._need_pairs()).index]
        if names != kept["name"]:
            raise ValueError(
                "the genes of the MuData differ from those that the model was trained on. Use the same MuData."
            )
        candidates, reported = Candidates(positions(kept, genes), self.vocabulary_, window), None
        if gene_list is not None:
            gene_numbers(gene_list, names)
            reported = np.isin(np.array(names, dtype=object), list(gene_list))
        asked = self._asked(None, indices)
        return linked(self._pairs_reader(asked), candidates, np.sort(asked.rows), reported, max_q)

    def get_matching_logits(
        self,
        rna_indices: Sequence[int] | np.ndarray,
        atac_indices: Sequence[int] | np.ndarray,
        mdata: MuData | None = None,
        gene_list: Sequence[str] | None = None,
    ) -> np.ndarray:
        """Logit that the RNA of one cell and the ATAC of another are of the same cell.  (n_rna, n_atac) float32

        It combines the similarity in the joint space with the prediction of each gene's expression from its linked bins
        beyond the state of the ATAC's cell. ``gene_list``: use only these genes. ``model.matching_`` has the accuracy
        for held-out cells.

        Raises ValueError for a model that was not trained on pairs or has no positions of genes.
        """
        links = self._need_network().links
        if links is None:
            raise ValueError(
                "the model has no links, because rna.var had no positions of genes (chrom, tss, strand). Add them and train again."
            )
        data = self._mdata if mdata is None else mdata
        asked, atac = self._asked(data, rna_indices), self._asked(data, atac_indices).rows
        reader = self._pairs_reader(asked)
        at = None if gene_list is None else gene_numbers(gene_list, reader.genes)
        return matching_logits(reader, links, asked.rows, atac, at)

    # ── for other parts of the model ───────────────────────────────────────────────────────────────────────────────

    def _fit_pairs(self, options: PairedOptions, split: tuple[np.ndarray, ...], progress: bool) -> None:
        cells = self._need_pairs()
        train, held_out = split[0], split[1]
        if len(held_out) < 2:  # a pair is compared with others
            rows = np.random.default_rng(self.seed_).permutation(np.concatenate([train, held_out]))
            n_held_out = max(len(rows) // 10, 2)
            train, held_out = np.sort(rows[n_held_out:]), np.sort(rows[:n_held_out])
        rows, reader = np.concatenate([train, held_out]), self._reader(self.adata)
        inputs = PairedInputs(
            counts=cells.expression(rows), teacher=chromatin(reader, None, rows)[0], source=reader.source, rows=rows,
            bin_weight=self.module.embedding.norm_weight.detach().cpu().double().sqrt().numpy(),
            batch=reader.batch_codes[rows], n_batch=self.config_.n_batch, n_train=len(train),
        )  # fmt: skip
        network, outcome = fit_pairs(inputs, options, self.seed_, progress)
        # at the end, so that a training that fails or is interrupted leaves the model unchanged
        self.paired = network.to(self.module.device)
        self.paired_config_ = network.config.to_dict()
        self.genes_, self.links_config_, self.matching_ = genes_of(cells), None, {}
        self._add_history(outcome.history.record)
        if options.link_window is not None and "tss" in self.genes_:
            self._fit_links(rows, len(train), options.link_window, n_epochs=0 if outcome.stopped else 10)

    def _fit_links(self, rows: np.ndarray, n_train: int, window: int, n_epochs: int) -> None:
        """The attention of genes to bins; without evidence, a warning: pairs do without."""
        network, asked = self._need_network(), Asked(self.adata, rows, self._need_pairs())
        try:
            candidates = Candidates(positions(self._kept_genes()), self.vocabulary_, window)
            links, self.matching_ = fitted_links(self._pairs_reader(asked), candidates, rows, n_train, n_epochs)
        except (NoEvidence, NoCommonChromosome) as error:  # of these cells and genes; any other error is one
            warnings.warn(f"genes do not attend to bins: {error}", UserWarning, stacklevel=4)
            return
        network.links = links.to(self.module.device)
        self.links_config_ = links.config.to_dict()

    def _pairs_reader(self, asked: Asked) -> PairsReader:
        return PairsReader(self._reader(asked.adata), self._need_network(), self._kept_genes()["name"], asked.cells)

    def _predicted(
        self, asked: Asked, gene_list: Sequence[str] | None, batch_size: int | None, return_std: bool = False
    ) -> tuple[pd.DataFrame, pd.DataFrame | None]:
        """Mean and, if requested, standard deviation of :meth:`predict_expression`, cells x genes."""
        import pandas as pd

        reader = self._pairs_reader(asked)
        at = None if gene_list is None else gene_numbers(gene_list, reader.genes)
        mean, std = reader.expression(asked.rows, at, batch_size, return_std)
        columns = pd.Index(reader.genes if gene_list is None else list(gene_list))
        frame = pd.DataFrame(mean, index=asked.adata.obs_names[asked.rows], columns=columns)
        return frame, None if std is None else pd.DataFrame(std, index=frame.index, columns=columns)

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

    def _kept_genes(self) -> dict[str, Any]:
        assert self.genes_ is not None  # with the network of pairs
        return self.genes_

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


def pairs_network(config: Mapping[str, Any], links: Mapping[str, Any] | None) -> PairedNetwork:
    """A network of these sizes, in evaluation mode, whose weights are still to be loaded."""
    network = PairedNetwork(PairedConfig(**config))
    network.links = None if links is None else LinkAttention(LinkConfig(**links))
    return network.eval()


def _scaled(x: np.ndarray, scaling: str) -> np.ndarray:
    """Each column on its own scale; zero where it does not vary."""
    if scaling == "none":
        return x
    low, spread = (x.mean(0), x.std(0)) if scaling == "zscore" else (x.min(0), x.max(0) - x.min(0))
    return np.where(spread > 1e-6, (x - low) / np.maximum(spread, 1e-6), 0.0).astype(np.float32)
