"""The getters of predicted signal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scatacformer.genome import DEFAULT_EXCLUDED

from ._predict import BothStrands, Predictor, parse_region, predict_bins, predict_interval, views_of, write_tracks

if TYPE_CHECKING:
    from anndata import AnnData
    from torch import nn
    from xarray import DataArray

    from scatacformer.nn import EpiformerConfig

    from ._setup import Genome, Prepared


class PredictMixin:
    """Predicted signal of the windows of the data, of a region, and of a whole genome."""

    module: nn.Module
    config_: EpiformerConfig
    scale_: np.ndarray
    is_trained_: bool
    _prepared_of: Any
    _rows_of: Any
    _own_genome: Any
    track_names_: list[str]

    def get_predicted_tracks(
        self,
        adata: AnnData | None = None,
        groups: str | Sequence[str] | None = None,
        *,
        reverse_complement: bool = True,
        shifts: Sequence[int] = (0,),
        batch_size: int | None = None,
        progress: bool = True,
    ) -> np.ndarray:
        """Predicted signal of each track in each bin, in the units of the data.

        It does not depend on ``batch_size``. Of a bin that several windows predict it is the mean.

        Parameters
        ----------
        adata
            Tracks × bins, set up; those of the model by default. Their signal is not read.
        groups
            Names of tracks; all by default.
        reverse_complement
            Average the predictions from both strands, which then do not depend on the strand; False: half the time.
        shifts
            Average those of windows moved by these numbers of bp.
        batch_size
            Windows in a minibatch; by default as many as make a megabase.
        progress
            Show a progress bar.

        Returns
        -------
        ``(n_groups, n_bins)`` float32; NaN in bins that no window predicts, as those of the crop.
        """
        prepared: Prepared = self._prepared_of(adata)
        predictor = self._predictor(groups, batch_size)
        views = views_of(reverse_complement, shifts)
        return predict_bins(predictor, prepared.data, prepared.adata.n_vars, views, progress)

    def predict_region(
        self,
        region: str,
        groups: str | Sequence[str] | None = None,
        *,
        reverse_complement: bool = True,
        shifts: Sequence[int] = (0,),
        batch_size: int | None = None,
        progress: bool = True,
    ) -> DataArray:
        """Predicted signal of the bins that a region touches; beyond the ends of the chromosome there is N.

        Parameters
        ----------
        region
            Such as ``"chr2:127068747-127150006"``, 0-based and half open.
        groups, reverse_complement, shifts, batch_size, progress
            As in :meth:`get_predicted_tracks`.

        Returns
        -------
        ``(track, bin)`` with coordinates ``track``, ``start`` and ``end`` in bp; the chromosome is an attribute.

        Raises
        ------
        ValueError
            The region has another form, or is not within a chromosome of the FASTA file.
        """
        from xarray import DataArray

        genome: Genome = self._own_genome()
        chrom, start, end = parse_region(region, genome)
        rows = self._rows_of(groups)
        predictor, views = self._predictor(groups, batch_size), views_of(reverse_complement, shifts)
        values, starts = predict_interval(predictor, genome, chrom, start, end, views, progress)
        coords = {
            "track": [self.track_names_[row] for row in rows],
            "start": ("bin", starts),
            "end": ("bin", starts + self.config_.bin_size),
        }
        return DataArray(values, dims=("track", "bin"), coords=coords, attrs={"chrom": chrom}, name="signal")

    def to_bigwig(
        self,
        folder: str | Path,
        groups: str | Sequence[str] | None = None,
        chromosomes: str | Sequence[str] | None = None,
        *,
        reverse_complement: bool = True,
        shifts: Sequence[int] = (0,),
        batch_size: int | None = None,
    ) -> list[Path]:
        """Write predicted signal over whole chromosomes, a bigWig file of each track.

        The signal of one chromosome is in memory; a temporary file in ``folder`` holds 4 bytes for each bin and track.

        Parameters
        ----------
        folder
            Created if needed; files there of the same name are replaced.
        groups, reverse_complement, shifts, batch_size
            As in :meth:`get_predicted_tracks`.
        chromosomes
            Names; by default all of the FASTA file but mitochondria and chrY.

        Returns
        -------
        Paths of the files, in the order of ``groups``.
        """
        genome: Genome = self._own_genome()
        known = genome.fasta.sizes
        if chromosomes is None:
            names = [name for name in known if name not in DEFAULT_EXCLUDED]
        else:
            names = [chromosomes] if isinstance(chromosomes, str) else list(chromosomes)
            if absent := [name for name in names if name not in known]:
                raise ValueError(
                    f"the FASTA file has no chromosome {absent[0]!r}. It has: {', '.join(list(known)[:5])}."
                )
        rows = self._rows_of(groups)
        tracks = [self.track_names_[row] for row in rows]
        predictor, views = self._predictor(groups, batch_size), views_of(reverse_complement, shifts)
        return write_tracks(predictor, genome, tracks, Path(folder), names, views)

    def _predictor(
        self, groups: str | Sequence[str] | None, batch_size: int | None, both_strands: bool = False
    ) -> Predictor:
        """``both_strands``: every output is the mean of both, also its gradient."""
        if not self.is_trained_:
            raise ValueError("the model is not trained: call train() first.")
        module = BothStrands(self.module) if both_strands else self.module
        return Predictor(module, self.config_, self.scale_, self._rows_of(groups), batch_size)
