from __future__ import annotations

import warnings

import anndata as ad
import numpy as np
import pytest
from scipy import sparse

from scatacformer.genome import RegionClasses, Vocabulary, region_classes
from scatacformer.pp import annotate_bins

GTF = """chr1\tx\tgene\t11001\t20000\t.\t+\t.\tgene_id "A"; gene_type "protein_coding";
chr1\tx\texon\t11001\t12000\t.\t+\t.\tgene_id "A"; transcript_id "A1"; gene_type "protein_coding";
chr1\tx\texon\t18001\t20000\t.\t+\t.\tgene_id "A"; transcript_id "A1"; gene_type "protein_coding";
chr1\tx\tCDS\t11501\t12000\t.\t+\t0\tgene_id "A"; transcript_id "A1"; gene_type "protein_coding";
chr1\tx\tCDS\t18001\t18497\t.\t+\t0\tgene_id "A"; transcript_id "A1"; gene_type "protein_coding";
chr1\tx\tstop_codon\t18498\t18500\t.\t+\t0\tgene_id "A"; transcript_id "A1"; gene_type "protein_coding";
chr2\tx\tgene\t5001\t6000\t.\t-\t.\tgene_id "B"; gene_type "lncRNA";
chr2\tx\texon\t5001\t6000\t.\t-\t.\tgene_id "B"; transcript_id "B1"; gene_type "lncRNA";
"""


@pytest.fixture
def files(tmp_path):
    (tmp_path / "genes.gtf").write_text(GTF)
    (tmp_path / "enhancers.bed").write_text("chr1\t30000\t30500\nchr1\t11200\t11300\n")
    return tmp_path / "genes.gtf", {"enhancer/p300": tmp_path / "enhancers.bed"}


@pytest.fixture
def adata():
    bins = Vocabulary.from_chrom_sizes({"chr1": 40_000, "chr2": 20_000}, 1_000)
    return ad.AnnData(sparse.csr_matrix(np.eye(3, bins.n_bins, dtype=np.float32)), var=bins.to_frame())


def test_bins_get_the_classes_of_their_place(adata, files):
    classes = annotate_bins(adata, files[0], bed=files[1])
    found = {name: [int(one) for one in classes.bins_of(name)] for name in classes.names}
    assert list(found.items()) == list(
        {
            "promoter": [9, 10, 11, 45, 46, 47],  # A from 9,000 to 11,500; B, on -, from 5,499 to 7,999
            "exon": [11, 18, 19, 45],
            "intron": [12, 13, 14, 15, 16, 17],
            "5' UTR": [11],
            "3' UTR": [18, 19],
            "TTS": [19, 20, 44, 45],
            "ncRNA": [45],
            "intergenic": [*range(9), *range(21, 44), *range(48, 60)],
            "enhancer/p300": [11, 30],
        }.items()
    )


@pytest.mark.parametrize("store", ["h5ad", "zarr"])
def test_what_is_written_reads_back(adata, files, tmp_path, store):
    adata.uns["scatacformer"] = {"other": 1}
    classes = annotate_bins(adata, files[0], bed=files[1])
    assert adata.varm["region_classes"].shape == (60, 9)
    assert adata.varm["region_classes"].dtype == bool
    path = tmp_path / f"a.{store}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zarr on its own formats
        getattr(adata, f"write_{store}")(path)
    again = getattr(ad, f"read_{store}")(path)
    assert again.uns["scatacformer"]["other"] == 1
    for written in (adata, again):
        back = RegionClasses.from_anndata(written)
        assert back.names == classes.names
        assert (back.matrix != classes.matrix).nnz == 0
        notes = written.uns["scatacformer"]["region_classes"]
        assert dict(zip(notes["names"], notes["n_bins"], strict=True))["promoter"] == 6


def test_classes_follow_the_bins(adata, files):
    classes = annotate_bins(adata, files[0], key_added="classes")
    order = np.random.default_rng(0).permutation(60)
    back = RegionClasses.from_anndata(adata[:, order].copy(), "classes")
    assert (back.matrix != classes.matrix[order]).nnz == 0
    with pytest.raises(ValueError, match="The class 'exon' has none of the 11 bins.*annotate these bins anew"):
        RegionClasses.from_anndata(adata[:, :11], "classes")
    with pytest.raises(ValueError, match=r"no region classes in varm\['region_classes'\].*sf.pp.annotate_bins"):
        RegionClasses.from_anndata(adata)


def test_a_vocabulary_is_enough(adata, files):
    vocabulary = Vocabulary.from_var(adata.var)
    of_vocabulary = annotate_bins(vocabulary, files[0], bed=files[1], min_share={"exon": 0.6})
    assert of_vocabulary.bins_of("exon").tolist() == [11, 18, 19, 45]
    assert annotate_bins(vocabulary, files[0], promoter=(0, 0)).bins_of("promoter").tolist() == [11, 45]
    assert (annotate_bins(adata, files[0]).matrix != region_classes(vocabulary, files[0]).matrix).nnz == 0


def test_views_and_other_assemblies_are_refused(adata, files):
    with pytest.raises(ValueError, match=r"is a view of another AnnData. Pass adata.copy"):
        annotate_bins(adata[:, :10], files[0])
    adata.uns["assembly"] = "hg38"
    files[0].write_text("#!genome-build GRCh37.p13\n" + GTF)
    with pytest.raises(ValueError, match="labelled as hg19, but the bins are from hg38"):
        annotate_bins(adata, files[0])
    assert "region_classes" not in adata.varm
