"""Links between genes and bins, and logits for the match of RNA and ATAC, with a :class:`PairsReader`."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import scipy.sparse as sp
import torch

from scatacformer.cells import NoEvidence, benjamini_hochberg
from scatacformer.genome import Genes, links_table, window_pairs
from scatacformer.nn import LinkAttention, LinkConfig

from ._fit_links import LinkInputs, compared, fit_links
from ._fit_pairs import CELLS_AT_ONCE

if TYPE_CHECKING:
    import pandas as pd

    from scatacformer.genome import Vocabulary, WindowPairs

    from ._reader import PairsReader


class Candidates(NamedTuple):
    """Genes, regions, and how far apart a pair of them may be."""

    genes: Genes
    vocabulary: Vocabulary
    window: int  # bp


def fitted_links(
    reader: PairsReader, candidates: Candidates, rows: np.ndarray, n_train: int, n_epochs: int
) -> tuple[LinkAttention, dict[str, float]]:
    """The attention of genes to bins, and how well it distinguishes held-out cells; training cells come first in
    ``rows``.

    Raises NoEvidence or NoCommonChromosome where no gene lies near a bin, no bin is far, or cells are too few.
    """
    inputs, _, _ = _inputs(reader, candidates, rows, n_train)
    if not len(inputs.pairs.bins):
        raise NoEvidence(f"no bin within {candidates.window:,} bp of a gene's start is open in enough cells.")
    cosine = reader.rna_latent(rows), reader.atac_latent(*reader.chromatin(rows))
    links, figures, _ = fit_links(inputs, cosine, reader.atac.seed, n_epochs)
    # token ids, so that cells to come need no renumbering
    links.bins.copy_(torch.from_numpy(inputs.used)[links.bins])
    return links, figures


def linked(
    reader: PairsReader, candidates: Candidates, rows: np.ndarray, reported: np.ndarray | None, max_q: float | None
) -> pd.DataFrame:
    """See :meth:`~scatacformer.ScAtacFormer.get_gene_bin_links`; ``reported`` (n_genes,) bool, None: all genes."""
    inputs, pairs, n_open = _inputs(reader, candidates, rows, len(rows))
    evidence = inputs.evidence(np.arange(len(rows)), reader.atac.seed)
    score, p, keep = np.zeros(len(pairs.bins)), np.ones(len(pairs.bins)), np.zeros(len(pairs.bins), bool)
    with torch.no_grad():
        links = reader.network.links or LinkAttention(LinkConfig(1, 1, 1))
        logit = links.logit(torch.from_numpy(evidence.score).double().to(reader.atac.network.device))
        score[inputs.place] = torch.nn.functional.softplus(logit).cpu().numpy()
    p[inputs.place], keep[inputs.place] = evidence.p, True
    q = np.ones(len(p))
    q[inputs.place] = benjamini_hochberg(evidence.p)
    if max_q is not None:
        keep &= q <= max_q
    if reported is not None:
        keep &= np.repeat(reported, np.diff(pairs.indptr))
    return links_table(candidates.genes, candidates.vocabulary, pairs, score, p, q, n_open, keep)


@torch.inference_mode()
def matching_logits(
    reader: PairsReader, links: LinkAttention, rna: np.ndarray, atac: np.ndarray, genes: np.ndarray | None
) -> np.ndarray:
    """See :meth:`~scatacformer.ScAtacFormer.get_matching_logits`.  (len(rna), len(atac)) float32"""
    z_rna, z_atac = reader.latent(rna, "expression"), reader.latent(atac, "accessibility")
    values, state, device = reader.gene_values(rna), reader.state(atac), reader.atac.network.device
    expected = reader.expected(links, atac, state)
    cosine = torch.from_numpy(z_rna @ z_atac.T).to(device)
    at = slice(None) if genes is None else torch.as_tensor(genes)
    design = torch.from_numpy(np.column_stack([np.ones(len(atac)), state]).astype(np.float32)).to(device)
    by_state, expected = links.by_state(design)[:, at], expected[:, at]
    out = np.empty(cosine.shape, np.float32)
    for first in range(0, len(rna), CELLS_AT_ONCE):
        part = slice(first, first + CELLS_AT_ONCE)
        y = torch.from_numpy(values[part].toarray().astype(np.float32)).to(device) / links.gene_deviation
        out[part] = links.matches(y[:, at], by_state, expected, cosine[part]).cpu().numpy()
    return out


def _inputs(
    reader: PairsReader, candidates: Candidates, rows: np.ndarray, n_train: int
) -> tuple[LinkInputs, WindowPairs, np.ndarray]:
    """Cells for the evidence, all pairs of the window, and the number of cells in which each bin is open."""
    source, seed = reader.atac.source, reader.atac.seed
    n_open, parts = np.zeros(source.n_bins, np.int64), []
    all_pairs = window_pairs(*candidates)
    for part in np.array_split(rows, max(len(rows) // CELLS_AT_ONCE, 1)):
        found = source.rows(part)
        n_open += np.bincount(found.bins, minlength=source.n_bins)
    pairs, used, place = compared(all_pairs, n_open, len(rows), seed)
    column = np.full(source.n_bins, -1, np.int32)
    column[used] = np.arange(len(used), dtype=np.int32)
    for part in np.array_split(rows, max(len(rows) // CELLS_AT_ONCE, 1)):
        found = source.rows(part)
        at = column[found.bins]
        indptr = np.concatenate([[0], np.cumsum(at >= 0)])[found.indptr]
        parts.append(sp.csr_matrix((np.ones(indptr[-1], np.float32), at[at >= 0], indptr), (len(part), len(used))))
    codes = reader.atac.batch_codes[rows]
    covariates = np.eye(codes.max() + 1)[codes][:, np.unique(codes)[1:]] if len(np.unique(codes)) > 1 else None
    inputs = LinkInputs(
        sp.vstack(parts, format="csr"), used, reader.gene_values(rows), reader.state(rows), covariates, pairs, place,
        n_train,
    )  # fmt: skip
    return inputs, all_pairs, n_open
