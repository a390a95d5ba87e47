"""Every name of scvi-tools that is not part of its public interface, in one place (1.4 and 1.5 agree on these)."""

from scvi.data import _constants as _scvi_constants
from scvi.data.fields import BaseAnnDataField
from scvi.model.base import BaseModelClass

SETUP_ARGS_KEY = _scvi_constants._SETUP_ARGS_KEY
FIELD_REGISTRIES_KEY = _scvi_constants._FIELD_REGISTRIES_KEY
STATE_REGISTRY_KEY = _scvi_constants._STATE_REGISTRY_KEY
SETUP_METHOD_NAME_KEY = _scvi_constants._SETUP_METHOD_NAME
MODEL_NAME_KEY = _scvi_constants._MODEL_NAME_KEY

__all__ = [
    "FIELD_REGISTRIES_KEY",
    "MODEL_NAME_KEY",
    "SETUP_ARGS_KEY",
    "SETUP_METHOD_NAME_KEY",
    "STATE_REGISTRY_KEY",
    "BaseAnnDataField",
    "BaseModelClass",
]
