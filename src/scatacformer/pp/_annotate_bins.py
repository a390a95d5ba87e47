"""Annotation of bins with classes of genomic region."""

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
    """Annotate bins with classes of genomic region: promoter, exon, intron, ..., enhancer, repeat, ...

    The classes and their definitions are described in :func:`scatacformer.genome.region_classes`, which this function
    calls. ``ScAtacFormer(adata, eos="region_class")`` uses them.

    Parameters
    ----------
    adata
        Cells × bins, with the positions of the bins in ``.var``; or a :class:`scatacformer.genome.Vocabulary`, which is
        not modified.
    gtf
        GTF file of GENCODE, Ensembl or RefSeq, plain or ``.gz``: ``promoter``, ``exon``, ``intron``, ``5' UTR``,
        ``3' UTR``, ``TTS``, ``ncRNA``, ``intergenic``.
    homer
        Instead of ``gtf``: the output table of HOMER's ``annotatePeaks.pl``.
    bed
        Mapping of class names to files with their intervals: BED, ``.bed.gz``, bigBed or bigWig.
    promoter
        bp before and after the transcription start.
    min_share
        Minimum share of a bin's bases in a class, as one number or by class. Default: one base.
    threshold
        Minimum mean of a bin for classes from a bigWig file, as one number or by class.
    key_added
        Key of ``.varm`` and ``.uns["scatacformer"]`` under which the result is stored.

    Returns
    -------
    RegionClasses
        Also stored: ``.varm[key_added]``, (n_bins, n_classes), CSR, bool, and ``.uns["scatacformer"][key_added]``,
        with the ``names`` of the classes and their numbers of bins, ``n_bins``.
        :meth:`scatacformer.genome.RegionClasses.from_anndata` reads it back.

    Raises
    ------
    ValueError
        ``adata`` is a view; and what :func:`scatacformer.genome.region_classes` raises.
    ImportError
        A bigBed or bigWig file, and pybigtools is not installed.

    Examples
    --------
    >>> sf.pp.annotate_bins(adata, gtf="gencode.v44.gtf.gz", bed={"enhancer": "enhancers.bed.gz"})  # doctest: +SKIP
    """
    if isinstance(adata, Vocabulary):
        vocabulary = adata
    elif adata.is_view:
        raise ValueError("adata is a view of another AnnData. Pass adata.copy().")
    else:
        vocabulary = Vocabulary.from_var(adata.var, assembly=adata.uns.get("assembly"))
    classes = region_classes(vocabulary, gtf, homer, bed, promoter=promoter, min_share=min_share, threshold=threshold)
    if not isinstance(adata, Vocabulary):
        import numpy as np

        adata.varm[key_added] = classes.matrix.copy()
        notes = {"names": np.array(classes.names, dtype=object), "n_bins": classes.n_bins_of_class}
        adata.uns["scatacformer"] = {**adata.uns.get("scatacformer", {}), key_added: notes}
    return classes
