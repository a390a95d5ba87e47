"""Models of new cells that start from a trained one: queries, models of pairs, and fine-tuning."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, cast

from scatacformer.model._scvi import replace_content

from ._base import ModelBase
from ._fine_tuning import fine_tuned
from ._mudata import is_mudata, modality_names
from ._new_cells import in_regions_of, model_of_new_cells, regions_of_model, trained

if TYPE_CHECKING:
    import os

    import pandas as pd
    from anndata import AnnData
    from mudata import MuData

    from ._model import ScAtacFormer


class QueryMixin(ModelBase):
    """``load_query_data``, ``for_fine_tuning``, ... of :class:`~scatacformer.ScAtacFormer`."""

    @classmethod
    def load_query_data(
        cls,
        adata: AnnData | MuData,
        reference_model: str | os.PathLike | ModelBase,
        accelerator: str = "auto",
        device: int | str = "auto",
        unfrozen: bool = False,
        inplace_subset_query_vars: bool = False,
    ) -> ScAtacFormer:
        """A model for new cells with the weights of the reference (scArches).

        New batches get a bias of their own, initialised from the frequencies of their regions. The model is ready to
        embed; :meth:`train` fits only these biases, so that the embedding of the reference's cells stays
        bit-identical. ``unfrozen=True``: training continues for all weights.

        Parameters
        ----------
        adata
            Cells x the reference's regions; see :meth:`prepare_query_anndata`. Or a MuData, in which cells may lack
            RNA.
        reference_model
            A trained model, or the folder that it was saved to.
        inplace_subset_query_vars
            Call :meth:`prepare_query_anndata` on ``adata`` first.
        """
        known = trained(cast("type[ScAtacFormer]", cls), reference_model)
        if inplace_subset_query_vars:
            if is_mudata(adata):
                raise ValueError(
                    "inplace_subset_query_vars is set for a MuData, which is not modified. Map its ATAC to the model's "
                    "regions before."
                )
            cls.prepare_query_anndata(adata, known)
        return model_of_new_cells(known, adata, accelerator, device, unfrozen)

    @classmethod
    def from_atac_model(
        cls,
        atac_model: str | os.PathLike | ModelBase,
        mdata: MuData,
        rna_layer: str | None = None,
        atac_layer: str | None = None,
        modalities: dict[str, str] | None = None,
        accelerator: str = "auto",
        device: int | str = "auto",
    ) -> ScAtacFormer:
        """A model of pairs that starts from a model of ATAC only, trained on these or other cells.

        It uses the embedding and the decoder of ``atac_model``; :meth:`train_pairs` then trains the network of pairs.
        Batches are those of its ``batch_key``; new ones get a bias of their own, as in :meth:`load_query_data`.

        Parameters
        ----------
        atac_model
            A trained model, or the folder that it was saved to.
        mdata
            Paired cells on the model's regions.
        rna_layer, atac_layer, modalities
            As in :meth:`setup_mudata`.

        Raises
        ------
        ValueError
            As :meth:`setup_mudata` and :meth:`load_query_data`.
        """
        setup = {"rna_layer": rna_layer, "atac_layer": atac_layer, "modalities": modality_names(modalities)}
        known = trained(cast("type[ScAtacFormer]", cls), atac_model)
        model = model_of_new_cells(known, mdata, accelerator, device, True, setup)
        model._need_pairs()
        return model

    @staticmethod
    def prepare_query_anndata(
        adata: AnnData,
        reference_model: str | os.PathLike | ModelBase,
        return_reference_var_names: bool = False,
        inplace: bool = True,
    ) -> AnnData | pd.Index | None:
        """Map the regions of ``adata`` to those of the model, in its order; always sparse.

        Regions are matched by chromosome, start and end. Those that the model lacks are left out, those that ``adata``
        lacks are closed. For regions with other ends use ``scatacformer.pp.match_vocabulary``.

        ``inplace`` changes ``adata`` and returns None; else a new AnnData is returned. ``return_reference_var_names``
        returns the model's region names instead, and changes nothing.

        Raises ValueError if no region of ``adata`` is in the model; warns about those that are left out.
        """
        import pandas as pd

        vocabulary = regions_of_model(reference_model)
        if return_reference_var_names:
            return pd.Index(vocabulary.names)
        new = in_regions_of(adata, vocabulary)
        if not inplace:
            return new
        replace_content(adata, new)
        return None

    @classmethod
    def for_fine_tuning(
        cls,
        adata: AnnData | MuData,
        pretrained_model: str | os.PathLike | ModelBase,
        tune: Literal["all", "lora", "heads"] = "all",
        supervised: bool | None = None,
        lora_kwargs: dict[str, Any] | None = None,
        accelerator: str = "auto",
        device: int | str = "auto",
    ) -> ScAtacFormer:
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
        return fine_tuned(
            cast("type[ScAtacFormer]", cls), adata, pretrained_model, tune, supervised, lora_kwargs, accelerator, device
        )
