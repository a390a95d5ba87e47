"""Expression from chromatin alone, and how it differs from what was measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from scatacformer.model.scatacformer._mudata import Asked

from ._fit_pairs import CELLS_AT_ONCE
from ._paired import PairedMixin

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from anndata import AnnData
    from mudata import MuData


class ExpressionMixin(PairedMixin):
    """``predict_expression``, ``chromatin_potential`` and ``modality_distance`` of a model of pairs."""

    @torch.inference_mode()
    def predict_expression(
        self,
        adata: AnnData | MuData | None = None,
        indices: Sequence[int] | np.ndarray | None = None,
        gene_list: Sequence[str] | None = None,
        batch_size: int | None = None,
        return_std: bool = False,
        return_numpy: bool = False,
    ) -> pd.DataFrame | np.ndarray | tuple[pd.DataFrame | np.ndarray, pd.DataFrame | np.ndarray]:
        """Expression predicted from chromatin alone: log(1 + counts per 10,000), natural logarithm.

        RNA is not read, whether it is there or not. (n_cells, n_genes) float32, a DataFrame or with ``return_numpy`` an
        array; with ``return_std`` also the standard deviation of the measured value about it: that of held-out cells,
        and the disagreement of the predictors.

        Parameters
        ----------
        adata
            Cells x the model's regions, AnnData or MuData. Default: the cells of the model.
        indices
            Cells, in the order of the result. Default: all.
        gene_list
            Genes, in the order of the result. Default: all genes of the model.

        Raises
        ------
        ValueError
            The model was not trained on pairs; unknown genes.
        """
        self._need_network()
        mean, std = self._predicted(self._asked(adata, indices), gene_list, batch_size, return_std)
        if return_numpy:
            mean, std = mean.to_numpy(), None if std is None else std.to_numpy()
        return mean if std is None else (mean, std)

    @torch.inference_mode()
    def _predicted(
        self, asked: Asked, gene_list: Sequence[str] | None, batch_size: int | None, return_std: bool = False
    ) -> tuple[pd.DataFrame, pd.DataFrame | None]:
        """Mean and, if requested, standard deviation of :meth:`predict_expression`."""
        import pandas as pd

        network, (adata, rows, _), names = self._need_network(), asked, self.genes_["name"]
        at = None if gene_list is None else torch.as_tensor(gene_places(gene_list, names), device=self.module.device)
        n_genes = len(names) if at is None else len(at)
        mean = np.empty((len(rows), n_genes), np.float32)
        std = np.empty_like(mean) if return_std else None
        teacher, student = self._chromatin(adata, rows, batch_size)
        for first in range(0, len(rows), CELLS_AT_ONCE):
            part = slice(first, first + CELLS_AT_ONCE)
            z, guess = (torch.from_numpy(x[part]).to(self.module.device) for x in (teacher, student))
            found = network.expression(network.atac_inputs(z), guess, at)
            mean[part] = found[0].cpu().numpy()
            if network.links is not None:
                mean[part] += self._said_by_links(adata, rows[part], z, at)
                np.maximum(mean[part], 0.0, out=mean[part])
            if std is not None:
                std[part] = found[1].cpu().numpy()
        columns, index = pd.Index(names if gene_list is None else list(gene_list)), adata.obs_names[rows]
        frame = pd.DataFrame(mean, index=index, columns=columns)
        return frame, None if std is None else pd.DataFrame(std, index=index, columns=columns)

    def chromatin_potential(
        self,
        mdata: MuData | None = None,
        indices: Sequence[int] | np.ndarray | None = None,
        gene_list: Sequence[str] | None = None,
        scaling: Literal["zscore", "minmax", "none"] = "zscore",
        batch_size: int | None = None,
    ) -> pd.DataFrame:
        """Predicted minus measured expression: positive where chromatin precedes transcription (Yang et al. 2025).

        The difference between :meth:`predict_expression` and the measured log(1 + counts per 10,000), after scaling
        each gene of both over the given cells:

        - ``"zscore"``: minus the mean, divided by the standard deviation; robust to single cells.
        - ``"minmax"``: to 0 ... 1 by its extremes, as in the paper; for rare genes it depends on single counts.
        - ``"none"``: unscaled.

        Genes that do not vary are 0 in both. (n_cells, n_genes) float32 DataFrame, dense: request only the genes that
        you need.

        Parameters
        ----------
        mdata
            Cells with RNA. Default: the cells of the model.
        indices, gene_list, batch_size
            As in :meth:`predict_expression`.

        Raises
        ------
        ValueError
            The model was not trained on pairs; cells without RNA; unknown genes; an unknown scaling.
        """
        if scaling not in ("zscore", "minmax", "none"):
            raise ValueError(f"scaling is {scaling!r}; expected 'zscore', 'minmax' or 'none'.")
        self._need_network()
        asked = self._asked(self._mdata if mdata is None else mdata, indices)
        cells, rows = asked.cells, asked.rows
        if cells is None or cells.rna is None or not cells.has_rna[rows].all():
            raise ValueError("some cells have no RNA; expected RNA for every cell, with which chromatin is compared.")
        predicted, _ = self._predicted(asked, gene_list, batch_size)
        measured = self._gene_values(cells, rows)[:, gene_places(list(predicted.columns), self.genes_["name"])]
        out = _scaled(predicted.to_numpy(), scaling) - _scaled(measured.toarray(), scaling)
        predicted.iloc[:, :] = out
        return predicted

    def modality_distance(
        self, mdata: MuData | None = None, indices: Sequence[int] | np.ndarray | None = None
    ) -> np.ndarray:
        """1 - cosine of a cell's RNA and ATAC in the joint space: large if one precedes the other.  (n_cells,) float32,
        0 to 2

        Raises ValueError for a model that was not trained on pairs and for cells without RNA.
        """
        self._need_network()
        return self._distance(self._asked(self._mdata if mdata is None else mdata, indices))

    def _distance(self, asked: Asked) -> np.ndarray:
        rna, atac = (self._paired_latent(asked, modality, None) for modality in ("expression", "accessibility"))
        return (1 - (rna * atac).sum(1)).clip(0, 2)  # against rounding

    def _annotate_pairs(self, mdata: MuData, key: str, batch_size: int | None) -> None:
        """Write predictions for paired cells into the user's MuData."""
        adata, cells, names = self._validate_anndata(mdata), self._cells_of(mdata), self._mudata_setup()["modalities"]
        every = Asked(adata, np.arange(adata.n_obs), cells)  # in the order of the ATAC
        joint = self._paired_latent(every, None, batch_size)
        out, has_atac = np.full((mdata.n_obs, joint.shape[1]), np.nan, np.float32), cells.order >= 0
        out[has_atac] = joint[cells.order[has_atac]]
        chromatin = mdata.mod[names["atac_layer"]]
        chromatin.obsm[f"X_{key}"] = self._paired_latent(every, "accessibility", batch_size)
        mdata.obsm[f"X_{key}"] = out
        if cells.rna is None:
            chromatin.obsm[f"{key}_expression"] = self._predicted(every, None, batch_size)[0]
            return
        rna, with_rna = mdata.mod[names["rna_layer"]], np.flatnonzero(cells.has_rna)
        # every cell with RNA has ATAC, as checked before
        measured = Asked(adata, with_rna[np.argsort(cells.rna_row[with_rna])], cells)  # in the order of the RNA
        rna.obsm[f"X_{key}"] = self._paired_latent(measured, "expression", batch_size)
        rna.obs[f"{key}_distance"] = self._distance(measured)
        predicted, _ = self._predicted(measured, None, batch_size)
        if list(predicted.columns) == [str(name) for name in rna.var_names]:
            rna.layers[f"{key}_predicted"] = predicted.to_numpy()
        else:
            rna.obsm[f"{key}_predicted"] = predicted


def _scaled(x: np.ndarray, scaling: str) -> np.ndarray:
    """Each column on its own scale; zero where it does not vary."""
    if scaling == "none":
        return x
    low, spread = (x.mean(0), x.std(0)) if scaling == "zscore" else (x.min(0), x.max(0) - x.min(0))
    return np.where(spread > 1e-6, (x - low) / np.maximum(spread, 1e-6), 0.0).astype(np.float32)


def gene_places(asked: Sequence[str], names: list[str]) -> np.ndarray:
    """Indices of the requested genes.  (len(asked),) int64; ValueError for unknown ones."""
    import pandas as pd

    asked = list(asked)
    at = pd.Index(names).get_indexer(asked)
    if (at < 0).any():
        missing = [name for name, place in zip(asked, at, strict=True) if place < 0]
        raise ValueError(
            f"{len(missing):,} of {len(asked):,} genes are not in the model (first: {missing[0]}); it has "
            f"{len(names):,}, such as {names[0]}."
        )
    return at
