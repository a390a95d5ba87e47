"""A made-up genome in which two motifs, each in its own track, make DNA accessible; what a model finds of it."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

N_CHROMS, LENGTH, BIN, SEQ_LEN, CROP = 12, 122_880, 64, 4096, 8
SURE = {  # probability of the preferred base at each position: some say much, some little
    "A": ("TGACTCATGGAC", (0.95, 0.95, 0.9, 0.6, 0.95, 0.95, 0.95, 0.7, 0.45, 0.9, 0.4, 0.5)),
    "B": ("GGGCGTGACCTA", (0.9, 0.95, 0.95, 0.5, 0.95, 0.6, 0.95, 0.95, 0.9, 0.4, 0.7, 0.45)),
}


def matrices() -> dict[str, np.ndarray]:
    """Position probability matrices, (12, 4)."""
    out = {}
    for name, (letters, sure) in SURE.items():
        matrix = np.repeat(((1 - np.array(sure)) / 3)[:, None], 4, axis=1)
        matrix[np.arange(12), ["ACGT".index(x) for x in letters]] = sure
        out[name] = matrix
    return out


def make(seed: int) -> tuple[dict[str, np.ndarray], dict[str, dict[str, np.ndarray]], list[tuple[str, int, str, bool]]]:
    """Codes and signal of each chromosome, and the sites: chromosome, start, track, on the other strand."""
    rng = np.random.default_rng(seed)
    motifs, codes, sites = matrices(), {}, []
    signal: dict[str, dict[str, np.ndarray]] = {name: {} for name in motifs}
    for number in range(N_CHROMS):
        chrom = f"chr{number + 1}"
        bases = rng.integers(0, 4, LENGTH)
        for name in motifs:
            signal[name][chrom] = np.full(LENGTH, 0.05)
        for place in range(200, LENGTH - 400, 320):
            kind = rng.integers(3)
            if kind == 2:
                continue
            name = "AB"[kind]
            site = np.array([rng.choice(4, p=row) for row in motifs[name]])
            other = bool(rng.random() < 0.5)
            start = place + int(rng.integers(160))
            bases[start : start + 12] = (3 - site)[::-1] if other else site
            signal[name][chrom][start - 58 : start + 70] += 3
            sites.append((chrom, start, name, other))
        codes[chrom] = bases.astype(np.uint8)
    for name in motifs:  # 20 % of noise from bin to bin
        for chrom, values in signal[name].items():
            binned = values.reshape(-1, BIN).mean(1)
            signal[name][chrom] = rng.gamma(25, binned / 25)
    return codes, signal, sites


def measure(seed: int, epochs: int) -> dict[str, float]:
    """Train on chromosomes 1 to 10, stop by chromosome 11, and look at chromosome 12."""
    from scipy.stats import spearmanr
    from sklearn.metrics import roc_auc_score

    import scatacformer as sf

    codes, signal, sites = make(seed)
    with tempfile.TemporaryDirectory() as folder:
        fasta = Path(folder) / "genome.fa"
        fasta.write_text("".join(f">{name}\n{sf.sequence.letters(values)}\n" for name, values in codes.items()))
        step = SEQ_LEN - 2 * CROP * BIN
        regions = [f"{c}:{s}-{s + SEQ_LEN}" for c in codes for s in range(0, LENGTH - SEQ_LEN + 1, step)]
        values = np.array(
            [[signal[t][c][s // BIN : (s + SEQ_LEN) // BIN] for t in "AB"] for c in codes for s in range(0, LENGTH - SEQ_LEN + 1, step)],
            dtype=np.float32,
        ).transpose(1, 0, 2)  # fmt: skip
        tracks = sf.pp.sequence_windows(
            values, fasta, regions=regions, names=["A", "B"], seq_len=SEQ_LEN, bin_size=BIN, crop=CROP
        )
        sf.Epiformer.setup_anndata(tracks)
        model = sf.Epiformer(tracks, "small", seed=seed)
        started = time.process_time()
        model.train(
            epochs, holdout_chromosomes="chr12", validation_chromosomes="chr11", batch_size=2, lr=1e-3, early_stopping=False,
            enable_progress_bar=False,
        )  # fmt: skip
        out: dict[str, float] = {"minutes": (time.process_time() - started) / 60}
        print(model.history["validation_pearson"]["validation_pearson"].round(2).tolist(), flush=True)
        predicted = model.get_predicted_tracks(progress=False)
        held = (tracks.var["chrom"] == "chr12").to_numpy() & np.isfinite(predicted[0])
        for row, name in enumerate("AB"):
            pair = np.log2(predicted[row, held] + 1), np.log2(tracks.X[row, held] + 1)
            out[f"held-out Pearson, track {name}"] = float(np.corrcoef(*pair)[0, 1])
            out[f"the same of who knows the motif, track {name}"] = _ceiling(
                codes["chr12"], signal[name]["chr12"], name
            )
        out |= _profiles(model, [site for site in sites if site[0] == "chr12"], spearmanr)
        out |= _names(model, [site for site in sites if site[0] == "chr12"])
        out |= _snps(model, codes["chr12"], [site for site in sites if site[0] == "chr12"], roc_auc_score, seed)
        prepared = model._prepared_of(None)
        predictor, both = model._predictor(None, None), model._predictor(None, None, both_strands=True)
        rows = np.flatnonzero(prepared.data.chrom == "chr12")
        forward, reverse = (np.stack([prepared.data.sequence(i, 0, strand) for i in rows]) for strand in (False, True))
        for said, some in (("the network alone", predictor), ("as predicted by default", both)):
            pair = some(forward).ravel(), some(reverse)[..., ::-1].ravel()
            out[f"prediction of the other strand, Pearson, {said}"] = float(np.corrcoef(*pair)[0, 1])
    return out


def _ceiling(codes: np.ndarray, signal: np.ndarray, name: str) -> float:
    """Pearson's r of log2(x + 1) of the expected signal by the true motif, its strands and its frequency alone.

    Sites are sampled from the motif, so that some cannot be distinguished from chance.
    """
    ratio, n = np.log2(matrices()[name] / 0.25), len(codes) - 11
    bases = codes.astype(np.int64)
    strands = [
        sum(ratio[i, bases[i : i + n]] for i in range(12)),
        sum(ratio[i, 3 - bases[11 - i : 11 - i + n]] for i in range(12)),
    ]
    odds = np.exp2(np.logaddexp2(*strands)) / (2 * 3 * 320)  # a site of this track in 960 bp, on either strand
    sites = np.concatenate([[0], np.cumsum(np.append(odds / (1 + odds), np.zeros(11)))])
    place = np.arange(len(codes))
    first, stop = np.clip(place - 69, 0, None), np.clip(place + 59, 0, len(codes))
    expected = 0.05 + 3 * np.minimum(1, sites[stop] - sites[first])
    return float(np.corrcoef(np.log2(expected.reshape(-1, BIN).mean(1) + 1), np.log2(signal + 1))[0, 1])


def _profiles(model: Any, sites: list[tuple[str, int, str, bool]], spearmanr: Any) -> dict[str, float]:
    """Mutagenesis of 24 bp around sites of the held-out chromosome."""
    motifs = matrices()
    information = {name: 2 + (m * np.log2(m)).sum(1) for name, m in motifs.items()}
    found: dict[str, list[np.ndarray]] = {"A": [], "B": []}
    outside, inside, own, other_track = [], [], [], []
    for chrom, start, name, other in [s for s in sites if 2048 < s[1] < LENGTH - 2048][:24]:
        change = model.mutagenesis(f"{chrom}:{start - 12}-{start + 24}", progress=False).values.sum(1) / 3  # (36, 2)
        row = "AB".index(name)
        profile = change[12:24, row]
        found[name].append(profile[::-1] if other else profile)
        inside.append(np.abs(profile).mean())
        outside.append(np.abs(np.delete(change[:, row], np.arange(12, 24))).mean())
        own.append(np.abs(profile).mean())
        other_track.append(np.abs(change[12:24, 1 - row]).mean())
    out = {}
    for name, profiles in found.items():
        mean = -np.mean(profiles, axis=0)
        out[f"mutagenesis, Spearman with information, {name}"] = float(spearmanr(mean, information[name]).statistic)
    top = [-p[np.argmax(information[name])] for name, profiles in found.items() for p in profiles]
    out["mutagenesis, share of sites with the right sign"] = float((np.array(top) > 0).mean())
    out["mutagenesis, outside over inside of the motif"] = float(np.mean(outside) / np.mean(inside))
    out["mutagenesis, other track over own track"] = float(np.mean(other_track) / np.mean(own))
    return out


def _names(model: Any, sites: list[tuple[str, int, str, bool]]) -> dict[str, float]:
    """Among the planted motifs and 300 of JASPAR: is the strongest stretch of a site's attribution named after its own?"""
    import contextlib
    import io

    import scatacformer as sf

    known, own = sf.sequence.Motifs.from_jaspar(), matrices()
    motifs = sf.sequence.Motifs(
        (*own, *known.names[:300]),
        (*(matrix.T for matrix in own.values()), *known.matrices[:300]),
        np.concatenate([[100.0] * len(own), known.n_sites[:300]]),
    )
    right = []
    for chrom, start, name, _ in [s for s in sites if 2048 < s[1] < LENGTH - 2048][:24]:
        with contextlib.redirect_stdout(io.StringIO()):
            shares = model.attribute(f"{chrom}:{start - 12}-{start + 24}", name, "ism", progress=False)
        found = sf.tl.motifs_in_attribution(shares, motifs, n_peaks=1, width=12, n_motifs=1)
        right.append(found["motif"].iloc[0] == name)
    return {"`tl.motifs_in_attribution`, sites whose best of 302 motifs is the planted one": float(np.mean(right))}


def _snps(
    model: Any, codes: np.ndarray, sites: list[tuple[str, int, str, bool]], auroc: Any, seed: int
) -> dict[str, float]:
    """Changes of the base that says most in a site, against changes of bases far from all sites."""
    import pandas as pd

    rng = np.random.default_rng(seed)
    motifs = matrices()
    far = np.ones(len(codes), dtype=bool)
    for _, start, _, _ in sites:
        far[start - 30 : start + 42] = False
    far[:2048] = far[-2048:] = False
    rows, labels = [], []
    for _, start, name, other in [s for s in sites if 2048 < s[1] < LENGTH - 2048]:
        sure = [p for p, row in enumerate(motifs[name]) if row.max() >= 0.9]
        position = int(rng.choice(sure))
        place = start + (11 - position if other else position)
        preferred = int(motifs[name][position].argmax())
        if codes[place] != (3 - preferred if other else preferred):
            continue  # this site has another base there
        rows.append((place, (codes[place] + int(rng.integers(1, 4))) % 4))
        labels.append(True)
    for place in rng.choice(np.flatnonzero(far), len(rows), replace=False).tolist():
        rows.append((place, (codes[place] + int(rng.integers(1, 4))) % 4))
        labels.append(False)
    table = pd.DataFrame(
        {
            "chrom": "chr12",
            "pos": [place + 1 for place, _ in rows],
            "ref": ["ACGT"[codes[place]] for place, _ in rows],
            "alt": ["ACGT"[alt] for _, alt in rows],
        }
    )
    effects = model.predict_variants(table, window=256, progress=False)
    strongest = effects.assign(size=effects["change"].abs()).groupby(["pos"], sort=False)["size"].max()
    size = strongest.reindex(table["pos"]).to_numpy()
    return {"disrupting against neutral SNPs, AUROC": float(auroc(labels, size)), "SNPs": float(len(labels))}
