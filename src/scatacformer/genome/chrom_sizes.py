"""Sizes of the chromosomes of an assembly, in bp, without a network."""

from __future__ import annotations

import operator
import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from scatacformer._io import reading

from .seqinfo import sequences_of

# Mitochondria and plastids are read hundreds of times a cell, and chrY depends on the donor's sex: none of them depends
# on the cell's type. Their names at UCSC, Ensembl, FlyBase, WormBase, SGD, TAIR and RefSeq (human, mouse).
DEFAULT_EXCLUDED: tuple[str, ...] = (
    *("chrM", "chrMT", "MT", "M", "MtDNA", "Mito", "mitochondrion", "mitochondria", "mitochondrial"),
    *("mitochondrion_genome", "dmel_mitochondrion_genome", "NC_012920.1", "NC_005089.1"),
    *("chrC", "chrPt", "Pt", "chrCp", "Cp", "chloroplast", "plastid", "chrPltd", "Pltd"),
    *("chrY", "Y"),
)

KNOWN_ASSEMBLIES: tuple[str, ...] = (
    "hg19",
    "hg38",
    "hs1",
    "mm9",
    "mm10",
    "mm39",
    "dm3",
    "dm6",
    "ce10",
    "ce11",
    "danRer10",
    "danRer11",
    "sacCer3",
)

_ALIASES = {
    "grch37": "hg19",
    "grch38": "hg38",
    "chm13": "hs1",
    "chm13v2": "hs1",
    "chm13v2.0": "hs1",
    "t2t-chm13v2.0": "hs1",
    "mgscv37": "mm9",
    "ncbim37": "mm9",
    "grcm38": "mm10",
    "grcm39": "mm39",
    "bdgp5": "dm3",
    "bdgp6": "dm6",
    "wbcel235": "ce11",
    "grcz10": "danRer10",
    "grcz11": "danRer11",
    "r64-1-1": "sacCer3",
} | {name.lower(): name for name in KNOWN_ASSEMBLIES}

_NOT_STANDARD = re.compile(
    r"(_random|_alt|_fix|_hap\d*)$"  # UCSC: unlocalised, alternative, patches
    r"|^(chr)?Un_|^chrUn|^chrEBV$"  # UCSC: unplaced; the decoy of 10x's reference
    r"|^chr\w+Het$|^chrU(extra)?$"  # dm3: heterochromatin, unplaced
    r"|^(GL|KI|KN|KZ|KV|KQ|JH|ML|MU)\d{6}(\.\d+)?$"  # GenBank accessions, as in Ensembl's and 10x's references
)


def chrom_sizes(
    genome: str | Path | Mapping[str, int] | Any,
    *,
    exclude: Collection[str] = (),
    standard_only: bool = False,
) -> dict[str, int]:
    """Chromosome name -> length in bp, in the order of the assembly.

    Parameters
    ----------
    genome
        Name of an assembly (``"hg38"``, ``"GRCh38"``, ``"mm10"``, ...; bioframe has the sizes, no network is used),
        path of a UCSC ``chrom.sizes`` file or of a ``.fai`` index (name and length are the first two columns), a
        mapping of name to length, or an object with one in its attribute ``chrom_sizes``, such as
        ``snapatac2.genome.hg38``.
    exclude
        Names to leave out, in upper or lower case; names that the assembly lacks are ignored.
    standard_only
        Leave out unplaced, unlocalised, alternative and patch sequences.

    Raises
    ------
    ValueError
        The name is of no known assembly and no file; the file or mapping is empty or has a length that is not a
        positive integer.
    """
    if isinstance(genome, Mapping):
        sizes = {str(name): _length(name, length, "the mapping") for name, length in genome.items()}
        where = "the mapping of chromosome sizes"
    elif (assembly := assembly_name(genome)) is not None:
        sizes = {sequence.name: sequence.length for sequence in sequences_of(assembly)}
        where = assembly
    elif isinstance(known := getattr(genome, "chrom_sizes", None), Mapping):
        return chrom_sizes(known, exclude=exclude, standard_only=standard_only)
    elif not isinstance(genome, str | os.PathLike):
        raise ValueError(
            f"genome must be the name of an assembly, the path of one file, or a mapping of name to length; found "
            f"{type(genome).__name__}."
        )
    elif Path(genome).is_file():
        sizes = _read_sizes(Path(genome))
        where = str(genome)
    else:
        raise ValueError(
            f"genome {str(genome)!r} is neither an assembly known here nor a file. "
            f"Known: {', '.join(KNOWN_ASSEMBLIES)} (and names such as GRCh38). "
            "For another one pass the path of its chrom.sizes or .fai file, or a dict of chromosome sizes."
        )
    left_out = {name.lower() for name in exclude}
    sizes = {
        name: length
        for name, length in sizes.items()
        if name.lower() not in left_out and not (standard_only and not is_standard(name))
    }
    if not sizes:
        raise ValueError(f"{where} has no chromosome (left after excluding {sorted(left_out) or 'none'}).")
    return sizes


def assembly_name(genome: object) -> str | None:
    """UCSC's name of an assembly (``"GRCh38.p14"`` -> ``"hg38"``); None for anything that is not a known assembly."""
    if not isinstance(genome, str):
        return None
    return _ALIASES.get(re.sub(r"\.p\d+$", "", genome.strip().lower()))


def is_standard(name: str) -> bool:
    """Whether a chromosome's name is not that of an unplaced, unlocalised, alternative or patch sequence."""
    return _NOT_STANDARD.search(name) is None


def _read_sizes(path: Path) -> dict[str, int]:
    sizes: dict[str, int] = {}
    with reading(path, "a table of chromosome sizes"), path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip() or line.startswith("#"):
                continue
            columns = line.split()
            if len(columns) < 2 or not re.fullmatch("[0-9]{1,18}", columns[1]):
                raise ValueError(
                    f"{path}, line {number}: expected 'chromosome<tab>length', as in a UCSC chrom.sizes or .fai file; "
                    f"found {line.rstrip()[:80]!r}."
                )
            if columns[0] in sizes:
                raise ValueError(f"{path}, line {number}: {columns[0]} appears twice.")
            sizes[columns[0]] = _length(columns[0], int(columns[1]), f"{path}, line {number}")
    return sizes


def _length(name: object, length: object, where: str) -> int:
    try:
        value = operator.index(length)  # type: ignore[arg-type]
    except TypeError:
        value = -1
    if not 0 < value < 2**31:
        raise ValueError(
            f"{where}: the length of {name} is {length!r}; expected an integer number of bp in 1 … 2,147,483,647."
        )
    return value
