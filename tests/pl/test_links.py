"""Arcs of a gene: which links are drawn, how high, and what stands above them."""

from __future__ import annotations

import anndata as ad
import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

mpl.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.patches import PathPatch

import scatacformer as sf
from scatacformer.genome import Genes, Vocabulary, links_table, window_pairs

BINS = Vocabulary.from_chrom_sizes({"chr1": 400_000, "chr2": 100_000}, 5000)
GENES = Genes(["Abc", "Def", "Far"], ("chr1", "chr2"), [0, 0, 1], [200_000, 52_000, 1_000], ["+", "-", "+"])


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


@pytest.fixture
def table():
    """Every third bin of a gene is linked, with scores of either sign; of `Far`, none."""
    pairs = window_pairs(GENES, BINS, 100_000)
    n = len(pairs.bins)
    rng = np.random.default_rng(0)
    q = np.where(np.arange(n) % 3 == 0, 0.01, 0.9)
    q[pairs.indptr[2] :] = 0.9
    return links_table(GENES, BINS, pairs, rng.normal(size=n), q, q, np.ones(BINS.n_bins, int))


def arcs_of(ax):
    """(where it ends in bp, height) of each arc, by where it ends."""
    found = []
    for patch in ax.patches:
        assert isinstance(patch, PathPatch)
        (_, y0), (_, control), _, (x1, y1) = patch.get_path().vertices
        assert y0 == y1 == 0
        found.append((round(x1 * 1e6), control * 3 / 4))
    return sorted(found)


def expected(rows):
    return sorted(((row.start + row.end) // 2, row.score) for row in rows.itertuples())


def test_every_link_below_the_q_value_is_an_arc_as_high_as_its_score(table):
    arcs, bins = sf.pl.links(table, "Abc")
    linked = table[(table["gene"] == "Abc") & (table["q"] <= 0.05)]
    assert 5 < len(linked) < (table["gene"] == "Abc").sum()
    for (x, height), (centre, score) in zip(arcs_of(arcs), expected(linked), strict=True):
        assert abs(x - centre) <= 1 and height == pytest.approx(score)
    assert arcs.get_title(loc="left") == f"{len(linked)} of {(table['gene'] == 'Abc').sum()} bins linked at q ≤ 0.05"
    assert len(bins.patches) - sum(isinstance(p, mpl.patches.FancyArrowPatch) for p in bins.patches) == len(linked)
    low, high = (1e6 * limit for limit in bins.get_xlim())
    assert low < linked["start"].min() and high > linked["end"].max() and low < 200_000 < high
    assert arcs.get_ylim()[0] < linked["score"].min() < 0 < linked["score"].max() < arcs.get_ylim()[1]


def test_an_arc_reaches_its_height_halfway(table):
    arcs, _ = sf.pl.links(table, "Abc")
    for patch in arcs.patches:
        (_, _), (_, control), _, _ = patch.get_path().vertices
        low, high = patch.get_path().get_extents().get_points()[:, 1]
        assert max(abs(low), abs(high)) == pytest.approx(abs(control) * 3 / 4)


def test_of_many_links_the_strongest_are_drawn(table):
    arcs, _ = sf.pl.links(table, "Abc", max_links=4, max_q=1)
    here = table[table["gene"] == "Abc"]
    strongest = here.loc[here["score"].abs().nlargest(4).index]
    assert [height for _, height in arcs_of(arcs)] == pytest.approx([score for _, score in expected(strongest)])
    assert arcs.get_title(loc="left").endswith("at q ≤ 1, 4 drawn")


def test_a_region_leaves_out_what_lies_beyond(table):
    arcs, bins = sf.pl.links(table, "Abc", region="chr1:150,000-220,000")
    ends = [x for x, _ in arcs_of(arcs)]
    assert ends and all(147_500 <= x <= 222_500 for x in ends)
    assert bins.get_xlim() == pytest.approx((0.15, 0.22))
    with pytest.raises(ValueError, match="chr2:1-9 is not on chr1, the chromosome of Abc"):
        sf.pl.links(table, "Abc", region="chr2:1-9")


def test_a_gene_without_links_is_drawn_and_said(table, tmp_path):
    arcs, _ = sf.pl.links(table, "Far", save=tmp_path / "far.png")
    assert not arcs.patches and arcs.get_title(loc="left") == "no bin linked at q ≤ 0.05"
    assert [path.name for path in tmp_path.iterdir()] == ["far.png"] and not plt.get_fignums()


@pytest.mark.parametrize(("gene", "way"), [("Abc", 1), ("Def", -1)])
def test_the_arrow_points_the_way_the_gene_is_read(table, gene, way):
    _, bins = sf.pl.links(table, gene)
    arrow, name = bins.texts
    assert np.sign(arrow.xy[0] - arrow.get_position()[0]) == way
    assert name.get_text() == gene


def test_genes_that_are_not_there_bring_others_to_mind(table):
    with pytest.raises(KeyError, match="no row for 'abc'; did you mean Abc?"):
        sf.pl.links(table, "abc")
    with pytest.raises(KeyError, match="It has Abc, Def, Far"):
        sf.pl.links(table, "zzzzz")
    with pytest.raises(ValueError, match="lacks the column q"):
        sf.pl.links(table.drop(columns="q"), "Abc")


def test_panels_of_groups_show_their_cells_above_the_arcs(table):
    rng = np.random.default_rng(0)
    order = rng.permutation(BINS.n_bins)[: BINS.n_bins // 2]  # half of the bins, not in order: gaps between them
    x = sp.csr_matrix((rng.random((60, len(order))) < 0.3).astype(np.float32))
    cells = ad.AnnData(x, obs=pd.DataFrame({"type": ["b", "a", "b"] * 20}), var=BINS.to_frame().iloc[order])
    axes = sf.pl.links(table, "Abc", "type", adata=cells)
    assert [ax.get_title(loc="left") for ax in axes[:2]] == ["a", "b"] and len(axes) == 4
    assert len({ax.get_xlim() for ax in axes}) == 1
    low, high = (1e6 * limit for limit in axes[0].get_xlim())
    var = cells.var
    inside = np.flatnonzero((var["chrom"] == "chr1") & (var["end"] > low) & (var["start"] < high))
    for ax, group in zip(axes[:2], "ab", strict=True):
        values, edges, _ = ax.patches[0].get_data()
        share = dict(zip((edges[:-1] * 1e6).round().astype(int).tolist(), values, strict=True))
        measured = np.asarray((x[(cells.obs["type"] == group).to_numpy()] > 0).mean(0)).ravel()
        assert all(share.pop(int(var["start"].iloc[i])) == pytest.approx(measured[i]) for i in inside)
        assert not any(share.values())  # nothing between the bins
    with pytest.raises(ValueError, match="groupby is given without cells. Pass adata="):
        sf.pl.links(table, "Abc", "type")
    with pytest.raises(KeyError, match="no column 'kind'"):
        sf.pl.links(table, "Abc", "kind", adata=cells)
