"""Tensors in, tensors out: attention, encoder, decoders and losses. Needs torch and nothing else."""

from .attention import BACKENDS, choose_backend, varlen_attention
from .config import NetworkConfig
from .decoders import BilinearDecoder, Context, MLPDecoder, state_logits
from .network import Cells, ScAtacNetwork
from .optim import RowAdamW

__all__ = [
    "BACKENDS",
    "BilinearDecoder",
    "Cells",
    "Context",
    "MLPDecoder",
    "NetworkConfig",
    "RowAdamW",
    "ScAtacNetwork",
    "choose_backend",
    "state_logits",
    "varlen_attention",
]
