"""Fitting of a :class:`~scatacformer.nn.PairedNetwork`: components, canonical correlations, then gradient steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor, nn

from scatacformer.cells import RowSource, batch_shifts, canonical_start, fit_components, log_normalised
from scatacformer.nn import PAIRINGS, PairedConfig, PairedNetwork
from scatacformer.training import DescendOptions, History, Outcome, descend

CELLS_AT_ONCE = 1024
MAX_COMPONENT_CELLS = 20_000  # maximum number of cells for components and canonical correlations


@dataclass(frozen=True)
class PairedOptions:
    """Options for training pairs; checked when created. See :meth:`~scatacformer.ScAtacFormer.train_pairs`."""

    max_epochs: int = 60
    batch_size: int = 256
    lr: float = 1e-3
    weight_decay: float = 1e-2
    temperature: float = 0.1
    pairing: str = "same"
    n_components: int = 30
    n_latent: int = 32
    dropout: float = 0.3
    early_stopping_patience: int = 8
    link_window: int | None = 1_200_000

    def __post_init__(self) -> None:
        for name in ("max_epochs", "n_components", "n_latent", "early_stopping_patience"):
            least = 0 if name == "max_epochs" else 1
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; expected at least {least}.")
        if self.batch_size < 2:
            raise ValueError(
                f"batch_size is {self.batch_size}; expected at least 2, because pairs are compared within a minibatch."
            )
        for name in ("lr", "temperature"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; expected greater than 0.")
        if self.link_window is not None and self.link_window < 0:
            raise ValueError(f"link_window is {self.link_window}; expected a distance in bp, at least 0.")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}; expected 0 ... 1.")
        if self.weight_decay < 0:
            raise ValueError(f"weight_decay is {self.weight_decay}; expected 0 or more.")
        if self.pairing not in PAIRINGS:
            raise ValueError(f"pairing is {self.pairing!r}; expected one of {tuple(PAIRINGS)}.")


@dataclass(frozen=True)
class PairedInputs:
    """Data for fitting: training and held-out cells, in that order."""

    counts: sp.csr_matrix  # (n_cells, n_genes) RNA
    teacher: np.ndarray  # (n_cells, d_embed): the transformer's embedding
    source: RowSource  # of the open bins
    rows: np.ndarray  # (n_cells,) row numbers in it
    bin_weight: np.ndarray  # (n_bins,) of the spectral start
    batch: np.ndarray  # (n_cells,) int64
    n_batch: int
    n_train: int


def fit_pairs(
    inputs: PairedInputs, options: PairedOptions, seed: int, progress: bool = True
) -> tuple[PairedNetwork, Outcome]:
    """A fitted network, on the CPU; its history, and whether Ctrl-C cut it short.

    The weights are those of the best epoch for held-out pairs. After Ctrl-C no further step is made: parts that
    have not been trained remain the linear map with which they start.
    """
    network = _start(inputs, options, seed)
    values = log_normalised(inputs.counts, float(network.genes.target))
    read = _Reader(network, inputs, values)
    _start_student(network, read)
    outcome = _train_heads(network, read, options, seed, progress)
    record = _named("paired", outcome)
    predicted = (
        Outcome(History(), True) if outcome.stopped else _train_predictors(network, read, options, seed, progress)
    )
    _fit_expression(network, read, inputs)
    return network.eval(), Outcome(History(record | _named("expression", predicted)), predicted.stopped)


def _named(prefix: str, outcome: Outcome) -> dict[str, dict[int, float]]:
    """The history under its public names; empty if no step was made."""
    return {f"{prefix}_{name}": outcome.history.record.get(f"{name}_loss", {}) for name in ("train", "validation")}


def _start(inputs: PairedInputs, options: PairedOptions, seed: int) -> PairedNetwork:
    """The network as a linear map: components of expression, and their canonical correlations with the embedding."""
    rng = np.random.default_rng(seed)
    fitted = np.arange(inputs.n_train)
    if len(fitted) > MAX_COMPONENT_CELLS:
        fitted = np.sort(rng.choice(fitted, MAX_COMPONENT_CELLS, replace=False))
    components = fit_components(inputs.counts[fitted], options.n_components, seed)
    scores = components.scores(log_normalised(inputs.counts[fitted], components.target))
    codes = inputs.batch[fitted]
    shifts = batch_shifts(scores, codes, inputs.n_batch) if inputs.n_batch > 1 else np.zeros((1, scores.shape[1]))
    scores = scores - shifts[codes if inputs.n_batch > 1 else 0]

    teacher = inputs.teacher[fitted]
    used = np.flatnonzero(teacher.std(0) > 1e-6)
    centre = teacher[:, used].mean(0)
    scale = float(np.sqrt(np.mean((teacher[:, used] - centre) ** 2)))
    atac = (teacher[:, used] - centre) / scale
    map_atac, map_rna, correlation = canonical_start(atac, scores - scores.mean(0), options.n_latent)
    network = PairedNetwork(
        PairedConfig(
            n_genes=inputs.counts.shape[1], n_bins=inputs.source.n_bins, d_rna=scores.shape[1], d_atac=len(used), d_latent=len(correlation),
            dropout=options.dropout, n_batch=inputs.n_batch,
        ),
        seed=seed,
    )  # fmt: skip
    with torch.no_grad():
        for target, value in (
            (network.genes.vectors, components.loadings),
            (network.genes.centre, components.centre),
            (network.genes.scale, components.scale),
            (network.genes.target, components.target),
            (network.batch_shift, shifts),
            (network.atac_used, used),
            (network.atac_centre, centre),
            (network.atac_scale, scale),
        ):
            target.copy_(torch.as_tensor(value))
    _start_heads(network, ("rna_teacher", "atac_teacher"), map_rna, map_atac, scores.mean(0))
    _start_predictors(network, 0, atac, scores)
    return network


def _start_student(network: PairedNetwork, read: _Reader) -> None:
    """The same for the students: expression predicted from the cells' bins, and its canonical correlations."""
    train = read.inputs.n_train
    x, y = read.atac_student[:train].numpy(), read.rna_student[:train].numpy()
    map_atac, map_rna, correlation = canonical_start(x - x.mean(0), y - y.mean(0), network.config.d_latent)
    pad = ((0, 0), (0, network.config.d_latent - len(correlation)))
    _start_heads(network, ("rna_student", "atac_student"), np.pad(map_rna, pad), np.pad(map_atac, pad), y.mean(0))
    _start_predictors(network, 1, x, y)


@torch.no_grad()
def _start_heads(network, names: tuple[str, str], map_rna, map_atac, mean_rna) -> None:
    for name, weight, mean in zip(names, (map_rna, map_atac), (mean_rna, np.zeros(len(map_atac))), strict=True):
        network.heads[name].linear.weight.copy_(torch.as_tensor(weight.T))
        network.heads[name].linear.bias.copy_(torch.as_tensor(-(mean @ weight)))


@torch.no_grad()
def _start_predictors(network, which: int, x: np.ndarray, y: np.ndarray) -> None:
    """The regression of the scores y on x, ridge 1 % of the mean variance; for every other predictor."""
    gram = x.T @ x
    coefficient = np.linalg.solve(gram + 0.01 * np.trace(gram) / len(gram) * np.eye(len(gram)), x.T @ (y - y.mean(0)))
    for predictor in network.predictors[which::2]:
        predictor.linear.weight.copy_(torch.as_tensor(coefficient.T))
        predictor.linear.bias.copy_(torch.as_tensor(y.mean(0)))


class _Reader:
    """The inputs of the heads for any of the cells; constant parts are computed once."""

    def __init__(self, network: PairedNetwork, inputs: PairedInputs, values: sp.csr_matrix) -> None:
        self.network, self.values, self.inputs = network, values, inputs
        self.batch = torch.from_numpy(inputs.batch)
        with torch.no_grad():
            self.atac_teacher = network.atac_inputs(torch.from_numpy(inputs.teacher))
            parts = np.array_split(np.arange(len(inputs.batch)), max(len(inputs.batch) // CELLS_AT_ONCE, 1))
            self.rna_student = torch.cat([network.rna_inputs(*self._genes(p), self.batch[p], False) for p in parts])
            self.atac_student = self._fit_bins(inputs)

    def __call__(self, cells: np.ndarray) -> dict[str, Tensor]:
        """(len(cells), width) of each head, the teacher's attention with its gradient."""
        return {
            "rna_teacher": self.network.rna_inputs(*self._genes(cells), self.batch[cells], True),
            "rna_student": self.rna_student[cells],
            "atac_teacher": self.atac_teacher[cells],
            "atac_student": self.atac_student[cells],
        }

    def _fit_bins(self, inputs: PairedInputs) -> Tensor:
        """The bins' vectors, from the training cells, and the prediction for each cell, from other cells only."""
        pool, g = self.network.bins, inputs.bin_weight
        train = inputs.n_train
        scores = self.rna_student[:train].double().numpy()
        total, mass = np.zeros((len(g), scores.shape[1])), np.zeros(len(g))
        for part in np.array_split(np.arange(train), max(train // CELLS_AT_ONCE, 1)):
            w = _unit_rows(inputs, part)
            total += w.T @ scores[part]
            mass += np.asarray(w.sum(0)).ravel()
        vectors = total / np.maximum(mass, 1e-12)[:, None]
        pool.vectors.copy_(torch.from_numpy(vectors))
        pool.weight.copy_(torch.from_numpy(g * mass))
        said = np.zeros((len(inputs.batch), scores.shape[1]))
        for part in np.array_split(np.arange(len(said)), max(len(said) // CELLS_AT_ONCE, 1)):
            w = _unit_rows(inputs, part)
            summed, similarity = w @ total, w @ mass  # sum_j K_ij r_j and sum_j K_ij, with j = i:
            itself = np.asarray(w.power(2).sum(1)).ravel() * (part < train)  # K_ii = 1, or 0 without compared bins
            summed -= itself[:, None] * scores[np.minimum(part, train - 1)]
            similarity -= itself
            # zero for a cell that shares no bins with others, instead of rounding errors
            said[part] = np.where(similarity > 1e-6, 1 / np.maximum(similarity, 1e-6), np.nan)[:, None] * summed
        heard = ~np.asarray(np.isnan(said).any(1))
        centre = said[:train][heard[:train]].mean(0) if heard[:train].any() else np.zeros(said.shape[1])
        scale = np.sqrt(np.nanmean((said[:train] - centre) ** 2)) if heard[:train].any() else 1.0
        pool.centre.copy_(torch.from_numpy(centre))
        pool.scale.copy_(torch.as_tensor(scale or 1.0))
        return torch.from_numpy(np.where(heard[:, None], (said - centre) / (scale or 1.0), 0.0).astype(np.float32))

    def _genes(self, cells: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        return ragged(self.values[cells])


def _unit_rows(inputs: PairedInputs, cells: np.ndarray) -> sp.csr_matrix:
    """W of the cells: g_b / |x_i g| where bin b is open.  (len(cells), n_bins) CSR"""
    rows = inputs.source.rows(inputs.rows[cells])
    w = sp.csr_matrix((inputs.bin_weight[rows.bins], rows.bins, rows.indptr), shape=(len(cells), inputs.source.n_bins))
    norm = np.sqrt(np.asarray(w.power(2).sum(1)).ravel())
    return sp.csr_matrix(sp.diags(1 / np.maximum(norm, 1e-12)) @ w)


def ragged(values: sp.csr_matrix) -> tuple[Tensor, Tensor, Tensor]:
    """Genes, values and rows of a sparse matrix, for :class:`~scatacformer.nn.GenePool`."""
    cell = np.repeat(np.arange(values.shape[0]), np.diff(values.indptr))
    return (
        torch.from_numpy(values.indices.astype(np.int64)),
        torch.from_numpy(values.data.astype(np.float32)),
        torch.from_numpy(cell),
    )


def _train_heads(network: PairedNetwork, read: _Reader, options: PairedOptions, seed: int, progress: bool) -> Outcome:
    """NT-Xent of the pairs of encoders, until the matching of held-out pairs no longer improves."""
    learned = [*network.heads.parameters(), *network.genes.parameters()]

    def loss(cells: np.ndarray) -> Tensor:
        return network.contrastive_loss(read(cells), options.pairing, options.temperature)

    return _descend(network, learned, loss, read, options, seed, progress, "pairs", smallest_step=2)


def _train_predictors(
    network: PairedNetwork, read: _Reader, options: PairedOptions, seed: int, progress: bool
) -> Outcome:
    """Squared error of the scores of expression's components, from the embedding of chromatin.

    The history is that of the first predictor.
    """
    first: Outcome | None = None
    for k, predictor in enumerate(network.predictors):
        x = read.atac_student if k % 2 else read.atac_teacher

        def loss(cells: np.ndarray, predictor=predictor, x=x) -> Tensor:
            return ((predictor(x[cells]) - read.rna_student[cells]) ** 2).mean()

        found = _descend(
            predictor, [*predictor.parameters()], loss, read, options, seed + 1 + k, progress,
            f"expression {k + 1} of {len(network.predictors)}", smallest_step=1, batch_size=min(options.batch_size, 64),
        )  # fmt: skip
        first = first or found
        if found.stopped:
            return Outcome(first.history, True)
    assert first is not None
    return first


def _descend(
    module: torch.nn.Module,
    learned: list[nn.Parameter],
    loss: Callable[[np.ndarray], Tensor],
    read: _Reader,
    options: PairedOptions,
    seed: int,
    progress: bool,
    what: str,
    smallest_step: int,
    batch_size: int | None = None,
) -> Outcome:
    """AdamW until the held-out loss has not decreased for ``early_stopping_patience`` epochs; the best weights are
    restored.

    The weights before the first step are included, so the initial weights are kept if training does not improve them.
    Only trained weights are copied, not the tables of bins and genes.
    """
    inputs, rng = read.inputs, np.random.default_rng(seed)
    size = batch_size or options.batch_size
    held_out = np.arange(inputs.n_train, len(inputs.batch))

    def minibatches(epoch: int) -> Iterator[np.ndarray]:
        order = rng.permutation(inputs.n_train)
        parts = (order[first : first + size] for first in range(0, len(order), size))
        return (cells for cells in parts if len(cells) >= smallest_step)

    def validate() -> dict[str, float]:
        parts = np.array_split(held_out, max(len(held_out) // CELLS_AT_ONCE, 1))
        mean = np.average([float(loss(p)) for p in parts], weights=[len(p) for p in parts])
        return {"validation_loss": float(mean)}

    return descend(
        loss,
        minibatches,
        torch.optim.AdamW(learned, lr=options.lr, weight_decay=options.weight_decay),
        DescendOptions(
            what=what, max_epochs=options.max_epochs, patience=options.early_stopping_patience, seed=seed,
            progress=progress, advice=f"Lower lr of train_pairs (it is {options.lr})",
            if_interrupted="later parts keep their initial weights",
        ),
        describe=lambda cells: f"cells (row numbers): {inputs.rows[cells[:10]].tolist()}",
        validate=validate, modules=[module],
    )  # fmt: skip


@torch.no_grad()
def _fit_expression(network: PairedNetwork, read: _Reader, inputs: PairedInputs) -> None:
    """Least squares from scores to genes on the training cells; residual variance on the held-out ones."""
    scores = read.rna_student[: inputs.n_train].double().numpy()
    values = log_normalised(inputs.counts)
    mean = np.asarray(values[: inputs.n_train].mean(0)).ravel()
    centred = scores - scores.mean(0)
    gram = centred.T @ centred + 1e-6 * len(centred) * np.eye(centred.shape[1])
    loadings = np.linalg.solve(gram, (values[: inputs.n_train].T @ centred).T)  # (d_rna, n_genes); centred: mean drops
    network.expression_loadings.copy_(torch.from_numpy(loadings))
    network.expression_mean.copy_(torch.from_numpy(mean - scores.mean(0) @ loadings))
    held_out = np.arange(inputs.n_train, len(inputs.batch))
    total = np.zeros(len(mean))
    for part in np.array_split(held_out, max(len(held_out) // 256, 1)):
        predicted = network.expression(read.atac_teacher[part], read.atac_student[part])[0].numpy()
        total += ((values[part].toarray() - predicted) ** 2).sum(0)
    network.expression_variance.copy_(torch.from_numpy(total / len(held_out)))
