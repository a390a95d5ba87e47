"""``ScAtacFormer``: from AnnData to an embedding and predicted accessibility."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from scatacformer._settings import settings
from scatacformer.cells import match_pairs, validate_anndata
from scatacformer.genome import Vocabulary
from scatacformer.model._arguments import known_arguments
from scatacformer.model._fields import note_regions, refuse_changed, regions_of
from scatacformer.model._scvi import Manager, forget_arguments
from scatacformer.nn import NetworkConfig, ScAtacNetwork, shortened

from ._accessibility import AccessibilityMixin
from ._annotate import annotate
from ._dna import read_dna
from ._eos import classes_to_read, readers_of
from ._files import FilesMixin
from ._mudata import modality_names, remember_set_up
from ._query import QueryMixin
from ._reader import Encodings
from ._setup import UNLABELED, fields_of
from ._tasks import label_sizes
from ._train import TrainingMixin
from ._trainable import Trainable
from .paired._paired import MODALITIES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from os import PathLike

    from anndata import AnnData
    from mudata import MuData
    from torch import Tensor

    from scatacformer.genome import RegionClasses

# for scvi-tools, when cells are set up like those of a model
SETUP_ARGUMENTS = ("source_registry", "extend_categories", "allow_missing_labels", "fixed_labels")


class ScAtacFormer(TrainingMixin, AccessibilityMixin, QueryMixin, FilesMixin):
    """A transformer for single-cell ATAC-seq.

    A cell is the set of its open regions, read by an encoder without positions. ``<cls>`` represents the cell, and one
    ``<eos>`` per chromosome predicts the state of every region: closed, kept or removed.

    Parameters
    ----------
    adata
        AnnData that was registered by :meth:`setup_anndata`: cells x regions, counts, CSR; or MuData that was registered
        by :meth:`setup_mudata`, with paired RNA.
    registry
        scvi-tools' registry, for a model without ``adata``, as in loading.
    size
        ``"small"``: 128 wide, 2 layers, for a laptop. ``"base"``: 512 wide, 12 layers, for a GPU.
    d_model, n_layers, n_heads, d_embed, max_tokens
        Sizes that differ from the preset: width, layers and heads of the encoder; rank of the bin table, which is the
        maximum number of dimensions of the embedding; maximum number of open regions of a cell that the encoder reads
        (all are pooled).
    decoder
        ``"bilinear"``; ``"mlp"``, a hundred times slower over a genome; or ``"cross_attention"``: scored as bilinear,
        with ``<eos>`` outside the sentence that attend to the encoder's output and not to each other.
    removed_share
        Share of a cell's open regions that is removed from the input in a training step, 0 to 0.9. With 0, the kept
        regions are distinguished from closed ones, and no region is predicted as removed.
    attention
        ``"auto"``, or a backend by name: ``"flash"``, ``"varlen"``, ``"grouped"``, ``"padded"``.
    cls_token
        Whether a sentence has ``<cls>``. Without it, the embedding is always the pool of the cell's regions.
    embedding
        ``"factorised"``: the encoder reads a region's ``d_embed`` numbers through a projection. ``"full"``: a separate
        vector of ``d_model`` numbers, trained at ``lr``; 4 ``d_model`` bytes per region, and four times that in
        training.
    decoder_input
        ``"small"``: the decoder reads ``d_embed`` numbers of a region. ``"full"``: the ``d_model`` that the encoder
        reads, and ``<eos>`` at its full width.
    eos
        ``"chromosome"``: one ``<eos>`` per chromosome predicts its regions. ``"region_class"``: one per class of
        genomic region, promoter, exon, enhancer, ...; the logit of a region is the mean over its classes.
    region_classes
        For ``eos="region_class"``: the classes of the regions. Default: the annotation of ``adata`` by
        :func:`scatacformer.pp.annotate_bins`. They are saved with the model: new cells need no annotation.
    supervised
        Whether the model predicts the labels registered by :meth:`setup_anndata`; see :meth:`predict`.
    dna
        A table of DNA features of each region, (n_regions, d), from :func:`scatacformer.pp.dna_embeddings` or any other
        source: a ``.npy`` file, which is memory-mapped, an array or a tensor. It is frozen; trained projections of it,
        initialised to zero, are added to the region's vectors for the encoder and the decoder.
    vocabulary
        The regions, for a model without ``adata``; otherwise they are those of ``adata``.
    seed
        Seed of all random numbers. The same seed gives the same weights on the same machine. Default:
        ``sf.settings.seed``.

    Examples
    --------
    >>> import scatacformer as sf
    >>> sf.ScAtacFormer.setup_anndata(adata)
    >>> model = sf.ScAtacFormer(adata)
    >>> model.train()
    >>> adata.obsm["X_scatacformer"] = model.get_latent_representation()
    """

    _module_cls = ScAtacNetwork

    def __init__(
        self,
        adata: AnnData | MuData | None = None,
        registry: dict | None = None,
        size: Literal["small", "base"] = "small",
        d_model: int | None = None,
        n_layers: int | None = None,
        n_heads: int | None = None,
        d_embed: int | None = None,
        max_tokens: int | None = None,
        decoder: Literal["bilinear", "mlp", "cross_attention"] = "bilinear",
        removed_share: float = 0.5,
        attention: str = "auto",
        cls_token: bool = True,
        embedding: Literal["factorised", "full"] = "factorised",
        decoder_input: Literal["small", "full"] = "small",
        eos: Literal["chromosome", "region_class"] = "chromosome",
        supervised: bool = False,
        dna: str | PathLike | np.ndarray | Tensor | None = None,
        seed: int | None = None,
        vocabulary: Vocabulary | None = None,
        region_classes: RegionClasses | None = None,
    ) -> None:
        adata = self._take(adata)
        super().__init__(adata, registry)
        if adata is not None:
            refuse_changed(self.adata_manager, adata)
            vocabulary = regions_of(adata)
        elif vocabulary is None:
            raise ValueError(
                "adata and vocabulary are both missing. Without adata, pass ScAtacFormer(registry=..., vocabulary=...)."
            )
        self.vocabulary_ = vocabulary
        self._kept = Encodings()
        self._region_classes = classes_to_read(eos, region_classes, self._annotated(adata), vocabulary)
        readers = readers_of(vocabulary, self._region_classes)
        self.eos_names_ = readers.names
        self.seed_ = settings.pick_seed(seed)
        self.trainable_ = Trainable().to_dict()
        self.labels_fitted_ = []  # tasks whose heads have learned
        self.matching_ = {}  # how well held-out pairs are distinguished
        table, made_of = (None, None) if dna is None else read_dna(dna, vocabulary)
        self.config_ = NetworkConfig.of_size(
            size, n_bins=vocabulary.n_bins, n_eos=len(readers.names), n_batch=self.summary_stats.n_batch,
            d_model=d_model, n_layers=n_layers, n_heads=n_heads, d_embed=d_embed, max_tokens=max_tokens,
            decoder=decoder, removed_share=removed_share, attention=attention, cls_token=cls_token,
            embedding=embedding, decoder_input=decoder_input, d_dna=0 if table is None else table.shape[1],
            **(label_sizes(self.registry_) if supervised else {}),
        )  # fmt: skip
        self.module = self._module_cls(self.config_, readers.group, seed=self.seed_, readers=readers.shares)
        if table is not None:
            self.module.embedding.dna.hold(table)
            self.dna_ = made_of
        self.get_normalized_function_name_ = "get_normalized_accessibility"
        c = self.config_
        self._model_summary_string = (
            f"ScAtacFormer: {c.n_layers} layers, {c.d_model} wide, {c.n_heads} heads; {c.n_bins:,} regions on "
            f"{vocabulary.n_chroms} chromosomes"
            + (f" of {vocabulary.assembly}" if vocabulary.assembly else "")
            + (f", in {c.n_eos} classes" if self._region_classes is not None else "")
            + f"; embedding of at most {c.d_embed} dimensions; {c.decoder} decoder; {c.n_batch} batch"
            + ("es" if c.n_batch != 1 else "")
            + "".join(f"; {n} {'organs' if task == 'organ' else task}" for task, n in c.tasks.items())
            + (f"; DNA of {c.d_dna} numbers per region" if c.d_dna else "")
            + f"; {self._n_parameters() / 1e6:.1f} million parameters"
        )
        self.init_params_ = self._get_init_params(locals())
        forget_arguments(self, ("vocabulary", "region_classes", "dna"))  # saved in separate files

    @classmethod
    @known_arguments(SETUP_ARGUMENTS)
    def setup_anndata(
        cls,
        adata: AnnData,
        layer: str | None = None,
        batch_key: str | None = None,
        labels_key: str | None = None,
        unlabeled_category: str = UNLABELED,
        organ_key: str | None = None,
        **kwargs: Any,
    ) -> None:
        """Register an AnnData: the location of the counts, and the columns of ``obs`` with batch and label.

        The counts stay where they are, in memory or on disk; ``obs`` and ``uns`` get the columns and ids that
        scvi-tools keeps there.

        Parameters
        ----------
        adata
            Cells x regions. ``.var`` or ``.var_names`` contain chromosome, start, end (``chr1:0-5000``).
        layer
            Layer with the counts; default ``.X``.
        batch_key
            Column of ``obs`` with the batch: a covariate of the decoder, so that it need not be in the embedding.
        labels_key
            Column of ``obs`` with labels, usually cell types. They are used only by a ``supervised`` model.
        unlabeled_category
            Value of that column, or of ``organ_key``'s, for cells without a label; NaN means the same. Such cells are
            used in training, but not to fit the labels.
        organ_key
            Column of ``obs`` with a second label, which a ``supervised`` model predicts in addition.
        **kwargs
            For scvi-tools' ``AnnDataManager.register_fields``, such as ``source_registry``.

        Raises
        ------
        ValueError
            The AnnData is a view; counts are NaN, negative or not integer; cells or regions are empty, duplicate,
            unknown, or beyond the end of their chromosome; the matrix is CSC.
        """
        setup_method_args = cls._get_setup_method_args(**locals())
        validate_anndata(adata)  # before scvi-tools, whose message on views is less helpful
        fields = fields_of(layer, batch_key, labels_key, unlabeled_category, organ_key)
        manager = Manager(fields=fields, setup_method_args=setup_method_args)
        manager.register_fields(adata, **kwargs)
        note_regions(manager, adata)
        cls.register_manager(manager)

    @classmethod
    @known_arguments(SETUP_ARGUMENTS)
    def setup_mudata(
        cls,
        mdata: MuData,
        rna_layer: str | None = None,
        atac_layer: str | None = None,
        batch_key: str | None = None,
        labels_key: str | None = None,
        modalities: dict[str, str] | None = None,
        unlabeled_category: str = UNLABELED,
        organ_key: str | None = None,
        **kwargs: Any,
    ) -> None:
        """Register a MuData of paired cells: counts of genes and of regions, measured in the same cells.

        Cells are matched by ``obs_names``, in any order. ``mdata`` is neither reordered nor modified. Row numbers in
        arguments and results of methods are those of ``mdata.obs``. The model keeps a reference to the current counts:
        they must not be changed in place later, and a replaced ``.X`` is not noticed.

        Parameters
        ----------
        mdata
            RNA, cells x genes, and ATAC, cells x regions; raw counts in both.
        rna_layer, atac_layer
            Layers with the counts; default ``.X``.
        batch_key, labels_key, organ_key
            Columns with the batch, the label and a second label, in the ``obs`` of the ATAC modality, of the RNA, or of
            ``mdata``.
        modalities
            Names of the two: ``{"rna_layer": "rna", "atac_layer": "atac"}`` by default.
        unlabeled_category
            As in :meth:`setup_anndata`.
        **kwargs
            As in :meth:`setup_anndata`.

        Raises
        ------
        ValueError
            ``mdata`` is a view; cells were measured in only one modality (the error gives their number); counts are
            NaN, negative or not integer; cells or regions are empty, duplicate or unknown.
        KeyError
            The modality, layer or column does not exist.
        """
        names = modality_names(modalities)
        cells = match_pairs(
            mdata, names["rna_layer"], names["atac_layer"], rna_layer, atac_layer,
            tuple(key for key in (batch_key, labels_key, organ_key) if key is not None),
        )  # fmt: skip
        cls.setup_anndata(
            cells.atac, layer=atac_layer, batch_key=batch_key, labels_key=labels_key,
            unlabeled_category=unlabeled_category, organ_key=organ_key, **kwargs,
        )  # fmt: skip
        remember_set_up(mdata, {"rna_layer": rna_layer, "atac_layer": atac_layer, "modalities": names}, cells)

    def __repr__(self) -> str:
        trained = "embedding fitted" if self.embedding_only_ else "trained" if self.is_trained_ else "not trained"
        return f"{self._model_summary_string}; {trained}"

    @property
    def vocabulary(self) -> Vocabulary:
        """The regions of the model, in its order."""
        return self.vocabulary_

    @property
    def region_classes(self) -> RegionClasses | None:
        """The classes of its regions, for a model with ``eos="region_class"``; otherwise None."""
        return self._region_classes

    @torch.inference_mode()
    def get_latent_representation(
        self,
        adata: AnnData | MuData | None = None,
        indices: Sequence[int] | np.ndarray | None = None,
        batch_size: int | None = None,
        modality: Literal["joint", "expression", "accessibility"] | None = None,
    ) -> np.ndarray:
        """Embedding of each cell.  (n_cells, n_latent), float32, in the order of ``indices``.

        n_latent is the number of dimensions in which the training cells differ by more than noise, at most ``d_embed``;
        their scale shows by how much. Each vector is divided by its length to the power 3/4, a compromise between
        distance and angle that preserves neighbours and keeps a type that is spread along a ray in one cluster. Except
        for rounding, the result does not depend on ``batch_size`` or on the order of a cell's regions.

        A model of pairs has one space for both modalities, of unit vectors: ``modality="accessibility"`` uses only the
        ATAC, ``"expression"`` only the RNA, and ``"joint"`` (the default with RNA) is the mean of the two, scaled to
        length 1; for a cell without RNA it is that of its ATAC. Raises ValueError for a modality that the model or the
        cells lack.
        """
        self._check_if_trained(warn=False)
        if modality is not None and modality not in MODALITIES:
            raise ValueError(f"modality is {modality!r}; expected one of {MODALITIES}.")
        asked = self._asked(adata, indices)
        if self.paired is not None:
            return self._pairs_reader(asked).latent(asked.rows, modality, batch_size)
        if modality in ("joint", "expression"):
            self._need_network()
        used = torch.nonzero(self.module.latent_weight).squeeze(1)
        parts = []
        for z in self._reader(asked.adata).embedded(asked.rows, batch_size):
            parts.append(shortened(z[:, used].float()).cpu().numpy())
        return np.concatenate(parts) if parts else np.empty((0, len(used)), np.float32)

    def annotate(
        self,
        adata: AnnData | MuData | None = None,
        accessibility: bool | str = True,
        region_list: Sequence[str] | None = None,
        threshold: float | None = None,
        store: str | Path | None = None,
        key: str = "scatacformer",
        batch_size: int | None = None,
    ) -> None:
        """Write the embedding and the predicted accessibility of the cells into ``adata``.

        ``.obsm["X_scatacformer"]`` gets the embedding, ``.obs["n_tokens"]`` the open regions of each cell and
        ``.obs["n_tokens_cut"]`` the number of them that the encoder did not read (they are pooled nevertheless).
        Predicted accessibility is written

        - by default to ``.layers["scatacformer"]``, sparse above ``threshold``; default: the threshold that leaves
          about as many entries as the cells have open regions, kept in ``.uns["scatacformer"]["threshold"]``;
        - with ``region_list`` to ``.obsm["scatacformer_accessibility"]``, a dense DataFrame of these regions;
        - with ``store`` to a zarr array (n_cells, n_regions) float32 on disk, chunk by chunk, all regions;
        - not at all with ``accessibility=False``.

        A MuData gets the joint embedding in its ``.obsm["X_scatacformer"]`` and that of each modality in theirs; the
        ATAC modality all the above; the RNA predicted expression, ``.layers["scatacformer_predicted"]`` (dense; in
        ``.obsm`` of the ATAC without RNA), and the distance of its cells' two embeddings,
        ``.obs["scatacformer_distance"]``.

        ``adata`` None: the cells of the model. Memory: one minibatch of cells x 65,536 regions plus the result. Raises
        ValueError for ``accessibility`` of a model of which only the embedding was fitted.
        """
        if accessibility:
            self._check_decoder()
        self._check_if_trained(warn=False)
        path = None if store is None else Path(store)
        annotate(self, adata, accessibility, region_list, threshold, path, key, batch_size)
