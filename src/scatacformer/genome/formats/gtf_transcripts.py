"""The exons and coding parts of transcripts, and the bodies of genes, out of a GTF file."""

from __future__ import annotations

import re
from array import array
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from scatacformer.genome.chrom_sizes import assembly_name

from .gtf import LAST_BASE, gtf_lines, no_genes

if TYPE_CHECKING:
    from pathlib import Path

_TRANSCRIPT = re.compile(rb'(?<![A-Za-z_])transcript_id[ =]"?([^";\r]+)')
_GENE = re.compile(rb'(?<![A-Za-z_])gene_id[ =]"?([^";\r]+)')
# gene_type in GENCODE, gene_biotype in Ensembl and RefSeq
_TYPE = re.compile(rb'(?<![A-Za-z_])gene_(?:bio)?type[ =]"?([^";\r]+)')
# Of genes whose RNA is the product; besides all that end in RNA (lncRNA, miRNA, lincRNA, Mt_tRNA, ...).
_NON_CODING = {
    b"antisense",
    b"non_coding",
    b"processed_transcript",
    b"ribozyme",
    b"sense_intronic",
    b"sense_overlapping",
}
# the last in the line: GENCODE's lifted files have "human genome (GRCh38), version 44, mapped to GRCh37"
_BUILD = re.compile(rb"#.*\b((?:GRC[hmz]\d+|hg\d+|mm\d+|T2T-CHM13v2(?:\.0)?)(?:\.p\d+)?)\b")


class Parts(NamedTuple):
    """Intervals of the genome that belong to something; 0-based, half-open, bp. All arrays (n_parts,)."""

    owner: np.ndarray
    """int64: transcript or gene."""
    chrom: np.ndarray
    """int64: index into `chrom_names`."""
    start: np.ndarray
    """int64."""
    end: np.ndarray
    """int64."""

    def of(self, rows: np.ndarray) -> Parts:
        """A subset, by a mask or indices."""
        return Parts(*(column[rows] for column in self))


class Transcripts(NamedTuple):
    """Content of a GTF file; an owner is a transcript on one chromosome, its strand and type are ``...[owner]``."""

    chrom_names: list[str]
    exons: Parts
    coding: Parts
    """CDS and stop codons."""
    genes: Parts
    """Owner: the gene, which is none of the transcripts."""
    is_minus: np.ndarray
    """(n_transcripts,), bool: on -."""
    is_non_coding: np.ndarray
    """(n_transcripts,), bool: of a gene that makes an RNA that is not translated."""
    gene_is_minus: np.ndarray
    """(n_genes,), bool."""
    has_types: bool
    """Whether the file has types of genes."""
    assembly: str | None
    """The assembly in the comments of its header, if any."""


def read_gtf_transcripts(path: str | Path) -> Transcripts:
    """The lines of type gene, exon, CDS and stop_codon of a GTF file of GENCODE, Ensembl or RefSeq, plain or gzip.

    The order of the lines does not matter. Lines of exons without a transcript_id belong to one transcript of their
    gene. A strand that is neither + nor - counts as +. Untranslated parts are derived from exons and CDS, not from the
    lines that some dialects have for them.

    Raises
    ------
    ValueError
        No line of a gene; exons without a transcript and a gene; a position that is not a number.
    FileNotFoundError
    """
    chroms: dict[bytes, int] = {}
    transcripts: dict[tuple[int, bytes], int] = {}
    columns = {kind: [array("q") for _ in range(4)] for kind in (b"gene", b"exon", b"CDS", b"stop_codon")}
    is_minus, gene_is_minus = bytearray(), bytearray()
    gene_of: list[bytes] = []  # of each transcript
    non_coding: dict[bytes, bool] = {}
    n_lost, assembly = 0, None
    for line in gtf_lines(path):
        fields = line.split(b"\t", 8)
        if len(fields) < 9 or (column := columns.get(fields[2])) is None or line[:1] == b"#":
            if line[:1] == b"#" and assembly is None and (build := _BUILD.match(line)):
                assembly = assembly_name(build[1].decode())
            continue
        name, _, kind, first, last, _, strand, _, attributes = fields
        chrom = chroms.setdefault(name, len(chroms))
        if kind == b"gene":
            if (gene := _GENE.search(attributes)) is None:
                continue
            if (kind_of_gene := _TYPE.search(attributes)) is not None:
                non_coding[gene[1]] = _is_non_coding(kind_of_gene[1])
            owner = len(gene_is_minus)
            gene_is_minus.append(strand == b"-")
        else:
            found = _TRANSCRIPT.search(attributes) or _GENE.search(attributes)
            if found is None:
                n_lost += 1
                continue
            key = (chrom, found[1])  # genes on both X and Y may have one id
            if (known := transcripts.get(key)) is None:
                known = transcripts[key] = len(transcripts)
                is_minus.append(strand == b"-")
                gene = _GENE.search(attributes)
                gene_of.append(gene[1] if gene else b"")
                if gene and gene[1] not in non_coding and (kind_of_gene := _TYPE.search(attributes)) is not None:
                    non_coding[gene[1]] = _is_non_coding(kind_of_gene[1])
            owner = known
        try:
            start, end = int(first) - 1, int(last)
        except ValueError:
            start, end = 0, 0
        if not 0 <= start < end <= LAST_BASE:
            raise ValueError(
                f"{path} has a line whose positions are not 1 <= start <= end: {line[:80].decode(errors='replace')!r}."
            )
        for values, value in zip(column, (owner, chrom, start, end), strict=True):
            values.append(value)
    parts = {kind: Parts(*(np.array(column, dtype=np.int64) for column in four)) for kind, four in columns.items()}
    if not parts[b"gene"].owner.size:
        raise ValueError(no_genes(path))
    if n_lost and not parts[b"exon"].owner.size:
        raise ValueError(
            f"{path} has {n_lost:,} exons, and none names its transcript by a transcript_id. Expected GTF; GFF3 can be "
            "converted with: gffread annotation.gff3 -T -o annotation.gtf."
        )
    return Transcripts(
        chrom_names=[name.decode(errors="replace") for name in chroms],
        exons=parts[b"exon"],
        coding=Parts(*(np.concatenate(both) for both in zip(parts[b"CDS"], parts[b"stop_codon"], strict=True))),
        genes=parts[b"gene"],
        is_minus=np.frombuffer(bytes(is_minus), dtype=bool),
        is_non_coding=np.array([non_coding.get(gene, False) for gene in gene_of], dtype=bool),
        gene_is_minus=np.frombuffer(bytes(gene_is_minus), dtype=bool),
        has_types=bool(non_coding),
        assembly=assembly,
    )


def _is_non_coding(kind: bytes) -> bool:
    return kind in _NON_CODING or (kind.lower().endswith(b"rna") and kind.lower() != b"mrna")
