"""Settings of a pretraining: one frozen record, checked when created, and its TOML file."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from scatacformer.model.scatacformer._data import closed_bins

from .options import NetworkOptions, check_keys

STARTS, LOGGERS, STRATEGIES = ("spectral", "random"), ("csv", "tensorboard", "wandb"), ("auto", "ddp", "fsdp")
# loss scaling checks for infinite gradients in each process before the rows of the tables are combined
PRECISIONS = ("32-true", "bf16-mixed", "64-true")
# settings that may differ in a resumed run, because they do not affect the result
FREE = {
    "num_workers", "accelerator", "devices", "num_nodes", "strategy", "timeout", "every_n_steps", "log_every_n_steps",
    "logger", "progress",
}  # fmt: skip


@dataclass(frozen=True)
class PretrainConfig:
    """Settings of :func:`~scatacformer.pretrain`; the keys of a ``config.toml``, in addition to ``data`` and
    ``output``.

    Parameters
    ----------
    model
        Arguments of :class:`~scatacformer.ScAtacFormer` (``size``, ``d_model``, ``n_layers``, ``decoder``, ...); in
        TOML the table ``[model]``. With ``eos="region_class"`` the classes are those of an annotated AnnData, or
        ``region_classes``: a :class:`~scatacformer.genome.RegionClasses`, or the arguments of
        :func:`~scatacformer.pp.annotate_bins` that name its files (``{"gtf": ..., "bed": {"enhancer": ...}}``). ``dna``
        is the path of a table (``.npy``).
    batch_key
        Column of ``obs`` with the batch, for an AnnData. A corpus has its own batches; ``batch_key`` is the name that
        the column will have in data that the model is loaded with.
    use_batches
        Whether the decoder uses the batches. Otherwise all cells are in one batch: the bias per bin and batch takes
        ``4 n_bins n_batch`` bytes, and three times that in training.
    layer
        Layer of an AnnData that holds the counts. Default: ``X``.
    validation
        Share of held-out cells, sampled by ``seed``, or names of held-out data sets. They are not used in training
        steps or in the initialisation, and ``validation_loss`` is computed on them. For an AnnData, the data sets are
        the batches. 0: none.
    start
        ``"spectral"``: the bin table is initialised with the leave-self-out spectral vectors of ``start_cells``
        training cells. ``"random"``: it is initialised at random and trained at ``lr``.
    start_cells
        Number of training cells, sampled by ``seed``, for the initialisation and the frequencies of bins.
    max_epochs
        Number of epochs.
    max_steps
        Stop after this number of optimizer steps, if that is earlier. Default: no limit.
    batch_size
        Cells per minibatch of one process; a step has ``batch_size`` x processes x ``accumulate_grad_batches`` cells.
    accumulate_grad_batches
        Number of minibatches per step.
    lr, weight_decay
        Peak learning rate of the encoder, and its decay. The rate increases over ``warmup_steps`` and decreases as a
        cosine to zero at the last step; the decoder is trained at three times the rate.
    embedding_lr
        Peak learning rate of the embedding: the bin table and the projection of ``<cls>``. Default: 0 with
        ``start="spectral"`` (the embedding remains the spectral one), ``lr`` with ``"random"``.
    decoder_lr, decoder_steps
        In the first ``decoder_steps`` steps, only the decoder is trained, at ``decoder_lr``. Default: a tenth of all
        steps, at most 1,000; 0 with ``start="random"``.
    warmup_steps
        Subsequent steps over which the rates increase. Default: a fiftieth of all steps, at most 2,000.
    gradient_clip_val
        Maximum norm of the gradients of a step over all parameters; larger ones are scaled down. 0: no clipping.
    kept_weight
        Weight of the loss for kept against removed bins, relative to the removed-bin loss.
    max_tokens
        Maximum number of open bins per cell that the encoder reads in a step, sampled anew in each; all are pooled.
        Default: that of the model.
    max_targets, n_closed
        Maximum number of removed bins of a cell that are predicted in a step; closed bins that they are distinguished
        from, sampled by frequency for the whole minibatch, or ``"all"``.
    seed
        Seed of all random numbers.
    precision
        ``"32-true"``, ``"bf16-mixed"`` or ``"64-true"``, as in Lightning.
    accelerator, devices, num_nodes
        As in Lightning; ``torchrun`` and SLURM are detected, and must agree with ``devices`` and ``num_nodes``.
    strategy
        ``"auto"``: one process, or DDP for several devices. ``"ddp"``. ``"fsdp"``: the encoder, its gradients and its
        moments are sharded across the processes; tables and decoder are replicated.
    timeout
        Seconds that processes wait for each other in a step before the run ends with an error.
    num_workers
        Processes that prepare minibatches, for each device. The result does not depend on it.
    every_n_steps
        Steps between checkpoints; there is one at the end of each epoch in any case.
    validate_every_n_steps
        Minibatches between validations. Default: once an epoch.
    log_every_n_steps
        Steps between lines of the log.
    logger
        ``"csv"`` always; ``"tensorboard"`` or ``"wandb"`` in addition, if installed.
    progress
        Whether to show progress bars on a terminal.

    Raises
    ------
    ValueError
        A value is out of range, or not one of the choices.
    """

    model: NetworkOptions = field(default_factory=NetworkOptions)
    batch_key: str | None = None
    use_batches: bool = True
    layer: str | None = None
    validation: float | list[str] = 0.02
    start: str = "spectral"
    start_cells: int = 20_000
    max_epochs: int = 10
    max_steps: int | None = None
    batch_size: int = 64
    accumulate_grad_batches: int = 1
    lr: float = 1e-3
    weight_decay: float = 1e-4
    embedding_lr: float | None = None
    decoder_lr: float = 1e-2
    decoder_steps: int | None = None
    warmup_steps: int | None = None
    gradient_clip_val: float = 1.0
    kept_weight: float = 0.1
    max_tokens: int | None = None
    max_targets: int = 512
    n_closed: int | Literal["all"] = 4096
    seed: int = 0
    precision: str = "32-true"
    accelerator: str = "auto"
    devices: int | str | list[int] = "auto"
    num_nodes: int = 1
    strategy: str = "auto"
    timeout: float = 600.0
    num_workers: int = 0
    every_n_steps: int = 1000
    validate_every_n_steps: int | None = None
    log_every_n_steps: int = 50
    logger: str = "csv"
    progress: bool = True

    def __post_init__(self) -> None:
        for name, kinds in _KINDS.items():
            value = getattr(self, name)
            if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
                expected = " or ".join("none" if k is type(None) else k.__name__ for k in kinds)
                raise ValueError(f"{name} is {value!r}, expected {expected}.")
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if isinstance(value, int | float) and not value >= least:
                raise ValueError(f"{name} is {value}; expected at least {least}.")
        known = {"start": STARTS, "logger": LOGGERS, "strategy": STRATEGIES, "precision": PRECISIONS}
        for name, choices in known.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} is {getattr(self, name)!r}; expected one of {', '.join(choices)}{_why(name)}")
        if isinstance(self.validation, float | int) and not 0 <= self.validation < 1:
            raise ValueError(
                f"validation is {self.validation}; expected a share from 0 to below 1, or a list of data sets."
            )
        closed_bins(self.n_closed)
        if isinstance(self.model, dict):
            object.__setattr__(self, "model", NetworkOptions.of(self.model))

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> PretrainConfig:
        """The record of ``settings``; TypeError for an unknown key, with the most similar known one."""
        check_keys(settings, [f.name for f in fields(cls)], "the settings of a pretraining")
        return cls(**settings)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, strings, lists and a dict, for JSON; of region classes their names and a checksum."""
        return {f.name: getattr(self, f.name) for f in fields(self)} | {"model": self.model.to_dict()}


_LEAST = {
    "start_cells": 3, "max_epochs": 1, "max_steps": 1, "batch_size": 1, "accumulate_grad_batches": 1, "lr": 0,
    "weight_decay": 0, "embedding_lr": 0, "decoder_lr": 0, "decoder_steps": 0, "warmup_steps": 0, "gradient_clip_val": 0,
    "kept_weight": 0, "max_tokens": 1, "max_targets": 1, "seed": 0, "num_nodes": 1, "timeout": 1,
    "num_workers": 0, "every_n_steps": 1, "validate_every_n_steps": 1, "log_every_n_steps": 1,
}  # fmt: skip
_NUMBER, _MAYBE = (int, float), type(None)
_KINDS: dict[str, tuple[type, ...]] = {
    "model": (dict, NetworkOptions), "batch_key": (str, _MAYBE), "use_batches": (bool,), "layer": (str, _MAYBE),
    "validation": (int, float, list), "start_cells": (int,), "max_epochs": (int,), "max_steps": (int, _MAYBE),
    "batch_size": (int,), "accumulate_grad_batches": (int,), "lr": _NUMBER, "weight_decay": _NUMBER,
    "embedding_lr": (*_NUMBER, _MAYBE), "decoder_lr": _NUMBER, "decoder_steps": (int, _MAYBE),
    "warmup_steps": (int, _MAYBE), "gradient_clip_val": _NUMBER, "kept_weight": _NUMBER, "max_tokens": (int, _MAYBE),
    "max_targets": (int,), "n_closed": (int, str), "seed": (int,), "accelerator": (str,), "devices": (int, str, list),
    "num_nodes": (int,), "timeout": _NUMBER, "num_workers": (int,), "every_n_steps": (int,),
    "validate_every_n_steps": (int, _MAYBE), "log_every_n_steps": (int,), "progress": (bool,),
}  # fmt: skip


def read_config(path: str | Path) -> tuple[Path, Path, dict[str, Any]]:
    """``data``, ``output`` and the settings of a TOML file; paths in it are relative to its folder.

    Raises ValueError if the file is not TOML or ``data`` or ``output`` is missing, TypeError for unknown keys.
    """
    path = Path(path)
    try:
        settings = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not TOML: {error}") from None
    check_keys(settings, ["data", "output", *(f.name for f in fields(PretrainConfig))], str(path))
    for name in ("data", "output"):
        if not isinstance(settings.get(name), str):
            raise ValueError(
                f"{path}: {name} is {settings.get(name)!r}; expected a path in quotes, as in {name} = 'folder'."
            )
    data, output = (path.parent / settings.pop(name) for name in ("data", "output"))
    if isinstance(model := settings.get("model"), dict):
        _start_paths_from(path.parent, model, ("dna",))
        if isinstance(classes := model.get("region_classes"), dict):
            _start_paths_from(path.parent, classes, ("gtf", "homer"))
            if isinstance(bed := classes.get("bed"), dict):
                _start_paths_from(path.parent, bed, tuple(bed))
    return data, output, settings


def _start_paths_from(folder: Path, table: dict[str, Any], names: tuple[str, ...]) -> None:
    for name in names:
        if isinstance(table.get(name), str):
            table[name] = str(folder / table[name])


def _why(name: str) -> str:
    return ": loss scaling does not support row-sparse gradients, use bf16-mixed." if name == "precision" else "."
