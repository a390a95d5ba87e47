"""Epiformer for AnnData: set up, train, fine-tune, save, load."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from scatacformer._io import CardFacts, reading
from scatacformer._settings import settings
from scatacformer.model._arguments import known_arguments, trainer_arguments
from scatacformer.model._folder import CONFIG, WEIGHTS, ModelFiles
from scatacformer.model._sharing import SharingMixin
from scatacformer.nn import EpiformerConfig, EpiformerNetwork, SeparateTracks
from scatacformer.training import FitOptions

from . import _files, _setup
from ._card import card_facts
from ._interpreting import InterpretMixin
from ._motif_filters import composition_sizes, count_motifs, start_from_motifs
from ._predicting import PredictMixin
from ._setup import Genome, Prepared
from ._train import EpiformerOptions, Keep, Loss, Tune, fingerprint, loss_of, split_windows, train_model

if TYPE_CHECKING:
    import os

    import pandas as pd
    from anndata import AnnData

    from scatacformer.sequence import Motifs

_LR = {"small": 1e-3, "base": 1e-4}


class Epiformer(PredictMixin, InterpretMixin, SharingMixin):
    """Epiformer (Li et al., Science 2023): the signal of every track from 98,304 bp of DNA, in bins of 128 bp.

    Tn5's preference for certain sequences is not corrected: part of what a model of insertions learns is the enzyme.

    Parameters
    ----------
    adata
        Tracks × output bins of :func:`scatacformer.pp.sequence_windows`, set up with :meth:`setup_anndata`.
    size
        ``"small"`` (minutes on a laptop) or ``"base"`` (the published one: 54.8 million parameters; for GPUs).
    separate
        One network for each track, instead of one for all tracks.
    motifs
        Motifs from which the first filters start, each on both strands: at most half of ``d_stem``. For data of a few
        megabases, which are too small to learn motifs from. Default: sampled filters.
    composition
        What is counted in each bin and its surroundings, on both strands, and read by perceptrons beside the published
        layers: hits of these motifs (all of a collection, such as ``sf.sequence.Motifs.from_jaspar()``) and k-mers, or
        ``"kmers"`` alone. They are trained first (see :meth:`train`); what the convolutions learn later is a correction.
        For a few megabases of DNA, on which convolutions overfit. Default: the published network.
    seed
        Of the first weights and of training. Default: ``sf.settings.seed``.
    **sizes
        Sizes that differ from those of ``size``: ``d_stem``, ``d_model``, ``n_layers``, ``n_heads``, ``d_feedforward``,
        ``dropout``, ``head_dropout``; with a composition ``d_composition``, ``n_perceptrons`` and
        ``linear``: ridge regression on the same counts is solved before training and has .3 of the prediction.

    Attributes
    ----------
    history_
        Metrics by epoch, a data frame for each.
    training_
        Which chromosomes were trained on, validated on and held out, and with how many windows.
    scale_
        ``(n_tracks,)``, the signal per unit of the network's output: the track's mean in training.

    Examples
    --------
    >>> tracks = sf.pp.sequence_windows({"T": "t.bw", "B": "b.bw"}, "hg38.fa")  # doctest: +SKIP
    >>> sf.Epiformer.setup_anndata(tracks)  # doctest: +SKIP
    >>> model = sf.Epiformer(tracks)  # doctest: +SKIP
    >>> model.train(holdout_chromosomes=["chr8"], validation_chromosomes=["chr10"])  # doctest: +SKIP
    >>> tracks.layers["epiformer"] = model.get_predicted_tracks()  # doctest: +SKIP
    >>> effects = model.predict_variants("variants.vcf")  # doctest: +SKIP
    """

    _needed_files = (CONFIG, WEIGHTS)
    adata: AnnData | None
    _genome: Genome | None

    def __init__(
        self,
        adata: AnnData,
        size: Literal["small", "base"] = "small",
        *,
        separate: bool = False,
        motifs: Motifs | None = None,
        composition: Motifs | Literal["kmers"] | None = None,
        seed: int | None = None,
        **sizes: Any,
    ) -> None:
        seed = settings.pick_seed(seed)
        prepared = _setup.prepare(adata)
        if unknown := sizes.keys() - EpiformerConfig.__dataclass_fields__.keys():
            raise TypeError(f"Epiformer has no size {sorted(unknown)[0]!r}.")
        counted = composition_sizes(composition)
        config = EpiformerConfig.of_size(size, n_tracks=adata.n_obs, **(prepared.geometry | counted | sizes))
        if any(getattr(config, name) != value for name, value in prepared.geometry.items()):
            raise ValueError(
                f"seq_len, bin_size and crop are those of the windows, {prepared.geometry}; make other windows with "
                "sf.pp.sequence_windows."
            )
        module = (SeparateTracks if separate else EpiformerNetwork)(config, seed)
        if motifs is not None:
            start_from_motifs(module, motifs)
        if composition is not None and not isinstance(composition, str):
            count_motifs(module, composition)
        self._take(config, module, prepared.track_names, seed)
        self.adata, self._genome = adata, prepared.genome
        self._lr = _LR[size]

    def _take(self, config: EpiformerConfig, module: torch.nn.Module, names: Sequence[str], seed: int) -> None:
        self.config_, self.module, self.track_names_, self.seed = config, module.eval(), list(names), int(seed)
        self.scale_ = np.ones(config.n_tracks, dtype=np.float32)
        self.is_trained_ = False
        self.history_: dict[str, pd.DataFrame] = {}
        self.training_: dict[str, Any] = {}
        self.adata = None
        self._genome = None
        self._lr = _LR["base" if config.d_model >= 512 else "small"]

    @classmethod
    @known_arguments()
    def setup_anndata(
        cls,
        adata: AnnData,
        layer: str | None = None,
        *,
        fasta: str | Path | None = None,
        conservation: str | Path | None = None,
    ) -> None:
        """Check tracks × output bins and record the setup.

        Parameters
        ----------
        adata
            Result of :func:`scatacformer.pp.sequence_windows`, or a selection of its tracks.
        layer
            The signal; ``.X`` by default.
        fasta
            FASTA file of the genome, if it is not where it was.
        conservation
            bigWig file of conservation, if it is not where it was.

        Raises
        ------
        ValueError
            Not such an AnnData, a selection of its bins, or a track without signal; a FASTA file of another assembly.
        """
        _setup.set_up(adata, layer, fasta, conservation)

    @property
    def track_names(self) -> list[str]:
        """Names of the tracks, in the order of the outputs."""
        return list(self.track_names_)

    @property
    def history(self) -> dict[str, pd.DataFrame]:
        """Metrics by epoch, a data frame for each; the same as ``history_``."""
        return self.history_

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.module.parameters()).device

    def to_device(self, device: str | torch.device) -> None:
        """Move the weights."""
        self.module.to(device)

    def set_genome(self, fasta: str | Path, conservation: str | Path | None = None) -> None:
        """The genome whose DNA is read from now on: for a model without data, or to predict in another species.

        Parameters
        ----------
        fasta
            FASTA file, plain or bgzip.
        conservation
            bigWig file of conservation, if the model was trained with one.
        """
        self._genome = _setup.open_genome(fasta, conservation)

    @known_arguments(trainer_arguments)
    def train(
        self,
        max_epochs: int = 100,
        *,
        holdout_chromosomes: str | Sequence[str] | None = None,
        validation_chromosomes: str | Sequence[str] | None = None,
        reverse_complement: bool = True,
        max_shift: int | None = None,
        loss: Loss | None = None,
        batch_size: int = 4,
        lr: float | None = None,
        weight_decay: float = 1e-4,
        warmup_steps: int | None = None,
        tune: Tune | None = None,
        lora: int | None = None,
        keep: Keep = "best",
        early_stopping: bool = True,
        early_stopping_patience: int = 15,
        accelerator: str = "auto",
        devices: int | str | list[int] = "auto",
        precision: str = "32-true",
        accumulate_grad_batches: int = 1,
        gradient_clip_val: float | None = 5.0,
        num_workers: int = 0,
        checkpoint_dir: str | os.PathLike | None = None,
        resume: bool = False,
        **trainer_kwargs: Any,
    ) -> None:
        """Minimise the loss of the signal in units of each track's mean; bins without a value are left out.

        Parameters
        ----------
        max_epochs
            Passes over the windows.
        holdout_chromosomes
            Chromosomes that are neither trained on nor looked at, for a test of your own.
        validation_chromosomes
            Chromosomes by which training is stopped and weights are chosen. Default: the one with about a tenth of the
            windows.
        reverse_complement
            Read half of the windows from the other strand, with their signal. Never in validation.
        max_shift
            Move each window by up to this many bp, with its conservation and its signal. Never in validation. Default:
            3, or 0 with ``tune="composition"``, which then counts once and not in every pass.
        loss
            ``"poisson"``: the Poisson loss of the published model, for expected counts; or ``"log"``: the squared error
            of log2(x + 1), which is less ruled by the highest peaks. The default, and the only one, of a model with a
            composition is ``"log"``, then in the units of the data and not of each track's mean.
        batch_size
            Windows in a minibatch.
        lr
            Peak learning rate; 1e-3 for ``"small"``, 1e-4 for ``"base"`` by default.
        weight_decay
            Of AdamW, for matrices.
        warmup_steps
            Steps over which the learning rate rises in a line. Default: a tenth of all.
        tune
            What learns: ``"all"``; ``"head"``, the layers behind the transformer; or ``"composition"``, what reads
            counts, without the convolutions, which are not even computed before they have learned something. Default:
            ``"composition"`` for a model that has one, else ``"all"``.
        lora
            Rank of low-rank changes of the transformer's linear layers, which are merged into the weights at the end;
            all else but the head stays as it is. None: no such changes.
        keep
            Weights that the model has in the end: ``"best"``, those with the lowest loss on the validation chromosomes;
            or ``"last"``, those after the last pass, for validation chromosomes with few windows.
        early_stopping
            Stop when the validation loss no longer falls.
        early_stopping_patience
            For how many epochs it need not fall.
        accelerator, devices, precision, accumulate_grad_batches, gradient_clip_val
            As in Lightning; ``precision="bf16-mixed"`` on a GPU.
        num_workers
            Processes that read DNA and signal.
        checkpoint_dir
            Folder of checkpoints from which training can be resumed.
        resume
            Continue from the checkpoint there.
        **trainer_kwargs
            Further arguments of Lightning's trainer.

        Raises
        ------
        ValueError
            Hold-outs leave nothing; an unknown chromosome; a value out of range; a track that is zero in training.
        FloatingPointError
            The loss is not finite.
        """
        prepared = _setup.prepare(self._own_data())
        parts = split_windows(prepared, holdout_chromosomes, validation_chromosomes)
        tune = tune or ("composition" if self.config_.composition and lora is None else "all")
        loss = loss_of(self.config_, loss, tune)
        max_shift = (0 if tune == "composition" else 3) if max_shift is None else max_shift
        options = EpiformerOptions(
            max_epochs, batch_size, self._lr if lr is None else lr, weight_decay, warmup_steps,
            early_stopping_patience if early_stopping else None, reverse_complement, max_shift, tune, lora,
            self.seed, num_workers, loss, keep,
        )  # fmt: skip
        fit_options = FitOptions(
            max_epochs=max_epochs,
            accelerator=accelerator,
            devices=devices,
            precision=precision,
            accumulate_grad_batches=accumulate_grad_batches,
            gradient_clip_val=gradient_clip_val,
            early_stopping_patience=options.patience,
            checkpoint_dir=None if checkpoint_dir is None else Path(checkpoint_dir),
            resume=resume,
            fingerprint=fingerprint(prepared, parts, options, self.config_),
            seed=self.seed,
            how_to_resume="train(resume=True)",
            trainer_kwargs=trainer_kwargs,
        )
        train_model(self, prepared, parts, options, fit_options)

    @classmethod
    def for_fine_tuning(cls, adata: AnnData, model: Epiformer, seed: int = 0) -> Epiformer:
        """A model of other tracks, another species or longer windows, that starts from the weights of ``model``.

        Its last layer is new, except for the same tracks: then it predicts at once, and can be trained further on other
        windows. Train it with ``tune="head"``, ``lora=8`` or ``tune="all"``.

        Parameters
        ----------
        adata
            The new tracks, set up; their windows may be shorter or longer, with bins of the same size.
        model
            A trained model, or one from :meth:`load_published`.
        seed
            As in the class.
        """
        return _files.fine_tuned(cls, adata, model, seed)

    @classmethod
    def load_published(
        cls,
        path: str | os.PathLike,
        track_names: Sequence[str] | None = None,
        *,
        fasta: str | Path | None = None,
        conservation: str | Path | None = None,
        crop: int | None = None,
    ) -> Epiformer:
        """The model in a checkpoint of the authors' code (``.pth.tar``). Nothing in it is executed.

        Parameters
        ----------
        path
            The file.
        track_names
            Of its outputs; numbers by default.
        fasta, conservation
            The genome to predict in; or call :meth:`set_genome`.
        crop
            Bins on each side that are not predicted; 64 of 768 by default, and that share of other windows.

        Raises
        ------
        ValueError
            Not such a checkpoint, or one that can only be read by executing code.
        """
        config, weights = _files.read_published(Path(path), crop)
        module = EpiformerNetwork(config)
        with reading(path, "a checkpoint of Epiformer", "Pass the file as its authors wrote it"):
            if missing := _files.transplant(module, weights, keep_head=False):
                raise ValueError(f"it has no tensor {missing[0]}.")
        names = [f"track_{i}" for i in range(config.n_tracks)] if track_names is None else list(map(str, track_names))
        if len(names) != config.n_tracks:
            raise ValueError(f"track_names has {len(names)} entries; the model has {config.n_tracks} tracks.")
        model = cls.__new__(cls)
        model._take(config, module, names, 0)
        model.is_trained_ = True
        if fasta is not None:
            model.set_genome(fasta, conservation)
        return model

    def __repr__(self) -> str:
        c = self.config_
        trained = "trained" if self.is_trained_ else "not trained"
        return (
            f"Epiformer of {c.n_tracks} tracks, {trained}: {c.seq_len:,} bp in {c.n_bins} bins of {c.bin_size} bp, "
            f"{c.n_outputs} predicted; {sum(p.numel() for p in self.module.parameters()):,} parameters"
        )

    # required by the mixins

    def _own_data(self) -> AnnData:
        if self.adata is None:
            raise ValueError("the model has no data: load it with adata=, or pass one to the method.")
        if list(map(str, self.adata.obs_names)) != self.track_names_:
            raise ValueError(
                "adata has other tracks than the model, or in another order: it was changed in place. Create the model again."
            )
        return self.adata

    def _own_genome(self) -> Genome:
        if self._genome is None:
            raise ValueError("the model has no FASTA file. Call set_genome('genome.fa') first.")
        return self._genome

    def _prepared_of(self, adata: AnnData | None) -> Prepared:
        prepared = _setup.prepare(self._own_data() if adata is None else adata, check=False)
        own = {name: getattr(self.config_, name) for name in ("seq_len", "bin_size", "crop")}
        if prepared.geometry != own:
            raise ValueError(f"the windows have {prepared.geometry}, the model reads {own}.")
        return prepared

    def _rows_of(self, groups: str | Sequence[str] | None) -> np.ndarray:
        """Numbers of the named tracks; all where None. KeyError for a name that is not there."""
        if groups is None:
            return np.arange(len(self.track_names_))
        wanted = [groups] if isinstance(groups, str) else [str(name) for name in groups]
        if absent := [name for name in wanted if name not in self.track_names_]:
            raise KeyError(f"there is no track {absent[0]!r}; the tracks are {', '.join(self.track_names_[:12])}.")
        return np.array([self.track_names_.index(name) for name in wanted])

    # saving

    def _to_files(self) -> ModelFiles:
        state = {
            "track_names": self.track_names_,
            "scale": self.scale_,
            "is_trained": self.is_trained_,
            "seed": self.seed,
            "training": self.training_,
            "history": self.history_,
        }
        network = self.config_.to_dict() | {"separate": isinstance(self.module, SeparateTracks)}
        return ModelFiles("Epiformer", network, dict(self.module.state_dict()), state)

    @classmethod
    def _from_files(cls, files: ModelFiles, adata: Any) -> Epiformer:
        folder = (files.path or Path(CONFIG)).parent
        with reading(folder, "a saved Epiformer"):
            model = _files.restored(cls, files)
        if adata is not None:
            prepared = model._prepared_of(adata)
            if prepared.track_names != model.track_names_:
                raise ValueError(
                    f"the tracks of adata are {', '.join(prepared.track_names[:5])}, those of the model "
                    f"{', '.join(model.track_names_[:5])}: select and order the same tracks, or load with adata=False."
                )
            model.adata, model._genome = adata, prepared.genome
        return model

    def _card_facts(self) -> CardFacts:
        return card_facts(self)
