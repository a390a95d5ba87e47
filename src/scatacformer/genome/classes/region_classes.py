"""Which classes of genomic region each bin is in: promoters, exons, introns, enhancers, ..."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy.sparse import csr_matrix

from .gene_classes import GENE_CLASSES
from .sources import Needed, of_file, of_gtf, of_homer

if TYPE_CHECKING:
    from anndata import AnnData

    from scatacformer.genome.vocabulary import Vocabulary


class Memberships(NamedTuple):
    """The classes of each of some bins; those of the i-th are ``class_ids[indptr[i] : indptr[i + 1]]``, ascending."""

    indptr: np.ndarray
    """(n + 1,), int64."""
    class_ids: np.ndarray
    """(n_memberships,), int64, indices into the names of the classes."""


class ClassSets(NamedTuple):
    """Bins by the set of classes that they are in."""

    set_of_bin: np.ndarray
    """(n_bins,), int64, indices into the sets."""
    members: np.ndarray
    """(n_sets, n_classes), bool: which class is in which set; no two sets are alike."""


@dataclass(frozen=True, eq=False, repr=False)
class RegionClasses:
    """The classes of genomic region that each bin is in: at least one, often several.

    Parameters
    ----------
    names
        Names of the classes.
    matrix
        (n_bins, n_classes), CSR, bool: which bin is in which class.

    Raises
    ------
    ValueError
        Names that are not one for each class or stand twice, a class without bins, a bin without a class.
    """

    names: tuple[str, ...]
    matrix: csr_matrix

    def __post_init__(self) -> None:
        names = tuple(str(name) for name in self.names)
        matrix = csr_matrix(self.matrix, dtype=bool, copy=True)
        matrix.sum_duplicates()
        matrix.eliminate_zeros()
        if matrix.shape[1] != len(names) or not names:
            raise ValueError(
                f"Expected a name for each of at least one class; found {len(names)} for {matrix.shape[1]}."
            )
        _refuse_twice(names)
        n_bins_of = np.bincount(matrix.indices, minlength=len(names))
        if (n_bins_of == 0).any():
            raise ValueError(
                f"The class {names[int(np.argmin(n_bins_of))]!r} has none of the {matrix.shape[0]:,} bins. Leave it out, "
                "or annotate these bins anew: sf.pp.annotate_bins(adata, ...)."
            )
        if (nowhere := np.diff(matrix.indptr) == 0).any():
            raise ValueError(
                f"{int(nowhere.sum()):,} of {matrix.shape[0]:,} bins are in no class (first: bin "
                f"{int(nowhere.argmax()):,}). Give them one of their own, such as 'intergenic'."
            )
        for array in (matrix.data, matrix.indices, matrix.indptr):
            array.flags.writeable = False
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "matrix", matrix)

    @classmethod
    def from_anndata(cls, adata: AnnData, key: str = "region_classes") -> RegionClasses:
        """What ``pp.annotate_bins`` wrote: ``adata.varm[key]``, and the names in ``adata.uns["scatacformer"][key]``.

        Raises ValueError if it is not there, or if a class has none of the bins that are left.
        """
        notes = adata.uns.get("scatacformer", {}).get(key)
        if notes is None or key not in adata.varm:
            raise ValueError(
                f"The bins of adata have no region classes in varm[{key!r}]. Annotate them: "
                "sf.pp.annotate_bins(adata, gtf='gencode.gtf.gz')."
            )
        return cls(tuple(notes["names"]), adata.varm[key])

    @property
    def n_bins(self) -> int:
        """Number of bins."""
        return self.matrix.shape[0]

    @property
    def n_classes(self) -> int:
        """Number of classes, and of ``<eos>`` tokens if there is one for each."""
        return len(self.names)

    @property
    def n_bins_of_class(self) -> np.ndarray:
        """How many bins are in each class, (n_classes,), int64."""
        return np.bincount(self.matrix.indices, minlength=self.n_classes)

    def bins_of(self, name: str) -> np.ndarray:
        """Token ids of the bins of a class, ascending, int64."""
        if name not in self.names:
            raise ValueError(f"There is no class {name!r}. Classes: {', '.join(self.names)}.")
        rows = np.repeat(np.arange(self.n_bins), np.diff(self.matrix.indptr))
        return rows[self.matrix.indices == self.names.index(name)]

    def memberships(self, bins: np.ndarray | None = None) -> Memberships:
        """The classes of each bin (default: of all), as a decoder with one ``<eos>`` for each class needs them.

        How the predictions for a bin in k classes are combined: the *mean of the logits*,

            logit P(open | bin) = 1/k * sum of logit P(open | bin, class) over the k classes of the bin,

        and the loss is taken of the mean, once a bin. Why so: a bin in one class is untouched; a bin counts once in the
        loss however many classes it is in, and each ``<eos>`` gets 1/k of its gradient; the result does not depend on
        the order of the classes, nor on a class being given twice under two names; the odds are the geometric mean of
        those of the classes, so that one ``<eos>`` which is sure of itself moves them, where the mean of probabilities
        would cap it at 1/k; and for a bilinear decoder it is free: the mean over classes of ``row . query`` is `row .
        (mean of the queries)`, so that the number of dot products stays one a bin. The logits of "kept, given open" are
        combined in the same way. With ``indptr`` and ``class_ids`` from here the mean of anything over (bin, class)
        pairs is ``np.add.reduceat(values, indptr[:-1]) / np.diff(indptr)``, since every bin has a class.

        Bins of the same set of classes can share their queries: there are few sets (see :meth:`sets`; less than a
        hundred for a GTF file of a genome), and 606,219 bins.
        """
        rows = self.matrix if bins is None else self.matrix[np.asarray(bins)]
        return Memberships(rows.indptr.astype(np.int64), rows.indices.astype(np.int64))

    def sets(self) -> ClassSets:
        """The different sets of classes, and which of them each bin is in; sets of earlier classes come first."""
        code = np.zeros(self.n_bins, dtype=np.int64)
        first = np.arange(self.n_bins)
        # 32 classes at a time, the last ones first; the sets so far are numbered, so that any number of classes fits
        for start in reversed(range(0, self.n_classes, 32)):
            part = self.matrix[:, start : start + 32]
            bits = part.astype(np.int64) @ (1 << np.arange(part.shape[1], dtype=np.int64))
            _, first, code = np.unique(code << 32 | bits, return_index=True, return_inverse=True)
        return ClassSets(code.astype(np.int64), self.matrix[first].toarray())

    def __repr__(self) -> str:
        parts = (f"{name} {count:,}" for name, count in zip(self.names, self.n_bins_of_class, strict=True))
        return f"{self.n_classes} classes of {self.n_bins:,} bins: {', '.join(parts)}"


def region_classes(
    vocabulary: Vocabulary,
    gtf: str | Path | None = None,
    homer: str | Path | None = None,
    bed: Mapping[str, str | Path] | None = None,
    *,
    promoter: tuple[int, int] = (2000, 500),
    min_share: float | Mapping[str, float] = 0.0,
    threshold: float | Mapping[str, float] | None = None,
) -> RegionClasses:
    """Classes of genomic region of each bin, from a GTF file or a table of HOMER, and from BED files.

    A bin is in every class that it shares at least one base with. From a GTF file: ``promoter`` (-2 kb ... +0.5 kb of
    the start of a transcript or gene, on its strand), ``exon``, ``intron`` (between exons of the same transcript),
    ``5' UTR`` and ``3' UTR`` (exons of coding transcripts before and after what is translated), ``TTS`` (-100 bp ... +1
    kb of the end), ``ncRNA`` (exons of genes whose type is a non-coding RNA) and ``intergenic``: none of these and no
    part of a gene. HOMER's table has one class for each region, by its centre. A bin that is in no class at all is
    ``intergenic`` too.

    Parameters
    ----------
    vocabulary
        The bins.
    gtf
        GTF file of GENCODE, Ensembl or RefSeq, plain or ``.gz``. Chromosomes may be called ``1``, ``chr1`` or
        ``NC_000001.11``.
    homer
        Table of ``annotatePeaks.pl``, as it is; best of the very bins (:meth:`Vocabulary.to_bed` writes them).
    bed
        Name of a class -> its file: BED, ``.bed.gz``, bigBed or bigWig (the last two are read by pybbi). Any name:
        enhancer, insulator, CTCF site, repeat, conserved, ...
    promoter
        bp before and after the transcription start, 0 or more.
    min_share
        Share of its bases that a bin must have in a class to be in it, one number or by class: there is a repeat in
        almost every bin. Default: a single base will do.
    threshold
        For classes from a bigWig, one number or by class: bins whose mean, with 0 where the file has no value, is at
        least this are in the class.

    Returns
    -------
    RegionClasses
        Classes of the GTF file or the table first, ``intergenic`` after them, then those of ``bed`` in their order.

    Raises
    ------
    ValueError
        Neither a file of genes nor of intervals; both a GTF file and a table; a name given twice; a class of ``bed``
        that has no interval, or no bin; chromosomes that cannot be matched; another assembly (said by the file, or
        intervals beyond the end of a chromosome); a GTF file without genes; a bigWig without a threshold.
    ImportError
        A bigBed or bigWig file, and pybbi is not installed.

    Warns
    -----
    UserWarning
        A class of the GTF file that has no bin, and is left out; bins that are not in HOMER's table.
    """
    bed = dict(bed or {})
    if gtf is not None and homer is not None:
        raise ValueError("gtf and homer both say where the genes are. Pass one of them.")
    if gtf is None and homer is None and not bed:
        raise ValueError("No annotation: pass gtf, homer, or bed={'enhancer': 'enhancers.bed', ...}.")
    if len(promoter) != 2 or min(promoter) < 0:
        raise ValueError(
            f"promoter is {promoter!r}; expected (bp before, bp after the transcription start), both from 0."
        )
    _check_names(bed, of_genes=gtf is not None)
    shares = _by_class(min_share, "min_share")
    if bad := {name: share for name, share in shares.items() if not 0 <= share <= 1}:
        raise ValueError(f"min_share is {bad}; expected a share, 0 ... 1.")
    thresholds = _by_class(threshold, "threshold")

    needed = Needed(vocabulary, shares)
    members: dict[str, np.ndarray] = {}
    intergenic = np.zeros(vocabulary.n_bins, dtype=bool)
    if gtf is not None:
        members, intergenic = of_gtf(gtf, needed, (int(promoter[0]), int(promoter[1])))
    elif homer is not None:
        members = of_homer(homer, needed)
        intergenic = members.pop("intergenic", intergenic)
    _refuse_twice((*members, "intergenic", *bed))
    of_bed = {name: of_file(name, path, needed, thresholds) for name, path in bed.items()}
    _check_used(shares, "min_share", (*GENE_CLASSES, *members, *bed))
    _check_used(thresholds, "threshold", bed)
    intergenic = intergenic | ~np.logical_or.reduce([*members.values(), *of_bed.values(), intergenic])
    members |= {"intergenic": intergenic} if intergenic.any() else {}
    members |= of_bed
    rows, classes = np.nonzero(np.column_stack(list(members.values())))
    ones = np.ones(len(rows), dtype=bool)
    return RegionClasses(
        tuple(members), csr_matrix((ones, (rows, classes)), shape=(vocabulary.n_bins, len(members)), dtype=bool)
    )


def _check_names(bed: Mapping[str, str | Path], *, of_genes: bool) -> None:
    for name in bed:
        if not isinstance(name, str) or not name.strip():
            raise ValueError(f"The classes of bed are called by a text; found {name!r}.")
        if not isinstance(bed[name], str | Path):
            raise ValueError(f"The class {name!r}: expected the path of a file; found {type(bed[name]).__name__}.")
        if not Path(bed[name]).is_file():
            raise FileNotFoundError(f"The class {name!r}: there is no file {bed[name]}.")
    _refuse_twice((*(GENE_CLASSES if of_genes else ()), "intergenic", *bed))


def _refuse_twice(names: tuple[str, ...]) -> None:
    lower = [name.strip().lower() for name in names]
    twice = [name for name, key in zip(names, lower, strict=True) if lower.count(key) > 1]
    if twice:
        raise ValueError(
            f"The class {twice[-1]!r} is given twice: {', '.join(GENE_CLASSES)} come from the genes, and 'intergenic' is "
            "what is left. Call it otherwise, such as "
            f"{'my ' + twice[-1]!r}."
        )


def _by_class(value: float | Mapping[str, float] | None, what: str) -> dict[Any, float]:
    """A number for each class that has its own; under None: for all others."""
    if value is None:
        return {}
    try:
        return {name: float(one) for name, one in (value if isinstance(value, Mapping) else {None: value}).items()}
    except (TypeError, ValueError):
        raise ValueError(f"{what} is {value!r}; expected a number, or a number for each class.") from None


def _check_used(values: dict[Any, float], what: str, names: tuple[str, ...] | Mapping[str, Any]) -> None:
    if unknown := [name for name in values if name is not None and name not in names]:
        raise ValueError(f"{what} names classes that there are not: {unknown}. Classes: {', '.join(names)}.")
