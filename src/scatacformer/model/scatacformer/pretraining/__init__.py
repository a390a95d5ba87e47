"""Pretraining: from a corpus, or cells on disk, to a saved model; on one process or on many."""

from .config import PretrainConfig, read_config
from .run import pretrain

__all__ = ["PretrainConfig", "pretrain", "read_config"]
