from __future__ import annotations

import gzip
import warnings
from types import SimpleNamespace

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from scatacformer.genome import Lift, Vocabulary, chrom_sizes
from scatacformer.pp import lift_vocabulary


def chain_text(number, score, source, target, blocks, strand="+"):
    """One chain. Source and target: (name, size, start); blocks: (size, gap, gap in the target), the last without."""
    (name, size, start), (target_name, target_size, target_start) = source, target
    n = sum(block[0] for block in blocks)
    end, target_end = (at + n + sum(block[gap] for block in blocks[:-1]) for at, gap in ((start, 1), (target_start, 2)))
    lines = [
        f"chain {score} {name} {size} + {start} {end} {target_name} {target_size} {strand} {target_start} {target_end} {number}"
    ]
    lines += ["\t".join(map(str, block)) for block in blocks[:-1]]
    return "\n".join([*lines, str(blocks[-1][0]), "", ""])


def write_chain(path, *chains):
    text = "".join(chains)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def vocabulary(*regions, assembly=None):
    chrom, start, end = zip(*regions, strict=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return Vocabulary.from_var(pd.DataFrame({"chrom": chrom, "start": start, "end": end}), assembly)


SIZES, NEW = {"chr1": 10_000, "chr2": 4_000}, {"chr1": 10_500, "chrZ": 5_000, "chr9_KI_random": 2_000}


@pytest.fixture
def chain(tmp_path):
    return write_chain(
        tmp_path / "a.chain.gz",
        "# made by hand\n",
        # 0-2000 stays, 100 bp are inserted, 2000-4000 follows, 4000-5000 is deleted, 5000-8000 follows at once
        chain_text(1, 900, ("chr1", 10_000, 0), ("chr1", 10_500, 0), [(2_000, 0, 100), (2_000, 1_000, 0), (3_000,)]),
        # 8000-10000 lies on the other strand of chrZ, 1000 bp from its end
        chain_text(2, 500, ("chr1", 10_000, 8_000), ("chrZ", 5_000, 1_000), [(2_000,)], "-"),
        chain_text(3, 400, ("chr2", 4_000, 0), ("chr9_KI_random", 2_000, 0), [(1_000,)]),
        # chr2:1000-1500 lies where chr1:0-500 does; 2000-3000 becomes five times as wide
        chain_text(4, 300, ("chr2", 4_000, 1_000), ("chr1", 10_500, 0), [(500,)]),
        chain_text(5, 200, ("chr2", 4_000, 2_000), ("chrZ", 5_000, 0), [(400, 200, 4_000), (400,)]),
    )


def test_known_answers(chain):
    regions = vocabulary(
        ("chr1", 500, 1_500),  # as it was
        ("chr1", 1_900, 2_100),  # over the insertion
        ("chr1", 3_000, 4_000),
        ("chr1", 3_900, 4_500),  # most of it is deleted
        ("chr1", 3_800, 5_200),  # two in seven of it are left
        ("chr1", 7_600, 8_400),  # half on either of two chains
        ("chr1", 8_000, 8_300),  # the other strand
        ("chr1", 0, 400),
        ("chr2", 0, 500),
        ("chr2", 1_100, 1_400),  # on chr1:0-400
        ("chr2", 2_100, 2_900),
        ("chrX", 5, 10),
    )
    lift = lift_vocabulary(regions, chain, min_share=0.6)
    assert isinstance(lift, Lift)
    table = lift.to_frame()
    assert table["outcome"].tolist() == [
        "lifted", "lifted", "lifted", "unmapped", "unmapped", "split", "lifted", "collision", "scaffold", "collision",
        "resized", "unmapped",
    ]  # fmt: skip
    assert table["target"].dropna().tolist() == [
        "chr1:500-1500", "chr1:1900-2200", "chr1:3100-4100", "chrZ:3700-4000",
    ]  # fmt: skip
    assert lift.target.names.tolist() == table["target"].dropna().tolist()
    assert table["token_id"].tolist() == [0, 1, 2, -1, -1, -1, 3, -1, -1, -1, -1, -1]
    assert np.allclose(lift.share, [1, 1, 1, 1 / 6, 2 / 7, 0.5, 1, 1, 1, 1, 0.75, 0])
    report = lift.report
    assert (report["n_regions"], report["n_lifted"], report["n_unmapped"], report["n_collision"]) == (12, 4, 3, 2)
    assert report["share_lost"] == pytest.approx(8 / 12)
    assert "4 lifted, 66.67% lost (3 unmapped, 1 split, 1 resized, 1 scaffold, 2 collision)" in repr(lift)
    # at half of its bp, the first of the two chains has enough of chr1:7600-8400
    assert lift_vocabulary(regions, chain).to_frame()["target"].iloc[5] == "chr1:6700-7100"


def random_chains(rng, sizes, target_sizes):
    """Chains that may overlap one another on either side, with their scores as names."""
    chains, number = [], 0
    for name, size in sizes.items():
        for _ in range(6):
            number += 1
            blocks = [
                tuple(row) for row in np.column_stack([rng.integers(1, 60, 8), rng.integers(0, 30, (8, 2))]).tolist()
            ]
            target = rng.choice(list(target_sizes))
            strand = "+-"[rng.integers(2)]
            start, target_start = (int(rng.integers(0, n - 760)) for n in (size, target_sizes[target]))
            source = (name, size, start)
            chains.append(
                chain_text(number, number, source, (target, target_sizes[target], target_start), blocks, strand)
            )
    return chains


@pytest.mark.parametrize("seed", range(5))
def test_each_bp_goes_where_pyliftover_says(tmp_path, seed):
    pyliftover = pytest.importorskip("pyliftover")
    rng = np.random.default_rng(seed)
    sizes, target_sizes = {"c1": 3_000, "c2": 2_000}, {"c2": 2_500, "d": 1_500}
    path = write_chain(tmp_path / "r.chain", *random_chains(rng, sizes, target_sizes))
    oracle = pyliftover.LiftOver(str(path))
    regions = vocabulary(*((c, s, s + 40) for c, size in sizes.items() for s in range(0, size - 40, 53)))
    lift = lift_vocabulary(regions, path, min_share=0.3, max_resize=1_000)
    rows = lift.to_frame()
    seen = {"lifted": 0, "unmapped": 0, "split": 0}
    landed = {}
    for name, chrom, start, end in zip(
        regions.names, np.array(regions.chrom_names)[regions.chrom], regions.start, regions.end, strict=True
    ):
        by_chain: dict[int, list] = {}
        for bp in range(start, end):
            for target, position, _, score in oracle.convert_coordinate(chrom, bp):
                by_chain.setdefault(score, []).append((target, position))
        n = {score: len(found) for score, found in by_chain.items()}
        best = max(n, key=lambda score: (n[score], score), default=None)
        share = n.get(best, 0) / 40
        assert lift.share[regions.names.tolist().index(name)] == pytest.approx(share)
        if share >= 0.3:
            positions = [position for _, position in by_chain[best]]
            landed[name] = f"{by_chain[best][0][0]}:{min(positions)}-{max(positions) + 1}"
            expected = "lifted"
        else:
            expected = "split" if sum(n.values()) / 40 >= 0.3 else "unmapped"
        found = rows.loc[name, "outcome"]
        assert found == expected or (found == "collision" and expected == "lifted")
        if found == "lifted":
            assert rows.loc[name, "target"] == landed[name]
        seen[expected] += 1
    assert min(seen["lifted"], seen["unmapped"]) > 5
    # what collided did land on something else, and what did not collide did not
    inside = {name: (t.split(":")[0], *map(int, t.split(":")[1].split("-"))) for name, t in landed.items()}
    for name, (chrom, start, end) in inside.items():
        on_top = [
            other
            for other, (c, s, e) in inside.items()
            if other != name and c == chrom and 2 * (min(e, end) - max(s, start)) > min(e - s, end - start)
        ]
        assert (rows.loc[name, "outcome"] == "collision") == bool(on_top)


def test_there_and_back_by_the_inverse_chain(tmp_path):
    blocks = [(700, 30, 0), (900, 0, 55), (1_400,)]
    there = write_chain(tmp_path / "t.chain", chain_text(1, 1, ("a", 4_000, 100), ("b", 5_000, 900), blocks, "-"))
    # the same alignment, read from the other strand
    back_blocks = [(1_400, 55, 0), (900, 0, 30), (700,)]
    back = write_chain(tmp_path / "b.chain", chain_text(1, 1, ("b", 5_000, 1_045), ("a", 4_000, 870), back_blocks, "-"))
    regions = vocabulary(("a", 150, 250), ("a", 600, 1_000), ("a", 2_000, 3_000), ("a", 1_700, 1_900))
    lifted = lift_vocabulary(regions, there).target
    again = lift_vocabulary(lifted, back).target
    assert again.names.tolist() == regions.names.tolist()


def test_onto_the_bins_of_another_vocabulary(chain):
    regions = Vocabulary.from_chrom_sizes(SIZES, 500)
    target = Vocabulary.from_chrom_sizes(NEW, 1_000)
    lift = lift_vocabulary(regions, chain, target)
    assert lift.target is target
    landed = lift_vocabulary(regions, chain).to_frame()["target"]
    for name, token_id, interval in zip(regions.names, lift.token_ids, landed, strict=True):
        if token_id < 0:
            continue
        start, end = map(int, interval.split(":")[1].split("-"))
        shared = np.minimum(target.end, end) - np.maximum(target.start, start)
        shared[np.array(target.chrom_names)[target.chrom] != interval.split(":")[0]] = 0
        assert token_id == np.argmax(shared), name
    assert lift.report["n_merged"] > 4
    few = Vocabulary.from_chrom_sizes({"chr1": 2_000}, 1_000)
    report = lift_vocabulary(regions, chain, SimpleNamespace(vocabulary=few)).report
    assert report["n_outside"] > 0
    assert report["n_lifted"] + report["n_outside"] == lift.report["n_lifted"] + lift.report["n_outside"]


@pytest.mark.parametrize("to_bins", [False, True])
def test_counts_follow_their_regions(tmp_path, chain, to_bins):
    rng = np.random.default_rng(0)
    regions = Vocabulary.from_chrom_sizes(SIZES, 500)
    X = sparse.csr_matrix(rng.poisson(0.5, (20, regions.n_bins)).astype(np.float32))
    adata = anndata.AnnData(
        X, var=regions.to_frame(), obs=pd.DataFrame({"batch": "a"}, index=[str(i) for i in range(20)])
    )
    adata.obsm["Z"] = rng.random((20, 2))
    target = Vocabulary.from_chrom_sizes(NEW, 1_000) if to_bins else None
    lift = lift_vocabulary(regions, chain, target)
    lifted = lift_vocabulary(adata, chain, target)
    expected = np.zeros((20, lift.target.n_bins))
    for region, token_id in enumerate(lift.token_ids):
        if token_id >= 0:
            expected[:, token_id] += X.toarray()[:, region]
    assert np.array_equal(lifted.X.toarray(), expected)
    assert expected.sum() > 100
    assert Vocabulary.from_var(lifted.var) == lift.target
    assert lifted.obs.equals(adata.obs)
    assert np.array_equal(lifted.obsm["Z"], adata.obsm["Z"])
    report = lifted.uns["scatacformer"]["lift_vocabulary"]
    lost = X[:, lift.token_ids < 0].nnz
    assert lost > 0
    assert report["share_open_lost"] == pytest.approx(lost / X.nnz)
    assert report["n_lifted"] == lift.report["n_lifted"]
    lifted.write_h5ad(tmp_path / "lifted.h5ad")
    adata.write_h5ad(tmp_path / "a.h5ad")
    backed = anndata.read_h5ad(tmp_path / "a.h5ad", backed="r")
    assert (lift_vocabulary(backed, chain, target).X != lifted.X).nnz == 0
    backed.file.close()


def test_assemblies_are_told_by_the_sizes_of_their_chromosomes(tmp_path):
    old, new = (chrom_sizes(assembly)["chr21"] for assembly in ("hg19", "hg38"))
    text = chain_text(1, 1, ("chr21", old, 0), ("chr21", new, 0), [(40_000_000,)])
    path = write_chain(tmp_path / "hg19ToHg38.chain", text)
    adata = anndata.AnnData(
        sparse.csr_matrix(np.ones((2, 2), dtype=np.float32)),
        var=pd.DataFrame({"chrom": "chr21", "start": [0, 500], "end": [500, 1_000]}, index=["a", "b"]),
        uns={"assembly": "GRCh37"},
    )
    lifted = lift_vocabulary(adata, path)
    assert lifted.uns["assembly"] == "hg38"
    assert lifted.var_names.tolist() == ["chr21:0-500", "chr21:500-1000"]
    adata.uns["assembly"] = "hg38"
    with pytest.raises(ValueError, match=r"leads from hg19 to hg38, but the regions are of hg38: .* right direction"):
        lift_vocabulary(adata, path)
    adata.uns["assembly"] = "hg19"
    with pytest.raises(ValueError, match="but the target's regions are of hg19"):
        lift_vocabulary(adata, path, Vocabulary.from_chrom_sizes("hg19", 1_000_000))
    unnamed = lift_vocabulary(adata, path, Vocabulary(("chr21",), [0], [0], [5_000]))
    assert "assembly" not in unnamed.uns  # it is no longer hg19
    assert unnamed.X.toarray().tolist() == [[2], [2]]


def test_regions_that_become_one_do_so_once(chain):
    regions = vocabulary(("chr1", 3_500, 4_000), ("chr1", 3_500, 4_200), ("chr1", 3_400, 4_100))
    table = lift_vocabulary(regions, chain).to_frame()
    assert table["outcome"].tolist() == ["lifted", "collision", "lifted"]
    assert table["target"].dropna().tolist() == ["chr1:3600-4100", "chr1:3500-4100"]


def test_chains_of_other_chromosomes_are_refused(chain):
    with pytest.raises(ValueError, match=r"no chromosome of the regions \(1, …\) is there .*named without 'chr'"):
        lift_vocabulary(vocabulary(("1", 0, 5)), chain)
    with pytest.raises(ValueError, match=r"1 of 2 of the regions are beyond .*first: chr1:10000-10005.*10,000 bp"):
        lift_vocabulary(vocabulary(("chr1", 0, 5), ("chr1", 10_000, 10_005)), chain)
    with pytest.raises(ValueError, match=r"1 of 1 of the target's regions are beyond"):
        lift_vocabulary(vocabulary(("chr1", 0, 5)), chain, vocabulary(("chr1", 20_000, 20_005)))
    with pytest.raises(ValueError, match=r"None of the 1 regions can be lifted.*1 unmapped"):
        lift_vocabulary(vocabulary(("chr1", 4_100, 4_200)), chain)


def test_damaged_chain_files_are_refused(tmp_path, chain):
    regions = vocabulary(("chr1", 500, 1_500))
    whole = gzip.decompress(chain.read_bytes()).decode()
    path = tmp_path / "b.chain"

    def refused(content, message):
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        with pytest.raises(ValueError, match=message):
            lift_vocabulary(regions, path)

    refused(chain.read_bytes()[:-30], "truncated or damaged gzip")
    header, first, second, third = whole.splitlines()[1:5]
    assert first.split() == ["2000", "0", "100"]
    for stop in (
        f"{header}\n",
        f"{header}\n{first}\n",
        f"{header}\n{first}\n{second}\n",
        f"{header}\n{first}\n{second}\n3",
    ):
        refused(stop, r"truncated or damaged: the blocks of chain 1 of 1 \(line 1\) do not add up to chr1:0-8000")
    refused(whole.replace(first + "\n", ""), r"chain 1 of 5 \(line 2\)")
    refused(whole.replace("\n400\t200", "\n401\t200"), r"chain 5 of 5")
    refused(whole.replace("\n500\n", "\n500\t1\n"), r"chain 4 of 5")
    refused(whole.replace("\n500\n", "\nmany\n"), r"truncated or damaged")
    refused(header[:40], "line 1, is not the header of a chain")
    refused(whole.replace("chr2 4000", "chr2 4001", 1), "gives chr2 two sizes: 4,001 and 4,000")
    refused("chr1\t5\t9\n", "is not the header of a chain|is not a chain file")
    refused("", "is not a chain file")
    refused("1000\n" + whole, "is not a chain file of UCSC.*begins with '1000")
    with pytest.raises(FileNotFoundError, match="The chain file .* does not exist"):
        lift_vocabulary(regions, tmp_path / "absent.chain")


def test_windows_line_ends_and_comments_do_not_matter(tmp_path, chain):
    regions = Vocabulary.from_chrom_sizes(SIZES, 500)
    text = gzip.decompress(chain.read_bytes()).decode()
    other = tmp_path / "w.chain"
    other.write_bytes(text.replace("\n", "\r\n").replace("chain 500", "# comment\r\nchain 500").encode())
    assert lift_vocabulary(regions, other).to_frame().equals(lift_vocabulary(regions, chain).to_frame())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_share": 0}, "min_share is .*; expected"),
        ({"min_share": 95}, "min_share is .*; expected"),
        ({"max_resize": 0.5}, "max_resize is 0.5; expected"),
        ({"target": "hg38"}, "target must be a Vocabulary.*found str"),
        ({"regions": "hg19"}, "Expected a Vocabulary or an AnnData; found str"),
    ],
)
def test_bad_arguments(chain, options, message):
    with pytest.raises(ValueError, match=message):
        lift_vocabulary(**({"regions": vocabulary(("chr1", 5, 9)), "chain": chain} | options))
