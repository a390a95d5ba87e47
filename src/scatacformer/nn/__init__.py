"""Networks: tensors in, tensors out. Needs only torch."""

from .atacformer import AtacformerConfig, AtacformerNetwork, mean_pool
from .attention import BACKENDS, choose_backend, varlen_attention, varlen_cross_attention
from .composition import Composition, CompositionConfig, signal_of
from .contacts import ContactNetwork, contact_loss
from .epiformer import EpiformerConfig, EpiformerNetwork, SeparateTracks
from .get import GETConfig, GETNetwork, jacobian, masked_error
from .head import Head
from .lora import (
    LoraOptions,
    adapted,
    add_lora,
    has_lora,
    is_adapter,
    linear_layers,
    load_lora,
    lora_state,
    merged_state,
    remove_lora,
)
from .near_change import NearReference, predict_pairs
from .optim import RowAdamW, clip_gradients
from .paired.contrastive import nt_xent
from .paired.link_attention import LinkAttention, LinkConfig
from .paired.network import PAIRINGS, PairedConfig, PairedNetwork
from .scatac.config import SIZES, NetworkConfig
from .scatac.cross_attention import CrossAttention
from .scatac.decoders import BilinearDecoder, Context, MLPDecoder, state_logits
from .scatac.dna import DnaProjection
from .scatac.encoder import Encoder
from .scatac.labels import LabelHead, LabelTarget, balanced_weights, label_loss
from .scatac.losses import MeanLoss
from .scatac.minibatch import Minibatch, TrainingMinibatch
from .scatac.network import Cells, ScAtacNetwork, shortened, weighted_total
from .track_losses import log_error, poisson_error, squared_error

__all__ = [
    "BACKENDS",
    "PAIRINGS",
    "AtacformerConfig",
    "AtacformerNetwork",
    "BilinearDecoder",
    "Cells",
    "Composition",
    "CompositionConfig",
    "ContactNetwork",
    "Context",
    "CrossAttention",
    "DnaProjection",
    "EpiformerConfig",
    "EpiformerNetwork",
    "GETConfig",
    "GETNetwork",
    "Head",
    "LabelHead",
    "LabelTarget",
    "LinkAttention",
    "LinkConfig",
    "MLPDecoder",
    "Minibatch",
    "NearReference",
    "NetworkConfig",
    "PairedConfig",
    "PairedNetwork",
    "poisson_error",
    "RowAdamW",
    "ScAtacNetwork",
    "SeparateTracks",
    "TrainingMinibatch",
    "balanced_weights",
    "choose_backend",
    "contact_loss",
    "jacobian",
    "label_loss",
    "log_error",
    "masked_error",
    "nt_xent",
    "predict_pairs",
    "shortened",
    "signal_of",
    "squared_error",
    "state_logits",
    "varlen_attention",
    "varlen_cross_attention",
]
