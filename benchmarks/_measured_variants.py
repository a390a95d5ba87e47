"""Measured variants: dsQTL of lymphoblastoid lines, and saturation mutagenesis of 29 elements, by Epiformer and ridge."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from _common import Cache, data_folder
from _real_epiformer import N_FOLDS, TRACKS, kmer_columns, kmer_counts, pearson, records, ridge, split

Score = Callable[[list[np.ndarray], int], np.ndarray]  # log2(signal + 1) of alleles in a track

# the track that is nearest to the line in which an element was measured; others have none among the ten
NEAREST = {
    "SORT1": "HepG2", "LDLR": "HepG2", "F9": "HepG2",
    "IRF4": "SK-MEL-5",  # SK-MEL-28
    "TERT-GBM": "A172",  # SF7996, glioblastoma as well
    "HNF4A": "renal pelvis", "MSMB": "renal pelvis", "TERT-HEK": "renal pelvis", "MYCrs6983267": "renal pelvis",  # HEK293T
}  # fmt: skip
LINE = {"HepG2": "HepG2", "SK-MEL-5": "SK-MEL-28", "A172": "SF7996", "renal pelvis": "HEK293T"}
CROP, N_BINS = 4, 16


def measure(cache: Cache, method: str, folder: Path, seed: int, n_variants: int) -> None:
    """Score both data sets with the model of the first fold in ``folder``, and with that fold's ridge."""
    scorers: dict[str, Score] = {method: _by_epiformer(folder), "ridge": _by_ridge()}
    for name, score in scorers.items():
        if cache.get("dsQTL", name, seed, n_variants) is None:
            value = _dsqtl(score, seed, n_variants)
            cache.put("dsQTL", name, seed, n_variants, value=value)
            print(name, value, flush=True)
        for element, track in NEAREST.items():
            if cache.get("saturation", name, element, seed) is None:
                value = _saturation(score, element, track)
                cache.put("saturation", name, element, seed, value=value)
                print(name, element, value, flush=True)


def _background(length: int) -> np.ndarray:
    """The middle of the quietest window that the model has not seen."""
    data = records()
    held = np.flatnonzero(np.isin(data["chrom"], split(data["chrom"], 0)[0]))
    quiet = held[np.argmin(data["signal"][held].mean((1, 2)))]
    middle = data["seq"].shape[1] // 2
    return data["seq"][quiet][middle - length // 2 : middle + length // 2]


def _placed(sequences: list[np.ndarray], background: np.ndarray) -> np.ndarray:
    """Each sequence in the middle of the background, ``(n, length)``."""
    out = np.repeat(background[None], len(sequences), axis=0)
    for row, sequence in enumerate(sequences):
        at = len(background) // 2 - len(sequence) // 2
        out[row, at : at + len(sequence)] = sequence
    return out


def _by_epiformer(folder: Path) -> Score:
    """Signal of the four bins in the middle of 2,048 bp, both strands averaged."""
    import torch

    import scatacformer as sf
    from scatacformer.nn import EpiformerNetwork
    from scatacformer.sequence import one_hot

    model = sf.Epiformer.load(folder, adata=False)
    network = EpiformerNetwork(replace(model.config_, crop=CROP))  # the same weights, of a shorter window
    network.load_state_dict(model.module.state_dict())
    network.eval()
    background = _background(N_BINS * 128)

    def score(sequences: list[np.ndarray], track: int) -> np.ndarray:
        out = []
        with torch.inference_mode():
            for begin in range(0, len(sequences), 256):
                x = torch.from_numpy(one_hot(_placed(sequences[begin : begin + 256], background)))
                both = network(x)[:, track] + network(x.flip(1, 2))[:, track].flip(1)
                out.append(torch.log2(both[:, 2:6] / 2 + 1).mean(1).numpy())
        return np.concatenate(out)

    return score


def _by_ridge() -> Score:
    """The k-mer ridge of the first fold: as it is linear, changes of the counts of the whole background will do."""
    data = records()
    test, validation = (np.isin(data["chrom"], names) for names in split(data["chrom"], 0))
    features = np.stack([kmer_counts(seq) for seq in data["seq"]])
    model = ridge(features, data["signal"], ~test & ~validation, validation)
    background = _background(N_BINS * 128)

    def score(sequences: list[np.ndarray], track: int) -> np.ndarray:
        counts = np.stack([kmer_columns(row, features.shape[-1]) for row in _placed(sequences, background)])
        return model.predict(counts)[:, track]

    return score


def _dsqtl(score: Score, seed: int, n_variants: int) -> dict[str, float]:
    """100 bp of the more and the less open allele; GM12865 is a lymphoblastoid line."""
    import pandas as pd

    from scatacformer.sequence import codes_of

    folder = data_folder() / "sequence" / "variants"
    table = pd.read_csv(folder / "dsQTL.vcf.gz", sep="\t")
    alleles = []
    for name in ("high", "low"):
        with gzip.open(folder / f"dsQTL_{name}.fa.gz", "rt") as file:
            lines = file.read().split()
        alleles.append(dict(zip([x[1:] for x in lines[::2]], lines[1::2], strict=True)))
    table = table[table["ID"].isin(alleles[0])].sample(n_variants, random_state=seed)
    high, low = ([codes_of(pair[name]) for name in table["ID"]] for pair in alleles)
    change = score(high, TRACKS.index("GM12865")) - score(low, TRACKS.index("GM12865"))
    beta = table["Beta"].to_numpy()
    wrong = float((change < 0).mean())
    return {
        "n": n_variants,
        "sign": float((change > 0).mean() / max((change > 0).mean() + wrong, 1e-12)),
        "Pearson": pearson(change * np.sign(beta), beta),
    }


def _saturation(score: Score, element: str, track: str) -> dict[str, Any]:
    """Single-base changes of an element that were measured with at least ten tags."""
    import pandas as pd
    from scipy.stats import spearmanr

    from scatacformer.sequence import codes_of

    path = data_folder() / "sequence" / "variants" / "saturation_mutagenesis_hg38.tsv.gz"
    frame = pd.read_csv(path, sep="\t", dtype={"Chromosome": str})
    part = frame[(frame["Element"] == element) & frame["Alt"].isin(list("ACGT")) & (frame["Tags"] >= 10)]
    first, last = int(part["Position"].min()), int(part["Position"].max())
    reference = np.full(last - first + 1, 4, dtype=np.uint8)
    reference[part["Position"].to_numpy() - first] = codes_of("".join(part["Ref"]))
    changed = []
    for position, alt in zip(part["Position"] - first, part["Alt"], strict=True):
        sequence = reference.copy()
        sequence[position] = "ACGT".index(alt)
        changed.append(sequence)
    effect = score(changed, TRACKS.index(track)) - score([reference], TRACKS.index(track))
    return {"n": len(part), "track": track, "spearman": float(spearmanr(effect, part["Value"]).statistic)}


def report(rows: dict[tuple, dict]) -> list[str]:
    """The tables of both data sets."""
    from _common import table

    methods = list(dict.fromkeys(key[1] for key in rows if key[0] == "dsQTL"))
    dsqtl = {key[1]: value for key, value in rows.items() if key[0] == "dsQTL"}
    saturation = {key[1:3]: value for key, value in rows.items() if key[0] == "saturation"}
    lines = [
        "## Measured variants\n",
        f"The model of the first of {N_FOLDS} folds, alleles in the middle of a quiet window that it has not seen. The "
        "variants are of the whole genome, so that some lie on chromosomes with windows that were trained on.\n",
        f"dsQTL, {next(iter(dsqtl.values()))['n']:,} sampled variants, track GM12865: share of the variants whose more open "
        "allele is predicted to be the more open one, and Pearson's r of the predicted change with the measured effect.\n",
        table(["", "sign accuracy", "Pearson's r"], [[m, f"{dsqtl[m]['sign']:.3f}", f"{dsqtl[m]['Pearson']:.3f}"] for m in methods]),
        "Saturation mutagenesis: Spearman's correlation of the predicted change, in the track nearest to the cell line, with "
        "the measured effect.\n",
    ]  # fmt: skip
    body = []
    for element in NEAREST:
        if (methods[0], element) in saturation:
            value = saturation[methods[0], element]
            found = [f"{saturation[m, element]['spearman']:.3f}" for m in methods]
            body.append([element, LINE[value["track"]], value["track"], f"{value['n']:,}", *found])
    means = [f"{np.mean([saturation[m, row[0]]['spearman'] for row in body]):.3f}" for m in methods]
    lines.append(table(["element", "measured in", "track", "changes", *methods], [*body, ["mean", "", "", "", *means]]))
    return lines
