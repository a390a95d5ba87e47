"""GET's pretraining on tiles of hg38, and how well a line fills in masked regions."""

from __future__ import annotations

from typing import Any

import numpy as np
from _get_real import PER_WINDOW, QUIET, dna_regions, track_scores
from _real_epiformer import folds

PASSES, PRETRAINING_LR = 12, 1e-3
PRETRAINED: dict[str, Any] = {"n_regions": 16, "stride": 8, "d_model": 64, "n_layers": 2, "drop_path": 0.2}


def dna_to_pretrain(seed: int) -> tuple[Any, list[str]]:
    """A model of motif scores and three DNase tracks (the motifs are those of all), without the chromosomes of fold 1;
    and those that are held out of pretraining, of fold 2."""
    import scatacformer as sf

    regions, _, _ = dna_regions()
    chrom = regions.var["chrom"].to_numpy()
    windows = folds(chrom[::PER_WINDOW])
    test, stop = np.isin(chrom, windows[1]), np.isin(chrom, windows[2])
    sf.GET.setup_anndata(regions, expression_layers=None)
    return sf.GET(regions[:3, ~test].copy(), seed=seed, **PRETRAINED), sorted(set(chrom[stop]))


def pretraining_dna(seed: int) -> dict[str, Any]:
    """Masked tiles of real DNA against the column means; then the accessibility of a tenth of the records."""
    import scatacformer as sf

    model, held_out = dna_to_pretrain(seed)
    regions, _, _ = dna_regions()
    chrom = regions.var["chrom"].to_numpy()
    test, stop = ~np.isin(chrom, model.adata.var["chrom"]), np.isin(chrom, held_out)
    model.pretrain(PASSES, lr=PRETRAINING_LR, holdout_chromosomes=held_out, **QUIET)
    x = model._prepared_of(regions).data.features(np.zeros(len(chrom), int), np.arange(len(chrom))[:, None], "ones")[
        :, 0
    ]
    x[:, -1] = regions.layers["acpm"][:3].mean(0)
    means = x[~test & ~stop].mean(0)
    errors = [
        ((x[stop, :-1] - means[:-1]) ** 2).sum(),
        ((regions.layers["acpm"][:3][:, stop] - means[-1]) ** 2).mean(0).sum(),
    ]
    found = {
        "masked": float(model.history["validation_loss"].min().iloc[0]),
        "column means": float(sum(errors) / x[stop].size),
    }
    record = np.arange(len(chrom)) // PER_WINDOW
    free = np.unique(record[~test & ~stop])
    chosen = np.random.default_rng(seed).choice(free, max(2, len(free) // 10), replace=False)
    few = regions[:, np.isin(record, chosen) | stop].copy()
    for name in ("pretrained", "from scratch"):
        start = sf.GET.load_query_data(few, model) if name == "pretrained" else sf.GET(few, seed=seed, **PRETRAINED)
        start.train(
            60, target="accessibility", lr=3e-4, weight_decay=1.0, batch_size=8,
            holdout_chromosomes=sorted(set(chrom[stop])), early_stopping_patience=15, **QUIET,
        )  # fmt: skip
        predicted = start.get_predicted_accessibility(regions).to_numpy().T[test]
        found[name] = track_scores(predicted, regions.layers["acpm"].T[test])
    return found


def linear_fill(model: Any, held_out: list[str], mask_ratio: float = 0.5, seed: int = 0) -> dict[str, float]:
    """Mean squared errors of masked regions on held-out chromosomes, in the units and windows of ``model.pretrain``.

    ``"linear autoencoder"`` reads the masked region itself, of which nothing is left: its least squares are the column
    means. ``"line from the window"`` reads the mean of the window's regions that are not masked; its penalty is the one
    that does best on the held-out chromosomes, which favours it.
    """
    from scatacformer.pseudobulk import Stretches, WindowLoader

    prepared = model._prepared_of(None)
    stretches = Stretches.of(prepared.regions, prepared.group_names)
    held = np.isin(stretches.chroms, held_out)
    rng = np.random.default_rng(seed)
    pairs: list[list[tuple[np.ndarray, np.ndarray]]] = [[], []]
    for place, part in enumerate((~held, held)):
        loader = WindowLoader(
            prepared.data, stretches.select(np.flatnonzero(part)), n_regions=model.config_.n_regions,
            stride=model.stride_, batch_size=64, target=None, accessibility=model._accessibility,
        )  # fmt: skip
        for batch in loader:
            x, valid, scored = (batch[name].numpy() for name in ("features", "valid", "scored"))
            masked = (rng.random(valid.shape) < mask_ratio) & valid
            known = (valid & ~masked)[..., None]
            mean = (x * known).sum(1) / np.maximum(known.sum(1), 1)  # (B, n_features)
            counted = masked & scored
            a = np.repeat(mean, counted.sum(1), 0).astype(np.float64)
            b = x[counted].astype(np.float64)
            pairs[place].append((a, b))
    (a, b), (held_a, held_b) = (tuple(np.concatenate(column) for column in zip(*some, strict=True)) for some in pairs)
    mean_a, mean_b = a.mean(0), b.mean(0)
    gram, cross = (a - mean_a).T @ (a - mean_a), (a - mean_a).T @ (b - mean_b)
    errors = []
    for share in (1e-3, 1e-2, 0.1, 1.0, 10.0):
        weight = np.linalg.solve(gram + share * len(a) * np.eye(len(gram)), cross)
        errors.append(float((((held_a - mean_a) @ weight + mean_b - held_b) ** 2).mean()))
    return {"linear autoencoder": float(((held_b - mean_b) ** 2).mean()), "line from the window": min(errors)}
