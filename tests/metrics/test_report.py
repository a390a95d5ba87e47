from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from scatacformer import metrics

OF_PAIRS = ["foscttm", "alignment", "uniformity_rna", "uniformity_atac", "seurat_alignment_score"]
OF_LABELS = ["foscttm_within_labels", "mean_average_precision", "cell_type_asw", "batch_asw", "graph_connectivity"]


@pytest.fixture(scope="module")
def paired():
    """RNA, ATAC and label of 150 cells of three types: a shared space, with noise of each modality."""
    rng = np.random.default_rng(0)
    label = np.repeat(["a", "b", "c"], 50)
    state = 2 * np.repeat(np.eye(3, 6), 50, axis=0) + 0.3 * rng.normal(size=(150, 6))
    return (*(state + 0.2 * rng.normal(size=state.shape) for _ in range(2)), label)


def test_each_value_is_that_of_its_function(paired):
    rna, atac, label = paired
    report = metrics.paired_report(rna, atac, label, rna_before=rna[:, :4], atac_before=atac[:, :4])
    unit_rna, unit_atac = (one / np.linalg.norm(one, axis=1, keepdims=True) for one in (rna, atac))
    both, twice, modality = np.concatenate([unit_rna, unit_atac]), np.tile(label, 2), np.repeat(["rna", "atac"], 150)
    kept = [metrics.neighbor_conservation(*pair, 3) for pair in ((rna[:, :4], unit_rna), (atac[:, :4], unit_atac))]
    expected = {
        "foscttm": metrics.foscttm(unit_rna, unit_atac),
        "foscttm_within_labels": metrics.foscttm(unit_rna, unit_atac, within=label),
        "alignment": metrics.alignment(rna, atac),
        "uniformity_rna": metrics.uniformity(rna),
        "uniformity_atac": metrics.uniformity(atac),
        "seurat_alignment_score": metrics.seurat_alignment_score(both, modality, 3),  # 1 % of 300 rows
        "mean_average_precision": metrics.mean_average_precision(both, twice, 3),
        "cell_type_asw": metrics.cell_type_asw(both, twice),
        "batch_asw": metrics.batch_asw(both, twice, modality),
        "graph_connectivity": metrics.graph_connectivity(both, twice, directed=False),
        "neighbor_conservation": np.mean(kept),
    }
    pd.testing.assert_series_equal(report[list(expected)], pd.Series(expected, name="paired_report"), rtol=1e-9)
    assert set(report.index) == {*OF_PAIRS, *OF_LABELS, "neighbor_conservation"}


def test_what_is_not_given_is_left_out(paired):
    rna, atac, label = paired
    assert list(metrics.paired_report(rna, atac).index) == OF_PAIRS
    assert set(metrics.paired_report(rna, atac, label).index) == {*OF_PAIRS, *OF_LABELS}


def test_shuffled_pairs_are_told_though_the_modalities_are_as_mixed(paired):
    rna, atac, label = paired
    true = metrics.paired_report(rna, atac, label)
    false = metrics.paired_report(rna, atac[np.random.default_rng(1).permutation(150)])
    assert true["foscttm"] < 0.1 < 0.4 < false["foscttm"]
    assert true["foscttm"] < true["foscttm_within_labels"] < 0.3
    assert true["alignment"] < 0.3 < 0.8 < false["alignment"]
    assert false["seurat_alignment_score"] == pytest.approx(true["seurat_alignment_score"])


def test_lengths_count_only_where_asked(paired):
    rna, atac, label = paired
    longer = rna * np.random.default_rng(2).uniform(0.2, 5, size=(150, 1))
    pd.testing.assert_series_equal(metrics.paired_report(longer, atac, label), metrics.paired_report(rna, atac, label))
    raw = metrics.paired_report(longer, atac, label, normalize=False)
    assert raw["foscttm"] == metrics.foscttm(longer, atac) > 2 * metrics.foscttm(rna, atac)
    assert raw["alignment"] == pytest.approx(metrics.alignment(rna, atac))


def test_a_few_cells_are_enough(paired):
    rna, atac, _ = paired
    report = metrics.paired_report(rna[:3], atac[:3], ["a", "b", "b"])
    assert np.isfinite(report).all()


def test_bad_input_is_refused(paired):
    rna, atac, label = paired
    with pytest.raises(ValueError, match="rna has 150 cells, atac has 149"):
        metrics.paired_report(rna, atac[:149])
    with pytest.raises(ValueError, match="rna has 6 dimensions, atac has 5"):
        metrics.paired_report(rna, atac[:, :5])
    with pytest.raises(ValueError, match="expected both or none"):
        metrics.paired_report(rna, atac, rna_before=rna)
    with pytest.raises(ValueError, match="atac has 150 cells, atac_before has 3"):
        metrics.paired_report(rna, atac, rna_before=rna, atac_before=atac[:3])
    with pytest.raises(ValueError, match="149 labels for 150 cells"):
        metrics.paired_report(rna, atac, label[:149])
    with pytest.raises(ValueError, match="all 150 labels are 'a'"):
        metrics.paired_report(rna, atac, ["a"] * 150)
    with pytest.raises(ValueError, match="k is 300 for 300 cells"):
        metrics.paired_report(rna, atac, k=300)
    with pytest.raises(ValueError, match="150 of 150 cells of atac are all zeros"):
        metrics.paired_report(rna, np.zeros_like(atac))
