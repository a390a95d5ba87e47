"""Models that others have published, in our hands: their files in, their numbers out."""

from ._atacformer import Atacformer

__all__ = ["Atacformer"]
