"""Paired RNA: a teacher and a student encoder for each modality, and expression predicted from chromatin.

Each encoder ends in a :class:`~scatacformer.nn.head.Head` that starts as a linear map, the canonical correlations of
the two modalities: before training the network *is* this map."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scatacformer.nn.head import Head

from .contrastive import nt_xent
from .link_attention import LinkAttention

# which pairs of encoders are aligned: (RNA, ATAC) or two of one modality
PAIRINGS: dict[str, tuple[tuple[str, str], tuple[str, str]]] = {
    "same": (("rna_teacher", "atac_teacher"), ("rna_student", "atac_student")),
    "crossed": (("rna_student", "atac_teacher"), ("rna_teacher", "atac_student")),
    "within": (("rna_student", "rna_teacher"), ("atac_student", "atac_teacher")),
}


@dataclass(frozen=True)
class PairedConfig:
    """Sizes of a :class:`PairedNetwork`.

    ``d_rna`` and ``d_atac`` are the widths of the heads' inputs: components of expression, which the ATAC student
    predicts as well, and dimensions of the ATAC embedding, which the teacher reads. ``d_latent`` is the width of one
    encoder's output, ``n_predictors`` the number of networks whose mean is the predicted expression."""

    n_genes: int
    n_bins: int
    d_rna: int
    d_atac: int
    d_latent: int
    d_hidden: int = 128
    d_attention: int = 16
    dropout: float = 0.3
    n_predictors: int = 4
    n_batch: int = 1

    def __post_init__(self) -> None:
        for name in (
            "n_genes",
            "n_bins",
            "d_rna",
            "d_atac",
            "d_latent",
            "d_hidden",
            "d_attention",
            "n_predictors",
            "n_batch",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected at least 1.")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}; expected 0 ... 1.")

    def to_dict(self) -> dict:
        """Plain numbers, for JSON."""
        return asdict(self)


class PairedNetwork(nn.Module):
    """Teacher and student of RNA and ATAC, and predictors of expression from chromatin alone.

    The ATAC teacher reads the transformer's embedding of a cell, the student the weighted mean of its open bins, whose
    vectors come from expression. The RNA teacher pools genes by attention, the student sums them. One half of the
    predictors reads the input of the ATAC teacher, the other half that of the student.
    """

    atac_used: Tensor
    atac_centre: Tensor
    atac_scale: Tensor
    batch_shift: Tensor
    expression_mean: Tensor
    expression_loadings: Tensor
    expression_variance: Tensor

    def __init__(self, config: PairedConfig, seed: int = 0) -> None:
        super().__init__()
        self.config = c = config
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.genes, self.bins = GenePool(c), BinPool(c)
            self.heads = nn.ModuleDict(
                {
                    name: Head(c.d_atac if name == "atac_teacher" else c.d_rna, c.d_latent, c.d_hidden, c.dropout)
                    for name in ("rna_teacher", "rna_student", "atac_teacher", "atac_student")
                }
            )
            self.predictors = nn.ModuleList(
                Head(c.d_rna if k % 2 else c.d_atac, c.d_rna, c.d_hidden, c.dropout) for k in range(c.n_predictors)
            )
        self.links: LinkAttention | None = None  # None if the positions of the genes are unknown
        self.register_buffer(
            "atac_used", torch.zeros(c.d_atac, dtype=torch.int64)
        )  # dimensions of the embedding that are used
        self.register_buffer("atac_centre", torch.zeros(c.d_atac))
        self.register_buffer("atac_scale", torch.ones(()))
        self.register_buffer("batch_shift", torch.zeros(c.n_batch, c.d_rna))  # of the scores
        # scores of components -> log-normalised expression of each gene
        self.register_buffer("expression_mean", torch.zeros(c.n_genes))
        self.register_buffer("expression_loadings", torch.zeros(c.d_rna, c.n_genes))
        self.register_buffer("expression_variance", torch.zeros(c.n_genes))  # around the prediction, in held-out cells

    def rna_inputs(self, genes: Tensor, values: Tensor, cell: Tensor, batch: Tensor, attention: bool) -> Tensor:
        """Input of the RNA heads.  (n_cells, d_rna); ``batch`` (n_cells,) int64."""
        pool = self.genes if attention else self.genes.sums
        # the shift of a batch that was added later is unknown: nothing is subtracted
        known = batch < len(self.batch_shift)
        shift = self.batch_shift[torch.where(known, batch, 0)] * known[:, None]
        return pool(genes, values, cell, len(batch)) - shift

    def atac_inputs(self, z: Tensor) -> Tensor:
        """Input of the ATAC teacher, from embeddings (n_cells, d_embed).  (n_cells, d_atac)"""
        return (z.index_select(1, self.atac_used) - self.atac_centre) / self.atac_scale

    def joined(self, teacher: Tensor, student: Tensor, modality: str) -> Tensor:
        """Embedding of one modality: teacher and student concatenated, of length 1.  (n_cells, 2 d_latent)

        Its cosine is the mean of the teachers' and the students'.
        """
        parts = [F.normalize(self.heads[f"{modality}_{role}"](x), dim=1) for role, x in
                 (("teacher", teacher), ("student", student))]  # fmt: skip
        return torch.cat(parts, 1) / 2**0.5

    def expression(self, teacher: Tensor, student: Tensor, genes: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Predicted log-normalised expression and its standard deviation, from the inputs of the ATAC heads.

        The mean of the predictors, at least 0. The variance is that of held-out cells around it plus that between
        predictors. Both (n_cells, n_genes) or, with ``genes`` (their numbers), (n_cells, len(genes)).
        """
        loadings, mean, variance = self.expression_loadings, self.expression_mean, self.expression_variance
        if genes is not None:
            loadings, mean, variance = loadings[:, genes], mean[genes], variance[genes]
        scores = torch.stack(
            [f(student if k % 2 else teacher) for k, f in enumerate(self.predictors)]
        )  # (n_predictors, n_cells, d_rna)
        centred = scores - scores.mean(0)
        between = ((centred @ loadings) ** 2).sum(0) / max(len(scores) - 1, 1)
        return (scores.mean(0) @ loadings + mean).clamp_min(0.0), (variance + between).sqrt()

    def contrastive_loss(self, inputs: dict[str, Tensor], pairing: str, temperature: float) -> Tensor:
        """Mean NT-Xent of the two pairs of encoders; ``inputs`` of each of the four heads.  Scalar."""
        z = {name: head(inputs[name]) for name, head in self.heads.items()}
        first, second = (nt_xent(z[a], z[b], temperature) for a, b in PAIRINGS[pairing])
        return (first + second) / 2


class GenePool(nn.Module):
    """A cell as the attention-weighted sum of its genes' vectors multiplied by their values.

    z = sum_g a_g x_g E_g, a = n softmax(u . tanh(W x_g E_g)) over the n expressed genes (Yang et al. 2016, eq. 5-7), so
    that with u = 0, the initial value, every gene has weight 1. E are the loadings of the components of expression, and
    the mean cell is subtracted: before training, z are the scores of the components."""

    vectors: Tensor
    centre: Tensor
    scale: Tensor
    target: Tensor

    def __init__(self, config: PairedConfig) -> None:
        super().__init__()
        self.register_buffer("vectors", torch.zeros(config.n_genes, config.d_rna))
        self.register_buffer("centre", torch.zeros(config.d_rna))
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("target", torch.ones(()))  # total counts to which every cell is normalised
        self.hidden = nn.Linear(config.d_rna, config.d_attention)
        self.query = nn.Linear(config.d_attention, 1, bias=False)
        nn.init.zeros_(self.query.weight)

    def forward(self, genes: Tensor, values: Tensor, cell: Tensor, n_cells: int) -> Tensor:
        """``genes``, ``values``, ``cell`` (n_values,): gene, log-normalised value and row of each; -> (n_cells,
        d_rna)."""
        x = self.vectors[genes] * values[:, None]  # (n_values, d_rna)
        logit = self.query(torch.tanh(self.hidden(x))).squeeze(1)
        # the logits are bounded by |u|, so the maximum need not be subtracted first
        weight = logit.exp()
        count = torch.zeros(n_cells, device=x.device).index_add(0, cell, torch.ones_like(weight))
        total = torch.zeros(n_cells, device=x.device).index_add(0, cell, weight)
        pooled = torch.zeros(n_cells, x.shape[1], device=x.device).index_add(0, cell, x * weight[:, None])
        return (pooled * (count / total.clamp_min(1e-12))[:, None] - self.centre) / self.scale

    def sums(self, genes: Tensor, values: Tensor, cell: Tensor, n_cells: int) -> Tensor:
        """The scores without attention: input of the student.  (n_cells, d_rna)"""
        x = self.vectors[genes] * values[:, None]
        pooled = torch.zeros(n_cells, x.shape[1], device=x.device).index_add(0, cell, x)
        return (pooled - self.centre) / self.scale


class BinPool(nn.Module):
    """A cell as the weighted mean of its open bins' vectors: the expression of other cells in which they are open.

    The vector of a bin is v_b = sum_i W_ib r_i / sum_i W_ib over the training cells, r their components of expression,
    W_ib = g_b / |x_i g| with the weights g of the spectral start. The mean of a cell's bins, weighted by a_b = g_b
    sum_i W_ib, is then (sum_j K_ij r_j) / sum_j K_ij, the mean of r over cells by their similarity K in chromatin."""

    vectors: Tensor
    weight: Tensor
    centre: Tensor
    scale: Tensor

    def __init__(self, config: PairedConfig) -> None:
        super().__init__()
        self.register_buffer("vectors", torch.zeros(config.n_bins, config.d_rna))
        self.register_buffer("weight", torch.zeros(config.n_bins))
        self.register_buffer("centre", torch.zeros(config.d_rna))
        self.register_buffer("scale", torch.ones(()))

    def forward(self, bins: Tensor, cu_seqlens: Tensor) -> Tensor:
        """``bins`` of the cells, packed -> (n_cells, d_rna); zero for a cell without a bin that has a vector."""
        total, mass = self.sums(bins, cu_seqlens)
        return (total / mass.clamp_min(1e-12)[:, None] - self.centre) / self.scale * (mass > 0)[:, None]

    def sums(self, bins: Tensor, cu_seqlens: Tensor) -> tuple[Tensor, Tensor]:
        """Weighted sum of the vectors (n_cells, d_rna), and of the weights (n_cells,)."""
        weight, offsets = self.weight[bins], cu_seqlens[:-1].long()
        total = F.embedding_bag(bins, self.vectors, offsets, mode="sum", per_sample_weights=weight)
        return total, F.embedding_bag(bins, self.weight[:, None], offsets, mode="sum").squeeze(1)
