from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from scatacformer.genome import LINK_COLUMNS, Genes, Vocabulary, links_table, window_pairs
from scatacformer.genome.links import as_categories, check_links


@pytest.fixture
def parts():
    bins = Vocabulary.from_chrom_sizes({"chr1": 52_000, "chr2": 40_000}, 5000)
    genes = Genes(
        ["a", "b", "lost", "c"], ("chr2", "chr1"), [0, 1, -1, 1], [12_345, 7, -1, 51_999], ["-", "+", ".", "-"]
    )
    pairs = window_pairs(genes, bins, 10_000)
    score = np.arange(len(pairs.bins)) / 7
    return genes, bins, pairs, score, score / 10, score / 5, np.arange(bins.n_bins) * 3


def test_a_row_says_of_its_pair_what_genes_and_bins_say(parts):
    genes, bins, pairs, score, p, q, n_cells = parts
    table = links_table(*parts)
    assert tuple(table.columns) == LINK_COLUMNS
    gene = np.repeat(np.arange(len(genes)), np.diff(pairs.indptr))
    assert table["gene"].tolist() == genes.names[gene].tolist()
    assert table["region"].tolist() == bins.names[pairs.bins].tolist()
    assert (table["chrom"].astype(str) + ":" + table["start"].astype(str)).str.cat(
        table["end"].astype(str), sep="-"
    ).tolist() == table["region"].tolist()
    assert table["tss"].tolist() == genes.tss[gene].tolist()
    assert table["strand"].tolist() == genes.strand[gene].tolist()
    assert table["distance"].tolist() == pairs.distance.tolist()
    assert table["n_cells"].tolist() == (pairs.bins * 3).tolist()
    for name, values in (("score", score), ("p", p), ("q", q)):
        np.testing.assert_array_equal(table[name], values)
    assert "lost" not in set(table["gene"])


def test_rows_can_be_left_out(parts):
    keep = np.arange(len(parts[3])) % 3 == 1
    whole, some = links_table(*parts), links_table(*parts, keep=keep)
    pd.testing.assert_frame_equal(some.astype(object), whole[keep].reset_index(drop=True).astype(object))
    none = links_table(*parts, keep=np.zeros_like(keep))
    assert none.empty and tuple(none.columns) == LINK_COLUMNS
    assert check_links(none).empty


def test_arrays_of_another_length_are_refused(parts):
    with pytest.raises(ValueError, match=r"q has shape \(3,\), expected"):
        links_table(*parts[:5], np.zeros(3), parts[6])
    with pytest.raises(ValueError, match=r"n_cells has shape"):
        links_table(*parts[:6], parts[3])


def test_a_table_read_back_from_text_is_the_same(parts, tmp_path):
    table = links_table(*parts)
    table.to_csv(tmp_path / "links.csv", index=False)
    back = check_links(pd.read_csv(tmp_path / "links.csv", dtype={"chrom": str}))
    pd.testing.assert_frame_equal(back.astype(object), check_links(table).astype(object))


def test_what_is_no_table_of_links_is_refused(parts):
    table = links_table(*parts)
    with pytest.raises(ValueError, match=r"links lacks the columns tss, q; it has gene, region"):
        check_links(table.drop(columns=["tss", "q"]))
    with pytest.raises(ValueError, match="lacks the columns gene, region.*it has none"):
        check_links(pd.DataFrame())
    with pytest.raises(TypeError, match="links is list; expected a DataFrame"):
        check_links([1])
    with pytest.raises(ValueError, match="The column start of links holds whole numbers"):
        check_links(table.astype({"start": object}).assign(start="here"))
    with pytest.raises(ValueError, match=r"1 of \d+ links have no gene"):
        check_links(table.astype({"gene": object}).assign(gene=[None, *table["gene"][1:]]))
    assert check_links(pd.DataFrame(columns=list(LINK_COLUMNS))).dtypes["start"] == np.int64


def test_checking_changes_nothing_of_the_users(parts):
    table = links_table(*parts).astype({"start": np.float64})
    before = table.copy()
    assert check_links(table).dtypes["start"] == np.int64
    pd.testing.assert_frame_equal(table, before)


def test_categories_are_those_in_use(parts):
    table = links_table(*parts)
    some = as_categories(table[table["gene"] == "b"])
    assert list(some["gene"].cat.categories) == ["b"]
    assert some["region"].tolist() == table.loc[table["gene"] == "b", "region"].tolist()
    assert some.index.tolist() == list(range(len(some)))
