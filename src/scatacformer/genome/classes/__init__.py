"""Classes of genomic regions: promoter, exon, intron, enhancer, ..."""
