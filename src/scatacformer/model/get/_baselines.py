"""What simpler methods make of the same hold-out: the table to read beside every score of GET."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from scatacformer.pseudobulk import WindowLoader
from scatacformer.training import DescendOptions, descend

from ._windows import stretches_of

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from ._setup import Prepared

BASELINES = ("group_mean", "nearest_group", "ridge", "linear_svr", "random_forest", "mlp", "cnn")


@dataclass(frozen=True, eq=False)
class Task:
    """A hold-out: which entries (group, gene) are learned from, and which are predicted.

    ``measured`` (groups, sites) log10(TPM + 1); ``train`` and ``test`` (groups, sites) bool; ``columns`` and ``strand``
    (sites,) say where each gene starts; ``accessibility`` is what the model reads: quantitative or binary.
    """

    prepared: Prepared
    measured: NDArray[np.float32]
    train: NDArray[np.bool_]
    test: NDArray[np.bool_]
    columns: NDArray[np.intp]
    strand: NDArray[np.int64]
    accessibility: Any
    n_regions: int
    stride: int
    seed: int


def compare(task: Task, predicted: NDArray[np.float32], baselines: Sequence[str]) -> pd.DataFrame:
    """Scores of GET's prediction (groups, sites) and of each baseline on the entries that are held out."""
    import pandas as pd

    from scatacformer._io import tqdm

    if unknown := [name for name in baselines if name not in BASELINES]:
        raise ValueError(f"there is no baseline {unknown[0]!r}; choose among {', '.join(BASELINES)}.")
    found = {"GET": scores(task, predicted)}
    for name in tqdm(baselines, desc="Baselines", leave=False):
        values = _FIT[name](task)
        if values is not None:
            found[name] = scores(task, values)
    return pd.DataFrame(found).T.rename_axis("method")


def scores(task: Task, predicted: NDArray[Any]) -> dict[str, float]:
    """Pearson, R² and RMSE over the held-out entries, and Pearson of what is specific to a group.

    ``pearson_specific``: after subtracting from both the measured mean of the gene over the groups trained on; NaN
    where no group is held out, or the prediction does not differ from that mean.
    """
    rows = task.test & np.isfinite(predicted)
    x, y = predicted[rows].astype(np.float64), task.measured[rows].astype(np.float64)
    held, trained = np.any(task.test, axis=1), np.any(task.train, axis=1)
    specific = float("nan")
    if not (held & trained).any():
        mean = np.broadcast_to(task.measured[trained].mean(0), task.measured.shape)[rows]
        specific = _pearson(x - mean, y - mean)
    return {
        "pearson": _pearson(x, y),
        "r2": float(1 - ((x - y) ** 2).sum() / max(((y - y.mean()) ** 2).sum(), 1e-12)),
        "rmse": float(np.sqrt(((x - y) ** 2).mean())),
        "pearson_specific": specific,
        "n": len(x),
    }


def _group_mean(task: Task) -> NDArray[Any] | None:
    """The gene's mean over the groups trained on, also of genes on a held-out chromosome; None if no group is held
    out."""
    trained = np.any(task.train, axis=1)
    if (np.any(task.test, axis=1) & trained).any():
        return None
    return np.broadcast_to(task.measured[trained].mean(0), task.measured.shape)


def _nearest_group(task: Task) -> NDArray[Any] | None:
    """The gene in the group trained on whose accessibility correlates best with that of the group held out."""
    trained = np.flatnonzero(np.any(task.train, axis=1))
    held = np.flatnonzero(np.any(task.test, axis=1))
    if np.intersect1d(trained, held).size:
        return None
    level = task.prepared.data.accessibility
    level = np.asarray(level.toarray() if hasattr(level, "toarray") else level, np.float64)
    out = np.full(task.measured.shape, np.nan, np.float32)
    correlation = np.corrcoef(level[np.concatenate([held, trained])])[: len(held), len(held) :]
    out[held] = task.measured[trained[correlation.argmax(1)]]
    return out


def _by_strand(make: Callable[[int], Any]) -> Callable[[Task], NDArray[Any]]:
    """A regression of the region's own features, one for each strand."""

    def fit(task: Task) -> NDArray[Any]:
        out = np.full(task.measured.shape, np.nan, np.float32)
        for strand in (0, 1):
            here = task.strand == strand
            train, test = task.train & here, task.test & here
            if not train.any() or not test.any():
                continue
            regression = make(task.seed).fit(_features(task, train), task.measured[train])
            out[test] = regression.predict(_features(task, test))
        return out

    return fit


def _ridge(seed: int) -> Any:
    from sklearn.linear_model import RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), RidgeCV(np.logspace(-1, 5, 13)))


def _linear_svr(seed: int) -> Any:
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import LinearSVR

    return make_pipeline(StandardScaler(), LinearSVR(epsilon=0.2, max_iter=1000, random_state=seed))


def _random_forest(seed: int) -> Any:
    from sklearn.ensemble import RandomForestRegressor

    return RandomForestRegressor(10, max_depth=10, random_state=seed)


def _features(task: Task, entries: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The features of the region of each entry, (n, n_features)."""
    group, site = np.nonzero(entries)
    return task.prepared.data.features(group, task.columns[site][:, None], task.accessibility)[:, 0]


class RegionMLP(nn.Module):
    """One region by itself: two hidden layers, two strands.  (..., n_features) -> (..., 2)"""

    def __init__(self, n_features: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(n_features, 512), nn.ReLU(), nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, 2), nn.Softplus()
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


class RegionCNN(nn.Module):
    """A region and its neighbours in order: three convolutions over regions.  (B, R, n_features) -> (B, R, 2)"""

    def __init__(self, n_features: int) -> None:
        super().__init__()
        sizes = (n_features, 128, 64, 32)
        self.convolutions = nn.ModuleList(nn.Conv1d(a, b, 3, padding=1) for a, b in zip(sizes, sizes[1:], strict=False))
        self.head = nn.Sequential(nn.Linear(32, 512), nn.ReLU(), nn.Linear(512, 2), nn.Softplus())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.transpose(1, 2)
        for layer in self.convolutions:
            x = F.relu(layer(x))
        return self.head(x.transpose(1, 2))


def _mlp(task: Task) -> NDArray[Any]:
    rng = np.random.default_rng(task.seed)
    group, site = np.nonzero(task.train)
    later = rng.random(len(group)) < 0.1  # of the training entries: when to stop
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(task.seed)
        network = RegionMLP(task.prepared.data.n_motifs + 1)
    x = torch.from_numpy(_features(task, task.train))
    y, strand = torch.from_numpy(task.measured[task.train]), torch.from_numpy(task.strand[site])

    def loss(rows: NDArray[np.intp]) -> torch.Tensor:
        out = network(x[rows]).gather(1, strand[rows][:, None])[:, 0]
        return F.poisson_nll_loss(out, y[rows], log_input=False)

    def minibatches(epoch: int) -> Iterator[NDArray[np.intp]]:
        order = np.random.default_rng([task.seed, epoch]).permutation(np.flatnonzero(~later))
        yield from np.array_split(order, max(1, len(order) // 128))

    descend(
        loss,
        minibatches,
        torch.optim.AdamW(network.parameters(), 1e-3),
        DescendOptions(what="region MLP", max_epochs=40, patience=6, seed=task.seed, progress=False),
        describe=lambda rows: f"entries {rows[:5].tolist()}",
        validate=lambda: {"validation_loss": float(loss(np.flatnonzero(later)))},
        modules=[network],
    )
    out = np.full(task.measured.shape, np.nan, np.float32)
    group, site = np.nonzero(task.test)
    with torch.inference_mode():
        predicted = network(torch.from_numpy(_features(task, task.test)))
    out[task.test] = predicted.numpy()[np.arange(len(site)), task.strand[site]]
    return out


def _cnn(task: Task) -> NDArray[Any]:
    stretches = stretches_of(task.prepared, None, open_only=False)
    group_of, chrom_of = stretches.group, np.asarray(stretches.chrom_names)[stretches.chrom]
    trained_groups = np.any(task.train, axis=1)
    chrom = np.asarray(task.prepared.regions.chrom_names)[task.prepared.regions.chrom]
    trained_chroms = np.unique(chrom[task.columns[np.any(task.train, axis=0)]])
    train = stretches.select(trained_groups[group_of] & np.isin(chrom_of, trained_chroms))
    common: dict[str, Any] = {"n_regions": task.n_regions, "batch_size": 32, "accessibility": task.accessibility}
    loader = WindowLoader(
        task.prepared.data, train, shuffle=True, seed=task.seed, target="expression", stride=task.stride, **common
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(task.seed)
        network = RegionCNN(task.prepared.data.n_motifs + 1)

    def loss(batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return F.poisson_nll_loss(
            network(batch["features"])[batch["scored"]], batch["targets"][batch["scored"]], log_input=False
        )

    def minibatches(epoch: int) -> Iterator[dict[str, torch.Tensor]]:
        loader.set_epoch(epoch)
        yield from loader

    n_steps = 15 * len(loader)
    optimizer = torch.optim.AdamW(network.parameters(), 2e-3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n_steps)
    descend(
        loss,
        minibatches,
        optimizer,
        DescendOptions(what="region CNN", max_epochs=15, seed=task.seed, progress=False),
        describe=lambda batch: f"groups {batch['group'].tolist()[:5]}",
        modules=[network],
        scheduler=scheduler,
    )
    windows = stretches.select(np.any(task.test, axis=1)[group_of]).tile(task.n_regions, stride=task.stride)
    whole = np.full((len(task.measured), task.prepared.regions.n_bins, 2), np.nan, np.float32)
    with torch.inference_mode():
        for batch in WindowLoader(task.prepared.data, windows, target=None, **common):
            scored = batch["scored"].numpy()
            group = np.broadcast_to(batch["group"].numpy()[:, None], scored.shape)[scored]
            whole[group, batch["regions"].numpy()[scored]] = network(batch["features"]).numpy()[scored]
    return whole[:, task.columns, task.strand]


def _pearson(x: NDArray[Any], y: NDArray[Any]) -> float:
    if len(x) < 2 or x.std() < 1e-9 or y.std() < 1e-9:
        return float("nan")
    return float(np.corrcoef(x, y)[0, 1])


_FIT: dict[str, Callable[[Task], Any]] = {
    "group_mean": _group_mean,
    "nearest_group": _nearest_group,
    "ridge": _by_strand(_ridge),
    "linear_svr": _by_strand(_linear_svr),
    "random_forest": _by_strand(_random_forest),
    "mlp": _mlp,
    "cnn": _cnn,
}
