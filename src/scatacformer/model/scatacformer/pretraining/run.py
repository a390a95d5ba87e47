"""``pretrain``: from many cells to a saved model. What is ours is the plan and the data; Lightning runs them."""

from __future__ import annotations

import logging
import warnings
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anndata as ad
import lightning.pytorch as pl
import numpy as np
import pandas as pd
import scipy.sparse as sp

from scatacformer.cells import SentenceLoader, SentencePolicy
from scatacformer.model.scatacformer._model import ScAtacFormer
from scatacformer.model.scatacformer._start import put_frequencies, put_spectral_start
from scatacformer.model.scatacformer._train import quiet
from scatacformer.training import GracefulInterrupt, Progress, ShardedEncoder

from .cells import PretrainCells, read_cells
from .config import FREE, PretrainConfig
from .files import BestOnDisk, RunFiles, StepCheckpoint, read_weights, write_weights
from .plan import PretrainPlan

if TYPE_CHECKING:
    from anndata import AnnData

logger = logging.getLogger("scatacformer")


def pretrain(
    data: AnnData | Any | str | Path, output: str | Path, resume: bool = False, **settings: Any
) -> ScAtacFormer:
    """Pretrain a model on a corpus, or on one AnnData, and save it.

    The folder ``output`` is a saved model when this ends: ``ScAtacFormer.load(output, adata)``,
    ``ScAtacFormer.load_query_data(adata, output)`` and ``ScAtacFormer.for_fine_tuning(adata, output)`` read it. It has the
    weights of the lowest ``validation_loss``, or the last ones without held-out cells; the last ones are in
    ``output/last``, and what the run needs to go on, with its metrics, in ``output/training``.

    The same command on several devices or nodes trains the same model as one process with as many cells in a minibatch,
    to rounding: started by ``torchrun``, by SLURM, or by Lightning itself where ``devices`` is more than one.

    Parameters
    ----------
    data
        A :class:`~scatacformer.Corpus`, its folder, an AnnData of raw counts, in memory or backed, or an ``.h5ad`` file,
        which is then read from disk.
    output
        Folder for the model. Several nodes must see the same one.
    resume
        Go on from the last checkpoint in ``output``, in the middle of an epoch too, to where an uninterrupted run would
        end; begin if there is none yet. The settings must be the same, but for those of the machine.
    **settings
        The fields of :class:`~scatacformer.model.PretrainConfig`: ``model={"size": "base"}``, ``batch_size=256``, ...

    Returns
    -------
    The pretrained model, without data.

    Raises
    ------
    TypeError
        A setting that there is not; the nearest that there is is named.
    ValueError
        Cells that cannot be trained on, settings out of range, an ``output`` that holds something else, or a run of other
        settings.
    FloatingPointError
        The loss is not finite; the cells of the minibatch are named.
    RuntimeError
        Another process of the training has ended or stands still.
    KeyboardInterrupt
        After Ctrl-C, once a checkpoint is written; ``resume=True`` goes on from it.
    """
    config = PretrainConfig.of(settings)
    loggers = _loggers(config, Path(output) / "training")
    cells = read_cells(data, config)
    if cells.classes is not None:  # known from here on: a run that is resumed must have the same
        config = replace(config, model=config.model | {"region_classes": cells.classes})
    split = cells.split(config.validation, config.seed)
    model = _model(cells, config)
    model.train_indices_, model.validation_indices_ = split
    files = RunFiles(Path(output))
    plan = PretrainPlan(model.module, config, cells.name)
    run = _Run(model, cells, split, config, files, plan)
    interrupt, checkpoint = GracefulInterrupt(together=True), StepCheckpoint(files.checkpoint, config.every_n_steps)
    callbacks: list[pl.Callback] = [interrupt, BestOnDisk(files.best), checkpoint]
    if config.progress:
        callbacks.append(Progress())
    with quiet("lightning.pytorch.utilities.rank_zero"):
        trainer = _trainer(config, loggers, callbacks, has_validation=len(split[1]) > 0)
    ckpt_path = _checkpoint_to_resume(
        files, resume, _fingerprint(config, cells, trainer.world_size), trainer.is_global_zero
    )
    with warnings.catch_warnings():
        for message in (
            "The '.*_dataloader' does not have many workers",
            "The number of training batches",
            "Found .*eval",
            "Total length of `list` across ranks is zero",  # no held-out cells
            "It is recommended to use .self.log",  # sync_dist: the loss is that of all processes already
            "`isinstance.treespec",  # Lightning's own
        ):
            warnings.filterwarnings("ignore", message=message)
        try:
            with quiet("lightning.pytorch.utilities.rank_zero"):
                trainer.fit(plan, datamodule=run, ckpt_path=ckpt_path, weights_only=True)  # numbers, never code
        except RuntimeError as error:
            if trainer.world_size == 1 or not _of_communication(error):
                raise
            raise RuntimeError(
                f"process {trainer.global_rank} of {trainer.world_size} lost the others: one of them has ended, and says "
                f"why in its own output, or stood still for {config.timeout:g} s ({type(error).__name__}). Go on from the "
                "last checkpoint with resume=True"
            ) from error
    if interrupt.asked or checkpoint.stopped:
        raise KeyboardInterrupt(f"stopped after step {trainer.global_step}; resume=True goes on")
    _save(model, plan, trainer, files, cells, config)
    return model


class _Run(pl.LightningDataModule):
    """The start, made once by one process and read by all; the loaders."""

    def __init__(
        self,
        model: ScAtacFormer,
        cells: PretrainCells,
        split: tuple[np.ndarray, np.ndarray],
        config: PretrainConfig,
        files: RunFiles,
        plan: PretrainPlan,
    ) -> None:
        super().__init__()
        self.prepare_data_per_node = False  # all nodes see the same folder
        self.model, self.cells, self.split, self.config, self.files, self.plan = (
            model,
            cells,
            split,
            config,
            files,
            plan,
        )

    def prepare_data(self) -> None:
        if self.files.start.exists():
            return
        module, source, codes, seed = self.model.module, self.cells.source, self.cells.codes, self.config.seed
        sample = self.split[0]
        if len(sample) > self.config.start_cells:
            sample = np.sort(np.random.default_rng(seed).choice(sample, self.config.start_cells, replace=False))
        if self.config.start == "spectral":
            put_spectral_start(module, source, codes, sample, seed)
        else:
            put_frequencies(module, source, codes, sample)
        write_weights(module.state_dict(), self.files.start)

    def setup(self, stage: str) -> None:
        read_weights(self.model.module, self.files.start)
        config, network = self.config, self.model.config_
        policy = SentencePolicy(
            max_tokens=min(config.max_tokens or network.max_tokens, network.max_tokens),
            removed_share=network.removed_share, max_targets=config.max_targets, n_closed=config.n_closed or None,
            seed=config.seed,
        )  # fmt: skip
        self.sentences = self.model._sentences(self.cells.source, policy, None, self.cells.codes)

    def train_dataloader(self) -> SentenceLoader:
        return self._loader(0, shuffle=True)

    def val_dataloader(self) -> SentenceLoader | list:
        return self._loader(1, shuffle=False) if len(self.split[1]) else []

    def _loader(self, which: int, shuffle: bool) -> SentenceLoader:
        world = self.trainer.world_size
        return SentenceLoader(
            self.cells.source, self.split[which], self.config.batch_size * world, shuffle=shuffle, seed=self.config.seed,
            collate=self.sentences[which], num_workers=self.config.num_workers, rank=self.trainer.global_rank,
            world_size=world,
        )  # fmt: skip


def _model(cells: PretrainCells, config: PretrainConfig) -> ScAtacFormer:
    """An untrained model whose registry knows the batches; made of one cell a batch, since it knows cells by number."""
    n = 3 * len(cells.batch_names)  # scvi-tools warns of fewer
    obs = pd.DataFrame(index=[str(i) for i in range(n)])
    if cells.batch_key is not None:
        names = [cells.batch_names[i % len(cells.batch_names)] for i in range(n)]
        obs[cells.batch_key] = pd.Categorical(names, categories=cells.batch_names)
    ones = sp.csr_matrix((np.ones(n, np.float32), (np.arange(n), np.zeros(n, int))), (n, cells.vocabulary.n_bins))
    few = ad.AnnData(ones, obs=obs, var=cells.vocabulary.to_frame())
    if cells.vocabulary.assembly is not None:
        few.uns["assembly"] = cells.vocabulary.assembly
    ScAtacFormer.setup_anndata(few, batch_key=cells.batch_key, layer=None)
    registry = ScAtacFormer(few, d_model=8, n_layers=1, n_heads=1, d_embed=1).registry_
    return ScAtacFormer(registry=registry, vocabulary=cells.vocabulary, seed=config.seed, **config.model)


def _trainer(config: PretrainConfig, loggers: list, callbacks: list[pl.Callback], has_validation: bool) -> pl.Trainer:
    every = config.validate_every_n_steps
    arguments: dict[str, Any] = {
        "accelerator": config.accelerator, "devices": config.devices, "num_nodes": config.num_nodes,
        "precision": config.precision, "max_epochs": config.max_epochs, "max_steps": config.max_steps or -1,
        "accumulate_grad_batches": config.accumulate_grad_batches, "log_every_n_steps": config.log_every_n_steps,
        "gradient_clip_val": config.gradient_clip_val or None, "val_check_interval": every if has_validation else None,
        "logger": loggers, "callbacks": callbacks, "enable_checkpointing": True, "enable_model_summary": False,
        "enable_progress_bar": config.progress, "num_sanity_val_steps": 0, "benchmark": False,
        # the loader is no DataLoader that Lightning could wrap; it divides the cells by itself
        "use_distributed_sampler": False,
    }  # fmt: skip
    trainer = pl.Trainer(strategy="auto", **arguments) if config.strategy == "auto" else None
    if trainer is None or trainer.world_size > 1:
        trainer = pl.Trainer(strategy=_together(config), **arguments)
    return trainer


def _together(config: PretrainConfig) -> pl.strategies.DDPStrategy:
    timeout = timedelta(seconds=config.timeout)
    if config.strategy == "fsdp":
        return ShardedEncoder(config.precision == "bf16-mixed", timeout=timeout)
    # buffers never change; which parameters a step uses depends on its stage
    return pl.strategies.DDPStrategy(timeout=timeout, broadcast_buffers=False, find_unused_parameters=True)


def _loggers(config: PretrainConfig, folder: Path) -> list:
    found: list = [pl.loggers.CSVLogger(folder, name="metrics")]
    try:
        if config.logger == "tensorboard":
            found.append(pl.loggers.TensorBoardLogger(folder, name="tensorboard"))
        if config.logger == "wandb":
            found.append(pl.loggers.WandbLogger(save_dir=folder, project="scatacformer"))
    except ModuleNotFoundError as error:
        raise ImportError(f"logger = {config.logger!r} needs a package: pip install {config.logger}") from error
    return found


def _fingerprint(config: PretrainConfig, cells: PretrainCells, world_size: int) -> dict[str, Any]:
    """What a run that is resumed must have in common with the one before."""
    lengths = cells.source.stored_per_cell
    return {
        "settings": {k: v for k, v in config.to_dict().items() if k not in FREE | {"batch_size"}},
        "cells of a minibatch (batch_size x processes)": config.batch_size * world_size,
        "cells": cells.source.n_cells,
        "stored entries": int(lengths.sum()),
        "vocabulary": cells.vocabulary.checksum,
        "batches": cells.batch_names,
    }


def _checkpoint_to_resume(files: RunFiles, resume: bool, run: dict[str, Any], first: bool) -> str | None:
    """The checkpoint to go on from, if any. The first process looks, and begins a new folder."""
    if resume and files.settings.exists():
        before = files.read_settings()
        changed = [k for k in run if k != "settings" and run[k] != before.get(k)]
        was = before["settings"]
        changed += [k for k, v in run["settings"].items() if _plain(v) != was.get(k)]
        if changed:
            key = changed[0]
            now, then = run.get(key, run["settings"].get(key)), before.get(key, was.get(key))
            raise ValueError(
                f"the run in {files.output} cannot be resumed: {key} was {_short(then)} and is {_short(now)}"
                + (f" ({', '.join(changed[1:])} differ too)" if changed[1:] else "")
                + ". Set it back, or begin another run in another folder"
            )
        return str(files.checkpoint) if files.checkpoint.exists() else None
    if first:
        if (
            files.output.exists()
            and (not files.output.is_dir() or any(files.output.iterdir()))
            and not files.settings.exists()
        ):
            raise ValueError(f"{files.output} holds something else than a pretraining; choose another folder")
        if files.settings.exists() and not resume:
            raise ValueError(f"{files.output} holds a pretraining: go on with resume=True, or choose another folder")
        if resume:
            logger.warning("nothing to resume in %s: the pretraining begins", files.output)
        files.write_settings(run)
    return None


def _save(
    model: ScAtacFormer, plan: PretrainPlan, trainer: pl.Trainer, files: RunFiles, cells: PretrainCells,
    config: PretrainConfig,
) -> None:  # fmt: skip
    """The model as files, the last weights and the best ones; in the end every process holds the best."""
    model.history_, model.is_trained_ = plan.history(), True
    model.pretrained_on_ = {"card": cells.card, "settings": config.to_dict(), "steps": trainer.global_step}
    model.module.requires_grad_(True)
    model.module.eval()
    if trainer.is_global_zero:
        model.save(files.output / "last", overwrite=True)
    trainer.strategy.barrier()
    if files.best.exists():
        read_weights(model.module, files.best)
    if trainer.is_global_zero:
        model.save(files.output, overwrite=True)
    trainer.strategy.barrier()


def _of_communication(error: BaseException) -> bool:
    """Whether an error is the loss of another process."""
    text = f"{type(error).__name__} {error}".lower()
    return any(word in text for word in ("gloo", "nccl", "connection", "timed out", "timeout", "distributed", "socket"))


def _plain(value: Any) -> Any:
    """As JSON would have it."""
    return list(value) if isinstance(value, tuple) else value


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 80 else text[:77] + "..."
