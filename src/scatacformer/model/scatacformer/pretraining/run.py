"""``pretrain``: from many cells to a saved model, through :func:`scatacformer.training.fit`."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl
import numpy as np

from scatacformer._io import holds_nothing, read_tensors
from scatacformer.cells import SentencePolicy, TrainSentences
from scatacformer.model.scatacformer._data import SentenceData, closed_bins
from scatacformer.model.scatacformer._model import ScAtacFormer
from scatacformer.model.scatacformer._setup import registry_without_cells
from scatacformer.model.scatacformer._start import put_frequencies, put_spectral_start
from scatacformer.model.scatacformer._train import training_sentences
from scatacformer.model.scatacformer._trainable import Trainable
from scatacformer.training import FitOptions, Fitting, read_weights, write_weights

from .cells import PretrainCells, read_cells
from .config import FREE, PretrainConfig
from .files import RunFiles
from .plan import PretrainTrainingPlan

if TYPE_CHECKING:
    from anndata import AnnData

logger = logging.getLogger("scatacformer")


def pretrain(
    data: AnnData | Any | str | Path, output: str | Path, resume: bool = False, **settings: Any
) -> ScAtacFormer:
    """Pretrain a model on a corpus, or on one AnnData, and save it.

    The folder ``output`` is a saved model when this ends: ``ScAtacFormer.load(output, adata)``,
    ``ScAtacFormer.load_query_data(adata, output)`` and ``ScAtacFormer.for_fine_tuning(adata, output)`` read it. It has
    the weights of the lowest ``validation_loss``, or the last ones without held-out cells; the last ones are in
    ``output/last``, and what is needed to resume the run, with its metrics, in ``output/training``.

    The same command on several devices or nodes trains the same model as one process with as many cells in a minibatch,
    to rounding: started by ``torchrun``, by SLURM, or by Lightning itself where ``devices`` is more than one.

    Ctrl-C ends the run after the current step: a checkpoint is written, ``output`` gets no model, and the model with
    the best weights so far is returned, with a warning that says how to resume. SIGTERM writes the checkpoint and ends
    the process with status 143.

    Parameters
    ----------
    data
        A :class:`~scatacformer.Corpus`, its folder, an AnnData of raw counts, in memory or backed, or an ``.h5ad``
        file, which is then read from disk.
    output
        Folder for the model. All nodes must have access to it.
    resume
        Continue from the last checkpoint in ``output``, in the middle of an epoch too, to where an uninterrupted run
        would end; begin if there is none yet. The settings must be the same, but for those of the machine.
    **settings
        The fields of :class:`~scatacformer.model.PretrainConfig`: ``model={"size": "base"}``, ``batch_size=256``, ...

    Returns
    -------
    The pretrained model, without data.

    Raises
    ------
    TypeError
        An unknown setting; the error names the most similar one.
    ValueError
        Cells that cannot be trained on, settings out of range, an ``output`` that holds something else, or a run of
        other settings; a damaged checkpoint.
    FloatingPointError
        The loss is not finite; the error lists the cells of the minibatch.
    RuntimeError
        Another process of the training has ended or does not respond.
    KeyboardInterrupt
        A second Ctrl-C, or one before the first step.

    Warns
    -----
    UserWarning
        Ctrl-C ended the run; ``resume=True`` continues it.
    """
    config = PretrainConfig.of(settings)
    files = RunFiles(Path(output))
    loggers = _loggers(config, files.folder)
    cells = read_cells(data, config)
    if cells.classes is not None:  # set from here on: a resumed run must have the same
        config = replace(config, model=replace(config.model, region_classes=cells.classes))
    split = cells.split(config.validation, config.seed)
    registry = registry_without_cells(cells.vocabulary, cells.batch_key, cells.batch_names)
    model = ScAtacFormer(registry=registry, vocabulary=cells.vocabulary, seed=config.seed, **config.model.arguments())
    model.train_indices_, model.validation_indices_ = split
    plan = PretrainTrainingPlan(model.module, config, cells.name)
    fitting = Fitting(plan, _fit_options(config, files, loggers))
    resumed = _resumes(files, resume, _fingerprint(config, cells, fitting.n_processes), fitting.is_first)
    make = partial(_make_start, model, cells, split[0], config, files)
    start = partial(_read_start, model, cells, config, files)
    outcome = fitting.run(
        SentenceData(cells.source, split, config.batch_size, config.num_workers, config.seed, start, make), resumed
    )
    model.history_, model.is_trained_ = outcome.history.frames(), True
    model.trainable_ = Trainable("trained").to_dict()
    steps = fitting.trainer.global_step
    model.pretrained_on_ = {"card": cells.card, "settings": config.to_dict(), "steps": steps}
    _save(model, fitting.trainer, files, whole=not outcome.stopped)
    return model


def _make_start(
    model: ScAtacFormer, cells: PretrainCells, sample: np.ndarray, config: PretrainConfig, files: RunFiles
) -> None:
    """Initialisation of the weights, computed once by one process."""
    if files.start.exists():
        return
    if len(sample) > config.start_cells:
        sample = np.sort(np.random.default_rng(config.seed).choice(sample, config.start_cells, replace=False))
    if config.start == "spectral":
        put_spectral_start(model.module, cells.source, cells.codes, sample, config.seed)
    else:
        put_frequencies(model.module, cells.source, cells.codes, sample)
    write_weights(model.module.state_dict(), files.start)


def _read_start(
    model: ScAtacFormer, cells: PretrainCells, config: PretrainConfig, files: RunFiles
) -> tuple[TrainSentences, TrainSentences]:
    """The initialisation, read by every process, and the collate functions."""
    read_weights(model.module, files.start)
    network = model.config_
    policy = SentencePolicy(
        max_tokens=min(config.max_tokens or network.max_tokens, network.max_tokens),
        removed_share=network.removed_share, max_targets=config.max_targets, n_closed=closed_bins(config.n_closed),
        seed=config.seed,
    )  # fmt: skip
    return training_sentences(model.module, cells.source, cells.codes, policy)


def _fit_options(config: PretrainConfig, files: RunFiles, loggers: list[Any]) -> FitOptions:
    return FitOptions(
        max_epochs=config.max_epochs, max_steps=config.max_steps, accelerator=config.accelerator,
        devices=config.devices, num_nodes=config.num_nodes, strategy=config.strategy, timeout=config.timeout,
        precision=config.precision, accumulate_grad_batches=config.accumulate_grad_batches,
        gradient_clip_val=config.gradient_clip_val or None,
        validate_every_n_steps=config.validate_every_n_steps if config.validation else None,
        checkpoint_dir=files.folder, checkpoint_every_n_steps=config.every_n_steps, best_weights_path=files.best,
        seed=config.seed, loggers=loggers, log_every_n_steps=config.log_every_n_steps, progress=config.progress,
        how_to_resume="pretrain(resume=True)",
    )  # fmt: skip


def _loggers(config: PretrainConfig, folder: Path) -> list[Any]:
    found: list[Any] = [pl.loggers.CSVLogger(folder, name="metrics")]
    try:
        if config.logger == "tensorboard":
            found.append(pl.loggers.TensorBoardLogger(folder, name="tensorboard"))
        if config.logger == "wandb":
            found.append(pl.loggers.WandbLogger(save_dir=folder, project="scatacformer"))
    except ModuleNotFoundError as error:
        raise ImportError(
            f"logger is {config.logger!r}, which is not installed. Install it with pip install {config.logger}."
        ) from error
    return found


def _fingerprint(config: PretrainConfig, cells: PretrainCells, n_processes: int) -> dict[str, Any]:
    """Settings that a resumed run must share with the one before."""
    lengths = cells.source.stored_per_cell
    return {
        "settings": {k: v for k, v in config.to_dict().items() if k not in FREE | {"batch_size"}},
        "cells of a minibatch (batch_size x processes)": config.batch_size * n_processes,
        "cells": cells.source.n_cells,
        "stored entries": int(lengths.sum()),
        "vocabulary": cells.vocabulary.checksum,
        "batches": cells.batch_names,
    }


def _resumes(files: RunFiles, resume: bool, run: dict[str, Any], first: bool) -> bool:
    """Whether there is a checkpoint to resume from. The first process checks, and creates a new folder."""
    if resume and files.settings.exists():
        _check_same(files, run, files.read_settings())
        for weights in (files.start, files.best):
            if weights.exists():
                read_tensors(weights)  # damage is found before the training, and not at its end
        return files.checkpoint.exists()
    if first:
        if files.output.exists() and not files.output.is_dir():
            raise ValueError(f"{files.output} is a file; expected a folder.")
        if not holds_nothing(files.output) and not files.settings.exists():
            raise ValueError(f"{files.output} has other content than a pretraining. Choose another folder.")
        if files.settings.exists() and not resume:
            raise ValueError(
                f"{files.output} contains a pretraining. Resume it with resume=True, or choose another folder."
            )
        if resume:
            logger.warning("nothing to resume in %s: the pretraining starts", files.output)
        files.write_settings(run)
    return False


def _check_same(files: RunFiles, run: dict[str, Any], before: dict[str, Any]) -> None:
    """ValueError that lists the differences from the run before."""
    was = before.get("settings", {})
    changed = [k for k in run if k != "settings" and run[k] != before.get(k)]
    changed += [k for k, v in run["settings"].items() if _plain(v) != was.get(k)]
    if changed:
        key = changed[0]
        now, then = run.get(key, run["settings"].get(key)), before.get(key, was.get(key))
        raise ValueError(
            f"the run in {files.output} cannot be resumed: {key} was {_short(then)} and is {_short(now)}"
            + (f" ({', '.join(changed[1:])} differ too)" if changed[1:] else "")
            + ". Restore the setting, or start another run in another folder."
        )


def _save(model: ScAtacFormer, trainer: pl.Trainer, files: RunFiles, whole: bool) -> None:
    """Save the last and the best weights as models; at the end every process has the best weights.

    Nothing is written for a run that was stopped (not ``whole``): the folder has its checkpoint, and no model yet.
    """
    if whole and trainer.is_global_zero:
        model.save(files.output / "last", overwrite=True)
    trainer.strategy.barrier()
    if files.best.exists():
        read_weights(model.module, files.best)
    if whole and trainer.is_global_zero:
        model.save(files.output, overwrite=True)
    trainer.strategy.barrier()


def _plain(value: Any) -> Any:
    """As returned by JSON."""
    return list(value) if isinstance(value, tuple) else value


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 80 else text[:77] + "..."
