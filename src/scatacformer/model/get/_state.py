"""What a GET is made of, and what all of its verbs rely on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from scatacformer.nn import GETConfig, GETNetwork

from ._setup import Prepared, Setup, prepare, regions_of, scanner_of, setup_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

    import numpy as np
    import pandas as pd
    import torch
    from anndata import AnnData
    from mudata import MuData

    from scatacformer.genome import Vocabulary


class GETState:
    """The network and its data; what is saved ends with ``_``. The verbs of :class:`~scatacformer.GET` are
    subclasses."""

    def _take(
        self,
        module: GETNetwork,
        *,
        setup: Setup,
        motif_names: tuple[str, ...],
        motif_scale: np.ndarray,
        binary: bool,
        open_only: bool,
        stride: int | None,
        seed: int,
    ) -> None:
        """Everything that a model is, but for its data; what is saved ends with ``_``."""
        self.module = module
        self.setup_, self.motif_names_, self.motif_scale_ = setup, tuple(motif_names), motif_scale
        self.binary_, self.open_only_, self.seed_ = bool(binary), bool(open_only), int(seed)
        n = module.config.n_regions
        self.stride_ = max(1, n // 2) if stride is None else int(stride)
        if not 1 <= self.stride_ <= n:
            raise ValueError(f"stride is {stride}; expected from 1 to the {n} regions of a window.")
        self.accessibility_groups_: list[str] = []  # of the outputs of a network that predicts accessibility
        self.is_trained_ = False
        self.training_: dict[str, Any] = {}  # on which groups and chromosomes, and what was held out
        self.history_: dict[str, pd.DataFrame] = {}
        self.scanner_: dict[str, Any] = {}  # how sequences are scanned for the motifs, where known
        self.regions_: Vocabulary | None = None
        self._prepared: Prepared | None = None

    def _set_data(self, prepared: Prepared) -> None:
        self._prepared, self.regions_ = prepared, prepared.regions
        self.scanner_ = scanner_of(prepared.adata, self.setup_.motif_key)

    @property
    def adata(self) -> AnnData | None:
        """The AnnData that the model was made with, or None."""
        return self._prepared.adata if self._prepared is not None else None

    @property
    def config_(self) -> GETConfig:
        """Sizes of the network."""
        return self.module.config

    @property
    def target_(self) -> str:
        """What the network predicts: ``"expression"``, ``"accessibility"`` or, after pretraining alone, the input."""
        return self.module.target

    @property
    def history(self) -> dict[str, pd.DataFrame]:
        """Losses and scores by epoch, one frame a metric."""
        return self.history_

    @property
    def is_trained(self) -> bool:
        """Whether :meth:`train` was called, or trained weights were read."""
        return self.is_trained_

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.module.device

    def to_device(self, device: str | int | torch.device) -> Self:
        """Move the weights, as in ``model.to_device("cuda")``; returns the model."""
        self.module.to(device)
        return self

    @property
    def _accessibility(self) -> Literal["quantitative", "binary", "ones"]:
        """What the last feature is; see ``RegionData.features``."""
        if self.target_ == "accessibility":
            return "ones"
        return "binary" if self.binary_ else "quantitative"

    def _accessibility_outputs(self, groups: str | Sequence[str] | None) -> list[int]:
        known = self.accessibility_groups_
        wanted = known if groups is None else [groups] if isinstance(groups, str) else [str(name) for name in groups]
        if absent := [name for name in wanted if name not in known]:
            raise KeyError(f"the model was not trained on a group {absent[0]!r}; it was on {', '.join(known[:6])}.")
        return [known.index(name) for name in wanted]

    def _prepared_of(self, adata: AnnData | MuData | None) -> Prepared:
        if adata is None:
            if self._prepared is None:
                raise ValueError("the model was read without data: hand it an AnnData, as in adata=regions.")
            self._prepared.refuse_changed()
            return self._prepared
        adata = regions_of(adata)
        return prepare(adata, setup_of(adata, self.setup_), self.motif_names_, self.motif_scale_)

    def _check_target(self, *targets: str) -> None:
        if not self.is_trained_:
            raise RuntimeError("the model is not trained: call train() first.")
        if self.target_ not in targets:
            raise RuntimeError(
                f"the model predicts {self.target_}, and this needs one that predicts {' or '.join(targets)}: "
                f"train(target={targets[0]!r})."
            )
