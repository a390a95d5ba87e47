"""AnnData in, AnnData out: the scvi-tools classes."""

from ._scatacformer import ScAtacFormer

__all__ = ["ScAtacFormer"]
