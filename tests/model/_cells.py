"""Cells of three planted types and a model small enough to train in a second."""

from __future__ import annotations

import json
import warnings
from contextlib import contextmanager
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

import scatacformer as sf
from scatacformer._io import sha256

GENOME = {"chr1": 1_000_000, "chr2": 600_000, "chr3": 400_000}
N_BINS = 400
SIZES = {"d_model": 16, "n_layers": 1, "n_heads": 2, "d_embed": 6, "max_tokens": 32}
SENTENCES = {"n_closed": 128, "max_tokens": 16}
TRAINING = {
    "max_epochs": 3, "batch_size": 16, "sentence_kwargs": SENTENCES, "accelerator": "cpu",
    "enable_progress_bar": False, "plan_kwargs": {"n_decoder_epochs": 1, "embedding_lr": 1e-3},
}  # fmt: skip


def planted(n_cells: int = 90, seed: int = 0, batches: tuple[str, ...] = ("a", "b")) -> ad.AnnData:
    """Each type has 40 bins of its own that are often open; depth varies; the batch says nothing."""
    rng = np.random.default_rng(seed)
    kind = np.arange(n_cells) % 3
    rate = np.full((3, N_BINS), 0.08)
    for k in range(3):
        rate[k, 10 + k * 120 : 50 + k * 120] = 0.5
    depth = np.exp(rng.normal(0, 0.3, n_cells))
    is_open = rng.random((n_cells, N_BINS)) < (rate[kind] * depth[:, None]).clip(max=0.95)
    counts = is_open * rng.integers(1, 4, is_open.shape)
    names = [f"{c}:{s}-{s + 5000}" for c, n in GENOME.items() for s in range(0, n, 5000)]
    obs = pd.DataFrame(
        {"type": pd.Categorical(kind.astype(str)), "sample": pd.Categorical(rng.choice(batches, n_cells))},
        index=[f"cell{i}" for i in range(n_cells)],
    )
    return ad.AnnData(sp.csr_matrix(counts.astype(np.float32)), obs=obs, var=pd.DataFrame(index=names))


def fresh(adata: ad.AnnData, seed: int = 0, setup: dict | None = None, **changes) -> sf.ScAtacFormer:
    sf.ScAtacFormer.setup_anndata(adata, **({"batch_key": "sample"} if setup is None else setup))
    return sf.ScAtacFormer(adata, seed=seed, **(SIZES | changes))


def trained(adata: ad.AnnData, seed: int = 0, setup: dict | None = None, train: dict | None = None, **changes):
    model = fresh(adata, seed, setup, **changes)
    with quiet():
        model.train(**(TRAINING | (train or {})))
    return model


def assert_types_are_told_apart(model) -> None:
    """Accessibility of each type's own bins is higher in its cells than in the others."""
    p, kind = model.get_normalized_accessibility(return_numpy=True), model.adata.obs["type"].to_numpy()
    for k in "012":
        own = p[:, 10 + int(k) * 120 : 50 + int(k) * 120]
        assert own[kind == k].mean() > 1.2 * own[kind != k].mean()


def weights(model) -> dict[str, np.ndarray]:
    """Of the network and, for a model of pairs, of theirs: ``paired.NAME``."""
    paired = getattr(model, "paired", None)
    found = {f"paired.{k}": v for k, v in ({} if paired is None else paired.state_dict()).items()}
    return {k: v.detach().cpu().numpy().copy() for k, v in (model.module.state_dict() | found).items()}


def assert_same_bits(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert found.keys() == expected.keys()
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)


@contextmanager
def quiet():
    """Lightning warns of few workers and few steps."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        yield


def believe(folder: Path, name: str = "model.safetensors") -> None:
    """Put the checksum of a file that was changed into config.json."""
    config = json.loads((folder / "config.json").read_text())
    config["sha256"][name] = sha256(folder / name)
    (folder / "config.json").write_text(json.dumps(config))
