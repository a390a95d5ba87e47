"""Epiformer's class: hold-outs, training, prediction, files. What it learns is in ``test_planted_motifs.py``."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from anndata import AnnData

import scatacformer as sf
from scatacformer.model.epiformer._setup import prepare
from scatacformer.model.epiformer._train import split_windows
from scatacformer.nn import EpiformerConfig, EpiformerNetwork
from scatacformer.sequence import Motifs

from .conftest import GEOMETRY, SIZES, make_tracks


def test_training_holds_chromosomes_out(model: sf.Epiformer, tracks: AnnData) -> None:
    assert model.is_trained_
    assert model.training_["chromosomes"] == {"train": ["chr1", "chr2"], "validation": ["chr3"], "holdout": ["chr4"]}
    assert set(model.history_) == {"train_loss", "validation_loss", "validation_pearson"}
    assert len(model.history_["train_loss"]) == 3
    losses = model.history_["validation_loss"]["validation_loss"]
    assert losses.iloc[-1] < losses.iloc[0]
    prepared = prepare(tracks)
    parts = split_windows(prepared, ["chr4"], None)
    chroms = prepared.data.chrom.astype(str)
    assert set(chroms[parts.test]) == {"chr4"} and len(set(chroms[parts.validation])) == 1
    assert not set(chroms[parts.train]) & (set(chroms[parts.validation]) | {"chr4"})
    assert sorted([*parts.train, *parts.validation, *parts.test]) == list(range(len(chroms)))
    # in units of the mean over what was trained on, and nothing else
    values = np.concatenate(
        [prepared.data.target(i).ravel() for i in np.flatnonzero(np.isin(chroms, ["chr1", "chr2"]))]
    )
    assert np.isclose(model.scale_.mean(), values.mean(), rtol=1e-3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"loss": "mse"}, "loss is 'mse'; expected one of 'poisson', 'log'"),
        ({"holdout_chromosomes": "chr9"}, "none of the windows is of such a chromosome"),
        ({"holdout_chromosomes": ["chr1", "chr2", "chr3", "chr4"]}, "Nothing is left to train on"),
        ({"holdout_chromosomes": ["chr1", "chr2", "chr3"]}, "are all on chr4"),
        ({"tune": "tail"}, "tune is 'tail'; expected"),
        ({"tune": "head", "lora": 8}, "lora is given with tune='head'"),
        ({"warmup_steps": -1}, "warmup_steps is -1"),
        ({"lr": 0.0}, "lr is .*; expected above 0"),
        ({"max_shift": 1000}, "max_shift is .*; expected 0 ... 128"),
    ],
)
def test_trainings_that_cannot_be_are_refused_before_they_start(tracks: AnnData, arguments: dict, message: str) -> None:
    model = sf.Epiformer(tracks, **SIZES)
    before = {name: value.clone() for name, value in model.module.state_dict().items()}
    with pytest.raises(ValueError, match=message):
        model.train(1, **arguments)
    assert all(torch.equal(before[name], value) for name, value in model.module.state_dict().items())
    with pytest.raises(ValueError, match="not trained"):
        model.get_predicted_tracks()


def test_predictions_are_the_same_twice_in_any_batch_and_leave_the_mode(model: sf.Epiformer, tracks: AnnData) -> None:
    model.module.train()
    first, again = model.get_predicted_tracks(batch_size=5), model.get_predicted_tracks(batch_size=5)
    assert model.module.training
    np.testing.assert_array_equal(first, again)
    np.testing.assert_allclose(first, model.get_predicted_tracks(batch_size=1), rtol=1e-4, atol=1e-5)
    model.module.eval()
    inside = np.zeros(tracks.n_vars, dtype=bool)
    for start in tracks.uns["sequence_windows"]["windows"]["first"]:
        inside[start + 4 : start + 28] = True
    assert np.isnan(first[:, ~inside]).all() and np.isfinite(first[:, inside]).all()
    # a tenth of the published predictions were ln 2: dropout of the logit, never switched off
    assert (np.abs(first[:, inside] / model.scale_[:, None] - np.log(2)) < 1e-6).mean() < 0.001
    assert len(np.unique(first[0, inside])) > 0.9 * inside.sum()
    np.testing.assert_array_equal(model.get_predicted_tracks(groups="B", batch_size=5)[0], first[1])
    with pytest.raises(KeyError, match="no track 'C'; the tracks are A, B"):
        model.get_predicted_tracks(groups="C")


def test_views_are_averaged(model: sf.Epiformer) -> None:
    both = model.get_predicted_tracks()
    forward = model.get_predicted_tracks(reverse_complement=False)
    moved = model.get_predicted_tracks(reverse_complement=False, shifts=[-2, 0, 2])
    inside = np.isfinite(forward)
    assert 1e-4 < np.abs(both - forward)[inside].max() and 1e-4 < np.abs(moved - forward)[inside].max()
    assert np.corrcoef(both[inside], forward[inside])[0, 1] > 0.7
    with pytest.raises(ValueError, match="shifts must hold"):
        model.get_predicted_tracks(shifts=[])


def test_a_region_is_predicted_as_its_window_is(model: sf.Epiformer, tracks: AnnData) -> None:
    window = tracks.uns["sequence_windows"]["windows"].iloc[3]
    start, end = window["start"] + 4 * 32, window["end"] - 4 * 32
    found = model.predict_region(f"{window['chrom']}:{start}-{end}")
    expected = model.get_predicted_tracks()[:, window["first"] + 4 : window["first"] + 28]
    np.testing.assert_allclose(found.values, expected, rtol=1e-4, atol=1e-5)
    assert found["start"].values.tolist() == list(range(start, end, 32)) and found.attrs["chrom"] == window["chrom"]
    small = model.predict_region(f"{window['chrom']}:{start + 40}-{start + 41}", "B")
    assert small.shape == (1, 1) and small["start"].item() == start + 32
    edge = model.predict_region("chr1:0-10")  # most of its window lies before the chromosome
    assert np.isfinite(edge.values).all()
    long = model.predict_region("chr1:0-8,704")
    assert long.shape == (2, 272) and np.isfinite(long.values).all()
    for wrong, message in (("chr1", "is written"), ("chrX:1-2", "does not have"), ("chr1:0-99999", "within chr1")):
        with pytest.raises(ValueError, match=message):
            model.predict_region(wrong)


def test_bigwig_files_hold_what_is_predicted(model: sf.Epiformer, tmp_path: Path) -> None:
    pytest.importorskip("pybigtools")
    from scatacformer.genome import BigWig

    paths = model.to_bigwig(tmp_path / "out", chromosomes=["chr2", "chr3"])
    assert [path.name for path in paths] == ["A.bw", "B.bw"] and len(list((tmp_path / "out").iterdir())) == 2
    for row, path in enumerate(paths):
        file = BigWig(path)
        for chrom in ("chr2", "chr3"):
            size = file.sizes[chrom]
            expected = np.repeat(model.predict_region(f"{chrom}:0-{size}").values[row], 32)[:size]
            np.testing.assert_allclose(file.values(chrom, 0, size), expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="no chromosome 'chrX'"):
        model.to_bigwig(tmp_path, chromosomes="chrX")


def test_saved_and_loaded_models_predict_the_same(model: sf.Epiformer, tracks: AnnData, tmp_path: Path) -> None:
    expected = model.get_predicted_tracks()
    model.save(tmp_path / "m")
    loaded = sf.Epiformer.load(tmp_path / "m", adata=tracks)
    np.testing.assert_array_equal(loaded.get_predicted_tracks(), expected)
    assert loaded.training_ == model.training_ and loaded.track_names == ["A", "B"]
    bare = sf.Epiformer.load(tmp_path / "m", adata=False)
    with pytest.raises(ValueError, match="Call set_genome"):
        bare.predict_region("chr1:0-32")
    bare.set_genome(tracks.uns["sequence_windows"]["fasta"])
    np.testing.assert_array_equal(bare.predict_region("chr1:0-640").values, model.predict_region("chr1:0-640").values)
    with pytest.raises(ValueError, match="select and order the same tracks"):
        other = tracks[::-1].copy()
        sf.Epiformer.load(tmp_path / "m", adata=other)
    folder = model.save_pretrained(tmp_path / "shared", description="a test", license="cc0-1.0")
    card = (folder / "README.md").read_text()
    assert "chr4" in card and str(tracks.uns["sequence_windows"]["fasta"]) not in card
    assert "fasta" not in (folder / "config.json").read_text()
    shared = sf.Epiformer.from_pretrained(folder, adata=tracks)
    np.testing.assert_array_equal(shared.get_predicted_tracks(), expected)


def test_tracks_of_their_own_network_do_not_see_each_other(tracks: AnnData, tmp_path: Path) -> None:
    model = sf.Epiformer(tracks, separate=True, **SIZES)
    model.train(1, validation_chromosomes="chr3", enable_progress_bar=False)
    x = torch.randn(1, 4, 1024, requires_grad=True)
    model.module(x)[0, 0].sum().backward()
    first, second = (network.ptw.linear[0].weight.grad for network in model.module.networks)
    assert first.abs().sum() > 0 and (second is None or not second.any())
    model.save(tmp_path / "m")
    loaded = sf.Epiformer.load(tmp_path / "m", adata=tracks)
    np.testing.assert_array_equal(loaded.get_predicted_tracks(), model.get_predicted_tracks())


@pytest.mark.parametrize("trained", [{"tune": "head"}, {"lora": 2}, {"tune": "all"}])
def test_fine_tuning_changes_what_it_says(model: sf.Epiformer, tracks: AnnData, trained: dict) -> None:
    other = tracks[["B"]].copy()
    tuned = sf.Epiformer.for_fine_tuning(other, model)
    before = {name: value.clone() for name, value in tuned.module.state_dict().items()}
    for name, value in model.module.state_dict().items():
        assert torch.equal(value, before[name]) or name.startswith("ptw.linear")
    tuned.train(1, validation_chromosomes="chr3", **trained, enable_progress_bar=False)
    after = tuned.module.state_dict()
    assert set(after) == set(before)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    trunk = {name for name in changed if name.startswith("conv.")}
    attention = {name for name in changed if ".query.weight" in name}
    assert any(name.startswith("ptw.") for name in changed)
    assert bool(trunk) == (trained == {"tune": "all"}) and bool(attention) == (trained != {"tune": "head"})
    if "lora" in trained:
        change = after["trans.layers.0.mha.query.weight"] - before["trans.layers.0.mha.query.weight"]
        assert int(torch.linalg.matrix_rank(change, atol=1e-6)) == 2
        assert all(".weight" in name for name in changed if name.startswith("trans."))
    assert all(parameter.requires_grad for parameter in tuned.module.parameters())


def test_a_published_checkpoint_is_read_as_it_is(data_dir: Path, tmp_path: Path) -> None:
    path = data_dir.parent / "reference" / "golden" / "epiformer_tiny.npz"
    if not path.exists():
        pytest.skip("no golden values")
    golden = dict(np.load(path))
    state = {f"module.{name[6:]}": torch.tensor(value) for name, value in golden.items() if name.startswith("model/")}
    torch.save({"state_dict": state, "optimizer": {"lr": 1.0}}, tmp_path / "best.pth.tar")
    rng = np.random.default_rng(0)
    (tmp_path / "g.fa").write_text(">chr1\n" + "".join(rng.choice(list("ACGT"), 9000)) + "\n")
    model = sf.Epiformer.load_published(tmp_path / "best.pth.tar", ["x", "y", "z"], fasta=tmp_path / "g.fa", crop=4)
    x = torch.tensor(
        np.eye(4, dtype=np.float32)[golden["sequence"]].transpose(0, 2, 1) * np.exp(golden["conservation"])[:, None]
    )
    with torch.no_grad():
        np.testing.assert_allclose(model.module(x), golden["signal"], atol=1e-4)
    assert model.predict_region("chr1:4000-4500").shape == (3, 5)
    assert model.config_ == EpiformerConfig(3, 4096, 128, 4, 16, 32, 2, 4, 64)
    torch.save({"state_dict": state, "code": EpiformerNetwork}, tmp_path / "code.pth.tar")
    with pytest.raises(ValueError, match="code.pth.tar cannot be read as tensors alone"):
        sf.Epiformer.load_published(tmp_path / "code.pth.tar")
    torch.save({"state_dict": {"a": torch.zeros(1)}}, tmp_path / "other.pth.tar")
    with pytest.raises(ValueError, match="other.pth.tar is not a checkpoint of Epiformer, or is damaged: it has no"):
        sf.Epiformer.load_published(tmp_path / "other.pth.tar")


def test_data_that_do_not_fit_are_refused(tracks: AnnData, model: sf.Epiformer, genome: tuple) -> None:
    with pytest.raises(ValueError, match="columns were selected"):
        sf.Epiformer.setup_anndata(tracks[:, 5:].copy())
    with pytest.raises(ValueError, match="sf.pp.sequence_windows makes"):
        sf.Epiformer.setup_anndata(AnnData(np.ones((2, 3))))
    bare = tracks.copy()
    del bare.uns["scatacformer_epiformer"]
    with pytest.raises(ValueError, match="set up your AnnData with Epiformer.setup_anndata"):
        sf.Epiformer(bare)
    with pytest.raises(FileNotFoundError, match="the FASTA file .* does not exist"):
        sf.Epiformer.setup_anndata(bare, fasta=Path("nowhere.fa"))
    with pytest.raises(TypeError, match="has no size 'depth'"):
        sf.Epiformer(tracks, depth=3)
    other = make_tracks(genome[0], genome[2], crop=6)
    sf.Epiformer.setup_anndata(other)
    with pytest.raises(ValueError, match="the model reads"):
        model.get_predicted_tracks(other)
    assert GEOMETRY["crop"] == 4
    zero = tracks.copy()
    zero.X[0] = 0
    with pytest.raises(ValueError, match="track 'A' is zero in all"):
        sf.Epiformer.setup_anndata(zero)


def test_missing_values_are_left_out_of_the_loss(tracks: AnnData) -> None:
    holes = tracks.copy()
    holes.X[0, ::3] = np.nan
    model = sf.Epiformer(holes, **SIZES)
    model.train(1, validation_chromosomes="chr3", enable_progress_bar=False)
    assert np.isfinite(model.history_["train_loss"].to_numpy()).all()
    assert np.isfinite(model.get_predicted_tracks()).sum() == np.isfinite(model.get_predicted_tracks(tracks)).sum()


def test_the_loss_of_logarithms_is_that_of_a_calculation_by_hand(tracks: AnnData) -> None:
    model = sf.Epiformer(tracks, **SIZES)
    model.train(2, validation_chromosomes="chr3", loss="log", enable_progress_bar=False)
    assert model.training_["loss"] == "log"
    predicted = model.get_predicted_tracks(reverse_complement=False, progress=False)  # as in validation
    # the weights that are kept are those of the epoch with the lowest loss on the validation chromosome
    held = (tracks.var["chrom"] == "chr3").to_numpy() & np.isfinite(predicted[0])
    logs = [np.log2(values[:, held] / model.scale_[:, None] + 1) for values in (predicted, tracks.X)]
    expected = np.square(logs[0] - logs[1]).mean()
    assert model.history_["validation_loss"]["validation_loss"].min() == pytest.approx(expected, rel=1e-3)


def test_the_same_tracks_keep_their_head_in_other_windows(model: sf.Epiformer, genome: tuple) -> None:
    longer = make_tracks(genome[0], genome[2], seq_len=1536)
    sf.Epiformer.setup_anndata(longer)
    tuned = sf.Epiformer.for_fine_tuning(longer, model)
    assert tuned.config_.n_outputs == 40 and torch.equal(
        tuned.module.state_dict()["ptw.linear.0.weight"], model.module.state_dict()["ptw.linear.0.weight"]
    )
    short, long = (m.predict_region("chr4:2048-2560", progress=False).values for m in (model, tuned))
    assert np.corrcoef(short.ravel(), long.ravel())[0, 1] > 0.9  # it predicts before it is trained further
    before = tuned.scale_.copy()
    tuned.train(1, holdout_chromosomes="chr4", validation_chromosomes="chr3", lr=1e-4, enable_progress_bar=False)
    np.testing.assert_array_equal(tuned.scale_, before)


def test_first_filters_start_from_motifs_on_both_strands(tracks: AnnData) -> None:
    wide = np.full((4, 20), 0.1)  # says nothing but in its last ten positions
    wide[:, :10] = np.array([0.26, 0.26, 0.24, 0.24])[:, None]
    wide[np.arange(10) % 4, np.arange(10, 20)] = 0.7
    narrow = np.full((4, 6), 0.05)
    narrow[[0, 0, 1, 2, 3, 3], np.arange(6)] = 0.85  # AACGTT
    motifs = Motifs(names=("wide", "narrow"), matrices=(wide, narrow), n_sites=[100, 100])
    model, sampled = (sf.Epiformer(tracks, motifs=m, **SIZES) for m in (motifs, None))
    weight, other = (m.module.conv.stem[0].weight.detach() for m in (model, sampled))
    assert torch.equal(weight[4:], other[4:])
    for number, matrix in enumerate((wide[:, 5:], narrow)):
        one, reverse = weight[2 * number], weight[2 * number + 1]
        assert torch.equal(reverse, one.flip(0, 1))
        inside = one[:, one.abs().sum(0) > 0.3]
        np.testing.assert_array_equal(inside.argmax(0), matrix[:, matrix.max(0) > 0.3].argmax(0))
        assert float(one.square().sum()) == pytest.approx(2, rel=1e-4)
    with pytest.raises(ValueError, match="needs two of the 16 first filters .d_stem.*at most 8"):
        many = Motifs(names=tuple("abcdefghi"), matrices=(narrow,) * 9, n_sites=[100] * 9)
        sf.Epiformer(tracks, motifs=many, **SIZES)


def test_tracks_changed_in_place_are_refused(genome: tuple, tmp_path: Path) -> None:
    tracks = make_tracks(genome[0], genome[2])
    sf.Epiformer.setup_anndata(tracks)
    model = sf.Epiformer(tracks, **SIZES)
    model.is_trained_ = True
    tracks._inplace_subset_obs([1, 0])
    with pytest.raises(ValueError, match="changed in place"):
        model.get_predicted_tracks(progress=False)
    with pytest.raises(ValueError, match="changed in place"):
        model.train(1)
    assert len(model.get_predicted_tracks(tracks, progress=False)) == 2
    tracks._inplace_subset_obs([1, 0])
    order = np.arange(tracks.n_vars)
    order[[3, 7]] = order[[7, 3]]  # within a window
    tracks._inplace_subset_var(order)
    with pytest.raises(ValueError, match="selected or reordered"):
        model.get_predicted_tracks(progress=False)


@pytest.mark.parametrize(
    ("key", "value"), [("n_layers", 10**6), ("bin_size", -1), ("n_tracks", 0.5), ("d_model", 2**40)]
)
def test_sizes_that_are_not_of_the_weights_are_refused_by_name(model: sf.Epiformer, tmp_path: Path, key, value) -> None:
    model.save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["network"][key] = value
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=str(tmp_path)):
        sf.Epiformer.load(tmp_path, adata=False)


def test_another_scale_in_the_configuration_is_refused(model: sf.Epiformer, tmp_path: Path) -> None:
    """No tensor contradicts it: without a checksum every prediction would be another."""
    model.save(tmp_path)
    text = (tmp_path / "config.json").read_text()
    digit = next(i for i in range(text.index('"scale"'), len(text)) if text[i].isdigit())
    (tmp_path / "config.json").write_text(text[:digit] + str((int(text[digit]) + 1) % 10) + text[digit + 1 :])
    with pytest.raises(ValueError, match=str(tmp_path)):
        sf.Epiformer.load(tmp_path, adata=False)
