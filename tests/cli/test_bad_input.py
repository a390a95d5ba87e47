"""Whatever is wrong is said in one line, before training, with exit code 2, and nothing is written."""

from __future__ import annotations

import gzip
import os

import numpy as np
import pytest
from mudata import MuData
from scipy import sparse

from scatacformer.cli import main
from scatacformer.datasets import simulated_fragments

from ._tenx import write_10x


@pytest.fixture
def h5ad(tmp_path, small_adata):
    path = tmp_path / "in" / "cells.h5ad"
    path.parent.mkdir()
    small_adata.write_h5ad(path)
    return path


@pytest.fixture
def out(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    return folder / "embedded.h5ad"


@pytest.fixture
def refused(capsys, out, monkeypatch):
    """Runs a command line that must be refused, and returns what was said."""

    def no_training(*_, **__):
        raise AssertionError("training began")

    monkeypatch.setattr("scatacformer.cli._pipeline._train", no_training)

    def run(*argv):
        before = sorted(out.parent.iterdir())
        code = main([str(argument) for argument in argv])
        said = capsys.readouterr()
        assert code == 2
        assert said.out == ""
        lines = [line for line in said.err.splitlines() if line.startswith("scatacformer: error: ")]
        assert len(lines) == 1
        assert "Traceback" not in said.err
        assert sorted(out.parent.iterdir()) == before
        return lines[0]

    return run


def changed(h5ad, change):
    """Writes the AnnData again after `change`."""
    import anndata

    adata = anndata.read_h5ad(h5ad)
    adata = change(adata) or adata
    adata.write_h5ad(h5ad)
    return h5ad


def test_input_that_is_not_there(refused, out, tmp_path):
    assert "does not exist. Check the path" in refused("embed", tmp_path / "absent.h5ad", "-o", out)


def test_input_whose_name_says_nothing(refused, out, tmp_path):
    (tmp_path / "cells.dat").write_text("")
    assert "does not show its format; expected" in refused("embed", tmp_path / "cells.dat", "-o", out)
    assert "is a folder, and no zarr store" in refused("embed", tmp_path, "-o", out)


def test_input_that_is_not_what_its_name_says(refused, out, tmp_path):
    for name in ("cells.h5ad", "cells.h5mu"):
        (tmp_path / name).write_text("not HDF5")
        assert f"cannot read {tmp_path / name}" in refused("embed", tmp_path / name, "-o", out)
    (tmp_path / "cells.zarr").mkdir()
    assert "cannot read" in refused("embed", tmp_path / "cells.zarr", "-o", out)


def test_truncated_h5ad(refused, out, h5ad):
    h5ad.write_bytes(h5ad.read_bytes()[:2000])
    assert "cannot read" in refused("embed", h5ad, "-o", out)


@pytest.mark.parametrize("kind", [RuntimeError, LookupError, AttributeError])
def test_damaged_h5ad_is_named_whatever_the_library_raises(refused, h5ad, monkeypatch, kind):
    def read_h5ad(path):
        raise kind("bad heap")

    monkeypatch.setattr("anndata.read_h5ad", read_h5ad)
    said = refused("qc", h5ad)
    assert f"cannot read {h5ad}" in said and "bad heap" in said


def test_output_that_exists(refused, out, h5ad):
    out.write_bytes(b"precious")
    assert "exists. Choose another name, or replace it with --overwrite" in refused("embed", h5ad, "-o", out)
    assert out.read_bytes() == b"precious"


def test_output_with_another_ending(refused, out, h5ad):
    assert "must end in .h5ad" in refused("embed", h5ad, "-o", out.with_suffix(".csv"))
    assert "must end in .png or .pdf or .svg" in refused("embed", h5ad, "-o", out, "--plot", out.with_suffix(".doc"))


def test_output_folder_that_is_not_there_or_closed(refused, out, h5ad, monkeypatch):
    assert "does not exist. Create it first" in refused("embed", h5ad, "-o", out.parent / "absent" / "a.h5ad")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert "is not writable" in refused("embed", h5ad, "-o", out)


def test_model_folder_that_is_full_or_a_file(refused, out, h5ad):
    assert "is not empty" in refused("embed", h5ad, "-o", out, "--model-dir", h5ad.parent)
    assert "is a file; expected a folder" in refused("embed", h5ad, "-o", out, "--model-dir", h5ad)


def test_unknown_layer_batch_and_labels_name_what_there_is(refused, out, h5ad):
    assert "has no layer 'raw'; it has none" in refused("embed", h5ad, "-o", out, "--layer", "raw")
    assert "the columns are cell_type, batch, n_fragments" in refused("embed", h5ad, "-o", out, "--batch-key", "donor")
    assert "neither a file nor a column of .obs" in refused("embed", h5ad, "-o", out, "--labels", "organ")


def test_labels_of_other_cells(refused, out, h5ad, tmp_path):
    labels = tmp_path / "labels.tsv"
    labels.write_text("barcode\tcell_type\nAAAC-1\tB\nAAAG-1\tT\n")
    said = refused("embed", h5ad, "-o", out, "--labels", labels)
    assert "0 of 300 cells have a label" in said
    assert "AAAC-1, AAAG-1, the cells are like cell_001" in said


def test_labels_that_are_no_table(refused, out, h5ad, tmp_path):
    labels = tmp_path / "labels.tsv"
    labels.write_text("cell_001\n")
    assert "line 1 is 'cell_001'; expected 'barcode<tab>label'" in refused("embed", h5ad, "-o", out, "--labels", labels)
    labels.write_text("")
    assert "it is empty" in refused("embed", h5ad, "-o", out, "--labels", labels)
    labels.write_text("cell_001\tB\ncell_001\tT\n")
    assert "gives the cell cell_001 two labels" in refused("embed", h5ad, "-o", out, "--labels", labels)
    assert "does not exist. Check the path" in refused("embed", h5ad, "-o", out, "--labels", tmp_path / "absent.tsv")


def test_unknown_genome(refused, out, h5ad):
    said = refused("embed", h5ad, "-o", out, "--genome", "hg99")
    assert "hg99" in said
    assert "hg38" in said  # what is known


def test_regions_beyond_the_genome(refused, out, h5ad, tmp_path):
    sizes = tmp_path / "small.sizes"
    sizes.write_text("chr1\t1000000\nchr2\t1500000\nchr3\t999000\nchrX\t503000\n")
    assert "chr1" in refused("embed", h5ad, "-o", out, "--chrom-sizes", sizes)


def test_assembly_that_the_file_contradicts(refused, out, h5ad):
    changed(h5ad, lambda adata: adata.uns.update(assembly="mm10"))
    assert "is 'mm10', and --genome is hg38" in refused("embed", h5ad, "-o", out, "--genome", "hg38")


def test_bin_size_without_a_genome(refused, out, h5ad):
    assert "--bin-size needs the genome" in refused("embed", h5ad, "-o", out, "--bin-size", "10000")


def test_barcodes_of_other_cells(refused, out, h5ad, tmp_path):
    (tmp_path / "barcodes.txt").write_text("AAAC-1\n")
    said = refused("embed", h5ad, "-o", out, "--barcodes", tmp_path / "barcodes.txt")
    assert "none of the 1 barcodes" in said
    assert "does not exist. Check the path" in refused("embed", h5ad, "-o", out, "--barcodes", tmp_path / "absent.txt")


def test_no_cell_deep_enough(refused, out, h5ad):
    assert "no cell has 100,000 counts (maximum: " in refused("embed", h5ad, "-o", out, "--min-fragments", "100,000")


@pytest.mark.parametrize("value", [-1, 0.5, np.nan])
def test_counts_that_are_none(refused, out, h5ad, value):
    def spoil(adata):
        adata.X.data[7] = value

    assert "1 counts are" in refused("embed", changed(h5ad, spoil), "-o", out)


def test_empty_cell_and_nothing_open(refused, out, h5ad):
    def empty_one(adata):
        X = adata.X.tolil()
        X[3] = 0
        adata.X = X.tocsr()

    def empty_all(adata):
        adata.X = sparse.csr_matrix(adata.shape, dtype=np.float32)

    assert "1 of 300 cells have no open bin (cell_004)" in refused("embed", changed(h5ad, empty_one), "-o", out)
    assert "no bin is open" in refused("embed", changed(h5ad, empty_all), "-o", out)


def test_one_cell(refused, out, h5ad):
    assert "found 1 cell, expected at least 2" in refused("embed", changed(h5ad, lambda a: a[:1].copy()), "-o", out)


def test_regions_without_a_place(refused, out, h5ad):
    def rename(adata):
        adata.var = adata.var[[]]
        adata.var_names = [f"peak_{i}" for i in range(adata.n_vars)]

    assert "peak_0" in refused("embed", changed(h5ad, rename), "-o", out)


def test_modality_that_is_not_there(refused, out, small_adata, tmp_path):
    path = tmp_path / "cells.h5mu"
    MuData({"peaks": small_adata}).write_h5mu(path)
    assert "has no modality 'atac'; it has peaks" in refused("embed", path, "-o", out)


def test_10x_matrix_without_peaks_or_of_something_else(refused, out, small_adata, tmp_path):
    genes = write_10x(
        tmp_path / "rna.h5", small_adata.X[:, :2], ["A", "B"], ["Gene Expression"] * 2, small_adata.obs_names
    )
    assert "rna.h5 contains Gene Expression, but no peaks" in refused("embed", genes, "-o", out)
    (tmp_path / "text.h5").write_text("no")
    assert "text.h5" in refused("embed", tmp_path / "text.h5", "-o", out)


@pytest.mark.parametrize("accelerator", ["gpu", "mps"])
def test_an_accelerator_that_is_not_there(refused, out, h5ad, monkeypatch, accelerator):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    said = refused("embed", h5ad, "-o", out, "--accelerator", accelerator)
    assert f"--accelerator {accelerator}: no such device" in said


@pytest.fixture
def fragments(tmp_path, small_adata):
    path = tmp_path / "fragments.tsv.gz"
    simulated_fragments(path, small_adata[:20].copy())
    return path


def test_fragments_need_a_genome_and_have_no_columns(refused, out, fragments):
    assert "Give the assembly that it was aligned to with --genome" in refused("embed", fragments, "-o", out)
    assert "which has no layers" in refused("embed", fragments, "-o", out, "--genome", "hg38", "--layer", "raw")
    assert "has no columns of cells" in refused("embed", fragments, "-o", out, "--genome", "hg38", "--batch-key", "a")


def test_fragments_that_are_truncated_or_no_gzip(refused, out, fragments):
    whole = fragments.read_bytes()
    fragments.write_bytes(whole[: len(whole) // 2])
    assert str(fragments) in refused("embed", fragments, "-o", out, "--genome", "hg38")
    fragments.write_bytes(gzip.decompress(whole))
    assert str(fragments) in refused("embed", fragments, "-o", out, "--genome", "hg38")


def test_fragments_of_too_few_for_a_cell(refused, out, fragments):
    said = refused("embed", fragments, "-o", out, "--genome", "hg38", "--min-fragments", "50000")
    assert "None of 20 barcodes" in said


@pytest.mark.parametrize(
    ("argv", "what"),
    [
        ([], "COMMAND"),
        (["embed"], "INPUT"),
        (["embed", "a.h5ad"], "-o"),
        (["embed", "a.h5ad", "-o", "b.h5ad", "--size", "huge"], "small"),
        (["embed", "a.h5ad", "-o", "b.h5ad", "--max-epochs", "0"], "at least 1"),
        (["embed", "a.h5ad", "-o", "b.h5ad", "--resolution", "x"], "above 0"),
        (["embed", "a.h5ad", "-o", "b.h5ad", "--genome", "hg38", "--chrom-sizes", "f"], "not allowed with"),
    ],
)
def test_wrong_usage(capsys, argv, what):
    assert main(argv) == 2
    assert what in capsys.readouterr().err
