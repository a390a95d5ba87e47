"""``pretrain``, ``train`` and what becomes of an adapter."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any, Literal

from scatacformer.model._arguments import known_arguments, trainer_arguments

from ._adapter import remove_adapter
from ._state import GETState

if TYPE_CHECKING:
    from collections.abc import Sequence


def _more_arguments() -> list[str]:
    from scatacformer.training import FitOptions

    return [*trainer_arguments(), *(field.name for field in fields(FitOptions))]


class TrainingMixin(GETState):
    """What changes the weights of :class:`~scatacformer.GET`."""

    @known_arguments(_more_arguments)
    def pretrain(
        self,
        max_epochs: int = 50,
        *,
        mask_ratio: float = 0.5,
        holdout_chromosomes: str | Sequence[str] | None = None,
        holdout_groups: str | Sequence[str] | None = None,
        batch_size: int = 16,
        lr: float = 1e-3,
        weight_decay: float = 0.05,
        warmup_steps: int | None = None,
        early_stopping: bool | None = None,
        early_stopping_patience: int = 10,
        **trainer_kwargs: Any,
    ) -> None:
        """Learn to fill in masked regions from the others of their window. Needs no expression.

        The loss is the mean squared error of all features of the masked regions, motif scores in units of their scale.

        Parameters
        ----------
        max_epochs
            Passes over all windows.
        mask_ratio
            Share of the regions of a window that are masked, sampled anew in each epoch.
        holdout_chromosomes, holdout_groups
            As in :meth:`train`. Chromosomes that :meth:`train` is to hold out must be held out here as well: the
            network would have seen them otherwise.
        batch_size, lr, weight_decay, warmup_steps, early_stopping_patience
            As in :meth:`train`.
        early_stopping
            Default: where something is held out.
        **trainer_kwargs
            As in :meth:`train`.

        Raises
        ------
        ValueError
            Arguments out of range, or nothing left to train on.
        """
        from ._train import GETOptions, train_model

        if early_stopping is None:
            early_stopping = bool(holdout_chromosomes or holdout_groups)
        options = GETOptions(
            max_epochs, batch_size, lr, weight_decay, warmup_steps, early_stopping_patience if early_stopping else None,
            self.seed_, mask_ratio,
        )  # fmt: skip
        train_model(self, "reconstruction", options, holdout_chromosomes, holdout_groups, None, trainer_kwargs)

    @known_arguments(_more_arguments)
    def train(
        self,
        max_epochs: int = 100,
        *,
        target: Literal["expression", "accessibility"] = "expression",
        holdout_chromosomes: str | Sequence[str] | None = None,
        holdout_groups: str | Sequence[str] | None = None,
        lora: int | None = None,
        batch_size: int = 16,
        lr: float = 1e-3,
        weight_decay: float = 0.05,
        warmup_steps: int | None = None,
        early_stopping: bool = True,
        early_stopping_patience: int = 10,
        **trainer_kwargs: Any,
    ) -> None:
        """Train on the expression or the accessibility of the groups.

        Whole chromosomes and whole groups are held out, before windows are cut: no window of training touches them.
        The weights of the epoch that does best on the held-out regions are kept. ``model.history`` has the losses by
        epoch and ``validation_pearson``, over the held-out regions with a TSS; to compare it with other methods, see
        :meth:`compare_baselines`. ``model.training_`` says what was trained on.

        AdamW; the learning rate rises in a line and falls to zero as a cosine; gradients are clipped to length 1.

        Parameters
        ----------
        max_epochs
            Most passes over all windows; the windows are cut at other places in each.
        target
            ``"expression"``, log10(TPM + 1) of the genes that start in a region on either strand; or
            ``"accessibility"`` from motifs alone, the network's own accessibility column being set to 1.
        holdout_chromosomes, holdout_groups
            Names of what is held out. With both, validation is on unseen groups on unseen chromosomes.
        lora
            Rank of low-rank changes of the region embedding and the encoder, whose own weights then stay as they are;
            the head is trained in full. None: all weights are trained.
        batch_size
            Windows of a step.
        lr
            Highest learning rate.
        weight_decay
            Of the weight matrices.
        warmup_steps
            Steps over which the learning rate rises in a line. Default: a twentieth of all.
        early_stopping
            End when the held-out loss has not fallen for ``early_stopping_patience`` epochs. False: something need not
            be held out.
        early_stopping_patience
            In epochs.
        **trainer_kwargs
            For Lightning's trainer: ``accelerator``, ``devices``, ``precision="bf16-mixed"``, ``callbacks``, ...

        Raises
        ------
        ValueError
            Nothing is held out with early stopping; a name that is not there; nothing left to train or validate on; no
            expression; arguments out of range.
        FloatingPointError
            The loss is not finite.
        """
        from ._train import GETOptions, train_model

        if target not in ("expression", "accessibility"):
            raise ValueError(f"target is {target!r}; expected 'expression' or 'accessibility'.")
        options = GETOptions(
            max_epochs, batch_size, lr, weight_decay, warmup_steps, early_stopping_patience if early_stopping else None,
            self.seed_,
        )  # fmt: skip
        train_model(self, target, options, holdout_chromosomes, holdout_groups, lora, trainer_kwargs)

    def merge_adapter(self) -> None:
        """Add the low-rank changes of ``train(lora=...)`` to the weights for good; predictions stay the same."""
        remove_adapter(self.module, merge=True)

    def remove_adapter(self) -> None:
        """Take the low-rank changes away: the weights are what they were before, but for the head."""
        remove_adapter(self.module, merge=False)
