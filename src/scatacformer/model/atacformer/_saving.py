"""Files of an Atacformer: the folder of this package, and databio's, which geniml reads and writes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scatacformer._io import CardFacts, folder_of, read_json
from scatacformer.model._folder import CARD, CONFIG, VOCABULARY, ModelFiles
from scatacformer.model._sharing import SharingMixin
from scatacformer.nn import AtacformerConfig, AtacformerNetwork
from scatacformer.training import pick_device

from . import _files as files
from ._setup import Setup

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Self

    from anndata import AnnData

    from scatacformer.genome import Vocabulary

NAME = "Atacformer"


class SavingMixin(SharingMixin):
    """``save``, ``load``, and databio's files, of :class:`~scatacformer.Atacformer`."""

    vocabulary: Vocabulary
    config: AtacformerConfig
    seed: int
    history: dict[str, Any]
    setup_: Setup
    _content: dict[str, Any]
    _architecture: str
    _take: Callable[..., None]
    _set_data: Callable[[AnnData | None], None]
    to_device: Callable[..., Any]
    _travels = (files.CONFIG, files.WEIGHTS, files.UNIVERSE, CARD)

    def _to_files(self) -> ModelFiles:
        state = {
            "seed": self.seed, "is_trained": self.is_trained_, "history": self.history, "setup": self.setup_.to_dict(),
            "architecture": self._architecture, "published": self._content, "head": self.module.discriminator is not None,
        }  # fmt: skip
        return ModelFiles(NAME, self.config.to_dict(), self.module.state_dict(), state, self.vocabulary)

    @classmethod
    def _from_files(cls, files: ModelFiles, adata: AnnData | None) -> Self:
        state, vocabulary = files.state, files.vocabulary
        try:
            config, setup = AtacformerConfig(**files.network), Setup.from_dict(state["setup"])
            seed, head = int(state["seed"]), bool(state["head"])
            history, published, trained = dict(state["history"]), dict(state["published"]), bool(state["is_trained"])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{files.path} does not describe an Atacformer: {error!r}") from None
        if vocabulary is None or vocabulary.n_bins != config.n_regions:
            found = "no" if vocabulary is None else f"{vocabulary.n_bins:,}"
            raise ValueError(
                f"{files.path} describes {config.n_regions:,} regions, but its vocabulary has {found}. Copy the folder again."
            )
        files.check_layers(num_hidden_layers=config.num_hidden_layers)
        files.check_weights(lambda: AtacformerNetwork(config, discriminator=head))
        module = AtacformerNetwork(config, discriminator=head, seed=seed)
        module.load_state_dict(dict(files.weights))
        model = cls.__new__(cls)
        model._take(vocabulary, config, module.eval(), published, seed)
        model._architecture, model.history = str(state.get("architecture", model._architecture)), history
        model.setup_, model.is_trained_ = setup, trained
        model._set_data(adata)
        return model

    @classmethod
    def from_pretrained(  # type: ignore[override]  # the name of its first argument is that of transformers
        cls,
        pretrained_model_name_or_path: str | os.PathLike,
        adata: AnnData | None = None,
        *,
        revision: str | None = None,
        cache_dir: str | os.PathLike | None = None,
        token: str | bool | None = None,
        local_files_only: bool = False,
        assembly: str | None = None,
        seed: int = 0,
        accelerator: str = "auto",
        device: int | str = "auto",
    ) -> Self:
        """The model in a folder, or in a repository of the Hugging Face hub: databio's files, or those of :meth:`save`.

        Databio's are ``config.json``, ``model.safetensors`` and ``universe.bed.gz``. Nothing in them is executed.

        Parameters
        ----------
        pretrained_model_name_or_path
            A folder, or a repository of the Hugging Face hub such as ``"databio/atacformer-base-hg38"`` (extra
            ``hub``).
        adata
            Cells that the model's methods read by default. Default: none.
        revision, cache_dir, token, local_files_only
            As in huggingface_hub: branch, tag or commit; the folder of the cache; for private repositories; whether to
            use only the cache.
        assembly
            Assembly of the universe, such as ``"hg38"``; cells from another one raise an error. Databio's files do not
            contain it.
        seed
            As in the class, for databio's files.
        accelerator, device
            As in :meth:`load`.

        Raises
        ------
        ValueError
            The folder or repository does not exist; a revision of a folder; a file is missing or truncated; another
            class of model; files that are not from the same model (regions and vocabulary, tensors and sizes).
        OSError
            The hub cannot be reached and the files are not in the cache.
        ImportError
            A repository is given and huggingface_hub is not installed.
        """
        name = pretrained_model_name_or_path
        if _is_ours(Path(name)):
            folder_of(name, (), "a model is a folder", revision=revision)  # raises an error for a revision
            return cls.load(name, adata=False if adata is None else adata, accelerator=accelerator, device=device)
        return cls.load_published(
            name,
            adata,
            revision=revision,
            cache_dir=cache_dir,
            token=token,
            local_files_only=local_files_only,
            assembly=assembly,
            seed=seed,
            accelerator=accelerator,
            device=device,
        )

    @classmethod
    def load_published(
        cls,
        name: str | os.PathLike,
        adata: AnnData | None = None,
        *,
        revision: str | None = None,
        cache_dir: str | os.PathLike | None = None,
        token: str | bool | None = None,
        local_files_only: bool = False,
        assembly: str | None = None,
        seed: int = 0,
        accelerator: str = "auto",
        device: int | str = "auto",
    ) -> Self:
        """A model that databio published, or that geniml or :meth:`save_pretrained` wrote; see :meth:`from_pretrained`.

        Parameters
        ----------
        name
            A folder, or a repository of the Hugging Face hub.
        adata, revision, cache_dir, token, local_files_only, assembly, seed, accelerator, device
            As in :meth:`from_pretrained`.
        """
        folder = files.fetch(
            name, revision=revision, cache_dir=cache_dir, token=token, local_files_only=local_files_only
        )
        config, module, vocabulary, content = files.read(folder, assembly)
        model = cls.__new__(cls)
        model._take(vocabulary, config, module, content, seed)
        model.is_trained_ = True
        model._set_data(adata)
        model.to_device(pick_device(accelerator, device))
        return model

    def save_pretrained(
        self,
        save_directory: str | os.PathLike,
        description: str | None = None,
        data: str | None = None,
        license: str | None = None,
        metrics: Mapping[str, float] | None = None,
        overwrite: bool = False,
        *,
        architecture: str | None = None,
    ) -> Path:
        """Write the files that :meth:`from_pretrained` reads, and geniml's classes do.

        Parameters
        ----------
        save_directory
            The folder; created if needed.
        description, data, license, metrics
            For a model card, ``README.md``, which is written if one of them is given: purpose of the model; training
            data; licence; mapping of name to value.
        overwrite
            Whether files of an earlier model may be replaced. ValueError if not and they exist.
        architecture
            geniml's class: ``"AtacformerModel"``, ``"AtacformerForCellClustering"`` or
            ``"AtacformerForReplacedTokenDetection"``, which has a head. Default: that of the loaded files, or of the
            last training.

        Returns
        -------
        The folder.
        """
        architecture = architecture or self._architecture
        content = files.export_config(self.config, self._content, architecture, self.vocabulary.assembly)
        notes = {}
        if any(value is not None for value in (description, data, license, metrics)):
            notes[CARD] = self._card(description, data, license, metrics)
        folder = Path(save_directory)
        files.write(folder, self.module, self.vocabulary, content, architecture, overwrite, notes)
        return folder

    def _card_facts(self) -> CardFacts:
        c = self.config
        rows = [
            ("regions", f"{c.n_regions:,}"),
            ("assembly", self.vocabulary.assembly or "not stated"),
            ("encoder", f"{c.num_hidden_layers} layers, {c.hidden_size} wide, {c.num_attention_heads} heads"),
            ("regions read of a cell", f"at most {c.max_position_embeddings:,}"),
            ("head for replaced tokens", "yes" if self.module.discriminator is not None else "no"),
        ]
        example = (
            "import scatacformer as sf",
            "",
            'model = sf.Atacformer.from_pretrained("FOLDER OR OWNER/NAME")',
            'adata.obsm["X_atacformer"] = model.get_latent_representation(adata)',
        )
        summary = "Atacformer (LeRoy et al. 2025): a transformer over the regions that a cell has open."
        return CardFacts(NAME, summary, example, rows, tags=("scatac-seq", "transformer"))


def _is_ours(folder: Path) -> bool:
    """Whether a folder was written by :meth:`SavingMixin.save`."""
    if not (folder / CONFIG).is_file():
        return False
    try:
        return read_json(folder / CONFIG).get("class") == NAME and (folder / VOCABULARY).exists()
    except ValueError:
        return False
