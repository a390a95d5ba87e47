"""What the genome says about a bin: its interval, its token id, the assembly it belongs to."""

from __future__ import annotations

from .chrom_sizes import DEFAULT_EXCLUDED, assembly_name, chrom_sizes
from .overlap import overlap_matrix
from .vocabulary import Vocabulary

__all__ = ["DEFAULT_EXCLUDED", "Vocabulary", "assembly_name", "chrom_sizes", "overlap_matrix"]
