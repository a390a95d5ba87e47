"""Fitting of a :class:`~scatacformer.nn.LabelHead`: a few hundred steps on the network's output for labelled cells."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

import numpy as np
import torch

from scatacformer.nn import LabelHead, LabelTarget, balanced_weights, label_loss
from scatacformer.training import DescendOptions, Outcome, descend

if TYPE_CHECKING:
    from scatacformer.nn import NetworkConfig

    from ._reader import Reader
    from ._tasks import TaskLabels

MAX_START_CELLS = 2048  # maximum number of cells for the scale of the heads' inputs in a joint training


@dataclass(frozen=True)
class LabelOptions:
    """Options for fitting the heads; checked when created. See :meth:`~scatacformer.ScAtacFormer.train_labels`."""

    max_epochs: int | None = None
    batch_size: int = 256
    lr: float = 1e-2
    weight_decay: float = 1e-2
    class_weight: str | None = None

    def __post_init__(self) -> None:
        for name in ("max_epochs", "batch_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; expected at least 1.")
        if not self.lr > 0 or self.weight_decay < 0:
            raise ValueError(
                f"lr is {self.lr} and weight_decay is {self.weight_decay}; expected lr above 0 and weight_decay of 0 or more."
            )
        if self.class_weight not in (None, "balanced"):
            raise ValueError(f"class_weight is {self.class_weight!r}; expected None or 'balanced'.")

    def n_epochs(self, n_cells: int) -> int:
        """Number of epochs: as requested, or about 200 steps (10 to 60 epochs)."""
        if self.max_epochs is not None:
            return self.max_epochs
        return int(np.clip(round(200 / max(n_cells / self.batch_size, 1)), 10, 60))


def fit_heads(
    reader: Reader, labels: list[TaskLabels], split: tuple[np.ndarray, ...], options: LabelOptions
) -> Iterator[tuple[str, LabelHead, Outcome]]:
    """A fitted head for each task whose labels training cells have, and its history."""
    for task in labels:
        train, held_out = (task.labelled(part) for part in split[:2])
        if not len(train):
            continue
        absent = np.setdiff1d(np.arange(len(task.names)), task.codes[train])
        if len(absent):
            warnings.warn(
                f"{len(absent)} of the labels in adata.obs[{task.column!r}] have no training cells and will "
                f"hardly be predicted: {', '.join(map(str, task.names[absent[:10]]))}",
                UserWarning,
                stacklevel=4,
            )
        rows = np.concatenate([train, held_out])
        inputs, codes = head_inputs(reader, rows), torch.from_numpy(task.codes[rows])
        yield task.task, *fit_head(inputs, codes, len(train), len(task.names), options, reader.seed, task.task)


def fit_head(
    inputs: torch.Tensor, labels: torch.Tensor, n_train: int, n_labels: int, options: LabelOptions, seed: int, task: str
) -> tuple[LabelHead, Outcome]:
    """A fitted head, and its history.

    ``inputs`` (n_cells, d_in) float32 and ``labels`` (n_cells,) int64 of ``n_train`` training cells, then the held-out
    ones. The global generator of torch is not changed.
    """
    n_epochs = options.n_epochs(n_train)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = LabelHead(inputs.shape[1], n_labels)
        head.standardise(inputs[:n_train])
        class_weight = balanced_weights(labels[:n_train], n_labels) if options.class_weight else None
        optimizer = torch.optim.AdamW(head.parameters(), lr=options.lr, weight_decay=options.weight_decay)
        n_steps = n_epochs * -(-n_train // options.batch_size)

        def validate() -> dict[str, float]:
            if n_train == len(inputs):
                return {}
            logits, held_out = head(inputs[n_train:]), labels[n_train:]
            accuracy = (logits.argmax(1) == held_out).float().mean()
            return {"validation_loss": float(label_loss(logits, held_out)), "validation_accuracy": float(accuracy)}

        outcome = descend(
            lambda cells: label_loss(head(inputs[cells]), labels[cells], class_weight),
            lambda epoch: torch.randperm(n_train).split(options.batch_size),
            optimizer,
            DescendOptions(
                what=task, max_epochs=n_epochs, progress=False,
                advice=f"Lower lr of labels_kwargs (it is {options.lr})", if_interrupted="train_labels() fits them again",
            ),
            describe=lambda cells: f"training cells with a label (numbers): {cells[:10].tolist()}",
            count=len, validate=validate, modules=[head],
            scheduler=torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n_steps),
        )  # fmt: skip
    return head, outcome


@torch.inference_mode()
def head_inputs(reader: Reader, rows: np.ndarray) -> torch.Tensor:
    """Inputs of the heads, on the CPU.  (n_cells, d_embed + d_model)"""
    parts = [reader.network.head_inputs(cells).float().cpu() for cells, _ in reader.encoded(rows, None)]
    return torch.cat(parts).clone()


def standardise_heads(reader: Reader, tasks: list[str], rows: np.ndarray) -> None:
    """Set centre and scale of the inputs of the heads from the training cells ``rows``, before a joint training."""
    if not tasks:
        return
    if len(rows) > MAX_START_CELLS:
        rows = np.sort(np.random.default_rng(reader.seed).choice(rows, MAX_START_CELLS, replace=False))
    inputs = head_inputs(reader, rows).to(reader.network.device)
    for task in tasks:
        head = reader.network.heads[task]
        assert isinstance(head, LabelHead)
        head.standardise(inputs)


def label_target(labels: TaskLabels, weight: float, options: LabelOptions, train: np.ndarray) -> LabelTarget:
    """The labels of the training cells, for a joint training."""
    codes = torch.full((len(labels.codes),), -1, dtype=torch.int64)
    codes[train] = torch.from_numpy(labels.codes[train])
    class_weight = balanced_weights(codes, len(labels.names)) if options.class_weight else None
    return LabelTarget(codes, weight, class_weight)


def with_labels(labels: TaskLabels, train: np.ndarray, fitted: bool) -> bool:
    """Whether training cells have labels. ValueError if not, unless the head was fitted before (a query)."""
    counts = np.bincount(labels.codes[labels.codes >= 0], minlength=len(labels.names))
    if (counts == 1).any():
        alone = labels.names[counts == 1]
        raise ValueError(
            f"{len(alone)} of the labels in adata.obs[{labels.column!r}] have one cell (first: {alone[0]!r}). Merge them "
            f"with others, or set them to {labels.unlabeled!r}."
        )
    if len(labels.labelled(train)):
        return True
    if fitted:
        return False
    raise ValueError(
        f"none of the {len(train):,} training cells has a label in adata.obs[{labels.column!r}] (all are NaN, "
        f"{labels.unlabeled!r} or missing). Label some, or create the model with supervised=False."
    )


def need_heads(config: NetworkConfig, task: str | None = None) -> None:
    """Raise ValueError for a network without heads, or without that of ``task``."""
    if not config.tasks:
        raise ValueError(
            "the model is not supervised. Call ScAtacFormer.setup_anndata(adata, labels_key=...), "
            "model = ScAtacFormer(adata, supervised=True), model.train()."
        )
    if task is not None and task not in config.tasks:
        raise ValueError(f"task is {task!r}; expected one of {tuple(config.tasks)}, the tasks of the model.")


def refuse_labels(frozen: bool) -> NoReturn:
    """ValueError for options of labels that cannot be fitted."""
    what = "is a query, whose weights are those of its reference" if frozen else "is not supervised"
    raise ValueError(f"labels can be fitted by a supervised model, but this one {what}.")


def own_split(train: np.ndarray | None, held_out: np.ndarray | None, n_cells: int) -> tuple[np.ndarray, ...]:
    """Training, held-out and test cells of ``train``; for a query that was not trained, all cells are training
    cells."""
    if train is None or held_out is None or max(np.max(train, initial=-1), np.max(held_out, initial=-1)) >= n_cells:
        train, held_out = np.arange(n_cells), np.empty(0, np.int64)
    return np.asarray(train), np.asarray(held_out), np.empty(0, np.int64)
