"""Predictions of a trained GET: expression, accessibility, and regions in the context of their window."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from scatacformer.pseudobulk import WindowLoader

from ._windows import focused, site_windows, stretches_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from anndata import AnnData

    from ._setup import Prepared

EXPRESSION_LAYERS = ("get_exp_pos", "get_exp_neg")
ACCESSIBILITY_LAYER = "get_accessibility"


class PredictionMixin:
    """Getters of :class:`~scatacformer.GET` that predict."""

    def get_predicted_expression(
        self,
        adata: AnnData | None = None,
        *,
        genes: str | Sequence[str] | None = None,
        groups: str | Sequence[str] | None = None,
        inplace: bool = False,
        batch_size: int = 32,
    ) -> pd.DataFrame | None:
        """Predicted expression, log10(TPM + 1), of genes in groups, seen in training or not.

        Windows overlap, and each region is read in the one that shows most of its neighbours on either side.

        Parameters
        ----------
        adata
            Groups × regions with the model's motifs, on the model's regions or on others. None: the model's own.
        genes
            Which genes; None: all that start in a region.
        groups
            Which groups; None: all.
        inplace
            Write the prediction of every region to ``adata.layers["get_exp_pos"]`` and ``["get_exp_neg"]`` instead of
            returning a table; ``genes`` is then not needed, and groups that were not asked for are NaN.
        batch_size
            Windows of a minibatch; the result does not depend on it.

        Returns
        -------
        pandas.DataFrame
            Genes × groups, float32: on the gene's strand, the mean over its TSSs. NaN in a group in which the region is
            closed, for a model of open regions alone. None if ``inplace``.

        Raises
        ------
        RuntimeError
            The model is not trained, or predicts accessibility.
        KeyError
            No such gene or group.
        ValueError
            The AnnData has other motifs than the model, or does not say where genes start.
        """
        import pandas as pd

        self._check_target("expression")
        prepared = self._prepared_of(adata)
        rows = prepared.group_rows(groups)
        sites = None if inplace else prepared.sites(genes)
        found = self._predict_regions(prepared, rows, 2, batch_size)
        if inplace:
            for strand, name in enumerate(EXPRESSION_LAYERS):
                prepared.adata.layers[name] = found[..., strand]
            return None
        assert sites is not None
        values = found[rows][:, sites["column"], sites["strand"]]  # (groups, sites)
        names = [prepared.group_names[row] for row in rows]
        table = pd.DataFrame(values.T, index=sites["gene"], columns=names)
        return table.groupby(level=0, sort=False).mean()

    def get_predicted_accessibility(
        self,
        adata: AnnData | None = None,
        *,
        groups: str | Sequence[str] | None = None,
        inplace: bool = False,
        batch_size: int = 32,
    ) -> pd.DataFrame | None:
        """Predicted accessibility (aCPM) of regions from their motifs and those of their neighbours.

        The network does not read the accessibility, so that the groups do not differ in their prediction: what it gives
        is the accessibility that the motifs explain in the groups that it was trained on.

        Parameters
        ----------
        adata
            As in :meth:`get_predicted_expression`.
        groups
            Which groups; None: all.
        inplace
            Write to ``adata.layers["get_accessibility"]`` instead of returning a table.
        batch_size
            Windows of a minibatch.

        Returns
        -------
        pandas.DataFrame
            Groups × regions, float32. None if ``inplace``.

        Raises
        ------
        RuntimeError
            The model was not trained with ``target="accessibility"``.
        KeyError
            No such group.
        """
        import pandas as pd

        self._check_target("accessibility")
        prepared = self._prepared_of(adata)
        rows = prepared.group_rows(groups)
        found = self._predict_regions(prepared, rows, 1, batch_size)[..., 0]
        if inplace:
            prepared.adata.layers[ACCESSIBILITY_LAYER] = found
            return None
        names = [prepared.group_names[row] for row in rows]
        return pd.DataFrame(found[rows], index=names, columns=prepared.adata.var_names)

    @torch.inference_mode()
    def get_region_embedding(
        self,
        genes: str | Sequence[str] | None = None,
        groups: str | Sequence[str] | None = None,
        *,
        adata: AnnData | None = None,
        batch_size: int = 32,
    ) -> AnnData:
        """The region at each gene's TSS in the context of its window: what the head reads.

        Parameters
        ----------
        genes
            Which genes; None: all that start in a region.
        groups
            Which groups; None: all.
        adata
            As in :meth:`get_predicted_expression`.
        batch_size
            Windows of a minibatch.

        Returns
        -------
        anndata.AnnData
            A row for each TSS and group, d_model columns, float32; ``obs`` has ``gene, group, region, strand``.

        Raises
        ------
        RuntimeError
            The model is not trained.
        KeyError
            No such gene or group.
        """
        import anndata as ad
        import pandas as pd

        self._check_target("expression", "accessibility")
        prepared = self._prepared_of(adata)
        sites, rows = prepared.sites(genes), prepared.group_rows(groups)
        windows, site, group = site_windows(prepared, sites, rows, self.config_.n_regions, self.open_only_)
        strand = sites["strand"].to_numpy()[site]
        found = np.empty((len(windows), self.config_.d_model), np.float32)
        for part in focused(
            prepared.data, windows, strand, self._accessibility, batch_size, self.module.device, "Embedding regions"
        ):
            x = self.module.encode(self.module.embed(part.x), part.padding, read=part.read[:, None])
            found[part.rows] = x[:, 0].float().cpu().numpy()
        names = np.asarray(prepared.group_names)[group]
        obs = pd.DataFrame(
            {
                "gene": sites["gene"].to_numpy()[site],
                "group": names,
                "region": np.asarray(prepared.adata.var_names)[sites["column"].to_numpy()[site]],
                "strand": np.array(["+", "-"])[strand],
            }
        )
        obs.index = pd.Index(obs["gene"] + ":" + obs["region"] + ":" + obs["group"])
        return ad.AnnData(found, obs=obs)

    @torch.inference_mode()
    def _predict_regions(self, prepared: Prepared, groups: np.ndarray, n_outputs: int, batch_size: int) -> Any:
        """Output of every region of these groups, (all groups, regions, outputs) float32; NaN where not predicted."""
        from tqdm.auto import tqdm

        windows = stretches_of(prepared, groups, self.open_only_).tile(self.config_.n_regions, stride=self.stride_)
        loader = WindowLoader(
            prepared.data, windows, batch_size=batch_size, target=None, accessibility=self._accessibility
        )
        found = np.full((len(prepared.group_names), prepared.regions.n_bins, n_outputs), np.nan, np.float32)
        for batch in tqdm(loader, desc="Predicting", disable=len(loader) < 20, leave=False):
            x = batch["features"].to(self.module.device)
            out = self.module(x, ~batch["valid"].to(self.module.device)).float().cpu().numpy()
            scored = batch["scored"].numpy()
            group = np.broadcast_to(batch["group"].numpy()[:, None], scored.shape)
            found[group[scored], batch["regions"].numpy()[scored]] = out[scored]
        return found
