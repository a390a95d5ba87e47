"""Made-up genes, and GTF files of them in the dialects of GENCODE, Ensembl and RefSeq."""

from __future__ import annotations

import gzip

import numpy as np

SIZES = {"chr1": 60_000, "chr2": 41_000}


def gtf_line(chrom, kind, start, end, strand, attributes):
    """`start`, `end` 0-based half-open, as everywhere but in the file."""
    return f"{chrom}\tx\t{kind}\t{start + 1}\t{end}\t.\t{strand}\t.\t{attributes}\n"


def transcript(chrom, strand, exons, coding, name, gene, kind, dialect="gencode", stop=None):
    attributes = {
        "gencode": f'gene_id "{gene}"; transcript_id "{name}"; gene_type "{kind}"; gene_name "{gene}";',
        "ensembl": f'gene_id "{gene}"; transcript_id "{name}"; gene_biotype "{kind}"; transcript_biotype "{kind}";',
        "refseq": f'gene_id "{gene}"; transcript_id "{name}"; gbkey "mRNA"; orig_transcript_id "gnl|x|{gene}";',
    }[dialect]
    lines = [gtf_line(chrom, "transcript", exons[0][0], exons[-1][1], strand, attributes)]
    lines += [gtf_line(chrom, "exon", *exon, strand, attributes) for exon in exons]
    lines += [gtf_line(chrom, "CDS", *part, strand, attributes) for part in coding]
    return lines + ([gtf_line(chrom, "stop_codon", *stop, strand, attributes)] if stop else [])


def gene(chrom, strand, start, end, name, kind, dialect="gencode"):
    attributes = {
        "gencode": f'gene_id "{name}"; gene_type "{kind}"; gene_name "{name}";',
        "ensembl": f'gene_id "{name}"; gene_version "1"; gene_biotype "{kind}";',
        "refseq": f'gene_id "{name}"; transcript_id ""; db_xref "GeneID:1"; gene "{name}"; gene_biotype "{kind}";',
    }[dialect]
    return gtf_line(chrom, "gene", start, end, strand, attributes)


def random_genes(seed, n_genes=12):
    """(chrom, strand, start, end, name, kind, [(exons, coding, stop)])."""
    rng = np.random.default_rng(seed)
    genes = []
    for number in range(n_genes):
        chrom = ("chr1", "chr2")[rng.integers(2)]
        length = int(rng.integers(300, 9_000))
        start = int(rng.integers(0, SIZES[chrom] - length))
        kind = ("protein_coding", "lncRNA", "miRNA", "processed_pseudogene")[rng.integers(4)]
        strand = "+-"[rng.integers(2)]
        transcripts = []
        for _ in range(rng.integers(1, 4)):
            cuts = start + np.sort(rng.choice(length + 1, 2 * rng.integers(1, 5), replace=False))
            exons = [(int(a), int(b)) for a, b in zip(cuts[::2], cuts[1::2], strict=True)]
            coding, stop = [], None
            if kind == "protein_coding":
                inside = rng.integers(0, len(exons), 2)
                coding = exons[min(inside) : max(inside) + 1]
                (first, _), (_, last) = coding[0], coding[-1]
                coding = [(max(a, first + 20), min(b, last - 20)) for a, b in coding]
                coding = [(a, b) for a, b in coding if a < b]
                if coding:
                    stop = (coding[-1][1], coding[-1][1] + 3) if strand == "+" else (coding[0][0] - 3, coding[0][0])
            transcripts.append((exons, coding, stop))
        genes.append((chrom, strand, start, start + length, f"G{number}", kind, transcripts))
    return genes


def written(tmp_path, genes, dialect="gencode", zipped=False, rename=str, head="", shuffle=False):
    lines = []
    for chrom, strand, start, end, name, kind, transcripts in genes:
        lines.append(gene(rename(chrom), strand, start, end, name, kind, dialect))
        for number, (exons, coding, stop) in enumerate(transcripts):
            lines += transcript(
                rename(chrom), strand, exons, coding, f"{name}.{number}", name, kind, dialect, stop
            )  # fmt: skip
    if shuffle:
        np.random.default_rng(0).shuffle(lines)
    text = (head + "".join(lines)).encode()
    path = tmp_path / ("genes.gtf.gz" if zipped else "genes.gtf")
    path.write_bytes(gzip.compress(text) if zipped else text)
    return path
