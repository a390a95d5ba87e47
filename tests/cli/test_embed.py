from __future__ import annotations

import subprocess
import sys

import anndata
import numpy as np
import pytest
from mudata import MuData
from scipy import sparse

import scatacformer
from scatacformer.cli import main
from scatacformer.cli._parser import build_parser
from scatacformer.cli._paths import kind_of
from scatacformer.cli._read import read_cells
from scatacformer.datasets import simulated_cells, simulated_fragments

from ._tenx import write_10x

FAST = ["--max-epochs", "2", "--accelerator", "cpu"]


@pytest.fixture(scope="module")
def cells():
    return simulated_cells(120, 3, genome={"chr1": 6_000_000, "chr2": 5_000_000}, fragments=800, batches=2, seed=2)


@pytest.fixture(scope="module")
def embedded(cells, tmp_path_factory):
    """One run with everything that can be asked for."""
    folder = tmp_path_factory.mktemp("embed")
    cells.write_h5ad(folder / "cells.h5ad")
    argv = ["embed", "cells.h5ad", "-o", "out.h5ad", "--labels", "cell_type", "--batch-key", "batch"]
    argv += ["--plot", "umap.png", "--model-dir", "model", "--accessibility", *FAST]
    done = subprocess.run(
        [sys.executable, "-m", "scatacformer", *argv], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder, done


def test_everything_asked_for_is_written_and_nothing_else(embedded, cells):
    folder, _ = embedded
    assert sorted(p.name for p in folder.iterdir()) == ["cells.h5ad", "model", "out.h5ad", "umap.png"]
    out = anndata.read_h5ad(folder / "out.h5ad")
    assert out.obs_names.equals(cells.obs_names)
    assert (out.X != cells.X).nnz == 0
    assert out.obsm["X_scatacformer"].shape[0] == 120
    assert np.isfinite(out.obsm["X_scatacformer"]).all()
    assert out.obsm["X_scatacformer"].std(0).max() > 0
    assert out.obsm["X_umap"].shape == (120, 2)
    assert out.obs["leiden"].notna().all()
    assert sparse.issparse(out.layers["scatacformer"])
    assert out.uns["scatacformer"]["embed"]["version"] == scatacformer.__version__
    assert not [c for c in [*out.obs.columns, *out.uns] if c.startswith("_scvi")]


def test_nothing_is_trained_that_was_not_asked_for(embedded, tmp_path, capsys):
    folder, _ = embedded
    out = tmp_path / "out.h5ad"
    assert main(["embed", str(folder / "cells.h5ad"), "-o", str(out), "--batch-key", "batch"]) == 0
    said = capsys.readouterr().err
    assert "Not trained: the encoder and the decoder" in said
    assert "epoch" not in said
    first, trained = anndata.read_h5ad(out), anndata.read_h5ad(folder / "out.h5ad")
    np.testing.assert_allclose(first.obsm["X_scatacformer"], trained.obsm["X_scatacformer"], atol=1e-5)
    assert not list(first.layers)


def test_the_table_agrees_with_the_file(embedded):
    folder, done = embedded
    out = anndata.read_h5ad(folder / "out.h5ad")
    table = dict(line.split(None, 1) for line in done.stdout.splitlines() if line[:3] in ("cel", "ARI", "NMI"))
    agreement = scatacformer.tl.label_agreement(out, "cell_type")
    assert table["cells"] == "120"
    assert table["ARI"] == f"{agreement['ari']:.3f}"
    assert f"15-NN purity   {agreement['knn_purity']:.3f}" in done.stdout
    sizes = out.obs["leiden"].value_counts()
    clusters = done.stdout.split("cluster  ")[1].splitlines()[1 : len(sizes) + 1]
    assert [int(line.split()[1]) for line in clusters] == sizes.tolist()


def test_a_log_file_gets_lines_and_no_bars(embedded):
    _, done = embedded
    assert "epoch 2 of at most 2: train loss" in done.stderr
    assert "\r" not in done.stderr
    assert "%|" not in done.stderr
    assert "TPU" not in done.stderr
    assert done.stdout.splitlines()[0].split() == ["cells", "120"]  # stdout is the result alone
    assert all(line[:2] == "20" for line in done.stderr.splitlines())  # each with its time


def test_the_saved_model_gives_the_same_embedding(embedded):
    folder, _ = embedded
    out = anndata.read_h5ad(folder / "out.h5ad")
    model = scatacformer.ScAtacFormer.load(folder / "model", out)
    np.testing.assert_allclose(model.get_latent_representation(), out.obsm["X_scatacformer"], atol=1e-5)


def test_peaks_of_cell_ranger_are_read_without_its_genes(cells, tmp_path, capsys):
    peaks = cells[:, :200]
    X = sparse.hstack([sparse.csr_matrix(np.full((120, 2), 9.0)), peaks.X]).tocsr()
    names = ["MIR1302-2HG", "MIR1302-2HG", *peaks.var_names]
    types = ["Gene Expression"] * 2 + ["Peaks"] * 200
    path = write_10x(tmp_path / "filtered_feature_bc_matrix.h5", X, names, types, cells.obs_names)
    assert main(["qc", str(path)]) == 0
    report = dict(line.split() for line in capsys.readouterr().out.splitlines())
    assert float(report["tokens_max"].replace(",", "")) == np.diff(peaks.X.tocsr().indptr).max()
    args = build_parser().parse_args(["qc", str(path)])
    adata = read_cells(args, path, kind_of(path))
    assert (adata.X != peaks.X).nnz == 0
    assert list(adata.var_names) == list(peaks.var_names)
    assert adata.uns["assembly"] == "hg38"


@pytest.mark.parametrize("kind", ["h5mu", "zarr", "csc", "dense", "layer"])
def test_other_containers_give_the_same_cells(kind, cells, tmp_path, capsys):
    path, options = tmp_path / "cells.h5ad", []
    adata = cells.copy()
    if kind == "h5mu":
        path = tmp_path / "cells.h5mu"
        MuData({"atac": adata}).write_h5mu(path)
    elif kind == "zarr":
        path = tmp_path / "cells.zarr"
        adata.write_zarr(path)
    else:
        if kind == "csc":
            adata.X = adata.X.tocsc()
        elif kind == "dense":
            adata.X = np.asarray(adata.X.todense())
        else:
            adata.layers["counts"] = adata.X
            adata.X = adata.X * np.float32(0.5)
            options = ["--layer", "counts"]
        adata.write_h5ad(path)
    assert main(["qc", str(path), *options]) == 0
    report = dict(line.split() for line in capsys.readouterr().out.splitlines())
    n_tokens = np.diff(cells.X.indptr)
    assert report["n_cells"] == "120"
    assert float(report["tokens_median"].replace(",", "")) == np.median(n_tokens)
    assert float(report["tokens_max"].replace(",", "")) == n_tokens.max()


def test_from_fragments_with_barcodes_and_labels(cells, tmp_path, capsys):
    simulated_fragments(tmp_path / "fragments.tsv.gz", cells)
    (tmp_path / "genome.sizes").write_text("chr1\t6000000\nchr2\t5000000\n")
    chosen = cells.obs_names[::2]
    (tmp_path / "barcodes.txt").write_text("\n".join(chosen))
    labels = cells.obs["cell_type"].rename_axis("barcode").rename("kind")
    labels.to_csv(tmp_path / "labels.tsv", sep="\t")
    out = tmp_path / "out.h5ad"
    argv = ["embed", tmp_path / "fragments.tsv.gz", "-o", out, "--chrom-sizes", tmp_path / "genome.sizes"]
    argv += ["--barcodes", tmp_path / "barcodes.txt", "--labels", tmp_path / "labels.tsv", "--quiet", *FAST]
    assert main([str(argument) for argument in argv]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert "kind: 3 in 60 cells" in said.out
    adata = anndata.read_h5ad(out)
    assert adata.obs_names.equals(chosen)
    assert adata.obs["kind"].astype(str).equals(labels[chosen].astype(str).rename_axis(None))
    assert (adata.X != cells[chosen].X).nnz == 0


def test_options_choose_cells_and_bins(cells, tmp_path, capsys):
    path = tmp_path / "cells.h5ad"
    cells.write_h5ad(path)
    sizes = tmp_path / "genome.sizes"
    sizes.write_text("chr1\t6000000\nchr2\t5000000\n")
    argv = ["qc", str(path), "--bin-size", "20000", "--chrom-sizes", str(sizes), "--min-fragments", "800"]
    assert main(argv) == 0
    report = dict(line.split() for line in capsys.readouterr().out.splitlines())
    assert report["n_cells"] == str((cells.obs["n_fragments"] >= 800).sum())
    assert report["n_bins"] == str(300 + 250)


def test_qc_draws_a_histogram(cells, tmp_path):
    cells.write_h5ad(tmp_path / "cells.h5ad")
    assert main(["qc", str(tmp_path / "cells.h5ad"), "--plot", str(tmp_path / "tokens.png")]) == 0
    assert (tmp_path / "tokens.png").stat().st_size > 5000


def test_labels_file_without_header_and_with_commas(cells, tmp_path):
    from scatacformer.cli._labels import put_labels, read_labels

    (tmp_path / "labels.csv").write_text("".join(f"{cell},B\n" for cell in cells.obs_names[:10]))
    file = read_labels(str(tmp_path / "labels.csv"))
    adata = cells.copy()
    assert put_labels(adata, "labels.csv", file) == "label"
    assert (adata.obs["label"][:10] == "B").all()
    assert adata.obs["label"][10:].isna().all()


def test_ctrl_c_writes_nothing_and_exits_130(cells, tmp_path, monkeypatch, capsys):
    cells.write_h5ad(tmp_path / "cells.h5ad")

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("scatacformer.cli._pipeline._train", interrupt)
    assert main(["embed", str(tmp_path / "cells.h5ad"), "-o", str(tmp_path / "out.h5ad"), "--train"]) == 130
    assert "stopped by Ctrl-C" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["cells.h5ad"]


def test_a_training_that_was_stopped_counts_as_ctrl_c(cells, tmp_path, monkeypatch):
    import warnings

    cells.write_h5ad(tmp_path / "cells.h5ad")

    def stopped(self, **_):
        warnings.warn("training was stopped by Ctrl-C in epoch 1 of 9; the model has ...", UserWarning, stacklevel=2)

    monkeypatch.setattr("scatacformer.model.ScAtacFormer.train", stopped)
    assert main(["embed", str(tmp_path / "cells.h5ad"), "-o", str(tmp_path / "out.h5ad"), "--train"]) == 130
    assert not (tmp_path / "out.h5ad").exists()


def test_what_nobody_expected_has_a_traceback_and_exits_1(cells, tmp_path, monkeypatch, capsys):
    cells.write_h5ad(tmp_path / "cells.h5ad")

    def fail(*_, **__):
        raise RuntimeError("the loss is not finite")

    monkeypatch.setattr("scatacformer.cli._pipeline._train", fail)
    assert main(["embed", str(tmp_path / "cells.h5ad"), "-o", str(tmp_path / "out.h5ad"), "--train"]) == 1
    said = capsys.readouterr().err
    assert "Traceback" in said
    assert said.splitlines()[-1] == "scatacformer: unexpected error: RuntimeError: the loss is not finite"
    assert not (tmp_path / "out.h5ad").exists()


def test_demo_on_a_file_of_the_user_compares_with_its_cell_types(cells, tmp_path, capsys):
    cells.write_h5ad(tmp_path / "cells.h5ad")
    argv = ["demo", "--data", str(tmp_path / "cells.h5ad"), "--output", str(tmp_path / "demo" / "new"), *FAST]
    assert main(argv) == 0
    assert "cell_type: 3 in 120 cells" in capsys.readouterr().out
    assert sorted(p.name for p in (tmp_path / "demo" / "new").iterdir()) == ["cells.h5ad", "umap.png"]


@pytest.mark.slow
def test_demo_separates_the_types(tmp_path, capsys):
    assert main(["demo", "--output", str(tmp_path), "--cells", "800"]) == 0
    out = anndata.read_h5ad(tmp_path / "cells.h5ad")
    assert scatacformer.tl.label_agreement(out, "cell_type")["knn_purity"] > 0.7


@pytest.mark.parametrize("command", [[], ["embed"], ["qc"], ["demo"]])
def test_help_teaches(command, capsys):
    assert main([*command, "--help"]) == 0
    said = capsys.readouterr().out
    assert "scatacformer" in said
    if command:
        assert "examples:" in said


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"scatacformer {scatacformer.__version__}\n"


def test_a_model_that_is_there_embeds_new_cells_and_trains_nothing(embedded, cells, tmp_path, capsys):
    folder, _ = embedded
    new = cells[:60, ::-1].copy()  # its own cells under other names, regions in another order, labels that are unknown
    new.obs["cell_type"] = "unheard of"
    new.obs["site"] = new.obs.pop("batch").to_numpy()
    new.write_h5ad(tmp_path / "new.h5ad")
    out = tmp_path / "out.h5ad"
    argv = ["embed", str(tmp_path / "new.h5ad"), "-o", str(out), "--pretrained", str(folder / "model"), "--quiet"]
    assert main([*argv, "--batch-key", "site", "--accessibility"]) == 0
    found, before = anndata.read_h5ad(out), anndata.read_h5ad(folder / "out.h5ad")
    np.testing.assert_allclose(found.obsm["X_scatacformer"], before.obsm["X_scatacformer"][:60], atol=1e-5)
    assert found.var_names.equals(before.var_names)
    assert (found.X != before.X[:60]).nnz == 0
    # the thresholds are those of the cells at hand
    p, q = (a.layers["scatacformer"][:60].toarray() for a in (found, before))
    both = (p > 0) & (q > 0)
    np.testing.assert_allclose(p[both], q[both], atol=1e-4)
    assert both.sum() > 0.5 * (p > 0).sum()
    assert 0 < found.uns["scatacformer"]["threshold"] < 1
    assert set(found.obs["cell_type"]) == {"unheard of"}
    assert not [c for c in found.obs if c.startswith("_scvi")]
    assert found.uns["scatacformer"]["embed"]["pretrained"] == str(folder / "model")
    # a batch that the model does not know, for no column was named
    assert main([*argv, "--overwrite"]) == 0
    for changes, message in (
        (["--train"], "--train has no effect with --pretrained"),
        (["--max-epochs", "3"], "no effect with --pretrained, which does not train"),
        (["--batch-key", "nowhere"], "--batch-key nowhere is not a column"),
        (["--pretrained", str(tmp_path)], "is not a saved ScAtacFormer"),
    ):
        assert main([*argv, "--overwrite", *changes]) == 2
        assert message in capsys.readouterr().err
