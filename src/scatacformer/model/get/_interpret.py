"""Which motifs in which regions drive a gene: derivatives of the prediction by what the network reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scatacformer.nn import jacobian

from ._state import GETState
from ._windows import focused, site_windows

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pandas as pd
    import xarray as xr
    from anndata import AnnData

    from ._setup import Prepared


class InterpretationMixin(GETState):
    """Getters of :class:`~scatacformer.GET` that say why."""

    def get_jacobian(
        self,
        genes: str | Sequence[str],
        groups: str | Sequence[str] | None = None,
        *,
        wrt: str = "input",
        adata: AnnData | None = None,
        batch_size: int = 32,
    ) -> xr.Dataset:
        """Derivative of a gene's predicted expression by every feature of every region around it.

        The whole of it is held in memory: 0.2 MB for each TSS and group in a window of 200 regions and 283 features.
        For thousands of genes use :meth:`iter_jacobian` or :meth:`get_gene_by_motif`.

        Parameters
        ----------
        genes
            Which genes; each TSS has a row of its own, on the gene's strand.
        groups
            Which groups; None: all.
        wrt
            ``"input"``: by motif scores (in units of the model's scale, ``model.motif_scale_``) and accessibility.
            ``"region_embedding"``: by the embedded region.
        adata
            As in :meth:`get_predicted_expression`.
        batch_size
            Windows of a minibatch; the result does not depend on it.

        Returns
        -------
        xarray.Dataset
            ``jacobian`` and, for the input, ``features`` (site, place, feature) float32; ``region`` (site, place),
            names of the regions, empty where a window has none; ``predicted`` (site,); coordinates
            ``gene, group, strand, focus`` of each site and the names of the features.

        Raises
        ------
        RuntimeError
            The model is not trained.
        KeyError
            No such gene or group.
        ValueError
            Another ``wrt``.
        """
        import xarray as xr

        parts = list(self.iter_jacobian(genes, groups, wrt=wrt, adata=adata, batch_size=batch_size))
        return xr.concat(parts, "site")

    def iter_jacobian(
        self,
        genes: str | Sequence[str] | None = None,
        groups: str | Sequence[str] | None = None,
        *,
        wrt: str = "input",
        adata: AnnData | None = None,
        batch_size: int = 32,
    ) -> Iterator[xr.Dataset]:
        """What :meth:`get_jacobian` returns, one minibatch after the other; memory does not grow with the genes.

        Parameters
        ----------
        genes, groups, wrt, adata, batch_size
            As in :meth:`get_jacobian`; ``genes=None`` means all.

        Yields
        ------
        xarray.Dataset
            ``batch_size`` sites each.
        """
        import xarray as xr

        if wrt not in ("input", "region_embedding"):
            raise ValueError(f"wrt is {wrt!r}; expected 'input' or 'region_embedding'.")
        self._check_target("expression")
        prepared = self._prepared_of(adata)
        sites, rows = prepared.sites(genes), prepared.group_rows(groups)
        windows, site, group = site_windows(prepared, sites, rows, self.config_.n_regions, self.open_only_)
        strand = sites["strand"].to_numpy()[site]
        names = np.append(np.asarray(prepared.adata.var_names, dtype=str), "")  # -1 is no region
        features = np.array([*prepared.motif_names, "accessibility"])
        for part in focused(
            prepared.data, windows, strand, self._accessibility, batch_size, self.module.device, "Jacobians"
        ):
            found, output = jacobian(self.module, part.x, part.read, part.strand, part.padding, wrt)
            data = {
                "jacobian": (("site", "place", "feature"), found.float().cpu().numpy()),
                "region": (("site", "place"), names[part.regions]),
                "predicted": ("site", output.float().cpu().numpy()),
            }
            coordinates = {
                "gene": ("site", sites["gene"].to_numpy()[site[part.rows]].astype(str)),
                "group": ("site", np.asarray(prepared.group_names)[group[part.rows]]),
                "strand": ("site", np.array(["+", "-"])[strand[part.rows]]),
                "focus": ("site", part.read.cpu().numpy()),
            }
            if wrt == "input":
                data["features"] = (("site", "place", "feature"), part.x.cpu().numpy())
                coordinates["feature"] = ("feature", features)
            yield xr.Dataset(data, coordinates)

    def get_gene_by_motif(
        self,
        genes: str | Sequence[str] | None = None,
        groups: str | Sequence[str] | None = None,
        *,
        null: bool = False,
        adata: AnnData | None = None,
        batch_size: int = 32,
        seed: int = 0,
    ) -> AnnData:
        """How much each motif drives each gene in each group: mean over regions of derivative × motif score.

        Parameters
        ----------
        genes
            Which genes; None: all that start in a region.
        groups
            Which groups; None: all.
        null
            Also compute the scores of the same model on the same regions with their motifs permuted among regions (all
            the motifs of a region move together): ``layers["null"]``, with which ``sf.tl.motif_genes`` and
            ``sf.tl.gene_motifs`` compare. Doubles the time.
        adata
            As in :meth:`get_predicted_expression`.
        batch_size
            Windows of a minibatch; the result does not depend on it.
        seed
            Of the permutation.

        Returns
        -------
        anndata.AnnData
            (gene, group) × motifs, float32: on the gene's strand, the mean over its TSSs. ``obs`` has ``gene, group,
            strand, n_tss, predicted`` and ``accessibility``, the same score of the accessibility column. Ready for
            scanpy: its rows can be clustered, embedded and plotted as cells are.

        Raises
        ------
        RuntimeError
            The model is not trained on expression.
        KeyError
            No such gene or group.

        Notes
        -----
        Source of the formula: Fu et al., Nature 2025 (GET).
        """
        import anndata as ad
        import pandas as pd

        self._check_target("expression")
        prepared = self._prepared_of(adata)
        sites, rows = prepared.sites(genes), prepared.group_rows(groups)
        obs, scores, predicted = self._motif_scores(prepared, prepared.data, sites, rows, batch_size, "Genes by motifs")
        obs["predicted"] = predicted
        obs["accessibility"] = scores[:, -1]
        gbm = ad.AnnData(scores[:, :-1], obs=obs, var=pd.DataFrame(index=list(prepared.motif_names)))
        if null:
            permuted = _with_permuted_motifs(prepared, np.random.default_rng(seed))
            _, shuffled, _ = self._motif_scores(prepared, permuted, sites, rows, batch_size, "Permuted motifs")
            gbm.layers["null"] = shuffled[:, :-1]
        return gbm

    def _motif_scores(
        self, prepared: Prepared, data, sites: pd.DataFrame, rows: np.ndarray, batch_size: int, what: str
    ) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
        """Rows (gene, group), their scores (rows, features) and their predicted expression."""
        import pandas as pd

        windows, site, group = site_windows(prepared, sites, rows, self.config_.n_regions, self.open_only_)
        strand = sites["strand"].to_numpy()[site]
        code, genes = pd.factorize(sites["gene"])
        row_of, kept = np.unique(group * len(genes) + code[site], return_inverse=True)
        # in the order of the groups and genes that were asked for
        rank = {int(g): i for i, g in enumerate(rows)}
        order = np.argsort([rank[int(r // len(genes))] * len(genes) + r % len(genes) for r in row_of], kind="stable")
        place = np.empty(len(order), np.int64)
        place[order] = np.arange(len(order))
        row_of, kept = row_of[order], place[kept]
        scores = np.zeros((len(row_of), self.config_.n_features), np.float32)
        predicted, count = np.zeros(len(row_of), np.float32), np.bincount(kept)
        for part in focused(prepared.data if data is None else data, windows, strand, self._accessibility, batch_size,
                            self.module.device, what):  # fmt: skip
            found, output = jacobian(self.module, part.x, part.read, part.strand, part.padding)
            there = ~part.padding
            mean = (found * part.x * there[..., None]).sum(1) / there.sum(1, keepdim=True)
            np.add.at(scores, kept[part.rows], mean.float().cpu().numpy())
            np.add.at(predicted, kept[part.rows], output.float().cpu().numpy())
        strands = np.array(["+", "-"])[sites.groupby("gene", sort=False)["strand"].first().loc[genes].to_numpy()]
        obs = pd.DataFrame(
            {
                "gene": np.asarray(genes)[row_of % len(genes)],
                "group": np.asarray(prepared.group_names)[row_of // len(genes)],
                "strand": strands[row_of % len(genes)],
                "n_tss": count,
            }
        )
        obs.index = pd.Index(obs["gene"].astype(str) + ":" + obs["group"].astype(str))
        return obs, scores / count[:, None], predicted / count


def _with_permuted_motifs(prepared: Prepared, rng: np.random.Generator):  # type: ignore[no-untyped-def]
    from dataclasses import replace

    return replace(prepared.data, motif=prepared.data.motif[rng.permutation(prepared.regions.n_bins)])
