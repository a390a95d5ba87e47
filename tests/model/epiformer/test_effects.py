"""Variants, mutagenesis and attributions: equal to what predictions by hand say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import scatacformer as sf
from scatacformer.model.epiformer import _variants as file
from scatacformer.model.epiformer._attribute import RegionInput
from scatacformer.sequence import Variant, allele_codes, one_hot


@pytest.fixture
def variants(genome: tuple[Path, dict[str, str], dict]) -> pd.DataFrame:
    """A substitution, an insertion, a deletion, two alleles at once, and one at each end of a chromosome."""
    s = genome[1]["chr4"]
    other = {"A": "C", "C": "G", "G": "T", "T": "A"}
    rows = [
        ("chr4", 1001, s[1000], other[s[1000]], "snv"),
        ("chr4", 2001, s[2000], s[2000] + "ACGTAC", "insertion"),
        ("chr4", 3001, s[3000:3005], s[3000], "deletion"),
        ("chr4", 4001, s[4000], f"{other[s[4000]]},{other[other[s[4000]]]}", "both"),
        ("chr4", 1, s[0], other[s[0]], "first"),
        ("chr4", len(s), s[-1], other[s[-1]], "last"),
    ]
    return pd.DataFrame(rows, columns=["chrom", "pos", "ref", "alt", "id"])


def test_scores_equal_predictions_by_hand(model: sf.Epiformer, variants: pd.DataFrame) -> None:
    scores = model.predict_variants(variants, window=128, reverse_complement=False, shifts=[0])
    assert len(scores) == 7 * 2 and scores["track"].tolist() == ["A", "B"] * 7
    fasta = model._own_genome().fasta
    predictor = model._predictor(None, None)
    for row in (0, 2, 4):
        said = scores.iloc[row]
        variant = Variant(said["chrom"], said["pos"] - 1, said["ref"], said["alt"], ".")
        signal = [predictor(one_hot(codes)[None])[0, 0, 10:14].sum() for codes in allele_codes(fasta, variant, 1024)]
        np.testing.assert_allclose([said["reference"], said["alternative"]], signal, rtol=1e-4)
        assert np.isclose(said["change"], signal[1] - signal[0], atol=1e-4)
        assert np.isclose(said["log2_fold_change"], np.log2(signal[1] / signal[0]), atol=1e-3)
    assert (scores["spread"] == 0).all() and (scores["change"].abs() > 0).all()
    averaged = model.predict_variants(variants, window=128)
    assert (averaged["spread"] > 0).all()
    assert not np.allclose(averaged["change"], scores["change"])


def test_conservation_stays_with_its_bases(model: sf.Epiformer, genome: tuple, tmp_path: Path) -> None:
    pytest.importorskip("pybigtools")
    from scatacformer.genome import BigWig, write_bigwig

    s = genome[1]["chr4"]
    write_bigwig(tmp_path / "c.bw", {"chr4": len(s)}, [("chr4", i, i + 1, (i % 7) / 7) for i in range(0, len(s), 2)])
    bare = sf.Epiformer.__new__(sf.Epiformer)
    bare.__dict__ = dict(model.__dict__)
    bare.set_genome(genome[0], tmp_path / "c.bw")
    own = bare._own_genome()
    track = BigWig(tmp_path / "c.bw")
    inserted, deleted = (
        Variant("chr4", 1000, s[1000], s[1000] + "AC", "."),
        Variant("chr4", 1000, s[1000:1003], s[1000], "."),
    )
    for variant in (inserted, deleted):
        for allele, encoded in zip(
            (variant.ref, variant.alt), file._alleles(own, variant, 1024, 0, False), strict=True
        ):
            left = (1024 - len(allele)) // 2
            first, stop = 1000 - left, 1000 + len(variant.ref)
            kept = track.values("chr4", 1000, stop)[: len(allele)]
            middle = np.pad(kept, (0, len(allele) - len(kept)))
            rest = track.values("chr4", stop, stop + 1024 - left - len(allele))
            expected = np.exp(np.concatenate([track.values("chr4", first, 1000), middle, rest]))
            np.testing.assert_allclose(encoded.sum(0), expected, rtol=1e-5)
    with_track, without = (m.predict_region("chr4:1000-1200").values for m in (bare, model))
    assert np.abs(with_track - without).max() > 1e-4


def test_a_variant_and_its_reverse_have_opposite_effects(model: sf.Epiformer, genome: tuple, tmp_path: Path) -> None:
    s = genome[1]["chr4"]
    there = pd.DataFrame({"chrom": ["chr4"], "pos": [1001], "ref": [s[1000]], "alt": ["A" if s[1000] != "A" else "C"]})
    changed = s[:1000] + there["alt"][0] + s[1001:]
    (tmp_path / "other.fa").write_text(f">chr4\n{changed}\n")
    forward = model.predict_variants(there)
    model.save(tmp_path / "m")
    other = sf.Epiformer.load(tmp_path / "m", adata=False)
    other.set_genome(tmp_path / "other.fa")
    back = other.predict_variants(there.rename(columns={"ref": "alt", "alt": "ref"}))
    np.testing.assert_allclose(forward["log2_fold_change"], -back["log2_fold_change"], atol=1e-5)


def test_scores_are_written_piece_by_piece_and_resumed(
    model: sf.Epiformer, variants: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file, "_AT_ONCE", 2)
    expected = model.predict_variants(variants)
    out = tmp_path / "scores.tsv"
    calls = []

    def stops(*arguments: object, **named: object) -> file.Effects:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return score(*arguments, **named)

    score = file.score_variants
    monkeypatch.setattr(file, "score_variants", stops)
    with pytest.raises(KeyboardInterrupt):
        model.predict_variants(variants, out=out)
    assert not out.exists()
    partial = tmp_path / "scores.tsv.partial"
    partial.write_text(partial.read_text() + "chr4\t40")  # a line that was cut off
    assert model.predict_variants(variants, out=out, resume=True) == out
    assert len(calls) == 5  # two pieces were there
    found = pd.read_csv(out, sep="\t")
    pd.testing.assert_frame_equal(found, expected, rtol=1e-4, atol=1e-5, check_dtype=False)
    assert not partial.exists()
    calls[:] = [1]
    with pytest.raises(KeyboardInterrupt):
        model.predict_variants(variants, out=out, window=128)
    with pytest.raises(ValueError, match="another model, other variants or other arguments"):
        model.predict_variants(variants, out=out, window=256, resume=True)


def test_variants_that_cannot_be_scored_are_refused(model: sf.Epiformer, variants: pd.DataFrame) -> None:
    wrong = variants.assign(ref=["A" if ref != "A" else "C" for ref in variants["ref"].str[0]])
    with pytest.raises(ValueError, match="reference allele"):
        model.predict_variants(wrong)
    for window in (32, 100, 4096):
        with pytest.raises(ValueError, match="window is .*; expected a multiple of 64 bp"):
            model.predict_variants(variants, window=window)


def test_scores_go_to_a_vcf_file(model: sf.Epiformer, variants: pd.DataFrame, tmp_path: Path) -> None:
    scores = model.predict_variants(variants, "B")
    model.write_vcf(scores, tmp_path / "scores.vcf")
    again = model.predict_variants(tmp_path / "scores.vcf", "B")
    merged = scores.merge(again, on=["chrom", "pos", "ref", "alt"], suffixes=("", "_again"))
    assert len(merged) == len(scores)
    np.testing.assert_allclose(merged["change"], merged["change_again"], atol=1e-5)


def test_mutagenesis_equals_changing_the_genome(model: sf.Epiformer, genome: tuple, tmp_path: Path) -> None:
    found = model.mutagenesis("chr4:1000-1020", batch_size=7)
    assert found.dims == ("position", "base", "track") and found.shape == (20, 4, 2)
    s = genome[1]["chr4"]
    assert found.attrs["reference"] == s[1000:1020]
    before = model.predict_region("chr4:1000-1020").values.sum(1)
    bare = sf.Epiformer.__new__(sf.Epiformer)
    bare.__dict__ = dict(model.__dict__)
    for place, base in ((3, "A"), (10, "G"), (19, "T")):
        if s[1000 + place] == base:
            continue
        (tmp_path / "m.fa").write_text(f">chr4\n{s[: 1000 + place]}{base}{s[1001 + place :]}\n")
        bare.set_genome(tmp_path / "m.fa")
        # the same window: predict_region puts a short region into the middle of its own
        change = bare.mutagenesis("chr4:1000-1020").attrs["signal"] - np.array(found.attrs["signal"])
        np.testing.assert_allclose(found.sel(position=1000 + place, base=base), change, atol=1e-4)
    assert before.shape == (2,)
    here = np.array([["ACGT".index(b)] for b in s[1000:1020]])
    np.testing.assert_array_equal(np.take_along_axis(found.values, here[..., None], 1), 0)
    assert (np.abs(found.values).sum(1) > 0).all()
    assert not np.allclose(found.sel(track="A"), found.sel(track="B"))


def test_integrated_gradients_are_complete_and_gradients_are_slopes(
    model: sf.Epiformer, capsys: pytest.CaptureFixture
) -> None:
    region = "chr4:1000-1064"
    found = model.attribute(region, method="integrated_gradients", n_steps=64, reverse_complement=False)
    assert "shares sum to" in capsys.readouterr().out
    whole, error = (np.array(found.attrs[name]) for name in ("difference", "completeness_error"))
    assert np.abs(whole).min() > 0.01
    np.testing.assert_allclose(error, 0, atol=0.1 * np.abs(whole).max())
    slopes = model.attribute(region, method="gradient")
    ism = model.attribute(region, method="ism")
    for values in (found, slopes, ism):
        absent = np.array(list(found.attrs["reference"]))[:, None] != np.array(list("ACGT"))
        assert not values.values[absent].any() and values.values[~absent].any()
    changes = model.mutagenesis(region)
    place = changes["position"].values[5]
    letter = changes.attrs["reference"][5]
    np.testing.assert_allclose(
        ism.sel(position=place, base=letter), -changes.sel(position=place).mean("base"), rtol=1e-4, atol=1e-5
    )
    with pytest.raises(ValueError, match="method is .*; expected one of"):
        model.attribute(region, method="saliency")
    with pytest.raises(ValueError, match="a window predicts 24"):
        model.attribute("chr4:0-1024")


def test_both_strands_are_averaged_in_changes_and_shares(model: sf.Epiformer) -> None:
    region = "chr4:1000-1064"
    both = model.get_predicted_tracks()  # the default of all of them
    alone = model.get_predicted_tracks(reverse_complement=False)
    assert np.nanmax(np.abs(both - alone)) > 1e-4
    data = model._prepared_of(None).data
    forward, reverse = (data.sequence(3, 0, strand)[None] for strand in (False, True))
    mean = (model._predictor(None, None)(forward) + model._predictor(None, None)(reverse)[..., ::-1]) / 2
    twice = model._predictor(None, None, both_strands=True)
    np.testing.assert_allclose(twice(forward), mean, rtol=1e-5)
    np.testing.assert_allclose(twice(reverse)[..., ::-1], mean, rtol=1e-4)  # whichever strand is asked
    assert model.module.training is False
    changes = model.mutagenesis(region, progress=False)
    step, at, base = 1e-3, 20, "ACGT".index(changes.attrs["reference"][20])
    slopes = model.attribute(region, method="gradient", progress=False)
    place = RegionInput(twice, model._own_genome(), "chr4", 1000, 1064)
    encoded = place.one_hot(place.codes)
    less = encoded.copy()
    less[base, place.inside.start + at] -= step
    sums = twice(np.stack([encoded, less]))[..., place.bins].sum(-1)
    np.testing.assert_allclose(slopes.values[at, base], (sums[0] - sums[1]) / step, rtol=0.05, atol=2e-3)


def test_a_region_at_an_end_is_padded_with_n(model: sf.Epiformer) -> None:
    assert np.isfinite(model.mutagenesis("chr4:0-5")).all()
    size = model._own_genome().fasta.sizes["chr4"]
    assert np.isfinite(model.attribute(f"chr4:{size - 5}-{size}")).all()


def test_alleles_of_a_variant_along_the_dna(model: sf.Epiformer, variants: pd.DataFrame) -> None:
    row = variants.iloc[0]
    found = model.predict_alleles(f"chr4:1,001 {row['ref']}>{row['alt']}", window=256)
    assert found.shape == (2, 2, 8) and found["offset"].values.tolist() == list(range(-112, 113, 32))
    scores = model.predict_variants(variants.iloc[:1], window=256, shifts=[0])
    change = (found.sel(allele="alternative") - found.sel(allele="reference")).sum("bin")
    np.testing.assert_allclose(change, scores["change"], atol=1e-4)
    with pytest.raises(ValueError, match="a variant is written"):
        model.predict_alleles("chr4-5-A-T")


def test_a_module_of_torch_predicts_and_has_gradients(model: sf.Epiformer) -> None:
    module = model.torch_module("B", window=128)
    module.train()
    fasta = model._own_genome().fasta
    x = torch.from_numpy(one_hot(np.stack([fasta.codes("chr4", start, start + 1024) for start in (1024, 2048)])))
    expected = model._predictor("B", None)(x.numpy())[:, :, 10:14].sum(-1)
    x.requires_grad_(True)
    found = module(x)
    assert found.shape == (2, 1)
    np.testing.assert_allclose(found.detach(), expected, rtol=1e-4)
    (slope,) = torch.autograd.grad(found.sum(), x)
    region = model.attribute(
        "chr4:1472-1600", "B", reverse_complement=False, progress=False
    )  # the middle four bins of the first sequence
    own = (slope * x)[0, :, 448:576].T.detach().numpy()
    np.testing.assert_allclose(own, region.values[..., 0], rtol=1e-3, atol=1e-5)
    assert model.module.training is False
    with pytest.raises(ValueError, match=r"have the shape \(2, 1024, 4\); expected \(n, 4, 1024\)"):
        module(x.transpose(1, 2))
    with pytest.raises(ValueError, match="window is 100; expected a multiple of 64 bp"):
        model.torch_module(window=100)
