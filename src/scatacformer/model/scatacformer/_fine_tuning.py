"""Fine-tuning of a pretrained model on other cells."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from scatacformer.genome import Vocabulary, carry_matrix, overlaps_allowed
from scatacformer.model._device import pick_device
from scatacformer.model._scvi import constructor_arguments
from scatacformer.nn import LoraOptions

from ._dna import OfOtherRegions
from ._mudata import registered_regions
from ._query import QueryMixin
from ._start import log_frequency, log_odds, open_by_batch
from ._trainable import TUNED, Trainable

if TYPE_CHECKING:
    import os

    import scipy.sparse as sp
    from anndata import AnnData
    from mudata import MuData

# a row for each region; a new region gets the mean of those of the pretrained model that overlap it
OF_BINS = ("embedding.table.weight", "embedding.tokens.weight", "embedding.pool_weight", "embedding.norm_weight")
# estimated from the new cells, or not at all
OF_CELLS = ("decoder.bias.weight", "batch_shift", "local_shift", "log_frequency", "mean_depth")
# the <eos> of each region, for the new regions
OF_REGIONS = ("group", "decoder.readers")


class FineTuningMixin(QueryMixin):
    """``for_fine_tuning`` of :class:`~scatacformer.ScAtacFormer`."""

    @classmethod
    def for_fine_tuning(
        cls,
        adata: AnnData | MuData,
        pretrained_model: str | os.PathLike | FineTuningMixin,
        tune: Literal["all", "lora", "heads"] = "all",
        supervised: bool | None = None,
        lora_kwargs: dict[str, Any] | None = None,
        accelerator: str = "auto",
        device: int | str = "auto",
    ):
        """A model of other cells that starts from the weights of a pretrained one.

        The cells may have other batches, labels and regions than those of the pretrained model. A region of both keeps
        its vector; another region starts from the mean of the vectors of the regions that overlap it (for example peaks
        from bins); one that overlaps none starts at zero and is not pooled. Rows of a DNA table are transferred in the
        same way. The biases of the decoder are initialised from the frequencies of the regions in the new cells. The
        model is ready to embed; :meth:`train` then changes the weights given by ``tune``:

        - ``"all"``: all weights, as in a continued training. The bin table and the projection of ``<cls>`` are trained
          only with ``plan_kwargs={"embedding_lr": ...}`` above zero.
        - ``"lora"``: low-rank adapters of the encoder (LoRA; Hu et al. 2021) and the biases of the decoder. The adapters
          are merged into the weights at the end, so that the model is saved and loaded like any other.
        - ``"heads"``: only the heads that predict labels; the embedding stays bit-identical.

        A model with ``eos="region_class"`` keeps its classes if the regions are the same; other regions must be
        annotated first (:func:`scatacformer.pp.annotate_bins`), and ``<eos>`` are matched by the names of the classes.

        The shifts of the new batches in the embedding are unknown and not subtracted. The RNA part of a model of pairs
        is not transferred. To embed new cells with a model that must not change, use :meth:`load_query_data`.

        Parameters
        ----------
        adata
            Registered by :meth:`setup_anndata`, with its own batches and labels.
        pretrained_model
            A trained model, the folder that it was saved to, or the name of a repository of the Hugging Face hub.
        tune
            Weights that the training changes.
        supervised
            Whether the model predicts the labels registered in ``adata``. Default: True with ``tune="heads"`` or if the
            pretrained model is supervised. Heads are initialised anew unless the labels are the same.
        lora_kwargs
            ``r`` (rank, default 8), ``lora_alpha`` (default 16: changes are scaled by ``lora_alpha / r``),
            ``target_modules`` (default all linear layers of the encoder: ``qkv``, ``out``, ``up``, ``down``).
        accelerator, device
            As in :meth:`load`.

        Raises
        ------
        ValueError
            The pretrained model is not trained; no region of ``adata`` overlaps one of its regions; ``tune`` or
            ``lora_kwargs`` are unknown; ``tune="heads"`` without labels.

        Warns
        -----
        UserWarning
            Regions of ``adata`` overlap none of the pretrained model's.
        """
        if tune not in TUNED:
            raise ValueError(f"tune is {tune!r}; expected one of {TUNED}.")
        if lora_kwargs and tune != "lora":
            raise ValueError(f"lora_kwargs is given with tune={tune!r}; expected tune='lora'.")
        lora = LoraOptions.of(lora_kwargs or {}) if tune == "lora" else None
        known = pretrained_model
        if not isinstance(known, FineTuningMixin):
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
        model._carry_over(known)
        model.seed_, model.is_trained_ = known.seed_, True
        model.trainable_ = Trainable("fine-tuning", tune, lora).to_dict()
        model.to_device(pick_device(accelerator, device))
        model.module.eval()
        return model

    def _carry_over(self, known: FineTuningMixin) -> None:
        """Copy the weights of ``known`` into this model."""
        carry = self._carry(known.vocabulary_)
        weights = {k: v.detach().cpu() for k, v in known.module.state_dict().items()}
        state = {k: v.detach().cpu().clone() for k, v in self.module.state_dict().items()}
        for name, value in weights.items():
            if name in OF_CELLS + OF_REGIONS:
                continue
            if name.startswith("heads.") and not self._same_labels(known, name.split(".")[1]):
                continue
            if name in OF_BINS:
                value = _carried(carry, value)
            elif name == "embedding.eos":
                value = self._eos_like(known, value)
            state[name] = value
        n_batch = self.config_.n_batch
        source, codes = self._source(self.adata), self._batch_codes(self.adata)
        n_open, n_cells = open_by_batch(source, codes, n_batch)
        state["log_frequency"] = torch.from_numpy(log_frequency(n_open.sum(0)))
        state["mean_depth"] = torch.tensor(float(n_open.sum() / max(source.n_cells, 1)), dtype=torch.float32)
        for shift in ("batch_shift", "local_shift"):
            state[shift] = torch.zeros_like(state[shift])
        # the pretrained cells are weighted as ten cells, for regions that are closed in all new ones
        share = torch.sigmoid(weights["decoder.bias.weight"]).mean(1, keepdim=True)
        prior = _carried(carry, share).numpy().T
        state["decoder.bias.weight"] = torch.from_numpy(log_odds(n_open + 10 * prior, n_cells + 10)).T.contiguous()
        self.module.load_state_dict(state)
        same = [task for task in known.labels_fitted_ if self._same_labels(known, task)]
        self.labels_fitted_ = [task for task in same if task in self.config_.tasks]

    def _carry(self, known: Vocabulary) -> sp.csr_matrix:
        """Map the regions of ``known`` to those of this model."""
        carry = carry_matrix(self.vocabulary_, known)
        bare = np.diff(carry.indptr) == 0
        if bare.all():
            raise ValueError(
                f"none of the {len(bare):,} regions of adata overlaps one of the pretrained model's {known.n_bins:,} "
                f"(adata's first: {self.vocabulary_.names[0]}, the model's: {known.names[0]}). Check that the assemblies are the same."
                + (f" That of the model is {known.assembly}." if known.assembly else "")
            )
        if bare.any():
            first = self.vocabulary_.names[int(np.flatnonzero(bare)[0])]
            warnings.warn(
                f"{bare.sum():,} of the {len(bare):,} regions of adata overlap none of the pretrained model's and start "
                f"without a vector (first: {first})",
                UserWarning,
                stacklevel=4,
            )
        return carry

    def _eos_like(self, known: FineTuningMixin, eos: torch.Tensor) -> torch.Tensor:
        """``<eos>`` by name of its chromosome or class; one that the pretrained model lacks starts from their mean."""
        rows = dict(zip(known.eos_names_, eos, strict=True))
        return torch.stack([rows.get(name, eos.mean(0)) for name in self.eos_names_])

    def _same_labels(self, known: FineTuningMixin, task: str) -> bool:
        if task not in self.config_.tasks or task not in known.config_.tasks:
            return False
        return np.array_equal(self._label_names(task), known._label_names(task))


def _carried(carry: sp.csr_matrix, value: torch.Tensor) -> torch.Tensor:
    """(n_known, ...) to (n_bins, ...), float32."""
    flat = value.numpy().reshape(len(value), -1)
    return torch.from_numpy(np.ascontiguousarray(carry @ flat, np.float32).reshape(carry.shape[0], *value.shape[1:]))
