"""GET for AnnData: from the regions of a group and their motifs to its expression."""

from __future__ import annotations

import copy
import logging
from typing import TYPE_CHECKING, Any

from scatacformer.nn import GETConfig, GETNetwork

from ._enhancers import EnhancerMixin
from ._files import FilesMixin, scanner_of
from ._interpret import InterpretationMixin
from ._perturb import PerturbationMixin
from ._predict import PredictionMixin
from ._setup import Prepared, Setup, prepare, record_setup, setup_of
from ._training import TrainingMixin

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import torch
    from anndata import AnnData

    from scatacformer.genome import Vocabulary

logger = logging.getLogger("scatacformer")


class GET(TrainingMixin, PredictionMixin, InterpretationMixin, PerturbationMixin, EnhancerMixin, FilesMixin):
    """General Expression Transformer: a transformer over the neighbouring regions of a chromosome.

    A region is read as its motif scores and its accessibility in a group of cells; what the regions of a window tell
    each other predicts the expression of the genes that start in them, in groups and on chromosomes that were never
    seen. Derivatives of the prediction say which motifs in which regions drive a gene.

    Parameters
    ----------
    regions
        Pseudobulks: groups × regions, set up with :meth:`setup_anndata`.
    size
        ``"small"`` trains on a laptop; ``"base"`` has the sizes of the paper and needs a GPU.
    binary
        Read only whether a region is accessible, not how much: for the interpretation of motifs.
    open_only
        Windows hold the regions that are open in the group, and skip the others: the same number of regions then reaches
        further. Genes whose region is closed are not predicted.
    stride
        Regions from one window to the next, in training and in prediction; each region counts in the window that shows
        most of its neighbours on either side. None: half a window. Fewer than that shows more, and takes longer.
    seed
        Of the first weights and of training.
    **sizes
        Of the network, where they differ from ``size``: ``n_regions``, ``d_model``, ``n_layers``, ``n_heads``,
        ``d_feedforward``, ``drop_path``.

    Examples
    --------
    >>> import scatacformer as sf
    >>> sf.GET.setup_anndata(regions)
    >>> model = sf.GET(regions)
    >>> model.train(holdout_chromosomes=["chr10", "chr11"], holdout_groups=["T"])
    >>> expression = model.get_predicted_expression()
    >>> gbm = model.get_gene_by_motif(null=True)

    Notes
    -----
    Source: Fu et al., Nature 2025 (GET), rebuilt from its description. The model is given no DNA and no positions: what
    is not in the motif scores, and how far regions lie apart, it cannot know.
    """

    def __init__(
        self,
        regions: AnnData,
        size: str = "small",
        *,
        binary: bool = False,
        open_only: bool = False,
        stride: int | None = None,
        seed: int = 0,
        **sizes: Any,
    ) -> None:
        setup = setup_of(regions)
        prepared = prepare(regions, setup)
        config = GETConfig.of_size(size, len(prepared.motif_names) + 1, **sizes)
        self._take(
            GETNetwork(config, "expression", seed).eval(),
            setup=setup,
            motif_names=prepared.motif_names,
            motif_scale=prepared.data.motif_scale,
            binary=binary,
            open_only=open_only,
            stride=stride,
            seed=seed,
        )
        self._set_data(prepared)

    def _take(
        self,
        module: GETNetwork,
        *,
        setup: Setup,
        motif_names: tuple[str, ...],
        motif_scale: np.ndarray,
        binary: bool,
        open_only: bool,
        stride: int | None,
        seed: int,
    ) -> None:
        """Everything that a model is, but for its data; what is saved ends with ``_``."""
        self.module = module
        self.setup_, self.motif_names_, self.motif_scale_ = setup, tuple(motif_names), motif_scale
        self.binary_, self.open_only_, self.seed_ = bool(binary), bool(open_only), int(seed)
        n = module.config.n_regions
        self.stride_ = max(1, n // 2) if stride is None else int(stride)
        if not 1 <= self.stride_ <= n:
            raise ValueError(f"stride is from 1 to the {n} regions of a window, found {stride}")
        self.accessibility_groups_: list[str] = []  # of the outputs of a network that predicts accessibility
        self.is_trained_ = False
        self.training_: dict[str, Any] = {}  # on which groups and chromosomes, and what was held out
        self.history_: dict[str, pd.DataFrame] = {}
        self.scanner_: dict[str, Any] = {}  # how sequences are scanned for the motifs, where known
        self.regions_: Vocabulary | None = None
        self._prepared: Prepared | None = None

    def _set_data(self, prepared: Prepared) -> None:
        self._prepared, self.regions_ = prepared, prepared.regions
        self.scanner_ = scanner_of(prepared.adata, self.setup_.motif_key)

    @classmethod
    def setup_anndata(
        cls,
        regions: AnnData,
        motif_key: str = "motif",
        accessibility_layer: str = "acpm",
        expression_layers: tuple[str, str] | None = ("exp_pos", "exp_neg"),
        chrom_key: str = "chrom",
    ) -> None:
        """Say which parts of the AnnData the model reads; all of it is checked, and noted in ``regions.uns``.

        Parameters
        ----------
        regions
            Groups × regions, from ``sf.pp.pseudobulk``, ``sf.pp.scan_motifs`` and ``sf.pp.map_expression``. ``var`` has
            ``chrom``, ``start`` and ``end`` (0-based, half-open); the order of the columns does not matter.
        motif_key
            ``varm`` with the motif scores, regions × motifs, 0 or more; names of the motifs in ``uns`` under this key.
        accessibility_layer
            Accessibility of each region in each group (aCPM), 0 or more.
        expression_layers
            Expression targets on the + and the - strand, log10(TPM + 1). None: there is no expression. Layers that are
            not there are an error only when expression is trained on.
        chrom_key
            Column of ``var`` with the chromosome.

        Raises
        ------
        ValueError
            A key or layer is missing; values are NaN, infinite or negative; accessibility is all zero in a group.
        """
        layers = None if expression_layers is None else tuple(expression_layers)
        record_setup(regions, Setup(motif_key, accessibility_layer, layers, chrom_key))  # type: ignore[arg-type]

    @classmethod
    def load_query_data(cls, adata: AnnData, reference_model: GET) -> GET:
        """A copy of a model on other groups or regions, to be trained on: for instance ``query.train(lora=8, ...)``.

        To predict alone no copy is needed: hand the AnnData to the getters.

        Parameters
        ----------
        adata
            Groups × regions with the model's motifs; see ``sf.pp.union_regions`` for regions that agree.
        reference_model
            The model; it is not changed.

        Raises
        ------
        ValueError
            The AnnData has other motifs than the model, or cannot be used.
        """
        prepared = reference_model._prepared_of(adata)
        model = cls.__new__(cls)
        model.__dict__.update(reference_model.__dict__)
        model.module = copy.deepcopy(reference_model.module)
        model.setup_ = setup_of(adata, reference_model.setup_)
        model._prepared, model.regions_ = prepared, prepared.regions
        return model

    @property
    def adata(self) -> AnnData | None:
        """The AnnData that the model was made with, or None."""
        return self._prepared.adata if self._prepared is not None else None

    @property
    def config_(self) -> GETConfig:
        """Sizes of the network."""
        return self.module.config

    @property
    def target_(self) -> str:
        """What the network predicts: ``"expression"``, ``"accessibility"`` or, after pretraining alone, the input."""
        return self.module.target

    @property
    def history(self) -> dict[str, pd.DataFrame]:
        """Losses and scores by epoch, one frame a metric."""
        return self.history_

    @property
    def is_trained(self) -> bool:
        """Whether :meth:`train` was called, or trained weights were read."""
        return self.is_trained_

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.module.device

    def to_device(self, device: str | int | torch.device) -> GET:
        """Move the weights, as in ``model.to_device("cuda")``; returns the model."""
        self.module.to(device)
        return self

    @property
    def _accessibility(self) -> str:
        """What the last feature is; see ``RegionData.features``."""
        if self.target_ == "accessibility":
            return "ones"
        return "binary" if self.binary_ else "quantitative"

    def _prepared_of(self, adata: AnnData | None) -> Prepared:
        if adata is None:
            if self._prepared is None:
                raise ValueError("the model was read without data: hand it an AnnData, as in adata=regions")
            return self._prepared
        return prepare(adata, setup_of(adata, self.setup_), self.motif_names_, self.motif_scale_)

    def _check_target(self, *targets: str) -> None:
        if not self.is_trained_:
            raise RuntimeError("the model is not trained: call train() first")
        if self.target_ not in targets:
            raise RuntimeError(
                f"the model predicts {self.target_}, and this needs one that predicts {' or '.join(targets)}: "
                f"train(target={targets[0]!r})"
            )

    def __repr__(self) -> str:
        c = self.config_
        n = sum(parameter.numel() for parameter in self.module.parameters())
        state = f"trained on {self.target_}" if self.is_trained_ else "not trained"
        return (
            f"GET: windows of {c.n_regions:,} regions × {c.n_features - 1:,} motifs and "
            f"{'binary' if self.binary_ else 'quantitative'} accessibility; {c.n_layers} layers, {c.d_model} wide, "
            f"{c.n_heads} heads, {n:,} parameters; {state}"
        )
