"""Cross-attention of genes and bins, trained to distinguish the RNA of a cell from that of other cells."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class LinkConfig:
    """Sizes of a :class:`LinkAttention`: number of genes, of bins per gene, and of dimensions of the cell state."""

    n_genes: int
    n_slots: int
    n_state: int

    def to_dict(self) -> dict:
        """Plain numbers, for JSON."""
        return asdict(self)


class LinkAttention(nn.Module):
    """Each gene attends to the bins of its window, and the result is compared with its expression.

    Gene g gives bin b the attention pi_gb = sigmoid(a score_gb + c), the probability that they are linked, relative to
    a null bin; score is the product of gene and bin profiles (``scatacformer.cells.link_evidence``). Let e be the
    expression of a cell and r the accessibility of its bins, both in standard deviations around the prediction from the
    cell state, and rho_gb their partial correlation. The bins predict m_g = v_g sum_b pi_gb rho_gb r_b for the gene,
    where v_g is the reliability of the prediction in other cells. The logit that two measurements match is ``gain``
    sum_g (e_g m_g - m_g^2 / 2) + ``closeness`` cos(z_rna, z_atac) + const: the log-likelihood ratio of Gaussian
    residuals if gain is one."""

    bins: Tensor
    used: Tensor
    score: Tensor
    partial: Tensor
    bin_state: Tensor
    bin_deviation: Tensor
    gene_state: Tensor
    gene_deviation: Tensor
    reliability: Tensor

    def __init__(self, config: LinkConfig) -> None:
        super().__init__()
        self.config = c = config
        self.slope = nn.Parameter(torch.tensor(2.0))
        self.offset = nn.Parameter(torch.tensor(-3.0))
        self.gain = nn.Parameter(torch.tensor(0.0))  # log
        self.closeness = nn.Parameter(torch.tensor(10.0))
        self.constant = nn.Parameter(torch.tensor(0.0))
        self.register_buffer(
            "bins", torch.zeros(c.n_genes, c.n_slots, dtype=torch.int64)
        )  # token ids; any where unused
        self.register_buffer("used", torch.zeros(c.n_genes, c.n_slots, dtype=torch.bool))
        self.register_buffer("score", torch.zeros(c.n_genes, c.n_slots))
        self.register_buffer("partial", torch.zeros(c.n_genes, c.n_slots))
        # regression of accessibility and expression on (1, state), and the standard deviation around it
        self.register_buffer("bin_state", torch.zeros(c.n_genes, c.n_slots, 1 + c.n_state))
        self.register_buffer("bin_deviation", torch.ones(c.n_genes, c.n_slots))
        self.register_buffer("gene_state", torch.zeros(c.n_genes, 1 + c.n_state))
        self.register_buffer("gene_deviation", torch.ones(c.n_genes))
        self.register_buffer("reliability", torch.ones(c.n_genes))  # v

    def logit(self, score: Tensor) -> Tensor:
        """Log-odds that a gene and a bin with this evidence are linked.  The shape of ``score``"""
        return self.slope * score + self.offset

    def attention(self) -> Tensor:
        """Probability that a gene and a bin are linked.  (n_genes, n_slots)"""
        return torch.sigmoid(self.logit(self.score)) * self.used

    def expected(self, opened: Tensor, state: Tensor) -> Tensor:
        """m: prediction from each gene's bins beyond the state, in standard deviations.  (n_cells, n_genes)

        ``opened`` (n_cells, n_genes, n_slots), 1 where open; ``state`` (n_cells, 1 + n_state), the first column 1.
        """
        weight = self.attention() * self.partial / self.bin_deviation  # (n_genes, n_slots)
        of_state = (weight[..., None] * self.bin_state).sum(1)  # (n_genes, 1 + n_state)
        return (torch.einsum("cgs,gs->cg", opened, weight) - state @ of_state.T) * self.reliability

    def by_state(self, state: Tensor) -> Tensor:
        """Prediction of expression from the state, in standard deviations.  (n_cells, n_genes)"""
        return state @ self.gene_state.T / self.gene_deviation

    def matches(self, expression: Tensor, by_state: Tensor, expected: Tensor, cosine: Tensor) -> Tensor:
        """Logit that RNA and ATAC are from the same cell, for every RNA with every ATAC.  (n, m)

        ``expression`` (n, n_genes) of the RNA, in standard deviations; ``by_state`` and ``expected`` (m, n_genes) of
        the ATAC; ``cosine`` (n, m). e is the expression minus the prediction from the state of the ATAC that it is
        compared with."""
        told = expression @ expected.T - ((by_state + expected / 2) * expected).sum(1)[None]
        return self.gain.exp() * told + self.closeness * cosine + self.constant
