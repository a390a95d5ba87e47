"""Fine-tuning: the weights of a pretrained model for other cells, regions, batches and labels."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from scatacformer.genome import Vocabulary, carry_matrix, overlaps_allowed
from scatacformer.model._scvi import categories, constructor_arguments
from scatacformer.nn import LoraOptions
from scatacformer.training import pick_device

from ._base import ModelBase
from ._dna import OfOtherRegions
from ._mudata import registered_regions
from ._start import log_frequency, log_odds, open_by_batch
from ._trainable import TUNED, Trainable, Tune

if TYPE_CHECKING:
    import os

    import scipy.sparse as sp
    from anndata import AnnData
    from mudata import MuData

    from ._model import ScAtacFormer

# a row for each region; a new region gets the mean of those of the pretrained model that overlap it
OF_BINS = ("embedding.table.weight", "embedding.tokens.weight", "embedding.pool_weight", "embedding.norm_weight")
# estimated from the new cells, or not at all
OF_CELLS = ("decoder.bias.weight", "batch_shift", "local_shift", "log_frequency", "mean_depth")
# the <eos> of each region, for the new regions
OF_REGIONS = ("group", "decoder.readers")


def fine_tuned(
    cls: type[ScAtacFormer],
    adata: AnnData | MuData,
    pretrained: str | os.PathLike | ModelBase,
    tune: Tune,
    supervised: bool | None,
    lora_kwargs: dict[str, Any] | None,
    accelerator: str,
    device: int | str,
) -> ScAtacFormer:
    """See :meth:`~scatacformer.ScAtacFormer.for_fine_tuning`."""
    if tune not in TUNED:
        raise ValueError(f"tune is {tune!r}; expected one of {TUNED}.")
    if lora_kwargs and tune != "lora":
        raise ValueError(f"lora_kwargs is given with tune={tune!r}; expected tune='lora'.")
    lora = LoraOptions.of(lora_kwargs or {}) if tune == "lora" else None
    known: Any = pretrained
    if not isinstance(known, ModelBase):
        known = cls.from_pretrained(known, accelerator="cpu")
    if not known.is_trained_:
        raise ValueError("the pretrained model is not trained. Call its train() first.")
    known._check_decoder()
    init = dict(constructor_arguments(known))
    init["supervised"] = bool(init.get("supervised") or tune == "heads") if supervised is None else supervised
    if tune == "heads" and not init["supervised"]:
        raise ValueError(
            "supervised is False with tune='heads', which trains the heads of labels. Leave out supervised, or set it to True."
        )
    if known.region_classes is not None:
        with overlaps_allowed():  # the model itself warns about them
            found = Vocabulary.from_var(registered_regions(adata))
        init["region_classes"] = known.region_classes if found.checksum == known.vocabulary_.checksum else None
    if (table := known._dna_table()) is not None:
        init["dna"] = OfOtherRegions(table, known.vocabulary_, known.dna_ or {})
    model = cls(adata, **init)
    _carry_over(model, known)
    model.seed_, model.is_trained_ = known.seed_, True
    model.trainable_ = Trainable("fine-tuning", tune, lora).to_dict()
    model.to_device(pick_device(accelerator, device))
    model.module.eval()
    return model


def _carry_over(model: ScAtacFormer, known: ScAtacFormer) -> None:
    """Copy the weights of ``known`` into ``model``."""
    carry, same = _carry(model.vocabulary_, known.vocabulary_), _same_labels(model, known)
    weights = {k: v.detach().cpu() for k, v in known.module.state_dict().items()}
    state = {k: v.detach().cpu().clone() for k, v in model.module.state_dict().items()}
    for name, value in weights.items():
        if name in OF_CELLS + OF_REGIONS or (name.startswith("heads.") and name.split(".")[1] not in same):
            continue
        if name in OF_BINS:
            value = _carried(carry, value)
        elif name == "embedding.eos":
            value = _eos_like(model.eos_names_, known.eos_names_, value)
        state[name] = value
    reader = model._reader(model.adata)
    n_open, n_cells = open_by_batch(reader.source, reader.batch_codes, model.config_.n_batch)
    state["log_frequency"] = torch.from_numpy(log_frequency(n_open.sum(0)))
    state["mean_depth"] = torch.tensor(float(n_open.sum() / max(reader.source.n_cells, 1)), dtype=torch.float32)
    for shift in ("batch_shift", "local_shift"):
        state[shift] = torch.zeros_like(state[shift])
    # the pretrained cells are weighted as ten cells, for regions that are closed in all new ones
    share = torch.sigmoid(weights["decoder.bias.weight"]).mean(1, keepdim=True)
    prior = _carried(carry, share).numpy().T
    state["decoder.bias.weight"] = torch.from_numpy(log_odds(n_open + 10 * prior, n_cells + 10)).T.contiguous()
    model.module.load_state_dict(state)
    model.labels_fitted_ = [task for task in known.labels_fitted_ if task in same]


def _carry(own: Vocabulary, known: Vocabulary) -> sp.csr_matrix:
    """Map the regions ``known`` to ``own``, those of the new cells."""
    carry = carry_matrix(own, known)
    bare = np.diff(carry.indptr) == 0
    if bare.all():
        raise ValueError(
            f"none of the {len(bare):,} regions of adata overlaps one of the pretrained model's {known.n_bins:,} "
            f"(adata's first: {own.names[0]}, the model's: {known.names[0]}). Check that the assemblies are the same."
            + (f" That of the model is {known.assembly}." if known.assembly else "")
        )
    if bare.any():
        first = own.names[int(np.flatnonzero(bare)[0])]
        warnings.warn(
            f"{bare.sum():,} of the {len(bare):,} regions of adata overlap none of the pretrained model's and start "
            f"without a vector (first: {first})",
            UserWarning,
            stacklevel=5,
        )
    return carry


def _eos_like(names: list[str], known: list[str], eos: torch.Tensor) -> torch.Tensor:
    """``<eos>`` by name of its chromosome or class; one that the pretrained model lacks starts from their mean."""
    rows = dict(zip(known, eos, strict=True))
    return torch.stack([rows.get(name, eos.mean(0)) for name in names])


def _same_labels(model: ScAtacFormer, known: ScAtacFormer) -> set[str]:
    """The tasks of both models whose labels are the same."""
    both = set(model.config_.tasks) & set(known.config_.tasks)
    names = [{task: categories(one.registry_, task) for task in both} for one in (model, known)]
    return {task for task in both if np.array_equal(names[0][task], names[1][task])}


def _carried(carry: sp.csr_matrix, value: torch.Tensor) -> torch.Tensor:
    """(n_known, ...) to (n_bins, ...), float32."""
    flat = value.numpy().reshape(len(value), -1)
    return torch.from_numpy(np.ascontiguousarray(carry @ flat, np.float32).reshape(carry.shape[0], *value.shape[1:]))
