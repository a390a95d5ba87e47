"""``ScAtacFormer.train``, using :func:`scatacformer.training.fit`."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scatacformer.cells import SentencePolicy, TrainSentences, nearest_cells
from scatacformer.model._arguments import known_arguments, trainer_arguments
from scatacformer.nn import adapted
from scatacformer.training import CHECKPOINT, OF_FIT, CellSplit, digest, fingerprint_of, fit, fit_options

from ._data import SentenceData, SentenceOptions, split_of
from ._fit_labels import label_target, standardise_heads
from ._labels import LabelsMixin
from ._options import options_of
from ._plan import PlanOptions, ScAtacTrainingPlan
from ._start import advise, put_spectral_start
from ._trainable import Trainable
from .paired._fit_pairs import PairedOptions
from .paired._paired import PairedMixin

if TYPE_CHECKING:
    from scatacformer.cells import RowSource
    from scatacformer.nn import LabelTarget, ScAtacNetwork

    from ._fit_labels import LabelOptions
    from ._reader import Reader


logger = logging.getLogger("scatacformer")

# arguments of `train` that have an effect with tune="heads"
OF_HEADS = {
    "train_size",
    "validation_size",
    "shuffle_set_split",
    "early_stopping",
    "datasplitter_kwargs",
    "labels_kwargs",
}
OF_EMBEDDING = {
    "embedding_only",
    "train_size",
    "validation_size",
    "shuffle_set_split",
    "datasplitter_kwargs",
    "bin_vectors",
}
# arguments of Lightning's trainer that have other names in `fit`


def _more_arguments() -> list[str]:
    # those of sentences have an error of their own
    return [*trainer_arguments(), *OF_FIT, *(field.name for field in fields(SentenceOptions))]


class TrainingMixin(LabelsMixin, PairedMixin):
    """``train`` of :class:`~scatacformer.ScAtacFormer`."""

    @known_arguments(_more_arguments)
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
        embedding_only: bool = False,
        **trainer_kwargs: Any,
    ) -> None:
        """Train the model, starting from the spectral embedding of the cells if it has not been trained before.

        The first call initialises the bin table from the leave-self-out spectral embedding of all cells (labels are not
        used), trains first the decoder and then all weights, and keeps the weights of the epoch with the lowest
        removed-bin loss of the held-out cells. These cells are not used in training steps, but in the spectral
        initialisation; to evaluate on unseen cells, use cells that were not in ``adata``. A later call continues
        from the current weights. After :meth:`load_query_data` only what the query added is trained, after
        :meth:`for_fine_tuning` what its ``tune`` says; with ``tune="heads"`` only the arguments of the split and
        ``labels_kwargs`` have an effect, and others raise an error.

        Parameters
        ----------
        max_epochs
            Number of epochs. Default: 3 for the decoder, then about 200 steps (1 to 12 epochs).
        accelerator, devices
            As in Lightning: ``"auto"``, ``"cpu"``, ``"gpu"``; number or list of devices.
        train_size, validation_size
            Shares of training and held-out cells. Default: 0.9 and the remaining cells.
        shuffle_set_split
            Whether the held-out cells are sampled (by the model's seed) or are the last ones.
        batch_size
            Number of cells per step.
        early_stopping, early_stopping_patience
            Stop when ``validation_loss`` has not fallen for this many epochs.
        lr, weight_decay
            Peak learning rate of the encoder and its decay.
        num_workers
            Processes that prepare minibatches. The result does not depend on it.
        bin_vectors
            (n_bins, d), to initialise the bin table instead of the spectral embedding, such as
            :meth:`scatacformer.model.Atacformer.bin_vectors`: the at most ``d_embed`` directions in which the cells
            differ are used. Bins with NaN are ignored in the embedding.
        checkpoint_dir, resume
            Folder that gets ``last.ckpt`` after every epoch; ``resume=True`` continues from it and ends where an
            uninterrupted run would. Ctrl-C ends training, keeps the best weights so far and warns how to resume; a
            second one raises KeyboardInterrupt. SIGTERM writes a checkpoint and ends the process with status 143.
        sentence_kwargs
            How sentences are made: ``max_tokens`` (128), open bins of a cell that the encoder reads in a training step,
            sampled anew in each (all are pooled); ``max_targets`` (512), maximum number of removed bins of a cell that
            are predicted in a step; ``n_closed`` (4096), closed bins that they are distinguished from, sampled by
            frequency for the minibatch, or ``"all"``; ``neighbor_share`` (0.5), share of the cells of a step whose
            targets are the bins of one of their ``n_neighbors`` (10) nearest neighbours among the training cells
            instead of their own.
        plan_kwargs
            For the training plan: ``embedding_lr`` (0: the embedding stays the spectral one), ``decoder_lr``,
            ``kept_weight``, ``n_decoder_epochs``, ``label_weight`` (0: labels do not move the encoder).
        datasplitter_kwargs
            ``external_indexing``: a list of arrays of row numbers, [train, validation, test].
        paired_kwargs
            For a model of a MuData: arguments of :meth:`train_pairs`, which follows on the same cells.
        labels_kwargs
            For a supervised model: arguments of :meth:`train_labels`, which follows on the same cells.
        embedding_only
            Fit only the spectral embedding, which takes seconds, and train no network: :meth:`get_latent_representation`
            and :meth:`load_query_data` can be used afterwards, but not the predicted accessibility, labels and RNA. A
            later call without it trains the rest and keeps the embedding, for the same cells and ``bin_vectors``. Of
            the other arguments, only those of the split and ``bin_vectors`` have an effect; others raise an error.
        **trainer_kwargs
            For Lightning's trainer: ``precision``, ``accumulate_grad_batches``, ``callbacks``, ...

        Raises
        ------
        ValueError
            Sizes out of range; arguments that cannot act with ``tune="heads"``; ``bin_vectors`` of other bins, or for a
            model that is trained; ``embedding_only`` for such a model; no held-out cells with early stopping; ``resume``
            without a checkpoint, or with a damaged one, or with that of another training (other cells, split, seed,
            rates, ...).
        FloatingPointError
            The loss is not finite; the error lists the cells of the step.
        KeyboardInterrupt, SystemExit
            See ``checkpoint_dir``.
        """
        given = {name: value for name, value in locals().items() if name != "self"}
        reader, trainable = self._reader(self.adata), self._next_training(resume, checkpoint_dir)
        split = split_of(
            reader.source.n_cells, train_size, validation_size, shuffle_set_split, early_stopping, self.seed_,
            datasplitter_kwargs, self._own_rows,
        )  # fmt: skip
        if bin_vectors is not None:
            check_vectors(bin_vectors, trainable, self.config_.n_bins)
        if embedding_only:
            refuse_without_effect(given, OF_EMBEDDING, "with embedding_only=True, which trains no network")
            self._embed_only(reader, split, bin_vectors, trainable)
            return
        if early_stopping and not len(split.validation):
            raise ValueError(
                "there are no held-out cells; expected some for early stopping. Hold out cells, or set early_stopping=False."
            )
        heads = self._label_options(labels_kwargs, split)
        if trainable.parts == "heads":
            refuse_without_effect(given, OF_HEADS, "with tune='heads', which trains only the heads")
            self._fit_labels(heads, split)
            self.train_indices_, self.validation_indices_, self.test_indices_ = split
            return
        pairs = self._paired_options(paired_kwargs, trainable.frozen)
        sentences = options_of(SentenceOptions, sentence_kwargs, "sentence_kwargs")
        refuse_sentence_options(trainer_kwargs)
        rates = options_of(PlanOptions, {"lr": lr, "weight_decay": weight_decay} | (plan_kwargs or {}), "plan_kwargs")
        plan = ScAtacTrainingPlan(self.module, rates, trainable)
        if plan.label_weight and not trainable.frozen:
            plan.labels = self._label_targets(plan.label_weight, heads, split)
        start = partial(start_training, plan, reader, split, sentences, bin_vectors)
        data = SentenceData(reader.source, split, batch_size, num_workers, self.seed_, start)
        options = fit_options(
            trainer_kwargs, max_epochs=_default_epochs(len(split.train), batch_size, plan) if max_epochs is None else max_epochs,
            accelerator=accelerator, devices=devices, seed=self.seed_,
            early_stopping_patience=early_stopping_patience if early_stopping else None,
            early_stopping_warmup_epochs=0 if trainable.frozen else rates.n_decoder_epochs,
            checkpoint_dir=None if checkpoint_dir is None else Path(checkpoint_dir), resume=resume,
            fingerprint=fingerprint(plan, reader, split, sentences, bin_vectors, trainer_kwargs)
            | {"vocabulary": self.vocabulary_.checksum, "batch_size": batch_size},
            if_interrupted=_left_undone(pairs, heads),
        )  # fmt: skip
        with adapted(self.module.encoder, trainable.lora, self.seed_):
            outcome = fit(plan, data, options)
        self.to_device(self.module.device)  # the network of pairs follows
        self.history_, self.is_trained_, self.embedding_only_ = outcome.history.frames(), True, False
        self._decoder_epochs = 0 if trainable.frozen else rates.n_decoder_epochs  # for the plot of the losses
        self.train_indices_, self.validation_indices_, self.test_indices_ = split
        if trainable.stage == "untrained":
            self.trainable_ = replace(trainable, stage="trained").to_dict()
        if pairs is not None and not outcome.stopped:
            self._fit_pairs(pairs, split, options.progress)
        if heads is not None and not outcome.stopped:
            self._fit_labels(heads, split)

    def _next_training(self, resume: bool, checkpoint_dir: str | Path | None) -> Trainable:
        """The parameters that this training changes; ValueError if there is nothing to train."""
        trainable = next_training(self._trainable(), self.is_trained_ and not self.embedding_only_)
        if resume:
            trainable = as_begun(trainable, checkpoint_dir)
        trainable.check_query()
        if trainable.frozen:
            self._check_decoder()
        return trainable

    def _embed_only(
        self, reader: Reader, split: CellSplit, bin_vectors: np.ndarray | None, trainable: Trainable
    ) -> None:
        """Fit the embedding, and say what was not trained."""
        if trainable.stage != "untrained":
            raise ValueError(
                "embedding_only is for an untrained model, but this one has an embedding that was trained or comes from a "
                "reference. Call get_latent_representation(), or train() without embedding_only."
            )
        cells = np.sort(np.concatenate(split[:2]))
        start = put_spectral_start(
            self.module, reader.source, reader.batch_codes, cells, self.seed_, vectors=bin_vectors
        )
        advise(start.n_dims, len(cells), learned=False)
        self.is_trained_ = self.embedding_only_ = True
        self.train_indices_, self.validation_indices_, self.test_indices_ = split
        self.module.eval()
        others = [what for what, there in (("labels", self.config_.tasks), ("RNA", self.mdata is not None)) if there]
        logger.info(
            "fitted: the embedding (%d dimensions, %d cells). Not trained: the encoder and the decoder, which predict %s; "
            "call train() for these",
            start.n_dims,
            len(cells),
            ", ".join(["accessibility", *others]),
        )

    def _label_targets(
        self, weights: dict[str, float], options: LabelOptions | None, split: CellSplit
    ) -> dict[str, LabelTarget]:
        """The labels of the training cells, for a joint training."""
        if options is None:
            raise ValueError(
                "label_weight is given, but none of the training cells has a label. Label some, or leave it out."
            )
        return {task: label_target(self._labels(task), w, options, split.train) for task, w in weights.items()}

    def _paired_options(self, kwargs: dict[str, Any] | None, frozen: bool) -> PairedOptions | None:
        """Options for training pairs after the ATAC part; None for a model of ATAC alone, and for a frozen query."""
        if self.mdata is not None and not frozen:
            self._need_pairs()
            return options_of(PairedOptions, kwargs, "paired_kwargs")
        if kwargs:
            what = "is a query, whose weights are those of its reference" if frozen else "was made of an AnnData"
            raise ValueError(f"paired_kwargs is for a model of a MuData, but this one {what}. Leave it out.")
        return None


def next_training(trainable: Trainable, is_trained: bool) -> Trainable:
    """What a training changes that is not resumed: a trained model is not initialised again."""
    return replace(trainable, stage="trained") if trainable.stage == "untrained" and is_trained else trainable


def as_begun(trainable: Trainable, checkpoint_dir: str | Path | None) -> Trainable:
    """What a resumed training changes: as when it began, which the checkpoint says. ValueError without one."""
    path = Path(checkpoint_dir or ".") / CHECKPOINT
    if checkpoint_dir is None or not path.exists():
        raise ValueError(f"resume=True needs a checkpoint, found none at {path}; name its folder (checkpoint_dir).")
    began = fingerprint_of(path).get("stage")
    if trainable.stage == "trained" and began == "untrained":
        return replace(trainable, stage="untrained")
    if trainable.stage == "untrained" and began == "trained":
        return replace(trainable, stage="trained")
    return trainable


def start_training(
    plan: ScAtacTrainingPlan,
    reader: Reader,
    split: CellSplit,
    sentences: SentenceOptions,
    bin_vectors: np.ndarray | None,
) -> tuple[TrainSentences, TrainSentences]:
    """Initialise an untrained network; returns the collate functions of training and held-out cells."""
    network, source, codes = plan.module, reader.source, reader.batch_codes
    policy, neighbors = sentences.policy(network.config, reader.seed), None
    if plan.trainable.stage == "untrained":
        cells = np.sort(np.concatenate(split[:2]))
        start = put_spectral_start(network, source, codes, cells, reader.seed, vectors=bin_vectors)
        advise(start.n_dims, len(cells))
        if policy.neighbor_share > 0:
            neighbors = nearest_cells(start, split.train, source.n_cells, sentences.n_neighbors)
    standardise_heads(reader, list(plan.labels), split.train)
    return training_sentences(network, source, codes, policy, neighbors)


def fingerprint(
    plan: ScAtacTrainingPlan,
    reader: Reader,
    split: CellSplit,
    sentences: SentenceOptions,
    bin_vectors: np.ndarray | None,
    trainer_kwargs: Mapping[str, Any],
) -> dict[str, Any]:
    """Settings that a resumed training must share with the one before. The number of epochs may increase."""
    same = ("precision", "accumulate_grad_batches", "gradient_clip_val")
    return {
        "cells": reader.source.n_cells,
        "their counts and batches": digest(reader.source.stored_per_cell, reader.batch_codes),
        "split": digest(split.train, split.validation),
        "seed": reader.seed,
        "network": reader.network.config.to_dict(),
        "bin_vectors": None if bin_vectors is None else digest(bin_vectors),
        "trainer": {name: trainer_kwargs[name] for name in same if trainer_kwargs.get(name) is not None},
        **plan.options.to_dict(),
        **sentences.to_dict(),
        **plan.trainable.to_dict(),
    }


def check_vectors(vectors: np.ndarray, trainable: Trainable, n_bins: int) -> None:
    """ValueError for ``bin_vectors`` of other bins, or for a model that is trained."""
    if trainable.stage != "untrained":
        raise ValueError("bin_vectors initialise an untrained model, but this one is trained. Leave them out.")
    if np.ndim(vectors) != 2 or len(vectors) != n_bins:
        raise ValueError(f"bin_vectors has shape {np.shape(vectors)}, expected a vector for each of {n_bins:,} bins.")


def training_sentences(
    module: ScAtacNetwork,
    source: RowSource,
    codes: np.ndarray,
    policy: SentencePolicy,
    neighbors: np.ndarray | None = None,
) -> tuple[TrainSentences, TrainSentences]:
    """Collate functions of the training cells and of the held-out ones, whose targets are always their own bins.

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
    """ValueError for arguments of ``train`` that differ from their defaults but have no effect."""
    defaults = {name: p.default for name, p in inspect.signature(TrainingMixin.train).parameters.items()}
    others = {name: value for name, value in given.items() if name not in act | {"trainer_kwargs"}}
    idle = [name for name, value in others.items() if isinstance(value, np.ndarray) or value != defaults[name]]
    idle += sorted(given["trainer_kwargs"])
    if idle:
        raise ValueError(
            f"{', '.join(idle)} have no effect {when}. Leave them out; the arguments with an effect are {', '.join(sorted(act))}."
        )


def refuse_sentence_options(trainer_kwargs: Mapping[str, Any]) -> None:
    """TypeError for options of sentences that were given as arguments of ``train``."""
    known = [field.name for field in fields(SentenceOptions)]
    if misplaced := [name for name in trainer_kwargs if name in known]:
        example = ", ".join(f"{name!r}: {trainer_kwargs[name]!r}" for name in misplaced)
        raise TypeError(f"train() has no argument {misplaced[0]!r}: train(sentence_kwargs={{{example}}}).")


def _left_undone(pairs: Any, heads: Any) -> str:
    undone = ["RNA has not been trained; call train_pairs()"] if pairs is not None else []
    undone += ["labels have not been trained; call train_labels()"] if heads is not None else []
    return "; ".join(undone)


def _default_epochs(n_train: int, batch_size: int, plan: ScAtacTrainingPlan) -> int:
    if plan.trainable.frozen:
        return 5
    steps = max(n_train // max(batch_size, 1), 1)
    return plan.options.n_decoder_epochs + int(np.clip(round(200 / steps), 1, 12))
