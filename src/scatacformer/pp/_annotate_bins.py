"""The classes of genomic region of each bin, written beside the bins."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scatacformer.genome import RegionClasses, Vocabulary, region_classes

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from anndata import AnnData


def annotate_bins(
    adata: AnnData | Vocabulary,
    gtf: str | Path | None = None,
    homer: str | Path | None = None,
    bed: Mapping[str, str | Path] | None = None,
    *,
    promoter: tuple[int, int] = (2000, 500),
    min_share: float | Mapping[str, float] = 0.0,
    threshold: float | Mapping[str, float] | None = None,
    key_added: str = "region_classes",
) -> RegionClasses:
    """Tell which classes of genomic region each bin is in: promoter, exon, intron, ..., enhancer, repeat, ...

    What the classes are, and how a bin comes to be in one, is said at :func:`scatacformer.genome.region_classes`, which
    this calls. ``ScAtacFormer(adata, eos="region_class")`` reads them.

    Parameters
    ----------
    adata
        Cells × bins, whose ``.var`` says where the bins lie; or a :class:`scatacformer.genome.Vocabulary`, to which
        nothing is written.
    gtf
        GTF file of GENCODE, Ensembl or RefSeq, plain or ``.gz``: ``promoter``, ``exon``, ``intron``, ``5' UTR``,
        ``3' UTR``, ``TTS``, ``ncRNA``, ``intergenic``.
    homer
        In place of ``gtf``: the table of HOMER's ``annotatePeaks.pl``, as it is.
    bed
        Name of a class -> file of its intervals: BED, ``.bed.gz``, bigBed or bigWig.
    promoter
        bp before and after the transcription start.
    min_share
        Share of its bases that a bin must have in a class to be in it, one number or by class. Default: one base.
    threshold
        Mean from which on a bin is in a class that comes from a bigWig file, one number or by class.
    key_added
        Where to write.

    Returns
    -------
    RegionClasses
        Also written: ``.varm[key_added]``, (n_bins, n_classes), CSR, bool, and ``.uns["scatacformer"][key_added]``,
        with the ``names`` of the classes and ``n_bins``, how many bins each has.
        :meth:`scatacformer.genome.RegionClasses.from_anndata` reads it back.

    Raises
    ------
    ValueError
        ``adata`` is a view; and what :func:`scatacformer.genome.region_classes` raises.
    ImportError
        A bigBed or bigWig file, and pybbi is not installed.

    Examples
    --------
    >>> sf.pp.annotate_bins(adata, gtf="gencode.v44.gtf.gz", bed={"enhancer": "enhancers.bed.gz"})  # doctest: +SKIP
    """
    if isinstance(adata, Vocabulary):
        vocabulary = adata
    elif adata.is_view:
        raise ValueError("adata is a view of another AnnData: pass adata.copy().")
    else:
        vocabulary = Vocabulary.from_var(adata.var, assembly=adata.uns.get("assembly"))
    classes = region_classes(vocabulary, gtf, homer, bed, promoter=promoter, min_share=min_share, threshold=threshold)
    if not isinstance(adata, Vocabulary):
        import numpy as np

        adata.varm[key_added] = classes.matrix.copy()
        notes = {"names": np.array(classes.names, dtype=object), "n_bins": classes.n_bins_of_class}
        adata.uns["scatacformer"] = {**adata.uns.get("scatacformer", {}), key_added: notes}
    return classes
