"""The constants of the start that were chosen by how well cell types are found."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class StartOptions:
    """Constants of :func:`~scatacformer.cells.fit_spectral`; notation as in :mod:`scatacformer.cells.start.spectral`.

    How they were chosen, and what was found on the data sets left out, is in the log of experiments (user guide).

    Parameters
    ----------
    laws
        Candidates for the weight of bins, idf^a F^b, as pairs (a, b). That with the most evidence is used: the sum over
        dimensions of log(z / ``sure``), z the standard deviations by which they stand out in the cross-validation.
    better
        Another law than the first must have more evidence by this factor.
    sure
        Standard deviations by which a dimension must stand out from noise in bins that it was not computed from.
    least_participation
        Effective number of cells that must support a dimension (a tenth of the cells if these are fewer than 10 times
        as many).
    """

    laws: tuple[tuple[float, float], ...] = ((1.0, 0.25), (1.5, 0.125), (0.5, 0.5), (1.0, 0.0))
    better: float = 1.05
    sure: float = 4.0
    least_participation: float = 10.0

    def __post_init__(self) -> None:
        if not self.laws or any(len(law) != 2 for law in self.laws):
            raise ValueError(f"laws is {self.laws}; expected at least one pair of powers.")
        if min(self.better, self.sure, self.least_participation) <= 0:
            raise ValueError(f"expected positive numbers, found {self}.")

    def least(self, n_cells: int) -> float:
        """Effective number of cells, of ``n_cells``, that must support a dimension."""
        return min(self.least_participation, n_cells / 10)
