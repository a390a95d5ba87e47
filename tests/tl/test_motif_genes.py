"""Targets of motifs against permuted motifs, their gene sets, and pairs of factors against known interactions."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import scatacformer as sf

MOTIFS = ["GATA1", "TAL1", "SPI1", "CTCF", "KLF1"]


def gene_by_motif(n_genes=200, groups=("T", "B"), seed=0):
    """Scores like their null, but GATA1 acts on the first forty genes in group T."""
    rng = np.random.default_rng(seed)
    obs = pd.DataFrame([(f"g{i}", group) for group in groups for i in range(n_genes)], columns=["gene", "group"])
    obs.index = obs["gene"] + ":" + obs["group"]
    x, null = rng.normal(size=(2, len(obs), len(MOTIFS)))
    x[:40, 0] -= 9
    return ad.AnnData(x, obs=obs, var=pd.DataFrame(index=MOTIFS), layers={"null": null})


def test_planted_targets_are_found_and_nothing_else():
    gbm = gene_by_motif()
    found = sf.tl.motif_genes(gbm, "GATA1", n=None)
    assert set(found["gene"][:40]) == {f"g{i}" for i in range(40)}
    assert (found["group"][:40] == "T").all()
    assert (found["q"][:40] < 0.05).all()
    assert (found["q"][40:] < 0.05).sum() <= 4  # about one in twenty of what is called
    assert (sf.tl.motif_genes(gbm, "GATA1", "B")["q"] > 0.15).all()
    assert found["p"].min() == 1 / (1 + gbm.n_obs)


def test_p_values_of_a_null_are_uniform():
    p = sf.tl.motif_genes(gene_by_motif(2000), "CTCF", n=None)["p"]
    assert p.mean() == pytest.approx(0.5, abs=0.03)
    assert (p < 0.05).mean() == pytest.approx(0.05, abs=0.015)


def test_motifs_of_a_gene():
    gbm = gene_by_motif()
    found = sf.tl.gene_motifs(gbm, "g3", "T")
    assert found.loc[0, ["motif", "gene", "group"]].tolist() == ["GATA1", "g3", "T"]
    assert found["q"][0] < 0.05
    assert len(sf.tl.gene_motifs(gbm, "g3", n=None)) == 2 * len(MOTIFS)
    with pytest.raises(KeyError, match="no row of gbm has gene 'nobody'"):
        sf.tl.gene_motifs(gbm, "nobody")
    with pytest.raises(KeyError, match="gbm has no motif 'FOXP3'"):
        sf.tl.motif_genes(gbm, "FOXP3")
    del gbm.layers["null"]
    with pytest.raises(KeyError, match=r"get_gene_by_motif\(null=True\)"):
        sf.tl.gene_motifs(gbm, "g3")


def test_a_planted_gene_set_is_enriched(tmp_path):
    pytest.importorskip("gseapy")
    gbm = gene_by_motif()
    gbm.X[:40, 0] = gbm.layers["null"][:40, 0]
    gbm.X[:10, 0] += 20
    path = tmp_path / "sets.gmt"
    planted, other = [f"g{i}" for i in range(12)], [f"g{i}" for i in range(100, 140)]
    lines = [["planted", "", *planted], ["other", "", *other], ["elsewhere", "", *(f"x{i}" for i in range(30))]]
    path.write_text("\n".join("\t".join(line) for line in lines) + "\n")
    found = sf.tl.enrich_motif_genes(gbm, path, "T", n_top=20)
    best = found[found["motif"] == "GATA1"].iloc[0]
    assert best["gene_set"] == "planted"
    assert best["q"] < 1e-6
    assert (best["n_overlap"], best["n_set"]) == (10, 12)
    assert "elsewhere" not in set(found["gene_set"])
    assert found.loc[found["motif"] != "GATA1", "q"].min() > 0.01
    with pytest.raises(ValueError, match="none of 3 gene sets has 150 to 1000 of the 200 genes"):
        sf.tl.enrich_motif_genes(gbm, path, min_size=150)
    with pytest.raises(KeyError, match="gbm has no motif 'FOXP3'"):
        sf.tl.enrich_motif_genes(gbm, path, motifs=["FOXP3"])
    path.write_text("broken\n")
    with pytest.raises(ValueError, match="line 1: found 'broken'; expected a set"):
        sf.tl.enrich_motif_genes(gbm, path)


FACTORS = {"GATA1": ["GATA1", "GATA2"], "TAL1": ["TAL1"], "SPI1": ["SPI1"], "CTCF": ["CTCF"], "KLF1": ["KLF1"]}
STRING = pd.DataFrame(
    [
        ("GATA2", "TAL1", 900),
        ("GATA1", "SPI1", 500),
        ("KLF1", "CTCF", 200),
        ("KLF1", "EP300", 990),
        ("CTCF", "RAD21", 999),
    ],
    columns=["protein1", "protein2", "combined_score"],
)


def network(**weights):
    found = pd.DataFrame(np.zeros((5, 5)), MOTIFS, MOTIFS)
    for pair, weight in weights.items():
        a, b = pair.split("_")
        found.loc[a, b] = weight
    return found


def test_precision_and_recall_of_pairs_by_hand():
    found = sf.tl.tf_interactions(network(TAL1_GATA1=-3, SPI1_KLF1=2, GATA1_SPI1=1), STRING, FACTORS, n_pairs=[1, 2, 3])
    assert found["precision"].tolist() == [1, 0.5, pytest.approx(2 / 3)]
    assert found["recall"].tolist() == [0.5, 0.5, 1]
    assert found["base_rate"].tolist() == [0.2] * 3  # 2 of 10 pairs
    assert found["f1"][2] == pytest.approx(0.8)
    assert found["macro_f1"][2] == pytest.approx((0.8 + 2 * 7 / (7 + 8)) / 2)


def test_pairs_of_one_weight_count_as_a_random_order():
    found = sf.tl.tf_interactions(network(), STRING, FACTORS, n_pairs=[1, 5, 10])
    assert found["precision"].tolist() == pytest.approx([0.2] * 3)


def test_strings_own_files_are_read(tmp_path):
    links, info = tmp_path / "links.txt", tmp_path / "info.txt"
    names = {f"9606.P{i}": name for i, name in enumerate(sorted({*STRING["protein1"], *STRING["protein2"]}))}
    of = {name: protein for protein, name in names.items()}
    table = STRING.assign(protein1=STRING["protein1"].map(of), protein2=STRING["protein2"].map(of))
    table.to_csv(links, sep=" ", index=False)
    pd.DataFrame({"#string_protein_id": names.keys(), "preferred_name": names.values()}).to_csv(
        info, sep="\t", index=False
    )
    net = network(TAL1_GATA1=-3, SPI1_KLF1=2, GATA1_SPI1=1)
    expected = sf.tl.tf_interactions(net, STRING, FACTORS)
    assert sf.tl.tf_interactions(net, links, FACTORS, names=info).equals(expected)
    with pytest.raises(ValueError, match=r"expected two or more.*names="):
        sf.tl.tf_interactions(net, links, FACTORS)


def test_bad_tables_of_interactions_are_refused():
    with pytest.raises(ValueError, match="expected protein1, protein2 and combined_score"):
        sf.tl.tf_interactions(network(), STRING.rename(columns={"protein1": "a"}), FACTORS)
    with pytest.raises(ValueError, match="no two of the 3 motifs"):
        sf.tl.tf_interactions(
            network(), pd.DataFrame({"protein1": list("abc"), "protein2": list("xyz"), "combined_score": 900}),
            {"GATA1": ["a"], "TAL1": ["b"], "SPI1": ["c"]},
        )  # fmt: skip
    with pytest.raises(ValueError, match="n_pairs contains 11; expected 1 to 10"):
        sf.tl.tf_interactions(network(), STRING, FACTORS, n_pairs=[11])
