"""Weights of the authors' code, read as they are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from scatacformer._io import read_checkpoint, reading
from scatacformer.model._folder import ModelFiles
from scatacformer.nn import EpiformerConfig, EpiformerNetwork, SeparateTracks

from ._setup import prepare

if TYPE_CHECKING:
    from anndata import AnnData

    from ._model import Epiformer

_BIN_SIZE = 128


def read_published(path: str | Path, crop: int | None) -> tuple[EpiformerConfig, dict[str, Tensor]]:
    """Sizes and weights of a checkpoint of the published code (``.pth.tar``). Nothing in it is executed.

    Parameters
    ----------
    path
        A dict with ``state_dict``, as their training writes it, or the state dict alone.
    crop
        Bins on each side that are not predicted: the file does not say. None: a twelfth of a window, 64 of 768.

    Raises
    ------
    ValueError
        Not such a file, or a damaged one; a tensor is missing or has another shape. The error names the file.
    """
    path = Path(path)
    state = read_checkpoint(path, "a checkpoint of Epiformer")
    weights = {name.removeprefix("module."): value for name, value in state.items()}
    with reading(path, "a checkpoint of Epiformer", "Pass the file as its authors wrote it"):
        return _sizes(weights, crop), weights


def restored(cls: Any, files: ModelFiles) -> Any:
    """A model of class ``cls`` without data, of what a folder holds. Errors name no file."""
    state: Mapping[str, Any] = files.state
    config, separate = EpiformerConfig.from_dict(files.network), bool(files.network.get("separate"))
    files.check_layers(n_layers=config.n_layers, **({"n_tracks": config.n_tracks} if separate else {}))
    kind = SeparateTracks if separate else EpiformerNetwork
    files.check_weights(lambda: kind(config))
    module = kind(config)
    module.load_state_dict(files.weights)
    model = cls.__new__(cls)
    names = [str(name) for name in state["track_names"]]
    model._take(config, module, names, int(state["seed"]))
    model.scale_ = np.asarray(state["scale"], dtype=np.float32)
    if len(names) != config.n_tracks or model.scale_.shape != (config.n_tracks,):
        raise ValueError(f"{files.path}: names or scales of tracks are not as many as the network has.")
    model.is_trained_, model.training_ = bool(state["is_trained"]), dict(state["training"])
    model.history_ = dict(state["history"])
    return model


def fine_tuned(cls: Any, adata: AnnData, model: Epiformer, seed: int) -> Any:
    """A model of class ``cls`` of the tracks of ``adata``, from the weights of ``model``."""
    if isinstance(model.module, SeparateTracks):
        raise ValueError("a model with a network for each track cannot be fine-tuned: train it with separate=False.")
    prepared = prepare(adata)
    config = EpiformerConfig(**(model.config_.to_dict() | prepared.geometry | {"n_tracks": adata.n_obs}))
    if config.channels != model.config_.channels:
        raise ValueError(
            f"the tracks have bins of {config.bin_size} bp and the model predicts bins of {model.config_.bin_size} bp; "
            "make windows with the same bin_size."
        )
    module = EpiformerNetwork(config, seed)
    same = prepared.track_names == model.track_names_
    transplant(module, model.module.state_dict(), keep_head=not same)
    new = cls.__new__(cls)
    new._take(config, module, prepared.track_names, seed)
    if same:
        new.scale_, new.is_trained_ = model.scale_.copy(), model.is_trained_
    new.adata, new._genome = adata, prepared.genome
    return new


def _sizes(weights: dict[str, Tensor], crop: int | None) -> EpiformerConfig:
    def shape(name: str) -> tuple[int, ...]:
        if name not in weights:
            raise ValueError(f"it has no tensor {name}.")
        return tuple(weights[name].shape)

    n_layers = len({name.split(".")[2] for name in weights if name.startswith("trans.layers.")})
    d_model, d_head = (
        shape("trans.layers.0.mha.query.weight")[0],
        shape("trans.layers.0.mha.distance_embedding.weight")[1],
    )
    n_bins = (shape("trans.layers.0.mha.distance_embedding.weight")[0] + 1) // 2
    return EpiformerConfig(
        n_tracks=shape("ptw.linear.0.weight")[0],
        seq_len=n_bins * _BIN_SIZE,
        bin_size=_BIN_SIZE,
        crop=n_bins // 12 if crop is None else crop,
        d_stem=shape("conv.stem.0.weight")[0],
        d_model=d_model,
        n_layers=n_layers,
        n_heads=d_model // d_head,
        d_feedforward=shape("trans.layers.0.linear_net.0.weight")[0],
    )


def transplant(module: torch.nn.Module, weights: dict[str, Tensor], keep_head: bool) -> list[str]:
    """Copy weights into ``module`` where name and shape agree; names of its tensors that were left as they are.

    ``keep_head``: the last layer, which belongs to the tracks, stays as it is. Relative positions of another number of
    bins are cut out of the middle, or put there.
    """
    state: dict[str, Any] = module.state_dict()
    left = []
    for name, own in state.items():
        other = weights.get(name)
        if other is None or (keep_head and name.startswith(("ptw.linear.", "composition.last.", "composition.line"))):
            left.append(name)
        elif other.shape == own.shape:
            own.copy_(other)
        elif name.endswith("distance_embedding.weight") and other.shape[1] == own.shape[1]:
            more = (other.shape[0] - own.shape[0]) // 2
            if more > 0:
                own.copy_(other[more : more + len(own)])
            else:
                own[-more : -more + len(other)].copy_(other)
        else:
            raise ValueError(f"{name} is {tuple(other.shape)} in the other model and {tuple(own.shape)} in this one.")
    return left
