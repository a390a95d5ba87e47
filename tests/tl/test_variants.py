"""Known effects are found where scores have them, and not where they do not; attributions match their motif."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from xarray import DataArray

import scatacformer as sf
from scatacformer.sequence import Motifs


def scores_of(change: np.ndarray, tracks: tuple[str, ...] = ("T", "B")) -> pd.DataFrame:
    """``(n_variants, n_tracks)`` as a table of scores."""
    n = len(change)
    return pd.DataFrame(
        {
            "chrom": np.repeat("chr1", n * len(tracks)),
            "pos": np.repeat(np.arange(n) * 10 + 1, len(tracks)),
            "id": np.repeat([f"rs{i}" for i in range(n)], len(tracks)),
            "ref": "A",
            "alt": "C",
            "track": list(tracks) * n,
            "log2_fold_change": change.ravel(),
        }
    )


def test_enrichment_is_one_for_what_scores_know_and_a_half_for_noise() -> None:
    rng = np.random.default_rng(0)
    acting = rng.random(400) < 0.2
    effect = rng.normal(size=400)
    change = np.stack([np.where(acting, np.sign(effect) * (1 + np.abs(effect)), 0.1), rng.normal(size=400)], axis=1)
    found = sf.tl.variant_enrichment(scores_of(change), acting, effect=effect)
    assert found.loc["T", ["auroc", "auprc", "sign_accuracy", "spearman"]].tolist() == pytest.approx([1, 1, 1, 1])
    assert abs(found.loc["B", "auroc"] - 0.5) < 0.1 and abs(found.loc["B", "sign_accuracy"] - 0.5) < 0.2
    assert found["n"].tolist() == [400, 400] and found["n_acting"].tolist() == [acting.sum()] * 2
    named = pd.Series(acting, index=[f"rs{i}" for i in range(400)]).sample(frac=1, random_state=1)
    pd.testing.assert_frame_equal(found, sf.tl.variant_enrichment(scores_of(change), named, effect=effect))


def test_regions_say_which_variants_act(tmp_path: Path) -> None:
    (tmp_path / "r.bed").write_text("chr1\t10\t31\nchr1\t20\t25\nchr2\t0\t1000\n")  # positions 11, 21 and 31, 1-based
    change = np.array([[0.0], [3], [2], [1], [0.1]])
    found = sf.tl.variant_enrichment(scores_of(change, ("T",)), tmp_path / "r.bed")
    assert found.loc["T", "n_acting"] == 3 and found.loc["T", "auroc"] == 1


def test_what_cannot_be_compared_is_refused() -> None:
    scores = scores_of(np.ones((4, 1)), ("T",))
    with pytest.raises(ValueError, match="all of the 4 variants act"):
        sf.tl.variant_enrichment(scores, [True] * 4)
    with pytest.raises(ValueError, match="a value for each of 4 variants"):
        sf.tl.variant_enrichment(scores, [True, False])
    with pytest.raises(KeyError, match="no column 'change'"):
        sf.tl.variant_enrichment(scores, [True, False] * 2, score="change")


def test_a_planted_motif_is_named(tmp_path: Path) -> None:
    pytest.importorskip("memelite")
    rng = np.random.default_rng(0)
    matrices = [rng.dirichlet([0.2] * 4, size=10).T for _ in range(60)]
    target = np.full((4, 10), 0.02)
    letters = "TGACTCATGG"
    for i, base in enumerate(letters):
        target["ACGT".index(base), i] = 0.94
    motifs = Motifs((*[f"m{i}" for i in range(60)], "AP1"), (*matrices, target), np.full(61, 100.0))
    codes = rng.integers(0, 4, 120)
    codes[50:60] = ["ACGT".index(base) for base in letters]
    values = np.zeros((120, 4, 2), dtype=np.float32)
    values[np.arange(120), codes, 0] = rng.normal(0, 0.02, 120)
    values[np.arange(50, 60), codes[50:60], 0] = 1.0
    values[np.arange(120), codes, 1] = rng.normal(0, 0.02, 120)
    attribution = DataArray(
        values,
        dims=("position", "base", "track"),
        coords={"position": np.arange(1000, 1120), "base": list("ACGT"), "track": ["T", "B"]},
        attrs={"reference": "".join("ACGT"[c] for c in codes), "chrom": "chr1"},
    )
    found = sf.tl.motifs_in_attribution(attribution, motifs, n_peaks=1, width=12, n_motifs=2)
    best = found[found["track"] == "T"].iloc[0]
    assert best["motif"] == "AP1" and best["p_value"] < 1e-4 and best["strand"] == "+"
    assert best["start"] <= 1050 and best["end"] >= 1060 and "TGACTCATGG" in best["sequence"]
    assert found[found["track"] == "B"]["p_value"].min() > best["p_value"]
    with pytest.raises(ValueError, match="dimensions position, base, track"):
        sf.tl.motifs_in_attribution(attribution.sum("base"), motifs)
    with pytest.raises(ValueError, match="has 120 positions, a stretch 200"):
        sf.tl.motifs_in_attribution(attribution, motifs, width=200)
