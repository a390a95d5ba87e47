"""Epiformer: real DNA beside ridge on k-mers, measured variants, planted motifs, speed.

    python benchmarks/epiformer.py --real       five folds of the DNase windows: hours on two cores
    python benchmarks/epiformer.py --variants   dsQTL and saturation mutagenesis, with the model of the first fold
    python benchmarks/epiformer.py --planted    a made-up genome with two motifs, three seeds
    python benchmarks/epiformer.py --speed      the base size beside the same network written plainly; a quiet machine
    python benchmarks/epiformer.py --write      put what has been measured into results/epiformer.md

Measurements are kept in ``--cache``; what is there is not repeated, so a run that broke off continues. A model is only
compared with another within a fold: folds differ by more than methods do.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from _common import Cache, data_folder, environment, peak_mb, spread, table, write

TRACKS = ["GM03348", "HepG2", "GM12865", "cardiac fibroblast", "SK-MEL-5", "vagina", "muscle of back", "renal pelvis"]
TRACKS += ["A172", "embryo brain"]
SEQ_LEN, FIRST = 81_920, 24_576  # of the 131,072 bp of a record
N_FOLDS = 5
REAL = {"d_stem": 48, "d_model": 64, "n_layers": 1, "n_heads": 4, "d_feedforward": 128, "dropout": 0.2}


# ---- real DNA


def records() -> dict[str, np.ndarray]:
    """Sequence, chromosome and DNase in bins of 128 bp, (65, 10, 512), of the windows of hg38."""
    d = np.load(data_folder() / "sequence" / "hg38_windows.npz", allow_pickle=False)
    signal = d["target"][:, :, 24:34].astype(np.float32).reshape(65, 512, 4, 10).sum(2).transpose(0, 2, 1)
    return {"seq": d["seq"], "chrom": d["chrom"].astype(str), "signal": signal}


def folds(chrom: np.ndarray) -> list[list[str]]:
    """Chromosomes of each fold, of about as many windows each."""
    names, counts = np.unique(chrom, return_counts=True)
    parts: list[list[str]] = [[] for _ in range(N_FOLDS)]
    sizes = np.zeros(N_FOLDS)
    for i in np.argsort(-counts, kind="stable"):
        smallest = int(np.argmin(sizes))
        parts[smallest].append(str(names[i]))
        sizes[smallest] += counts[i]
    return parts


def as_genome(data: dict[str, np.ndarray], path: Path) -> list[str]:
    """Write the records of a chromosome one after the other as a FASTA file; names of the windows, in their order."""
    letters = np.frombuffer(b"ACGTN", dtype=np.uint8)
    regions = [""] * len(data["seq"])
    with path.open("wb") as file:
        for name in np.unique(data["chrom"]):
            rows = np.flatnonzero(data["chrom"] == name)
            file.write(b">" + name.encode() + b"\n" + letters[data["seq"][rows].ravel()].tobytes() + b"\n")
            for place, row in enumerate(rows):
                start = place * data["seq"].shape[1] + FIRST
                regions[row] = f"{name}:{start}-{start + SEQ_LEN}"
    return regions


def real_tracks(folder: Path) -> Any:
    import scatacformer as sf

    data = records()
    regions = as_genome(data, folder / "windows.fa")
    tracks = sf.pp.sequence_windows(
        data["signal"].transpose(1, 0, 2),
        folder / "windows.fa",
        regions=regions,
        names=TRACKS,
        seq_len=SEQ_LEN,
        crop=64,
    )
    sf.Epiformer.setup_anndata(tracks)
    return tracks


def train_real(tracks: Any, fold: int, epochs: int, seed: int) -> tuple[Any, list[str]]:
    """A model of the other folds; the chromosomes of one fold are held out, those of the next tell when to stop."""
    import scatacformer as sf

    parts = folds(records()["chrom"])
    test, validation = parts[fold], parts[(fold + 1) % N_FOLDS][:2]
    model = sf.Epiformer(tracks, seed=seed, **REAL)
    model.train(
        epochs, holdout_chromosomes=test, validation_chromosomes=validation, batch_size=1, max_shift=64,
        accumulate_grad_batches=2, enable_progress_bar=False,
    )  # fmt: skip
    return model, test


def kmer_counts(seq: np.ndarray, k: int = 5, width: int = 512) -> np.ndarray:
    """Canonical k-mers in ``width`` bp around each of the central 512 bins, (512, 512) for k = 5."""
    codes = np.zeros(len(seq) - k + 1, dtype=np.int64)
    known = np.ones(len(codes), dtype=bool)
    for i in range(k):
        part = seq[i : i + len(codes)]
        codes, known = codes * 4 + part, known & (part < 4)
    codes = np.where(known, codes, 0)
    reverse = np.zeros_like(codes)
    rest = codes.copy()
    for _ in range(k):
        reverse, rest = reverse * 4 + (3 - rest % 4), rest // 4
    canonical = np.minimum(codes, reverse)
    _, column = np.unique(np.minimum(np.arange(4**k), _reverse_index(k)), return_inverse=True)
    column = column[canonical]
    out = np.zeros((512, column.max() + 1), dtype=np.float32)
    start = FIRST + 64 * 128
    for b in range(512):
        middle = start + b * 128 + 64
        place = slice(middle - width // 2, middle + width // 2 - k + 1)
        out[b] = np.bincount(column[place][known[place]], minlength=out.shape[1])
    return out


def _reverse_index(k: int) -> np.ndarray:
    codes = np.arange(4**k)
    reverse = np.zeros_like(codes)
    for _ in range(k):
        reverse, codes = reverse * 4 + (3 - codes % 4), codes // 4
    return reverse


def ridge(features: np.ndarray, signal: np.ndarray, train: np.ndarray, validation: np.ndarray) -> Any:
    """Ridge on log2(x + 1) with the penalty that is best on the validation chromosomes."""
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    def rows(part: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return features[part].reshape(-1, features.shape[-1]), np.log2(
            signal[part].transpose(0, 2, 1).reshape(-1, 10) + 1
        )

    best, best_r = None, -2.0
    for alpha in (1e2, 1e3, 1e4, 1e5):
        model = make_pipeline(StandardScaler(), Ridge(alpha=alpha)).fit(*rows(train))
        x, y = rows(validation)
        r = float(np.corrcoef(model.predict(x).ravel(), y.ravel())[0, 1])
        if r > best_r:
            best, best_r = model, r
    return best


def scores(predicted: np.ndarray, measured: np.ndarray) -> dict[str, float]:
    """Pearson of log2(x + 1) over all bins and tracks, after the mean over tracks is subtracted, and by track."""
    a, b = predicted.reshape(-1, 10), measured.reshape(-1, 10)
    specific = [x - x.mean(1, keepdims=True) for x in (a, b)]
    out = {"all bins": _r(a, b), "specific": _r(*specific)}
    return out | {name: _r(a[:, i], b[:, i]) for i, name in enumerate(TRACKS)}


def _r(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1]) if a.std() > 0 else 0.0


def real(cache: Cache, epochs: int, seed: int, only: list[int]) -> None:
    data = records()
    features = np.stack([kmer_counts(seq) for seq in data["seq"]])
    parts = folds(data["chrom"])
    for fold in only:
        test = np.isin(data["chrom"], parts[fold])
        validation = np.isin(data["chrom"], parts[(fold + 1) % N_FOLDS][:2])
        train = ~test & ~validation
        measured = np.log2(data["signal"][test].transpose(0, 2, 1) + 1)
        if cache.get("real", fold, "ridge") is None:
            model = ridge(features, data["signal"], train, validation)
            predicted = model.predict(features[test].reshape(-1, features.shape[-1])).reshape(measured.shape)
            cache.put("real", fold, "ridge", value=scores(predicted, measured))
            mean = np.broadcast_to(np.log2(data["signal"][train] + 1).mean((0, 2)), measured.shape)
            cache.put("real", fold, "mean", value=scores(mean, measured))
        if cache.get("real", fold, "Epiformer", epochs, seed) is not None:
            continue
        with tempfile.TemporaryDirectory() as folder:
            tracks = real_tracks(Path(folder))
            started = time.monotonic()
            model, _ = train_real(tracks, fold, epochs, seed)
            minutes = (time.monotonic() - started) / 60
            first = tracks.uns["sequence_windows"]["windows"]["first"].to_numpy()[test]
            found = {"minutes": minutes, "epochs": model.training_["epochs"]}
            for name, both in (("one strand", False), ("both strands", True)):
                values = model.get_predicted_tracks(reverse_complement=both, progress=False)
                predicted = np.stack([np.log2(values[:, f + 64 : f + 576].T + 1) for f in first])
                found |= {f"{name}: {key}": value for key, value in scores(predicted, measured).items()}
            model.save(cache.path.parent / f"fold{fold}-{seed}", overwrite=True)
        cache.put("real", fold, "Epiformer", epochs, seed, value=found)
        print(fold, found, flush=True)


# ---- measured variants


def variants(cache: Cache, seed: int, n_variants: int) -> None:
    """dsQTL: alleles of 100 bp in the middle of a quiet window of the first fold's test chromosomes."""
    import gzip

    import pandas as pd
    from scipy.stats import spearmanr

    import scatacformer as sf
    from scatacformer.sequence import codes_of, one_hot

    model = sf.Epiformer.load(cache.path.parent / f"fold0-{seed}", adata=False)
    data, parts = records(), folds(records()["chrom"])
    held = np.flatnonzero(np.isin(data["chrom"], parts[0]))
    quiet = held[np.argmin(data["signal"][held].mean((1, 2)))]
    length = 17_408  # 8 bins that are predicted
    middle = data["seq"].shape[1] // 2
    background = data["seq"][quiet][middle - length // 2 : middle + length // 2]
    folder = data_folder() / "sequence" / "variants"

    def predict(sequences: list[np.ndarray], row: int) -> np.ndarray:
        predictor = model._predictor([TRACKS[row]], 8)
        out = []
        for begin in range(0, len(sequences), 64):
            some = np.repeat(background[None], len(sequences[begin : begin + 64]), axis=0)
            for i, sequence in enumerate(sequences[begin : begin + 64]):
                at = length // 2 - len(sequence) // 2
                some[i, at : at + len(sequence)] = sequence
            x = one_hot(some)
            both = [predictor(x)[:, 0], predictor(np.ascontiguousarray(x[:, ::-1, ::-1]))[:, 0, ::-1]]
            out.append(np.mean(both, axis=0)[:, 2:6].sum(1))
        return np.log2(np.concatenate(out))

    if cache.get("dsQTL", seed, n_variants) is None:
        table_ = pd.read_csv(folder / "dsQTL.vcf.gz", sep="\t")
        pairs = []
        for name in ("high", "low"):
            with gzip.open(folder / f"dsQTL_{name}.fa.gz", "rt") as file:
                lines = file.read().split()
            pairs.append(dict(zip([x[1:] for x in lines[::2]], lines[1::2], strict=True)))
        table_ = table_[table_["ID"].isin(pairs[0])].sample(n_variants, random_state=seed)
        high, low = ([codes_of(pair[name]) for name in table_["ID"]] for pair in pairs)
        change = predict(high, 2) - predict(low, 2)  # GM12865 is a lymphoblastoid line
        beta = table_["Beta"].to_numpy()
        value = {
            "n": n_variants,
            "sign accuracy": float((change > 0).mean()),
            "Pearson with Beta": _r(change * np.sign(beta), beta),
        }
        cache.put("dsQTL", seed, n_variants, value=value)
        print(value, flush=True)
    frame = pd.read_csv(folder / "saturation_mutagenesis_hg38.tsv.gz", sep="\t", dtype={"Chromosome": str})
    for element in ("SORT1", "LDLR", "F9", "HNF4A", "PKLR-48h", "MYCrs6983267", "IRF4", "IRF6", "TERT-GBM"):
        if cache.get("saturation", element, seed) is not None:
            continue
        part = frame[(frame["Element"] == element) & frame["Alt"].isin(list("ACGT")) & (frame["Tags"] >= 10)]
        first, last = int(part["Position"].min()), int(part["Position"].max())
        reference = np.full(last - first + 1, 4, dtype=np.uint8)
        reference[part["Position"].to_numpy() - first] = codes_of("".join(part["Ref"]))
        changed = []
        for position, alt in zip(part["Position"] - first, part["Alt"], strict=True):
            sequence = reference.copy()
            sequence[position] = "ACGT".index(alt)
            changed.append(sequence)
        line = {"IRF4": 4, "TERT-GBM": 8, "MYCrs6983267": 1}.get(element, 1)
        effect = predict(changed, line) - predict([reference], line)
        value = {"n": len(part), "track": TRACKS[line], "spearman": float(spearmanr(effect, part["Value"]).statistic)}
        cache.put("saturation", element, seed, value=value)
        print(element, value, flush=True)


# ---- planted motifs


def planted(cache: Cache, seeds: list[int], epochs: int) -> None:
    from _planted_epiformer import measure

    for seed in seeds:
        if cache.get("planted", seed, epochs) is None:
            value = measure(seed, epochs)
            cache.put("planted", seed, epochs, value=value)
            print(seed, value, flush=True)


# ---- speed


def speed(cache: Cache, rounds: int, threads: int) -> None:
    """Seconds of the base size and of the same network written plainly, in turn, in this process.

    With one thread the processor's seconds are measured as well, which depend less on what else the machine does.
    """
    import torch
    from _plain_epiformer import PlainEpiformer

    from scatacformer.nn import EpiformerConfig, EpiformerNetwork

    torch.set_num_threads(threads)
    config = EpiformerConfig.of_size("base", n_tracks=1)
    ours, plain = EpiformerNetwork(config), PlainEpiformer(config)
    plain.load_state_dict(ours.state_dict())
    codes = torch.randint(0, 4, (1, config.seq_len), generator=torch.Generator().manual_seed(0))
    x = torch.nn.functional.one_hot(codes, 4).float().transpose(1, 2).contiguous()

    def timed(run: Any) -> tuple[float, float]:
        started = time.perf_counter(), time.process_time()
        run()
        return time.perf_counter() - started[0], time.process_time() - started[1]

    def forward(network: torch.nn.Module) -> tuple[float, float]:
        network.eval()
        with torch.inference_mode():
            return timed(lambda: network(x))

    def step(network: torch.nn.Module) -> tuple[float, float]:
        network.train()
        return timed(lambda: network(x).sum().backward())

    small = EpiformerNetwork(EpiformerConfig.of_size("small", n_tracks=10))
    value: dict[str, Any] = {"threads": threads, "load": os.getloadavg()[0]}
    for name, run in (("forward", forward), ("training", step)):
        pairs = [(run(ours), run(plain)) for _ in range(rounds)]
        value[name] = {"ours": [a for a, _ in pairs], "plain": [b for _, b in pairs]}
        value[f"small, {name}"] = [run(small) for _ in range(rounds)]
        print(name, value, flush=True)
        cache.put("speed", threads, value=value)
    with torch.inference_mode():
        value["largest difference"] = float((ours.eval()(x) - plain.eval()(x)).abs().max())
    value["peak MB"] = peak_mb()
    cache.put("speed", threads, value=value)


# ---- the table


def report(cache: Cache) -> str:
    import json

    rows = {tuple(json.loads(key)): value for key, value in cache.rows.items()}
    text = ["# Epiformer\n", environment("torch", "lightning", "numpy", "scatacformer"), ""]
    text.append("Made by `benchmarks/epiformer.py`; what each part does is said there.\n")
    found = [(key, value) for key, value in rows.items() if key[0] == "real" and key[2] == "Epiformer"]
    if found:
        text += _report_real(rows, found)
    if any(key[0] in ("dsQTL", "saturation") for key in rows):
        text.append("## Measured variants\n\nThe model of the first fold, alleles in the middle of a quiet window.\n")
        body = [
            [f"dsQTL, {v['n']:,} variants", "GM12865", f"sign {v['sign accuracy']:.3f}, r {v['Pearson with Beta']:.3f}"]
            for k, v in rows.items()
            if k[0] == "dsQTL"
        ]
        body += [
            [f"{k[1]}, {v['n']:,} changes", v["track"], f"Spearman {v['spearman']:.3f}"]
            for k, v in rows.items()
            if k[0] == "saturation"
        ]
        text.append(table(["variants", "track", "agreement"], body))
    planted_rows = [v for k, v in rows.items() if k[0] == "planted"]
    if planted_rows:
        text.append(f"## Planted motifs\n\n{len(planted_rows)} seeds: median and range.\n")
        body = [[name, spread([row[name] for row in planted_rows])] for name in planted_rows[0] if name != "minutes"]
        text.append(table(["", "value"], body))
    for key, v in rows.items():
        if key[0] == "speed":
            text += _report_speed(v)
    return "\n".join(text)


def _report_speed(v: dict[str, Any]) -> list[str]:
    body = []
    for name in ("forward", "training"):
        if name not in v:
            continue
        for number, clock in enumerate(("wall", "processor")):
            ours, plain = ([pair[number] for pair in v[name][which]] for which in ("ours", "plain"))
            body.append(
                [f"{name}, {clock}", spread(ours, 2), spread(plain, 2), f"{np.median(plain) / np.median(ours):.2f}"]
            )
        body.append([f"`small`, 10 tracks, {name}, wall", spread([a for a, _ in v[f"small, {name}"]], 2), "–", "–"])
    lines = [
        "## Speed\n",
        f"The base size on one window of 98,304 bp, seconds, in turn with the same network written plainly "
        f"(`_plain_epiformer.py`); {v['threads']} thread(s), load of the machine {v['load']:.1f}. The aim is 2 times as "
        "fast forward and 1.5 times in training.\n",
        table(["", "ours", "plainly", "times as fast"], body),
    ]
    if "largest difference" in v:
        lines.append(f"Largest difference of an output: {v['largest difference']:.1e}.\n")
    return lines


def _report_real(rows: dict[tuple, dict], found: list[tuple[tuple, dict]]) -> list[str]:
    body = []
    gains: dict[str, list[float]] = {"all bins": [], "specific": []}
    for key, value in sorted(found, key=lambda pair: pair[0][1]):
        fold = key[1]
        other = rows[("real", fold, "ridge")]
        for name in gains:
            gains[name].append(value[f"both strands: {name}"] - other[name])
        body.append(
            [str(fold), f"{other['all bins']:.3f}", f"{value['one strand: all bins']:.3f}",
             f"{value['both strands: all bins']:.3f}", f"{other['specific']:.3f}", f"{value['one strand: specific']:.3f}",
             f"{value['both strands: specific']:.3f}", f"{rows[('real', fold, 'mean')]['all bins']:.3f}",
             str(value["epochs"]), f"{value['minutes']:.0f}"]
        )  # fmt: skip
    header = ["fold", "ridge", "one strand", "both strands", "ridge, specific", "one strand, specific"]
    header += ["both strands, specific", "mean of training", "epochs", "minutes"]
    sizes = ", ".join(f"`{name}={value}`" for name, value in REAL.items())
    lines = [
        "## Real DNA\n",
        f"10 DNase tracks, 65 windows of hg38, folds by chromosome, windows of {SEQ_LEN:,} bp. Pearson of log2(x + 1) on the "
        "held-out chromosomes over all bins and tracks, and after the mean over tracks is subtracted (specific). Ridge: "
        f"canonical 5-mers of 512 bp around a bin, its penalty chosen on the validation chromosomes. Sizes: {sizes}.\n",
        table(header, body),
        f"Ahead of ridge, both strands: {spread(gains['all bins'])} over all bins, {spread(gains['specific'])} specific; "
        "the aim is .05 on both.\n",
    ]
    first = found[0]
    tracks = [
        [name, f"{rows[('real', first[0][1], 'ridge')][name]:.3f}", f"{first[1][f'both strands: {name}']:.3f}"]
        for name in TRACKS
    ]
    lines += [f"Each track by itself, fold {first[0][1]}:\n", table(["track", "ridge", "Epiformer"], tracks)]
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for part in ("real", "variants", "planted", "speed", "write"):
        parser.add_argument(f"--{part}", action="store_true")
    parser.add_argument(
        "--cache", type=Path, default=Path(tempfile.gettempdir()) / "epiformer-benchmark" / "rows.jsonl"
    )
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--planted-epochs", type=int, default=30)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--folds", nargs="+", type=int, default=list(range(N_FOLDS)))
    parser.add_argument("--n-variants", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    cache = Cache(arguments.cache)
    if arguments.planted:
        planted(cache, arguments.seeds, arguments.planted_epochs)
    if arguments.real:
        real(cache, arguments.epochs, arguments.seeds[0], arguments.folds)
    if arguments.variants:
        variants(cache, arguments.seeds[0], arguments.n_variants)
    if arguments.speed:
        speed(cache, arguments.rounds, arguments.threads)
    if arguments.write:
        write("epiformer", report(cache))


if __name__ == "__main__":
    main()
