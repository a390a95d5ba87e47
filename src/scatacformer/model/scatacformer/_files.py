"""Files of :class:`~scatacformer.ScAtacFormer`: what is saved of it, and its model card."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.metadata import version
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from scatacformer._io import CardFacts, table
from scatacformer.model._folder import CONFIG, ModelFiles, read_config
from scatacformer.model._scvi import check_registry, constructor_arguments, set_up_like
from scatacformer.model._sharing import SharingMixin
from scatacformer.nn import SIZES, NetworkConfig, PairedConfig, ScAtacNetwork

from ._base import PAIRED, ModelBase
from ._eos import readers_of, saved_classes
from ._mudata import is_mudata, set_up_as
from ._state import State
from .paired._paired import pairs_network

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping
    from typing import Self

    from anndata import AnnData
    from mudata import MuData
    from torch import Tensor, nn

    from ._model import ScAtacFormer

NAME = "ScAtacFormer"


class FilesMixin(SharingMixin, ModelBase):
    """``save`` and ``load`` of :class:`~scatacformer.ScAtacFormer`, with scvi-tools' signatures."""

    def _to_files(self) -> ModelFiles:
        state = {
            "options": constructor_arguments(self),
            "registry": self.registry_,
            "attributes": State.of(self).to_dict(),
        }
        dna = self.module.embedding.dna
        return ModelFiles(
            type(self).__name__, self.config_.to_dict(), self._weights(), state, self.vocabulary_,
            {} if dna is None else {"dna": {"dna": dna.table}},
        )  # fmt: skip

    @classmethod
    def _from_files(cls, files: ModelFiles, adata: AnnData | MuData | None) -> Self:
        path, state, vocabulary = files.path or Path(CONFIG), files.state, files.vocabulary
        _check_state(cls, path, state)
        if vocabulary is None or vocabulary.n_bins != files.network.get("n_bins"):
            found = "no" if vocabulary is None else f"{vocabulary.n_bins:,}"
            raise ValueError(
                f"the vocabulary of {path.parent} has {found} regions, and the network of {path.name} "
                f"{files.network.get('n_bins')}: they are not from the same model. Copy the folder again."
            )
        init, attributes, registry = state["options"], state["attributes"], state["registry"]
        # the classes are those of the model, not the annotation of adata
        classes = saved_classes(files.weights, attributes) if init.get("eos") == "region_class" else None
        _check_network(files, classes)
        if files.network.get("d_dna"):
            init = init | {"dna": _dna_of(files)}
        # a head has as many outputs as it was trained on
        kwargs = {"fixed_labels": True} if init.get("supervised") else {}
        init = init | {"region_classes": classes}
        made = cast("type[ScAtacFormer]", cls)
        if adata is None:
            model = made(registry=registry, vocabulary=vocabulary, **init)
        elif is_mudata(adata):
            model = made(set_up_as(made, adata, attributes.get("mudata_setup_"), registry, **kwargs), **init)
        else:
            set_up_like(made, registry, adata, **kwargs)
            model = made(adata, **init)
        check_same_network(path, NetworkConfig(**files.network), model.config_)
        of_pairs, own = divided(files.weights)
        model._restore_pairs(attributes, of_pairs)
        model.module.load_state_dict(own)
        for name, value in attributes.items():
            setattr(model, name, value)
        return cast("Self", model)

    @staticmethod
    def load_registry(dir_path: str | os.PathLike, prefix: str | None = None) -> dict:
        """The registry saved with a model: how its AnnData was set up."""
        return read_config(Path(dir_path), NAME, prefix or "")["state"]["registry"]

    @classmethod
    def view_setup_args(cls, dir_path: str | os.PathLike, prefix: str | None = None) -> None:
        """Print how the AnnData of a saved model was set up."""
        from scvi.data import AnnDataManager

        AnnDataManager.view_setup_method_args(cls.load_registry(dir_path, prefix))

    def _card_facts(self) -> CardFacts:
        c, vocabulary = self.config_, self.vocabulary_
        rows = [
            ("regions", f"{vocabulary.n_bins:,}" + (f" of {vocabulary.bin_size:,} bp" if vocabulary.bin_size else "")),
            ("assembly", vocabulary.assembly or "not stated"),
            ("chromosomes", f"{vocabulary.n_chroms}"),
            ("encoder", f"{c.n_layers} layers, {c.d_model} wide, {c.n_heads} heads"),
            ("decoder", c.decoder),
            ("dimensions of the embedding", f"at most {c.d_embed}"),
            ("batches", f"{c.n_batch}"),
            ("parameters", f"{self._n_parameters() / 1e6:.1f} million"),
        ]
        rows += [("predicts", f"{n} {task}") for task, n in c.tasks.items() if task in self.labels_fitted_]
        rows += [("RNA", "paired: expression and one space for both")] if self.paired is not None else []
        example = (
            "import scatacformer as sf",
            "",
            'model = sf.ScAtacFormer.from_pretrained("FOLDER OR OWNER/NAME")',
            "query = sf.ScAtacFormer.load_query_data(adata, model)  # cells x the model's regions",
            'adata.obsm["X_scatacformer"] = query.get_latent_representation()',
        )
        return CardFacts(
            NAME, "A transformer for single-cell ATAC-seq: embeddings of cells and the accessibility of regions.", example,
            rows, _of_corpus(self.pretrained_on_ or {}), _losses(self.history_ or {}),
            ("scatac-seq", "epigenomics", "transformer"),
        )  # fmt: skip


def _check_state(cls: type, path: Path | None, state: dict[str, Any]) -> None:
    """Raise ValueError for a damaged state, or one with options and attributes that this version does not have."""
    for name in ("options", "registry", "attributes"):
        if not isinstance(state.get(name), dict):
            raise ValueError(f"{path} is damaged: its state lacks {name}.")
    check_registry(state["registry"], path)
    strange = sorted(set(state["options"]) - set(signature(cls.__init__).parameters))  # type: ignore[misc]
    strange += sorted(set(state["attributes"]) - set(State.names()))
    if strange:
        raise ValueError(
            f"{path} names {', '.join(map(repr, strange[:4]))}, which scatacformer {version('scatacformer')} does not "
            "have. It was written by another version: update scatacformer."
        )


def _check_network(files: ModelFiles, classes: Any) -> None:
    """Raise ValueError for weights that do not match the configured network, before it is created."""
    try:
        config = NetworkConfig(**files.network)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{files.path} does not describe a network: {error}") from None
    check_same_network(files.path, config, _of_options(files, config))
    files.check_layers(n_layers=config.n_layers)
    assert files.vocabulary is not None
    readers = readers_of(files.vocabulary, classes)
    beside: dict[str, Callable[[], nn.Module]] = {}
    attributes = files.state["attributes"]
    if (sizes := attributes.get("paired_config_")) is not None:
        files.check_layers(n_predictors=PairedConfig(**sizes).n_predictors)
        beside["paired"] = lambda: pairs_network(sizes, attributes.get("links_config_"))
    files.check_weights(lambda: ScAtacNetwork(config, readers.group, readers=readers.shares), **beside)


def _of_options(files: ModelFiles, config: NetworkConfig) -> NetworkConfig:
    """``config`` with all options of the model."""
    options = files.state["options"]
    said = {name: value for name, value in options.items() if name in vars(config) and value is not None}
    try:
        return replace(config, **SIZES.get(options.get("size", "small"), {}) | said)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{files.path} has invalid network options: {error}") from None


def divided(weights: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The weights of the network of pairs, under their own names, and all others."""
    of_pairs = {name.removeprefix(PAIRED): value for name, value in weights.items() if name.startswith(PAIRED)}
    return of_pairs, {name: value for name, value in weights.items() if not name.startswith(PAIRED)}


def check_same_network(path: Path | None, saved: NetworkConfig, made: NetworkConfig) -> None:
    """Raise ValueError for a model whose options give a network other than the saved one, although its weights fit."""
    said, has = (json.loads(json.dumps(config.to_dict())) for config in (saved, made))
    differs = [name for name in has if said[name] != has[name]]
    if differs:
        what = ", ".join(f"{name} {said[name]} (network) and {has[name]} (options)" for name in differs[:4])
        raise ValueError(f"{path or 'config.json'} contradicts itself: {what}. Copy it again, or save the model again.")


def _dna_of(files: ModelFiles) -> Any:
    tensors = files.tables.get("dna", {})
    if "dna" not in tensors:
        raise ValueError(f"{files.path} has no DNA table, but the network needs one. Copy the whole folder.")
    return tensors["dna"]


def _of_corpus(notes: dict[str, Any]) -> list[str]:
    """Notes of a pretraining on its cells."""
    card = notes.get("card")
    if not isinstance(card, dict):
        return []
    known = [(k, v) for k, v in card.items() if isinstance(v, str | int | float) and not isinstance(v, bool)]
    rows = [(k, f"{v:,}" if isinstance(v, int) else str(v)) for k, v in known]
    return ["", "Pretrained on a corpus:", "", *table([*rows, ("steps", f"{notes.get('steps', 0):,}")])]


def _losses(history: dict[str, Any]) -> list[str]:
    """The removed-bin loss of the held-out cells, which was used for early stopping."""
    if "validation_loss" not in history or not len(history["validation_loss"]):
        return []
    losses = history["validation_loss"]["validation_loss"]
    return [
        f"Removed-bin loss of held-out cells, by which the epoch was chosen: {losses.min():.5g} (first epoch: "
        f"{losses.iloc[0]:.5g}).", "",
    ]  # fmt: skip
