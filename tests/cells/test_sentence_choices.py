"""Sentences of cells of every length, from none: shares and caps, draws, empty cells, neighbours in every role."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from scatacformer.cells import RowSource
from scatacformer.cells.loader import RaggedBatch
from scatacformer.cells.sampling import uniform
from scatacformer.cells.sentence import ReadSentences, SentencePolicy, TrainSentences

N_CELLS, N_BINS = 40, 300
CHROM = np.arange(N_BINS) % 3  # not sorted
LOOSE = {"max_tokens": 10_000, "max_targets": 10_000, "max_states": 10_000}


@pytest.fixture(scope="module")
def matrix() -> sp.csr_matrix:
    rng = np.random.default_rng(0)
    x = rng.random((N_CELLS, N_BINS)) < np.linspace(0.02, 0.6, N_CELLS)[:, None]
    x[:2] = False  # an empty cell
    x[1, 7] = True  # a cell of one bin
    return sp.csr_matrix(x.astype(np.float32))


@pytest.fixture(scope="module")
def source(matrix) -> RowSource:
    return RowSource.from_matrix(matrix)


def ragged(source, cells, epoch=0, shuffle=None) -> RaggedBatch:
    cells = np.asarray(cells)
    indptr, bins, _ = source.rows(cells)
    if shuffle is not None:
        parts = [np.random.default_rng(shuffle).permutation(p) for p in np.split(bins, indptr[1:-1])]
        bins = np.concatenate(parts)
    return RaggedBatch(cells, indptr, bins, None, epoch)


def train(source, neighbors=None, frequency=None, **policy) -> TrainSentences:
    if frequency is None:
        frequency = (source.n_open_per_bin() + 0.5) / (source.n_open_per_bin() + 0.5).sum()
    codes = np.arange(N_CELLS) % 2
    return TrainSentences(source, codes, frequency, CHROM, SentencePolicy(**policy), neighbors)


def by_cell(batch, flat, boundaries) -> list[set]:
    cu = batch[boundaries].numpy()
    return [set(part.tolist()) for part in np.split(batch[flat].numpy(), cu[1:-1])]


def targets_by_cell(batch, name="target", n=N_CELLS) -> list[set]:
    bins, cell = batch[f"{name}_bins"].numpy(), batch[f"{name}_cell"].numpy()
    return [set(bins[cell == i].tolist()) for i in range(n)]


def open_sets(matrix) -> list[set]:
    return [set(matrix[i].indices.tolist()) for i in range(matrix.shape[0])]


@pytest.mark.parametrize("share", [0.15, 0.5, 0.9])
def test_kept_and_removed_are_the_open_bins(matrix, source, share):
    batch = train(source, removed_share=share, **LOOSE)(ragged(source, np.arange(N_CELLS)))
    kept, removed = by_cell(batch, "bins", "cu_seqlens"), targets_by_cell(batch)
    n_kept = 0
    for k, r, o in zip(kept, removed, open_sets(matrix), strict=True):
        assert not k & r
        assert k | r == o
        assert len(k) >= min(len(o), 1)
        n_kept += len(k)
    n = matrix.nnz
    assert abs(1 - n_kept / n - share) < 4 * (share * (1 - share) / n) ** 0.5


def test_every_draw_is_a_number_between_zero_and_one_of_its_own():
    x = uniform(np.arange(20_000), 3, 1, 0, 5)
    assert x.min() >= 0 and x.max() < 1
    assert len(np.unique(x)) == len(x)
    counts = np.histogram(x, 20, (0, 1))[0]
    assert np.abs(counts - 1000).max() < 5 * 1000**0.5
    for other in (uniform(np.arange(20_000), *a) for a in ((4, 1, 0, 5), (3, 2, 0, 5), (3, 1, 1, 5), (3, 1, 0, 6))):
        assert abs(np.corrcoef(x, other)[0, 1]) < 0.03


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_caps_are_obeyed_and_reached(matrix, source, share):
    caps = {"max_tokens": 9, "max_targets": 7, "max_states": 5}
    batch = train(source, removed_share=share, **caps)(ragged(source, np.arange(N_CELLS)))
    kept, tokens = by_cell(batch, "bins", "cu_seqlens"), by_cell(batch, "tokens", "token_cu_seqlens")
    targets, states = targets_by_cell(batch), targets_by_cell(batch, "state")
    for k, t, r, s, o in zip(kept, tokens, targets, states, open_sets(matrix), strict=True):
        assert t <= k
        assert len(t) == min(len(k), 9)
        assert r <= o - k
        assert len(r) == min(len(o - k), 7)
        assert s <= o
        assert len(s) == min(len(o), 5)


def test_states_say_which_bins_were_kept(source):
    batch = train(source, removed_share=0.5, max_states=20)(ragged(source, np.arange(N_CELLS)))
    kept = by_cell(batch, "bins", "cu_seqlens")
    said = batch["state_kept"].numpy()
    pairs = zip(batch["state_bins"].tolist(), batch["state_cell"].tolist(), strict=True)
    assert said.tolist() == [b in kept[c] for b, c in pairs]
    assert 0.3 < said.mean() < 0.7


def test_the_rate_is_the_share_of_open_bins_that_are_predicted(matrix, source):
    batch = train(source, max_targets=7)(ragged(source, np.arange(N_CELLS)))
    n_open = np.diff(matrix.indptr)
    np.testing.assert_array_equal(batch["depth"].numpy(), n_open)
    n_targets = np.bincount(batch["target_cell"].numpy(), minlength=N_CELLS)
    some = n_targets > 0
    np.testing.assert_allclose(np.exp(batch["log_rate"].numpy())[some], (n_targets / n_open.clip(1))[some], rtol=1e-5)
    assert np.isfinite(batch["log_rate"].numpy()).all()


@pytest.mark.parametrize(("epoch", "seed"), [(1, 0), (0, 1)])
def test_epoch_and_seed_change_the_choices(source, epoch, seed):
    cells = np.arange(2, N_CELLS)
    one = by_cell(train(source)(ragged(source, cells)), "bins", "cu_seqlens")
    same = by_cell(train(source)(ragged(source, cells)), "bins", "cu_seqlens")
    other = by_cell(train(source, seed=seed)(ragged(source, cells, epoch)), "bins", "cu_seqlens")
    assert one == same
    assert sum(a != b for a, b in zip(one, other, strict=True)) > 30


def test_closed_bins_are_drawn_by_frequency(source):
    frequency = np.arange(1, N_BINS + 1, dtype=float)
    frequency[50:80] = 0
    frequency /= frequency.sum()
    batch = train(source, frequency=frequency, n_closed=60_000)(ragged(source, [5]))
    counts = np.bincount(batch["sampled"].numpy(), minlength=N_BINS)
    expected = frequency * 60_000
    assert counts[50:80].sum() == 0
    assert np.abs((counts - expected) / np.sqrt(expected + 1)).max() < 5


def test_another_epoch_draws_other_closed_bins(source):
    sentences = train(source, n_closed=100)
    one, same, other = (sentences(ragged(source, [5, 6], e))["sampled"].numpy() for e in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)


def test_for_all_closed_bins_the_open_ones_are_handed_over(matrix, source):
    batch = train(source, n_closed=None)(ragged(source, np.arange(N_CELLS)))
    assert "sampled" not in batch
    found = sp.csr_matrix((np.ones(matrix.nnz), (batch["open_cell"], batch["open_bins"])), matrix.shape)
    np.testing.assert_array_equal(found.toarray(), matrix.toarray() > 0)


@pytest.fixture(scope="module")
def neighbors() -> np.ndarray:
    near = (np.arange(N_CELLS)[:, None] + [1, 2, 3]) % N_CELLS
    near[4] = -1  # held out: it has none
    return near


def test_a_neighbour_stands_in_for_the_cell(matrix, source, neighbors):
    sentences = train(source, neighbors, neighbor_share=1.0, n_closed=500, **LOOSE)
    batch = sentences(ragged(source, np.arange(N_CELLS)))
    opened, kept, targets = open_sets(matrix), by_cell(batch, "bins", "cu_seqlens"), targets_by_cell(batch)
    dense, sampled = matrix.toarray(), batch["sampled"].numpy()
    for cell in range(N_CELLS):
        assert kept[cell] <= opened[cell]  # the input is always the cell's own
        if cell == 4:
            assert targets[4] == opened[4] - kept[4]
            continue
        partner = [p for p in neighbors[cell] if opened[p] == targets[cell]]
        assert len(partner) == 1
        np.testing.assert_array_equal(batch["closed"][cell].numpy(), dense[partner[0], sampled] == 0)
        assert batch["depth"][cell] == len(opened[partner[0]])
        assert batch["batch"][cell] == partner[0] % 2


def test_neighbours_stand_in_for_their_share_of_the_cells(source, neighbors):
    share = []
    for epoch in range(20):
        sentences = train(source, neighbors, neighbor_share=0.3)
        at = sentences._partners(np.arange(N_CELLS), epoch)
        assert ((at == np.arange(N_CELLS)) | (at[:, None] == neighbors).any(1)).all()
        share.append((at != np.arange(N_CELLS)).mean())
    assert abs(np.mean(share) - 0.3 * 39 / 40) < 0.07


def test_targets_of_neighbours_are_cut_to_the_cap_too(source, neighbors):
    batch = train(source, neighbors, neighbor_share=1.0, max_targets=7)(ragged(source, np.arange(N_CELLS)))
    assert np.bincount(batch["target_cell"].numpy()).max() == 7


def test_reading_keeps_every_bin_and_chooses_the_same_tokens_always(matrix, source):
    sentences = ReadSentences(np.arange(N_CELLS) % 2, max_tokens=25)
    batch = sentences(ragged(source, np.arange(N_CELLS)))
    assert by_cell(batch, "bins", "cu_seqlens") == open_sets(matrix)
    tokens = by_cell(batch, "tokens", "token_cu_seqlens")
    assert [len(t) for t in tokens] == np.minimum(np.diff(matrix.indptr), 25).tolist()
    assert batch["batch"].tolist() == (np.arange(N_CELLS) % 2).tolist()
    again = sentences(ragged(source, [30, 39, 2], epoch=8, shuffle=3))
    assert by_cell(again, "tokens", "token_cu_seqlens") == [tokens[c] for c in (30, 39, 2)]
    assert by_cell(again, "bins", "cu_seqlens") == [open_sets(matrix)[c] for c in (30, 39, 2)]


@pytest.mark.parametrize("cells", [[0], [0, 0], [0, 5, 0], [5, 0]])
@pytest.mark.parametrize("n_closed", [10, None])
def test_cells_without_open_bins_take_their_place(source, cells, n_closed):
    batch = train(source, n_closed=n_closed)(ragged(source, cells))
    lengths = np.diff(batch["cu_seqlens"].numpy())
    assert ((lengths == 0) == (np.array(cells) == 0)).all()
    assert np.isin(np.array(cells)[batch["target_cell"].numpy()], 5).all()
    assert np.isfinite(batch["log_rate"].numpy()).all()


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"max_tokens": 0}, "max_tokens is 0; expected at least 1"),
        ({"max_targets": -1}, "max_targets is .*; expected at least 1"),
        ({"n_closed": 0}, "n_closed is .*; expected at least 1"),
        ({"removed_share": 0.95}, "removed_share is 0.95; expected 0 ... 0.9"),
        ({"neighbor_share": 1.5}, "neighbor_share is 1.5; expected 0 ... 1"),
        ({"neighbor_share": float("nan")}, "neighbor_share"),
    ],
)
def test_a_policy_that_cannot_be_is_refused(option, message):
    with pytest.raises(ValueError, match=message):
        SentencePolicy(**option)
