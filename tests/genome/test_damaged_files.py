"""Files of others, damaged: read as they are, or refused by a ValueError that names the file. Never another error."""

from __future__ import annotations

import gzip

import numpy as np
import pytest

from scatacformer.genome import Genes, Vocabulary, chrom_sizes, region_classes
from scatacformer.genome.formats.chain import read_chains

from ._big_files import bigbed, bigwig

SIZES = {"chr1": 200_000, "chr2": 150_000}
GENE = 'chr1\tX\tgene\t%s\t%s\t.\t+\t.\tgene_id "%s";\n'
GTF = "".join(
    GENE % (start, start + 5000, f"G{start}")
    + f'chr1\tX\texon\t{start}\t{start + 90}\t.\t+\t.\tgene_id "G{start}"; transcript_id "T{start}";\n'
    for start in range(1000, 90_000, 20_000)
)
HOMER = "PeakID\tChr\tStart\tEnd\tAnnotation\n" + "".join(
    f"p{n}\tchr1\t{n * 5000 + 1}\t{(n + 1) * 5000}\tIntergenic\n" for n in range(20)
)
CHAIN = "chain 900 chr1 200000 + 0 200 chr1 200000 + 50 250 1\n100 10 10\n90\n\n" * 3
CHROMS = "".join(f"{name}\t{size}\n" for name, size in SIZES.items())


def read(kind, path):
    if kind == "sizes":
        return chrom_sizes(path)
    if kind == "chain":
        return read_chains(path)
    if kind == "genes":
        return Genes.from_gtf(path)
    return region_classes(Vocabulary.from_chrom_sizes(SIZES, 5000), **{kind: path})


TEXT = {"gtf": GTF, "genes": GTF, "homer": HOMER, "chain": CHAIN, "sizes": CHROMS}


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        ("genes", GENE % ("abc", "def", "G"), "found the position .*'abc'.*; expected 1"),
        ("genes", GENE % ("9" * 20, "9" * 20, "G"), "found the position .*; expected 1"),
        ("genes", GENE % (0, 5, "G"), "found the position .*; expected 1"),
        ("genes", GENE % (5, 9, "G\udcff"), "expected names in UTF-8"),
        ("gtf", GENE % ("9" * 20, "9" * 21, "G"), "positions are not 1 <= start <= end"),
        ("homer", HOMER + f"z\tchr1\t{'9' * 25}\t{'9' * 26}\tIntergenic\n", "not a table of HOMER's"),
        ("homer", HOMER + f"z\tchr1\t5\t{'9' * 12}\tIntergenic\n", "does not have 1 <= Start <= End"),
        ("homer", HOMER + "z\tchr1\t5\t\udcff\tIntergenic\n", "not a table of HOMER's"),
        ("sizes", "chr1\t5\n\udcff\t5\n", "not UTF-8"),
        ("sizes", f"chr1\t{'9' * 5000}\n", "line 1: expected"),
        ("sizes", "chr1\t²\n", "line 1: expected"),
        (
            "chain",
            CHAIN.replace("200000 + 0 200", "150 + 0 200"),
            "line 1: a chain extends beyond the end of its sequence",
        ),
        ("chain", CHAIN.replace("200000 + 50 250", "200 + 50 250"), "beyond the end of its sequence"),
        ("chain", CHAIN.replace("chain 900", f"chain {'9' * 30}"), "line 1"),
        ("chain", CHAIN.replace("100 10 10", f"{2**63 - 1} 10 10"), "truncated or damaged"),
    ],
)
def test_what_is_damaged_is_refused_by_name(tmp_path, kind, text, message):
    path = tmp_path / f"file.{kind}"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ValueError, match=message) as caught:
        read(kind, path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("kind", ["gtf", "genes", "homer", "chain"])
def test_half_a_gzip_file_is_refused_by_name(tmp_path, kind):
    path = tmp_path / "file.gz"
    path.write_bytes(gzip.compress(TEXT[kind].encode())[:-9])
    with pytest.raises(ValueError, match=r"file\.gz is a truncated or damaged gzip file"):
        read(kind, path)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", list(TEXT))
@pytest.mark.parametrize("packed", [False, True])
def test_any_bytes_are_read_or_refused_by_name(tmp_path, kind, packed):
    whole = TEXT[kind].encode()
    if packed:
        whole = gzip.compress(whole)
    rng = np.random.default_rng(7)
    path = tmp_path / "file.txt"
    for _ in range(40):
        content = bytearray(whole)
        at = int(rng.integers(len(content)))
        how = rng.integers(4)
        if how == 0:
            content[at] = rng.integers(256)
        elif how == 1:
            del content[at:]
        elif how == 2:
            content[at:at] = rng.integers(256, size=30, dtype=np.uint8).tobytes()
        else:
            content[at : at + 3] = b"99999999999999999999999"
        path.write_bytes(content)
        try:
            read(kind, path)
        except ValueError as error:
            assert str(path) in str(error)


@pytest.mark.parametrize("kind", ["bb", "bw"])
def test_damaged_big_files_are_refused_by_name_and_never_end_the_process(tmp_path, kind):
    pytest.importorskip("pybigtools")
    rng = np.random.default_rng(0)
    spans = {
        name: sorted((int(a), int(a) + 90) for a in rng.integers(0, size - 90, 20)) for name, size in SIZES.items()
    }
    values = {name: [(100 * n, 100 * n + 50, 1.0) for n in range(30)] for name in SIZES}
    whole = bigbed(SIZES, spans) if kind == "bb" else bigwig(SIZES, values)
    path = tmp_path / f"a.{kind}"
    bins = Vocabulary.from_chrom_sizes(SIZES, 500)

    def read_file():
        return region_classes(bins, bed={"a": path}, threshold=0.2).matrix.toarray()

    path.write_bytes(whole)
    expected, refused = read_file(), 0
    # sizes and addresses in the header, in the table of chromosomes and in the index, each as large as it can be
    places = [*range(8, 64, 2), *range(64, 160, 4), *range(len(whole) - 120, len(whole) - 4, 4)]
    for at in places:
        path.write_bytes(whole[:at] + b"\xff" * 4 + whole[at + 4 :])
        try:
            found = read_file()
        except ValueError as error:
            assert str(path) in str(error)
            refused += 1
        else:
            assert found.shape == expected.shape
    assert refused >= 30
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=f"a.{kind}.* is damaged"):
        read_file()
