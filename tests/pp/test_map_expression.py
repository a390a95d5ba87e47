from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import pytest

from scatacformer.pp import map_expression

# name, chrom, strand, starts of transcripts (0-based)
GENES = [
    ("alone", "chr1", "+", [1_200]),
    ("two_starts", "chr1", "+", [5_100, 9_300]),
    ("shared", "chr1", "+", [5_250]),
    ("other_strand", "chr1", "-", [5_150]),
    ("near", "chr2", "-", [1_799]),
    ("far", "chr2", "-", [2_801]),
    ("elsewhere", "chr9", "+", [100]),
]
REGIONS = [("chr1", 1_000, 1_500), ("chr1", 5_000, 5_500), ("chr1", 9_000, 9_500), ("chr2", 1_000, 1_500)]


def write_gtf(path, genes=GENES, prefix="", transcripts=True):
    lines = ["#!genome-build made up\n"]
    for number, (name, chrom, strand, starts) in enumerate(genes):
        attributes = f'gene_id "ENSG{number}.3"; gene_name "{name}";'
        first, last = (min(starts), max(starts) + 700) if strand == "+" else (min(starts) - 700, max(starts))
        chrom = f"{prefix}{chrom}"
        lines.append(f"{chrom}\tx\tgene\t{first + 1}\t{last + 1}\t.\t{strand}\t.\t{attributes}\n")
        for start in starts if transcripts else ():
            a, b = (start, start + 600) if strand == "+" else (start - 600, start)
            lines.append(f'{chrom}\tx\ttranscript\t{a + 1}\t{b + 1}\t.\t{strand}\t.\t{attributes} transcript_id "t";\n')
    path.write_text("".join(lines))
    return path


@pytest.fixture
def gtf(tmp_path):
    return write_gtf(tmp_path / "genes.gtf")


def data_of(seed=0):
    rng = np.random.default_rng(seed)
    chrom, start, end = zip(*REGIONS, strict=True)
    var = pd.DataFrame({"chrom": chrom, "start": start, "end": end})
    var.index = [f"{c}:{a}-{b}" for c, a, b in REGIONS]
    obs = pd.DataFrame(index=["t", "b"])
    acpm = np.array([[0.5, 0.6, 0.7, 0.8], [0.9, 0.04, 1.0, 0.05]], dtype=np.float32)
    regions = anndata.AnnData(acpm.copy(), obs=obs, var=var, layers={"acpm": acpm})
    counts = rng.poisson(50, (3, len(GENES) + 1)).astype(np.float32)
    names = [gene[0] for gene in GENES] + ["unheard_of"]
    rna = anndata.AnnData(counts, obs=pd.DataFrame(index=["b", "other", "t"]), var=pd.DataFrame(index=names))
    return regions, rna


def test_genes_count_where_they_start_on_their_strand(gtf):
    regions, rna = data_of()
    report = map_expression(regions, rna, gtf)
    counts = rna["t"].X.ravel()
    log = dict(zip(rna.var_names, np.log10(counts / counts.sum() * 1e6 + 1), strict=True))
    pos, neg = (regions.layers[name].toarray() for name in ("exp_pos", "exp_neg"))
    both = (log["two_starts"] + log["shared"]) / 2
    np.testing.assert_allclose(pos[0], [log["alone"], both, log["two_starts"], 0], rtol=1e-6)
    # 1,799 is 300 bp after the last base of the region, 1,499; 2,801 is further
    np.testing.assert_allclose(neg[0], [0, log["other_strand"], 0, log["near"]], rtol=1e-6)
    # what is closed is not transcribed from: 0.04 is below the cutoff, 0.05 is not
    assert pos[1, 1] == neg[1, 1] == 0
    assert pos[1, 0] > 0
    assert neg[1, 3] > 0
    assert regions.varm["tss"].tolist() == [[True, False], [True, True], [True, False], [False, True]]
    assert regions.layers["exp_pos"].dtype == np.float32
    assert report == {
        "n_genes": 8,
        "n_genes_not_in_gtf": 1,
        "n_genes_without_strand": 0,
        "n_genes_on_other_chromosomes": 1,
        "n_genes_without_region": 2,
        "n_genes_with_region": 5,
        "n_genes_with_several_tss": 1,
        "n_genes_in_several_regions": 1,
        "n_regions_with_tss": 4,
        "n_regions_with_tss_on_both_strands": 1,
        "n_targets_of_several_genes": 1,
    }
    notes = regions.uns["scatacformer"]["map_expression"]
    assert notes["extend"] == 300
    assert notes["n_genes_without_region"] == 2


def test_the_table_says_which_gene_starts_where(gtf, tmp_path):
    regions, rna = data_of()
    map_expression(regions, rna, gtf)
    regions.write_h5ad(tmp_path / "a.h5ad")
    table = anndata.read_h5ad(tmp_path / "a.h5ad").uns["gene_tss"]
    rows = set(zip(table["gene"], table["region"], table["tss"], table["strand"], strict=True))
    assert rows == {
        ("alone", "chr1:1000-1500", 1200, "+"),
        ("two_starts", "chr1:5000-5500", 5100, "+"),
        ("two_starts", "chr1:9000-9500", 9300, "+"),
        ("shared", "chr1:5000-5500", 5250, "+"),
        ("other_strand", "chr1:5000-5500", 5150, "-"),
        ("near", "chr2:1000-1500", 1799, "-"),
    }


@pytest.mark.parametrize(("extend", "expected"), [(0, False), (299, False), (300, True), (1302, True)])
def test_extend_is_counted_from_the_base_of_the_start(gtf, extend, expected):
    regions, rna = data_of()
    map_expression(regions, rna, gtf, extend=extend)
    assert bool(regions.varm["tss"][3, 1]) == expected
    assert ("far" in set(regions.uns["gene_tss"]["gene"])) == (extend >= 1302)


def test_the_gene_s_own_start_alone(gtf, tmp_path):
    regions, rna = data_of()
    map_expression(regions, rna, gtf, tss="gene")
    table = regions.uns["gene_tss"]
    assert table.loc[table["gene"] == "two_starts", "region"].tolist() == ["chr1:5000-5500"]
    again, _ = data_of()
    map_expression(again, rna, write_gtf(tmp_path / "b.gtf", transcripts=False))
    assert again.uns["gene_tss"].equals(table)
    with pytest.raises(ValueError, match="tss is 'exon'; expected 'transcript' or 'gene'"):
        map_expression(regions, rna, gtf, tss="exon")


def test_genes_by_id_and_chromosomes_by_other_names(gtf, tmp_path):
    regions, rna = data_of()
    map_expression(regions, rna, gtf)
    plain = [(name, chrom.removeprefix("chr"), strand, starts) for name, chrom, strand, starts in GENES]
    for ids in ([f"ENSG{i}" for i in range(8)], [f"ENSG{i}.3" for i in range(8)]):
        other, _ = data_of()
        by_id = rna.copy()
        by_id.var_names = ids
        map_expression(other, by_id, write_gtf(tmp_path / "plain.gtf", plain))
        assert (other.layers["exp_pos"] != regions.layers["exp_pos"]).nnz == 0


def test_values_that_are_logarithms_stay(gtf):
    regions, rna = data_of()
    map_expression(regions, rna, gtf)
    other, logs = data_of()
    logs.layers["log_tpm"] = np.log10(rna.X / rna.X.sum(1, keepdims=True) * 1e6 + 1)
    map_expression(other, logs, gtf, layer="log_tpm", values="log_tpm")
    np.testing.assert_allclose(other.layers["exp_pos"].toarray(), regions.layers["exp_pos"].toarray(), rtol=1e-5)
    with pytest.raises(ValueError, match=r"log10\(TPM \+ 1\) is at most 6; found \d+"):
        map_expression(other, rna, gtf, values="log_tpm")


def test_bad_input_is_refused_before_anything_is_written(gtf, tmp_path):
    regions, rna = data_of()
    with pytest.raises(ValueError, match=r"1 of 2 groups have no expression in rna \(first: 't'"):
        map_expression(regions, rna[["b", "other"]].copy(), gtf)
    renamed = rna.copy()
    renamed.var_names = [f"mouse{i}" for i in range(8)]
    with pytest.raises(ValueError, match=r"8 of 8 genes are not in .*genes.gtf \(first: mouse0\)"):
        map_expression(regions, renamed, gtf)
    broken = rna.copy()
    broken.X[0, 0] = np.nan
    with pytest.raises(ValueError, match="expression of rna must be finite and 0 or more; found 1 other"):
        map_expression(regions, broken, gtf)
    empty = rna.copy()
    empty.X[2] = 0
    with pytest.raises(ValueError, match="no count of any gene"):
        map_expression(regions, empty, gtf)
    with pytest.raises(ValueError, match="has no chromosome with bins"):
        map_expression(regions, rna, write_gtf(tmp_path / "b.gtf", prefix="scaffold_"))
    far = [(name, chrom, strand, [start + 50_000 for start in starts]) for name, chrom, strand, starts in GENES]
    with pytest.raises(ValueError, match="starts within 300 bp of one of 4 regions"):
        map_expression(regions, rna, write_gtf(tmp_path / "c.gtf", far))
    with pytest.raises(FileNotFoundError):
        map_expression(regions, rna, tmp_path / "none.gtf")
    with pytest.raises(ValueError, match="no layer 'open'"):
        map_expression(regions, rna, gtf, accessibility_layer="open")
    with pytest.raises(ValueError, match="is a view"):
        map_expression(regions[:, :3], rna, gtf)
    assert set(regions.layers) == {"acpm"}
    assert not len(regions.uns)
