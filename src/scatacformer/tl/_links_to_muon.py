"""Links between genes and bins as a peak annotation for muon."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scatacformer.genome import check_links

from ._links import places_of_regions

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

# bp from the transcription start site: Cell Ranger's definition of a promoter
PROMOTER = (-1000, 100)


def links_to_muon(adata_atac: AnnData, links: pd.DataFrame) -> None:
    """Write links into ``adata_atac.uns["atac"]["peak_annotation"]``, where ``muon.atac`` expects
    them.

    Parameters
    ----------
    adata_atac
        Cells × regions, with the regions of the links.
    links
        Result of ``get_gene_bin_links``, or a subset of its rows, for example those with a small ``q``.

    Notes
    -----
    The table is muon's: indexed by ``gene``, with ``peak`` (a name in ``adata_atac.var_names``), ``distance`` (bp,
    negative upstream) and ``peak_type`` as defined by Cell Ranger: ``promoter`` from 1,000 bp upstream to 100 bp
    downstream of the transcription start site, ``distal`` for all other linked regions at any distance. Regions without
    a link occur once as ``intergenic``, with an empty gene and no distance. The table has no scores; they remain in
    ``links``.

    Raises
    ------
    ValueError
        A column is missing, or a region is not in ``adata_atac``.
    """
    import pandas as pd

    links = check_links(links)
    at = places_of_regions(links, adata_atac)
    distance = links["distance"].to_numpy()
    is_promoter = (distance >= PROMOTER[0]) & (distance <= PROMOTER[1])
    alone = np.setdiff1d(np.arange(adata_atac.n_vars), at)
    names = adata_atac.var_names.to_numpy(dtype=object)
    genes = np.concatenate([links["gene"].astype(object).to_numpy(), np.full(len(alone), "", dtype=object)])
    table = pd.DataFrame(
        {
            "peak": np.concatenate([names[at], names[alone]]),
            "distance": pd.array([*distance.tolist(), *[pd.NA] * len(alone)], dtype="Int64"),
            "peak_type": np.concatenate(
                [
                    np.where(is_promoter, "promoter", "distal").astype(object),
                    np.full(len(alone), "intergenic", dtype=object),
                ]
            ),
        },
        index=pd.Index(genes, name="gene", dtype=object),
    )
    adata_atac.uns["atac"] = {**adata_atac.uns.get("atac", {}), "peak_annotation": table}
