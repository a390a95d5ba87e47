"""Knock-outs, reporters and enhancers on planted regulation; contacts of a made-up map."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import scatacformer as sf

from .conftest import make_regions, small

QUIET = {"enable_progress_bar": False, "accelerator": "cpu"}


@pytest.fixture(scope="module")
def trained(_regions):
    model = small(_regions.copy())
    model.train(30, lr=4e-3, holdout_chromosomes="chr4", early_stopping_patience=30, **QUIET)
    return model


@pytest.fixture(scope="module")
def active(trained):
    """A gene and a group in which the model says, rightly, that it is expressed; and its promoter."""
    table = trained.get_predicted_expression()
    gene, group = table.stack().idxmax()
    assert table.loc[gene, group] > 1
    region = trained.adata.uns["gene_tss"].set_index("gene").loc[gene, "region"]
    return gene, group, region


def test_the_motif_that_matters_matters_and_the_decoy_does_not(trained, active):
    gene, group, region = active
    found = trained.perturb(regions=region, motifs=["B", "decoy_1"], genes=gene, groups=group).set_index("motifs")
    assert (found["regions"] == region).all()
    assert found.loc["B", "change"] < -0.3
    assert abs(found.loc["decoy_1", "change"]) < 0.5 * abs(found.loc["B", "change"])
    np.testing.assert_allclose(found["perturbed"] - found["reference"], found["change"])


def test_closing_the_regions_that_activate_lowers_the_gene(trained, active):
    gene, group, region = active
    everywhere = trained.perturb(motifs=["A", "decoy_1"], groups=group)
    assert (everywhere["regions"] == "").all()
    change = everywhere[everywhere["reference"] > 1].groupby("motifs")["change"].mean()
    assert change["A"] < -0.03
    assert change["A"] < 2 * change["decoy_1"]
    whole = trained.perturb(regions=[[region]], genes=gene, groups=group)
    assert whole["change"].iloc[0] < -0.3


def test_a_knockout_is_what_the_network_says_of_the_changed_regions(trained, active):
    gene, group, region = active
    changed = trained.adata.copy()
    column = changed.var_names.get_loc(region)
    changed.varm["motif"][column, 1] = 0
    row = trained.get_gene_by_motif(gene, group, adata=changed).obs["predicted"].iloc[0]
    found = trained.perturb(region, "B", genes=gene, groups=group)
    assert found["perturbed"].iloc[0] == pytest.approx(row, abs=1e-5)
    plain = trained.get_gene_by_motif(gene, group).obs["predicted"].iloc[0]
    assert found["reference"].iloc[0] == pytest.approx(plain, abs=1e-5)


def test_all_genes_within_reach_are_listed_whatever_the_batch_size(trained, active):
    _, group, region = active
    found = trained.perturb(regions=region, groups=group)
    column = trained.adata.var_names.get_loc(region)  # noqa: F841
    near = trained._prepared.sites().query("abs(column - @column) <= 6")
    assert set(found["gene"]) <= set(near["gene"])
    assert 1 <= len(found) <= len(near)
    again = trained.perturb(regions=region, groups=group, batch_size=3)
    pd.testing.assert_frame_equal(found, again, atol=1e-5)
    with pytest.raises(ValueError, match="nothing to knock out"):
        trained.perturb()
    with pytest.raises(KeyError, match="there is no motif 'GATA1'"):
        trained.perturb(motifs="GATA1")
    with pytest.raises(KeyError, match="there is no region 'chr9:0-1'"):
        trained.perturb("chr9:0-1")


def test_scores_of_elements_are_read_at_the_same_places(trained):
    scores = np.zeros((3, 6), np.float32)
    scores[1, [1, 2]] = 1
    found = trained.predict_reporter(scores, "g0", n_insertions=50)
    assert found.loc[0, "change"] == pytest.approx(0, abs=1e-6)
    assert found.loc[1, "activity"] > found.loc[0, "activity"] + 0.05
    assert found.loc[2].tolist() == pytest.approx(found.loc[0].tolist())
    assert (found["n_insertions"] == 50).all()
    again = trained.predict_reporter(pd.DataFrame(scores, index=list("abc")), "g0", n_insertions=50, batch_size=7)
    np.testing.assert_allclose(again["activity"], found["activity"], atol=1e-5)
    assert list(again.index) == list("abc")
    with pytest.raises(ValueError, match="of 5 motifs, and the model reads 6"):
        trained.predict_reporter(scores[:, :5], "g0")
    with pytest.raises(ValueError, match="not known how the regions were scanned"):
        trained.predict_reporter(["ACGT"], "g0")


def test_enhancer_scores_follow_their_formulas(trained, active):
    gene, group, _ = active
    found = trained.score_enhancers(gene, group)
    whole = trained.get_jacobian(gene, group, wrt="region_embedding")
    j = np.linalg.norm(whole["jacobian"].to_numpy()[0], axis=-1)
    assert list(found["region"]) == whole["region"].to_numpy()[0].tolist()
    a = trained.adata[group, found["region"]].layers["acpm"][0]
    h = sf.metrics.powerlaw_contact(found["distance"])
    np.testing.assert_allclose(found["jacobian"], j / j.sum(), rtol=1e-4)
    np.testing.assert_allclose(found["score"], (j * a + a * h) / (j * a + a * h).sum(), rtol=1e-4)
    assert found["distance"].abs().min() == 0
    without = trained.score_enhancers(gene, group, contact=None)
    assert "contact" not in without
    assert without["score"].sum() == pytest.approx(1)
    with pytest.raises(ValueError, match="contact is 'hic'; expected 'powerlaw'"):
        trained.score_enhancers(gene, contact="hic")


@pytest.fixture(scope="module")
def cool(tmp_path_factory):
    """Two chromosomes of 2 Mb in bins of 20 kb, whose contacts fall with the distance; some bins are empty."""
    cooler = pytest.importorskip("cooler")
    path = tmp_path_factory.mktemp("contacts") / "map.cool"
    n = 100
    bins = pd.DataFrame({"chrom": np.repeat(["chr1", "chr2"], n), "start": np.tile(np.arange(n) * 20_000, 2)})
    bins["end"] = bins["start"] + 20_000
    i, j = np.triu_indices(n)
    rate = 4_000 / (1 + (j - i)) ** 1.2
    rng, parts = np.random.default_rng(0), []
    for first in (0, n):
        count = rng.poisson(rate) * ((i % 10 != 7) & (j % 10 != 7))
        parts.append(pd.DataFrame({"bin1_id": i + first, "bin2_id": j + first, "count": count}))
    pixels = pd.concat(parts, ignore_index=True)
    cooler.create_cooler(str(path), bins, pixels[pixels["count"] > 0])
    return path


def test_contacts_are_learned_from_a_map(cool, trained, active, tmp_path):
    found = sf.model.DistanceContactMap.fit(
        cool, holdout_chromosomes="chr2", n_bins=16, n_windows=80, max_epochs=25, width=8, span=1_000_000
    )
    assert found.scores["network"] >= 0.85
    assert found.scores["n_pairs"] > 500
    assert 0.85 <= found.scores["powerlaw"] <= found.scores["ceiling"] <= 1
    assert found.scores["network"] > found.scores["ceiling"] - 0.05
    contacts = found.contacts([10_000, 30_000, 500_000])
    np.testing.assert_allclose(contacts, contacts.T, rtol=1e-5)
    assert contacts[0, 1] > 5 * contacts[0, 2]
    found.save(tmp_path / "contacts.safetensors")
    again = sf.model.DistanceContactMap.load(tmp_path / "contacts.safetensors")
    np.testing.assert_array_equal(again.contacts([10_000, 30_000, 500_000]), contacts)
    assert again.scores == found.scores
    scores = trained.score_enhancers(active[0], active[1], contact=found)
    assert scores["contact"].sum() == pytest.approx(1)
    with pytest.raises(ValueError, match="sorted"):
        found.contacts([5, 3])
    path = tmp_path / "contacts.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="contacts.safetensors is damaged or was altered"):
        sf.model.DistanceContactMap.load(path)


def test_bad_maps_are_refused(cool, tmp_path):
    with pytest.raises(FileNotFoundError):
        sf.model.DistanceContactMap.fit(tmp_path / "nothing.cool")
    (tmp_path / "text.cool").write_text("no map")
    with pytest.raises(ValueError, match=r"is no \.cool file"):
        sf.model.DistanceContactMap.fit(tmp_path / "text.cool")
    with pytest.raises(ValueError, match="names 'chr7'; the map has chr1, chr2"):
        sf.model.DistanceContactMap.fit(cool, holdout_chromosomes="chr7")
    with pytest.raises(ValueError, match="all chromosomes of the map are held out"):
        sf.model.DistanceContactMap.fit(cool, holdout_chromosomes=["chr1", "chr2"])


def test_a_damaged_map_is_refused_by_name(cool, tmp_path):
    import h5py

    for name, damage in (
        ("pixels", lambda file: file.__delitem__("pixels/count")),
        ("offsets", lambda file: file["indexes/bin1_offset"].write_direct(np.full(201, 10**9))),
    ):
        path = tmp_path / f"{name}.cool"
        path.write_bytes(cool.read_bytes())
        with h5py.File(path, "r+") as file:
            damage(file)
        with pytest.raises(ValueError, match=f"{name}.cool"):
            sf.model.DistanceContactMap.fit(path, n_bins=8, n_windows=8, max_epochs=1, width=4, span=1_000_000)


@pytest.mark.slow
@pytest.mark.parametrize("kmers", [None, 3])
def test_from_dna_to_reporters(tmp_path, kmers):
    sim = sf.datasets.simulated_regulation(tmp_path, n_chroms=2, n_promoters=10, n_groups=3)
    sf.pp.scan_motifs(sim.regions, sim.fasta, sim.motifs, kmers=kmers)
    sf.pp.map_expression(sim.regions, sim.rna, sim.gtf)
    sf.GET.setup_anndata(sim.regions)
    model = small(sim.regions)
    model.train(1, holdout_chromosomes="chr2", **QUIET)
    model.save(tmp_path / "model")
    again = sf.GET.load(tmp_path / "model", sim.regions, accelerator="cpu")
    fasta = sf.sequence.Fasta(sim.fasta)
    var = sim.regions.var.iloc[:4]
    elements = [
        sf.sequence.letters(fasta.codes(chrom, start, end))
        for chrom, start, end in zip(var["chrom"], var["start"], var["end"], strict=True)
    ]
    by_sequence = again.predict_reporter(elements, "type1", n_insertions=20)
    by_score = model.predict_reporter(sim.regions.varm["motif"][:4], "type1", n_insertions=20)
    np.testing.assert_allclose(by_sequence, by_score, atol=1e-5)


def test_data_of_another_seed_is_other_data():
    assert not np.array_equal(make_regions(0).varm["motif"], make_regions(1).varm["motif"])
