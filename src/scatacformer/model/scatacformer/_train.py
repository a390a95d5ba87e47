"""``train``: from a fresh model and its cells to weights, through :func:`scatacformer.training.fit`."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scatacformer.cells import SentencePolicy, TrainSentences, nearest_cells
from scatacformer.nn import adapted
from scatacformer.training import CHECKPOINT, CellSplit, FitOptions, fingerprint_of, fit

from ._data import SentenceData, SentenceOptions, digest, split_of
from ._plan import PlanOptions, ScAtacTrainingPlan
from ._start import put_spectral_start
from ._trainable import Trainable
from .paired._fit_pairs import PairedOptions

if TYPE_CHECKING:
    from scatacformer.cells import RowSource
    from scatacformer.nn import ScAtacNetwork

# arguments of `train` that act with tune="heads"
OF_HEADS = {
    "train_size",
    "validation_size",
    "shuffle_set_split",
    "early_stopping",
    "datasplitter_kwargs",
    "labels_kwargs",
}
# those of Lightning's trainer that `fit` has under its own names
OF_FIT = {
    "precision": "precision", "accumulate_grad_batches": "accumulate_grad_batches", "max_steps": "max_steps",
    "gradient_clip_val": "gradient_clip_val", "enable_progress_bar": "progress", "callbacks": "callbacks",
    "early_stopping_monitor": "monitor", "early_stopping_min_delta": "early_stopping_min_delta",
}  # fmt: skip


class TrainingMixin:
    """``train`` of :class:`~scatacformer.ScAtacFormer`."""

    def train(
        self,
        max_epochs: int | None = None,
        accelerator: str = "auto",
        devices: int | list[int] | str = "auto",
        train_size: float | None = None,
        validation_size: float | None = None,
        shuffle_set_split: bool = True,
        batch_size: int = 64,
        early_stopping: bool = True,
        early_stopping_patience: int = 3,
        lr: float = 1e-3,
        weight_decay: float = 1e-4,
        num_workers: int = 0,
        bin_vectors: np.ndarray | None = None,
        checkpoint_dir: str | Path | None = None,
        resume: bool = False,
        sentence_kwargs: dict[str, Any] | None = None,
        plan_kwargs: dict[str, Any] | None = None,
        datasplitter_kwargs: dict[str, Any] | None = None,
        paired_kwargs: dict[str, Any] | None = None,
        labels_kwargs: dict[str, Any] | None = None,
        **trainer_kwargs: Any,
    ) -> None:
        """Train the model, from the cells' own spectral vectors if it was not trained before.

        The first call starts the bin table from the leave-self-out spectral embedding of all cells given (labels are
        not used), trains the decoder alone, then everything, and keeps the weights of the epoch with the lowest
        removed-bin loss of held-out cells. Those cells take no part in the steps, but in the spectral start; for a
        figure on cells that the model has never met, score cells that were not in ``adata``. A later call continues
        from the weights that are there. After :meth:`load_query_data` only what the query added is trained, after
        :meth:`for_fine_tuning` what its ``tune`` says; with ``tune="heads"`` only the arguments of the split and
        ``labels_kwargs`` can act, and others are refused.

        Parameters
        ----------
        max_epochs
            Passes over the cells. Default: 3 of the decoder, then as many as make about 200 steps (1 to 12).
        accelerator, devices
            As in Lightning: ``"auto"``, ``"cpu"``, ``"gpu"``; how many or which.
        train_size, validation_size
            Shares of the cells to train on and to hold out. Default: 0.9 and the rest.
        shuffle_set_split
            Whether the held-out cells are sampled (by the model's seed) or are the last ones.
        batch_size
            Cells in a step.
        early_stopping, early_stopping_patience
            Stop when ``validation_loss`` has not fallen for this many epochs.
        lr, weight_decay
            Peak learning rate of the encoder and its decay.
        num_workers
            Processes that prepare minibatches. The result does not depend on it.
        bin_vectors
            (n_bins, d), to start the bin table from instead of the spectral embedding, such as
            :meth:`scatacformer.model.Atacformer.bin_vectors`: the at most ``d_embed`` directions of them in which the
            cells differ. Bins with NaN do not count in the embedding.
        checkpoint_dir, resume
            Folder that gets ``last.ckpt`` after every epoch; ``resume=True`` continues from it and ends where an
            uninterrupted run would. Ctrl-C ends training, keeps the best weights so far and warns how to resume; a second
            one raises KeyboardInterrupt. SIGTERM writes a checkpoint and ends the process with status 143.
        sentence_kwargs
            How sentences are made: ``max_tokens`` (128), open bins of a cell that the encoder reads in a training step,
            sampled anew in each (all are pooled); ``max_targets`` (512), maximum number of removed bins of a cell that are
            predicted in a step; ``n_closed`` (4096), closed bins that they are distinguished from, sampled by frequency for
            the minibatch, or ``"all"``; ``neighbor_share`` (0.5), share of the cells of a step whose targets are the bins of
            one of their ``n_neighbors`` (10) nearest neighbours among the training cells instead of their own.
        plan_kwargs
            For the training plan: ``embedding_lr`` (0: the embedding stays the spectral one), ``decoder_lr``,
            ``kept_weight``, ``n_decoder_epochs``, ``label_weight`` (0: labels do not move the encoder).
        datasplitter_kwargs
            ``external_indexing``: a list of arrays of row numbers, [train, validation, test].
        paired_kwargs
            Of a model of a MuData: arguments of :meth:`train_pairs`, which follows, on the same cells.
        labels_kwargs
            Of a supervised model: arguments of :meth:`train_labels`, which follows, on the same cells.
        **trainer_kwargs
            For Lightning's trainer: ``precision``, ``accumulate_grad_batches``, ``callbacks``, ...

        Raises
        ------
        ValueError
            Sizes out of range; arguments that cannot act with ``tune="heads"``; ``bin_vectors`` of other bins, or for a model that is trained; no held-out cells with early
            stopping; ``resume`` without a checkpoint, or with a damaged one, or with that of another training (other cells,
            split, seed, rates, ...).
        FloatingPointError
            The loss is not finite; the cells of the step are named.
        KeyboardInterrupt, SystemExit
            See ``checkpoint_dir``.
        """
        given = {name: value for name, value in locals().items() if name != "self"}
        source, trainable = self._source(self.adata), self._trainable(checkpoint_dir, resume)
        trainable.check_query()
        split = self._split(
            source.n_cells, train_size, validation_size, shuffle_set_split, early_stopping, datasplitter_kwargs
        )
        if early_stopping and not len(split.validation):
            raise ValueError("early stopping needs held-out cells: name some, or set early_stopping=False")
        heads = self._label_options(labels_kwargs, split, trainable.frozen)
        if trainable.parts == "heads":
            refuse_without_effect(given, OF_HEADS, "with tune='heads', which trains the heads and nothing else")
            self._fit_labels(heads, split)
            self.train_indices_, self.validation_indices_, self.test_indices_ = split
            return
        pairs = self._paired_options(paired_kwargs, trainable.frozen)
        sentences = SentenceOptions.of(sentence_kwargs)
        refuse_sentence_options(trainer_kwargs)
        if bin_vectors is not None:
            self._check_vectors(bin_vectors, trainable)
        rates = {"lr": lr, "weight_decay": weight_decay} | (plan_kwargs or {})
        plan = ScAtacTrainingPlan(self.module, PlanOptions.of(rates), trainable)
        if plan.label_weight and not trainable.frozen:
            plan.labels = self._label_targets(plan.label_weight, heads, split)
        data = SentenceData(
            source, split, batch_size, num_workers, self.seed_,
            start=partial(self._start_training, plan, source, split, sentences, bin_vectors),
        )  # fmt: skip
        mine = {name: trainer_kwargs.pop(user) for user, name in OF_FIT.items() if user in trainer_kwargs}
        options = FitOptions(
            max_epochs=_default_epochs(len(split.train), batch_size, plan) if max_epochs is None else max_epochs,
            accelerator=accelerator, devices=devices,
            early_stopping_patience=early_stopping_patience if early_stopping else None,
            early_stopping_warmup_epochs=0 if trainable.frozen else plan.options.n_decoder_epochs,
            checkpoint_dir=None if checkpoint_dir is None else Path(checkpoint_dir), resume=resume, seed=self.seed_,
            fingerprint=self._fingerprint(plan, source, split, sentences, batch_size, bin_vectors, mine),
            how_to_resume="train(resume=True)", if_interrupted=_left_undone(pairs, heads), trainer_kwargs=trainer_kwargs,
            **mine,
        )  # fmt: skip
        with self._without_pairs(), adapted(self.module.encoder, trainable.lora, self.seed_):
            outcome = fit(plan, data, options)
        self.history_, self.is_trained_ = outcome.history.frames(), True
        self.train_indices_, self.validation_indices_, self.test_indices_ = split
        if trainable.stage == "untrained":
            self.trainable_ = replace(trainable, stage="trained").to_dict()
        if pairs is not None and not outcome.stopped:
            self._fit_pairs(pairs, split, options.progress)
        if heads is not None and not outcome.stopped:
            self._fit_labels(heads, split)

    def _trainable(self, checkpoint_dir: str | Path | None = None, resume: bool = False) -> Trainable:
        """What the next training changes; that of a resumed training is what it was when it began."""
        trainable = Trainable.of(self.trainable_)
        if trainable.stage == "untrained" and self.is_trained_:
            trainable = replace(trainable, stage="trained")
        path = Path(checkpoint_dir or ".") / CHECKPOINT
        if not resume:
            return trainable
        if checkpoint_dir is None or not path.exists():
            raise ValueError(f"resume=True needs a checkpoint, found none at {path}; name its folder (checkpoint_dir)")
        began = fingerprint_of(path).get("stage")
        both = {trainable.stage, began} == {"trained", "untrained"}
        return replace(trainable, stage=began) if both else trainable

    def _start_training(
        self,
        plan: ScAtacTrainingPlan,
        source: RowSource,
        split: CellSplit,
        sentences: SentenceOptions,
        bin_vectors: np.ndarray | None,
    ) -> tuple[TrainSentences, TrainSentences]:
        """The start of an untrained model, put into the module; what makes sentences of training and held-out cells."""
        policy, neighbors = sentences.policy(self.config_, self.seed_), None
        codes = self._batch_codes(self.adata)
        if plan.trainable.stage == "untrained":
            cells = np.sort(np.concatenate(split[:2]))
            start = put_spectral_start(self.module, source, codes, cells, self.seed_, vectors=bin_vectors)
            if policy.neighbor_share > 0:
                neighbors = nearest_cells(start, split.train, source.n_cells, sentences.n_neighbors)
        self._standardise_heads(plan.labels, split)
        return training_sentences(self.module, source, codes, policy, neighbors)

    def _fingerprint(
        self,
        plan: ScAtacTrainingPlan,
        source: RowSource,
        split: CellSplit,
        sentences: SentenceOptions,
        batch_size: int,
        bin_vectors: np.ndarray | None,
        options: Mapping[str, Any],
    ) -> dict[str, Any]:
        """What a resumed training must have in common with the one before. The number of epochs may grow."""
        trainable = plan.trainable.to_dict()
        same = ("precision", "accumulate_grad_batches", "gradient_clip_val")
        return {
            "cells": source.n_cells,
            "their counts and batches": digest(source.stored_per_cell, self._batch_codes(self.adata)),
            "vocabulary": self.vocabulary_.checksum,
            "split": digest(split.train, split.validation),
            "seed": self.seed_,
            "batch_size": batch_size,
            "network": self.config_.to_dict(),
            "bin_vectors": None if bin_vectors is None else digest(bin_vectors),
            "trainer": {name: options[name] for name in same if options.get(name) is not None},
            **plan.options.to_dict(),
            **sentences.to_dict(),
            **trainable,
        }

    @contextmanager
    def _without_pairs(self) -> Iterator[None]:
        """The module without the network of pairs, which learns elsewhere: an optimizer would let its weights decay."""
        paired, self.module.paired = self.module.paired, None
        try:
            yield
        finally:
            self.module.paired = None if paired is None else paired.to(self.module.device)

    def _split(
        self,
        n_cells: int,
        train_size: float | None,
        validation_size: float | None,
        shuffle: bool,
        early_stopping: bool,
        kwargs: Mapping[str, Any] | None,
    ) -> CellSplit:
        split = split_of(n_cells, train_size, validation_size, shuffle, early_stopping, self.seed_, kwargs)
        if (kwargs or {}).get("external_indexing") is None:
            return split
        return CellSplit(*(self._own_rows(part) for part in split))  # of a MuData they were named in its order

    def _paired_options(self, kwargs: dict[str, Any] | None, frozen: bool) -> PairedOptions | None:
        """How pairs are trained after the ATAC part; None for a model of ATAC alone, and for a frozen query."""
        if kwargs and (self.mdata is None or frozen):
            what = "is a query, which keeps what its reference has learned" if frozen else "was made of an AnnData"
            raise ValueError(f"paired_kwargs is for a model of a MuData; this one {what}")
        if self.mdata is None or frozen:
            return None
        self._need_pairs()
        known = [field.name for field in fields(PairedOptions)]
        if unknown := sorted(set(kwargs or {}) - set(known)):
            raise TypeError(f"paired_kwargs takes {', '.join(known)}; found {', '.join(map(repr, unknown))}")
        return PairedOptions(**(kwargs or {}))

    def _check_vectors(self, vectors: np.ndarray, trainable: Trainable) -> None:
        if trainable.stage != "untrained":
            raise ValueError("bin_vectors are for the start of a model, and this one is trained: its bins have vectors")
        if np.ndim(vectors) != 2 or len(vectors) != self.config_.n_bins:
            raise ValueError(
                f"bin_vectors has shape {np.shape(vectors)}, expected a vector for each of {self.config_.n_bins:,} bins"
            )


def training_sentences(
    module: ScAtacNetwork,
    source: RowSource,
    codes: np.ndarray,
    policy: SentencePolicy,
    neighbors: np.ndarray | None = None,
) -> tuple[TrainSentences, TrainSentences]:
    """What makes sentences of the training cells, and of the held-out ones, which always predict themselves.

    ``codes`` (n_cells,): batch of each cell; ``neighbors`` (n_cells, k): row numbers, None for a policy without.
    """
    group = module.group.cpu().numpy()
    frequency = np.exp(module.log_frequency.detach().cpu().double().numpy())
    alone = replace(policy, neighbor_share=0.0)
    return (
        TrainSentences(source, codes, frequency, group, alone if neighbors is None else policy, neighbors),
        TrainSentences(source, codes, frequency, group, alone),
    )


def refuse_without_effect(given: Mapping[str, Any], act: set[str], when: str) -> None:
    """ValueError for arguments of ``train`` that were given, by another value than their default, and cannot act."""
    defaults = {name: p.default for name, p in inspect.signature(TrainingMixin.train).parameters.items()}
    others = {name: value for name, value in given.items() if name not in act | {"trainer_kwargs"}}
    idle = [name for name, value in others.items() if isinstance(value, np.ndarray) or value != defaults[name]]
    idle += sorted(given["trainer_kwargs"])
    if idle:
        raise ValueError(f"{', '.join(idle)} cannot act {when}; leave them out. These act: {', '.join(sorted(act))}")


def refuse_sentence_options(trainer_kwargs: Mapping[str, Any]) -> None:
    """TypeError for options of sentences that were given as arguments of ``train``."""
    known = [field.name for field in fields(SentenceOptions)]
    if misplaced := [name for name in trainer_kwargs if name in known]:
        example = ", ".join(f"{name!r}: {trainer_kwargs[name]!r}" for name in misplaced)
        raise TypeError(f"train() has no argument {misplaced[0]!r}: train(sentence_kwargs={{{example}}})")


def _left_undone(pairs: Any, heads: Any) -> str:
    undone = ["RNA was not brought in: train_pairs() does that"] if pairs is not None else []
    undone += ["labels were not learned: train_labels() does that"] if heads is not None else []
    return "; ".join(undone)


def _default_epochs(n_train: int, batch_size: int, plan: ScAtacTrainingPlan) -> int:
    if plan.trainable.frozen:
        return 5
    steps = max(n_train // max(batch_size, 1), 1)
    return plan.options.n_decoder_epochs + int(np.clip(round(200 / steps), 1, 12))
