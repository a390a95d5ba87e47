"""Tensors in, tensors out: attention, encoder, decoders and losses. Needs torch and nothing else."""

from .atacformer import AtacformerConfig, AtacformerNetwork
from .attention import BACKENDS, choose_backend, varlen_attention, varlen_cross_attention
from .config import NetworkConfig
from .contrastive import nt_xent
from .cross_attention import CrossAttention
from .decoders import BilinearDecoder, Context, MLPDecoder, state_logits
from .dna import DnaProjection
from .labels import LabelHead, LabelTarget, balanced_weights, label_loss
from .matching import LinkAttention, LinkConfig
from .network import Cells, ScAtacNetwork, shortened
from .optim import RowAdamW
from .paired import PAIRINGS, PairedConfig, PairedNetwork

__all__ = [
    "BACKENDS",
    "PAIRINGS",
    "AtacformerConfig",
    "AtacformerNetwork",
    "BilinearDecoder",
    "Cells",
    "Context",
    "CrossAttention",
    "DnaProjection",
    "LabelHead",
    "LabelTarget",
    "LinkAttention",
    "LinkConfig",
    "MLPDecoder",
    "NetworkConfig",
    "PairedConfig",
    "PairedNetwork",
    "RowAdamW",
    "ScAtacNetwork",
    "balanced_weights",
    "choose_backend",
    "label_loss",
    "nt_xent",
    "shortened",
    "state_logits",
    "varlen_attention",
    "varlen_cross_attention",
]
