"""Predicted accessibility, streamed over regions, so that memory is bounded by the size of the result."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
import torch

from scatacformer._io import whole_file

from ._base import ModelBase
from ._mudata import is_mudata

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pandas as pd
    from anndata import AnnData
    from mudata import MuData

# maximum size of a dense result, cells x regions; larger ones are a mistake on most machines (8 GiB)
MAX_DENSE = 2_000_000_000
REGIONS_AT_ONCE = 65_536


class AccessibilityMixin(ModelBase):
    """``get_normalized_accessibility`` and ``annotate`` of :class:`~scatacformer.ScAtacFormer`."""

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
        regions = self._regions(adata, region_list)
        if threshold is not None:
            if not 0 <= threshold <= 1:
                raise ValueError(f"threshold is {threshold}; expected a probability, 0 to 1.")
            return self._sparse(adata, rows, regions, threshold, transform_batch, normalize_cells, batch_size)
        if len(rows) * len(regions) > MAX_DENSE:
            raise ValueError(
                f"{len(rows):,} cells x {len(regions):,} regions is {len(rows) * len(regions) * 4 / 2**30:.0f} GiB; "
                "request fewer (indices, region_list) or a sparse result (threshold=0.1), or write it to disk: "
                "model.annotate(adata, accessibility='all', store='accessibility.zarr')."
            )
        out = np.empty((len(rows), len(regions)), np.float32)
        for cell, region, block in self._blocks(adata, rows, regions, transform_batch, normalize_cells, batch_size):
            out[cell, region] = block
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
        regions = np.arange(self.config_.n_bins)
        if not len(rows):
            raise ValueError("indices is empty; expected at least one cell for a mean.")

        def compute() -> np.ndarray:
            total = np.zeros(len(regions))
            for _, region, block in self._blocks(adata, rows, regions, transform_batch, normalize_cells, batch_size):
                total[region] += block.sum(0, dtype=np.float64)
            return total / len(rows)

        self._kept.forget_others(self.module)
        batches = tuple(self._transform_batches(transform_batch))
        key = (self._reader(adata).content(rows, batch_size), batches, normalize_cells)
        return self._kept.mean(key, compute)

    def get_accessibility_estimates(self, *args: Any, **kwargs: Any) -> pd.DataFrame | np.ndarray | sp.csr_matrix:
        """The older name of :meth:`get_normalized_accessibility` in scvi-tools."""
        return self.get_normalized_accessibility(*args, **kwargs)

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
        mdata = self._mdata if adata is None else adata if is_mudata(adata) else None
        adata = self._validate_anndata(adata)
        if store is not None and Path(store).exists():
            raise FileExistsError(f"{store} exists. Choose another store, or remove it first.")
        # a MuData is registered through a separate AnnData: write into the user's object
        own, adata = adata, adata if mdata is None else mdata.mod[self._mudata_setup()["modalities"]["atac_layer"]]
        if mdata is not None and self.paired is not None:
            self._annotate_pairs(mdata, key, batch_size)
        else:
            adata.obsm[f"X_{key}"] = self.get_latent_representation(own, batch_size=batch_size)
        n_open = self._source(own).n_open_per_cell()
        adata.obs["n_tokens"] = n_open
        adata.obs["n_tokens_cut"] = np.maximum(n_open - self.config_.max_tokens, 0)
        notes = dict(adata.uns.get(key, {}))
        if not accessibility:
            adata.uns[key] = notes
            return
        if store is not None:
            self._to_store(own, Path(store), batch_size)
            notes["store"] = str(store)
        elif region_list is not None:
            frame = self.get_normalized_accessibility(own, region_list=region_list, batch_size=batch_size)
            adata.obsm[f"{key}_accessibility"] = frame
        else:
            threshold = self._matching_threshold(own, n_open) if threshold is None else threshold
            adata.layers[key] = self.get_normalized_accessibility(own, threshold=threshold, batch_size=batch_size)
            notes["threshold"] = float(threshold)
        adata.uns[key] = notes

    def _regions(self, adata: AnnData, region_list: Sequence[str] | None) -> np.ndarray:
        if region_list is None:
            return np.arange(self.config_.n_bins)
        names = list(region_list)
        at = adata.var_names.get_indexer(names)
        if (at < 0).any():
            missing = [n for n, i in zip(names, at, strict=True) if i < 0]
            raise ValueError(
                f"{len(missing)} of {len(names)} regions are not in adata.var_names (first: {missing[0]}); "
                f"they look like {adata.var_names[0]}."
            )
        return at

    def _transform_batches(self, transform_batch) -> list[int | None]:
        if transform_batch is None:
            return [None]
        names = self._batch_names()
        asked = transform_batch if isinstance(transform_batch, list | tuple) else [transform_batch]
        codes: list[int | None] = []
        for batch in asked:
            if str(batch) in names:
                codes.append(names.index(str(batch)))
            elif isinstance(batch, int | np.integer) and 0 <= batch < len(names):
                codes.append(int(batch))
            else:
                raise ValueError(f"transform_batch {batch!r} is not a batch of the model; its batches are {names}.")
        return codes

    def _blocks(
        self, adata, rows, regions, transform_batch, normalize_cells, batch_size
    ) -> Iterator[tuple[slice, slice, np.ndarray]]:
        """Dense blocks of the result: cells of a minibatch x at most 65,536 consecutive regions."""
        batches = self._transform_batches(transform_batch)
        module, start = self.module, 0
        chunks = [slice(i, min(i + REGIONS_AT_ONCE, len(regions))) for i in range(0, len(regions), REGIONS_AT_ONCE)]
        bins = torch.from_numpy(np.asarray(regions, dtype=np.int64)).to(module.device)
        for cells, batch in self._reader(adata).encoded(rows, batch_size):
            depth = module.mean_depth.expand(len(batch["depth"])) if normalize_cells else batch["depth"]
            contexts = [
                module.context(cells, depth, batch["batch"] if code is None else torch.full_like(batch["batch"], code))
                for code in batches
            ]
            stop = start + len(depth)
            for part in chunks:
                block = module.accessibility(contexts[0], bins[part])
                for context in contexts[1:]:
                    block = block + module.accessibility(context, bins[part])
                block = block / len(contexts)
                yield slice(start, stop), part, block.float().cpu().numpy()
            start = stop

    def _sparse(self, adata, rows, regions, threshold, transform_batch, normalize_cells, batch_size) -> sp.csr_matrix:
        done: list[sp.csr_matrix] = []
        pending: list[sp.csr_matrix] = []
        first = 0
        for cell, _, block in self._blocks(adata, rows, regions, transform_batch, normalize_cells, batch_size):
            if cell.start != first:
                done.append(sp.hstack(pending, format="csr"))
                pending, first = [], cell.start
            high = block >= threshold
            at = np.nonzero(high)
            indptr = np.concatenate([[0], np.cumsum(high.sum(1))])
            pending.append(sp.csr_matrix((block[at], at[1].astype(np.int32), indptr), shape=block.shape))
        if pending:
            done.append(sp.hstack(pending, format="csr"))
        if not done:
            return sp.csr_matrix((len(rows), len(regions)), dtype=np.float32)
        return sp.vstack(done, format="csr")

    def _matching_threshold(self, adata: AnnData, n_open: np.ndarray, n_cells: int = 128) -> float:
        """The threshold that leaves as many entries as are open in the data, on cells sampled by the seed."""
        rng = np.random.default_rng(self.seed_)
        rows = np.sort(rng.choice(adata.n_obs, min(n_cells, adata.n_obs), replace=False))
        edges = np.concatenate([[0.0], np.geomspace(1e-4, 1, 200)])
        counts = np.zeros(len(edges) - 1, np.int64)
        with torch.inference_mode():
            for _, _, block in self._blocks(adata, rows, np.arange(self.config_.n_bins), None, False, 64):
                counts += np.histogram(block, edges)[0]
        above = counts[::-1].cumsum()[::-1]  # entries at or above each edge
        enough = np.flatnonzero(above <= n_open[rows].sum())
        return float(edges[enough[0]]) if len(enough) else float(edges[-2])

    def _to_store(self, adata: AnnData, store: Path, batch_size: int | None) -> None:
        """All regions to a zarr array: written under a temporary name, then renamed."""
        import zarr

        rows, regions = np.arange(adata.n_obs), np.arange(self.config_.n_bins)
        batch_size = batch_size or 128
        with whole_file(store) as partial:
            array = zarr.create_array(
                str(partial), shape=(len(rows), len(regions)), dtype="float32",
                chunks=(min(batch_size, len(rows)), min(REGIONS_AT_ONCE, len(regions))),
            )  # fmt: skip
            with torch.inference_mode():
                for cell, region, block in self._blocks(adata, rows, regions, None, False, batch_size):
                    array[cell, region] = block
