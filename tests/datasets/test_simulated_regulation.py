from __future__ import annotations

import gzip

import numpy as np
import pandas as pd
import pytest

from scatacformer.datasets import simulated_regulation
from scatacformer.pp import map_expression, scan_motifs
from scatacformer.sequence import Fasta, Motifs, ScanSettings, scan_sequences


@pytest.fixture(scope="module")
def sim(tmp_path_factory):
    sim = simulated_regulation(tmp_path_factory.mktemp("regulation"), n_chroms=4, n_promoters=40, n_groups=6, seed=3)
    scan_motifs(sim.regions, sim.fasta, sim.motifs)
    map_expression(sim.regions, sim.rna, sim.gtf)
    return sim


def is_open(sim):
    """From what is measured alone: closed regions have a thirtieth of the fragments of open ones."""
    return sim.regions.layers["acpm"] > 0.5


def test_the_same_seed_makes_the_same_genome(tmp_path):
    options = {"n_chroms": 2, "n_promoters": 3, "n_groups": 2, "n_cells": 5, "depth": 2_000}
    made = [
        simulated_regulation(tmp_path / name, **options, seed=seed) for name, seed in (("a", 0), ("b", 0), ("c", 1))
    ]
    for kind in ("fasta", "gtf", "meme", "fragments"):
        a, b, c = (getattr(one, kind).read_bytes() for one in made)
        assert a == b
        if kind in ("fasta", "fragments"):
            assert a != c
    assert made[0].links.equals(made[1].links)
    assert np.array_equal(made[0].rna.X, made[1].rna.X)
    assert not list((tmp_path / "a").glob(".*partial*"))


def test_the_scan_finds_what_was_planted(sim):
    from sklearn.metrics import roc_auc_score

    names = list(sim.regions.uns["motif"]["names"])
    for name in names:
        found = roc_auc_score(sim.holds[name], sim.regions.varm["motif"][:, names.index(name)])
        assert found > 0.95, name
        if name not in (sim.roles.core, *sim.roles.decoys):  # of these, none by chance
            assert (sim.holds[name].to_numpy() == (sim.regions.varm["motif"][:, names.index(name)] > 0)).mean() > 0.995


def test_expression_follows_the_law(sim):
    """Counted again, gene by gene, from what regions hold and what is open."""
    roles, open_ = sim.roles, is_open(sim)
    chrom = sim.regions.var["chrom"].to_numpy()
    table = sim.regions.uns["gene_tss"]
    assert len(table) == sim.rna.n_vars - 1
    holds = {name: sim.holds[name].to_numpy() for name in sim.holds}
    law = pd.DataFrame(sim.rna.layers["without_noise"], sim.rna.obs_names, sim.rna.var_names)
    for row in table.itertuples(index=False):
        at = sim.regions.var_names.get_loc(row.region)
        near = np.arange(at - 3, at + 4)
        assert (chrom[near] == row.chrom).all()
        partner, activator = (
            (roles.promoter_pos, roles.activator_pos)
            if row.strand == "+"
            else (roles.promoter_neg, roles.activator_neg)
        )
        activators = (open_[:, near] & holds[activator][near]).sum(1)
        repressors = (open_[:, near] & holds[roles.repressor][near]).sum(1)
        expected = 0.3 + 2.3 * holds[partner][at] * (1 - np.exp(-1.5 * activators)) * np.exp(-1.5 * repressors)
        np.testing.assert_allclose(law[row.gene], expected, rtol=1e-5)
    measured = sim.rna.layers["log_tpm"][:, :-1]
    assert np.corrcoef(measured.ravel(), law.to_numpy()[:, :-1].ravel())[0, 1] > 0.97


def test_closing_a_region_changes_what_the_law_says(sim):
    links, roles = sim.links, sim.roles
    region = sim.regions.var_names.get_indexer(links["region"])
    group = sim.regions.obs_names.get_indexer(links["group"])
    open_ = is_open(sim)[group, region]
    minus = (links["strand"] == "-").to_numpy()
    activates = np.where(
        minus, sim.holds[roles.activator_neg].to_numpy()[region], sim.holds[roles.activator_pos].to_numpy()[region]
    )
    represses = sim.holds[roles.repressor].to_numpy()[region]
    effect = links["effect"].to_numpy()
    assert (effect[~open_] == 0).all()
    assert (effect[open_ & ~activates & ~represses] == 0).all()
    assert (effect[activates & ~represses] <= 0).all()
    assert (effect[represses & ~activates] >= 0).all()
    assert (effect < -0.3).sum() > 100
    assert (effect > 0.3).sum() > 20


def test_no_region_alone_tells_what_its_neighbours_do(sim):
    """On chromosomes and groups that were left out, a forest on the promoter is far behind one that sees who acts."""
    from sklearn.ensemble import RandomForestRegressor

    table = sim.regions.uns["gene_tss"]
    table = table[table["strand"] == "+"]
    at = sim.regions.var_names.get_indexer(table["region"])
    names = list(sim.regions.uns["motif"]["names"])
    motif, acpm = sim.regions.varm["motif"], sim.regions.layers["acpm"]
    target = sim.regions.layers["exp_pos"].toarray()[:, at]
    activator, repressor = (names.index(name) for name in (sim.roles.activator_pos, sim.roles.repressor))
    own, seen = [], []
    for group in range(sim.regions.n_obs):
        alone = np.concatenate([motif[at], acpm[group, at, None]], axis=1)
        near = at[:, None] + np.arange(-6, 6)
        acts = (acpm[group][near, None] > 0.5) * (motif[near][..., [activator, repressor]] > 0)
        own.append(alone)
        seen.append(np.concatenate([alone, acts.sum(1)], axis=1))
    held_chrom = (table["chrom"] == "chr4").to_numpy()
    scores = []
    for features in (own, seen):
        forest = RandomForestRegressor(100, random_state=0)
        forest.fit(np.concatenate([one[~held_chrom] for one in features[:-1]]), target[:-1, ~held_chrom].ravel())
        predicted, truth = forest.predict(features[-1][held_chrom]), target[-1, held_chrom]
        scores.append(1 - ((truth - predicted) ** 2).sum() / ((truth - truth.mean()) ** 2).sum())
    assert scores[1] > 0.75
    assert scores[0] < scores[1] - 0.2


def test_neither_distance_nor_openness_tells_who_acts(sim):
    from sklearn.metrics import average_precision_score

    links = sim.links
    is_link = links["effect"] < -0.1
    base = is_link.mean()
    region = sim.regions.var_names.get_indexer(links["region"])
    group = sim.regions.obs_names.get_indexer(links["group"])
    openness = sim.regions.layers["acpm"][group, region]
    assert average_precision_score(is_link, 1 / links["distance"]) < 1.5 * base
    assert base < average_precision_score(is_link, openness) < 0.5


def test_variants_break_sites_or_leave_them(sim):
    fasta, settings = Fasta(sim.fasta), ScanSettings(1e-3)
    loss = {True: [], False: []}
    for row in sim.variants.head(120).itertuples(index=False):
        start = row.pos - 40
        before = fasta.sequence(row.chrom, start, row.pos + 41)
        assert before[40] == row.ref
        after = before[:40] + row.alt + before[41:]
        motif = sim.motifs.select([row.motif])
        scores = scan_sequences([before, after], motif, settings)[:, 0]
        if row.disrupts:
            loss[True].append(scores[0] - scores[1])
        else:
            loss[False].append(scores[0] - scores[1])
    assert len(loss[True]) > 40
    assert np.mean(np.array(loss[True]) > 4) > 0.8
    assert np.mean(np.abs(loss[False]) < 0.5) > 0.8


def test_fragments_are_those_of_the_groups(tmp_path):
    sim = simulated_regulation(tmp_path, n_chroms=2, n_promoters=4, n_groups=3, n_cells=20, depth=5_000)
    table = pd.read_csv(gzip.open(sim.fragments), sep="\t", header=None, names=["chrom", "start", "end", "cell", "n"])
    assert set(table["cell"]) <= set(sim.labels.index)
    assert table.groupby("chrom", observed=True)["start"].apply(lambda start: start.is_monotonic_increasing).all()
    sizes = Fasta(sim.fasta).sizes
    assert (table["start"] >= 0).all()
    assert (table["end"] <= table["chrom"].map(sizes)).all()
    group = table["cell"].map(sim.labels.astype(str))
    middle = (table["start"] + table["end"]) / 2
    found = np.zeros(sim.regions.shape)
    for column, region in enumerate(sim.regions.var.itertuples(index=False)):
        here = (table["chrom"] == region.chrom) & (middle >= region.start) & (middle < region.end)
        counts = group[here].value_counts()
        found[:, column] = [counts.get(name, 0) for name in sim.regions.obs_names]
    assert np.corrcoef(found.ravel(), sim.regions.X.ravel())[0, 1] > 0.98
    assert len(table) == pytest.approx(1.1 * sim.regions.X.sum(), rel=0.05)


def test_the_motifs_of_jaspar_or_of_the_user(tmp_path):
    pytest.importorskip("pyjaspar")
    sim = simulated_regulation(tmp_path, n_chroms=1, n_promoters=4, n_groups=2, motifs="jaspar")
    assert sim.roles.activator_pos.startswith("NFKB1_MA")
    again = Motifs.from_file(sim.meme)
    assert again.names == sim.motifs.names
    np.testing.assert_allclose(again.matrices[0], sim.motifs.matrices[0], atol=2e-6)
    with pytest.raises(ValueError, match="plants at least 14 motifs; found 3"):
        simulated_regulation(tmp_path, motifs=sim.motifs.select(sim.motifs.names[:3]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_groups": 0}, "n_groups is 0; expected a whole number of at least 1"),
        ({"spacing": 600}, "spacing is .*; expected a whole number of at least 700"),
        ({"noise": -1}, "noise is .*; expected 0 or more"),
        ({"motifs": "hocomoco"}, "motifs is 'hocomoco'; expected 'consensus', 'jaspar' or Motifs"),
    ],
    ids=str,
)
def test_impossible_genomes_are_refused(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        simulated_regulation(tmp_path, **options)


@pytest.mark.filterwarnings("ignore:.*are outside the vocabulary")  # what lies between the regions
def test_from_fragments_of_cells_to_what_get_reads(tmp_path):
    """The way of a user: cells counted from the fragments file, groups by label, motifs and expression beside them."""
    from scatacformer.pp import bin_fragments, match_vocabulary, pseudobulk, union_regions

    sim = simulated_regulation(tmp_path, n_chroms=2, n_promoters=10, n_groups=3, n_cells=40, depth=40_000)
    cells = bin_fragments(sim.fragments, Fasta(sim.fasta).sizes, 250, barcodes=list(sim.labels.index))
    regions = union_regions(sim.regions, sim.regions)
    cells = match_vocabulary(cells, regions)
    cells.obs["group"] = sim.labels.reindex(cells.obs_names)
    groups = pseudobulk(cells, "group", min_cells=30, min_fragments=10_000)
    assert groups.obs_names.tolist() == sim.regions.obs_names.tolist()
    assert groups.var_names.tolist() == sim.regions.var_names.tolist()
    scan_motifs(groups, sim.fasta, sim.meme)
    report = map_expression(groups, sim.rna, sim.gtf)
    assert report["n_genes_not_in_gtf"] == 1
    assert report["n_genes_with_region"] == sim.rna.n_vars - 1
    for row in range(3):
        assert np.corrcoef(groups.layers["acpm"][row], sim.regions.layers["acpm"][row])[0, 1] > 0.95
    scan_motifs(sim.regions, sim.fasta, sim.motifs)
    np.testing.assert_allclose(groups.varm["motif"], sim.regions.varm["motif"], atol=0.05)
    map_expression(sim.regions, sim.rna, sim.gtf)
    assert (groups.varm["tss"] == sim.regions.varm["tss"]).all()
