"""AnnData in, AnnData out: the scvi-tools classes."""

from ._scvi import setup_arguments, setup_layer
from .atacformer._model import Atacformer
from .scatacformer._model import ScAtacFormer
from .scatacformer.pretraining import PretrainConfig, pretrain, read_config

__all__ = ["Atacformer", "PretrainConfig", "ScAtacFormer", "pretrain"]
