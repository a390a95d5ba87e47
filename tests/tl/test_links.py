"""The table of links, in the formats of others: each is read back by the package that it is for."""

from __future__ import annotations

import gzip
import warnings

import anndata as ad
import mudata as md
import networkx as nx
import numpy as np
import pandas as pd
import pytest

import scatacformer as sf

from ._links import atac, links, paired

CONVERTERS = {
    "mudata": lambda table, tmp_path: sf.tl.links_to_mudata(paired(), table),
    "muon": lambda table, tmp_path: sf.tl.links_to_muon(atac(), table),
    "snapatac2": lambda table, tmp_path: sf.tl.links_to_snapatac2(table),
    "glue": lambda table, tmp_path: sf.tl.links_to_glue(table),
    "bedpe": lambda table, tmp_path: sf.tl.links_to_bedpe(table, tmp_path / "a.bedpe"),
}


@pytest.fixture(autouse=True)
def _quiet():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning)  # of mudata
        yield


@pytest.mark.parametrize("name", CONVERTERS)
def test_every_converter_names_missing_columns_and_leaves_the_table_as_it_is(name, tmp_path):
    table = links()
    before = table.copy()
    CONVERTERS[name](table, tmp_path)
    pd.testing.assert_frame_equal(table, before)
    with pytest.raises(ValueError, match="links lacks the columns distance, q"):
        CONVERTERS[name](table.drop(columns=["distance", "q"]), tmp_path)


@pytest.mark.parametrize("name", sorted(set(CONVERTERS) - {"muon", "bedpe"}))
def test_a_link_that_stands_twice_is_refused(name, tmp_path):
    table = links()
    twice = pd.concat([table, table.iloc[[3]]], ignore_index=True)
    with pytest.raises(ValueError, match=r"1 of \d+ links occur more than once .*drop_duplicates"):
        CONVERTERS[name](twice, tmp_path)


# ── MuData ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_links_come_back_from_a_file_with_the_cells(tmp_path):
    mdata, table = paired(), links()
    mdata.uns["scatacformer"] = {"other": "stays"}
    sf.tl.links_to_mudata(mdata, table, key="found")
    mdata.write(tmp_path / "cells.h5mu")
    back = md.read_h5mu(tmp_path / "cells.h5mu")
    assert back.uns["scatacformer"]["other"] == "stays"
    stored = back.uns["scatacformer"]["links"]
    pd.testing.assert_frame_equal(stored.astype(object), table.astype(object), check_index_type=False)
    matrix = back.varp["found"]
    assert matrix.format == "csr" and matrix.shape == (back.n_vars, back.n_vars) and matrix.nnz == len(table)
    entries = matrix.tocoo()
    found = {
        (back.var_names[i], back.var_names[j]): score
        for i, j, score in zip(entries.row, entries.col, entries.data, strict=True)
    }
    expected = {(row.gene, row.region): np.float32(row.score) for row in table.itertuples()}
    assert found == expected


def test_regions_are_found_by_their_interval_where_names_differ():
    mdata, table = paired(), links()
    expected = paired()
    sf.tl.links_to_mudata(expected, table)
    renamed = mdata["atac"].copy()
    renamed.var_names = renamed.var_names.str.replace(":", "_").str.replace("-", "_")
    mdata = md.MuData({"atac": renamed, "rna": mdata["rna"].copy()})  # the other way round, too
    sf.tl.links_to_mudata(mdata, table)
    order = [*range(renamed.n_vars, mdata.n_vars), *range(renamed.n_vars)]
    difference = mdata.varp["gene_bin_links"][order][:, order] - expected.varp["gene_bin_links"]
    assert abs(difference).max() == 0 and expected.varp["gene_bin_links"].nnz == len(table)


def test_a_score_of_zero_is_a_link_too():
    mdata, table = paired(), links()
    table.loc[2, "score"] = 0.0
    sf.tl.links_to_mudata(mdata, table)
    assert mdata.varp["gene_bin_links"].nnz == len(table)


def test_links_of_other_genes_or_regions_or_modalities_are_refused():
    mdata, table = paired(), links()
    table["gene"] = table["gene"].astype(str).replace("Def", "Xyz")
    with pytest.raises(
        ValueError, match=r"1 of 3 genes of the links are not in var_names \(first: Xyz; these are like"
    ):
        sf.tl.links_to_mudata(mdata, table)
    table = links()
    table["region"] = table["region"].astype(str) + "0"
    with pytest.raises(ValueError, match=r"regions of the links are not in var_names .*\.isin\(adata\.var_names\)"):
        sf.tl.links_to_mudata(mdata, table)
    with pytest.raises(KeyError, match="no modality 'gex'; it has rna, atac"):
        sf.tl.links_to_mudata(mdata, links(), rna="gex")
    assert not mdata.uns and "gene_bin_links" not in mdata.varp  # nothing half written
    mdata.mod["rna"] = mdata.mod["rna"][:, :4].copy()
    with pytest.raises(ValueError, match=r"mdata\.update\(\)"):
        sf.tl.links_to_mudata(mdata, links().query("gene == 'Abc'"))


def test_no_links_are_kept_as_no_links(tmp_path):
    mdata = paired()
    sf.tl.links_to_mudata(mdata, links().iloc[:0])
    assert mdata.varp["gene_bin_links"].nnz == 0
    mdata.write(tmp_path / "cells.h5mu")
    assert list(md.read_h5mu(tmp_path / "cells.h5mu").uns["scatacformer"]["links"].columns) == list(links().columns)


# ── muon ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_muon_finds_the_genes_of_ranked_regions_and_the_regions_of_a_gene(tmp_path):
    import muon as mu
    import scanpy as sc

    cells, table = atac(), links()
    cells.uns["atac"] = {"files": {"fragments": "here"}}
    sf.tl.links_to_muon(cells, table)
    assert cells.uns["atac"]["files"] == {"fragments": "here"}
    cells.obs["group"] = pd.Categorical(np.arange(20) % 2)
    sc.tl.rank_genes_groups(cells, "group", method="t-test")
    mu.atac.tl.add_genes_peaks_groups(cells, add_peak_type=True, add_distance=True)
    ranked = cells.uns["rank_genes_groups"]
    assert len(ranked["genes"]["0"]) == cells.n_vars
    for region, genes, distance in zip(
        ranked["names"]["0"], ranked["genes"]["0"], ranked["distance"]["0"], strict=True
    ):
        here = table[table["region"] == region]
        assert genes == ", ".join(here["gene"])
        assert distance == (", ".join(here["distance"].astype(str)) if len(here) else "<NA>")

    cells.obsm["X_umap"] = np.random.default_rng(0).normal(size=(20, 2))
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    mu.atac.pl.embedding(cells, color="Abc", basis="umap", average="total", use_raw=False, show=False)
    plt.close("all")
    del cells.uns["rank_genes_groups"]
    cells.write_h5ad(tmp_path / "cells.h5ad")
    back = ad.read_h5ad(tmp_path / "cells.h5ad").uns["atac"]["peak_annotation"]
    assert sorted(back.loc[["Abc"], "peak"]) == sorted(table.loc[table["gene"] == "Abc", "region"])


def test_types_of_peaks_are_those_of_cell_ranger():
    cells = atac()
    table = pd.concat([links().iloc[[0]]] * 6, ignore_index=True).astype({"region": str})
    table["region"] = cells.var_names[:6].tolist()
    table["distance"] = [-1001, -1000, 0, 100, 101, 500_000]
    sf.tl.links_to_muon(cells, table)
    annotation = cells.uns["atac"]["peak_annotation"]
    assert annotation.index.name == "gene" and list(annotation.columns) == ["peak", "distance", "peak_type"]
    expected = ["distal", "promoter", "promoter", "promoter", "distal", "distal"]
    assert annotation["peak_type"].tolist()[:6] == expected
    rest = annotation.iloc[6:]
    assert set(rest["peak_type"]) == {"intergenic"} and set(rest.index) == {""} and rest["distance"].isna().all()
    assert sorted(annotation["peak"]) == sorted(cells.var_names)


def test_without_links_every_peak_is_intergenic():
    cells = atac()
    sf.tl.links_to_muon(cells, links().iloc[:0])
    annotation = cells.uns["atac"]["peak_annotation"]
    assert len(annotation) == cells.n_vars and set(annotation["peak_type"]) == {"intergenic"}


# ── SnapATAC2 ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_snapatac2_scores_and_prunes_the_network():
    import snapatac2 as snap

    mdata, table = paired(), links()
    network = sf.tl.links_to_snapatac2(table)
    assert {(node.type, node.id) for node in network.nodes()} == {
        *(("region", region) for region in table["region"]),
        *(("gene", gene.upper()) for gene in table["gene"]),
    }
    found = {
        (network[i].id, network[j].id): (data.distance, data.score, data.p, data.q)
        for i, j, data in network.edge_index_map().values()
    }
    assert found == {
        (row.region, row.gene.upper()): (abs(row.distance), row.score, row.p, row.q) for row in table.itertuples()
    }
    genes = mdata["rna"][:, ["Abc", "Def", "Ghi"]].copy()
    snap.tl.add_cor_scores(network, gene_mat=genes, peak_mat=mdata["atac"])
    assert all(np.isfinite(data.cor_score) for data in network.edges())
    limit = table["q"].median()
    pruned = snap.tl.prune_network(network, edge_filter=lambda i, j, data: data.q < limit)
    assert pruned.num_edges() == (table["q"] < limit).sum()


def test_genes_that_snapatac2_cannot_tell_apart_are_refused():
    table = links().astype({"gene": str})
    table["gene"] = table["gene"].replace("Def", "ABC")
    with pytest.raises(ValueError, match=r"upper case, in which 1 of 3 are the same as another: .*Rename or drop"):
        sf.tl.links_to_snapatac2(table)


def test_no_links_are_an_empty_graph():
    nothing = links().iloc[:0]
    assert sf.tl.links_to_snapatac2(nothing).num_nodes() == 0
    assert sf.tl.links_to_glue(nothing).number_of_nodes() == 0


# ── scglue ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_graph_has_the_attributes_of_regulatory_inference():
    table = links()
    graph = sf.tl.links_to_glue(table)
    assert isinstance(graph, nx.MultiDiGraph)
    edges = nx.to_pandas_edgelist(graph).set_index(["source", "target"])
    assert set(edges) == {"dist", "weight", "sign", "type", "score", "pval", "qval"}
    edges = edges.loc[list(zip(table["gene"], table["region"], strict=True))]
    assert len(edges) == len(table)
    assert edges["dist"].tolist() == table["distance"].abs().tolist()
    for column, of_table in (("score", "score"), ("pval", "p"), ("qval", "q")):
        np.testing.assert_array_equal(edges[column], table[of_table])
    np.testing.assert_array_equal(edges["sign"], np.sign(table["score"]))
    np.testing.assert_allclose(edges["weight"], ((edges["dist"] + 1000) / 1000) ** -0.75)
    assert set(edges["type"]) == {"fwd"}
    genes, regions = sorted(set(table["gene"])), sorted(set(table["region"]))
    matrix = nx.algorithms.bipartite.biadjacency_matrix(graph, genes, regions, weight=None)  # as scglue reads it
    assert matrix.sum() == len(table)


# ── BEDPE ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["a.bedpe", "a.bedpe.gz"])
def test_bioframe_reads_the_file_sorted(tmp_path, name):
    import bioframe

    table = links()
    sf.tl.links_to_bedpe(table, tmp_path / name)
    back = bioframe.read_table(str(tmp_path / name), schema="bedpe", float_precision="round_trip")
    assert list(zip(back["chrom1"], back["start1"], strict=True)) == sorted(
        zip(table["chrom"], table["start"], strict=True)
    )
    assert (back["chrom1"] == back["chrom2"]).all() and (back["end2"] == back["start2"] + 1).all()
    assert set(back["strand1"]) == {"."}
    region = back["chrom1"] + ":" + back["start1"].astype(str) + "-" + back["end1"].astype(str)
    found = set(zip(back["name"], region, back["start2"], back["strand2"], back["score"], strict=True))
    expected = set(zip(table["gene"], table["region"], table["tss"], table["strand"], table["score"], strict=True))
    assert found == expected
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_links_for_pygenometracks_have_the_score_in_the_seventh_column(tmp_path):
    table = links()
    sf.tl.links_to_bedpe(table, tmp_path / "a.links")
    rows = [line.split("\t") for line in (tmp_path / "a.links").read_text().splitlines()]
    assert {len(row) for row in rows} == {7}
    assert sorted(float(row[6]) for row in rows) == sorted(table["score"])
    assert all(int(row[1]) < int(row[2]) and int(row[4]) < int(row[5]) for row in rows)


def test_the_same_links_are_the_same_bytes(tmp_path):
    sf.tl.links_to_bedpe(links(), tmp_path / "a.bedpe.gz")
    sf.tl.links_to_bedpe(links().sample(frac=1, random_state=9), tmp_path / "b.bedpe.gz")
    first, second = ((tmp_path / name).read_bytes() for name in ("a.bedpe.gz", "b.bedpe.gz"))
    assert gzip.decompress(first) == gzip.decompress(second)
    assert first == second


def test_no_links_are_an_empty_file_and_bad_names_none(tmp_path):
    sf.tl.links_to_bedpe(links().iloc[:0], tmp_path / "a.bedpe")
    assert (tmp_path / "a.bedpe").read_bytes() == b""
    with pytest.raises(ValueError, match="must end in .bedpe"):
        sf.tl.links_to_bedpe(links(), tmp_path / "a.txt")
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        sf.tl.links_to_bedpe(links(), tmp_path / "absent" / "a.bedpe")
    assert [path.name for path in tmp_path.iterdir()] == ["a.bedpe"]
