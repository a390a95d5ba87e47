"""Intervals beyond the end of their chromosome: a few happen, many are a sign of another assembly."""

from __future__ import annotations

# Aligners leave a stray fragment beyond an end (circular mitochondria, the shift for Tn5), and callers extend a peak
# over it. Of a million fragments aligned to hg19, 0.7 % end beyond the ends of hg38 and 0.8 % beyond those of hs1.
MAX_BEYOND = 1e-3
# A peak that starts within its chromosome and reaches over the end has only been extended too far.
MAX_OVER_END = 1e-2
# From this share on it is another assembly if several chromosomes are too short, and a known one is long enough for
# all.
_SUSPICIOUS_SHARE, _SUSPICIOUS_CHROMS = 1e-4, 3


def too_many_beyond(n_beyond: int, n_over_end: int, n: int, n_chroms: int, fits_another: bool) -> bool:
    """Whether so many intervals lie beyond the ends that they must be of another assembly.

    Parameters
    ----------
    n_beyond
        Intervals that lie beyond the end of their chromosome altogether, or of which nothing else is known.
    n_over_end
        Those that start within their chromosome and end beyond it.
    n
        Number of all intervals.
    n_chroms
        Number of chromosomes with an interval of either kind.
    fits_another
        Whether all intervals lie within the chromosomes of another known assembly.
    """
    if n_beyond > MAX_BEYOND * n or n_over_end > MAX_OVER_END * n:
        return True
    return n_beyond > _SUSPICIOUS_SHARE * n and n_chroms >= _SUSPICIOUS_CHROMS and fits_another


def percent(share: float) -> str:
    """A share as a person writes it, to two digits: "0.0031 %", "25 %"."""
    return f"{float(f'{100 * share:.2g}'):g} %"
