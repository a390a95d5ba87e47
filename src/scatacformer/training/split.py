"""Which cells are trained on, which are held out to stop in time, and which are left alone."""

from __future__ import annotations

from math import ceil, floor
from typing import NamedTuple

import numpy as np


class CellSplit(NamedTuple):
    """Row numbers, sorted and disjoint."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def split_cells(
    n_cells: int,
    train_size: float | None = None,
    validation_size: float | None = None,
    seed: int = 0,
    shuffle: bool = True,
    need_validation: bool = False,
) -> CellSplit:
    """Divide ``n_cells`` at random; sizes are rounded as in scvi-tools (training up, validation down).

    ``train_size`` (0.9 if None) is a share of the cells; ``validation_size`` too, and all other cells if None; the rest
    is the test set. ``shuffle=False`` takes the first cells for training, the next for validation.
    ``need_validation``, as early stopping does, moves one cell over from training if validation got none.

    Raises ValueError for shares outside 0 ... 1, an empty training set, and where validation is needed but excluded.
    """
    share = 0.9 if train_size is None else train_size
    if not 0 < share <= 1:
        raise ValueError(f"Invalid train_size. Must be: 0 < train_size <= 1, found {share}")
    if validation_size is not None and not 0 <= validation_size < 1:
        raise ValueError(f"Invalid validation_size. Must be 0 <= validation_size < 1, found {validation_size}")
    if validation_size is not None and share + validation_size > 1 + 1e-9:
        raise ValueError(f"train_size + validation_size must be between 0 and 1, found {share + validation_size:g}")

    # 0.55 * 100 is 55.00000000000001: 55 cells, not 56
    n_train = min(ceil(round(share * n_cells, 6)), n_cells)
    n_validation = n_cells - n_train
    if validation_size is not None:
        n_validation = min(floor(round(validation_size * n_cells, 6)), n_validation)
    if need_validation and n_validation == 0:
        if train_size == 1 or validation_size == 0 or n_cells < 2:
            raise ValueError(
                f"early stopping needs cells to validate on, and there are none with n_cells={n_cells}, "
                f"train_size={train_size} and validation_size={validation_size}. "
                "Set train_size below 1, or early_stopping=False."
            )
        n_validation = 1
        n_train = min(n_train, n_cells - 1)
    if n_train == 0:
        raise ValueError(
            f"With n_samples={n_cells}, train_size={share} and validation_size={validation_size}, the resulting train "
            "set will be empty. Adjust any of the aforementioned parameters."
        )
    order = np.random.default_rng(seed).permutation(n_cells) if shuffle else np.arange(n_cells)
    parts = np.split(order, [n_train, n_train + n_validation])
    return CellSplit(*(np.sort(part) for part in parts))
