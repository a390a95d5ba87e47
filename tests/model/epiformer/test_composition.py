"""A model with a composition: what it learns of known motifs in a few passes, files, fine-tuning, refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from anndata import AnnData

import scatacformer as sf
from scatacformer.model.epiformer._setup import prepare
from scatacformer.model.epiformer._train import EpiformerOptions, EpiformerTrainingPlan, begin_composition
from scatacformer.sequence import Motifs
from scatacformer.tracks import WindowLoader

from .conftest import MOTIFS, SIZES, make_genome, make_tracks

SMALL = SIZES | {"d_composition": 32, "n_perceptrons": 2}


def planted() -> Motifs:
    matrices = tuple(0.94 * np.eye(4)[["ACGT".index(x) for x in word]].T + 0.015 for word in MOTIFS.values())
    return Motifs(tuple(MOTIFS), matrices, np.full(2, 100.0))


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory) -> sf.Epiformer:
    fasta, _, signal = make_genome(tmp_path_factory.mktemp("counted"), n_windows=30)
    tracks = make_tracks(fasta, signal)
    sf.Epiformer.setup_anndata(tracks)
    model = sf.Epiformer(tracks, composition=planted(), seed=1, **SMALL)
    model.train(
        5, holdout_chromosomes="chr4", validation_chromosomes="chr3", batch_size=1, lr=2e-3, enable_progress_bar=False
    )
    return model


def test_known_motifs_are_used_at_once_and_the_strand_does_not_matter(counted: sf.Epiformer) -> None:
    tracks = counted.adata
    predicted = counted.get_predicted_tracks(progress=False)
    held = (tracks.var["chrom"] == "chr4").to_numpy() & np.isfinite(predicted[0])
    logs = [np.log2(values[:, held] + 1) for values in (predicted, tracks.X)]
    for row in range(2):  # a hit says whether a bin is near a site, and less well where in the bin
        assert np.corrcoef(logs[0][row], logs[1][row])[0, 1] >= 0.4
    assert np.corrcoef(logs[0][0], logs[1][1])[0, 1] < 0
    alone = counted.get_predicted_tracks(reverse_complement=False, progress=False)[:, held]
    assert np.corrcoef(alone.ravel(), predicted[:, held].ravel())[0, 1] > 0.99  # of one strand
    assert counted.training_["loss"] == "log" and counted.training_["tune"] == "composition"
    assert (counted.scale_ == 1).all()  # in the units of the data


def test_convolutions_that_have_learned_nothing_are_not_computed(
    counted: sf.Epiformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, x = counted.module, torch.zeros(1, 4, 1024)
    assert not module.ptw.linear[0].weight.any()
    with torch.no_grad():
        expected = module(x)
        monkeypatch.setattr(module.conv, "forward", lambda *_: pytest.fail("the convolutions were computed"))
        torch.testing.assert_close(module(x), expected)
        monkeypatch.undo()
        module.train()
    module.logs(x).sum().backward()  # where they are to learn they are
    module.eval()
    assert float(module.ptw.linear[0].weight.grad.abs().sum()) > 0
    module.zero_grad()


def test_saving_and_loading_changes_nothing(counted: sf.Epiformer, tmp_path: Path) -> None:
    counted.save(tmp_path / "model")
    again = sf.Epiformer.load(tmp_path / "model", adata=counted.adata)
    assert again.config_ == counted.config_ and again.config_.n_motifs == 2
    np.testing.assert_array_equal(
        again.get_predicted_tracks(progress=False), counted.get_predicted_tracks(progress=False)
    )


def test_other_tracks_keep_all_but_the_last_layers(counted: sf.Epiformer) -> None:
    other = counted.adata[["B"]].copy()
    sf.Epiformer.setup_anndata(other)
    new = sf.Epiformer.for_fine_tuning(other, counted)
    old, fresh = ({n: t.clone() for n, t in m.module.state_dict().items()} for m in (counted, new))
    kept = [name for name in fresh if not name.startswith(("ptw.linear.", "composition.last."))]
    assert all(torch.equal(old[name], fresh[name]) for name in kept)
    assert fresh["composition.last.weight"].shape[-1] == 1
    new.train(1, tune="head", validation_chromosomes="chr3", enable_progress_bar=False)
    after = new.module.state_dict()
    assert torch.equal(after["composition.mean"], old["composition.mean"])  # as it was standardised before
    assert torch.equal(after["conv.stem.0.weight"], old["conv.stem.0.weight"])
    assert not torch.equal(after["composition.last.weight"], fresh["composition.last.weight"])


def test_counts_are_kept_between_passes_where_windows_do_not_move(
    tracks: AnnData, monkeypatch: pytest.MonkeyPatch
) -> None:
    from scatacformer.model.epiformer import _train

    model = sf.Epiformer(tracks, composition="kmers", seed=1, **SMALL)
    prepared = prepare(tracks)
    begin_composition(model.module, prepared, np.arange(10))
    assert (model.module.composition.mean > 0).any()  # standardised

    def options(max_shift: int) -> EpiformerOptions:
        return EpiformerOptions(1, 4, 1e-3, 0.0, 0.1, None, True, max_shift, "all", 8, 0, 0, "log")

    loader = WindowLoader(prepared.data, np.arange(10), 4, shuffle=True, reverse_complement=True)
    plan = EpiformerTrainingPlan(model.module, model.scale_, options(0), prepared)
    for _ in range(2):
        for batch in loader:
            torch.testing.assert_close(plan._counts(batch), model.module.composition.count(batch["sequence"]))
    assert sorted(plan._counted) == list(range(10))
    monkeypatch.setattr(_train, "_COUNTS_KEPT", 0)
    plan = EpiformerTrainingPlan(model.module, model.scale_, options(0), prepared)
    assert plan._counts(batch) is not None and not plan._counted  # no room
    assert EpiformerTrainingPlan(model.module, model.scale_, options(3), prepared)._counts(batch) is None


@pytest.mark.parametrize("keep", ["best", "last"])
def test_the_best_or_the_last_weights_are_kept(tracks: AnnData, keep: str) -> None:
    model = sf.Epiformer(tracks, composition="kmers", seed=1, **SMALL)
    model.train(4, keep=keep, lr=0.1, validation_chromosomes="chr3", enable_progress_bar=False)
    losses = model.history_["validation_loss"]["validation_loss"].to_numpy()
    assert losses[-1] > 1.001 * losses.min()  # they differ
    predicted = model.get_predicted_tracks(reverse_complement=False, progress=False)
    held = (tracks.var["chrom"] == "chr3").to_numpy() & np.isfinite(predicted[0])
    found = np.square(np.log2(predicted[:, held] + 1) - np.log2(tracks.X[:, held] + 1)).mean()
    assert found == pytest.approx(losses.min() if keep == "best" else losses[-1], rel=1e-4)


def test_what_cannot_be_is_refused(tracks: AnnData) -> None:
    with pytest.raises(ValueError, match="composition is 'motifs'; expected motifs .* or 'kmers'"):
        sf.Epiformer(tracks, composition="motifs", **SIZES)
    with pytest.raises(ValueError, match="tune is 'composition', which the model does not have"):
        sf.Epiformer(tracks, **SIZES).train(1, tune="composition")
    model = sf.Epiformer(tracks, composition="kmers", **SMALL)
    with pytest.raises(ValueError, match=r"loss is 'poisson'; a model with a composition predicts log2"):
        model.train(1, loss="poisson")


def test_a_motif_too_short_for_a_hit_is_said_and_counts_nothing(tracks: AnnData, tmp_path: Path) -> None:
    some = planted()
    motifs = Motifs((*some.names, "AT"), (*some.matrices, some.matrices[0][:, :2]), np.full(3, 100.0))
    with pytest.warns(UserWarning, match="1 of 3 motifs are too short or too uncertain for a hit .first: AT."):
        model = sf.Epiformer(tracks, composition=motifs, **SIZES)
    counts = model.module.composition.count(torch.from_numpy(prepare(tracks).data.sequence(0)[None]))
    assert counts.isfinite().all()
    model.save(tmp_path / "m")
    again = sf.Epiformer.load(tmp_path / "m", adata=False)  # infinite weights are refused
    assert again.module.composition.threshold.equal(model.module.composition.threshold)


def test_a_linear_part_is_solved_before_training_and_saved(
    counted: sf.Epiformer, tracks: AnnData, tmp_path: Path
) -> None:
    model = sf.Epiformer(tracks, composition=planted(), linear=True, seed=1, **SMALL)
    model.train(1, holdout_chromosomes="chr4", validation_chromosomes="chr3", batch_size=1, enable_progress_bar=False)
    weight = model.module.composition.line_weight
    assert weight.abs().max() > 0 and not weight.requires_grad
    predicted = model.get_predicted_tracks(progress=False)
    held = (tracks.var["chrom"] == "chr4").to_numpy() & np.isfinite(predicted[0])
    assert np.corrcoef(np.log2(predicted[0, held] + 1), np.log2(tracks.X[0, held] + 1))[0, 1] > 0.2
    model.save(tmp_path / "model")
    again = sf.Epiformer.load(tmp_path / "model", adata=tracks)
    assert again.config_.linear and torch.equal(again.module.composition.line_weight, weight)
    np.testing.assert_array_equal(again.get_predicted_tracks(progress=False), predicted)
