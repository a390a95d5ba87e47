"""Tensors in, tensors out: attention, encoder, decoders and losses. Needs torch and nothing else."""

from .attention import BACKENDS, choose_backend, varlen_attention
from .config import NetworkConfig
from .contrastive import nt_xent
from .decoders import BilinearDecoder, Context, MLPDecoder, state_logits
from .matching import LinkAttention, LinkConfig
from .network import Cells, ScAtacNetwork
from .optim import RowAdamW
from .paired import PAIRINGS, PairedConfig, PairedNetwork

__all__ = [
    "BACKENDS",
    "PAIRINGS",
    "BilinearDecoder",
    "Cells",
    "Context",
    "LinkAttention",
    "LinkConfig",
    "MLPDecoder",
    "NetworkConfig",
    "PairedConfig",
    "PairedNetwork",
    "RowAdamW",
    "ScAtacNetwork",
    "choose_backend",
    "nt_xent",
    "state_logits",
    "varlen_attention",
]
