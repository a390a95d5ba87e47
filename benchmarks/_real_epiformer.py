"""DNase of real windows of hg38: the data, folds by chromosome, Epiformer, a CNN of BPNet's size, ridge."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from _common import data_folder

TRACKS = ["GM03348", "HepG2", "GM12865", "cardiac fibroblast", "SK-MEL-5", "vagina", "muscle of back", "renal pelvis"]
TRACKS += ["A172", "embryo brain"]
SEQ_LEN, FIRST = 81_920, 24_576  # of the 131,072 bp of a record
N_FOLDS = 5
REAL = {"d_stem": 48, "d_model": 64, "n_layers": 1, "n_heads": 4, "d_feedforward": 128, "dropout": 0.2}
MOTIFS = "HOCOMOCOv11_core_HUMAN_mono_meme_format.meme"
TRAINING: dict[str, Any] = {
    "lr": 1e-3, "batch_size": 1, "max_shift": 0, "weight_decay": 0.1, "early_stopping": False, "keep": "last",
    "enable_progress_bar": False,
}  # fmt: skip
CNN_LR, CNN_MARGIN = 1e-3, 2_048  # bp on each side of what it predicts, more than it sees


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
    """Tracks × bins of the windows, set up."""
    import scatacformer as sf

    data = records()
    regions = as_genome(data, folder / "windows.fa")
    signal = data["signal"].transpose(1, 0, 2)
    tracks = sf.pp.sequence_windows(
        signal, folder / "windows.fa", regions=regions, names=TRACKS, seq_len=SEQ_LEN, crop=64
    )
    sf.Epiformer.setup_anndata(tracks)
    return tracks


def split(chrom: np.ndarray, fold: int) -> tuple[list[str], list[str]]:
    """Chromosomes of a fold, which are held out, and two of the next, which tell when to stop."""
    parts = folds(chrom)
    return parts[fold], parts[(fold + 1) % N_FOLDS][:2]


def train_real(folder: Path, fold: int, epochs: int, seed: int, linear: bool = True) -> Any:
    """A model of the other folds, with a composition of all human motifs of HOCOMOCO v11, one window a step."""
    import scatacformer as sf

    test, validation = split(records()["chrom"], fold)
    motifs = sf.sequence.Motifs.from_file(data_folder() / "sequence" / "motifs" / MOTIFS)
    model = sf.Epiformer(real_tracks(folder), composition=motifs, linear=linear, seed=seed, **REAL)
    model.train(epochs, holdout_chromosomes=test, validation_chromosomes=validation, **TRAINING)
    losses = model.history["validation_loss"]["validation_loss"]
    print(f"fold {fold}: validation loss {losses.round(4).tolist()}", flush=True)
    return model


def predict_windows(model: Any, test: np.ndarray, both: bool) -> np.ndarray:
    """log2(x + 1) of what each of these windows predicts, (n, 512, 10); of both strands or one."""
    windows = model.adata.uns["sequence_windows"]["windows"][test]
    parts = []
    for chrom, start in zip(windows["chrom"], windows["start"], strict=True):
        region = f"{chrom}:{start + 64 * 128}-{start + 576 * 128}"
        signal = model.predict_region(region, reverse_complement=both, progress=False)
        parts.append(np.log2(signal.values.T + 1))
    return np.stack(parts)


# ---- a CNN of the size of BPNet-lite


def train_cnn(data: dict[str, np.ndarray], fold: int, epochs: int, seed: int) -> tuple[Any, np.ndarray]:
    """BPNet's body (Avsec et al. 2021; 64 filters, 8 dilated layers), mean by bin, and a linear head that predicts
    log2(x + 1), as Epiformer does; trained in bfloat16, the pass that is best on the validation chromosomes is kept.

    Returns a function from one-hot DNA ``(n, 4, seq_len)`` to log2(x + 1) ``(n, 10, 512)``, and the loss of each epoch.
    """
    import torch
    from torch import nn

    from scatacformer.sequence import one_hot

    margin, begin = CNN_MARGIN, FIRST + 64 * 128 - CNN_MARGIN
    width = 512 * 128 + 2 * margin

    class Body(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv1d(4, 64, 21, padding=10)
            self.layers = nn.ModuleList(nn.Conv1d(64, 64, 3, padding=2**i, dilation=2**i) for i in range(1, 9))
            self.head = nn.Conv1d(64, 10, 1)

        def forward(self, x: Any) -> Any:
            x = self.first(x).relu()
            for layer in self.layers:
                x = x + layer(x).relu()
            return self.head(nn.functional.avg_pool1d(x, 128)[..., margin // 128 : 512 + margin // 128])

    torch.manual_seed(seed)
    network = Body()
    test, validation = split(data["chrom"], fold)
    rows = {
        "train": np.flatnonzero(~np.isin(data["chrom"], [*test, *validation])),
        "validation": np.flatnonzero(np.isin(data["chrom"], validation)),
    }
    logs = torch.from_numpy(np.log2(data["signal"] + 1))
    with torch.no_grad():
        network.head.bias.copy_(logs[rows["train"]].mean((0, 2)))
    optimizer = torch.optim.AdamW(network.parameters(), lr=CNN_LR, weight_decay=0.01)
    n_steps = epochs * len(rows["train"])
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, CNN_LR, total_steps=n_steps, pct_start=0.1)
    rng = np.random.default_rng(seed)

    def error(row: int, shift: int, reverse: bool) -> Any:
        x, y = torch.from_numpy(one_hot(data["seq"][row][None, begin + shift : begin + shift + width])), logs[row]
        if reverse:
            x, y = x.flip(1, 2), y.flip(1)
        with torch.autocast("cpu", torch.bfloat16):  # 2.6 times as fast on a processor that has it
            predicted = network(x)[0]
        return (predicted.float() - y).square().mean()

    losses, best, kept = [], np.inf, network.state_dict()
    for _ in range(epochs):
        network.train()
        for row in rng.permutation(rows["train"]).tolist():
            loss = error(row, int(rng.integers(-3, 4)), bool(rng.random() < 0.5))
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
        network.eval()
        with torch.inference_mode():
            losses.append(float(np.mean([float(error(row, 0, False)) for row in rows["validation"].tolist()])))
        if losses[-1] < best:
            best, kept = losses[-1], {name: value.clone() for name, value in network.state_dict().items()}
    network.load_state_dict(kept)

    def predict(x: np.ndarray) -> np.ndarray:
        inner = slice(begin - FIRST, begin - FIRST + width)
        with torch.inference_mode():
            return np.concatenate([network(torch.from_numpy(one[None, :, inner].copy())).numpy() for one in x])

    return predict, np.array(losses)


# ---- ridge on k-mers


def kmer_counts(seq: np.ndarray, k: int = 5, width: int = 512) -> np.ndarray:
    """Canonical k-mers in ``width`` bp around each of the central 512 bins, (512, 512) for k = 5."""
    middles = FIRST + 64 * 128 + np.arange(512) * 128 + 64
    column, known, n_columns = _columns(seq, k)
    out = np.zeros((512, n_columns), dtype=np.float32)
    for row, middle in enumerate(middles.tolist()):
        place = slice(middle - width // 2, middle + width // 2 - k + 1)
        out[row] = np.bincount(column[place][known[place]], minlength=n_columns)
    return out


def kmer_columns(seq: np.ndarray, n_columns: int, k: int = 5) -> np.ndarray:
    """Canonical k-mers of a whole sequence, ``(n_columns,)``."""
    column, known, _ = _columns(seq, k)
    return np.bincount(column[known], minlength=n_columns).astype(np.float32)


def _columns(seq: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Column of the canonical k-mer at each position, whether it has no N, and the number of columns."""
    codes = np.zeros(len(seq) - k + 1, dtype=np.int64)
    known = np.ones(len(codes), dtype=bool)
    for i in range(k):
        part = seq[i : i + len(codes)]
        codes, known = codes * 4 + part, known & (part < 4)
    codes = np.where(known, codes, 0)
    kinds, column = np.unique(np.minimum(np.arange(4**k), reverse_index(k)), return_inverse=True)
    return column[codes], known, len(kinds)


def reverse_index(k: int) -> np.ndarray:
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


def composition_counts(path: Path) -> np.ndarray:
    """What Epiformer's composition reads of each bin, (65, 512, n_columns) float32, made once and kept in ``path``."""
    import tempfile

    import scatacformer as sf

    if not path.exists():
        motifs = sf.sequence.Motifs.from_file(data_folder() / "sequence" / "motifs" / MOTIFS)
        with tempfile.TemporaryDirectory() as folder:
            model = sf.Epiformer(real_tracks(Path(folder)), composition=motifs, seed=0, **REAL)
        np.save(path, _read_counts(model.module.composition))
    return np.load(path)


def _read_counts(composition: Any) -> np.ndarray:
    import torch

    from scatacformer.sequence import one_hot

    found = []
    with torch.inference_mode():
        for seq in records()["seq"]:
            x = torch.from_numpy(one_hot(seq[None, FIRST : FIRST + SEQ_LEN]))
            found.append(composition._columns(composition.count(x), 64)[0].T.numpy())
    return np.stack(found)


def ridge_on_counts(
    x: np.ndarray, signal: np.ndarray, train: np.ndarray, validation: np.ndarray, test: np.ndarray
) -> np.ndarray:
    """Ridge on what Epiformer's composition counts, by the normal equations; the penalty that is best on the validation
    chromosomes. log2(x + 1) of the test windows, (n, 512, 10)."""
    mean, std = x[train].mean((0, 1)), x[train].std((0, 1))
    std[std < 1e-4] = 1
    y = np.log2(signal.transpose(0, 2, 1) + 1)
    a = ((x[train] - mean) / std).reshape(-1, x.shape[-1])
    b = y[train].reshape(-1, 10)
    values, vectors = np.linalg.eigh((a.T @ a).astype(np.float64))
    turned = vectors.T @ (a.T @ (b - b.mean(0))).astype(np.float64)
    best = (-2.0, np.zeros(0))
    for penalty in (1e4, 3e4, 1e5, 3e5):
        weight = (vectors @ (turned / (values.clip(0) + penalty)[:, None])).astype(np.float32)
        of = [((x[part] - mean) / std) @ weight + b.mean(0) for part in (validation, test)]
        best = max(best, (pearson(of[0], y[validation]), of[1]), key=lambda pair: pair[0])
    return best[1]


def scores(predicted: np.ndarray, measured: np.ndarray) -> dict[str, float]:
    """Pearson of log2(x + 1) over all bins and tracks, after the mean over tracks is subtracted, and by track."""
    a, b = predicted.reshape(-1, 10), measured.reshape(-1, 10)
    specific = [x - x.mean(1, keepdims=True) for x in (a, b)]
    out = {"all bins": pearson(a, b), "specific": pearson(*specific)}
    return out | {name: pearson(a[:, i], b[:, i]) for i, name in enumerate(TRACKS)}


def pearson(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1]) if a.std() > 0 else 0.0
