"""Small cells and models that are attacked, and what a file to damage is."""

from __future__ import annotations

import hashlib
import pickle
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

SIZES = {"chr1": 4_000_000, "chr2": 3_000_000, "chr3": 3_000_000}
NETWORK = {"d_model": 16, "n_heads": 2, "n_layers": 1, "d_embed": 8}
TRAINING = {
    "early_stopping": False, "enable_progress_bar": False, "enable_model_summary": False, "logger": False,
    "accelerator": "cpu",
}  # fmt: skip
PRETRAINING = {
    "model": NETWORK, "max_epochs": 2, "batch_size": 32, "every_n_steps": 2, "progress": False, "devices": 1,
    "accelerator": "cpu", "batch_key": "batch",
}  # fmt: skip


@dataclass(frozen=True)
class Kind:
    """A file to damage, and what reads it: `read` is called with the folder that holds a copy of `folder`."""

    name: str
    folder: Path
    file: str
    read: Callable[[Path], Any]
    sealed: bool = False


def cells(n: int = 120, seed: int = 0) -> Any:
    import scatacformer as sf

    return sf.datasets.simulated_cells(n, genome=SIZES, fragments=800, batches=2, seed=seed)


def new_model(adata: Any, seed: int = 0) -> Any:
    import scatacformer as sf

    adata = adata.copy()
    sf.ScAtacFormer.setup_anndata(adata, batch_key="batch")
    return sf.ScAtacFormer(adata, seed=seed, **NETWORK)


def trained(adata: Any, seed: int = 0, **options: Any) -> Any:
    model = new_model(adata, seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.train(**({"max_epochs": 1} | TRAINING | options))
    return model


def weights_of(model: Any) -> str:
    """A hash of all weights and buffers."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.module.state_dict().items()):
        digest.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def result_of(value: Any) -> str:
    """A hash of what was read."""
    if hasattr(value, "to_numpy"):
        value = value.to_numpy().tolist()
    if isinstance(value, np.ndarray):
        value = (str(value.dtype), value.shape, value.tobytes() if value.dtype != object else value.tolist())
    return hashlib.sha256(pickle.dumps(value)).hexdigest()
