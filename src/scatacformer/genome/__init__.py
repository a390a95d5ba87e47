"""The genome: vocabularies of bins, intervals, assemblies, region classes, genes and lift-over."""

from __future__ import annotations

from .beyond_ends import MAX_BEYOND, percent, too_many_beyond
from .check_assembly import fitting_assemblies, naming_hint
from .chrom_sizes import DEFAULT_EXCLUDED, assembly_name, chrom_sizes
from .classes.region_classes import ClassSets, Memberships, RegionClasses, region_classes
from .formats.bigwig import BigWig, write_bigwig
from .formats.gtf import read_gene_table
from .gather_chroms import ChromGroups, gather_chroms
from .genes import Genes, NoPositions, gene_starts
from .identify_assembly import check_same_assembly, identify_assembly
from .intervals import as_positions, find_columns, intervals_of_var, parse_region_names, read_bed, read_content
from .lift import Lift, lift_regions
from .links import LINK_COLUMNS, as_categories, check_links, links_table
from .match_chroms import NoCommonChromosome, check_reach, check_sizes, known_sizes, match_chroms
from .overlap import OverlapIndex, overlap_matrix
from .transfer import carry_matrix
from .vocabulary import Vocabulary, overlaps_allowed
from .vocabulary_of import vocabulary_of
from .window_pairs import WindowPairs, window_pairs

__all__ = [
    "DEFAULT_EXCLUDED",
    "LINK_COLUMNS",
    "ClassSets",
    "Genes",
    "Lift",
    "Memberships",
    "RegionClasses",
    "Vocabulary",
    "WindowPairs",
    "assembly_name",
    "chrom_sizes",
    "gene_starts",
    "identify_assembly",
    "links_table",
    "overlap_matrix",
    "read_gene_table",
    "region_classes",
    "window_pairs",
]
