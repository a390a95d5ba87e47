"""DNA sequence: FASTA files, one-hot arrays, motifs, variants, and embeddings by language models."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scatacformer._lazy import lazy

if TYPE_CHECKING:
    from .bin_dna import BinDna
    from .fasta import N_CODE, Fasta, codes_of, letters
    from .kmers import count_kmers, kmer_names
    from .language_model import DnaCheckpoint
    from .motifs import Motifs
    from .onehot import one_hot, reverse_complement, reverse_complement_one_hot
    from .scan import ScanSettings, scan_regions, scan_sequences, score_thresholds
    from .table import DnaTableWriter, read_dna_table
    from .variants import Variant, VariantReader, allele_codes, flanks, write_vcf

__all__ = [
    "BinDna",
    "DnaTableWriter",
    "Fasta",
    "Motifs",
    "ScanSettings",
    "Variant",
    "VariantReader",
    "allele_codes",
    "codes_of",
    "count_kmers",
    "kmer_names",
    "letters",
    "one_hot",
    "read_dna_table",
    "reverse_complement",
    "reverse_complement_one_hot",
    "scan_regions",
    "scan_sequences",
    "score_thresholds",
    "write_vcf",
]
_FILE_OF = {
    "BinDna": "bin_dna",
    "DnaCheckpoint": "language_model",
    "DnaTableWriter": "table",
    "Fasta": "fasta",
    "Motifs": "motifs",
    "N_CODE": "fasta",
    "ScanSettings": "scan",
    "Variant": "variants",
    "VariantReader": "variants",
    "allele_codes": "variants",
    "codes_of": "fasta",
    "count_kmers": "kmers",
    "flanks": "variants",
    "kmer_names": "kmers",
    "letters": "fasta",
    "one_hot": "onehot",
    "read_dna_table": "table",
    "reverse_complement": "onehot",
    "reverse_complement_one_hot": "onehot",
    "scan_regions": "scan",
    "scan_sequences": "scan",
    "score_thresholds": "scan",
    "write_vcf": "variants",
}

__getattr__, __dir__ = lazy(__name__, __all__, _FILE_OF)
