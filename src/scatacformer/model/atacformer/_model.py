"""databio's Atacformer for AnnData: load, embed, train and save."""

from __future__ import annotations

import logging
import os
import warnings
import zlib
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import torch

from scatacformer._settings import settings
from scatacformer.cells import OverlapSource, RowSource, SentenceLoader
from scatacformer.genome import Vocabulary, check_same_assembly, overlap_matrix
from scatacformer.model._arguments import known_arguments, trainer_arguments
from scatacformer.model._rows import row_numbers
from scatacformer.nn import AtacformerConfig, AtacformerNetwork
from scatacformer.tokenizer import TokenizedCells, Tokenizer

from . import _files as files
from ._saving import SavingMixin
from ._sentences import TokenSentences
from ._setup import Setup, label_codes, record_setup, regions_of, setup_of, source_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import pandas as pd
    from anndata import AnnData

logger = logging.getLogger("scatacformer")

MIN_TOKENS = 200  # minimum number of tokens of a cell's barcode
MAX_BATCH_TOKENS = 32_768  # of a minibatch while embedding: the widest layer holds 100 MB of them


class Atacformer(SavingMixin):
    """Atacformer (LeRoy et al. 2025): a transformer over the open regions of a cell, in a fixed universe.

    :meth:`from_pretrained` loads models published by databio or written by its package ``geniml``; a new model is
    created from cells, whose regions become the universe, or from a ``vocabulary``.

    Parameters
    ----------
    adata
        Cells x regions, set up with :meth:`setup_anndata`: the cells that the model's methods read by default.
    vocabulary
        The regions, in the order of their token ids. Default: those of ``adata``.
    config
        Sizes; those of the published models by default.
    seed
        Seed of the initial weights, of the sampling of regions in long cells, and of training. Default:
        ``sf.settings.seed``.

    Examples
    --------
    >>> import scatacformer as sf
    >>> sf.Atacformer.setup_anndata(adata)
    >>> model = sf.Atacformer.from_pretrained("databio/atacformer-base-hg38", adata)
    >>> model.train()
    >>> adata.obsm["X_atacformer"] = model.get_latent_representation()
    """

    def __init__(
        self,
        adata: AnnData | None = None,
        vocabulary: Vocabulary | None = None,
        config: AtacformerConfig | None = None,
        seed: int | None = None,
    ) -> None:
        if adata is None and vocabulary is None:
            raise ValueError(
                "adata and vocabulary are both missing. Pass one of them: Atacformer(adata), or Atacformer(vocabulary=...)."
            )
        seed = settings.pick_seed(seed)
        setup = Setup() if adata is None else setup_of(adata)
        if vocabulary is None:
            assert adata is not None
            vocabulary = regions_of(adata)
        config = config or AtacformerConfig(vocabulary.n_bins + 7)
        if config.n_regions != vocabulary.n_bins:
            raise ValueError(
                f"vocab_size is {config.vocab_size:,}; expected {vocabulary.n_bins + 7:,}: the {vocabulary.n_bins:,} "
                "regions and 7 special tokens."
            )
        self._take(vocabulary, config, AtacformerNetwork(config, seed=seed).eval(), {}, seed)
        self.setup_ = setup
        self._set_data(adata)

    @classmethod
    @known_arguments()
    def setup_anndata(
        cls,
        adata: AnnData,
        layer: str | None = None,
        labels_key: str | None = None,
        unlabeled_category: str = "Unknown",
    ) -> None:
        """Register an AnnData: the location of the counts and the column of ``obs`` with labels, stored in
        ``adata.uns``.

        Parameters
        ----------
        adata
            Cells x regions. ``.var`` or ``.var_names`` name chromosome, start and end (``chr1:0-5000``); the regions
            need not be the model's.
        layer
            Layer with the counts; default ``.X``.
        labels_key
            Column of ``obs`` with labels, for ``train(objective="triplet")``.
        unlabeled_category
            Value of that column for cells without a label; NaN means the same.

        Raises
        ------
        ValueError
            A view; regions without positions; counts that are negative, not finite or not integer.
        KeyError
            The column does not exist.
        """
        record_setup(adata, Setup(layer, labels_key, unlabeled_category))

    def _take(
        self, vocabulary: Vocabulary, config: AtacformerConfig, module: AtacformerNetwork, content: dict, seed: int
    ) -> None:
        self.vocabulary, self.config, self.module, self.seed = vocabulary, config, module, int(seed)
        self._content = content  # of config.json, including keys that are not used
        named = (content.get("architectures") or [None])[0]
        if named not in files.ARCHITECTURES or (named == files.HEADED) != (module.discriminator is not None):
            named = files.HEADED if module.discriminator is not None else files.ARCHITECTURES[1]
        self._architecture: str = named
        self.history: dict[str, pd.DataFrame] = {}
        self.is_trained_ = False
        self.setup_, self._adata = Setup(), None

    def _set_data(self, adata: AnnData | None) -> None:
        self._adata = adata
        if adata is not None:
            self.setup_ = setup_of(adata, self.setup_)

    @property
    def adata(self) -> AnnData | None:
        """The cells that the model's methods read by default."""
        return self._adata

    @property
    def is_trained(self) -> bool:
        """Whether the model has been trained, here or before publication."""
        return self.is_trained_

    @property
    def tokenizer(self) -> Tokenizer:
        """From regions to the model's token ids."""
        return Tokenizer(self.vocabulary)

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.module.device

    def to_device(self, device: str | int | torch.device) -> Atacformer:
        """Move the weights, as in ``model.to_device("cuda")``; the model itself."""
        self.module.to(device)
        return self

    @torch.inference_mode()
    def get_latent_representation(
        self,
        adata: AnnData | TokenizedCells | str | os.PathLike | None = None,
        indices: Sequence[int] | np.ndarray | None = None,
        batch_size: int = 64,
        *,
        layer: str | None = None,
        max_tokens: int | None = None,
        barcodes: str | os.PathLike | Iterable[str] | None = None,
        min_tokens: int | None = None,
        seed: int | None = None,
    ) -> np.ndarray | pd.DataFrame:
        """Embedding of each cell: the mean of its regions' last hidden states.  (n_cells, hidden_size), float32.

        A cell's tokens are the regions of the universe that its open regions (or fragments) overlap by at least 1 bp,
        each once, in the order of the universe; the others are ignored. From more than ``max_tokens``, a sample is
        read that depends on (seed, name of the cell, token). Except for rounding, the result does not depend on
        ``batch_size`` or on other cells. A cell without tokens is zero, with a warning.

        Parameters
        ----------
        adata
            Cells x regions (bins or peaks, counts or zeros and ones), in memory or backed; a fragments file; or the
            result of ``model.tokenizer.tokenize_fragments``. Default: the cells of the model.
        indices
            Cells of an AnnData to embed: row numbers or a mask. All by default.
        batch_size
            Maximum number of cells per minibatch; fewer if they are long.
        layer
            Layer with the counts. Default: as registered for the cells, or otherwise for those of the model.
        max_tokens
            Maximum number of tokens per cell; default and limit: the model's ``max_position_embeddings``.
        barcodes, min_tokens
            For fragments: the cells, in this order, or a file that lists them; or the minimum number of tokens (200).
        seed
            Seed of the sampling; default: that of the model.

        Returns
        -------
        Array in the order of ``indices``; for fragments, a DataFrame indexed by barcode.

        Raises
        ------
        ValueError
            The regions overlap none of the universe, are from another assembly, or have no positions; counts
            are negative, not finite or not integer; ``max_tokens`` is out of range.
        """
        seed = self.seed if seed is None else int(seed)
        max_tokens = self._context(max_tokens)
        if isinstance(adata, str | os.PathLike | TokenizedCells):
            if indices is not None or layer is not None:
                raise ValueError("indices or layer is given for fragments; expected barcodes to select their cells.")
            cells = self._cells(adata, barcodes, min_tokens)
            z = self._embed(RowSource.from_matrix(cells.X), None, cells.barcodes, batch_size, max_tokens, seed)
            import pandas as pd

            return pd.DataFrame(z, index=pd.Index(cells.barcodes, name="barcode"))
        if barcodes is not None or min_tokens is not None:
            raise ValueError("barcodes or min_tokens is given for an AnnData; expected indices to select its cells.")
        data = self._cells_to_read(adata)
        source = self._source(data, layer)
        return self._embed(source, row_numbers(indices, data.n_obs), data.obs_names, batch_size, max_tokens, seed)

    def get_region_vectors(self) -> np.ndarray:
        """Vector of each region, before any layer.  (n_regions, hidden_size), float32; a copy."""
        table = self.module.embeddings.token_embeddings.weight
        return table[: self.config.n_regions].detach().cpu().numpy().copy()

    def bin_vectors(self, vocabulary: Vocabulary | Any, fill: Literal["nan", "mean"] = "nan") -> np.ndarray:
        """Vectors for other bins: the mean of those of the regions that overlap each.  (n_bins, hidden_size), float32.

        An approximation for initialisation: a region's vector describes its own interval, however little of it is in
        the bin. A bin without a region gets ``fill``: NaN, or the mean of all other bins.

        Parameters
        ----------
        vocabulary
            The bins; or a model, which has a vocabulary.
        fill
            Vector of a bin without a region: ``"nan"``, or ``"mean"`` of those with one.

        Raises
        ------
        ValueError
            Another assembly; no bin overlaps a region.
        """
        if fill not in ("nan", "mean"):
            raise ValueError(f"fill is {fill!r}; expected 'nan' or 'mean'.")
        bins = vocabulary if isinstance(vocabulary, Vocabulary) else vocabulary.vocabulary
        overlap = self._overlap(bins)
        n_regions = np.diff(overlap.indptr)
        vectors = overlap @ self.get_region_vectors()
        covered = n_regions > 0
        vectors[covered] /= n_regions[covered, None].astype(np.float32)
        vectors[~covered] = np.nan if fill == "nan" else vectors[covered].mean(0)
        return vectors

    @known_arguments(trainer_arguments)
    def train(
        self,
        adata: AnnData | None = None,
        objective: Literal["replaced_tokens", "triplet"] = "replaced_tokens",
        *,
        layer: str | None = None,
        labels_key: str | None = None,
        unlabeled_category: str | None = None,
        replaced_share: float = 0.45,
        margin: float = 1.0,
        max_epochs: int = 10,
        batch_size: int = 16,
        max_tokens: int | None = None,
        lr: float = 1.5e-4,
        weight_decay: float = 0.01,
        warmup_steps: int | None = None,
        train_size: float | None = None,
        validation_size: float | None = None,
        early_stopping: bool = True,
        early_stopping_patience: int = 3,
        accelerator: str = "auto",
        num_workers: int = 0,
        **trainer_kwargs: Any,
    ) -> None:
        """Continue training all weights, and keep those of the best epoch on held-out cells.

        AdamW; only the rows of the region table that a step has read are updated. ``model.history`` has the losses and
        ``validation_accuracy``, of tokens or of triplets. Memory: four times the weights.

        Parameters
        ----------
        adata
            Cells x regions. Default: the cells of the model.
        objective
            ``"replaced_tokens"``, as in pretraining: predict which regions were replaced by random ones. ``"triplet"``: a
            cell becomes closer to one of its label than to one of another label (Euclidean distance).
        layer, labels_key, unlabeled_category
            Layer with the counts; column with labels, and its value for unlabelled cells. Default: as registered.
        replaced_share, margin
            Probability that a region is replaced; minimum difference between the distances of a triplet.
        max_epochs, batch_size, max_tokens, lr, weight_decay, warmup_steps
            Maximum number of epochs; cells per step; maximum number of regions per cell; settings of AdamW.
        train_size, validation_size, early_stopping, early_stopping_patience
            Shares of the cells; whether to stop, and after how many epochs without an improvement on held-out cells.
        num_workers
            Number of processes that read cells.
        accelerator, **trainer_kwargs
            For Lightning's trainer: ``precision``, ``callbacks``, ``enable_progress_bar``, ...

        Raises
        ------
        ValueError
            An unknown objective; arguments out of range; too few labels; early stopping without held-out cells.
        FloatingPointError
            The loss is not finite.
        """
        from ._train import AtacformerOptions, train

        adata = self._cells_to_read(adata)
        setup = setup_of(adata, self.setup_)
        options = AtacformerOptions(
            objective=objective, replaced_share=replaced_share, margin=margin, max_epochs=max_epochs,
            batch_size=batch_size, max_tokens=self._context(max_tokens), lr=lr, weight_decay=weight_decay,
            warmup_steps=warmup_steps, early_stopping_patience=early_stopping_patience if early_stopping else None,
            num_workers=num_workers, seed=self.seed,
        )  # fmt: skip
        labels = labels_key or setup.labels_key, unlabeled_category or setup.unlabeled_category
        codes = label_codes(adata, *labels) if objective == "triplet" else None
        source, keys, device = self._source(adata, layer), _keys(adata.obs_names), self.device
        try:
            outcome = train(
                self.module, options, source, keys, codes, train_size, validation_size, accelerator, trainer_kwargs
            )
        finally:
            self.module.to(device).eval()
        self.history = outcome.history.frames()
        self._architecture = files.HEADED if objective == "replaced_tokens" else files.ARCHITECTURES[1]
        self.is_trained_ = True

    def __repr__(self) -> str:
        c = self.config
        n = sum(parameter.numel() for parameter in self.module.parameters())
        return (
            f"Atacformer: {c.num_hidden_layers} layers, {c.hidden_size} wide, {c.num_attention_heads} heads; "
            f"{c.n_regions:,} regions" + (f" of {self.vocabulary.assembly}" if self.vocabulary.assembly else "")
            + f", at most {c.max_position_embeddings:,} of a cell; positions {'on' if c.use_pos_embeddings else 'off'}; "
            + ("with a" if self.module.discriminator is not None else "no")
            + f" head for replaced tokens; {n / 1e6:.1f} million parameters"
        )  # fmt: skip

    def _context(self, max_tokens: int | None) -> int:
        most = self.config.max_position_embeddings
        if max_tokens is None:
            return most
        if not 1 <= max_tokens <= most:
            raise ValueError(f"max_tokens is {max_tokens}; expected 1 to {most:,}, the limit of the model.")
        return int(max_tokens)

    def _overlap(self, regions: Vocabulary) -> Any:
        check_same_assembly(regions, self.vocabulary)
        overlap = overlap_matrix(regions, self.vocabulary)
        if not overlap.nnz:
            v = self.vocabulary
            first = f"{v.chrom_names[v.chrom[0]]}:{v.start[0]}-{v.end[0]}"
            raise ValueError(
                f"none of the {regions.n_bins:,} regions (first: {regions.names[0]}) overlaps any of the model's "
                f"{v.n_bins:,} (first: {first}). Check the names of the chromosomes (chr1 or 1) and the assembly."
            )
        return overlap

    def _cells_to_read(self, adata: Any) -> AnnData:
        if adata is None and self._adata is None:
            raise ValueError("the model has no cells. Pass adata.")
        adata = self._adata if adata is None else adata
        if not hasattr(adata, "obs_names"):
            raise TypeError(f"adata is {type(adata).__name__}; expected an AnnData or the path of a fragments file.")
        return adata

    def _source(self, adata: AnnData, layer: str | None) -> OverlapSource:
        overlap = self._overlap(regions_of(adata))
        if (lost := float((np.diff(overlap.indptr) == 0).mean())) > 0.5:
            logger.warning("%.0f%% of the regions overlap none of the model's and are ignored", 100 * lost)
        return OverlapSource(source_of(adata, layer or setup_of(adata, self.setup_).layer), overlap)

    def _cells(
        self,
        cells: TokenizedCells | str | os.PathLike,
        barcodes: str | os.PathLike | Iterable[str] | None,
        min_tokens: int | None,
    ) -> TokenizedCells:
        if barcodes is not None and min_tokens is not None:
            raise ValueError("both barcodes and min_tokens are given, which select the cells. Pass only one of them.")
        if not isinstance(cells, TokenizedCells):
            name, listed = os.fspath(cells), os.fspath(barcodes) if isinstance(barcodes, os.PathLike) else barcodes
            cells = self.tokenizer.tokenize_fragments(name, listed)
            least = MIN_TOKENS if min_tokens is None and barcodes is None else min_tokens or 0
        elif cells.vocabulary != self.vocabulary:
            raise ValueError("the cells have tokens of other regions. Create them with model.tokenizer.")
        else:
            name, least = "the tokenized cells", min_tokens or 0
            cells = cells if barcodes is None else cells[list(cast("Iterable[str]", barcodes))]
        if len(cells) and cells.n_tokens.max() < least:
            raise ValueError(
                f"no barcode of {name} has {least:,} tokens (maximum: {cells.n_tokens.max():,}). Lower min_tokens."
            )
        return cells[cells.n_tokens >= least]

    def _embed(
        self,
        source: RowSource | OverlapSource,
        rows: np.ndarray | None,
        names: Sequence[str] | np.ndarray,
        batch_size: int,
        max_tokens: int,
        seed: int,
    ) -> np.ndarray:
        loader = SentenceLoader(
            source, rows, batch_size, collate=TokenSentences(_keys(names), max_tokens, seed),
            max_tokens_per_batch=MAX_BATCH_TOKENS,
        )  # fmt: skip
        self.module.eval()
        parts, empty = [], []
        for batch in loader:
            cu_seqlens = batch["cu_seqlens"]
            empty += batch["cells"][cu_seqlens[1:] == cu_seqlens[:-1]].tolist()
            z = self.module.embed(batch["tokens"].to(self.device), cu_seqlens.to(self.device))
            parts.append(z.float().cpu().numpy())
        if empty:
            warnings.warn(
                f"{len(empty):,} cells have no region in the model's universe and are zero (first: {names[empty[0]]})",
                UserWarning,
                stacklevel=3,
            )
        return np.concatenate(parts) if parts else np.empty((0, self.config.hidden_size), np.float32)


def _keys(names: Iterable[str]) -> np.ndarray:
    """A number for each cell that depends on its name.  (n_cells,) int64"""
    return np.fromiter((zlib.crc32(str(name).encode()) for name in names), dtype=np.int64)
