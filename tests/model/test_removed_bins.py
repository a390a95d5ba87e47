"""Hidden bins rank above closed ones of the same frequency where cells have types, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.stats import rankdata

from scatacformer.cells import RowSource, SentenceLoader, SentencePolicy, TrainSentences

from ._cells import N_BINS, planted, trained


def hidden_auroc(model, adata, seed: int = 11) -> float:
    """AUROC of removed bins against closed ones matched for frequency.

    Bin by bin: the cells in which it was removed against those in which it is closed, with each cell's depth taken
    out. A model that knows only how often bins are open gives 0.5.
    """
    import torch

    source = RowSource.from_matrix(adata.X)
    n = adata.n_obs
    policy = SentencePolicy(max_tokens=32, removed_share=0.3, max_targets=10_000, n_closed=1, seed=seed)
    collate = TrainSentences(source, np.zeros(n, np.int64), np.ones(N_BINS), model.vocabulary.chrom, policy)
    (batch,) = SentenceLoader(source, batch_size=n, collate=collate)
    with torch.no_grad():
        cells = model.module.encode(batch)
        context = model.module.context(cells, model.module.mean_depth.expand(n), batch["batch"])
        p = model.module.accessibility(context, torch.arange(N_BINS)).numpy()
    removed = np.zeros((n, N_BINS), bool)
    removed[batch["target_cell"].numpy(), batch["target_bins"].numpy()] = True
    closed = adata.X.toarray() == 0
    above, pairs = 0.0, 0
    for b in range(N_BINS):
        high, low = p[removed[:, b], b], p[closed[:, b], b]
        if len(high) and len(low):
            ranks = rankdata(np.concatenate([high, low]))
            above += ranks[: len(high)].sum() - len(high) * (len(high) + 1) / 2
            pairs += len(high) * len(low)
    return above / pairs


def without_batch(n_cells: int, seed: int):
    return planted(n_cells, seed=seed, batches=("a",))


def shuffled(adata, seed: int):
    """Each bin open in as many cells, but in others: nothing in a cell tells of its other bins."""
    rng = np.random.default_rng(seed)
    dense = adata.X.toarray()
    adata.X = sp.csr_matrix(np.stack([rng.permutation(column) for column in dense.T], 1))
    return adata


TRAIN = {"max_epochs": 6, "plan_kwargs": {"n_decoder_epochs": 2}}


@pytest.mark.parametrize("decoder", ["bilinear", "mlp"])
def test_hidden_bins_of_new_cells_rank_above_closed_ones(decoder):
    model = trained(without_batch(150, seed=0), decoder=decoder, train=TRAIN)
    assert hidden_auroc(model, without_batch(90, seed=21)) > 0.6


def test_where_bins_are_shuffled_over_cells_hidden_ones_are_like_closed_ones():
    model = trained(shuffled(without_batch(150, seed=0), 1), train=TRAIN)
    assert hidden_auroc(model, shuffled(without_batch(90, seed=21), 2)) == pytest.approx(0.5, abs=0.05)
