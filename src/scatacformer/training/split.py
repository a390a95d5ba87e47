"""Splits of cells, or of windows of a genome, into training and held-out ones."""

from __future__ import annotations

from collections.abc import Sequence
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

    Raises ValueError for shares outside 0 ... 1, an empty training set, or if validation is needed but excluded.
    """
    share = 0.9 if train_size is None else train_size
    if not 0 < share <= 1:
        raise ValueError(f"Invalid train_size. Must be: 0 < train_size <= 1, found {share}.")
    if validation_size is not None and not 0 <= validation_size < 1:
        raise ValueError(f"Invalid validation_size. Must be 0 <= validation_size < 1, found {validation_size}.")
    if validation_size is not None and share + validation_size > 1 + 1e-9:
        raise ValueError(f"train_size + validation_size is {share + validation_size:g}; expected between 0 and 1.")

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


class HoldOut(NamedTuple):
    """Row numbers, sorted and disjoint. Rows that are in neither share a chromosome or a group with both."""

    train: np.ndarray
    """int64: neither the chromosome nor the group is held out."""
    validation: np.ndarray
    """int64: rows whose chromosome, group, or both if both were given, are held out."""


def hold_out(
    chroms: np.ndarray | Sequence[str],
    groups: np.ndarray | Sequence[str] | None = None,
    *,
    holdout_chromosomes: str | Sequence[str] | None = None,
    holdout_groups: str | Sequence[str] | None = None,
    need_validation: bool = True,
    what: str = "windows",
) -> HoldOut:
    """Divide rows (windows, or stretches of regions) by the names of their chromosome and group.

    A row is in the training set if neither its chromosome nor its group is held out. It is in the validation set if its
    chromosome is held out (if chromosomes are named) and its group is held out (if groups are named): with both, the
    validation set is unseen groups on unseen chromosomes. The remaining rows are in neither set.

    Parameters
    ----------
    chroms
        (n_rows,), name of the chromosome of each row. A row must be on one chromosome.
    groups
        (n_rows,), name of the group of each row; None where rows have no group.
    holdout_chromosomes
        One name or several; each must be the chromosome of a row. None: no chromosome is held out.
    holdout_groups
        One name or several; each must be the group of a row. None: no group is held out.
    need_validation
        Raise an error if nothing is held out. Otherwise all rows are used for training.
    what
        Name of the rows in errors.

    Raises
    ------
    ValueError
        There are no rows; a name is not that of a row, or is given twice; nothing is left to train on or to validate
        on.
    """
    chrom_names = np.asarray(chroms, dtype=str)
    group_names = None if groups is None else np.asarray(groups, dtype=str)
    if group_names is not None and group_names.shape != chrom_names.shape:
        raise ValueError(
            f"Each of the {what} needs one chromosome and one group; found {chrom_names.shape[0]:,} chromosomes and "
            f"{group_names.shape[0]:,} groups."
        )
    if not chrom_names.size:
        raise ValueError(f"There are no {what}; expected some to divide into training and validation.")
    if group_names is None and holdout_groups is not None:
        raise ValueError(f"holdout_groups was given, but the {what} have no groups. Hold out chromosomes instead.")
    held_chroms = _checked(holdout_chromosomes, chrom_names, "chromosome", what)
    held_groups = _checked(holdout_groups, group_names, "group", what)
    if not held_chroms and not held_groups:
        if need_validation:
            raise ValueError(
                f"Nothing is held out, so the {what} cannot be divided into training and validation. Name chromosomes "
                f"(such as holdout_chromosomes=[{str(chrom_names[-1])!r}]), groups, or both."
            )
        return HoldOut(np.arange(len(chrom_names)), np.empty(0, dtype=np.int64))
    everywhere = np.ones(len(chrom_names), dtype=bool)
    on_held_chrom = np.isin(chrom_names, held_chroms)
    in_held_group = ~everywhere if group_names is None else np.isin(group_names, held_groups)
    is_training = ~on_held_chrom & ~in_held_group
    is_validation = (on_held_chrom if held_chroms else everywhere) & (in_held_group if held_groups else everywhere)
    if not is_training.any():
        left = [
            f"{len(held)} of {len(np.unique(names))} {kind}s"
            for held, names, kind in ((held_chroms, chrom_names, "chromosome"), (held_groups, group_names, "group"))
            if held and names is not None
        ]
        raise ValueError(
            f"Nothing is left to train on: {' and '.join(left)} are held out, and all {what} are in "
            "them. Hold out fewer."
        )
    if not is_validation.any():
        raise ValueError(
            f"Nothing is left to validate on: none of the {what} is on {', '.join(held_chroms)} in "
            f"{', '.join(held_groups)}. Hold out others, or only one of the two."
        )
    return HoldOut(np.flatnonzero(is_training), np.flatnonzero(is_validation))


def _checked(held: str | Sequence[str] | None, names: np.ndarray | None, kind: str, what: str) -> list[str]:
    """The names to hold out as a list. Raises ValueError for one that is unknown or given twice."""
    if held is None or names is None:
        return []
    wanted = [held] if isinstance(held, str) else [str(name) for name in held]
    if len(set(wanted)) < len(wanted):
        raise ValueError(f"holdout_{kind}s names one {kind} twice: {', '.join(wanted)}.")
    known = np.unique(names).tolist()
    if unknown := [name for name in wanted if name not in known]:
        other = unknown[0].removeprefix("chr") if unknown[0].startswith("chr") else f"chr{unknown[0]}"
        hint = f" Did you mean {other!r}?" if kind == "chromosome" and other in known else ""
        shown = ", ".join(known[:8]) + (f", ... ({len(known)} in all)" if len(known) > 8 else "")
        raise ValueError(
            f"holdout_{kind}s names {', '.join(map(repr, unknown[:5]))}, and none of the {what} is of such a {kind}. "
            f"They are of: {shown}.{hint}"
        )
    return wanted
