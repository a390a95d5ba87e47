"""Predictions of a trained GET: expression, accessibility, and regions in the context of their window."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from scatacformer.pseudobulk import WindowLoader
from scatacformer.training import hold_out

from ._setup import check_expression, measured_at, setup_of
from ._state import GETState
from ._windows import focused, site_windows, stretches_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from anndata import AnnData

    from ._setup import Prepared

EXPRESSION_LAYERS = ("get_exp_pos", "get_exp_neg")
ACCESSIBILITY_LAYER = "get_accessibility"


class PredictionMixin(GETState):
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
        """Predicted accessibility (aCPM) of regions in the groups trained on, from their motifs and their neighbours'.

        The network does not read the accessibility: what it gives is what the motifs explain of it.

        Parameters
        ----------
        adata
            Regions with the model's motifs, the model's own or others. None: the model's own.
        groups
            Which of the groups trained on; None: all.
        inplace
            Write to ``adata.layers["get_accessibility"]`` instead of returning a table; the rows of groups that the
            model was not trained on, or that were not asked for, are NaN.
        batch_size
            Windows of a minibatch; the result does not depend on it.

        Returns
        -------
        pandas.DataFrame
            Groups × regions, float32. None if ``inplace``.

        Raises
        ------
        RuntimeError
            The model was not trained with ``target="accessibility"``.
        KeyError
            The model was not trained on such a group.
        """
        import pandas as pd

        self._check_target("accessibility")
        prepared = self._prepared_of(adata)
        outputs = self._accessibility_outputs(groups)
        names = [self.accessibility_groups_[i] for i in outputs]
        found = self._predict_regions(prepared, np.arange(1), self.config_.n_groups, batch_size)[0].T[outputs]
        table = pd.DataFrame(found, index=names, columns=prepared.adata.var_names)
        if not inplace:
            return table
        prepared.adata.layers[ACCESSIBILITY_LAYER] = table.reindex(prepared.group_names).to_numpy(np.float32)
        return None

    def get_expression_tables(
        self, adata: AnnData | None = None, *, batch_size: int = 32
    ) -> tuple[pd.DataFrame, pd.DataFrame, pd.Series]:
        """Predicted and measured expression of the same genes in the same groups, and the genes' chromosomes.

        Parameters
        ----------
        adata
            Groups × regions with measured expression. None: the model's own.
        batch_size
            Windows of a minibatch.

        Returns
        -------
        tuple
            Two tables genes × groups, log10(TPM + 1), and the chromosome of each gene.

        Raises
        ------
        RuntimeError
            The model is not trained on expression.
        ValueError
            The AnnData has no expression.
        """
        import pandas as pd

        self._check_target("expression")
        prepared = self._prepared_of(adata)
        check_expression(prepared.adata, setup_of(prepared.adata, self.setup_))
        predicted = self.get_predicted_expression(adata, batch_size=batch_size)
        assert predicted is not None
        sites = prepared.sites()
        measured = pd.DataFrame(measured_at(prepared, sites).T, index=sites["gene"], columns=prepared.group_names)
        chrom = np.asarray(prepared.regions.chrom_names)[prepared.regions.chrom[sites["column"]]]
        chroms = pd.Series(chrom, index=sites["gene"], name="chrom").groupby(level=0, sort=False).first()
        return predicted, measured.groupby(level=0, sort=False).mean().loc[predicted.index], chroms.loc[predicted.index]

    def compare_baselines(
        self,
        adata: AnnData | None = None,
        *,
        holdout_chromosomes: str | Sequence[str] | None = None,
        holdout_groups: str | Sequence[str] | None = None,
        baselines: Sequence[str] | None = None,
        seed: int = 0,
    ) -> pd.DataFrame:
        """Scores of the model and of simpler methods on the same held-out genes and groups.

        Baselines are fitted to the same groups and chromosomes as the model was, on the regions with a TSS:
        ``group_mean`` and ``nearest_group`` read the measured expression of the gene in the groups trained on, wherever
        it lies; ``ridge``, ``linear_svr``, ``random_forest`` (10 trees of depth 10) and ``mlp`` (512, 256) read the
        region alone; ``cnn`` (128, 64, 32) its neighbours in order.

        Parameters
        ----------
        adata
            Groups × regions with measured expression. None: the model's own.
        holdout_chromosomes, holdout_groups
            What is scored. None: what training held out. Early stopping has looked at that: for a score of data that
            nothing has looked at, train on an AnnData without them and name them here.
        baselines
            Names of the methods; None: all.
        seed
            Of the baselines.

        Returns
        -------
        pandas.DataFrame
            Methods × ``pearson, r2, rmse, pearson_specific, n`` over the held-out (gene, group) entries.
            ``pearson_specific`` subtracts the gene's measured mean over the groups trained on.

        Raises
        ------
        RuntimeError
            The model is not trained on expression.
        ValueError
            Nothing is held out, an unknown baseline, or no expression.
        """
        from ._baselines import BASELINES, Task, compare

        self._check_target("expression")
        prepared = self._prepared_of(adata)
        check_expression(prepared.adata, setup_of(prepared.adata, self.setup_))
        sites = prepared.sites()
        chrom = np.asarray(prepared.regions.chrom_names)[prepared.regions.chrom[sites["column"]]]
        named = holdout_chromosomes is not None or holdout_groups is not None
        held_chroms = holdout_chromosomes if named else self.training_.get("holdout_chromosomes") or None
        held_groups = holdout_groups if named else self.training_.get("holdout_groups") or None
        names = np.asarray(prepared.group_names)
        rows = hold_out(
            np.tile(chrom, len(names)),
            np.repeat(names, len(chrom)),
            holdout_chromosomes=held_chroms,
            holdout_groups=held_groups,
            what="genes",
        )
        train, test = (np.zeros(len(names) * len(chrom), bool) for _ in range(2))
        train[rows.train], test[rows.validation] = True, True
        shape = (len(names), len(chrom))
        train, test = train.reshape(shape), test.reshape(shape)
        if self.training_.get("groups"):  # no more than the model was trained on
            train &= np.isin(names, self.training_["groups"])[:, None]
            train &= np.isin(chrom, self.training_["chromosomes"])[None]
        found = self._predict_regions(prepared, np.flatnonzero(test.any(1)), 2, 32)
        task = Task(
            prepared, measured_at(prepared, sites), train, test, sites["column"].to_numpy(), sites["strand"].to_numpy(),
            self._accessibility, self.config_.n_regions, self.stride_, seed,
        )  # fmt: skip
        return compare(task, found[:, task.columns, task.strand], BASELINES if baselines is None else baselines)

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
        from scatacformer._io import tqdm

        open_only = self.open_only_ and self.target_ != "accessibility"
        windows = stretches_of(prepared, groups, open_only).tile(self.config_.n_regions, stride=self.stride_)
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
