"""The network of paired RNA and ATAC: one space for both, links between genes and bins."""
