"""AnnData in, AnnData out: the scvi-tools classes."""

from ._scatacformer import ScAtacFormer
from .pretraining import PretrainConfig, pretrain

__all__ = ["PretrainConfig", "ScAtacFormer", "pretrain"]
