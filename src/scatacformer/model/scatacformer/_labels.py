"""``train_labels`` and ``predict``: labels fitted on labelled cells, and predicted for any cell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from ._base import ModelBase
from ._fit_labels import LabelOptions, fit_heads, need_heads, own_split, refuse_labels, with_labels
from ._options import options_of
from ._tasks import TaskLabels, task_labels

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from anndata import AnnData
    from mudata import MuData


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
        need_heads(self.config_)
        self._validate_anndata(None)
        split = own_split(self.train_indices_, self.validation_indices_, self.adata.n_obs)
        self._fit_labels(self._label_options(arguments, split), split)

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
        need_heads(self.config_, task)
        self._check_if_trained(warn=False)
        if task not in self.labels_fitted_:
            raise ValueError(f"the head for {task!r} is not trained. Call train_labels().")
        adata, rows, _ = self._asked(adata, indices)
        names = self._labels(task, adata).names  # raises an error for new labels
        head, parts = self.module.heads[task], [np.empty((0, len(names)), np.float32)]
        for cells, _ in self._reader(adata).encoded(rows, batch_size):
            parts.append(torch.softmax(head(self.module.head_inputs(cells)), 1).float().cpu().numpy())
        probability = np.concatenate(parts)
        if not soft:
            return names[probability.argmax(1)]
        import pandas as pd

        return pd.DataFrame(probability, index=adata.obs_names[rows], columns=names)

    # ── for other parts of the model ───────────────────────────────────────────────────────────────────────────────

    def _labels(self, task: str, adata: AnnData | None = None) -> TaskLabels:
        """The labels of cells, by default of the model's own."""
        manager = self.get_anndata_manager(self.adata if adata is None else adata, required=True)
        return task_labels(self.registry_, manager, task)

    def _label_options(self, kwargs: dict[str, Any] | None, split: tuple[np.ndarray, ...]) -> LabelOptions | None:
        """Options for fitting the heads; None for an unsupervised model, and for cells without labels."""
        if not self.config_.tasks or self._trainable().frozen:
            if kwargs:
                refuse_labels(self._trainable().frozen)
            return None
        options = options_of(LabelOptions, kwargs, "labels_kwargs")
        found = [with_labels(self._labels(task), split[0], task in self.labels_fitted_) for task in self.config_.tasks]
        return options if any(found) else None

    def _fit_labels(self, options: LabelOptions | None, split: tuple[np.ndarray, ...]) -> None:
        """Fit every head with labels; see :meth:`train_labels`."""
        if options is None:
            return
        labels = [self._labels(task) for task in self.config_.tasks]
        for task, head, outcome in fit_heads(self._reader(self.adata), labels, split, options):
            self.module.heads[task].load_state_dict(head.state_dict())
            if task not in self.labels_fitted_:
                self.labels_fitted_ = [*self.labels_fitted_, task]
            self._add_history({f"{task}_{name}": values for name, values in outcome.history.record.items()})
            if outcome.stopped:
                return
