"""Planted links are found far above marginal correlation, permuted RNA finds none, and the logit reads both modalities."""

from __future__ import annotations

import importlib.util
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from scipy.sparse.linalg import lsqr
from sklearn.metrics import average_precision_score, roc_auc_score

import scatacformer as sf
from scatacformer.genome import Genes
from scatacformer.genome.links import LINK_COLUMNS
from scatacformer.metrics import foscttm

from ._cells import quiet
from ._pairs import N_GENES, PAIRED, TRAINING, WINDOW, planted_pairs, subset, trained

SF = sf.ScAtacFormer


@pytest.fixture(scope="module")
def mdata():
    return planted_pairs(500)


@pytest.fixture(scope="module")
def model(mdata):
    """Tests must not train it."""
    return trained(mdata, setup={"batch_key": "sample"})


@pytest.fixture(scope="module")
def table(model):
    return model.get_gene_bin_links(2 * WINDOW)


def planted(mdata, table: pd.DataFrame) -> np.ndarray:
    """Which rows are planted links."""
    links, regions = mdata["rna"].uns["links"], mdata["atac"].var_names
    names = np.sort(mdata["rna"].var_names.to_numpy())  # gene000 ... of the simulation are in order
    order = sorted(names, key=lambda name: int(name.removeprefix("gene")))
    true = {(order[g], regions[b]) for g in range(len(links)) for b in links[g]}
    return np.array([pair in true for pair in zip(table["gene"], table["region"], strict=True)])


def within_genes(table: pd.DataFrame, true: np.ndarray, score: np.ndarray | None = None) -> tuple[float, float]:
    """Average precision and AUROC, mean over genes with links among their rows."""
    score = table["score"].to_numpy() if score is None else score
    rows = [at for at in table.groupby("gene", observed=True).indices.values() if 0 < true[at].sum() < len(at)]
    return tuple(
        float(np.mean([f(true[at], score[at]) for at in rows])) for f in (average_precision_score, roc_auc_score)
    )


def marginal(mdata, table: pd.DataFrame) -> np.ndarray:
    """Correlation of each pair over all cells, log-normalised."""
    from scatacformer.cells import log_normalised

    y = log_normalised(mdata["rna"][mdata["atac"].obs_names].X).toarray()
    x = mdata["atac"].X.toarray()
    gene = mdata["rna"].var_names.get_indexer(table["gene"])
    region = mdata["atac"].var_names.get_indexer(table["region"])
    y, x = ((m - m.mean(0)) / np.maximum(m.std(0), 1e-9) for m in (y, x))
    return np.einsum("ij,ij->j", y[:, gene], x[:, region]) / len(x)


def additive_share(table: pd.DataFrame, y: np.ndarray) -> float:
    """R2 of a gene effect plus a region effect."""
    columns = [pd.factorize(table[name].astype(str))[0] for name in ("gene", "region")]
    n = len(table)
    parts = [sp.csr_matrix((np.ones(n), (np.arange(n), c)), (n, c.max() + 1)) for c in columns]
    design, y = sp.hstack(parts, format="csr"), y - y.mean()
    return 1 - float(np.var(y - design @ lsqr(design, y)[0]) / np.var(y))


# ── what is found ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_planted_links_are_found_where_marginal_correlation_is_lost(model, mdata, table):
    true = planted(mdata, table)
    precision, auroc = within_genes(table, true)
    assert precision > 0.8
    assert auroc > 0.97
    assert precision > within_genes(table, true, marginal(mdata, table))[0] + 0.15
    told = table["q"].to_numpy() < 0.1
    assert true[told].mean() >= 0.8
    assert told[true].mean() > 0.4


def test_scores_are_no_sum_of_a_gene_and_a_bin_nor_the_number_of_bins(table):
    log_odds = table["score"].to_numpy()
    for score in (log_odds, np.log(np.clip(1 / (1 + np.exp(-log_odds)), 1e-12, None))):
        assert additive_share(table, score) <= 0.9
    n = table.groupby("gene", observed=True)["score"].transform("size")
    assert abs(table["score"].corr(1 / (n + 1), method="spearman")) <= 0.5


def test_permuted_rna_has_no_links():
    found = []
    for seed in range(3):
        mdata = planted_pairs(400, seed=seed)
        names = mdata["rna"].obs_names.to_numpy()
        mdata.mod["rna"].obs_names = np.random.default_rng(seed).permutation(names)
        table = trained(mdata, paired={"max_epochs": 3}).get_gene_bin_links(2 * WINDOW)
        found.append(within_genes(table, planted(mdata, table))[1])
        assert (table["q"] < 0.05).mean() <= 0.01
        for level in (0.05, 0.25, 0.5):
            assert (table["p"] < level).mean() == pytest.approx(level, abs=0.04)
    assert 0.45 <= np.mean(found) <= 0.55


def test_a_batch_that_opens_a_bin_and_raises_a_gene_is_no_link():
    mdata = planted_pairs(400)
    rng, late = np.random.default_rng(0), (mdata["atac"].obs["sample"] == "b").to_numpy()
    gene = int(np.flatnonzero(~np.isin(np.arange(N_GENES), [0]))[0])
    home = mdata["atac"].var_names.get_loc(
        f"{mdata['rna'].var['chrom'].iloc[gene]}:{mdata['rna'].var['tss'].iloc[gene] // 5000 * 5000}-"
        f"{mdata['rna'].var['tss'].iloc[gene] // 5000 * 5000 + 5000}"
    )
    x = mdata["atac"].X.toarray()
    x[:, home] = rng.random(400) < np.where(late, 0.9, 0.1)
    mdata["atac"].X = sp.csr_matrix(x)
    y = mdata["rna"].X.toarray()
    of_rna = late[mdata["atac"].obs_names.get_indexer(mdata["rna"].obs_names)]
    y[of_rna, gene] += rng.poisson(6, of_rna.sum())
    mdata["rna"].X = sp.csr_matrix(y)
    pair = {}
    for key in (None, "sample"):
        table = trained(mdata, setup={"batch_key": key}, paired={"max_epochs": 2}).get_gene_bin_links(2 * WINDOW)
        row = table[(table["gene"] == f"gene{gene}") & (table["region"] == mdata["atac"].var_names[home])]
        assert len(row) == 1
        pair[key] = float(row["p"].iloc[0])
        assert within_genes(table, planted(mdata, table))[0] > 0.7
    assert pair[None] < 0.01
    assert pair["sample"] > 0.05


# ── the table ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_table_has_every_pair_of_the_window_and_no_other(model, mdata, table):
    assert tuple(table.columns) == LINK_COLUMNS
    assert table["distance"].abs().max() <= 2 * WINDOW
    var = mdata["rna"].var.loc[table["gene"]]
    assert (table["chrom"].astype(str).to_numpy() == var["chrom"].to_numpy()).all()
    assert (table["tss"].to_numpy() == var["tss"].to_numpy()).all()
    upstream = (table["end"] - 1 < table["tss"]) == (table["strand"] == "+")
    away = (table["end"] - 1 < table["tss"]) | (table["start"] > table["tss"])
    assert ((table["distance"] < 0) == (upstream & away)).all()
    n_open = pd.Series(np.asarray((mdata["atac"].X > 0).sum(0)).ravel(), mdata["atac"].var_names)
    assert (table["n_cells"].to_numpy() == n_open[table["region"]].to_numpy()).all()
    # all of them but those of bins that are hardly ever open
    start = np.array([int(name.split(":")[1].split("-")[0]) for name in mdata["atac"].var_names])
    chrom = np.array([name.split(":")[0] for name in mdata["atac"].var_names])
    near = [
        (g, b)
        for g, (c, tss) in enumerate(zip(mdata["rna"].var["chrom"], mdata["rna"].var["tss"], strict=True))
        for b in np.flatnonzero((chrom == c) & (start - tss <= 2 * WINDOW) & (tss - start - 4999 <= 2 * WINDOW))
        if n_open.iloc[b] >= 10
    ]
    assert len(table) == len(near)
    assert not table.duplicated(["gene", "region"]).any()
    assert ((table["p"] > 0) & (table["p"] <= 1)).all()
    assert (table["q"] >= table["p"] - 1e-12).all()
    assert np.isfinite(table["score"]).all()
    assert (table.sort_values("score").groupby("gene", observed=True)["p"].apply(np.array).map(
        lambda p: np.corrcoef(np.arange(len(p)), p)[0, 1]) < 0).all()  # fmt: skip


def test_genes_and_significance_can_be_asked_for(model, table):
    genes = ["gene9", "gene30"]
    some = model.get_gene_bin_links(2 * WINDOW, gene_list=genes)
    assert set(some["gene"]) == set(genes)
    expected = table[table["gene"].isin(genes)]
    for column in ("score", "p", "q"):  # the evidence is weighed over all
        np.testing.assert_array_equal(some[column], expected[column])
    strict = model.get_gene_bin_links(2 * WINDOW, max_q=0.05)
    assert 0 < len(strict) < len(table)
    assert len(strict) == (table["q"] <= 0.05).sum()
    with pytest.raises(ValueError, match="1 of 1 genes are not in the model .first: FOXP3"):
        model.get_gene_bin_links(gene_list=["FOXP3"])


def test_a_smaller_window_has_fewer_pairs_down_to_the_bin_of_the_start(model, mdata):
    own = model.get_gene_bin_links(window=0)
    assert (own["distance"] == 0).all()
    assert len(own) <= N_GENES
    assert np.isfinite(own[["score", "p", "q"]]).all().all()
    with pytest.raises(ValueError, match="window is -1; expected a whole number of bp from 0"):
        model.get_gene_bin_links(window=-1)


def test_evidence_can_be_taken_of_some_cells(model, mdata, table):
    rows = np.flatnonzero(mdata["atac"].obs["type"] != "t0")
    some = model.get_gene_bin_links(2 * WINDOW, indices=rows)
    again = model.get_gene_bin_links(2 * WINDOW, indices=rows[::-1])
    pd.testing.assert_frame_equal(some, again)
    n_open = pd.Series(np.asarray((mdata["atac"].X[rows] > 0).sum(0)).ravel(), mdata["atac"].var_names)
    assert (some["n_cells"].to_numpy() == n_open[some["region"]].to_numpy()).all()
    assert within_genes(some, planted(mdata, some))[0] > 0.6
    assert len(model.get_gene_bin_links(2 * WINDOW, indices=np.arange(9))) == 0  # no bin is open in 10 of them


def test_a_gene_whose_place_is_not_known_has_no_rows():
    mdata = planted_pairs(160)
    var = mdata["rna"].var
    var.loc["gene5", ["chrom", "tss"]] = [None, np.nan]
    found = trained(mdata, paired={"max_epochs": 1})
    table = found.get_gene_bin_links(2 * WINDOW)
    assert "gene5" not in set(table["gene"])
    assert len(set(table["gene"])) == N_GENES - 1
    assert len(found.get_gene_bin_links(2 * WINDOW, gene_list=["gene5"])) == 0
    assert "gene5" in found.predict_expression(gene_list=["gene5"])


def test_one_gene_alone_is_compared_with_bins_beyond_its_window():
    mdata = planted_pairs(400)
    mdata["rna"].var.loc[mdata["rna"].var_names != "gene22", "chrom"] = None
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        found = trained(mdata, paired={"max_epochs": 1})
        table = found.get_gene_bin_links(2 * WINDOW)
    assert set(table["gene"]) == {"gene22"}
    assert np.isfinite(table[["score", "p", "q"]]).all().all()
    true = planted(mdata, table)
    assert set(np.flatnonzero(true)) <= set(np.argsort(-table["score"].to_numpy())[:6])
    assert 0.2 < table["p"][~true].median() < 0.8


def test_without_positions_genes_can_be_named_later(tmp_path):
    mdata = planted_pairs(400)
    var = mdata["rna"].var.copy()
    mdata["rna"].var.drop(columns=["chrom", "tss", "strand"], inplace=True)
    found = trained(mdata)
    assert found.paired.links is None
    with pytest.raises(ValueError, match=r"rna.var does not say where genes start.*Genes\.from_gtf"):
        found.get_gene_bin_links()
    with pytest.raises(ValueError, match="the model has no links, because rna.var had no positions"):
        found.get_matching_logits([0], [1])
    lines = [
        f'{c}\tx\tgene\t{t + 1}\t{t + 900}\t.\t+\t.\tgene_id "{g}"; gene_name "{g}";\n'
        if s == "+"
        else f'{c}\tx\tgene\t{t - 900}\t{t + 1}\t.\t-\t.\tgene_id "{g}"; gene_name "{g}";\n'
        for g, c, t, s in zip(var.index, var["chrom"], var["tss"], var["strand"], strict=True)
    ]
    (tmp_path / "genes.gtf").write_text("".join(lines))
    genes = Genes.from_gtf(tmp_path / "genes.gtf", mdata["rna"].var_names)
    table = found.get_gene_bin_links(2 * WINDOW, genes=genes)
    assert within_genes(table, planted(mdata, table))[0] > 0.75
    with pytest.raises(ValueError, match="genes must be those of the MuData, in its order"):
        found.get_gene_bin_links(genes=Genes.from_gtf(tmp_path / "genes.gtf", mdata["rna"].var_names[::-1]))


def test_genes_on_other_chromosomes_do_not_stop_the_training():
    mdata = planted_pairs(120)
    mdata["rna"].var["chrom"] = "chr17"
    with pytest.warns(UserWarning, match="genes do not attend to bins: The table of genes has no chromosome with bins"):
        found = trained(mdata, paired={"max_epochs": 1})
    assert np.isfinite(found.get_latent_representation()).all()


def test_links_go_into_a_mudata(model, mdata, table):
    own = mdata.copy()
    sf.tl.links_to_mudata(own, table[table["q"] < 0.1])
    assert len(own.uns["scatacformer"]["links"]) == (table["q"] < 0.1).sum()


def test_links_need_rna_of_every_cell(model):
    cells = planted_pairs(60, seed=5)
    cells.mod["rna"] = cells["rna"][:40].copy()
    with pytest.raises(ValueError, match="20 of 60 cells have no RNA"):
        SF.load_query_data(cells, model).get_gene_bin_links()


# ── whether two measurements are of one cell ───────────────────────────────────────────────────────────────────────


def test_new_cells_are_told_from_others_of_their_type(model):
    cells = planted_pairs(250, seed=9)
    logits = model.get_matching_logits(np.arange(250), np.arange(250), cells)
    own = np.diag(logits)[:, None]
    kind = cells["atac"].obs["type"].astype(str).to_numpy()
    others = ~np.eye(250, dtype=bool)
    assert (own > logits)[others].mean() >= 0.93
    assert (own > logits)[others & (kind[:, None] == kind[None])].mean() >= 0.8
    assert model.matching_["matching_auc"] >= 0.9
    # better than the distance alone
    cosine = model.get_latent_representation(cells, modality="expression") @ (
        model.get_latent_representation(cells, modality="accessibility").T
    )
    assert (own > logits)[others].mean() > (np.diag(cosine)[:, None] > cosine)[others].mean() + 0.01


def test_the_logit_changes_when_only_genes_or_only_bins_are_another_cell_s(model):
    rows = np.arange(30)
    logits = model.get_matching_logits(rows, rows)
    own = np.diag(logits)
    other_rna, other_atac = np.diag(np.roll(logits, 1, 0)), np.diag(np.roll(logits, 1, 1))
    assert (np.abs(other_rna - own) > 1e-3).all()
    assert (np.abs(other_atac - own) > 1e-3).all()
    assert (other_rna < own).mean() > 0.8 and (other_atac < own).mean() > 0.8
    np.testing.assert_allclose(model.get_matching_logits([5, 2], [7, 1, 5]), logits[[5, 2]][:, [7, 1, 5]], atol=1e-4)


def test_swapping_the_genes_or_the_bins_within_the_data_changes_the_logit(model):
    """Of the cell's own measurement, the rest of the model's input held as it is."""
    cells = planted_pairs(40, seed=9, shuffled=False)
    logits = np.diag(model.get_matching_logits(np.arange(40), np.arange(40), cells))
    genes = cells.copy()
    genes["rna"].X = genes["rna"].X[:, ::-1].copy()
    bins = cells.copy()
    x = bins["atac"].X.toarray()
    linked = cells["rna"].uns["links"].ravel()
    x[:, linked] = x[:, linked[::-1]]
    bins["atac"].X = sp.csr_matrix(x)
    for other in (genes, bins):
        found = np.diag(model.get_matching_logits(np.arange(40), np.arange(40), other))
        assert (np.abs(found - logits) > 1e-4).all()
        assert found.mean() < logits.mean() - 1


def test_genes_that_may_speak_can_be_chosen(model):
    rows = np.arange(20)
    everything, some = model.get_matching_logits(rows, rows), model.get_matching_logits(rows, rows, gene_list=["gene3"])
    assert np.abs(everything - some).max() > 0.1
    with pytest.raises(ValueError, match="are not in the model"):
        model.get_matching_logits(rows, rows, gene_list=["FOXP3"])


# ── the gates, at full size ────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def simulate():
    path = Path(__file__).parents[3] / "shared" / "tools" / "simulate_links.py"
    if not path.is_file():
        pytest.skip(f"no simulation of links: {path} is not there")
    spec = importlib.util.spec_from_file_location("simulate_links", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.simulate


def of_simulation(simulate, n_cells: int, eps: float, seed: int = 0, permuted: bool = False, **paired):
    """A model of all cells but a fifth, and those."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mdata = simulate(seed=seed, eps=eps, n_cells=n_cells)
        if permuted:
            names = mdata["rna"].obs_names.to_numpy()
            mdata.mod["rna"].obs_names = np.random.default_rng(seed).permutation(names)
            mdata.update()
    cut = n_cells * 4 // 5
    known, held_out = subset(mdata, np.arange(cut)), subset(mdata, np.arange(cut, n_cells))
    SF.setup_mudata(known)
    model = SF(known)
    with quiet():
        model.train(
            max_epochs=4, enable_progress_bar=False, accelerator="cpu", paired_kwargs={"link_window": 250_000} | paired
        )
    return model, known, held_out


def test_a_thousand_simulated_cells_are_paired_and_linked(simulate):
    mdata = simulate(seed=0, eps=1.2, n_cells=1200)
    known, held_out = subset(mdata, np.arange(1000)), subset(mdata, np.arange(1000, 1200))
    SF.setup_mudata(known)
    model = SF(known, d_model=16, n_layers=1, n_heads=2, d_embed=24)
    with quiet():
        model.train(**TRAINING, paired_kwargs=PAIRED | {"n_components": 30, "link_window": 250_000})
    rna, atac = (model.get_latent_representation(held_out, modality=m) for m in ("expression", "accessibility"))
    assert foscttm(rna, atac) < 0.12  # .10 by the type alone
    assert 0.45 < foscttm(rna, atac[np.random.default_rng(0).permutation(200)]) < 0.55
    table = model.get_gene_bin_links(250_000)
    true = planted(known, table)
    precision = within_genes(table, true)[0]
    assert precision > 0.5  # .03 by chance
    assert precision > within_genes(table, true, marginal(known, table))[0] + 0.05
    assert additive_share(table, table["score"].to_numpy()) <= 0.9


@pytest.mark.slow
def test_held_out_pairs_on_the_easy_simulation(simulate):
    found, gap, within = [], [], []
    for seed in range(3):
        model, known, held_out = of_simulation(simulate, 3000, 1.2, seed)
        z = {m: model.get_latent_representation(held_out, modality=m) for m in ("expression", "accessibility")}
        found.append(foscttm(z["expression"], z["accessibility"]))
        within.append(foscttm(z["expression"], z["accessibility"], within=held_out["atac"].obs["cell_type"].to_numpy()))
        z = {m: model.get_latent_representation(modality=m)[:600] for m in ("expression", "accessibility")}
        gap.append(found[-1] - foscttm(z["expression"], z["accessibility"]))
        z = model.get_latent_representation()
        share = np.linalg.svd(z - z.mean(0), compute_uv=False)
        share /= share.sum()
        assert np.exp(-(share * np.log(share)).sum()) >= 8  # effective rank (Roy and Vetterli 2007)
    assert np.median(found) <= 0.05
    assert np.median(within) <= 0.20
    assert np.median(gap) <= 0.03


@pytest.mark.slow
@pytest.mark.parametrize(("eps", "least"), [(1.2, 0.90), (0.6, 0.65)])
def test_links_of_the_simulation(simulate, eps, least):
    found, apart = [], []
    for seed in range(3):
        model, known, held_out = of_simulation(simulate, 3000, eps, seed, max_epochs=5)
        table = model.get_gene_bin_links(250_000)
        true = planted(known, table)
        found.append(within_genes(table, true)[0])
        apart.append(found[-1] - within_genes(table, true, marginal(known, table))[0])
        told = table["q"].to_numpy() < 0.1
        assert 1 - true[told].mean() <= 0.2
        assert additive_share(table, table["score"].to_numpy()) <= 0.9
        if eps == 1.2:
            n = held_out.n_obs
            logits = model.get_matching_logits(np.arange(n), np.arange(n), held_out)
            kind = held_out["atac"].obs["cell_type"].astype(str).to_numpy()
            better, others = np.diag(logits)[:, None] > logits, ~np.eye(n, dtype=bool)
            assert better[others].mean() >= 0.95
            assert better[others & (kind[:, None] == kind[None])].mean() >= 0.80
    assert np.median(found) >= least
    assert np.median(apart) >= 0.05


@pytest.mark.slow
def test_permuted_rna_of_the_simulation(simulate):
    for seed in range(3):
        model, known, _ = of_simulation(simulate, 3000, 1.2, seed, permuted=True, max_epochs=5)
        table = model.get_gene_bin_links(250_000)
        assert 0.45 <= within_genes(table, planted(known, table))[1] <= 0.55
        assert (table["q"] < 0.05).mean() <= 0.01


@pytest.mark.slow
def test_expression_of_the_simulation(simulate):
    from scatacformer.cells import log_normalised

    gained = {"type": [], "ridge": []}
    for seed in range(3):
        model, known, held_out = of_simulation(simulate, 3000, 1.2, seed)
        y, new = (log_normalised(m["rna"][m["atac"].obs_names].X).toarray() for m in (known, held_out))
        kind = known["atac"].obs["cell_type"].astype(str).to_numpy()
        of_type = np.stack([y[kind == t].mean(0) for t in held_out["atac"].obs["cell_type"].astype(str)])
        x = sp.vstack([known["atac"].X, held_out["atac"].X]).tocsr()
        idf = np.log1p(len(y) / (1 + np.asarray((x[: len(y)] > 0).sum(0)).ravel()))
        x = sp.csr_matrix(sp.diags(1 / np.maximum(np.asarray(x.sum(1)).ravel(), 1)) @ x) @ sp.diags(idf)
        x = sp.csr_matrix(x)
        x.data = np.log1p(x.data * 1e4)
        v = sp.linalg.svds(x[: len(y)], 30, random_state=0)[2].T
        z = x @ v
        z = (z - z[: len(y)].mean(0)) / z[: len(y)].std(0)
        a, mu = z[: len(y)], y.mean(0)
        ridge = z[len(y) :] @ np.linalg.solve(a.T @ a + 10 * np.eye(30), a.T @ (y - mu)) + mu
        keep = new.std(0) > 0

        def score(p, new=new, keep=keep):
            return np.mean([np.corrcoef(p[:, g], new[:, g])[0, 1] for g in np.flatnonzero(keep)])

        found = score(model.predict_expression(held_out, return_numpy=True))
        gained["type"].append(found - score(of_type))
        gained["ridge"].append(found - score(ridge))
    assert np.median(gained["type"]) >= 0.02
    assert np.median(gained["ridge"]) >= -0.005
