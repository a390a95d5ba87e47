from __future__ import annotations

import gzip

import numpy as np
import pandas as pd
import pytest

import scatacformer as sf

from ._checkpoints import Replica, overlapped, regions, write


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write(tmp_path_factory.mktemp("atacformer"))


@pytest.fixture
def model(folder):
    return sf.Atacformer.from_pretrained(folder)


def fragments(n=900, seed=0) -> pd.DataFrame:
    """Fragments of three barcodes, some on a chromosome that the universe lacks, many on no region."""
    rng = np.random.default_rng(seed)
    start = rng.integers(0, 60_000, n)
    table = pd.DataFrame(
        {
            "chrom": rng.choice(["chr1", "chr2", "chrX", "chrM"], n), "start": start,
            "end": start + rng.integers(20, 400, n), "barcode": rng.choice(["B", "A", "C"], n, p=[0.2, 0.1, 0.7]),
            "count": 1,
        }
    )  # fmt: skip
    return table.sort_values(["chrom", "start"], ignore_index=True)


def saved(table, path):
    text = "# a comment\n" + table.to_csv(sep="\t", header=False, index=False)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


@pytest.mark.parametrize("name", ["f.tsv", "f.tsv.gz"])
def test_fragments_are_embedded_by_what_they_overlap(model, folder, tmp_path, name):
    table = fragments()
    found = model.get_latent_representation(saved(table, tmp_path / name), min_tokens=40, max_tokens=80)
    assert list(found.index) == ["B", "C"] and found.index.name == "barcode"
    hits = overlapped(table[["chrom", "start", "end"]], regions())
    cells = [sorted({t for i in np.flatnonzero(table["barcode"] == b) for t in hits[i]}) for b in ("A", "B")]
    assert max(map(len, cells)) <= 80 < len({t for h in hits for t in h})
    both = model.get_latent_representation(tmp_path / name, barcodes=["B", "A"])
    assert list(both.index) == ["B", "A"]
    np.testing.assert_allclose(both.to_numpy(), Replica(folder).embed(cells[::-1]), atol=1e-6)
    np.testing.assert_allclose(both.loc["B"], found.loc["B"], atol=1e-6)


def test_what_is_read_in_pieces_is_the_same(model, tmp_path, monkeypatch):
    path = saved(fragments(), tmp_path / "f.tsv")
    whole = model.get_latent_representation(path, min_tokens=1)
    monkeypatch.setattr("scatacformer.cells.fragments.read.BLOCK", 2_000)
    pd.testing.assert_frame_equal(model.get_latent_representation(path, min_tokens=1), whole)


def test_fragments_and_their_counts_over_the_universe_agree(model, tmp_path):
    table = fragments()
    z = model.get_latent_representation(saved(table, tmp_path / "f.tsv"), min_tokens=1)
    from anndata import AnnData
    from scipy.sparse import csr_matrix

    universe = regions()
    hits = overlapped(table[["chrom", "start", "end"]], universe)
    x = np.zeros((3, len(universe)), np.float32)
    for barcode, hit in zip(table["barcode"], hits, strict=True):
        x["ABC".index(barcode), hit] += 1
    adata = AnnData(csr_matrix(x), obs=pd.DataFrame(index=list("ABC")), var=universe.rename(index=str))
    # the same cells, and the same sample of the long one
    np.testing.assert_allclose(model.get_latent_representation(adata), z.to_numpy(), atol=1e-6)


def test_tokens_that_were_made_before(model, tmp_path):
    path = saved(fragments(), tmp_path / "f.tsv")
    cells = model.tokenizer.tokenize_fragments(path)
    whole = model.get_latent_representation(path, min_tokens=1)
    pd.testing.assert_frame_equal(model.get_latent_representation(cells), whole)
    pd.testing.assert_frame_equal(model.get_latent_representation(cells, barcodes=["B"]), whole.loc[["B"]])
    foreign = sf.Tokenizer(sf.Vocabulary.from_var(regions(seed=1))).tokenize_fragments(path)
    with pytest.raises(ValueError, match="tokens of other regions"):
        model.get_latent_representation(foreign)


def test_bad_files_and_barcodes(model, tmp_path):
    path = saved(fragments(), tmp_path / "f.tsv.gz")
    for change, match in (
        ({"barcodes": ["Z"]}, "None of the 1 barcodes is in"),
        ({"min_tokens": 10_000}, "no barcode .* has 10,000 tokens"),
        ({"barcodes": ["A"], "min_tokens": 1}, "Pass only one of them"),
    ):
        with pytest.raises(ValueError, match=match):
            model.get_latent_representation(path, **change)
    with pytest.warns(UserWarning, match="1 of 2 barcodes given are not in"):
        assert list(model.get_latent_representation(path, barcodes=["A", "Z"]).index) == ["A"]
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="truncated or damaged gzip"):
        model.get_latent_representation(path)
    elsewhere = fragments().assign(chrom="1")
    with pytest.raises(ValueError, match="No chromosome of .* is one of the tokenizer's"):
        model.get_latent_representation(saved(elsewhere, tmp_path / "g.tsv"))
