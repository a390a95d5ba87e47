"""AnnData in, AnnData out: the scvi-tools classes."""

from ._scvi import setup_arguments, setup_layer
from .atacformer._model import Atacformer
from .epiformer import Epiformer
from .get._contacts import DistanceContactMap
from .get._model import GET
from .scatacformer._model import ScAtacFormer
from .scatacformer._mudata import asked_cells
from .scatacformer._start import leiden_resolution
from .scatacformer.pretraining import PretrainConfig, pretrain, read_config

__all__ = ["GET", "Atacformer", "DistanceContactMap", "Epiformer", "PretrainConfig", "ScAtacFormer", "pretrain"]
