"""Fitting of the cross-attention of genes and bins: evidence from some cells, weights from others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from scatacformer.cells import FAR_BINS, LinkEvidence, link_evidence
from scatacformer.genome import WindowPairs
from scatacformer.nn import LinkAttention, LinkConfig
from scatacformer.training import DescendOptions, Outcome, descend

N_SLOTS = 16  # bins that a gene attends to: those with the most evidence
N_NEAR = 8  # cells of a neighbourhood in the same step, which are hard to distinguish
MIN_SHARE = 0.01  # minimum share of cells in which a compared bin is open
MIN_OPEN = 10
BATCH = 64
MAX_LINK_CELLS = 20_000


@dataclass(frozen=True)
class LinkInputs:
    """Cells with both modalities: training cells first, then held-out ones."""

    opened: sp.csr_matrix  # (n_cells, n_used) 1 where open, of the bins that are compared
    used: np.ndarray  # (n_used,) their token ids; those of the windows first, then bins far from all genes
    values: sp.csr_matrix  # (n_cells, n_genes) log-normalised expression
    state: np.ndarray  # (n_cells, k)
    covariates: np.ndarray | None  # (n_cells, m)
    pairs: WindowPairs  # bins are columns of `opened`
    place: np.ndarray  # (n_pairs,) position of each among all pairs of the window
    n_train: int

    def evidence(self, cells: np.ndarray, seed: int) -> LinkEvidence:
        """Evidence for all pairs, from a subset of the cells."""
        return link_evidence(
            self.opened[cells], self.values[cells], self.state[cells], self.pairs.indptr, self.pairs.bins,
            None if self.covariates is None else self.covariates[cells], seed,
        )  # fmt: skip


def compared(
    pairs: WindowPairs, n_open: np.ndarray, n_cells: int, seed: int
) -> tuple[WindowPairs, np.ndarray, np.ndarray]:
    """The pairs whose bin is open often enough: bins renumbered, their token ids, the positions of the pairs.

    Bins open in less than 1 % of the cells, or in fewer than 10, are not tested. If windows cover few bins, others are
    added (sampled by the seed), so that each gene has background bins.
    """
    enough = n_open >= max(MIN_OPEN, MIN_SHARE * n_cells)
    keep = enough[pairs.bins]
    place = np.flatnonzero(keep)
    indptr = np.concatenate([[0], np.cumsum(keep)])[pairs.indptr]
    used, bins = np.unique(pairs.bins[keep], return_inverse=True)
    if len(used) < FAR_BINS:
        enough[used] = False
        others = np.flatnonzero(enough)
        n = min(FAR_BINS - len(used), len(others))
        used = np.concatenate([used, np.sort(np.random.default_rng(seed).choice(others, n, replace=False))])
    return WindowPairs(indptr, bins.astype(np.int32), pairs.distance[keep]), used, place


def fit_links(
    inputs: LinkInputs,
    cosine: tuple[np.ndarray, np.ndarray],
    seed: int,
    max_epochs: int = 10,
    lr: float = 0.03,
    progress: bool = False,
) -> tuple[LinkAttention, dict[str, float], Outcome]:
    """The attention, how well it distinguishes held-out cells' own ATAC from others', and how it was fitted.

    Half of the training cells give the evidence, a quarter determines the reliability of each gene, and a quarter
    trains the attention, because the cells that gave the evidence would recognise their own noise. Finally, the
    evidence is computed from all training cells. ``cosine`` holds the unit vectors of RNA and ATAC (n_cells, k).
    """
    rng = np.random.default_rng(seed)
    train = rng.permutation(inputs.n_train)[: 2 * MAX_LINK_CELLS]
    half, quarter = len(train) // 2, len(train) * 3 // 4
    first, second, third = (np.sort(part) for part in (train[:half], train[half:quarter], train[quarter:]))
    attention = LinkAttention(LinkConfig(inputs.values.shape[1], N_SLOTS, inputs.state.shape[1]))
    _fill(attention, inputs, inputs.evidence(first, seed), first)
    read = _LinkReader(attention, inputs, cosine)
    with torch.no_grad():
        attention.reliability.copy_(_reliability(read, second))
    batches = _neighbourhoods(inputs.state, third, rng)
    outcome = descend(
        lambda batch: _loss(read.logits(batch), batch),
        lambda epoch: batches[rng.permutation(len(batches))],
        torch.optim.Adam(attention.parameters(), lr=lr),
        DescendOptions(what="links", max_epochs=max_epochs, progress=progress),
        describe=lambda batch: f"cells (numbers among those that links are fitted on): {batch[:10].tolist()}",
    )
    with torch.no_grad():
        attention.reliability.copy_(_reliability(read, np.sort(train[half:])))
        _fill(attention, inputs, inputs.evidence(np.sort(train), seed), np.sort(train))
        held_out = np.arange(inputs.n_train, len(inputs.state))
        figures = _told_apart(_LinkReader(attention, inputs, cosine), held_out, inputs.state)
    return attention.eval(), figures, outcome


def _fill(attention: LinkAttention, inputs: LinkInputs, evidence: LinkEvidence, cells: np.ndarray) -> None:
    """The slots of each gene: the bins with the most evidence, and their regressions on the state."""
    indptr, bins = inputs.pairs.indptr, inputs.pairs.bins
    n_genes = len(indptr) - 1
    slot, used = np.zeros((n_genes, N_SLOTS), np.int64), np.zeros((n_genes, N_SLOTS), bool)
    at = np.zeros((n_genes, N_SLOTS), np.int64)
    for gene in range(n_genes):
        here = np.arange(indptr[gene], indptr[gene + 1])
        best = here[np.argsort(-evidence.score[here], kind="stable")[:N_SLOTS]]
        at[gene, : len(best)], slot[gene, : len(best)], used[gene, : len(best)] = best, bins[best], True
    design = _design(inputs, cells)
    inverse = np.linalg.pinv(design.T @ design)
    columns, place = np.unique(slot, return_inverse=True)
    x = inputs.opened[cells][:, columns]
    of_bin = (inverse @ (x.T @ design).T).T  # (n_columns, 1 + k)
    n_open = np.asarray(x.sum(0)).ravel()
    spread = np.sqrt(np.maximum(n_open - (of_bin @ design.T @ design * of_bin).sum(1), 1e-3) / len(cells))
    y = inputs.values[cells]
    of_gene = (inverse @ (y.T @ design).T).T
    squares = np.asarray(y.power(2).sum(0)).ravel() - (of_gene @ design.T @ design * of_gene).sum(1)
    place = place.reshape(slot.shape)
    with torch.no_grad():
        for target, value in (
            (attention.bins, slot), (attention.used, used),
            (attention.score, np.where(used, evidence.score[at] if len(evidence.score) else 0.0, 0.0)),
            (attention.partial, np.where(used, evidence.partial[at] if len(evidence.score) else 0.0, 0.0)),
            (attention.bin_state, of_bin[place]), (attention.bin_deviation, np.maximum(spread, 1e-3)[place]),
            (attention.gene_state, of_gene), (attention.gene_deviation, np.sqrt(np.maximum(squares, 1e-6) / len(cells))),
        ):  # fmt: skip
            target.copy_(torch.as_tensor(value))


def _design(inputs: LinkInputs, cells: np.ndarray) -> np.ndarray:
    return np.column_stack([np.ones(len(cells)), inputs.state[cells]])


class _LinkReader:
    """Surplus, expected and cosine of cells, for the attention."""

    def __init__(self, attention: LinkAttention, inputs: LinkInputs, cosine: tuple[np.ndarray, np.ndarray]) -> None:
        self.attention, self.inputs = attention, inputs
        self.rna, self.atac = (torch.from_numpy(z) for z in cosine)
        self.columns, place = np.unique(attention.bins.numpy(), return_inverse=True)
        self.place = torch.from_numpy(place.reshape(attention.bins.shape))

    def expected(self, cells: np.ndarray) -> Tensor:
        """Prediction m from the bins of the cells, with 64 cells x the bins of the slots dense at a time.  (len(cells),
        n_genes)"""
        parts = []
        for first in range(0, len(cells), BATCH):
            part = cells[first : first + BATCH]
            opened = torch.from_numpy(self.inputs.opened[part][:, self.columns].toarray().astype(np.float32))
            state = torch.from_numpy(_design(self.inputs, part).astype(np.float32))
            parts.append(self.attention.expected(opened[:, self.place], state))
        return torch.cat(parts)

    def expression(self, cells: np.ndarray) -> Tensor:
        """Expression in standard deviations.  (len(cells), n_genes)"""
        return torch.from_numpy(self.inputs.values[cells].toarray().astype(np.float32)) / self.attention.gene_deviation

    def by_state(self, cells: np.ndarray) -> Tensor:
        return self.attention.by_state(torch.from_numpy(_design(self.inputs, cells).astype(np.float32)))

    def logits(self, cells: np.ndarray) -> Tensor:
        """Cosine of every RNA with every ATAC.  (n, n)"""
        cosine = self.rna[cells] @ self.atac[cells].T
        return self.attention.matches(self.expression(cells), self.by_state(cells), self.expected(cells), cosine)


def _loss(logits: Tensor, cells: np.ndarray) -> Tensor:
    """Matched pairs against all unmatched ones, with equal total weight; nats. A cell can occur twice in a step."""
    own = torch.from_numpy(cells[:, None] == cells[None])
    positive, negative = logits[own], logits[~own]
    return torch.nn.functional.softplus(-positive).mean() + torch.nn.functional.softplus(negative).mean()


def _neighbourhoods(state: np.ndarray, cells: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Steps of 64 cells, 8 cells each with 7 of their nearest neighbours.  (n_steps, 64)"""
    from sklearn.neighbors import NearestNeighbors

    near = min(N_NEAR, len(cells))
    found = NearestNeighbors(n_neighbors=near).fit(state[cells]).kneighbors(state[cells], return_distance=False)
    n_seeds, n_steps = max(BATCH // near, 1), max(len(cells) // BATCH, 1)
    chosen = [rng.choice(len(cells), min(n_seeds, len(cells)), replace=False) for _ in range(n_steps)]
    return np.stack([cells[found[seeds]].ravel() for seeds in chosen])


def _reliability(read: _LinkReader, cells: np.ndarray) -> Tensor:
    """Slope of e on m over cells that gave no evidence, 0 to 1.5.  (n_genes,)

    Shrunk towards the slope of all genes together, by a normal prior whose variance is estimated from the genes
    (empirical Bayes; Efron and Morris 1973): among thousands of genes without links, many have a slope by chance."""
    attention = read.attention
    em = mm = torch.zeros((), dtype=torch.float64, device=attention.reliability.device)
    attention.reliability.fill_(1.0)
    for part in np.array_split(cells, max(len(cells) // 128, 1)):
        e, m = (read.expression(part) - read.by_state(part)).double(), read.expected(part).double()
        em, mm = em + (e * m).sum(0), mm + (m**2).sum(0)
    mm = mm.clamp_min(1e-9)
    common = float(em.sum() / mm.sum())
    # the residuals have variance 1, so that a gene's own slope has variance 1 / mm around the true one
    variance = float(((em / mm - common) ** 2 * mm).sum() - len(mm)) / float(mm.sum())
    precision = 1 / max(variance, 1e-3)
    return ((em + common * precision) / (mm + precision)).clamp(0.0, 1.5).float()


def _told_apart(read: _LinkReader, cells: np.ndarray, state: np.ndarray) -> dict[str, float]:
    """Share of pairs in which a cell's own ATAC has a higher logit than that of a random cell, or of a neighbour."""
    from sklearn.neighbors import NearestNeighbors

    cells = cells[: 2 * BATCH * 8]
    if len(cells) < 4:
        return {}
    logits = read.logits(cells).numpy()
    own = np.diag(logits)[:, None]
    near = NearestNeighbors(n_neighbors=min(10, len(cells) - 1)).fit(state[cells]).kneighbors(return_distance=False)
    others = ~np.eye(len(cells), dtype=bool)
    return {
        "matching_auc": float((own > logits)[others].mean()),
        "matching_auc_neighbors": float((own > np.take_along_axis(logits, near, 1)).mean()),
    }
