"""What scvi-tools and anndata do not make public, in one place, under names of our own (scvi-tools 1.4 and 1.5 agree).

A registry is the dict in which scvi-tools keeps how an AnnData was set up: the arguments of ``setup_anndata``, and what
each field found.
"""

from __future__ import annotations

import logging
import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import rich.pretty  # noqa: F401  scvi-tools uses it without importing it, in view_anndata_setup
from scvi import __version__ as scvi_version
from scvi.data import AnnDataManager, _constants
from scvi.data.fields import BaseAnnDataField

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import torch
    from anndata import AnnData

    class BaseModelClass:
        """What the models use of scvi-tools' base class, for mypy: the package has no types of its own."""

        adata: AnnData  # None for a model without data
        adata_manager: AnnDataManager
        registry_: dict[str, Any]
        summary_stats: Any
        init_params_: dict[str, Any]
        is_trained_: bool
        get_normalized_function_name_: str
        _model_summary_string: str

        def __init__(self, adata: AnnData | None = None, registry: dict[str, Any] | None = None) -> None: ...

        def get_anndata_manager(self, adata: AnnData, required: bool = False) -> AnnDataManager: ...

        def to_device(self, device: str | int | torch.device) -> None: ...

        def _validate_anndata(self, adata: AnnData | None = None) -> AnnData: ...

        def _check_if_trained(self, warn: bool = True) -> None: ...

        def _get_init_params(self, locals: dict[str, Any]) -> dict[str, Any]: ...

        @classmethod
        def register_manager(cls, adata_manager: AnnDataManager) -> None: ...

        @staticmethod
        def _get_setup_method_args(**setup_locals: Any) -> dict[str, Any]: ...

else:
    from scvi.model.base import BaseModelClass

__all__ = [
    "BaseAnnDataField",
    "BaseModelClass",
    "Manager",
    "categories",
    "category_column",
    "check_registry",
    "constructor_arguments",
    "field_state",
    "forget_arguments",
    "obs_columns",
    "registry_of",
    "replace_content",
    "scvi_silent",
    "set_up_like",
    "setup_arguments",
    "setup_layer",
]


class Manager(AnnDataManager):
    """scvi-tools' manager of an AnnData, which does not keep it in memory.

    The classes keep a manager for each AnnData that was ever set up; the AnnData itself goes when nobody else holds it.
    """

    _held: weakref.ref[Any] | None = None

    @property
    def adata(self) -> Any:
        """The AnnData; None once it is gone."""
        return None if self._held is None else self._held()

    @adata.setter
    def adata(self, value: Any) -> None:
        self._held = None if value is None else weakref.ref(value)


SETUP_METHODS = ("setup_anndata", "setup_mudata")  # a registry that was read from a file may name no other method


def setup_arguments(registry: dict[str, Any]) -> dict[str, Any]:
    """The arguments that ``setup_anndata`` was called with."""
    return registry[_constants._SETUP_ARGS_KEY]


def registry_of(
    model_name: str, arguments: dict[str, Any], states: Iterable[tuple[BaseAnnDataField, dict[str, Any]]]
) -> dict[str, Any]:
    """The registry that ``setup_anndata(adata, **arguments)`` makes, from each field and its state instead of data."""
    return {
        _constants._SCVI_VERSION_KEY: scvi_version,
        _constants._MODEL_NAME_KEY: model_name,
        _constants._SETUP_METHOD_NAME: "setup_anndata",
        _constants._SETUP_ARGS_KEY: arguments,
        _constants._FIELD_REGISTRIES_KEY: {
            field.registry_key: {
                _constants._DATA_REGISTRY_KEY: field.get_data_registry(),
                _constants._STATE_REGISTRY_KEY: state,
                _constants._SUMMARY_STATS_KEY: field.get_summary_stats(state),
            }
            for field, state in states
        },
    }


def setup_layer(model: Any) -> str | None:
    """The layer that holds the counts; None: ``.X``."""
    return setup_arguments(model.registry_).get("layer")


def field_state(registry: dict[str, Any], key: str) -> dict[str, Any] | None:
    """What the field ``key`` found in the AnnData; None where there is no such field."""
    field = registry[_constants._FIELD_REGISTRIES_KEY].get(key)
    return None if field is None else field[_constants._STATE_REGISTRY_KEY]


def categories(registry: dict[str, Any], key: str) -> np.ndarray:
    """The names of a categorical field, in the order of their codes."""
    state = field_state(registry, key)
    if state is None:
        raise KeyError(f"the AnnData was set up without {key!r}.")
    return np.asarray(state["categorical_mapping"])


def category_column(registry: dict[str, Any], key: str) -> str | None:
    """The column of ``obs`` that a categorical field reads; None where the user named none."""
    state = field_state(registry, key)
    if not state or state["original_key"].startswith("_scvi_"):
        return None
    return state["original_key"]


def obs_columns(registry: dict[str, Any]) -> list[str]:
    """The columns of ``obs`` that a set-up reads, those that it has added among them."""
    data = (field[_constants._DATA_REGISTRY_KEY] for field in registry[_constants._FIELD_REGISTRIES_KEY].values())
    return [one["attr_key"] for one in data if one.get("attr_name") == "obs"]


def set_up_like(cls: Any, registry: dict[str, Any], adata: AnnData, **kwargs: Any) -> None:
    """Set ``adata`` up for the model class ``cls`` as the AnnData of ``registry`` was."""
    method = registry[_constants._SETUP_METHOD_NAME]
    if method not in SETUP_METHODS:  # it may come from a file: not any attribute of the class
        raise ValueError(f"the registry names the set-up method {method!r}, expected {' or '.join(SETUP_METHODS)}.")
    getattr(cls, method)(adata, source_registry=registry, **kwargs, **setup_arguments(registry))


def check_registry(registry: Any, where: Any) -> None:
    """ValueError unless ``registry``, read from ``where``, is one that models can be made of."""
    keys = (
        _constants._MODEL_NAME_KEY, _constants._SETUP_METHOD_NAME, _constants._SETUP_ARGS_KEY,
        _constants._FIELD_REGISTRIES_KEY,
    )  # fmt: skip
    lacks = [name for name in keys if not isinstance(registry, dict) or name not in registry]
    if lacks:
        raise ValueError(f"{where} is damaged: its registry lacks {', '.join(lacks)}.")
    if (method := registry[_constants._SETUP_METHOD_NAME]) not in SETUP_METHODS:
        raise ValueError(f"{where} names the set-up method {method!r}, expected {' or '.join(SETUP_METHODS)}.")
    for name in keys[2:]:
        if not isinstance(registry[name], dict):
            raise ValueError(
                f"{where} is damaged: {name} of its registry is {registry[name]!r:.60}, expected an object."
            )


def constructor_arguments(model: Any) -> dict[str, Any]:
    """The arguments that a model was made with, without its data."""
    return model.init_params_["non_kwargs"]


def forget_arguments(model: Any, names: Iterable[str]) -> None:
    """Leave arguments out of :func:`constructor_arguments`: those that are saved in files of their own."""
    for name in names:
        model.init_params_["non_kwargs"].pop(name, None)


@contextmanager
def scvi_silent() -> Iterator[None]:
    """Within the block, scvi-tools logs nothing below a warning: that it sets up other cells like those of the model is
    what its user asked for."""
    log = logging.getLogger("scvi")
    level = log.level
    log.setLevel(logging.WARNING)
    try:
        yield
    finally:
        log.setLevel(level)


def replace_content(adata: AnnData, new: AnnData) -> None:
    """Make ``adata`` what ``new`` is, in place."""
    adata._init_as_actual(new)
