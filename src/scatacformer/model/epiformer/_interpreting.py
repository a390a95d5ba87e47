"""The getters of effects: of variants, and of every letter of a region."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from scatacformer.sequence import VariantReader, write_vcf

from ._attribute import RegionInput, attribution, mutagenesis
from ._predict import parse_region, views_of
from ._torch_module import SignalModule
from ._variants import allele_tracks, check_window, parse_variant, score_table

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn
    from xarray import DataArray

    from scatacformer.nn import EpiformerConfig

    from ._setup import Genome


class InterpretMixin:
    """Effects of variants, and the contribution of each base of a region."""

    module: nn.Module
    config_: EpiformerConfig
    scale_: np.ndarray
    track_names_: list[str]
    _predictor: Any
    _rows_of: Any
    _own_genome: Any

    def predict_variants(
        self,
        variants: str | Path | pd.DataFrame,
        groups: str | Sequence[str] | None = None,
        *,
        window: int | None = None,
        reverse_complement: bool = True,
        shifts: Sequence[int] = (-1, 0, 1),
        mismatch: Literal["raise", "skip"] = "raise",
        out: str | Path | None = None,
        resume: bool = False,
        batch_size: int | None = None,
        progress: bool = True,
    ) -> pd.DataFrame | Path:
        """Signal of each track with the reference and with the alternative allele of each variant.

        Both alleles are in the middle of their window; insertions and deletions move both flanks equally. Every
        alternative allele is a variant of its own.

        Parameters
        ----------
        variants
            VCF or BCF file, or a table with columns ``chrom``, ``pos`` (1-based), ``ref``, ``alt`` and, if there is
            one, ``id``.
        groups
            Names of tracks; all by default.
        window
            Width in bp, around the variant, over which the signal is summed: a multiple of two bins. By default 1,024
            bp, or all that a window predicts if that is less.
        reverse_complement, shifts
            The views over which scores are averaged: both strands, and windows moved by these numbers of bp.
        mismatch
            A reference allele that the FASTA file does not have: ``"raise"`` an error, or ``"skip"`` the variant.
        out
            File of tab-separated values to write, in bounded memory, instead of a table.
        resume
            Continue ``out`` where an interrupted call ended.
        batch_size
            Alleles in a minibatch; by default as many as make a megabase.
        progress
            Show a progress bar.

        Returns
        -------
        A row for each variant and track: ``chrom``, ``pos``, ``id``, ``ref``, ``alt``, ``track``; ``reference`` and
        ``alternative``, the signal summed over the window; ``change``, their difference; ``log2_fold_change``; and
        ``spread``, the standard deviation of the latter over the views. With ``out``, its path.

        Raises
        ------
        ValueError
            The variants are of another assembly, with the position and both letters; no variants; a window that is not
            a number of bins.
        """
        window = check_window(window, self.config_)
        genome: Genome = self._own_genome()
        rows = self._rows_of(groups)
        predictor, views = self._predictor(groups, batch_size), views_of(reverse_complement, shifts)
        reader = VariantReader(variants, genome.fasta, mismatch)
        names = [self.track_names_[row] for row in rows]
        path = None if out is None else Path(out)
        scores = score_table(predictor, genome, reader, names, views, window, path, resume, progress)
        if reader.skipped:
            listed = ", ".join(f"{count:,} for {reason}" for reason, count in reader.skipped.items())
            print(f"skipped {sum(reader.skipped.values()):,} alleles: {listed}")
        return scores

    def predict_alleles(
        self,
        variant: str,
        groups: str | Sequence[str] | None = None,
        *,
        window: int | None = None,
        reverse_complement: bool = True,
        shifts: Sequence[int] = (0,),
    ) -> DataArray:
        """Signal along the DNA around a variant, with each of its alleles.

        Parameters
        ----------
        variant
            Such as ``"chr2:127135234 C>T"``, the position 1-based as in VCF.
        groups
            Names of tracks; all by default.
        window
            Width of the result in bp; by default the predicted part of a window.
        reverse_complement, shifts
            The views that are averaged.

        Returns
        -------
        ``(allele, track, bin)`` with the coordinates ``allele`` (``"reference"``, ``"alternative"``), ``track`` and
        ``offset``, the middle of each bin in bp from the variant.
        """
        from xarray import DataArray

        genome: Genome = self._own_genome()
        predictor = self._predictor(groups, None)
        found = parse_variant(variant, genome)
        signal, offset = allele_tracks(predictor, genome, found, views_of(reverse_complement, shifts))
        keep = np.abs(offset) <= (np.inf if window is None else window / 2)
        coords = {
            "allele": ["reference", "alternative"],
            "track": [self.track_names_[row] for row in self._rows_of(groups)],
            "offset": ("bin", offset[keep]),
        }
        return DataArray(
            signal[..., keep],
            dims=("allele", "track", "bin"),
            coords=coords,
            attrs={"variant": str(found)},
            name="signal",
        )

    def write_vcf(self, scores: pd.DataFrame, path: str | Path) -> None:
        """Write what :meth:`predict_variants` returned as a VCF file, with a value for each track in INFO.

        Parameters
        ----------
        scores
            The table.
        path
            ``.vcf``, ``.vcf.gz`` or ``.bcf``.
        """
        write_vcf(path, scores, self._own_genome().fasta.sizes)

    def mutagenesis(
        self,
        region: str,
        groups: str | Sequence[str] | None = None,
        *,
        reverse_complement: bool = True,
        batch_size: int | None = None,
        progress: bool = True,
    ) -> DataArray:
        """Change of the signal of a region by each base at each of its positions (saturation mutagenesis in silico).

        Parameters
        ----------
        region
            Such as ``"chr2:127135050-127135200"``; the signal is summed over the bins that it touches.
        groups
            Names of tracks; all by default. Each track has its own changes.
        reverse_complement
            Average the predictions from both strands; False: half the time.
        batch_size
            Windows in a minibatch.
        progress
            Show a progress bar.

        Returns
        -------
        ``(position, base, track)``: signal with the base minus signal of the reference; 0 for the base that is there.
        The reference's own signal and bases are attributes.
        """
        genome: Genome = self._own_genome()
        predictor = self._predictor(groups, batch_size, reverse_complement)
        place = RegionInput(predictor, genome, *parse_region(region, genome))
        return mutagenesis(predictor, place, [self.track_names_[row] for row in self._rows_of(groups)], progress)

    def attribute(
        self,
        region: str,
        groups: str | Sequence[str] | None = None,
        method: Literal["gradient", "ism", "integrated_gradients"] = "gradient",
        *,
        n_steps: int = 32,
        reverse_complement: bool = True,
        batch_size: int | None = None,
        progress: bool = True,
    ) -> DataArray:
        """Share of each base of a region in the signal of its bins.

        Parameters
        ----------
        region, groups, reverse_complement, batch_size, progress
            As in :meth:`mutagenesis`.
        method
            ``"gradient"``: derivative × input; ``"ism"``: what the base adds over the mean of the four; both say how
            the signal changes near the sequence. ``"integrated_gradients"`` (Sundararajan et al. 2017): the shares sum
            up to the difference between the region and one of unknown bases.
        n_steps
            Steps of the integral.

        Returns
        -------
        ``(position, base, track)``, 0 for bases that are not there. By how much the sum of the shares misses the
        difference is printed and in the attributes (``difference``, ``completeness_error``).
        """
        if n_steps < 1:
            raise ValueError(f"n_steps is {n_steps}; expected at least 1.")
        genome: Genome = self._own_genome()
        predictor = self._predictor(groups, batch_size, reverse_complement)
        place = RegionInput(predictor, genome, *parse_region(region, genome))
        names = [self.track_names_[row] for row in self._rows_of(groups)]
        found = attribution(predictor, place, names, method, n_steps, progress)
        for name, whole, error in zip(names, found.attrs["difference"], found.attrs["completeness_error"], strict=True):
            print(f"{name}: shares sum to {whole + error:.4g}, the region is worth {whole:.4g} (off by {error:.2g})")
        return found

    def torch_module(self, groups: str | Sequence[str] | None = None, *, window: int | None = None) -> SignalModule:
        """The model as a module of torch, for captum, tangermeme and other tools that interpret networks of DNA.

        Parameters
        ----------
        groups
            Names of tracks; all by default.
        window
            Width in bp, in the middle of the sequence, over which the signal is summed; the default is that of
            :meth:`predict_variants`.

        Returns
        -------
        A module of one-hot DNA ``(B, 4, seq_len)``, bases in the order A, C, G, T, to ``(B, n_groups)`` in the units of
        the data. Its weights are those of the model, not a copy. It always runs in evaluation mode.

        Raises
        ------
        ValueError
            A window that is not an even number of bins, or wider than the predicted part; a model without training.

        Examples
        --------
        >>> from tangermeme.ism import saturation_mutagenesis  # doctest: +SKIP
        >>> saturation_mutagenesis(model.torch_module("T"), sequences)  # doctest: +SKIP
        """
        width = check_window(window, self.config_)
        predictor = self._predictor(groups, None)
        return SignalModule(self.module, self.config_, self.scale_, predictor.rows, width)
