"""GET for AnnData: from the regions of a group and their motifs to its expression."""

from __future__ import annotations

import copy
import logging
from typing import TYPE_CHECKING, Any

from scatacformer._settings import settings
from scatacformer.model._arguments import known_arguments
from scatacformer.nn import GETConfig, GETNetwork

from ._enhancers import EnhancerMixin
from ._files import FilesMixin
from ._interpret import InterpretationMixin
from ._perturb import PerturbationMixin
from ._predict import PredictionMixin
from ._setup import Setup, prepare, record_modality, record_setup, regions_of, setup_of
from ._training import TrainingMixin

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData


logger = logging.getLogger("scatacformer")


class GET(TrainingMixin, PredictionMixin, InterpretationMixin, PerturbationMixin, EnhancerMixin, FilesMixin):
    """General Expression Transformer: a transformer over the neighbouring regions of a chromosome.

    A region is read as its motif scores and its accessibility in a group of cells; what the regions of a window tell
    each other predicts the expression of the genes that start in them, in groups and on chromosomes that were never
    seen. Derivatives of the prediction say which motifs in which regions drive a gene.

    Parameters
    ----------
    regions
        Pseudobulks: groups × regions, set up with :meth:`setup_anndata`; or a MuData, with :meth:`setup_mudata`.
    size
        ``"small"`` trains on a laptop; ``"base"`` has the sizes of the paper and needs a GPU.
    binary
        Read only whether a region is accessible, not how much: for the interpretation of motifs.
    open_only
        Windows hold the regions that are open in the group, and skip the others: the same number of regions then
        reaches further. Genes whose region is closed are not predicted.
    stride
        Regions from one window to the next, in training and in prediction; each region counts in the window that shows
        most of its neighbours on either side. None: half a window. Fewer than that shows more, and takes longer.
    seed
        Of the first weights and of training. Default: ``sf.settings.seed``.
    **sizes
        Of the network, where they differ from ``size``: ``n_regions``, ``d_model``, ``n_layers``, ``n_heads``,
        ``d_feedforward``, ``drop_path``, ``input_dropout``.

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
        regions: AnnData | MuData,
        size: str = "small",
        *,
        binary: bool = False,
        open_only: bool = False,
        stride: int | None = None,
        seed: int | None = None,
        **sizes: Any,
    ) -> None:
        seed = settings.pick_seed(seed)
        regions = regions_of(regions)
        setup = setup_of(regions)
        prepared = prepare(regions, setup)
        config = GETConfig.of_size(size, len(prepared.motif_names) + 1, **sizes)
        self._take(
            GETNetwork(config, "expression", seed).eval(),
            setup=setup,
            motif_names=prepared.motif_names,
            motif_scale=prepared.motif_scale,
            binary=binary,
            open_only=open_only,
            stride=stride,
            seed=seed,
        )
        self._set_data(prepared)

    @classmethod
    @known_arguments()
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
    def setup_mudata(
        cls,
        mdata: MuData,
        modality: str = "atac",
        motif_key: str = "motif",
        accessibility_layer: str = "acpm",
        expression_layers: tuple[str, str] | None = ("exp_pos", "exp_neg"),
        chrom_key: str = "chrom",
    ) -> None:
        """Set up the regions of a MuData of pseudobulks, as ``sf.pp.pseudobulk`` makes one of a multiome.

        The model and its getters then take the MuData in place of the AnnData. Expression is read from the layers that
        ``sf.pp.map_expression(mdata["atac"], mdata["rna"], gtf)`` writes beside the accessibility.

        Parameters
        ----------
        mdata
            Groups × regions, and anything else.
        modality
            Name of the modality with the regions.
        motif_key, accessibility_layer, expression_layers, chrom_key
            As in :meth:`setup_anndata`, of that modality.

        Raises
        ------
        KeyError
            There is no such modality.
        ValueError
            As in :meth:`setup_anndata`.

        Examples
        --------
        >>> import scatacformer as sf
        >>> bulk = sf.pp.pseudobulk(mdata, "cell_type")
        >>> sf.pp.scan_motifs(bulk["atac"], "hg38.fa")
        >>> sf.pp.map_expression(bulk["atac"], bulk["rna"], "gencode.gtf.gz")
        >>> sf.GET.setup_mudata(bulk)
        >>> model = sf.GET(bulk)
        """
        layers = None if expression_layers is None else tuple(expression_layers)
        setup = Setup(motif_key, accessibility_layer, layers, chrom_key)  # type: ignore[arg-type]
        record_modality(mdata, modality, setup)

    @classmethod
    def load_query_data(cls, adata: AnnData | MuData, reference_model: GET) -> GET:
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
        model.setup_ = setup_of(prepared.adata, reference_model.setup_)
        model._prepared, model.regions_ = prepared, prepared.regions
        return model

    def __repr__(self) -> str:
        c = self.config_
        n = sum(parameter.numel() for parameter in self.module.parameters())
        state = f"trained on {self.target_}" if self.is_trained_ else "not trained"
        return (
            f"GET: windows of {c.n_regions:,} regions × {c.n_features - 1:,} motifs and "
            f"{'binary' if self.binary_ else 'quantitative'} accessibility; {c.n_layers} layers, {c.d_model} wide, "
            f"{c.n_heads} heads, {n:,} parameters; {state}"
        )
