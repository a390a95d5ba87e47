"""Labels of held-out cells: the model's heads, nearest neighbours and a logistic regression on the same embedding.

    python benchmarks/labels.py             three seeds of 80 / 20: minutes on two cores
    python benchmarks/labels.py --quick     leukaemia, one seed; prints, writes nothing

A fifth of the cells, sampled by the seed within each label, is set to ``Unknown`` and predicted. All methods use the
embedding of the same cells, the unlabelled ones included (the spectral start uses every cell, but no label). The regression and the
neighbours are scikit-learn's with their defaults, k = 15, on ``get_latent_representation``; so is the regression on
the inputs of the heads, the embedding and ``<cls>``, standardised.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from typing import Any

import numpy as np
from _common import data_folder, environment, spread, table, write

DATA = ("leukemia", "cerebellum")
TRAIN: dict[str, Any] = {"enable_progress_bar": False}
JOINT = {"label_weight": 1.0}
WAYS = (
    "15 neighbours", "logistic regression", "logistic regression, with `<cls>`", "heads (default)", "heads, balanced",
    "joint, the embedding stays", "joint, embedding_lr=1e-3",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--quick", action="store_true", help="leukaemia, one seed; nothing is written")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    folder = data_folder()
    if not all((folder / f"{name}.h5ad").exists() for name in DATA):
        sys.exit("this needs the data folder: set SCATACFORMER_TEST_DATA")
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    seeds = arguments.seeds[:1] if arguments.quick else arguments.seeds
    for name in DATA[:1] if arguments.quick else DATA:
        for seed in seeds:
            for way, figures in measure(name, seed).items():
                found.setdefault((name, way), []).append(figures)
                print(name, seed, way, *(f"{x:.3f}" for x in figures), sep="\t", file=sys.stderr)
    write("labels", report(found, seeds), keep=not arguments.quick)


def measure(name: str, seed: int) -> dict[str, tuple[float, float]]:
    """Accuracy and balanced accuracy on the held-out cells, by way."""
    import torch
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import accuracy_score, balanced_accuracy_score
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    adata, truth, known = cells(name, seed)

    def score(predicted: np.ndarray) -> tuple[float, float]:
        held_out = truth[~known]
        return float(accuracy_score(held_out, predicted)), float(balanced_accuracy_score(held_out, predicted))

    model = fit(adata, seed)
    z = model.get_latent_representation()
    with torch.inference_mode():
        read = torch.cat([model.module.head_inputs(c).cpu() for c, _ in model._read(adata, None, None)]).numpy()
    held_out = np.flatnonzero(~known)
    out = {
        "15 neighbours": score(KNeighborsClassifier(15).fit(z[known], truth[known]).predict(z[~known])),
        "heads (default)": score(model.predict(indices=held_out)),
    }
    for way, x in (("logistic regression", z), ("logistic regression, with `<cls>`", read)):
        regression = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        out[way] = score(regression.fit(x[known], truth[known]).predict(x[~known]))
    model.train_labels(class_weight="balanced")
    out["heads, balanced"] = score(model.predict(indices=held_out))
    for way, plan in (("joint, the embedding stays", {}), ("joint, embedding_lr=1e-3", {"embedding_lr": 1e-3})):
        out[way] = score(fit(adata, seed, plan_kwargs=JOINT | plan).predict(indices=held_out))
    return out


def cells(name: str, seed: int) -> tuple[Any, np.ndarray, np.ndarray]:
    """Cells, their labels, and which of them the model is given: four fifths of each label."""
    import anndata as ad

    adata = ad.read_h5ad(data_folder() / f"{name}.h5ad")
    truth = adata.obs["cell_type"].astype(str).to_numpy()
    rng, known = np.random.default_rng(seed), np.ones(len(truth), bool)
    for label in np.unique(truth):
        of_it = rng.permutation(np.flatnonzero(truth == label))
        known[of_it[: max(len(of_it) // 5, 1)]] = False
    adata.obs["label"] = np.where(known, truth, "Unknown")
    return adata, truth, known


def fit(adata: Any, seed: int, **kwargs: Any) -> Any:
    import scatacformer as sf

    sf.ScAtacFormer.setup_anndata(adata, labels_key="label")
    model = sf.ScAtacFormer(adata, supervised=True, seed=seed)
    model.train(**TRAIN, **kwargs)
    return model


def report(found: dict[tuple[str, str], list[tuple[float, float]]], seeds: list[int]) -> str:
    env = environment("scatacformer", "torch", "scvi-tools", "scikit-learn", "numpy")
    parts = [
        "# Labels", "", env, "",
        f"A fifth of the cells of each label is held out and predicted. Median and range over splits, seeds "
        f"{', '.join(map(str, seeds))}.", "",
    ]  # fmt: skip
    for name in DATA:
        rows = [
            [way, spread([a for a, _ in found[name, way]]), spread([b for _, b in found[name, way]])]
            for way in WAYS
            if (name, way) in found
        ]
        if rows:
            n = len(found[name, WAYS[0]])
            parts += [
                f"## {name}, {n} split{'s' * (n != 1)}",
                "",
                table(["", "accuracy", "balanced accuracy"], rows),
                "",
            ]
    return "\n".join(parts)


if __name__ == "__main__":
    main()
