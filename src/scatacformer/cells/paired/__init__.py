"""Cells with RNA and ATAC: matched by name, the components of their RNA, evidence for links."""
