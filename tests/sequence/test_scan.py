from __future__ import annotations

import itertools

import numpy as np
import pytest

from scatacformer.genome import Vocabulary
from scatacformer.sequence import Fasta, Motifs, ScanSettings, scan_regions, scan_sequences, score_thresholds


def motifs_of(widths=(4, 6, 7, 8, 11, 15, 23), seed=0, sharpness=0.3):
    rng = np.random.default_rng(seed)
    matrices = [rng.dirichlet(np.full(4, sharpness), width).T for width in widths]
    return Motifs(tuple(f"motif {w}" for w in widths), tuple(matrices), rng.integers(10, 1000, len(widths)))


def sequences_of(n=12, seed=1, length=(0, 400)):
    """Random bases with some N, and in every other sequence the best site of each motif, on either strand."""
    rng = np.random.default_rng(seed)
    sequences = [rng.choice(5, rng.integers(*length), p=[0.2475] * 4 + [0.01]).astype(np.uint8) for _ in range(n)]
    for sequence in sequences[::2]:
        for matrix in motifs_of().matrices:
            site = matrix.argmax(axis=0) if rng.random() < 0.5 else 3 - matrix.argmax(axis=0)[::-1]
            if len(sequence) > 2 * len(site):
                first = rng.integers(len(sequence) - len(site))
                sequence[first : first + len(site)] = site
    return sequences


def brute_force(sequences, motifs, thresholds, reduce, pseudocount=0.1):
    """Each window of each strand scored on its own, from the definition."""
    out = np.zeros((len(sequences), len(motifs)))
    for number, log_odds in enumerate(motifs.log_odds(pseudocount)):
        weights = np.rint(np.maximum(log_odds, -40) * 100) / 100
        width = weights.shape[1]
        for row, codes in enumerate(sequences):
            found = []
            for first in range(len(codes) - width + 1):
                window = codes[first : first + width]
                if (window > 3).any():
                    continue
                other = 3 - window[::-1]
                for strand in (window, other):
                    score = weights[strand, np.arange(width)].sum()
                    if score >= thresholds[number] - 1e-9 and score > 1e-9:
                        found.append(score)
            if found:
                out[row, number] = sum(found) if reduce == "sum" else max(found)
    return out


@pytest.mark.parametrize("reduce", ["sum", "max"])
@pytest.mark.parametrize("p_value", [1e-4, 1e-3, 0.02])
@pytest.mark.filterwarnings("ignore:.*motifs cannot reach p")
def test_scores_are_those_of_a_scan_by_hand_of_both_strands(reduce, p_value):
    motifs, sequences = motifs_of(), sequences_of()
    settings = ScanSettings(p_value, reduce)
    thresholds = score_thresholds(motifs, settings)
    found = scan_sequences(sequences, motifs, settings)
    expected = brute_force(sequences, motifs, thresholds, reduce)
    assert found.dtype == np.float32
    assert (expected > 0).sum() > 20
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("p_value", [1e-4, 3e-3, 0.05])
def test_the_p_value_of_the_threshold_is_exact(p_value):
    """Of all sequences of a motif's width, at most that share reaches it, and one score less would be too many."""
    motifs = motifs_of((3, 5, 8, 9))
    for number, log_odds in enumerate(motifs.log_odds()):
        weights = np.rint(np.maximum(log_odds, -40) * 100).astype(int)
        scores = np.zeros(1, dtype=int)
        for position in range(weights.shape[1]):
            scores = (scores[:, None] + weights[:, position]).ravel()
        threshold = score_thresholds(motifs, ScanSettings(p_value))[number]
        if np.isinf(threshold):
            assert (scores == scores.max()).mean() > p_value
            continue
        threshold = round(threshold * 100)
        assert (scores >= threshold).mean() <= p_value
        below = scores[(scores < threshold) & (scores > 0)]
        assert threshold in scores
        assert not len(below) or (scores >= below.max()).mean() > p_value


def test_a_site_on_either_strand_counts_alike_and_n_does_not():
    motifs = Motifs(("site",), (np.array([[0.97, 0.01, 0.01, 0.01]] * 5 + [[0.01, 0.01, 0.97, 0.01]] * 3).T,), [100])
    settings = ScanSettings(1e-3)
    forward, backward, broken, lower = scan_sequences(
        ["CCCAAAAAGGGCTC", "GAGCCCTTTTTGGG", "CCCAANAAGGGCTC", "cccaaaaagggctc"], motifs, settings
    )[:, 0]
    assert forward == backward == lower > 0
    assert broken == 0


def test_a_palindrome_is_a_hit_on_both_strands():
    matrix = np.full((4, 6), 0.01)
    matrix[["ACGT".index(base) for base in "CACGTG"], np.arange(6)] = 0.97
    motifs = Motifs(("E-box",), (matrix,), [100])
    both = scan_sequences(["TTTCACGTGTTT"], motifs, ScanSettings(1e-3))[0, 0]
    one = scan_sequences(["TTTCACGTGTTT"], motifs, ScanSettings(1e-3, "max"))[0, 0]
    assert both == pytest.approx(2 * one, rel=1e-6)


@pytest.mark.parametrize("cluster_reduce", ["sum", "max"])
def test_clusters_bring_motifs_together(cluster_reduce):
    motifs, sequences = motifs_of(), sequences_of()
    labels = ["b", "a", "b", "c", "a", "b", "c"]
    clustered = motifs.with_clusters(dict(zip(motifs.names, labels, strict=True)))
    settings = ScanSettings(5e-3, cluster_reduce=cluster_reduce)
    each = scan_sequences(sequences, motifs, settings)
    found = scan_sequences(sequences, clustered, settings)
    assert clustered.columns == ("b", "a", "c")
    for column, label in enumerate(clustered.columns):
        own = each[:, [here == label for here in labels]]
        expected = own.sum(1) if cluster_reduce == "sum" else own.max(1)
        np.testing.assert_allclose(found[:, column], expected, rtol=1e-5)
    assert found.any(0).all()


@pytest.mark.filterwarnings("ignore:.*motifs cannot reach p")
def test_pieces_and_threads_change_nothing(monkeypatch):
    import numba

    from scatacformer.sequence import scan

    motifs, sequences = motifs_of(), sequences_of(40)
    whole = scan_sequences(sequences, motifs)
    monkeypatch.setattr(scan, "_BASES_AT_ONCE", 500)
    assert np.array_equal(scan_sequences(sequences, motifs), whole)
    monkeypatch.setattr(scan, "_SCORES_AT_ONCE", 1)
    before = numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        assert np.array_equal(scan_sequences(sequences, motifs), whole)
    finally:
        numba.set_num_threads(before)
    order = np.random.default_rng(0).permutation(40)
    assert np.array_equal(scan_sequences([sequences[row] for row in order], motifs), whole[order])


def test_motifs_without_a_hit_that_is_rare_enough_are_named():
    motifs = motifs_of((4, 12))
    with pytest.warns(UserWarning, match=r"1 of 2 motifs cannot reach p <= 0.0001: .*motif 4, 4 positions"):
        found = scan_sequences([*sequences_of(), motifs.matrices[1].argmax(axis=0)], motifs)
    assert not found[:, 0].any()
    assert found[:, 1].any()


@pytest.fixture
def genome(tmp_path):
    rng = np.random.default_rng(5)
    sequences = {"chr2": rng.integers(0, 4, 3000), "chr10": rng.integers(0, 4, 1200)}
    sequences["chr2"][700:720] = 4
    path = tmp_path / "genome.fa"
    with path.open("w") as file:
        for name, codes in sequences.items():
            text = "".join("ACGTN"[code] for code in codes)
            text = text[:500] + text[500:900].lower() + text[900:]
            file.write(f">{name} made up\n")
            file.writelines(text[first : first + 60] + "\n" for first in range(0, len(text), 60))
    return path, sequences


@pytest.mark.filterwarnings("ignore:.*motifs cannot reach p", "ignore:.*regions overlap another")
def test_regions_are_read_where_they_lie_in_any_order(genome):
    path, sequences = genome
    chrom = np.array([1, 0, 0, 1, 0, 0])
    start = np.array([900, 2500, 650, 0, 100, 2990])
    end = np.array([1200, 2900, 950, 400, 103, 3000])  # one shorter than most motifs, one at the very end
    regions = Vocabulary(("chr10", "chr2"), 1 - chrom, start, end)
    motifs, settings = motifs_of(), ScanSettings(5e-3)
    found = scan_regions(regions, Fasta(path), motifs, settings)
    names = np.array(regions.chrom_names)[regions.chrom]
    cut = [sequences[name][a:b].astype(np.uint8) for name, a, b in zip(names, start, end, strict=True)]
    expected = brute_force(cut, motifs, score_thresholds(motifs, settings), "sum")
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert (found[:4] > 0).any(1).all()


def test_other_genomes_are_refused(genome):
    path, _ = genome
    motifs = motifs_of((8,))
    with pytest.raises(ValueError, match=r"lacks 1 of the 1 chromosomes of the regions: 2.*'2' where 'chr2'"):
        scan_regions(Vocabulary(("2",), np.zeros(1, int), [0], [100]), Fasta(path), motifs)
    with pytest.raises(ValueError, match=r"first: chr10 to 1,300, which has 1,200 bp"):
        scan_regions(Vocabulary(("chr10",), np.zeros(1, int), [1000], [1300]), Fasta(path), motifs)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"p_value": 0}, "p_value is .*; expected above 0"),
        ({"p_value": 0.5}, "at most 0.05"),
        ({"reduce": "mean"}, "reduce is 'mean'; expected 'sum' or 'max'"),
        ({"cluster_reduce": "mean"}, "cluster_reduce is"),
        ({"pseudocount": -1}, "pseudocount is .*; expected 0 or more"),
    ],
    ids=str,
)
def test_impossible_settings_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ScanSettings(**options)


def test_nothing_to_scan():
    with pytest.raises(ValueError, match="There are no sequences"):
        scan_sequences([], motifs_of())


def test_real_windows_hold_the_sites_of_ctcf(data_dir):
    """CTCF's motif is found many times more often in real DNA than in the same letters shuffled."""
    pytest.importorskip("pyjaspar")
    path = data_dir / "sequence" / "hg38_windows.npz"
    if not path.is_file():
        pytest.skip(f"no windows of hg38: {path} is not there")
    codes = np.load(path)["seq"][:, 40_000:90_000].reshape(-1, 500)[:3000]
    rng = np.random.default_rng(0)
    motifs = Motifs.from_jaspar("JASPAR2026")
    ctcf = motifs.select([name for name in motifs.names if name.startswith("CTCF_MA0139")])
    settings = ScanSettings(1e-6)
    real = (scan_sequences(list(codes), ctcf, settings) > 0).sum()
    shuffled = (scan_sequences([rng.permutation(one) for one in codes], ctcf, settings) > 0).sum()
    assert real > 5 * max(shuffled, 1)


@pytest.mark.filterwarnings("ignore:.*motifs cannot reach p")
def test_all_lengths_of_pieces_are_looked_up_right():
    """One motif of each width from 1 to 30, so that each way of cutting it into pieces is met."""
    rng = np.random.default_rng(3)
    widths = range(1, 31)
    motifs = motifs_of(tuple(widths), seed=9, sharpness=1.0)
    sequences = [rng.integers(0, 4, 200).astype(np.uint8) for _ in range(3)]
    settings = ScanSettings(0.05, "max")
    found = scan_sequences(sequences, motifs, settings)
    expected = brute_force(sequences, motifs, score_thresholds(motifs, settings), "max")
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert (found > 0).any(0).sum() >= 25
    assert len(set(itertools.chain(*found.tolist()))) > 30
