"""What a :class:`~scatacformer.ScAtacFormer` has learned or was given, besides its weights: all that is saved of it."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing import Self

    import numpy as np
    import pandas as pd


@dataclass
class State:
    """The attributes of a model that are saved, under their own names."""

    seed_: int
    eos_names_: list[str]
    is_trained_: bool = False
    embedding_only_: bool = False  # the decoder and the encoder are as they were made
    trainable_: dict[str, Any] = field(default_factory=dict)  # where training stands, as Trainable writes it
    history_: dict[str, pd.DataFrame] | None = None
    train_indices_: np.ndarray | None = None
    validation_indices_: np.ndarray | None = None
    test_indices_: np.ndarray | None = None
    labels_fitted_: list[str] = field(default_factory=list)  # tasks whose heads have learned
    dna_: dict[str, Any] | None = None  # what its DNA table was made of
    pretrained_on_: dict[str, Any] | None = None  # card of the corpus, settings, steps
    mudata_setup_: dict[str, Any] | None = None  # layers and names of the modalities
    paired_config_: dict[str, Any] | None = None  # sizes of the network of pairs
    links_config_: dict[str, Any] | None = None  # sizes of its links
    genes_: dict[str, Any] | None = None  # names of the genes, and where they start
    matching_: dict[str, float] = field(default_factory=dict)  # how well held-out pairs are distinguished

    @classmethod
    def of(cls, model: Any) -> Self:
        """The state of a model."""
        return cls(**{name: getattr(model, name) for name in cls.names() if hasattr(model, name)})

    @classmethod
    def names(cls) -> list[str]:
        """The names of the attributes."""
        return [one.name for one in fields(cls)]

    def to_dict(self) -> dict[str, Any]:
        """Name -> value of what is there."""
        return {name: value for name, value in vars(self).items() if value is not None}
