"""Folders laid out as public sources lay them out, made small, become entries and then cells."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from anndata import AnnData

from scatacformer import Corpus
from scatacformer.corpus import CorpusEntry
from scatacformer.datasets import catlas_entries, hubmap_entries, tenx_entries

BARCODES = ["AAACGAAAGAAACGCC-1", "AAACGAAAGAAAGGGT-1", "AAACGAAAGAAATACC-1", "AAACGAAAGAAATGGG-1"]


def fragments(path, barcodes, head="", chrom_end=900_000, seed=0, strand=False):
    """A fragments file with 300 fragments for each barcode on chr1."""
    rng = np.random.default_rng(seed)
    start = np.sort(rng.integers(0, chrom_end, 300 * len(barcodes)))
    table = pd.DataFrame(
        {"chrom": "chr1", "start": start, "end": start + 150, "barcode": np.tile(barcodes, 300), "n": 1}
    )
    if strand:
        table["strand"] = "."
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wt") as file:
        file.write(head + table.to_csv(sep="\t", header=False, index=False))
    return table


def open_bins(table, barcode, size=5_000):
    of = table[table["barcode"] == barcode]
    return np.unique(np.concatenate([of["start"] // size, (of["end"] - 1) // size]))


@pytest.fixture
def genome(small_genome):
    return {"genome": small_genome, "min_bins": 20}


def test_hubmap(tmp_path, genome):
    rng = np.random.default_rng(0)
    for name, n in (("HBM123.ABCD.456", 5), ("HBM987.WXYZ.654", 4)):
        folder = tmp_path / "hubmap" / name
        folder.mkdir(parents=True)
        starts = np.arange(0, 500_000, 500)
        index = [f"chr1 {i + 1} {start}" for i, start in enumerate(starts)]
        var = pd.DataFrame({"chrom": "1", "bin_start": starts.astype(str), "bin_stop": starts + 499}, index=index)
        var.loc[index[200], "bin_start"] = "1e+05"
        obs = pd.DataFrame({"cluster": rng.choice(["1", "2"], n)}, index=[f"BAM_data#{b}" for b in range(n)])
        X = sp.csr_matrix(rng.random((n, 1_000)) < 0.3)
        AnnData(X, obs=obs, var=var).write_h5ad(folder / "cell_by_bin.h5ad")
        (folder / "genome_build.json").write_text(json.dumps({"genome": "hg38"}))
    entries = hubmap_entries(tmp_path / "hubmap", organs={"HBM987.WXYZ.654": "kidney"}, labels_key="cluster")
    assert [entry.name for entry in entries] == ["HBM123.ABCD.456", "HBM987.WXYZ.654"]
    assert [entry.organ for entry in entries] == [None, "kidney"]
    assert {entry.assembly for entry in entries} == {"hg38"}
    corpus = Corpus.build(tmp_path / "corpus", entries, **genome)
    expected = np.unique(sp.csr_matrix(X)[0].indices // 10)
    np.testing.assert_array_equal(corpus.source.rows(np.array([5])).bins, expected)
    assert corpus.obs["label"].notna().all()
    with pytest.raises(ValueError, match="is of hg38, the vocabulary is of mm10"):
        Corpus.build(tmp_path / "mouse", entries, genome="mm10")


@pytest.mark.parametrize(
    ("table", "is_cell", "name"),
    [
        ("singlecell.csv", "is__cell_barcode", "fragments.tsv.gz"),
        ("singlecell.csv", "is_cell_barcode", "fragments.tsv.gz"),
        ("per_barcode_metrics.csv", "is_cell", "atac_fragments.tsv.gz"),
    ],
)
def test_tenx(tmp_path, genome, table, is_cell, name):
    outs = tmp_path / "runs" / "sample1" / "outs"
    head = "# id=sample1\n# reference_path=/refs/refdata-cellranger-arc-GRCh38-2020-A-2.0.0\n"
    told = fragments(outs / name, BARCODES, head)
    rows = [f"{b},100,{int(i % 2)}" for i, b in enumerate(BARCODES)]
    (outs / table).write_text("\n".join([f"barcode,total,{is_cell}", "NO_BARCODE,9,0", *rows]) + "\n")
    (entry,) = tenx_entries(tmp_path / "runs", organ="blood")
    assert (entry.name, entry.organ, entry.assembly, entry.is_cell_key) == ("sample1", "blood", "hg38", is_cell)
    corpus = Corpus.build(tmp_path / "corpus", [entry], **genome)
    assert sorted(corpus.cell_names([0, 1])) == [f"sample1:{BARCODES[1]}", f"sample1:{BARCODES[3]}"]
    for cell in (0, 1):
        barcode = corpus.cell_names([cell])[0].split(":")[1]
        np.testing.assert_array_equal(corpus.source.rows(np.array([cell])).bins, open_bins(told, barcode))


def test_tenx_downloads_have_a_name_in_front(tmp_path):
    fragments(tmp_path / "pbmc_5k_fragments.tsv.gz", BARCODES)
    with pytest.raises(FileNotFoundError, match=r"Neither .*pbmc_5k_singlecell\.csv nor pbmc_5k_per_barcode_metrics"):
        tenx_entries(tmp_path)
    (tmp_path / "pbmc_5k_singlecell.csv").write_text("barcode,total\n")
    with pytest.raises(ValueError, match="no column that marks cells"):
        tenx_entries(tmp_path)
    (tmp_path / "pbmc_5k_singlecell.csv").write_text("barcode,is_GRCh38_cell_barcode,is_mm10_cell_barcode\n")
    with pytest.raises(ValueError, match="more than one column.*over two species"):
        tenx_entries(tmp_path)
    (tmp_path / "pbmc_5k_singlecell.csv").write_text("barcode,is__cell_barcode\n")
    (entry,) = tenx_entries(tmp_path)
    assert (entry.name, entry.assembly) == ("pbmc_5k", None)


def test_catlas(tmp_path, genome):
    folder = tmp_path / "catlas"
    told = fragments(folder / "GSM5589344_adipose_omentum_SM-ADYHB_rep1_fragments.bed.gz", BARCODES, strand=True)
    fragments(folder / "LungMap_D122_rep1_fragments.bed.gz", BARCODES, seed=1, strand=True)
    rows = [f"adipose_omentum_SM-ADYHB_1+{b}\t3.5\tadipose\tAdipocyte\tAdult" for b in BARCODES[:3]]
    rows += [f"LungMap_D122_1+{b}\t3.5\tlung\tAlveolar Type 2\tFetal" for b in BARCODES[1:]]
    with gzip.open(folder / "Cell_metadata.tsv.gz", "wt") as file:
        file.write("cellID\tlogUMI\ttissue\tcell type\tLife stage\n" + "\n".join(rows) + "\n")
    entries = catlas_entries(folder)
    assert [entry.name for entry in entries] == ["adipose_omentum_SM-ADYHB_rep1", "LungMap_D122_rep1"]
    corpus = Corpus.build(tmp_path / "corpus", entries, **genome)
    assert corpus.n_cells == 6
    obs = corpus.obs
    assert list(obs["organ"]) == ["adipose_omentum"] * 3 + ["lung"] * 3
    assert list(obs["label"]) == ["Adipocyte"] * 3 + ["Alveolar Type 2"] * 3
    barcode = corpus.cell_names([2])[0].split(":")[1]
    np.testing.assert_array_equal(corpus.source.rows(np.array([2])).bins, open_bins(told, barcode))
    fragments(folder / "spleen_SM-XXXXX_rep1_fragments.bed.gz", BARCODES)
    with pytest.raises(ValueError, match="lists no cell of the sample spleen_SM-XXXXX_rep1"):
        catlas_entries(folder)


def test_folders_without_what_is_looked_for(tmp_path):
    found = {hubmap_entries: "There is no", catlas_entries: "has no table of cells", tenx_entries: "There is no"}
    for recipe, message in found.items():
        with pytest.raises(FileNotFoundError, match=message):
            recipe(tmp_path)
        with pytest.raises(FileNotFoundError, match="The folder .* does not exist"):
            recipe(tmp_path / "absent")


def test_cells_of_an_anndata_are_chosen_by_a_table(data_sets, genome, tmp_path):
    folder, cells = data_sets
    chosen = cells["a"].obs_names[5:20]
    (tmp_path / "cells.csv").write_text("id,type\n" + "\n".join(f"x_{name},T{i % 2}" for i, name in enumerate(chosen)))
    how = {"barcodes": tmp_path / "cells.csv", "barcode_key": "id", "barcode_prefix": "x_"}
    entry = CorpusEntry(folder / "a.h5ad", labels_key="type", batch_key="batch", **how)
    corpus = Corpus.build(tmp_path / "corpus", [entry], **genome)
    assert corpus.cell_names(np.arange(15)) == [f"a:{name}" for name in chosen]
    assert list(corpus.obs["label"]) == [f"T{i % 2}" for i in range(15)]
    assert corpus.card["datasets"][0]["n_cells_unlisted"] == 45
    (tmp_path / "cells.csv").write_text("id,type\n" + "\n".join(f"x_{name},B" for name in chosen[:9]))
    with pytest.raises(ValueError, match=r"cells\.csv changed since"):
        corpus.validate()
    (tmp_path / "cells.csv").write_text("id,type\nx_none,B\n")
    with pytest.raises(ValueError, match="60 are not listed in its table of cells"):
        Corpus.build(tmp_path / "corpus", [entry], **genome)


def test_wrong_fragments_are_refused(tmp_path, genome):
    fragments(tmp_path / "long.tsv.gz", BARCODES, chrom_end=90_000_000)
    with pytest.raises(ValueError, match="end beyond 1 of 1 chromosomes"):
        Corpus.build(tmp_path / "corpus", [tmp_path / "long.tsv.gz"], **genome)
