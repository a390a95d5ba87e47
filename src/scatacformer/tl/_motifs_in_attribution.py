"""Which known motifs the peaks of an attribution look like."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    from xarray import DataArray

    from scatacformer.sequence import Motifs


def motifs_in_attribution(
    attribution: DataArray,
    motifs: Motifs,
    *,
    n_peaks: int = 5,
    width: int = 16,
    n_motifs: int = 3,
) -> pd.DataFrame:
    """Match the strongest stretches of an attribution with known motifs, by TOMTOM (Gupta et al. 2007).

    Parameters
    ----------
    attribution
        ``(position, base, track)``, what ``Epiformer.attribute`` returned.
    motifs
        Such as ``sf.sequence.Motifs.from_jaspar()``. The p-values of a match come from comparing with all of them: use
        at least 50.
    n_peaks
        Stretches of each track, by the sum of their absolute attribution; they do not overlap.
    width
        Length of a stretch in bp.
    n_motifs
        Matches of each stretch, the best first.

    Returns
    -------
    Columns ``track``, ``start`` and ``end`` in bp, ``sequence``, ``attribution`` (its sum over the stretch), ``motif``,
    ``p_value``, ``strand``.

    Raises
    ------
    ValueError
        The attribution is not such an array, or shorter than a stretch.
    ImportError
        memelite is not installed.
    """
    import pandas as pd

    try:
        from memelite import tomtom
    except ImportError:
        raise ImportError("motifs are matched with memelite: pip install 'scatacformer[motif]'.") from None
    if attribution.dims != ("position", "base", "track"):
        raise ValueError(f"an attribution has the dimensions position, base, track; found {attribution.dims}.")
    if attribution.sizes["position"] < width:
        raise ValueError(f"the attribution has {attribution.sizes['position']} positions, a stretch {width}.")
    rows: list[dict[str, Any]] = []
    queries: list[np.ndarray] = []
    letters = str(attribution.attrs.get("reference", ""))
    for track in attribution["track"].values.tolist():
        values = attribution.sel(track=track).to_numpy()  # (position, base)
        for begin in _peaks(np.abs(values).sum(1), width, n_peaks):
            part = values[begin : begin + width]
            start = int(attribution["position"].values[begin])
            rows.append(
                {
                    "track": track, "start": start, "end": start + width, "sequence": letters[begin : begin + width],
                    "attribution": float(part.sum()),
                }
            )  # fmt: skip
            queries.append(_as_probabilities(part))
    p_values, _, _, _, strands = tomtom(queries, [np.asarray(matrix) for matrix in motifs.matrices])
    found = []
    for row, p, strand in zip(rows, p_values, strands, strict=True):
        for best in np.argsort(p)[:n_motifs].tolist():
            found.append(
                row | {"motif": motifs.names[best], "p_value": float(p[best]), "strand": "-" if strand[best] else "+"}
            )
    return pd.DataFrame(found)


def _peaks(strength: np.ndarray, width: int, n: int) -> list[int]:
    """Where the ``n`` strongest stretches begin that do not overlap."""
    sums = np.convolve(strength, np.ones(width), mode="valid")
    out: list[int] = []
    for begin in np.argsort(-sums, kind="stable").tolist():
        if len(out) == n or sums[begin] <= 0:
            break
        if all(abs(begin - other) >= width for other in out):
            out.append(begin)
    return sorted(out)


def _as_probabilities(part: np.ndarray) -> np.ndarray:
    """A stretch ``(width, 4)`` as a motif ``(4, width)``: the more a base counts, the surer it is."""
    weight = np.abs(part) / max(float(np.abs(part).sum(1).max()), 1e-12)
    rest = 1 - weight.sum(1, keepdims=True)
    return (weight + rest / 4).T
