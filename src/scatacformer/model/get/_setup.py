"""What GET reads of an AnnData of groups × regions, checked before any work starts."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from scatacformer.genome import Vocabulary
from scatacformer.pseudobulk import RegionData

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from anndata import AnnData
    from mudata import MuData

SETUP = "scatacformer_get"  # key of uns
GENE_TSS = "gene_tss"  # the same; written by sf.pp.map_expression
SCANNER = (
    "motifs",
    "checksum",
    "p_value",
    "reduce",
    "cluster_reduce",
    "pseudocount",
    "kmers",
)  # the same; by sf.pp.scan_motifs


@dataclass(frozen=True)
class Setup:
    """Which parts of the AnnData are read."""

    motif_key: str = "motif"
    accessibility_layer: str = "acpm"
    expression_layers: tuple[str, str] | None = ("exp_pos", "exp_neg")
    chrom_key: str = "chrom"

    def to_dict(self) -> dict[str, Any]:
        """For ``uns`` and for JSON."""
        return asdict(self) | {"expression_layers": list(self.expression_layers or [])}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Setup:
        """What :meth:`to_dict` wrote; ``uns`` of a file has arrays where there were lists."""
        layers = tuple(str(name) for name in content["expression_layers"])
        keys = ("motif_key", "accessibility_layer", "chrom_key")
        return cls(**{key: str(content[key]) for key in keys}, expression_layers=layers or None)  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False)
class Prepared:
    """Groups × regions as the network reads them."""

    adata: AnnData
    regions: Vocabulary
    data: RegionData
    motif_names: tuple[str, ...]
    names: tuple[pd.Index, pd.Index]
    """Of the rows and the columns, when the arrays of ``data`` were taken."""

    def refuse_changed(self) -> None:
        """ValueError if the AnnData was changed in place since: the arrays are read by position."""
        for what, was, now in zip(
            ("groups", "regions"), self.names, (self.adata.obs_names, self.adata.var_names), strict=True
        ):
            if now is not was and not now.equals(was):
                raise ValueError(
                    f"adata has other {what}, or the same in another order, than when the model was made (then {len(was):,}, now "
                    f"{len(now):,}): it was changed in place. Pass it as it is now, as in adata=model.adata, or create the model again."
                )

    @property
    def motif_scale(self) -> np.ndarray:
        """(n_motifs,), what the motif scores are divided by."""
        assert self.data.motif_scale is not None
        return self.data.motif_scale

    @property
    def group_names(self) -> list[str]:
        """Of the rows."""
        return [str(name) for name in self.adata.obs_names]

    def group_rows(self, groups: str | Sequence[str] | None) -> np.ndarray:
        """Rows of the named groups, in that order; all where None. KeyError for a name that is not there."""
        names = self.group_names
        if groups is None:
            return np.arange(len(names))
        wanted = [groups] if isinstance(groups, str) else [str(name) for name in groups]
        if absent := [name for name in wanted if name not in names]:
            raise KeyError(f"there is no group {absent[0]!r}; the groups are {_some(names)}.")
        return np.array([names.index(name) for name in wanted])

    def region_columns(self, regions: Sequence[str]) -> np.ndarray:
        """Columns of the named regions. KeyError for a name that is not there."""
        columns = self.adata.var_names.get_indexer([str(name) for name in regions])
        if (columns < 0).any():
            raise KeyError(
                f"there is no region {regions[int(np.argmin(columns))]!r}; regions are named as "
                f"{_some(list(self.adata.var_names[:3]))}."
            )
        return columns

    def motif_columns(self, motifs: Sequence[str]) -> np.ndarray:
        """Columns of the named motifs. KeyError for a name that is not there."""
        if absent := [name for name in motifs if name not in self.motif_names]:
            raise KeyError(f"there is no motif {absent[0]!r}; the motifs are {_some(list(self.motif_names))}.")
        return np.array([self.motif_names.index(name) for name in motifs])

    def sites(self, genes: str | Sequence[str] | None = None) -> pd.DataFrame:
        """Where the genes start: ``gene, column`` of the region, ``strand`` (0 is +, 1 is -), ``tss`` in bp.

        Raises
        ------
        ValueError
            The AnnData does not say where genes start.
        KeyError
            A gene has no region.
        """
        import pandas as pd

        if GENE_TSS not in self.adata.uns:
            raise ValueError(
                f"adata.uns has no {GENE_TSS!r}, so it is not known which region is which gene's. "
                "Run sf.pp.map_expression first."
            )
        table = pd.DataFrame(self.adata.uns[GENE_TSS])
        if missing := [name for name in ("gene", "region", "strand") if name not in table]:
            raise ValueError(f"adata.uns[{GENE_TSS!r}] has no column {missing[0]!r}. Run sf.pp.map_expression again.")
        column = self.adata.var_names.get_indexer(table["region"].astype(str))
        centre = (self.regions.start.astype(np.int64) + self.regions.end) // 2
        tss = table["tss"].to_numpy() if "tss" in table else centre[column]
        strand = (table["strand"].astype(str) == "-").astype(int).to_numpy()
        sites = pd.DataFrame(
            {"gene": table["gene"].astype(str).to_numpy(), "column": column, "strand": strand, "tss": tss}
        )
        sites = sites[column >= 0].drop_duplicates(["gene", "column", "strand"])  # regions may have been taken away
        if genes is not None:
            wanted = [genes] if isinstance(genes, str) else [str(name) for name in genes]
            known = set(sites["gene"])
            if absent := [name for name in wanted if name not in known]:
                raise KeyError(
                    f"{len(absent)} of {len(wanted)} genes have no region at their TSS (first: {absent[0]!r}); there are "
                    f"{_some(sorted(known))}."
                )
            rank = {name: i for i, name in reversed(list(enumerate(wanted)))}
            sites = sites[sites["gene"].isin(rank)]
            sites = sites.iloc[np.argsort(sites["gene"].map(rank).to_numpy(), kind="stable")]
        if not len(sites):
            raise ValueError("no gene starts in any of the regions: map expression to these regions first.")
        return sites.reset_index(drop=True)


def record_setup(adata: AnnData, setup: Setup) -> None:
    """Check that all that ``setup`` names is there and can be used, and note it in ``adata.uns``."""
    prepare(adata, setup)
    adata.uns[SETUP] = setup.to_dict()


def record_modality(mdata: MuData, modality: str, setup: Setup) -> None:
    """The same for a modality of a MuData; its name is noted in ``mdata.uns``."""
    record_setup(_modality(mdata, modality), setup)
    mdata.uns[SETUP] = {"modality": modality}


def regions_of(data: AnnData | MuData) -> AnnData:
    """Groups × regions: the AnnData itself, or the modality of a MuData that ``GET.setup_mudata`` was given."""
    if not hasattr(data, "mod"):
        return data
    if SETUP not in data.uns:
        raise ValueError(
            f"this MuData was not set up: call sf.GET.setup_mudata(mdata) first, or pass the modality with the regions "
            f"(it has {', '.join(data.mod)})."
        )
    return _modality(data, str(data.uns[SETUP]["modality"]))


def _modality(mdata: MuData, name: str) -> AnnData:
    if not hasattr(mdata, "mod"):
        raise TypeError(f"expected a MuData, found {type(mdata).__name__}: for an AnnData call sf.GET.setup_anndata.")
    if name not in mdata.mod:
        raise KeyError(f"the MuData has no modality {name!r}; it has {', '.join(mdata.mod)}.")
    return mdata.mod[name]


def setup_of(adata: AnnData, fallback: Setup | None = None) -> Setup:
    """What was noted in ``adata.uns``, or ``fallback``. ValueError where there is neither."""
    if SETUP in adata.uns:
        return Setup.from_dict(adata.uns[SETUP])
    if fallback is None:
        raise ValueError("this AnnData was not set up: call sf.GET.setup_anndata(regions) first.")
    return fallback


def prepare(
    adata: AnnData,
    setup: Setup,
    motif_names: Sequence[str] | None = None,
    motif_scale: np.ndarray | None = None,
) -> Prepared:
    """The AnnData as the network reads it.

    ``motif_names`` are those of a model: columns are put in their order. ``motif_scale`` is what motif scores are
    divided by; None: the largest score of each motif among these regions.

    Raises ValueError for a key or layer that is missing, values that are NaN, infinite or negative, accessibility that
    is all zero in a group, and motifs that are not the model's.
    """
    _check_keys(adata, setup)
    var = adata.var
    if setup.chrom_key != "chrom":
        var = var.drop(columns="chrom", errors="ignore").rename(columns={setup.chrom_key: "chrom"})
    assembly = adata.uns.get("assembly")
    regions = Vocabulary.from_var(var, assembly if isinstance(assembly, str) else None)
    motif, names = _motifs(adata, setup.motif_key)
    if motif_names is not None and tuple(motif_names) != names:
        motif = motif[:, _order(names, motif_names)]
        names = tuple(motif_names)
    if motif_scale is None and isinstance(recorded := adata.uns.get(setup.motif_key), dict) and "scale" in recorded:
        motif_scale = np.asarray(recorded["scale"], np.float64)  # of sf.pp.scan_motifs, in the order of the columns
    if motif_scale is None:
        top = motif.max(axis=0)
        motif_scale = np.asarray(top.toarray() if sparse.issparse(top) else top, np.float64).ravel()
        motif_scale = np.where(motif_scale > 0, motif_scale, 1.0)
    expression = None
    if setup.expression_layers and set(setup.expression_layers) <= set(adata.layers):
        positive, negative = setup.expression_layers
        expression = (_rows(adata.layers[positive]), _rows(adata.layers[negative]))
    tss = np.asarray(adata.varm["tss"], bool) if "tss" in adata.varm else None
    scale = np.asarray(motif_scale, np.float32)
    data = RegionData(motif, _rows(adata.layers[setup.accessibility_layer]), expression, tss, scale)
    return Prepared(adata, regions, data, names, (adata.obs_names, adata.var_names))


def scanner_of(adata: AnnData, motif_key: str) -> dict[str, Any]:
    """What ``sf.pp.scan_motifs`` noted: the motifs and how they were scanned; empty where scores are of other
    origin."""
    recorded = adata.uns.get(motif_key)
    if not isinstance(recorded, dict) or "motifs" not in recorded:
        return {}
    return {name: recorded[name] for name in SCANNER if name in recorded}


def _check_keys(adata: AnnData, setup: Setup) -> None:
    if setup.motif_key not in adata.varm:
        raise ValueError(
            f"adata.varm has no {setup.motif_key!r}; it has {_some(list(adata.varm))}. Motifs come from sf.pp.scan_motifs."
        )
    if setup.accessibility_layer not in adata.layers:
        raise ValueError(
            f"adata.layers has no {setup.accessibility_layer!r}; it has {_some(list(adata.layers))}. Accessibility of "
            "groups comes from sf.pp.pseudobulk."
        )
    if setup.expression_layers is not None and len(setup.expression_layers) != 2:
        raise ValueError(
            f"expression_layers are two, for the + and the - strand, or None; found {setup.expression_layers!r}."
        )
    if setup.chrom_key not in adata.var and setup.chrom_key != "chrom":
        raise ValueError(f"adata.var has no column {setup.chrom_key!r}; it has {_some(list(adata.var.columns))}.")


def check_expression(adata: AnnData, setup: Setup) -> None:
    """ValueError where the layers with the expression are not there."""
    if setup.expression_layers is None:
        raise ValueError("the AnnData was set up with expression_layers=None: there is no expression to train on.")
    if missing := [name for name in setup.expression_layers if name not in adata.layers]:
        raise ValueError(
            f"adata.layers has no {missing[0]!r}; it has {_some(list(adata.layers))}. Run sf.pp.map_expression, or train "
            "with target='accessibility'."
        )


def measured_at(prepared: Prepared, sites: pd.DataFrame) -> np.ndarray:
    """Measured expression of each gene's region on its strand.  (groups, sites) float32"""
    assert prepared.data.expression is not None
    column, strand = sites["column"].to_numpy(), sites["strand"].to_numpy()
    found = np.empty((len(prepared.group_names), len(sites)), np.float32)
    for s, layer in enumerate(prepared.data.expression):
        part = layer[:, column[strand == s]]
        found[:, strand == s] = part.toarray() if sparse.issparse(part) else part
    return found


def dense(matrix: Any) -> np.ndarray:
    """Groups × something, as an array."""
    return np.asarray(matrix.toarray() if sparse.issparse(matrix) else matrix)


def _motifs(adata: AnnData, key: str) -> tuple[Any, tuple[str, ...]]:
    import pandas as pd

    motif = adata.varm[key]
    recorded = adata.uns.get(key)
    if isinstance(motif, pd.DataFrame):
        names: Sequence[str] = [str(name) for name in motif.columns]
        motif = motif.to_numpy()
    elif isinstance(recorded, dict) and "names" in recorded:
        names = [str(name) for name in recorded["names"]]
    else:
        names = [f"motif_{i}" for i in range(motif.shape[1])]
    if len(names) != motif.shape[1]:
        raise ValueError(f"adata.varm[{key!r}] has {motif.shape[1]} columns and adata.uns[{key!r}] {len(names)} names.")
    return _rows(motif), tuple(names)


def _order(names: tuple[str, ...], wanted: Sequence[str]) -> list[int]:
    """Where the model's motifs stand among these."""
    if set(names) != set(wanted):
        missing, extra = sorted(set(wanted) - set(names)), sorted(set(names) - set(wanted))
        raise ValueError(
            f"these regions have other motifs than the model: {len(missing)} of the model's {len(wanted)} are missing"
            + (f" (first: {missing[0]})" if missing else "")
            + f", {len(extra)} are unknown to it"
            + (f" (first: {extra[0]})" if extra else "")
            + ". Scan the regions with the motifs that the model was trained with."
        )
    place = {name: i for i, name in enumerate(names)}
    return [place[name] for name in wanted]


def _rows(matrix: Any) -> Any:
    """Dense, or CSR so that rows can be taken."""
    return sparse.csr_matrix(matrix) if sparse.issparse(matrix) else np.asarray(matrix)


def _some(names: list[str]) -> str:
    shown = ", ".join(map(str, names[:6])) or "none"
    return shown + (f", ... ({len(names)} in all)" if len(names) > 6 else "")
