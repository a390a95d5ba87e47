"""What the genome says about a bin: its interval, its token id, the assembly it belongs to."""

from __future__ import annotations

from .chrom_sizes import DEFAULT_EXCLUDED, assembly_name, chrom_sizes
from .dna import BinDna
from .dna_table import DnaTableWriter, read_dna_table
from .genes import Genes
from .lift import Lift
from .links import LINK_COLUMNS, links_table
from .overlap import overlap_matrix
from .region_classes import ClassSets, Memberships, RegionClasses, region_classes
from .tokenized_cells import TokenizedCells
from .tokenizer import Tokenizer
from .vocabulary import Vocabulary
from .window_pairs import WindowPairs, window_pairs

__all__ = [
    "DEFAULT_EXCLUDED",
    "LINK_COLUMNS",
    "BinDna",
    "ClassSets",
    "DnaTableWriter",
    "Genes",
    "Lift",
    "Memberships",
    "RegionClasses",
    "TokenizedCells",
    "Tokenizer",
    "Vocabulary",
    "WindowPairs",
    "assembly_name",
    "chrom_sizes",
    "links_table",
    "overlap_matrix",
    "read_dna_table",
    "region_classes",
    "window_pairs",
]
