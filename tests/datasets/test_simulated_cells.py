from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse
from sklearn.decomposition import TruncatedSVD
from sklearn.neighbors import NearestNeighbors

from scatacformer.datasets import simulated_cells
from scatacformer.datasets._type_tree import evolve, random_tree
from scatacformer.genome import Vocabulary

GENOME = {"chr1": 20_000_000, "chr2": 12_003_000, "chr3": 8_000_000}


@pytest.fixture(scope="module")
def cells():
    return simulated_cells(500, 4, genome=GENOME, fragments=2000, batches=2, seed=3)


def test_all_bins_of_the_genome_in_csr_counts(cells):
    assert Vocabulary.from_var(cells.var) == Vocabulary.from_chrom_sizes(GENOME)
    assert isinstance(cells.X, sparse.csr_matrix)
    assert cells.X.dtype == np.float32
    assert cells.X.has_canonical_format
    assert (cells.X.data >= 1).all()
    assert (cells.X.data == np.rint(cells.X.data)).all()
    np.testing.assert_array_equal(cells.X.sum(1).A1, cells.obs["n_fragments"])
    assert "assembly" not in cells.uns  # these sizes are of no known assembly


def test_a_named_genome_is_named_in_the_data():
    cells = simulated_cells(3, 1, genome="GRCh38", fragments=50)
    assert cells.uns["assembly"] == "hg38"
    assert cells.n_vars == 606_219
    assert not {"chrM", "chrY"} & set(cells.var["chrom"])


def test_same_seed_same_cells_other_seed_others(cells):
    again = simulated_cells(500, 4, genome=GENOME, fragments=2000, batches=2, seed=3)
    other = simulated_cells(500, 4, genome=GENOME, fragments=2000, batches=2, seed=4)
    assert (cells.X != again.X).nnz == 0
    assert cells.obs.equals(again.obs)
    assert (cells.X != other.X).nnz > 0


def test_depth_is_log_normal_around_what_was_asked(cells):
    depth = cells.obs["n_fragments"].to_numpy()
    assert 1500 < np.median(depth) < 2700
    assert 0.3 < np.log(depth).std() < 0.6


def test_every_type_and_batch_has_cells(cells):
    assert cells.obs["cell_type"].value_counts().min() > 0
    assert len(cells.obs["cell_type"].cat.categories) == 4
    assert cells.obs["batch"].value_counts().tolist() == [250, 250]


def neighbour_purity(cells, labels):
    latent = TruncatedSVD(10, random_state=0).fit_transform((cells.X > 0).astype(np.float32))
    latent = latent[:, 1:] / latent[:, :1]
    nearest = NearestNeighbors(n_neighbors=16).fit(latent).kneighbors(latent)[1][:, 1:]
    return (labels[nearest] == labels[:, None]).mean()


def test_types_can_be_told_apart_but_not_trivially(cells):
    labels = cells.obs["cell_type"].to_numpy()
    purity = neighbour_purity(cells, labels)
    shuffled = neighbour_purity(cells, np.random.default_rng(0).permutation(labels))
    assert purity > shuffled + 0.15
    assert purity < 0.999


def test_more_turnover_makes_types_easier_and_none_makes_them_the_same():
    purity = []
    for turnover in (0.0, 0.3, 1.0):
        cells = simulated_cells(500, 4, genome=GENOME, fragments=2000, turnover=turnover, seed=3)
        purity.append(neighbour_purity(cells, cells.obs["cell_type"].to_numpy()))
    assert purity[0] < 0.4 < purity[1] - 0.1 < purity[2] - 0.1
    with pytest.raises(ValueError, match="turnover is -1; expected 0 or more"):
        simulated_cells(genome=GENOME, turnover=-1)


def test_types_that_are_close_on_the_tree_share_more_open_bins():
    cells = simulated_cells(1200, 6, genome=GENOME, fragments=4000, seed=5)
    codes = cells.obs["cell_type"].cat.codes.to_numpy()
    regulatory = cells.var["regulatory"].to_numpy()
    means = np.stack([cells.X[codes == code][:, regulatory].mean(0).A1 for code in range(6)])
    likeness = np.corrcoef(means / means.sum(1, keepdims=True))
    distance = cells.uns["scatacformer"]["simulated_cells"]["type_distance"]
    pairs = np.triu_indices(6, 1)
    assert np.corrcoef(likeness[pairs], distance[pairs])[0, 1] < -0.8


def test_only_regulatory_bins_differ_between_types():
    cells = simulated_cells(1000, 2, genome=GENOME, fragments=4000, seed=6)
    first = (cells.obs["cell_type"] == "type 1").to_numpy()
    a, b = cells.X[first].sum(0).A1, cells.X[~first].sum(0).A1
    ratio = np.log((a + 1) / a.sum()) - np.log((b + 1) / b.sum())
    regulatory = cells.var["regulatory"].to_numpy()
    seen = a + b > 100
    noise = np.sqrt(1 / (a + 1) + 1 / (b + 1))
    spread = np.abs(ratio / noise) > 5
    assert spread[seen & regulatory].mean() > 0.02
    assert spread[seen & ~regulatory].mean() < 0.001


def test_batches_differ_in_every_bin_and_one_batch_has_no_effect():
    two = simulated_cells(1000, 1, genome=GENOME, fragments=4000, batches=2, seed=7)
    one = simulated_cells(1000, 1, genome=GENOME, fragments=4000, batches=1, seed=7)

    def excess(cells, half):
        a, b = cells.X[half].sum(0).A1, cells.X[~half].sum(0).A1
        seen = a + b > 100
        ratio = (np.log((a + 1) / a.sum()) - np.log((b + 1) / b.sum()))[seen]
        return ratio.var() / (1 / (a + 1) + 1 / (b + 1))[seen].mean()

    assert excess(two, (two.obs["batch"] == "batch 1").to_numpy()) > 3
    assert excess(one, np.arange(1000) % 2 == 0) == pytest.approx(1, abs=0.3)


@pytest.mark.parametrize("argument", ["n_cells", "n_types", "fragments", "batches"])
def test_numbers_below_one_are_refused(argument):
    with pytest.raises(ValueError, match=f"{argument} is 0; expected a whole number of at least 1"):
        simulated_cells(genome=GENOME, **{argument: 0})


def test_a_genome_of_a_few_bins_works():
    cells = simulated_cells(20, 2, genome={"chr1": 12_000}, fragments=10)
    assert cells.shape == (20, 3)
    assert cells.X.nnz > 0


@pytest.mark.parametrize("n_types", [1, 2, 3, 9])
def test_tree_has_every_type_at_depth_one(n_types):
    tree = random_tree(n_types, np.random.default_rng(n_types))
    assert len(tree.leaves) == n_types
    assert (tree.parent[1:] < np.arange(1, len(tree.parent))).all()
    if n_types > 1:
        np.testing.assert_allclose(tree.depth[tree.leaves], 1)
        assert np.isin(tree.leaves, tree.parent, invert=True).all()
    distance = tree.distance()
    np.testing.assert_allclose(distance, distance.T)
    assert (distance[~np.eye(n_types, dtype=bool)] > 0).all()


def test_without_turnover_types_are_the_same():
    tree = random_tree(4, np.random.default_rng(0))
    same = evolve(tree, 100, 0.0, np.random.default_rng(1))
    other = evolve(tree, 100, 1.0, np.random.default_rng(1))
    assert (same == same[0]).all()
    assert not (other == other[0]).all()
