"""GET on disk: what a model's folder holds of it, its adapter alone, and the authors' checkpoints."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from scatacformer._io import CardFacts, read_checkpoint, read_tensors, reading, whole_file, write_tensors
from scatacformer.model._folder import CONFIG, WEIGHTS, ModelFiles
from scatacformer.model._sharing import SharingMixin
from scatacformer.nn import GETConfig, GETNetwork

from ._adapter import adapter_state, load_adapter_state, plain_state
from ._setup import Setup, prepare, regions_of, setup_of
from ._state import GETState

if TYPE_CHECKING:
    from typing import Self

    from anndata import AnnData


class FilesMixin(SharingMixin, GETState):
    """``save`` and ``load``, adapters, and published checkpoints of :class:`~scatacformer.GET`."""

    _needed_files = (CONFIG, WEIGHTS)

    def _to_files(self) -> ModelFiles:
        state = {
            "setup": self.setup_.to_dict(),
            "target": self.target_,
            "motif_names": list(self.motif_names_),
            "motif_scale": self.motif_scale_,
            "scanner": self.scanner_,
            "binary": self.binary_,
            "open_only": self.open_only_,
            "stride": self.stride_,
            "seed": self.seed_,
            "is_trained": self.is_trained_,
            "accessibility_groups": self.accessibility_groups_,
            "training": self.training_,
            "history": self.history_,
        }
        return ModelFiles(
            type(self).__name__, self.config_.to_dict(), plain_state(self.module), state, vocabulary=self.regions_
        )

    @classmethod
    def _from_files(cls, files: ModelFiles, adata: AnnData | None) -> Self:
        folder = (files.path or Path(CONFIG)).parent
        with reading(folder, "a saved GET"):
            model = cls._without_data(files)
        if adata is not None:
            adata = regions_of(adata)
            model._prepared = prepare(adata, setup_of(adata, model.setup_), model.motif_names_, model.motif_scale_)
        return model

    @classmethod
    def _without_data(cls, files: ModelFiles) -> Self:
        state = files.state
        config, target = GETConfig(**files.network), state["target"]
        setup, names, scale = Setup.from_dict(state["setup"]), tuple(state["motif_names"]), state["motif_scale"]
        if len(names) != config.n_features - 1 or len(scale) != len(names):
            raise ValueError(
                f"{files.path} names {len(names)} motifs with {len(scale)} scales, and the network reads "
                f"{config.n_features - 1}."
            )
        files.check_layers(n_layers=config.n_layers)
        files.check_weights(lambda: GETNetwork(config, target))
        module = GETNetwork(config, target, state["seed"])
        module.load_state_dict(dict(files.weights))
        model = cls.__new__(cls)
        model._take(
            module.eval(),
            setup=setup,
            motif_names=names,
            motif_scale=scale,
            binary=state["binary"],
            open_only=state["open_only"],
            stride=state["stride"],
            seed=state["seed"],
        )
        model.is_trained_, model.training_, model.history_ = state["is_trained"], state["training"], state["history"]
        model.accessibility_groups_ = list(state["accessibility_groups"])
        model.scanner_, model.regions_ = state["scanner"], files.vocabulary
        return model

    def _card_facts(self) -> CardFacts:
        c, training = self.config_, self.training_
        rows = [
            ("regions of a window", f"{c.n_regions:,}"),
            ("motifs", f"{c.n_features - 1:,}"),
            ("accessibility", "binary" if self.binary_ else "quantitative"),
            ("layers, width, heads", f"{c.n_layers}, {c.d_model}, {c.n_heads}"),
            ("predicts", self.target_),
        ]
        trained_on = [
            "",
            f"Groups trained on: {', '.join(training.get('groups', [])) or 'not stated'}. "
            f"Chromosomes: {', '.join(training.get('chromosomes', [])) or 'not stated'}. Held out: "
            f"{', '.join([*training.get('holdout_groups', []), *training.get('holdout_chromosomes', [])]) or 'nothing'}.",
        ]
        return CardFacts(
            title="GET model of scatacformer",
            summary="A General Expression Transformer: regions with their motifs and accessibility to expression.",
            example=["import scatacformer as sf", "", 'model = sf.GET.from_pretrained("owner/name", regions)'],
            rows=rows,
            trained_on=trained_on,
            tags=("gene-expression", "chromatin-accessibility"),
        )

    def save_adapter(self, path: str | os.PathLike) -> Path:
        """Write the low-rank changes of ``train(lora=...)`` and the head alone: a safetensors file.

        Parameters
        ----------
        path
            The file; replaced if it is there.

        Returns
        -------
        The path.

        Raises
        ------
        ValueError
            The model has no adapter.
        """
        path = Path(path)
        write_tensors(path, adapter_state(self.module), format="pt")
        return path

    def load_adapter(self, path: str | os.PathLike) -> None:
        """Put low-rank changes and a head that :meth:`save_adapter` wrote into a model of the same base weights and
        target.

        Parameters
        ----------
        path
            The file. Nothing in it is executed.

        Raises
        ------
        ValueError
            Not an adapter of such a network; the model has an adapter already; a damaged file.
        """
        path = Path(path)
        state = read_tensors(path)
        with reading(path, "an adapter of this network", "Pass the model that it was trained on"):
            load_adapter_state(self.module, state)
        self.module.eval()
        self.is_trained_ = True

    @classmethod
    def load_published(
        cls,
        path: str | os.PathLike,
        regions: AnnData,
        *,
        n_heads: int | None = None,
        n_regions: int = 200,
        binary: bool = False,
        open_only: bool = False,
        seed: int = 0,
    ) -> Self:
        """Read a checkpoint with the tensor names of the paper's authors.

        The checkpoint does not say which motif is which column: the motifs of ``regions`` must be in its order, and
        scaled as theirs were (each divided by its largest score among the regions of a group).

        Parameters
        ----------
        path
            ``.pth``, ``.pt`` or ``.ckpt`` (opened with ``weights_only=True``: nothing in it is executed), or
            ``.safetensors``.
        regions
            Groups × regions with as many motifs as the checkpoint, set up with :meth:`setup_anndata`.
        n_heads
            Attention heads, which the tensors do not reveal. None: one for every 64 columns.
        n_regions
            Regions of a window: 200 or 900 for the published checkpoints.
        binary, open_only, seed
            As in :class:`~scatacformer.GET`.

        Returns
        -------
        GET
            A model that predicts what the checkpoint does; after a pretraining checkpoint, call :meth:`train`.

        Raises
        ------
        ValueError
            Not a state dict of GET, or one of another number of motifs; a damaged file. The error names the file.
        """
        path = Path(path)
        weights = read_checkpoint(path, "a checkpoint of GET")
        with reading(path, "a checkpoint of GET", "Pass the file as its authors wrote it"):
            network = GETNetwork.from_published(weights, n_heads, n_regions)
        setup = setup_of(regions)
        prepared = prepare(regions, setup)
        if network.config.n_features != len(prepared.motif_names) + 1:
            raise ValueError(
                f"{path} reads {network.config.n_features - 1} motifs, and the regions have "
                f"{len(prepared.motif_names)}: scan them with the motif clusters of the checkpoint, in its order."
            )
        model = cls.__new__(cls)
        model._take(
            network.eval(),
            setup=setup,
            motif_names=prepared.motif_names,
            motif_scale=prepared.motif_scale,
            binary=binary,
            open_only=open_only,
            stride=None,
            seed=seed,
        )
        model._set_data(prepared)
        model.is_trained_ = network.target != "reconstruction"
        if network.target == "accessibility":
            model.accessibility_groups_ = [f"output_{i}" for i in range(network.config.n_groups)]
        return model

    def save_published(self, path: str | os.PathLike) -> Path:
        """Write the weights under the tensor names of the paper's authors, for their code: a ``torch.save`` file.

        Parameters
        ----------
        path
            The file; replaced if it is there.

        Returns
        -------
        The path.
        """
        import torch

        path = Path(path)
        plain = GETNetwork(self.config_, self.target_)
        plain.load_state_dict(plain_state(self.module))
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as partial:
            torch.save({"state_dict": plain.to_published()}, partial)
        return path
