"""Classes of genomic region of each bin: promoters, exons, introns, enhancers, ..."""

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
    """The classes of a set of bins; those of the i-th are ``class_ids[indptr[i] : indptr[i + 1]]``, ascending."""

    indptr: np.ndarray
    """(n + 1,), int64."""
    class_ids: np.ndarray
    """(n_memberships,), int64, indices into the names of the classes."""


class ClassSets(NamedTuple):
    """Bins grouped by their set of classes."""

    set_of_bin: np.ndarray
    """(n_bins,), int64, indices into the sets."""
    members: np.ndarray
    """(n_sets, n_classes), bool: which class is in which set; all sets are different."""


@dataclass(frozen=True, eq=False, repr=False)
class RegionClasses:
    """The classes of genomic region of each bin: at least one, often several.

    Parameters
    ----------
    names
        Names of the classes.
    matrix
        (n_bins, n_classes), CSR, bool: which bin is in which class.

    Raises
    ------
    ValueError
        Not one name for each class, repeated names, a class without bins, or a bin without a class.
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
                f"There are {len(names)} names for {matrix.shape[1]} classes; expected one for each of at least one class."
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
                f"{int(nowhere.sum()):,} of {matrix.shape[0]:,} bins have no class (first: bin "
                f"{int(nowhere.argmax()):,}). Add a class for them, such as 'intergenic'."
            )
        for array in (matrix.data, matrix.indices, matrix.indptr):
            array.flags.writeable = False
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "matrix", matrix)

    @classmethod
    def from_anndata(cls, adata: AnnData, key: str = "region_classes") -> RegionClasses:
        """Read the result of ``pp.annotate_bins``: ``adata.varm[key]``, and the names in
        ``adata.uns["scatacformer"][key]``.

        Raises ValueError if it does not exist, or if a class has none of the remaining bins.
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
        """Number of bins in each class, (n_classes,), int64."""
        return np.bincount(self.matrix.indices, minlength=self.n_classes)

    def bins_of(self, name: str) -> np.ndarray:
        """Token ids of the bins of a class, ascending, int64."""
        if name not in self.names:
            raise ValueError(f"There is no class {name!r}. The classes are {', '.join(self.names)}.")
        rows = np.repeat(np.arange(self.n_bins), np.diff(self.matrix.indptr))
        return rows[self.matrix.indices == self.names.index(name)]

    def memberships(self, bins: np.ndarray | None = None) -> Memberships:
        """The classes of each bin (default: all bins), for a decoder with one ``<eos>`` for each class.

        The predictions for a bin with k classes are combined by the *mean of the logits*,

            logit P(open | bin) = 1/k * sum of logit P(open | bin, class) over the k classes of the bin,

        and the loss is computed from the mean, once per bin. A bin with one class is not affected. A bin counts once in
        the loss, however many classes it has, and each ``<eos>`` gets 1/k of its gradient. The result does not depend
        on the order of the classes, or on a class being given twice under two names. The odds are the geometric mean of
        those of the classes, so one ``<eos>`` with high confidence can determine them, whereas the mean of
        probabilities would be bounded by 1/k. For a bilinear decoder it costs nothing: the mean over classes of
        ``row . query`` is ``row . (mean of the queries)``, so the number of dot products remains one per bin. The
        logits of "kept, given open" are combined in the same way. With ``indptr`` and ``class_ids`` from here the mean
        of anything over (bin, class) pairs is ``np.add.reduceat(values, indptr[:-1]) / np.diff(indptr)``, since every
        bin has a class.

        Bins with the same set of classes can share their queries: there are few sets (see :meth:`sets`; less than a
        hundred for the GTF file of a genome) for 606,219 bins.
        """
        rows = self.matrix if bins is None else self.matrix[np.asarray(bins)]
        return Memberships(rows.indptr.astype(np.int64), rows.indices.astype(np.int64))

    def sets(self) -> ClassSets:
        """The different sets of classes, and the set of each bin; sets of earlier classes come first."""
        code = np.zeros(self.n_bins, dtype=np.int64)
        first = np.arange(self.n_bins)
        # 32 classes at a time, last ones first; intermediate sets are numbered, so any number of classes is possible
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
    """Classes of genomic region of each bin, from a GTF file or a HOMER table, and from BED files.

    A bin has every class with which it shares at least one base. From a GTF file: ``promoter`` (-2 kb ... +0.5 kb of
    the start of a transcript or gene, on its strand), ``exon``, ``intron`` (between exons of the same transcript),
    ``5' UTR`` and ``3' UTR`` (exons of coding transcripts before and after the translated part), ``TTS`` (-100 bp ...
    +1 kb of the end), ``ncRNA`` (exons of genes whose type is a non-coding RNA) and ``intergenic``: none of these and
    no part of a gene. A HOMER table has one class for each region, that of its centre. A bin without any other class is
    ``intergenic`` as well.

    Parameters
    ----------
    vocabulary
        The bins.
    gtf
        GTF file of GENCODE, Ensembl or RefSeq, plain or ``.gz``. Chromosomes may be called ``1``, ``chr1`` or
        ``NC_000001.11``.
    homer
        Output table of ``annotatePeaks.pl``, ideally for the same bins (:meth:`Vocabulary.to_bed` writes them).
    bed
        Mapping of class names to files: BED, ``.bed.gz``, bigBed or bigWig (the last two are read by pybigtools). Any name
        is possible: enhancer, insulator, CTCF site, repeat, conserved, ...
    promoter
        bp before and after the transcription start site, 0 or more.
    min_share
        Minimum share of a bin's bases in a class, as one number or by class; useful for repeats, which occur in almost
        every bin. Default: a single base is sufficient.
    threshold
        For classes from a bigWig file, as one number or by class: minimum mean value of a bin, with 0 where the file
        has no value.

    Returns
    -------
    RegionClasses
        Classes of the GTF file or the table first, ``intergenic`` after them, then those of ``bed`` in their order.

    Raises
    ------
    ValueError
        Neither genes nor intervals are given; both a GTF file and a HOMER table; repeated names; a class of ``bed``
        without intervals or bins; chromosomes that cannot be matched; another assembly (according to the file, or
        intervals beyond the end of a chromosome); a GTF file without genes; a bigWig file without a threshold.
    ImportError
        pybigtools is not installed and a file is bigBed or bigWig.

    Warns
    -----
    UserWarning
        A class of the GTF file has no bins and is left out; bins are missing in the HOMER table.
    """
    bed = dict(bed or {})
    if gtf is not None and homer is not None:
        raise ValueError("Both gtf and homer are given. Pass only one of them.")
    if gtf is None and homer is None and not bed:
        raise ValueError("No annotation is given. Pass gtf, homer, or bed={'enhancer': 'enhancers.bed', ...}.")
    if len(promoter) != 2 or min(promoter) < 0:
        raise ValueError(
            f"promoter is {promoter!r}; expected (bp before, bp after the transcription start), both at least 0."
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
            raise ValueError(f"The key {name!r} of bed is not the name of a class; expected a non-empty string.")
        if not isinstance(bed[name], str | Path):
            raise ValueError(f"The class {name!r} is given as {type(bed[name]).__name__}; expected the path of a file.")
        if not Path(bed[name]).is_file():
            raise FileNotFoundError(f"The file {bed[name]} of the class {name!r} does not exist. Check the path.")
    _refuse_twice((*(GENE_CLASSES if of_genes else ()), "intergenic", *bed))


def _refuse_twice(names: tuple[str, ...]) -> None:
    lower = [name.strip().lower() for name in names]
    twice = [name for name, key in zip(names, lower, strict=True) if lower.count(key) > 1]
    if twice:
        raise ValueError(
            f"The class {twice[-1]!r} is given twice: {', '.join(GENE_CLASSES)} come from the genes, and 'intergenic' "
            "contains the other bins. Use another name, such as "
            f"{'my ' + twice[-1]!r}."
        )


def _by_class(value: float | Mapping[str, float] | None, what: str) -> dict[Any, float]:
    """A number for each class that has one; the key None is for all others."""
    if value is None:
        return {}
    try:
        return {name: float(one) for name, one in (value if isinstance(value, Mapping) else {None: value}).items()}
    except (TypeError, ValueError):
        raise ValueError(f"{what} is {value!r}; expected a number, or a number for each class.") from None


def _check_used(values: dict[Any, float], what: str, names: tuple[str, ...] | Mapping[str, Any]) -> None:
    if unknown := [name for name in values if name is not None and name not in names]:
        raise ValueError(f"{what} has unknown classes: {unknown}. The classes are {', '.join(names)}.")
