"""Links between genes and bins, and logits for the match of RNA and ATAC."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp
import torch

from scatacformer.cells import NoEvidence, benjamini_hochberg, log_normalised
from scatacformer.genome import Genes, NoCommonChromosome, links_table, window_pairs
from scatacformer.model.scatacformer._mudata import Asked
from scatacformer.nn import LinkAttention, LinkConfig

from ._expression import ExpressionMixin, gene_places
from ._fit_links import LinkInputs, compared, fit_links
from ._fit_pairs import CELLS_AT_ONCE
from ._paired import gene_columns, gene_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from anndata import AnnData
    from mudata import MuData


class LinkMixin(ExpressionMixin):
    """``get_gene_bin_links`` and ``get_matching_logits`` of :class:`~scatacformer.ScAtacFormer`."""

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
        network, cells = self._need_network(), self._need_pairs()
        names = [str(name) for name in gene_table(cells).index]
        if names != self.genes_["name"]:
            raise ValueError(
                "the genes of the MuData differ from those that the model was trained on. Use the same MuData."
            )
        genes = self._where_genes_start(genes, names)
        reported = None
        if gene_list is not None:
            gene_places(gene_list, names)
            reported = np.isin(np.array(names, dtype=object), list(gene_list))
        rows = np.sort(self._asked(None, indices).rows)
        inputs, pairs, n_open = self._link_inputs(rows, len(rows), genes, window)
        evidence = inputs.evidence(np.arange(len(rows)), self.seed_)
        score, p, keep = np.zeros(len(pairs.bins)), np.ones(len(pairs.bins)), np.zeros(len(pairs.bins), bool)
        with torch.no_grad():
            links = network.links or LinkAttention(LinkConfig(1, 1, 1))
            logit = links.logit(torch.from_numpy(evidence.score).double().to(self.module.device))
            score[inputs.place] = torch.nn.functional.softplus(logit).cpu().numpy()
        p[inputs.place], keep[inputs.place] = evidence.p, True
        q = np.ones(len(p))
        q[inputs.place] = benjamini_hochberg(evidence.p)
        if max_q is not None:
            keep &= q <= max_q
        if reported is not None:
            keep &= np.repeat(reported, np.diff(pairs.indptr))
        return links_table(genes, self.vocabulary_, pairs, score, p, q, n_open, keep)

    @torch.inference_mode()
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
        network = self._need_network()
        if network.links is None:
            raise ValueError(
                "the model has no links, because rna.var had no positions of genes (chrom, tss, strand). Add them and train again."
            )
        data = self._mdata if mdata is None else mdata
        adata, rna, cells = self._asked(data, rna_indices)
        atac = self._asked(data, atac_indices).rows
        z_rna = self._paired_latent(Asked(adata, rna, cells), "expression", None)
        z_atac = self._paired_latent(Asked(adata, atac, cells), "accessibility", None)
        links, device = network.links, self.module.device
        values = self._gene_values(cells, rna)
        state = self._link_state(adata, atac)
        expected = self._expected(adata, atac, state)
        cosine = torch.from_numpy(z_rna @ z_atac.T).to(device)
        at = slice(None) if gene_list is None else torch.as_tensor(gene_places(gene_list, self.genes_["name"]))
        design = torch.from_numpy(np.column_stack([np.ones(len(atac)), state]).astype(np.float32)).to(device)
        by_state, expected = links.by_state(design)[:, at], expected[:, at]
        out = np.empty(cosine.shape, np.float32)
        for first in range(0, len(rna), CELLS_AT_ONCE):
            part = slice(first, first + CELLS_AT_ONCE)
            y = torch.from_numpy(values[part].toarray().astype(np.float32)).to(device) / links.gene_deviation
            out[part] = links.matches(y[:, at], by_state, expected, cosine[part]).cpu().numpy()
        return out

    def _fit_links(self, rows: np.ndarray, n_train: int, window: int, n_epochs: int = 10) -> None:
        """The cross-attention of genes and bins, from training cells.

        Nothing but a warning where no gene lies near a bin, no bin is far, or cells are too few: pairs do without.
        """
        import warnings

        network, cells = self._need_network(), self._need_pairs()
        try:
            genes = self._where_genes_start(None, self.genes_["name"])
            inputs, _, _ = self._link_inputs(rows, n_train, genes, window)
            if not len(inputs.pairs.bins):
                raise NoEvidence(f"no bin within {window:,} bp of a gene's start is open in enough cells.")
            cosine = (
                self._rna_latent(self.adata, cells, rows),
                self._atac_latent(*self._chromatin(self.adata, rows, None)),
            )
            links, self.matching_, _ = fit_links(inputs, cosine, self.seed_, n_epochs)
        except (NoEvidence, NoCommonChromosome) as error:  # of these cells and genes; any other error is one
            warnings.warn(f"genes do not attend to bins: {error}", UserWarning, stacklevel=4)
            return
        # token ids, so that cells to come need no renumbering
        links.bins.copy_(torch.from_numpy(inputs.used)[links.bins])
        network.links = links.to(self.module.device)
        self.links_config_ = links.config.to_dict()

    def _link_inputs(self, rows: np.ndarray, n_train: int, genes: Genes, window: int):
        """Cells for the evidence, all pairs of the window, and the number of cells in which each bin is open."""
        cells = self._cells_of(None)
        source = self._source(self.adata)
        n_open, parts = np.zeros(source.n_bins, np.int64), []
        all_pairs = window_pairs(genes, self.vocabulary_, window)
        for part in np.array_split(rows, max(len(rows) // CELLS_AT_ONCE, 1)):
            found = source.rows(part)
            n_open += np.bincount(found.bins, minlength=source.n_bins)
        pairs, used, place = compared(all_pairs, n_open, len(rows), self.seed_)
        column = np.full(source.n_bins, -1, np.int32)
        column[used] = np.arange(len(used), dtype=np.int32)
        for part in np.array_split(rows, max(len(rows) // CELLS_AT_ONCE, 1)):
            found = source.rows(part)
            at = column[found.bins]
            indptr = np.concatenate([[0], np.cumsum(at >= 0)])[found.indptr]
            parts.append(sp.csr_matrix((np.ones(indptr[-1], np.float32), at[at >= 0], indptr), (len(part), len(used))))
        codes = self._batch_codes(self.adata)[rows]
        covariates = np.eye(codes.max() + 1)[codes][:, np.unique(codes)[1:]] if len(np.unique(codes)) > 1 else None
        inputs = LinkInputs(
            sp.vstack(parts, format="csr"), used, self._gene_values(cells, rows),
            self._link_state(self.adata, rows), covariates, pairs, place, n_train,
        )  # fmt: skip
        return inputs, all_pairs, n_open

    def _gene_values(self, cells, rows: np.ndarray) -> sp.csr_matrix:
        """log(1 + counts per 10,000) of the model's genes.  (len(rows), n_genes) CSR"""
        columns = gene_columns(cells, self.genes_["name"])
        return sp.csr_matrix(log_normalised(cells.expression(rows)) @ columns)

    def _need_links(self) -> LinkAttention:
        links = self._need_network().links
        assert links is not None
        return links

    def _link_state(self, adata: AnnData, rows: np.ndarray) -> np.ndarray:
        z = torch.from_numpy(self._chromatin(adata, rows, None)[0]).to(self.module.device)
        return self._need_network().atac_inputs(z).cpu().numpy().astype(np.float64)

    @torch.inference_mode()
    def _expected(self, adata: AnnData, rows: np.ndarray, state: np.ndarray) -> torch.Tensor:
        """M of the link attention.  (len(rows), n_genes)"""
        links, source, device = self._need_links(), self._source(adata), self.module.device
        tokens, at_token = np.unique(links.bins.cpu().numpy(), return_inverse=True)
        place = torch.from_numpy(at_token.reshape(links.bins.shape)).to(device)
        column = np.full(source.n_bins, -1, np.int64)
        column[tokens] = np.arange(len(tokens))
        parts = []
        for first in range(0, len(rows), 128):
            found = source.rows(rows[first : first + 128])
            cell, at = np.repeat(np.arange(len(found.indptr) - 1), np.diff(found.indptr)), column[found.bins]
            opened = torch.zeros(len(found.indptr) - 1, len(tokens))
            opened[cell[at >= 0], at[at >= 0]] = 1.0
            design = np.column_stack([np.ones(len(opened)), state[first : first + 128]]).astype(np.float32)
            parts.append(links.expected(opened.to(device)[:, place], torch.from_numpy(design).to(device)))
        return torch.cat(parts)

    def _said_by_links(self, adata: AnnData, rows: np.ndarray, z: torch.Tensor, at: torch.Tensor | None) -> np.ndarray:
        """What linked bins add to predicted expression.  (n_cells, n_genes)"""
        network = self._need_network()
        m = self._expected(adata, rows, network.atac_inputs(z).cpu().numpy())
        added = m * self._need_links().gene_deviation  # m is weighted by how reliable it is
        return (added if at is None else added[:, at]).cpu().numpy()

    def _where_genes_start(self, genes: Genes | None, names: list[str]) -> Genes:
        if genes is not None:
            if [str(name) for name in genes.names] != names:
                raise ValueError(
                    "genes must be those of the MuData, in its order: Genes.from_gtf(path, mdata['rna'].var_names)."
                )
            return genes
        if "tss" not in self.genes_:
            raise ValueError(
                "rna.var does not say where genes start. Name it: "
                "get_gene_bin_links(genes=sf.genome.Genes.from_gtf('genes.gtf.gz', mdata['rna'].var_names))."
            )
        chroms = sorted({c for c in self.genes_["chrom"] if c is not None})
        code = {name: k for k, name in enumerate(chroms)} | {None: -1}
        return Genes(
            np.array(names, dtype=object), tuple(chroms), np.array([code[c] for c in self.genes_["chrom"]]),
            np.array(self.genes_["tss"]), np.array(self.genes_["strand"]),
        )  # fmt: skip
