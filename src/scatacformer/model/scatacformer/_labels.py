"""Labels: fitted on labelled cells, predicted for any cell."""

from __future__ import annotations

import warnings
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from scatacformer.model._fields import refuse_new_labels
from scatacformer.model._scvi import categories, category_column, field_state
from scatacformer.nn import LabelHead, LabelTarget, balanced_weights

from ._base import ModelBase
from ._fit_labels import LabelOptions, fit_head

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from anndata import AnnData
    from mudata import MuData

# argument of setup_anndata with the column of each task
KEYS = {"labels": "labels_key", "organ": "organ_key"}
MAX_START_CELLS = 2048  # maximum number of cells for the scale of the heads' inputs in a joint training


class LabelsMixin(ModelBase):
    """``train_labels`` and ``predict`` of :class:`~scatacformer.ScAtacFormer`."""

    def train_labels(
        self,
        max_epochs: int | None = None,
        batch_size: int = 256,
        lr: float = 1e-2,
        weight_decay: float = 1e-2,
        class_weight: Literal["balanced"] | None = None,
    ) -> None:
        """Fit the heads that predict labels, from scratch, with all other weights fixed.

        A head reads the embedding and ``<cls>`` of a cell, with all its regions kept. The embedding, the encoder and
        the decoder stay bit-identical. :meth:`train` calls this at the end; call it for corrected labels or other
        settings. To train the encoder and, with ``embedding_lr``, the embedding on labels:
        ``train(plan_kwargs={"label_weight": 1.0, "embedding_lr": 1e-3})``.

        The heads are fitted on the labelled training cells of :meth:`train`. ``history`` gets ``labels_train_loss``
        and, for the held-out cells, ``labels_validation_loss`` and ``labels_validation_accuracy``, for each task; the
        held-out cells are not used to select anything.

        Parameters
        ----------
        max_epochs
            Number of epochs over the labelled cells. Default: about 200 steps (10 to 60 epochs).
        batch_size, lr, weight_decay
            Number of cells per step, initial learning rate of the cosine schedule, and weight decay of AdamW.
        class_weight
            ``"balanced"``: every label has the same weight, however rare; the probabilities then refer to balanced
            classes.

        Memory: d_embed + d_model numbers for each labelled cell.

        Raises
        ------
        ValueError
            The model is not supervised or not trained; none of its cells has a label; a label has one cell.
        """
        self._check_decoder()
        arguments = {
            "max_epochs": max_epochs, "batch_size": batch_size, "lr": lr, "weight_decay": weight_decay,
            "class_weight": class_weight,
        }  # fmt: skip
        self._need_heads()
        self._validate_anndata(None)
        split = self._own_split()
        self._fit_labels(self._label_options(arguments, split, self._trainable().frozen), split)

    @torch.inference_mode()
    def predict(
        self,
        adata: AnnData | MuData | None = None,
        indices: Sequence[int] | np.ndarray | None = None,
        soft: bool = False,
        batch_size: int | None = None,
        task: Literal["labels", "organ"] = "labels",
    ) -> np.ndarray | pd.DataFrame:
        """Label of each cell, or with ``soft`` the probability of each label.

        Parameters
        ----------
        adata
            Cells x the model's regions. Labels are not needed and have no effect.
        indices
            Cells, in the order of the result. Default: all.
        soft
            Probabilities instead of the most probable label.
        task
            ``"labels"`` or ``"organ"``, from ``labels_key`` or ``organ_key`` of :meth:`setup_anndata`.

        Returns
        -------
        (n_cells,) array of labels; with ``soft`` a DataFrame (n_cells, n_labels), cells x labels, rows that sum to 1.

        Raises
        ------
        ValueError
            The model is not supervised, or its heads are not trained; ``adata`` has unknown labels.
        """
        self._need_heads(task)
        self._check_if_trained(warn=False)
        if task not in self.labels_fitted_:
            raise ValueError(f"the head for {task!r} is not trained. Call train_labels().")
        adata, rows, _ = self._asked(adata, indices)
        names = self._label_names(task)
        self._label_codes(task, adata)  # raises an error for new labels
        head, parts = self.module.heads[task], [np.empty((0, len(names)), np.float32)]
        for cells, _ in self._reader(adata).encoded(rows, batch_size):
            parts.append(torch.softmax(head(self.module.head_inputs(cells)), 1).float().cpu().numpy())
        probability = np.concatenate(parts)
        if not soft:
            return names[probability.argmax(1)]
        import pandas as pd

        return pd.DataFrame(probability, index=adata.obs_names[rows], columns=names)

    def _label_sizes(self, supervised: bool) -> dict[str, int]:
        """Sizes of the heads for the network's configuration."""
        tasks = [task for task in KEYS if self._label_key(task) is not None]
        if not supervised:
            return {}
        if not tasks:
            raise ValueError(
                "supervised=True is set, but no labels are registered. Call ScAtacFormer.setup_anndata(adata, labels_key=...) and create the model again."
            )
        sizes = {task: len(self._label_names(task)) for task in tasks}
        for task, n in sizes.items():
            if n < 2:
                raise ValueError(
                    f"adata.obs[{self._label_key(task)!r}] has {n} label{'s' * (n != 1)} besides "
                    f"{self._unlabeled(task)!r}; expected at least 2 for a supervised model."
                )
        return {{"labels": "n_labels", "organ": "n_organs"}[task]: n for task, n in sizes.items()}

    def _label_options(
        self, kwargs: dict[str, Any] | None, split: tuple[np.ndarray, ...], frozen: bool = False
    ) -> LabelOptions | None:
        """Options for fitting the heads; None for an unsupervised model, and for cells without labels."""
        if not self.config_.tasks or frozen:
            if kwargs:
                what = "is a query, whose weights are those of its reference" if frozen else "is not supervised"
                raise ValueError(f"labels can be fitted by a supervised model, but this one {what}.")
            return None
        known = [field.name for field in fields(LabelOptions)]
        if unknown := sorted(set(kwargs or {}) - set(known)):
            raise TypeError(f"labels_kwargs takes {', '.join(known)}; found {', '.join(map(repr, unknown))}.")
        options = LabelOptions(**(kwargs or {}))
        learnable = [task for task in self.config_.tasks if self._check_labels(task, split)]
        return options if learnable else None

    def _check_labels(self, task: str, split: tuple[np.ndarray, ...]) -> bool:
        """Whether there are labels to fit. ValueError if not, unless the head was trained before (a query)."""
        codes, names, key = self._label_codes(task, self.adata), self._label_names(task), self._label_key(task)
        counts = np.bincount(codes[codes >= 0], minlength=len(names))
        if (counts == 1).any():
            alone = names[counts == 1]
            raise ValueError(
                f"{len(alone)} of the labels in adata.obs[{key!r}] have one cell (first: {alone[0]!r}). Merge them with "
                f"others, or set them to {self._unlabeled(task)!r}."
            )
        n_labelled = int((codes[split[0]] >= 0).sum())
        if n_labelled == 0:
            if task in self.labels_fitted_:
                return False
            raise ValueError(
                f"none of the {len(split[0]):,} training cells has a label in adata.obs[{key!r}] (all are NaN, "
                f"{self._unlabeled(task)!r} or missing). Label some, or create the model with supervised=False."
            )
        return True

    def _label_targets(
        self, weights: dict[str, float], options: LabelOptions | None, split: tuple[np.ndarray, ...]
    ) -> dict[str, LabelTarget]:
        """The labels of the training cells, for a joint training."""
        if options is None:
            raise ValueError(
                "label_weight is given, but none of the training cells has a label. Label some, or leave it out."
            )
        targets = {}
        for task, weight in weights.items():
            codes = torch.full((self.adata.n_obs,), -1, dtype=torch.int64)
            codes[split[0]] = torch.from_numpy(self._label_codes(task, self.adata)[split[0]])
            class_weight = balanced_weights(codes, self.config_.tasks[task]) if options.class_weight else None
            targets[task] = LabelTarget(codes, weight, class_weight)
        return targets

    def _standardise_heads(self, targets: dict[str, LabelTarget], split: tuple[np.ndarray, ...]) -> None:
        """Set centre and scale of the inputs of the heads, before a joint training."""
        if not targets:
            return
        rows = split[0]
        if len(rows) > MAX_START_CELLS:
            rows = np.sort(np.random.default_rng(self.seed_).choice(rows, MAX_START_CELLS, replace=False))
        inputs = self._head_inputs(rows).to(self.module.device)
        for task in targets:
            head = self.module.heads[task]
            assert isinstance(head, LabelHead)
            head.standardise(inputs)

    def _fit_labels(self, options: LabelOptions | None, split: tuple[np.ndarray, ...]) -> None:
        """Fit every head with labels; see :meth:`train_labels`."""
        if options is None:
            return
        for task in self.config_.tasks:
            codes = self._label_codes(task, self.adata)
            train, held_out = (np.sort(part[codes[part] >= 0]) for part in split[:2])
            if not len(train):
                continue
            absent = np.setdiff1d(np.arange(len(self._label_names(task))), codes[train])
            if len(absent):
                names = ", ".join(map(str, self._label_names(task)[absent[:10]]))
                warnings.warn(
                    f"{len(absent)} of the labels in adata.obs[{self._label_key(task)!r}] have no training cells and will "
                    f"hardly be predicted: {names}",
                    UserWarning,
                    stacklevel=3,
                )
            inputs = self._head_inputs(np.concatenate([train, held_out]))
            labels = torch.from_numpy(codes[np.concatenate([train, held_out])])
            n_labels = self.config_.tasks[task]
            head, outcome = fit_head(inputs, labels, len(train), n_labels, options, self.seed_, task)
            self.module.heads[task].load_state_dict(head.state_dict())
            if task not in self.labels_fitted_:
                self.labels_fitted_ = [*self.labels_fitted_, task]
            self._add_history({f"{task}_{name}": values for name, values in outcome.history.record.items()})
            if outcome.stopped:
                return

    @torch.inference_mode()
    def _head_inputs(self, rows: np.ndarray) -> torch.Tensor:
        parts = [
            self.module.head_inputs(cells).float().cpu() for cells, _ in self._reader(self.adata).encoded(rows, None)
        ]
        return torch.cat(parts).clone()

    def _need_heads(self, task: str | None = None) -> None:
        tasks = self.config_.tasks
        if not tasks:
            raise ValueError(
                "the model is not supervised. Call ScAtacFormer.setup_anndata(adata, labels_key=...), "
                "model = ScAtacFormer(adata, supervised=True), model.train()."
            )
        if task is not None and task not in tasks:
            raise ValueError(f"task is {task!r}; expected one of {tuple(tasks)}, the tasks of the model.")

    def _own_split(self) -> tuple[np.ndarray, ...]:
        """Training, held-out and test cells of :meth:`train`; for a query that was not trained, all cells are
        training cells."""
        train, held_out = getattr(self, "train_indices_", None), getattr(self, "validation_indices_", None)
        n_cells = self.adata.n_obs
        if train is None or held_out is None or max(np.max(train, initial=-1), np.max(held_out, initial=-1)) >= n_cells:
            train, held_out = np.arange(n_cells), np.empty(0, np.int64)
        return np.asarray(train), np.asarray(held_out), np.empty(0, np.int64)

    def _label_key(self, task: str) -> str | None:
        """Column of ``obs`` with the labels; None if none was given."""
        return category_column(self.registry_, task)

    def _unlabeled(self, task: str) -> str:
        return (field_state(self.registry_, task) or {}).get("unlabeled_category", "Unknown")

    def _label_names(self, task: str) -> np.ndarray:
        """The labels in the order of their codes."""
        return categories(self.registry_, task)

    def _label_codes(self, task: str, adata: AnnData) -> np.ndarray:
        """(n_cells,) int64, -1 for cells without a label. ValueError for labels that are not in the model."""
        manager = self.get_anndata_manager(adata, required=True)
        known = self._label_names(task)
        new = categories(manager.registry, task)[len(known) :]
        refuse_new_labels(new, known, str(self._label_key(task)), self._unlabeled(task))
        return np.asarray(manager.get_from_registry(task)).ravel().astype(np.int64)
