"""Scores of enhancers: formulas by hand, and the published CRISPRi table."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score

import scatacformer as sf


def test_the_power_law_is_flat_below_five_kilobases():
    near, at, far = sf.metrics.powerlaw_contact([1_000, 5_000, 50_000])
    assert near == at
    assert at == pytest.approx(np.exp(5.9594510043736655 - 1.024238616787792 * np.log(5_001)))
    assert far / at == pytest.approx((50_001 / 5_001) ** -1.024238616787792)
    reference = sf.metrics.powerlaw_contact(-20_000, gamma=0.87)
    assert reference == pytest.approx(np.exp(-4.80 + 11.63 * 0.87 - 0.87 * np.log(20_001)))


def test_scores_equal_their_formulas_and_sum_to_one():
    j, a, h = np.array([2.0, 1.0, 1.0]), np.array([0.5, 1.0, 0.0]), np.array([0.1, 0.4, 0.5])
    found = sf.metrics.enhancer_scores(j, a, h)
    by_hand = {
        "jacobian": [0.5, 0.25, 0.25],
        "jacobian_accessibility": [0.5, 0.5, 0],
        "accessibility_contact": np.array([0.05, 0.4, 0]) / 0.45,
        "jacobian_contact": np.array([0.2, 0.4, 0.5]) / 1.1,
        "jacobian_accessibility_contact": np.array([1.05, 1.4, 0]) / 2.45,
    }
    for name, expected in by_hand.items():
        np.testing.assert_allclose(found[name], expected)
    assert all(value.sum() == pytest.approx(1) for value in found.values())
    assert "contact" not in sf.metrics.enhancer_scores(j, a)
    assert sf.metrics.enhancer_scores(j, np.zeros(3))["accessibility"].tolist() == [0, 0, 0]
    with pytest.raises(ValueError, match=r"accessibility has shape \(2,\)"):
        sf.metrics.enhancer_scores(j, a[:2])
    with pytest.raises(ValueError, match="jacobian holds negative"):
        sf.metrics.enhancer_scores(-j, a)


def test_auprc_and_its_interval():
    rng = np.random.default_rng(0)
    positive = rng.random(400) < 0.2
    score = positive + rng.normal(size=400)
    found = sf.metrics.auprc(score, positive, n_resamples=200)
    assert found["auprc"] == pytest.approx(average_precision_score(positive, score))
    assert found["low"] < found["auprc"] < found["high"]
    assert found["base_rate"] == positive.mean()
    chance = sf.metrics.auprc(rng.normal(size=400), positive, n_resamples=200)
    assert chance["high"] < found["low"]
    assert sf.metrics.auprc(score, positive, n_resamples=200) == found
    with pytest.raises(ValueError, match="expected some positive and some negative"):
        sf.metrics.auprc(score, np.zeros(400))
    with pytest.raises(ValueError, match="1 of 400 scores are NaN"):
        sf.metrics.auprc(np.r_[np.nan, score[1:]], positive)


def test_a_benchmark_needs_its_columns():
    pairs = pd.DataFrame({"Regulated": ["TRUE", "FALSE", "maybe"], "distanceToTSS": [1, 2, 3]})
    with pytest.raises(ValueError, match="column 'Regulated' holds 'maybe'"):
        sf.metrics.crispri_benchmark(pairs, {})
    with pytest.raises(KeyError, match="pairs has no column 'distance'"):
        sf.metrics.crispri_benchmark(pairs, {}, distance="distance")


def test_accessibility_times_contact_beats_distance_on_k562(data_dir):
    path = data_dir / "sequence" / "crispr" / "EPCrisprBenchmark_combined_data.training_K562.GRCh38.tsv.gz"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    pairs = pd.read_csv(path, sep="\t")
    accessibility = np.log10(pairs["DHS.RPM"] + 1)  # as pseudobulks have it
    product = accessibility * sf.metrics.powerlaw_contact(pairs["distanceToTSS"])
    scores = {"accessibility": accessibility, "accessibility_contact": product}
    found = sf.metrics.crispri_benchmark(pairs, scores, n_resamples=100).set_index(["score", "distance"])
    every = found.xs("all", level="distance")["auprc"]
    assert every["accessibility_contact"] >= 0.50
    assert every["1 / distance"] == pytest.approx(0.438, abs=0.001)
    assert every["accessibility"] == pytest.approx(0.099, abs=0.001)
    assert found.loc[("1 / distance", "all"), "n"] == 10_356
    near = found.loc[("accessibility_contact", "0-10000")]
    assert near["low"] < near["auprc"] < near["high"]
