"""``train``: from a fresh model and its cells to weights, through Lightning."""

from __future__ import annotations

import inspect
import logging
import warnings
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl
import numpy as np
from scvi.train import Trainer, TrainRunner

from scatacformer.cells import SentenceLoader, SentencePolicy, TrainSentences, nearest_cells
from scatacformer.nn import LoraPlan, adapted
from scatacformer.training import BestWeights, GracefulInterrupt, LastCheckpoint, Progress, split_cells

from ._plan import SentencePlan
from ._start import put_spectral_start
from .paired._fit_pairs import PairedPlan

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scatacformer.cells import RowSource, SpectralStart

logger = logging.getLogger("scatacformer")


class SentenceData(pl.LightningDataModule):
    """The loaders of a training: seeded sentences of the training cells, the same ones of the held-out cells always."""

    def __init__(
        self, source: RowSource, split: tuple[np.ndarray, ...], batch_size: int, num_workers: int, seed: int
    ) -> None:
        super().__init__()
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, found {batch_size}")
        self.source = source
        self.sentences: tuple[TrainSentences, TrainSentences] | None = None  # training, validation: before fitting
        self.train_idx, self.val_idx, self.test_idx = split
        self.n_train, self.n_val = len(self.train_idx), len(self.val_idx)
        self.batch_size, self.num_workers, self.seed = batch_size, num_workers, seed

    def train_dataloader(self) -> SentenceLoader:
        return self._loader(self.train_idx, 0, shuffle=True)

    def val_dataloader(self) -> SentenceLoader | list:
        # no cells held out: no validation, not a loader of nothing
        return self._loader(self.val_idx, 1, shuffle=False) if self.n_val else []

    def _loader(self, cells: np.ndarray, which: int, shuffle: bool) -> SentenceLoader:
        assert self.sentences is not None
        return SentenceLoader(
            self.source, cells, self.batch_size, shuffle=shuffle, seed=self.seed, collate=self.sentences[which],
            num_workers=self.num_workers,
        )  # fmt: skip


class _Trainer(Trainer):
    """scvi-tools' trainer, that opens a checkpoint as numbers and never as code."""

    def fit(self, *args: Any, **kwargs: Any) -> None:
        if "weights_only" in inspect.signature(pl.Trainer.fit).parameters:  # Lightning 2.6
            kwargs["weights_only"] = True
        super().fit(*args, **kwargs)


class _Runner(TrainRunner):
    _trainer_cls = _Trainer


@contextmanager
def quiet(name: str) -> Iterator[None]:
    """A logger that only warns, for a while: Lightning advertises and repeats what it was told."""
    log = logging.getLogger(name)
    level = log.level
    log.setLevel(logging.WARNING)
    try:
        yield
    finally:
        log.setLevel(level)


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
        max_tokens: int = 128,
        max_targets: int = 512,
        n_closed: int | None = 4096,
        neighbor_share: float = 0.5,
        n_neighbors: int = 10,
        num_workers: int = 0,
        bin_vectors: np.ndarray | None = None,
        checkpoint_dir: str | Path | None = None,
        resume: bool = False,
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
        figure on cells that the model has never met, score cells that were not in ``adata``. A later call goes on
        from the weights that are there. After :meth:`load_query_data` only what the query added is trained, after
        :meth:`for_fine_tuning` what its ``tune`` says; with ``tune="heads"`` of the arguments only those of the split and
        ``labels_kwargs`` count.

        Parameters
        ----------
        max_epochs
            Passes over the cells. Default: 3 of the decoder, then as many as make about 200 steps (1 to 12).
        accelerator, devices
            As in Lightning: ``"auto"``, ``"cpu"``, ``"gpu"``; how many or which.
        train_size, validation_size
            Shares of the cells to train on and to hold out. Default: 0.9 and the rest.
        shuffle_set_split
            Whether the held-out cells are drawn at random (by the model's seed) or are the last ones.
        batch_size
            Cells in a step.
        early_stopping, early_stopping_patience
            Stop when ``validation_loss`` has not fallen for so many epochs.
        lr, weight_decay
            Peak learning rate of the encoder and its decay.
        max_tokens
            Open bins of a cell that the encoder reads in a training step, drawn anew in each; all are pooled.
        max_targets
            Removed bins of a cell that are predicted in a step.
        n_closed
            Closed bins that they are told from, drawn by frequency, shared by the minibatch. None: all closed bins.
        neighbor_share, n_neighbors
            Share of the cells of a step whose target are the bins of one of their nearest neighbours (among the
            training cells) instead of their own.
        num_workers
            Processes that prepare minibatches. The result does not depend on it.
        bin_vectors
            (n_bins, d), to start the bin table from instead of the spectral embedding, such as
            :meth:`scatacformer.model.Atacformer.bin_vectors`: the at most ``d_embed`` directions of them in which the
            cells differ. Bins with NaN do not count in the embedding.
        checkpoint_dir, resume
            Folder that gets ``last.ckpt`` after every epoch; ``resume=True`` goes on from it and ends where an
            uninterrupted run would.
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
            Sizes out of range; ``bin_vectors`` of other bins, or for a model that is trained; no held-out cells with early
            stopping; ``resume`` without a checkpoint.
        FloatingPointError
            The loss is not finite; the cells of the step are named.
        """
        source = self._source(self.adata)
        split = self._split(
            source.n_cells, train_size, validation_size, shuffle_set_split, early_stopping, datasplitter_kwargs
        )
        if early_stopping and not len(split[1]):
            raise ValueError("early stopping needs held-out cells: name some, or set early_stopping=False")
        checkpoint = self._checkpoint(checkpoint_dir, resume)
        query = self.frozen_
        if query and not self.query_batches_:
            raise ValueError(
                "nothing to train: adata has no batch that is new to the frozen reference. The model embeds as it is; "
                "to train everything on, load_query_data(..., unfrozen=True)"
            )
        pairs = self._paired_plan(paired_kwargs, query)
        heads = self._label_plan(labels_kwargs, split, query)
        lora = LoraPlan.of(self.lora_) if self.tuned_ == "lora" else None
        if bin_vectors is not None:
            self._check_vectors(bin_vectors, checkpoint, query)
        if n_neighbors < 1:
            raise ValueError(f"n_neighbors must be at least 1, found {n_neighbors}")
        policy = SentencePolicy(
            max_tokens=min(max_tokens, self.config_.max_tokens), removed_share=self.config_.removed_share,
            max_targets=max_targets, n_closed=n_closed, neighbor_share=neighbor_share, seed=self.seed_,
        )  # fmt: skip
        data = SentenceData(source, split, batch_size, num_workers, self.seed_)
        plan_kwargs = {"lr": lr, "weight_decay": weight_decay} | (plan_kwargs or {})
        plan = SentencePlan(
            self.module, new_batches=self.query_batches_ if query else None, adapters_only=lora is not None,
            **plan_kwargs,
        )  # fmt: skip
        if plan.label_weight and not query:
            plan.labels = self._label_targets(plan.label_weight, heads, split)
        if self.tuned_ == "heads":
            self.train_indices_, self.validation_indices_, self.test_indices_ = split
            self._fit_labels(heads, split)
            return
        if max_epochs is None:
            max_epochs = _default_epochs(data.n_train, batch_size, plan)
        interrupt = GracefulInterrupt()
        defaults = {
            "early_stopping": early_stopping, "early_stopping_patience": early_stopping_patience,
            "early_stopping_warmup_epochs": 0 if query else plan.n_decoder_epochs, "ckpt_path": checkpoint,
            "max_epochs": max_epochs, "accelerator": accelerator, "devices": devices,
        }  # fmt: skip
        runner = self._runner(plan, data, interrupt, checkpoint_dir, defaults, trainer_kwargs)
        # every argument has been looked at: from here on the weights change
        neighbors = None
        if not query and not self.tuned_ and (checkpoint is not None or not self.is_trained_):
            start = self._spectral_start(source, split, bin_vectors)
            if neighbor_share > 0:
                neighbors = nearest_cells(start, split[0], source.n_cells, n_neighbors)
            del start  # its table is in the module
        if neighbors is None:
            policy = replace(policy, neighbor_share=0.0)
        data.sentences = self._sentences(source, policy, neighbors)
        self._standardise_heads(plan.labels, split)
        self._run(runner, lora)
        self.history_ = plan.history()
        self.module.requires_grad_(True)
        self.module.eval()
        if pairs is not None and not interrupt.asked:
            self._fit_pairs(pairs, split, trainer_kwargs.get("enable_progress_bar", True))
        if heads is not None and not interrupt.asked:
            self._fit_labels(heads, split)
        if interrupt.asked:
            warnings.warn(
                f"training was stopped by Ctrl-C in epoch {plan.current_epoch} of {max_epochs}; the model has the best "
                "weights so far"
                + (" and train(resume=True) goes on" if checkpoint_dir is not None else "")
                + ("; RNA was not brought in: train_pairs() does that" if pairs is not None else "")
                + ("; labels were not learned: train_labels() does that" if heads is not None else ""),
                UserWarning,
                stacklevel=2,
            )

    def _runner(
        self,
        plan: SentencePlan,
        data: SentenceData,
        interrupt: GracefulInterrupt,
        checkpoint_dir: str | Path | None,
        defaults: dict[str, Any],
        trainer_kwargs: dict[str, Any],
    ) -> _Runner:
        """What takes the steps; the user's ``trainer_kwargs`` come before the defaults, and his callbacks before ours."""
        callbacks = [*trainer_kwargs.pop("callbacks", []), interrupt, BestWeights(fixed=plan.fixed)]
        if trainer_kwargs.get("enable_progress_bar", True):
            callbacks.append(Progress())
        defaults = defaults | {
            "early_stopping_monitor": "validation_loss", "check_val_every_n_epoch": 1, "simple_progress_bar": False,
            "benchmark": False, "gradient_clip_val": None,
            # the loader is no DataLoader that Lightning could wrap; it is deterministic by itself
            "use_distributed_sampler": False,
        }  # fmt: skip
        with quiet("lightning.pytorch.utilities.rank_zero"):
            runner = _Runner(
                self, training_plan=plan, data_splitter=data, callbacks=callbacks, **(defaults | trainer_kwargs)
            )
        if runner.trainer.world_size > 1:
            raise ValueError(f"training runs on one device, found {runner.trainer.world_size}; set devices=1")
        if checkpoint_dir is not None:
            Path(checkpoint_dir).mkdir(parents=True, exist_ok=True)
            # last, so that it sees what early stopping has counted; scvi-tools' trainer takes its own checkpoints alone
            runner.trainer.callbacks.append(LastCheckpoint(checkpoint_dir))
        return runner

    def _run(self, runner: _Runner, lora: LoraPlan | None) -> None:
        with warnings.catch_warnings(), quiet("lightning.pytorch.utilities.rank_zero"):
            for message in (
                "The '.*_dataloader' does not have many workers",
                "The number of training batches",
                "Training history cannot be updated",  # scvi-tools' own history; ours is the plan's
            ):
                warnings.filterwarnings("ignore", message=message)
            # it learns elsewhere; an optimizer would let its weights decay, and a checkpoint would not fit without it
            paired, self.module.paired = self.module.paired, None
            try:
                with adapted(self.module.encoder, lora, self.seed_):
                    runner()
            finally:
                self.module.paired = paired

    def _split(self, n_cells, train_size, validation_size, shuffle, early_stopping, kwargs) -> tuple[np.ndarray, ...]:
        kwargs = dict(kwargs or {})
        external = kwargs.pop("external_indexing", None)
        if kwargs:
            raise TypeError(f"datasplitter_kwargs takes external_indexing alone, found {sorted(kwargs)}")
        if external is not None:
            parts = [np.asarray(p, dtype=np.int64) for p in external] + [np.empty(0, np.int64)] * (3 - len(external))
            together = np.concatenate(parts)
            inside = (together >= 0) & (together < n_cells)
            if len(np.unique(together)) != len(together) or not inside.all():
                raise ValueError(f"external_indexing takes row numbers from 0 to {n_cells - 1:,}, each at most once")
            return tuple(self._own_rows(part) for part in parts)
        return split_cells(n_cells, train_size, validation_size, self.seed_, shuffle, need_validation=early_stopping)

    def _paired_plan(self, kwargs: dict[str, Any] | None, frozen: bool) -> PairedPlan | None:
        """How pairs are trained after the ATAC part; None for a model of ATAC alone, and for a frozen query."""
        if kwargs and (self.mdata is None or frozen):
            what = "is a query, which keeps what its reference has learned" if frozen else "was made of an AnnData"
            raise ValueError(f"paired_kwargs is for a model of a MuData; this one {what}")
        if self.mdata is None or frozen:
            return None
        self._need_pairs()
        known = [field.name for field in fields(PairedPlan)]
        if unknown := sorted(set(kwargs or {}) - set(known)):
            raise TypeError(f"paired_kwargs takes {', '.join(known)}; found {', '.join(map(repr, unknown))}")
        return PairedPlan(**(kwargs or {}))

    def _checkpoint(self, folder: str | Path | None, resume: bool) -> str | None:
        if not resume:
            return None
        path = Path(folder or ".") / "last.ckpt"
        if folder is None or not path.exists():
            raise ValueError(f"resume=True needs a checkpoint, found none at {path}; name its folder (checkpoint_dir)")
        return str(path)

    def _check_vectors(self, vectors: np.ndarray, checkpoint: str | None, query: bool) -> None:
        if query or (checkpoint is None and self.is_trained_):
            raise ValueError("bin_vectors are for the start of a model, and this one is trained: its bins have vectors")
        if np.ndim(vectors) != 2 or len(vectors) != self.config_.n_bins:
            raise ValueError(
                f"bin_vectors has shape {np.shape(vectors)}, expected a vector for each of {self.config_.n_bins:,} bins"
            )

    def _spectral_start(
        self, source: RowSource, split: tuple[np.ndarray, ...], bin_vectors: np.ndarray | None = None
    ) -> SpectralStart:
        """Fits the start on the training and held-out cells, spectral or by given vectors; puts it into the module."""
        cells = np.sort(np.concatenate(split[:2]))
        return put_spectral_start(
            self.module, source, self._batch_codes(self.adata), cells, self.seed_, vectors=bin_vectors
        )

    def _sentences(
        self,
        source: RowSource,
        policy: SentencePolicy,
        neighbors: np.ndarray | None,
        codes: np.ndarray | None = None,
    ) -> tuple[TrainSentences, TrainSentences]:
        """What is drawn of the training cells, and of the held-out ones, which are always asked about themselves."""
        group = self.module.group.cpu().numpy()
        frequency = np.exp(self.module.log_frequency.detach().cpu().double().numpy())
        codes = self._batch_codes(self.adata) if codes is None else codes
        alone = replace(policy, neighbor_share=0.0)
        return (
            TrainSentences(source, codes, frequency, group, policy, neighbors),
            TrainSentences(source, codes, frequency, group, alone),
        )


def _default_epochs(n_train: int, batch_size: int, plan: SentencePlan) -> int:
    if plan.bias_only:
        return 5
    steps = max(n_train // batch_size, 1)
    return plan.n_decoder_epochs + int(np.clip(round(200 / steps), 1, 12))
