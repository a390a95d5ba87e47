"""Accessibility as the model predicts it, and where it differs between groups of cells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ._base import ModelBase
from ._differential import DifferentialOptions, compare, of_cells, of_groups
from ._probability import Predicted, batch_codes, dense, mean, refuse_large, region_numbers, sparse

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    import scipy.sparse as sp
    from anndata import AnnData


class AccessibilityMixin(ModelBase):
    """Predicted accessibility, and differential accessibility, of :class:`~scatacformer.ScAtacFormer`."""

    @torch.inference_mode()
    def get_normalized_accessibility(
        self,
        adata: AnnData | None = None,
        indices: Sequence[int] | np.ndarray | None = None,
        region_list: Sequence[str] | None = None,
        transform_batch: str | int | Sequence[str | int] | None = None,
        threshold: float | None = None,
        normalize_cells: bool = False,
        batch_size: int | None = None,
        return_numpy: bool = False,
    ) -> pd.DataFrame | np.ndarray | sp.csr_matrix:
        """Probability that each region is open, P(kept) + P(removed).

        Parameters
        ----------
        indices
            Cells, in the order of the result. Default: all.
        region_list
            Names (``adata.var_names``) of regions, in the order of the result. Default: all.
        transform_batch
            Batch in which every cell is predicted; with several, the mean over them. Default: each cell's own.
        threshold
            Smaller probabilities are left out and the result is sparse.
        normalize_cells
            Predict every cell at the mean number of open regions of the training cells, instead of its own depth.
        return_numpy
            Return an array instead of a DataFrame.

        Returns
        -------
        (n_cells, n_regions) float32: DataFrame, array, or with ``threshold`` CSR. Memory: the result, and
        ``batch_size`` x 65,536 numbers.

        Raises
        ------
        ValueError
            Unknown regions or batches; a dense result of more than 2e9 numbers; a model of which only the embedding was
            fitted.
        """
        self._check_decoder()
        adata, rows, _ = self._asked(adata, indices)
        regions = region_numbers(region_list, adata.var_names)
        asked = Predicted(rows, regions, self._transform_batches(transform_batch), normalize_cells, batch_size)
        if threshold is not None:
            return sparse(self._reader(adata), asked, threshold)
        refuse_large(asked)
        out = dense(self._reader(adata), asked)
        if return_numpy:
            return out
        import pandas as pd

        return pd.DataFrame(out, index=adata.obs_names[rows], columns=adata.var_names[regions])

    @torch.inference_mode()
    def get_mean_accessibility(
        self,
        adata: AnnData | None = None,
        indices: Sequence[int] | np.ndarray | None = None,
        transform_batch: str | int | Sequence[str | int] | None = None,
        normalize_cells: bool = True,
        batch_size: int | None = None,
    ) -> np.ndarray:
        """Mean of :meth:`get_normalized_accessibility` over cells, without making it.  (n_regions,) float64

        By default every cell is predicted at the mean number of open regions, so that means of groups with different
        depths can be compared. Memory: ``batch_size`` x 65,536 numbers. Raises ValueError for no cells, unknown batches,
        and a model of which only the embedding was fitted.
        """
        self._check_decoder()
        adata, rows, _ = self._asked(adata, indices)
        batches = self._transform_batches(transform_batch)
        return mean(self._reader(adata), Predicted(rows, self._all_regions(), batches, normalize_cells, batch_size))

    def get_accessibility_estimates(self, *args: Any, **kwargs: Any) -> pd.DataFrame | np.ndarray | sp.csr_matrix:
        """The older name of :meth:`get_normalized_accessibility` in scvi-tools."""
        return self.get_normalized_accessibility(*args, **kwargs)

    def differential_accessibility(
        self,
        adata: AnnData | None = None,
        groupby: str | None = None,
        group1: str | Sequence[str] | None = None,
        group2: str | None = None,
        idx1: Sequence[int] | Sequence[bool] | str | None = None,
        idx2: Sequence[int] | Sequence[bool] | str | None = None,
        mode: str = "change",
        delta: float = 0.05,
        batch_size: int | None = None,
        all_stats: bool = True,
        batch_correction: bool = False,
        batchid1: Sequence[str] | None = None,
        batchid2: Sequence[str] | None = None,
        fdr_target: float = 0.05,
        silent: bool = False,
    ) -> pd.DataFrame:
        """Regions that are open more often in one group of cells than in another, accounting for depth.

        The arguments and columns are those of scvi-tools' ``PEAKVI.differential_accessibility``; the evidence is not a
        posterior. The region's rate is r in group 1 and r exp(b) in group 2, it is open in a cell with n open regions
        with probability 1 - exp(-r n), and b = 0 is tested by the efficient score over strata of cells of similar depth
        (Cox and Hinkley 1974, 9.3; complementary log-log link). False discovery rates are those of Benjamini and
        Hochberg (1995) over the regions that are open in at least one of the cells.

        Parameters
        ----------
        groupby, group1, group2
            A column of ``adata.obs``, and its values to compare. ``group1`` None: each in turn; ``group2`` None: with
            all other cells.
        idx1, idx2
            Instead of ``groupby``: row numbers, a mask, or a query of ``adata.obs``. ``idx2`` None: all other cells.
        mode
            ``"change"``: a region must also differ by more than ``delta``; ``"vanilla"``: it need not.
        delta
            Minimum difference between the estimated probabilities.
        batch_size
            Number of cells per minibatch.
        all_stats
            False leaves out ``emp_*`` and ``p_value``.
        batch_correction
            Compare within batches: with a separate rate for each batch, and estimates averaged over all batches.
        batchid1, batchid2
            Batches in which the groups are estimated, with ``batch_correction``. Default: all.
        fdr_target
            Maximum share of false discoveries in ``is_da_fdr``.
        silent
            Hide the progress bar over comparisons.

        Returns
        -------
        DataFrame, a row for each region (and comparison, most significant first): ``prob_da`` (1 - q_value),
        ``is_da_fdr``, ``bayes_factor`` (log odds of ``prob_da``), ``effect_size`` (``est_prob2 - est_prob1``),
        ``emp_effect``, ``est_prob1``, ``est_prob2`` (mean accessibility by the model at the mean depth, over at most
        1,000 cells of a group), ``emp_prob1``, ``emp_prob2`` (share of the cells in which it is open), ``p_value``,
        ``q_value``. Memory: 32 numbers per region and batch, and 2 per comparison (512 MB of them at most).

        Raises
        ------
        ValueError
            Unknown groups or modes; groups of fewer than 2 cells, or that share cells.
        """
        import pandas as pd

        self._check_decoder()
        data, adata = adata, self._validate_anndata(adata)
        if (batchid1 is not None or batchid2 is not None) and not batch_correction:
            raise ValueError("batchid1 or batchid2 is given without batch_correction=True. Set it, or leave them out.")
        options = DifferentialOptions(
            mode, delta, fdr_target, all_stats, batch_correction, groupby is not None, batch_size
        )
        if groupby is None:
            comparisons = [of_cells(adata.obs, idx1, idx2, lambda idx: self._asked(data, idx).rows)]
        else:
            comparisons = list(of_groups(adata.obs, groupby, group1, group2, idx1))
        names = self._batch_names() if batch_correction else None
        first, second = (self._transform_batches(names if one is None else list(one)) for one in (batchid1, batchid2))
        frames = compare(self._reader(adata), comparisons, (first, second), options, adata.var_names, silent)
        return pd.concat(frames) if len(frames) > 1 else frames[0]

    def _transform_batches(self, transform_batch: Any) -> list[int | None]:
        return batch_codes(transform_batch, self._batch_names())

    def _all_regions(self) -> np.ndarray:
        return np.arange(self.config_.n_bins)
