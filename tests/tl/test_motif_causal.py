"""ICA-LiNGAM finds a graph that was planted, in any order of the columns."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

import scatacformer as sf
from scatacformer.tl._motif_causal import ica_lingam

P = 10


def planted(n=6000, seed=0):
    """Rows of a linear system with Laplace noise, and its weights [cause, effect]; columns are in no causal order."""
    rng = np.random.default_rng(seed)
    weights = np.triu(rng.uniform(0.5, 1.2, (P, P)) * rng.choice([-1, 1], (P, P)), 1) * (rng.random((P, P)) < 0.4)
    x = rng.laplace(size=(n, P))
    for effect in range(P):
        x[:, effect] += x[:, :effect] @ weights[:effect, effect]
    shuffled = rng.permutation(P)
    return x[:, shuffled], weights[np.ix_(shuffled, shuffled)]


def gene_by_motif(x, groups=("T", "B")):
    names = [f"motif_{i}" for i in range(x.shape[1])]
    obs = pd.DataFrame({"gene": [f"g{i}" for i in range(len(x))], "group": np.resize(groups, len(x))})
    obs.index = obs["gene"] + ":" + obs["group"]
    return ad.AnnData(x.astype(np.float32), obs=obs, var=pd.DataFrame(index=names))


def distance(found, weights):
    """Structural Hamming distance: edges to add, remove or turn."""
    found, expected = np.abs(found) > 0.05, weights != 0
    wrong = found != expected
    turned = found & expected.T & ~expected & ~found.T
    return int(wrong.sum() - turned.sum())


@pytest.mark.parametrize("seed", range(4))
def test_the_planted_graph_is_found_in_any_order_of_columns(seed):
    x, weights = planted()
    assert (weights != 0).sum() >= 10
    order = np.random.default_rng(seed).permutation(P)
    gbm = gene_by_motif(x[:, order])
    found = sf.tl.motif_causal(gbm, min_weight=0.05)
    assert distance(found.to_numpy(), weights[np.ix_(order, order)]) <= 2
    assert distance(found.to_numpy().T, weights[np.ix_(order, order)]) > 5  # the direction is found, not only the pairs
    assert np.array_equal(gbm.varp["motif_causal"], found.to_numpy())


def test_signs_and_sizes_are_those_of_the_standardised_system():
    x, weights = planted()
    found = sf.tl.motif_causal(gene_by_motif(x)).to_numpy()
    expected = weights * x.std(0)[:, None] / x.std(0)
    assert np.abs(found - expected).max() < 0.08


def test_it_agrees_with_causal_learn():
    lingam = pytest.importorskip("causallearn.search.FCMBased.lingam")
    x, _ = planted()
    x = (x - x.mean(0)) / x.std(0)
    reference = lingam.ICALiNGAM(random_state=0, max_iter=1000)
    reference.fit(x)
    ours = ica_lingam(x, seed=0)
    theirs = reference.adjacency_matrix_.T
    assert ((np.abs(ours) > 0.05) == (np.abs(theirs) > 0.05)).mean() > 0.97
    assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > 0.98


def test_independent_motifs_give_no_graph():
    x = np.random.default_rng(0).laplace(size=(4000, 6))
    assert (np.abs(sf.tl.motif_causal(gene_by_motif(x)).to_numpy()) > 0.05).sum() == 0


def test_one_seed_one_answer():
    gbm = gene_by_motif(planted(2000)[0])
    assert sf.tl.motif_causal(gbm, seed=4).equals(sf.tl.motif_causal(gbm, seed=4))


def test_bad_matrices_are_refused():
    x, _ = planted(400)
    with pytest.raises(ValueError, match="gbm has 15 rows for 10 motifs; expected at least 20"):
        sf.tl.motif_causal(gene_by_motif(x[:15]))
    with pytest.raises(KeyError, match="no row of gbm has group 'NK'"):
        sf.tl.motif_causal(gene_by_motif(x), "NK")
    for change, message in (
        (lambda x: x[:, 3].fill(1.0), r"1 motifs are constant \(first: motif_3\)"),
        (lambda x: np.copyto(x[:, 3], x[:, 2]), "some motifs are linear combinations of others"),
        (lambda x: x[5].fill(np.nan), "NaN or infinite scores"),
    ):
        bad = x.copy()
        change(bad)
        with pytest.raises(ValueError, match=message):
            sf.tl.motif_causal(gene_by_motif(bad))


def test_correlation_is_spearmans_of_a_group():
    gbm = gene_by_motif(planted(300)[0])
    found = sf.tl.motif_correlation(gbm, "T")
    expected = spearmanr(gbm.X[::2]).statistic
    np.testing.assert_allclose(found.to_numpy(), expected, atol=1e-12)
    assert np.array_equal(gbm.varp["motif_correlation"], found.to_numpy())
    pearson = sf.tl.motif_correlation(gbm, method="pearson").to_numpy()
    np.testing.assert_allclose(pearson, np.corrcoef(gbm.X.astype(float).T), atol=1e-9)
    with pytest.raises(ValueError, match="method is 'kendall'; expected 'spearman' or 'pearson'"):
        sf.tl.motif_correlation(gbm, method="kendall")


def test_a_sample_of_rows_comes_close_to_all():
    gbm = gene_by_motif(planted(5000)[0])
    some = sf.tl.motif_correlation(gbm, max_rows=2500).to_numpy()
    every = sf.tl.motif_correlation(gbm).to_numpy()
    assert not np.array_equal(some, every)
    np.testing.assert_allclose(some, every, atol=0.06)
