"""Links between genes and bins, stored in the MuData object that they were computed from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scatacformer.genome import as_categories, check_links

from ._links import places_of_genes, places_of_regions, refuse_twice

if TYPE_CHECKING:
    import pandas as pd
    from mudata import MuData


def links_to_mudata(
    mdata: MuData, links: pd.DataFrame, key: str = "gene_bin_links", *, rna: str = "rna", atac: str = "atac"
) -> None:
    """Write links into ``mdata.varp[key]`` and ``mdata.uns["scatacformer"]["links"]``; both can be saved in a ``.h5mu``
    file.

    Parameters
    ----------
    mdata
        Its modality ``rna`` contains the genes and ``atac`` the regions of the links, in any order.
    links
        Result of ``get_gene_bin_links``, or a subset of its rows, for example those with a small ``q``.
    key
        Name of the matrix: the score of each link in the row of its gene and the column of its region,
        (n_vars, n_vars), CSR, float32. Links with a score of 0 are stored explicitly.
    rna, atac
        Names of the modalities.

    Raises
    ------
    KeyError
        The modality does not exist.
    ValueError
        A column is missing, a gene or a region is not in its modality, a link occurs twice, or ``mdata`` has not been
        updated since a modality changed.
    """
    from scipy.sparse import csr_matrix

    links = check_links(links)
    refuse_twice(links)
    row = _of_mudata(mdata, rna)[places_of_genes(links, mdata.mod[rna])]
    column = _of_mudata(mdata, atac)[places_of_regions(links, mdata.mod[atac])]
    score = links["score"].to_numpy(dtype=np.float32)
    matrix = csr_matrix((score, (row, column)), shape=(mdata.n_vars, mdata.n_vars))
    matrix.sort_indices()
    mdata.varp[key] = matrix
    mdata.uns["scatacformer"] = {**mdata.uns.get("scatacformer", {}), "links": as_categories(links)}


def _of_mudata(mdata: MuData, name: str) -> np.ndarray:
    """Position in ``mdata.var`` of each variable of a modality, (n_vars of the modality,)."""
    if name not in mdata.mod:
        raise KeyError(
            f"mdata has no modality {name!r}; it has {', '.join(mdata.mod)}. Pass its name as rna= or atac=."
        )
    place = np.asarray(mdata.varmap[name]).ravel().astype(np.int64)  # 1-based position in the modality, 0: not in it
    here = np.flatnonzero(place > 0)
    if not np.array_equal(np.sort(place[here]), np.arange(1, mdata.mod[name].n_vars + 1)):
        raise ValueError(f"mdata is out of date: the variables of {name!r} have changed. Call mdata.update() first.")
    of_modality = np.empty(len(here), dtype=np.int64)
    of_modality[place[here] - 1] = here
    return of_modality
